"""Data formats by name; to add one, write a reader (data/records.py) and add it to FORMATS."""

from dataclasses import replace

from data.captions import read_captions
from data.chestxray import chestxray_names, read_chestxray
from data.cifar import cifar_names, read_cifar
from data.coco import coco_names, coco_numbers, read_coco
from data.coco_labels import read_coco_labels
from data.coco_masks import coco_masks
from data.cub import cub_names, read_cub
from data.dmri import read_dmri, refuse_parted
from data.doubles import without_doubles
from data.folder import folder_names, read_folder
from data.folder_boxes import read_folder_boxes
from data.holdout import HOLDOUT_SHARE, hold_out, share_out
from data.levels import levelled
from data.masks import official_masks, read_masked, with_masks
from data.records import Description, Format, Split
from data.synsets import read_synsets, synset_names
from data.tiny_imagenet import read_tiny_imagenet, tiny_imagenet_names
from data.voc import read_voc
from data.yolo_txt import read_yolo
from utils.errors import UserError
from utils.memory import no_collection
from utils.tables import Table

FORMATS = Table(
    "format",
    "format",
    (
        Format("voc", "XML files of Pascal VOC", read_voc, False, True, lists_all=True, masks=official_masks),
        Format("yolo", "text files of YOLO", read_yolo, False, True, lists_all=True),
        Format(
            "coco",
            "a json of COCO",
            read_coco,
            False,
            True,
            coco_names,
            lists_all=True,
            in_json=True,
            numbers=coco_numbers,
            masks=coco_masks,
        ),
        Format(
            "coco_labels",
            "classes in a json like COCO's",
            read_coco_labels,
            True,
            False,
            lists_all=True,
            in_json=True,
            labelled=True,
            joins=True,
        ),
        Format("coco_captions", "phrases in captions of COCO", read_captions, False, False),
        Format("chestxray", "CSV files of NIH's ChestX-ray14", read_chestxray, False, True, chestxray_names),
        Format("tiny_imagenet", "Tiny ImageNet", read_tiny_imagenet, True, True, tiny_imagenet_names, joins=True),
        Format(
            "synsets",
            "ImageNet with boxes: a folder for each synset, XML files",
            read_synsets,
            True,
            True,
            synset_names,
            by_folder=True,
            lists_all=True,
            joins=True,
        ),
        Format("cifar", "CIFAR-10, CIFAR-100, or arrays like them", read_cifar, True, False, cifar_names),
        Format(
            "dmri",
            "volumes of diffusion MRI, as slices of their anisotropy",
            read_dmri,
            True,
            True,
            channels=1,
            lists_all=True,
            labelled=True,
            joins=True,
            volumetric=True,
            check=refuse_parted,
        ),
        Format("masks", "a folder of pictures and one of masks", read_masked, False, False, lists_all=True),
        Format("cub", "Caltech-UCSD Birds 200", read_cub, True, True, cub_names),
        Format("folder", "a folder for each class", read_folder, True, False, folder_names),
        Format("folder_boxes", "the same with a csv of boxes", read_folder_boxes, True, True, folder_names),
    ),
)


def refuse_fractions(split: Split) -> None:
    """Refuse boxes that are all within the first pixel: they are given in fractions of the picture.

    Raises:
        UserError: they are.
    """
    boxes = [record.boxes_xyxy for record in split.records if len(record.boxes_xyxy)]
    if boxes and all(own.max() <= 1 for own in boxes):
        count = sum(map(len, boxes))
        what = f"all {count} boxes of `{split.name}` are within 0–1: fractions of the picture, not pixels"
        hint = "multiply them by width and height, or write them in the format yolo"
        raise UserError(what, where=split.description.yaml, hint=hint)


@no_collection()
def read_split(description: Description, split: str, *, strict: bool = False) -> Split:
    """Read one split of a data set in whatever format it is.

    Args:
        strict: the first damaged image or label is an error instead of being left out.

    Raises:
        UserError: nothing readable in the split, or strict and something damaged.
    """
    found = Split(split, description, [])
    if description.format.check:
        description.format.check(description)
    for part in description.parts(split):
        read = description.format.read(replace(description, splits={split: (part,)}), split)
        description = replace(description, long_lines=read.description.long_lines)  # decided once for all parts
        found.records.extend(read.records)
        found.problems.extend(read.problems)
        found.notices.extend(read.notices)
    found = without_doubles(replace(found, description=description))
    refuse_fractions(found)
    if strict and found.problems:
        raise found.problems[0].error()
    if split in description.shares:
        found = share_out(found, description.shares)
    if not found.records:
        first = [*(f"{own.where}: {own.what}" for own in found.problems[:1]), *(own.line() for own in found.notices)]
        hint = "; ".join(["check `path:` and the list", *first])
        raise UserError(f"no readable image in `{split}`", where=description.yaml, hint=hint)
    return levelled(found)


def read_unseen(
    description: Description, split: str | None = None, *, strict: bool = False, masked: bool = False
) -> Split:
    """A split to report figures on [test, else val, else the tenth of train that training holds out by default].

    Args:
        masked: pictures come with masks, those without are left out: before anything is held out, as in training.

    Raises:
        UserError: as in read_split, or, for masks, in with_masks.
    """
    given = split or (description.held_out if {"test", "val"} & description.splits.keys() else None)
    found = read_split(description, given or "train", strict=strict)
    found = with_masks(found, strict=strict) if masked else found
    return found if given else hold_out(found, HOLDOUT_SHARE)[1]


def read_training(description: Description, judged: str) -> Split:
    """Images to learn from beside a split, by name, that is judged: train, without what `read_unseen` held out of it.

    Raises:
        UserError: as in read_split.
    """
    train = read_split(description, "train")
    return train if judged in description.splits else hold_out(train, HOLDOUT_SHARE)[0]
