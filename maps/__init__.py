"""Where a network looks: maps of its evidence, and how well they fall on boxes."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maps.library import Maps, explain, measure

__all__ = ["Maps", "explain", "measure"]


def __getattr__(name: str) -> Any:
    """What is asked for of the library: what that needs takes seconds to import."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from maps import library

    return getattr(library, name)
