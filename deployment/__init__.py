"""What a trained detector is used with: pictures to look through, and files for other programs."""

from deployment.delivery import export_detector
from deployment.stream import detect

__all__ = ["detect", "export_detector"]
