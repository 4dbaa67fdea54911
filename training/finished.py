"""A training run's folder, read back: its figures, its detector or segmenter, its backbones."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack

from evaluation.accuracy import BackboneFile
from evaluation.average_precision import Options, evaluate_detector
from models import Detector, load_detector
from models.segmenter import Segmenter, load_segmenter
from utils import checkpoint
from utils.config import Recipe
from utils.console import hushed
from utils.device import pick_device
from utils.errors import UserError
from utils.files import read_json
from utils.paths import is_file
from utils.recipes import load_recipe
from utils.runs import BEST, FINISHED


@dataclass(frozen=True)
class Run:
    """A training run in its folder.

    Attributes:
        recipe: everything that decided the outcome.
    """

    folder: Path
    recipe: Recipe = field(repr=False)

    @classmethod
    def open(cls, folder: str | Path) -> "Run":
        """A run that is there already.

        Raises:
            UserError: the folder is none of a training run.
        """
        folder = Path(folder)
        if not is_file(folder / "recipe.yaml"):
            raise UserError("is not the folder of a training run", where=folder, hint="give one with a recipe.yaml")
        return cls(folder, load_recipe(folder / "recipe.yaml", {}))

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Figures on the validation split, fractions 0–1: of the detector, and of each backbone under `pretrain`.

        Raises:
            UserError: the run is not finished; its file is damaged.
        """
        if not (self.folder / FINISHED).is_file():
            raise UserError("this run is not finished", where=self.folder, hint="continue with it: train(resume=…)")
        return read_json(self.folder / FINISHED, "train it again")

    @cached_property
    def detector(self) -> Detector:
        """The detector of the best epoch, on the fastest device that there is.

        Raises:
            UserError: the run has trained none, or its file is damaged.
        """
        if not (self.folder / BEST).is_file():
            raise UserError("has no detector", where=self.folder, hint="train one without --pretrain-only, on boxes")
        return load_detector(self.folder / BEST, pick_device("auto"))

    @cached_property
    def segmenter(self) -> Segmenter:
        """The segmenter of the best epoch, on the fastest device that there is.

        Raises:
            UserError: the run has trained none, or its file is damaged.
        """
        if not (self.folder / BEST).is_file():
            raise UserError("has no segmenter", where=self.folder, hint="train one with --task segment")
        return load_segmenter(self.folder / BEST, pick_device("auto"))

    @cached_property
    def backbones(self) -> dict[str, BackboneFile]:
        """By method, as in `cl3`, `e2e`: what each backbone file says of itself; `path` is that of the file.

        Raises:
            UserError: one is damaged, or older than its format.
        """
        paths = sorted((self.folder / "weights").glob("backbone_*.pt"))
        files = [BackboneFile.of(path, checkpoint.load(path, "backbone")) for path in paths]
        return {file.method: file for file in files}

    def evaluate(self, task: str | None = None, *, quiet: bool = False, **options: Unpack[Options]) -> dict[str, Any]:
        """Average precision of the detector on held-out images: what `val.py --map --json` writes.

        Args:
            task: `train`, `val` or `test` [test, else val, else the tenth of train that training holds out by default].
            quiet: say nothing.
            options: conf_thres, iou_thres, max_det, imgsz, batch_size, augment, data, folder, download, strict: see
                evaluation.average_precision.Options.

        Raises:
            UserError: there is no detector; the data cannot be read; a threshold is out of its range.
        """
        with hushed(quiet):
            return evaluate_detector(self.detector, task, **options)
