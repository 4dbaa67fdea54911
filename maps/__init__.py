"""Where a network looks: maps of its evidence, and how well they fall on boxes."""

from maps.library import Maps, explain, measure

__all__ = ["Maps", "explain", "measure"]
