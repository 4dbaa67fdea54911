"""How anything is trained: stages, baselines, probes, the detector; one loop for all."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.finished import Run
    from training.start import train

__all__ = ["Run", "train"]


def __getattr__(name: str) -> Any:
    """Run and train, once they are asked for: what they need takes seconds to import."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from training import start

    return getattr(start, name)
