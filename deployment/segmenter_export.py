"""Writing a segmenter for other programs, and comparing what was written with PyTorch."""

import warnings
from pathlib import Path
from zipfile import is_zipfile

import numpy as np
import torch
from torch import Tensor, nn

from data.masks import mask_names
from data.records import Record
from deployment.delivery import refuse_apart, refuse_loss, say
from deployment.export import export_somehow, pictures_for, real_batch, save_described
from models.segmenter import Segmenter, load_segmenter
from utils.errors import UserError
from utils.files import make_folder, written_whole

SUFFIXES = {"onnx": ".onnx", "torchscript": ".torchscript"}
TOLERANCE = 1e-3  # of the probabilities
EXTRA = 32  # columns that make an input wider than high


class Probabilities(nn.Module):
    """images [B, 3, H, W] in 0–1 → output0 [B, 1 + classes, H, W]: the probability of each class, background first."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.model(images).softmax(1)
        return found


def export_segmenter(path: Path, file: Path | None, *, format: str, data: Path | None, pictures: Path | None) -> Path:
    """Write a segmenter, run the file on held-out pictures beside PyTorch, print how far it is off.

    Args:
        path: its checkpoint.
        file: where to write [beside the checkpoint].
        data: data yaml of the pictures to compare on [that of the training, or random ones where it is gone].
        pictures: a folder of pictures to compare on instead.

    Raises:
        UserError: it would differ from PyTorch, the format is another, or the file cannot be written.
    """
    if format not in SUFFIXES:
        hint = f"give {' or '.join(SUFFIXES)}"
        raise UserError(f"a segmenter is not written as {format}", where="--format", hint=hint)
    own = load_segmenter(path)
    target = file or path.with_suffix(SUFFIXES[format])
    refuse_loss(target, path, SUFFIXES[format])
    records = pictures_for(own, data, pictures)
    network = Probabilities(own.model).to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    make_folder(target.parent)
    with written_whole(target) as temporary, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        exporter = write(network, own, temporary, format)
    say(f"wrote {target} ({target.stat().st_size / 2**20:.1f} MiB; {exporter})")
    compare(network, own, target, records)
    return target


def write(network: nn.Module, segmenter: Segmenter, path: Path, format: str) -> str:
    """The file, of any batch and size; ONNX with what it says of itself. Says what wrote it."""
    example = torch.rand(2, 3, segmenter.imgsz, segmenter.imgsz)  # a batch of 1 would be taken for a constant
    if format == "torchscript":
        torch.jit.trace(network, example).save(str(path))  # type: ignore[no-untyped-call]
        return "torch.jit.trace"
    exporter = export_somehow(network, example, path)
    describe(path, segmenter)
    return exporter


def describe(path: Path, segmenter: Segmenter) -> None:
    """Put into an ONNX file what whoever opens it wants to know; onnx' full check."""
    import onnx

    properties = {
        "description": f"{segmenter.head} on a cascade-learned backbone",
        "task": "segment",
        "names": dict(enumerate(mask_names(segmenter.names))),
        "imgsz": [segmenter.imgsz, segmenter.imgsz],
        "stride": EXTRA,
        "commit": segmenter.commit,
        "license": "AGPL-3.0",
        **({"levels": segmenter.levels.pair} if segmenter.levels else {}),
    }
    save_described(onnx.load(str(path)), path, properties)


def compare(network: nn.Module, segmenter: Segmenter, path: Path, records: list[Record]) -> None:
    """Run the file beside PyTorch: batches of 1 and 3, the trained size and a wider one.

    Raises:
        UserError: they differ by more than TOLERANCE.
    """
    off = []
    for batch in (1, 3):
        for extra in (0, EXTRA):
            images = real_batch(records, batch, segmenter.imgsz, extra)
            with torch.inference_mode():
                wanted = network(images).numpy()
            off.append(float(np.abs(run(path, images) - wanted).max()))
            say(f"  batch {batch}, {images.shape[2]}×{images.shape[3]}: probabilities differ by {off[-1]:.1e}")
    refuse_apart(path, off, TOLERANCE)


def run(path: Path, images: Tensor) -> np.ndarray:
    """What a written file makes of images."""
    if is_zipfile(path):  # TorchScript
        return np.asarray(torch.jit.load(str(path))(images).detach())
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"images": images.numpy()})[0])
