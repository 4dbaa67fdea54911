"""Image-level classes from an instances json of COCO: what an entry of its images says under a key."""

from dataclasses import replace

from data.coco import entry_value, image_paths, json_of
from data.coco_json import read_instances
from data.images import readable
from data.records import Description, Problem, Record, Split, make_record
from utils.errors import UserError


def read_coco_labels(description: Description, split: str) -> Split:
    """Read one split's images of the values that `classes` lists; boxes are left aside.

    Raises:
        UserError: no such json, or a listed value that none of its images has.
    """
    path, part = json_of(description.root, description.split(split), split)
    entries = read_instances(path).images
    classes = {value: index for index, values in enumerate(description.classes.values()) for value in values}
    labels = [entry_value(entry, description.label) for entry in entries]
    for value in classes:
        if value not in labels:
            what = f"no image has `{value}` under `{description.label}`"
            raise UserError(what, where=path, hint=f"correct `classes:` in {description.yaml}")
    chosen = [
        (entry, classes[value])
        for entry, value in zip(entries, labels, strict=True)
        if value in classes and (not part or entry.get("split") == part)
    ]
    paths, notices = image_paths(entries, [entry for entry, _ in chosen], description, path)
    problems: list[Problem] = []
    records: list[Record] = []
    for (entry, label), image, size in zip(chosen, paths, readable(paths, problems), strict=True):
        if size is not None:
            record = make_record(image, size, classes=[label])
            records.append(replace(record, group=entry_value(entry, description.group)))
    return Split(split, description, records, problems, notices)
