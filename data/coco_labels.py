"""Image-level classes from an instances json of COCO: what an entry of its images says under a key."""

from dataclasses import replace

from data.coco import entry_value, image_folder, read_json
from data.images import readable
from data.records import Description, Problem, Record, Split, make_record
from utils.errors import UserError


def read_coco_labels(description: Description, split: str) -> Split:
    """Read one split's images of the values that `classes` lists; boxes are left aside.

    Raises:
        UserError: no such json, or a listed value that none of its images has.
    """
    file, _, part = description.split(split).partition("#")
    path = description.root / file
    entries = read_json(path)["images"]
    classes = {value: index for index, values in enumerate(description.classes.values()) for value in values}
    told = [entry_value(entry, description.label) for entry in entries]
    for value in classes:
        if value not in told:
            what = f"no image has `{value}` under `{description.label}`"
            raise UserError(what, where=path, mend=f"correct `classes:` in {description.yaml}")
    chosen = [
        (entry, classes[value])
        for entry, value in zip(entries, told, strict=True)
        if value in classes and (not part or entry.get("split") == part)
    ]
    folder = description.images or image_folder(description.root, path)
    problems: list[Problem] = []
    sizes = readable([folder / entry["file_name"] for entry, _ in chosen], problems)
    records: list[Record] = []
    for (entry, label), size in zip(chosen, sizes, strict=True):
        if size is not None:
            record = make_record(folder / entry["file_name"], size, classes=[label])
            records.append(replace(record, group=entry_value(entry, description.group)))
    return Split(split, description, records, problems)
