"""What is done where nothing is said: constants of the flags, without the code that takes seconds to import."""

from typing import Literal

Answers = Literal["true", "detections"]
KINDS = ("gradcam", "saliency")  # maps of backbones
DETECTOR_KINDS = ("gradcam", "layercam")  # and of detectors
EXPLAINED: tuple[Answers, ...] = ("true", "detections")  # which answers of a detector
# Flags of the report on maps, not of --method.
MEASURED_ONLY = ("maps", "percentile", "lime", "regions", "claims", "keep")
MASKS = 500  # behind a map by D-RISE; the paper takes 5,000
