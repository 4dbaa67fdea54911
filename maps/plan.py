"""What a localisation study explains, and how it measures it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from data.records import Record, Split
from evaluation.accuracy import BackboneFile, doubts, untaught, untaught_cuts
from maps.cases import Cases, batches
from maps.cells import Cells, Structure, coarse_cuts, layer_cells, short_sides
from maps.kept import Kept
from maps.measures import Rule


@dataclass(frozen=True)
class Plan:
    """What is explained, and how it is measured.

    Attributes:
        split: with the images that are explained, all of which have a box.
        kinds: of MAPS.
        rule: of measuring.
        explain: index of the class that is explained in every image, in any of its boxes; None: those of the boxes.
        lime: images that are explained by LIME too.
        training: images whose mean box is a baseline, and from which regions are learned.
        pool: all training images, boxed or not, of which those are a part.
        tuning: images with boxes beside these, that no network has learnt from: what thresholds are chosen on.
        whole: images of the split, boxed or not, that no network has learnt from: what classifiers are judged on.
        stretched: maps are stretched over the image instead of put where their cells are.
        notes: what the report says of the choice of images.
        cells: structure → cut → cells of its maps.
        untrained: seeds of the networks of each architecture that learnt nothing.
        kept: where values are read that were measured before, and written for the next time.
    """

    files: Sequence[BackboneFile]
    split: Split
    kinds: Sequence[str] = ("gradcam", "saliency")
    rule: Rule = field(default_factory=Rule)
    explain: int | None = None
    lime: int = 0
    training: Sequence[Record] = ()
    pool: Sequence[Record] = field(default=(), kw_only=True)
    tuning: Sequence[Record] = field(default=(), kw_only=True)
    whole: Sequence[Record] = field(default=(), kw_only=True)
    device: str = "cpu"
    batch_size: int = 16
    stretched: bool = False
    notes: Sequence[str] = ()
    cells: Mapping[Structure, Mapping[int, Cells]] = field(default_factory=dict)
    untrained: int = 3
    kept: Kept = field(default_factory=Kept)

    @property
    def foreign(self) -> bool:
        """The boxes have classes that the networks were not trained on, or in another order."""
        own = self.split.description.names
        return self.explain is None and list(own) != list(self.files[0].names[: len(own)])

    @property
    def names(self) -> Sequence[str]:
        """What the labels of the cases mean."""
        return self.split.description.names if self.foreign else self.files[0].names

    @property
    def about(self) -> str:
        """What a case is, and how its image is shown, for the heading of a report."""
        return f"(image and class) of {len(self.split.records)} images, shown as {self.files[0].view.about}"

    @property
    def asked(self) -> int:
        """How many cases the true boxes would make if all of them were seen."""
        boxed = [record.labels[record.asked] for record in self.split.records]
        return sum(len(set(labels.tolist())) if self.explain is None else min(1, len(labels)) for labels in boxed)

    @cached_property
    def pooled_cells(self) -> Mapping[Structure, Mapping[int, Cells]]:
        """The same of the pools behind the activations."""
        return layer_cells(self.files, stretched=self.stretched, pooled=True)

    def coarse(self, structure: Structure, *, pooled: bool = False) -> frozenset[int]:
        """The cuts of a network whose maps have too few cells inside the pictures to be judged.

        Args:
            pooled: maps are made of what the pools behind the activations put out.
        """
        view = self.files[0].view
        cells = (self.pooled_cells if pooled else self.cells).get(structure, {})
        return coarse_cuts(cells, short_sides(view, self.split.records), view.imgsz)

    def doubts(self) -> list[str]:
        """A line for each network, or classifier, whose maps say little because it learnt nothing."""
        return doubts(self.files)

    def untaught(self) -> str | None:
        """Why the networks are not compared, or None: one of them learnt nothing."""
        return untaught(self.files)

    @property
    def blank(self) -> frozenset[int]:
        """The cuts at which a classifier learnt nothing, judged nowhere; none where nothing is compared at all."""
        return frozenset() if self.untaught() else untaught_cuts(self.files)

    def cases(self, records: Sequence[Record], title: str, batch_size: int | None = None) -> Iterator[Cases]:
        """The cases of some images, batch by batch, as the files want them."""
        return batches(list(records), self.files[0].view, batch_size or self.batch_size, self.explain, title)

    def images(self, records: Sequence[Record], title: str) -> Iterator[Cases]:
        """The same with one case an image: all of its boxes."""
        return batches(list(records), self.files[0].view, self.batch_size, 0, title)
