"""Captions of COCO: an image has a class where one of its captions contains that phrase.

`captions_*.json` as published: `images` with `id` and `file_name`, `annotations` with `image_id` and `caption`.
"""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.coco import image_paths, json_of
from data.coco_json import SECTIONS, refuse_malformed
from data.images import readable
from data.parsing import read_text
from data.records import Description, Problem, Split, make_record
from utils.errors import UserError

WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
LONGEST = 2**30  # bytes of a json: the published answers of VQA v2 have a third of that


def words(text: str) -> list[str]:
    """The words of a text in small letters."""
    return WORD.findall(text.lower())


def contains(caption: Sequence[str], phrase: Sequence[str]) -> bool:
    """Whether the words of a phrase follow each other in a caption."""
    length = len(phrase)
    return any(list(caption[start : start + length]) == list(phrase) for start in range(len(caption) - length + 1))


def read_captions(description: Description, split: str) -> Split:
    """Read one split's images that have a caption; `names` are the phrases.

    Raises:
        UserError: no captions json, captions of images that it does not list, or pictures that are missing.
    """
    path, part = json_of(description.root, description.split(split), split)
    content = read_lists(path, ("images", "annotations"))
    for section, keys in (("annotations", ("image_id", "caption")), ("images", SECTIONS["images"])):
        refuse_malformed(content[section], section, keys, path, "give a captions json of COCO")
    captions = defaultdict[str, list[str]](list)  # "7" is 7
    for own in content["annotations"]:
        captions[str(own["image_id"])].append(own["caption"])
    if lost := captions.keys() - {str(own["id"]) for own in content["images"]}:
        what = f"{len(lost)} images have captions and no entry, such as {min(lost)}"
        raise UserError(what, where=path, hint="give captions and images of one release")
    chosen = [own for own in content["images"] if not part or own.get("split") == part]
    entries = [own for own in chosen if str(own["id"]) in captions]
    paths, notices = image_paths(content["images"], entries, description, path)
    refuse_missing(paths, path, "captions")
    phrases, problems, records = [words(name) for name in description.names], list[Problem](), []
    for entry, image, size in zip(entries, paths, readable(paths, problems), strict=True):
        if size is None:
            continue
        own = tuple(captions[str(entry["id"])])
        said = [words(caption) for caption in own]
        classes = [place for place, phrase in enumerate(phrases) if any(contains(one, phrase) for one in said)]
        records.append(replace(make_record(image, size, classes=classes), captions=own, number=entry["id"]))
    return Split(split, description, records, problems, notices)


def read_lists(path: Path, lists: Sequence[str]) -> dict[str, Any]:
    """A json with lists of some names.

    Raises:
        UserError: it is none, or has no such list.
    """
    try:
        content = json.loads(read_text(path, LONGEST))
    except FileNotFoundError as error:
        raise UserError("there is no such file", where=path, hint="correct the path") from error
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror or error}", where=path, hint="correct the path") from error
    except (ValueError, RecursionError) as error:
        raise UserError("is not valid JSON", where=path, hint="replace the file") from error
    for name in lists:
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise UserError(f"no list `{name}`", where=path, hint="give the published file")
    return dict(content)


def refuse_missing(paths: Sequence[Path], where: Path, what: str) -> None:
    """Refuse texts whose pictures are missing.

    Raises:
        UserError: some are; says how many and which is the first.
    """
    if missing := [path for path in dict.fromkeys(paths) if not path.is_file()]:
        absent = f"{what} of {len(missing)} pictures that do not exist, such as {missing[0]}"
        raise UserError(absent, where=where, hint="add the pictures, or give their folder")
