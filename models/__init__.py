"""Networks, their losses and what turns raw maps into boxes."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from models.decode import Thresholds
from models.detector import Detector
from models.found import Found
from models.inference import for_inference
from models.onnx_detector import load_onnx
from models.trained import load_trained
from utils.device import check_device
from utils.errors import UserError

__all__ = ["Detector", "Found", "Thresholds", "load_detector"]


def load_detector(
    path: str | Path, device: torch.device | str = "cpu", precision: Literal["fp32", "bf16", "fp16"] = "fp32"
) -> Detector:
    """A detector from a checkpoint, an ONNX file, or a weight file of darknet's YOLOv3, as quick as can be.

    Args:
        precision: of weights and features; an ONNX file has its own.

    Raises:
        UserError: missing, damaged, or of another kind; no such device; an ONNX file is to have another precision.
    """
    path = Path(path)
    check_device(device)
    if path.suffix.lower() == ".onnx":
        if precision != "fp32":
            raise UserError("has a precision of its own", where=path, hint="leave --precision out")
        return load_onnx(path, device)
    detector = load_trained(path, device)
    return replace(detector, model=for_inference(detector.model, precision))
