"""The data yaml: where a data set is, in which format, and what its classes are called."""

from collections import Counter
from datetime import date
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from data import dmri_phantom, sample
from data.archives import Archive, present, unpack
from data.formats import FORMATS
from data.parsing import class_index
from data.records import EVERYTHING, Description
from utils.console import console
from utils.errors import UserError
from utils.levels import Levels
from utils.paths import is_folder
from utils.recipes import LONGEST, build, read_yaml
from utils.tables import near

SPLITS = ("train", "val", "test")
FOREIGN = frozenset(  # other projects' keys
    "roboflow download flip_idx kpt_names author license channels colors tags info version description date".split()  # noqa: SIM905
)
Share = Annotated[float, Field(gt=0, le=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


def named(parts: tuple[str, ...]) -> tuple[str, ...]:
    """Parts of a split, none of which is empty: that would be the whole folder."""
    if not all(part.strip() for part in parts):
        raise ValueError("give a folder, a list of pictures, or a share")
    return parts


Parts = Annotated[
    tuple[str, ...],
    Field(min_length=1),
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
    AfterValidator(named),
]


class DataYaml(BaseModel):
    """Keys of a data yaml; the file is read, never executed.

    Attributes:
        path: root folder, relative to the yaml [the yaml's own].
        format: one of FORMATS.
        train, val, test: what the format calls its splits: a list (voc, yolo, chestxray; of subjects: dmri), a json
            file (coco), a folder (yolo, folder) or a published part (cifar, cub, tiny_imagenet), or several of these
            in []; or for voc, yolo, coco, synsets, masks and dmri a fraction of all images, such as 0.8, drawn at
            random, the same in every run. Without val a part of train serves as such.
        names: classes in the order of their indices, as a list or by index; needed where the format does not say them.
        nc: how many they are, for those who like to say it twice.
        images, labels: folders relative to path of the images (voc, yolo, coco) and of their labels (voc, yolo), or the
            csv of their boxes (folder_boxes), where they are not those that the format knows; labels: the table of
            subjects (dmri) [participants.tsv], or the json that fractions are drawn from (coco) [the only one].
        masks: folder relative to path of the images' masks, where the format does not know them: PNGs of class numbers.
        group: key of the json's images that states whose an image is, a patient's for example (coco, coco_labels); they
            are never parted.
        label: key of the json's images that states their class (coco_labels), or column of the table (dmri).
        classes: the values of that key (coco_labels) or column (dmri), or the synsets (tiny_imagenet, synsets), which
            make up each class; images of others are left out.
        subsets: name → classes whose localisation is averaged beside that of all classes, as in
            {six classes: [aeroplane, bicycle, boat, bus, horse, motorbike]}.
        levels: values that become black and white in pictures of more than 8 bits, as [0, 4095]; without it, the window
            that all DICOM files ask for, or percentiles of the values that occur in the split that is read first.
        kpt_shape: [points, 2 or 3] where a txt line (yolo) is a box and keypoints, which are passed over; [0, 0]
            where it is a polygon; without it the lines say.
        slices: how many of each direction, in the middle of a volume, are pictures (dmri).
        volumes: pattern of the names of the volumes (dmri), as "*_dir80_*.nii.gz" [*dwi*, data, *FA].
        scenes: how many of the built-in scenes are made in path on first use.
        phantom: how many subjects of the phantom of diffusion MRI are made in path on first use.
        archives: tar and zip files relative to the yaml, unpacked into path on first use; with `url` and `sha256` they
            can be fetched. Where all of them share one
            top folder of path's own name (sets/tiny-imagenet-200), that folder becomes path.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path = Path()
    format: str = "yolo"
    train: Share | Parts
    val: Share | Parts | None = None
    test: Share | Parts | None = None
    names: list[str] | None = None
    nc: int | None = None
    images: Path | None = None
    labels: Path | None = None
    masks: Path | None = None
    group: str | None = None
    label: str | None = None
    classes: dict[str, tuple[str, ...]] | None = None
    subsets: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] | None = None
    levels: tuple[Finite, Finite] | None = None
    kpt_shape: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0, le=3)]] | None = None
    slices: Annotated[int, Field(ge=1)] | None = None
    volumes: str | None = None
    scenes: sample.SampleSize | None = None
    phantom: Annotated[int, Field(ge=dmri_phantom.FEWEST)] | None = None
    archives: tuple[Archive, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _own(cls, values: object) -> object:
        """Without the keys that other projects add for themselves, and without splits that are left empty."""
        if not isinstance(values, dict):
            return values
        return {k: own for k, own in values.items() if not (k in FOREIGN or (k in ("val", "test") and own == ""))}

    @field_validator("format")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in FORMATS:
            raise ValueError(f"{near(name, FORMATS)}{FORMATS}")
        return name

    @field_validator("names", mode="before")
    @classmethod
    def _listed(cls, names: object) -> object:
        if isinstance(names, dict):
            names = {int(key) if isinstance(key, str) and key.isdecimal() else key: name for key, name in names.items()}
            if sorted(names, key=str) != sorted(range(len(names)), key=str):
                raise ValueError("count the classes from 0 without a gap")
            names = [names[index] for index in range(len(names))]
        if isinstance(names, set):
            raise ValueError("give them in an order, as in [cat, dog]")
        if isinstance(names, list) and any(isinstance(name, bool | int | float | date | None) for name in names):
            raise ValueError(
                'put names in quotes, as in ["yes", "no"] or ["0", "1"]: yaml takes these for other things'
            )
        return names

    @field_validator("names")
    @classmethod
    def _distinct(cls, names: list[str] | None) -> list[str] | None:
        if names is not None and (not names or len(set(names)) != len(names)):
            raise ValueError("give every class once, in the order of the class indices")
        return names

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.nc is not None and self.names is not None and self.nc != len(self.names):
            raise ValueError(f"nc is {self.nc}, but there are {len(self.names)} names")
        counts = Counter(value for own in (self.classes or {}).values() for value in set(own))
        if twice := [value for value, count in counts.items() if count > 1]:
            raise ValueError(f"`{twice[0]}` is in {counts[twice[0]]} classes of `classes`; give each value to one")
        if self.levels is not None and self.levels[0] >= self.levels[1]:
            raise ValueError(f"levels are black and white, the lower one first, not {list(self.levels)}")
        own = FORMATS[self.format]
        if self.group is not None and not own.in_json:
            raise ValueError(f"`group` is a key of the images in a json ({having('in_json')})")
        if own.labelled and not (self.label and self.classes):
            raise ValueError(f"`label` and `classes` belong to the format {self.format}, which needs both")
        if (self.label and not own.labelled) or (self.classes and not own.joins):
            labelled, joins = having("labelled"), having("joins")
            raise ValueError(f"`label` is for the format {labelled}, `classes` for {joins}")
        if self.archives and "path" not in self.model_fields_set:
            raise ValueError("`archives` are unpacked into `path`: give it, a folder that is not there yet")
        if (self.slices or self.volumes) and not own.volumetric:
            raise ValueError(f"`slices` and `volumes` are for the format {having('volumetric')}")
        if self.masks and own.volumetric:
            raise ValueError(f"`masks` is for pictures that are files, not slices of volumes ({self.format})")
        given = [value for value in (self.train, self.val, self.test) if value is not None]
        shares = [value for value in given if isinstance(value, float)]
        if shares and (len(shares) < len(given) or not own.lists_all):
            raise ValueError(f"fractions are for {having('lists_all')}, and for all splits or none")
        if sum(shares) > 1 + 1e-9:
            raise ValueError(f"the fractions of the splits add up to {sum(shares):g}, which is more than 1")
        if own.in_json and self.labels and not shares:
            raise ValueError("`labels` of a json is for splits that are fractions; else name the json in each split")
        return self


def channels_of(path: Path) -> int:
    """Of the pictures of a data set, by its yaml alone.

    Raises:
        UserError: it cannot be read, or has an unknown or missing key.
    """
    return FORMATS[build(DataYaml, read_yaml(path), path).format].channels


def having(what: str) -> str:
    """The formats with a property, for messages."""
    return ", ".join(name for name, own in FORMATS.items() if getattr(own, what))


def made_scenes(root: Path, size: sample.SampleSize, yaml: Path) -> None:
    """Make the built-in scenes, unless so many are there.

    Raises:
        UserError: others are.
    """
    if (missing := missing_of_scenes(root, size, yaml)) is None:
        return
    console.print(f"making {missing} in {root}")
    if is_folder(root):
        sample.write_masks(root, size)
    else:
        sample.write(root, size=size)


def missing_of_scenes(root: Path, size: sample.SampleSize, yaml: Path) -> str | None:
    """What of the built-in scenes is still to be made; None where so many are there.

    Raises:
        UserError: others are.
    """
    if not is_folder(root):
        return "the built-in scenes"
    if (there := sample.counts(root)) != size:
        what = f"{root} holds other scenes: {there.train} + {there.val} + {there.test}"
        raise UserError(what, where=yaml, hint="delete that folder, which is made anew, or correct `scenes:`")
    return None if is_folder(root / sample.MASKS) else "the masks of the built-in scenes"  # older ones have none


def missing_of_phantom(root: Path, subjects: int, yaml: Path) -> str | None:
    """What of the phantom is still to be made; None where so many subjects are there.

    Raises:
        UserError: others are.
    """
    if not is_folder(root):
        return f"a phantom of {subjects} subjects"
    if (there := dmri_phantom.count(root)) != subjects:
        what = f"{root} holds another phantom, of {there} subjects"
        raise UserError(what, where=yaml, hint="delete that folder, which is made anew, or correct `phantom:`")
    return None


def load_description(path: Path, *, download: bool = False) -> Description:
    """Read a data yaml; archives are unpacked and built-in scenes are made on first use.

    Args:
        download: fetch the archives that are missing and published.

    Raises:
        UserError: unreadable, an unknown or missing key, no such folder, no class names, a download that fails.
    """
    content = build(DataYaml, read_yaml(path), path)
    root = (path.parent / content.path).resolve()
    if content.scenes:
        made_scenes(root, content.scenes, path)
    if content.phantom and (missing := missing_of_phantom(root, content.phantom, path)):
        console.print(f"making {missing} in {root}")
        dmri_phantom.write(root, content.phantom)
    if content.archives and not is_filled(root):
        unpack([present(archive, path, download=download) for archive in content.archives], root, yaml=path)
    if not is_folder(root):
        raise UserError(
            f"the data folder {str(root)[:LONGEST]} does not exist",
            where=path,
            hint="correct `path:` (relative to the yaml)",
        )
    given = {name: value for name in SPLITS if (value := getattr(content, name)) is not None}
    shares = {name: value for name, value in given.items() if isinstance(value, float)}
    everything = str(content.labels or ".") if FORMATS[content.format].in_json else EVERYTHING
    splits = {name: (everything,) if isinstance(value, float) else value for name, value in given.items()}
    images, labels = (root / folder if folder else None for folder in (content.images, content.labels))
    names = class_names(content, root, path, splits["train"][0])
    return Description(
        path,
        root,
        FORMATS[content.format],
        splits,
        names,
        images,
        labels,
        shares,
        content.group,
        content.label,
        content.classes or {},
        content.kpt_shape,
        Levels(*content.levels, path.name) if content.levels else None,
        root / content.masks if content.masks else None,
        named_subsets(content, names, path),
        content.slices or 16,
        content.volumes,
    )


def made_on_first_use(path: Path, *, download: bool) -> str | None:
    """What of a data set is still to be made, unpacked or fetched, as a line; None where all of it is there.

    Raises:
        UserError: the yaml is not right, other scenes are there, or an archive is missing that may not be fetched.
    """
    content = build(DataYaml, read_yaml(path), path)
    root = (path.parent / content.path).resolve()
    if content.scenes and (scenes := missing_of_scenes(root, content.scenes, path)):
        return f"{scenes} are made in {root}"
    if content.phantom and (phantom := missing_of_phantom(root, content.phantom, path)):
        return f"{phantom} is made in {root}"
    if is_filled(root) or not content.archives:
        return None
    files = [(path.parent / archive.file).resolve() for archive in content.archives]
    missing = [archive for archive, file in zip(content.archives, files, strict=True) if not file.is_file()]
    for archive in missing:
        if archive.url is None or not download:
            present(archive, path, download=False)  # raises
    return f"{len(files)} archives are unpacked into {root}" + (f", {len(missing)} of them fetched" if missing else "")


def is_filled(folder: Path) -> bool:
    """Whether a folder is there, and something in it."""
    return is_folder(folder) and any(folder.iterdir())


def named_subsets(content: DataYaml, names: list[str], yaml: Path) -> dict[str, tuple[str, ...]]:
    """Subset → its classes, as `names` has them.

    Raises:
        UserError: one of them is no class.
    """
    return {
        subset: tuple(names[class_index(name, names, f"{yaml}: subsets: {subset}")] for name in classes)
        for subset, classes in (content.subsets or {}).items()
    }


def class_names(content: DataYaml, root: Path, yaml: Path, train: str) -> list[str]:
    """Classes that the yaml gives, else those that the format states of a part of the training split.

    Raises:
        UserError: neither does, or the format's are not distinct.
    """
    if content.names is not None:
        return content.names
    if content.classes:
        return list(content.classes)
    tell = FORMATS[content.format].names
    if tell is None:
        what, hint = "key `names` is missing", f"add `names:`; the format `{content.format}` does not say them"
        raise UserError(what, where=yaml, hint=hint)
    below = root / content.images if content.images and FORMATS[content.format].by_folder else root
    names = tell(below, train)
    if not names or len(set(names)) != len(names):
        what = f"the data set states no distinct class names: {', '.join(names) or 'none at all'}"
        raise UserError(what, where=yaml, hint="give `names:`")
    return names
