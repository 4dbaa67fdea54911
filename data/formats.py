"""Data formats by name; a new one takes a file and a line here."""

from dataclasses import replace

from data.chestxray import chestxray_names, read_chestxray
from data.cifar import cifar_names, read_cifar
from data.coco import coco_names, read_coco
from data.coco_labels import read_coco_labels
from data.folder import folder_names, read_folder
from data.holdout import share_out
from data.records import Description, Format, Split
from data.tiny_imagenet import read_tiny_imagenet, tiny_imagenet_names
from data.voc import read_voc
from data.yolo_txt import read_yolo
from utils.errors import UserError

FORMATS = {
    "voc": Format(read_voc, single_label=False, boxed=True),
    "yolo": Format(read_yolo, single_label=False, boxed=True),
    "coco": Format(read_coco, single_label=False, boxed=True, names=coco_names),
    "coco_labels": Format(read_coco_labels, single_label=True, boxed=False),
    "chestxray": Format(read_chestxray, single_label=False, boxed=True, names=chestxray_names),
    "tiny_imagenet": Format(read_tiny_imagenet, single_label=True, boxed=True, names=tiny_imagenet_names),
    "cifar": Format(read_cifar, single_label=True, boxed=False, names=cifar_names),
    "folder": Format(read_folder, single_label=True, boxed=False, names=folder_names),
}


def read_split(description: Description, split: str, *, strict: bool = False) -> Split:
    """Read one split of a data set in whatever format it is.

    Args:
        strict: the first damaged image or label is an error instead of being left out.

    Raises:
        UserError: nothing readable in the split, or strict and something damaged.
    """
    found = Split(split, description, [])
    for part in description.parts(split):
        read = description.format.read(replace(description, splits={split: (part,)}), split)
        found.records.extend(read.records)
        found.problems.extend(read.problems)
    if split in description.shares:
        found = share_out(found, description.shares)
    if strict and found.problems:
        raise found.problems[0].error()
    if not found.records:
        mend = "check `path:` and the list" + (f"; first problem: {found.problems[0].what}" if found.problems else "")
        raise UserError(f"no readable image in `{split}`", where=description.yaml, mend=mend)
    return found
