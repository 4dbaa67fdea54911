"""The one door to ultralytics (AGPL-3.0): drawing, the confusion matrix, curves, videos and streams.

Importing ultralytics sets OMP_NUM_THREADS to 1, writes a settings folder, probes the network and patches
torch.save and PIL's Image.open; `ultralytics` sees to it that none of this is felt. No metric, loss, NMS or checkpoint
goes through here.
"""

import atexit
import contextlib
import importlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from utils.boxes import Detections, Truth
from utils.errors import UserError
from utils.files import user_cache
from utils.fonts import drawing_font, installed


def ultralytics(module: str) -> Any:
    """Import an ultralytics module, quietly and offline."""
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    if "YOLO_CONFIG_DIR" not in os.environ:
        os.environ["YOLO_CONFIG_DIR"] = str(settings_folder())
    os.environ.setdefault("YOLO_OFFLINE", "1")
    os.environ.setdefault("YOLO_AUTOINSTALL", "0")
    os.environ.setdefault("YOLO_VERBOSE", "0")
    save, opener = torch.save, Image.open
    try:
        return importlib.import_module(f"ultralytics.{module}")
    finally:
        torch.save, Image.open = save, opener


def settings_folder() -> Path:
    """A folder that nobody else can have prepared: below the user's cache, or, where that is not theirs, a new one."""
    with contextlib.suppress(OSError):  # of a home that is read-only, or full
        if (own := user_cache()) is not None:
            folder = own / "ultralytics"
            folder.mkdir(mode=0o700, exist_ok=True)
            return folder
    folder = Path(tempfile.mkdtemp(prefix="ultralytics-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def draw_boxes(image: np.ndarray, boxes_xyxy: np.ndarray, texts: Sequence[str], labels: Sequence[int]) -> np.ndarray:
    """Copy of an RGB image [H, W, 3] uint8 with labelled boxes, a colour for each class."""
    plotting = ultralytics("utils.plotting")
    plain, side = all(text.isascii() for text in texts), sum(image.shape[:2])
    pixels = image.copy(order="C")
    annotator = plotting.Annotator(pixels, line_width=max(1, round(side / 500)), font=installed()[0], pil=not plain)
    for box, text, label in zip(boxes_xyxy, texts, labels, strict=True):
        if not plain:
            annotator.font = drawing_font(text, max(12, round(side / 60)))
        annotator.box_label(box.tolist(), text, color=plotting.colors(int(label)))
    return np.asarray(annotator.result())


def plot_precision_recall(precision: np.ndarray, names: list[str], path: Path) -> None:
    """PR curves at IoU 0.5: precision [classes, 101] at recalls 0, 0.01 … 1."""
    metrics = ultralytics("utils.metrics")
    recall = np.linspace(0, 1, precision.shape[1])
    metrics.plot_pr_curve(recall, precision, precision.mean(1, keepdims=True), path, dict(enumerate(names)))


def plot_f1(f1: np.ndarray, names: list[str], path: Path) -> None:
    """F1 [classes, n] over confidence from 0 to 1."""
    metrics = ultralytics("utils.metrics")
    confidence = np.linspace(0, 1, f1.shape[1])
    metrics.plot_mc_curve(confidence, f1, path, dict(enumerate(names)), ylabel="F1")


def plot_confusion(
    found: Sequence[Detections], truth: Sequence[Truth], names: list[str], path: Path, conf: float
) -> None:
    """Confusion matrix of matched boxes (IoU > 0.45, score > conf), counts, with background as a class."""
    matrix = ultralytics("utils.metrics").ConfusionMatrix(dict(enumerate(names)))
    for item, own in zip(found, truth, strict=True):
        detections = {"bboxes": item.boxes_xyxy, "conf": item.scores, "cls": item.labels.float()}
        matrix.process_batch(detections, {"bboxes": own.boxes_xyxy, "cls": own.labels.float()}, conf=conf)
    matrix.plot(normalize=False, save_dir=path.parent)
    (path.parent / "confusion_matrix.png").replace(path)


@dataclass(frozen=True)
class Shot:
    """A frame of a video or stream: image [H, W, 3] RGB, frames a second, seconds since the first one if it is live."""

    image: np.ndarray
    fps: float
    seconds: float | None


def stream(source: str, stride: int, together: int, *, live: bool = False) -> Iterator[list[Shot]]:
    """Frames of a video, a webcam or a stream.

    A stream over HTTP waits until its frames are taken; of others frames are missed while nobody asks. The black
    pictures that the loader puts in place of a lost signal are no frames.

    Args:
        stride: every so many frames are read.
        together: frames of a video that come at once.
        live: an address is a stream, whatever its name ends with.

    Raises:
        UserError: it cannot be opened.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what cannot be opened is reported below, in one line
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    waits, address = source.lower().startswith(("http://", "https://")), "://" in source or source.isdecimal()
    try:
        if live and address:
            loader = ultralytics("data.loaders").LoadStreams(source, vid_stride=stride, buffer=waits)
        else:
            load = ultralytics("data.build").load_inference_source
            loader = load(source, batch=together, vid_stride=stride, buffer=waits)
    except (OSError, ImportError, NotImplementedError, cv2.error) as error:
        what = f"cannot be opened ({' '.join(str(error).split())[:200]})"
        lacks = "mss" if source == "screen" else getattr(error, "name", None)
        hint = f"pip install {lacks}" if lacks else "check the address, or that the camera is free"
        raise UserError(what, where=source, hint=hint) from error
    began, misses = time.monotonic(), address and not waits
    try:
        watched = hasattr(loader, "threads")  # a stream, not a file or the screen
        for _, frames, _ in loader:
            if watched and not any(frame.any() for frame in frames):
                continue
            seconds = time.monotonic() - began if misses else None
            rates = np.broadcast_to(getattr(loader, "fps", 0) or 0, len(frames)).astype(float).tolist()
            yield [
                Shot(np.ascontiguousarray(frame[..., ::-1]), rate / stride, seconds)
                for frame, rate in zip(frames, rates, strict=True)
            ]
    finally:
        getattr(loader, "close", lambda: None)()
