"""Which objects a scene is recognised by: the most frequent ones, and those under its maps (arXiv 1512.04150, fig. 9).

`python -m wsol.informative --weights FILE --data YAML --scenes FILE.csv`: the csv has the columns `image` and `scene`,
the data boxes or masks of objects. One linear SVM for each scene learns from the training images; its maps are shown on
held-out images and compared with their objects. Without --scenes the network's own classes take the place of scenes.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors

from data.folder_boxes import name_below
from data.listing import parted
from data.masks import mask_pixels, with_masks
from data.parsing import as_place, read_table
from data.records import Record
from data.views import View
from maps.cases import Cases
from maps.kinds import Explained, cams, is_mapped
from maps.networks import load_explained
from maps.overlay import masked, overlaid, picture
from maps.plan import Plan
from utils.draw import save_page
from utils.errors import UserError, run_cli
from utils.files import json_text, write_text
from wsol.deep_features import svm_maps
from wsol.features import add_training, around, described, parsed, parser_of, planned, pooled_features
from wsol.patterns import SHARE, Informative, Seen, informative_objects
from wsol.svm import LinearClasses, fit_svm

OBJECTS, SCENES, EACH = 6, 4, 3


@dataclass(frozen=True)
class Scenes:
    """What scenes there are, and how their maps are made.

    Attributes:
        names: of the scenes.
        svm: of the scenes; None for the network's own classes.
    """

    names: Sequence[str]
    network: Explained
    device: str
    svm: LinearClasses | None = None

    def guessed(self, cases: Cases) -> Tensor:
        """[n] the scene that each image is held for."""
        images = cases.images.to(self.device)
        if self.svm is None:
            with torch.no_grad():
                return self.network(images)[-1].argmax(1).cpu()
        return torch.from_numpy(self.svm.predict(pooled_features(self.network, [cases], self.device)[0]))

    def maps(self, cases: Cases, labels: Tensor) -> np.ndarray:
        """[n, H, W] of a scene each."""
        images = cases.images.to(self.device)
        if self.svm is None:
            found = cams(self.network, images, labels.to(self.device))[-1]
            return np.asarray(found.at(*images.shape[2:]).maps.cpu().numpy())
        return svm_maps(self.network, self.svm, images, labels)


def read_scenes(path: Path, records: Sequence[Record], root: Path) -> dict[Path, str]:
    """Image → its scene; the csv names images from the root on, or by their bare names, with their suffixes or without.

    Raises:
        UserError: no csv with these columns, one that names none of the images, or a bare name that several have.
    """
    _, rows = read_table(path, "csv", "give a csv with the columns image and scene")
    named, found = defaultdict[str, set[Path]](set), dict[Path, str]()
    for record in records:
        below = name_below(record.image, root)
        for name in {below, below.rpartition("/")[2]}:
            named[parted(name)[0]].add(record.image)
            named[name].add(record.image)
    for where, row in rows:
        name = as_place(row.get("image", ""))
        images = named.get(name) or named.get(parted(name)[0]) or ()
        if len(images) > 1:
            hint = f"name it from the folder of the data on, as {name_below(records[0].image, root)}"
            raise UserError(f"`{name}` is the name of {len(images)} images", where=where, hint=hint)
        found |= {image: row["scene"] for image in images if row.get("scene")}
    if not found:
        hint = f"give the columns image and scene, images such as {records[0].image.name}"
        raise UserError(f"none of its {len(rows)} rows names the scene of an image", where=path, hint=hint)
    return found


def learned(plan: Plan, network: Explained, path: Path | None) -> tuple[Plan, Scenes]:
    """The plan with the held-out images whose scene is known, and the scenes, learned from training images.

    Raises:
        UserError: no scenes are given, and the network's classes have no maps.
    """
    if path is None:
        if not is_mapped(network.heads[-1]):
            hint = "give --scenes, or pre-train with --pretrain-head gap"
            raise UserError("its classifier has no class maps", where=plan.files[0].path, hint=hint)
        return plan, Scenes(plan.files[0].names, network, plan.device)
    known = read_scenes(path, [*plan.training, *plan.split.records], plan.split.description.root)
    training, records = ([own for own in part if own.image in known] for part in (plan.training, plan.split.records))
    names = sorted({known[own.image] for own in training})
    labels = np.array([names.index(known[own.image]) for own in training])
    print(f"{len(training)} training and {len(records)} held-out images of {len(names)} scenes")
    svm = fit_svm(described(network, plan, training, "training"), labels) if len(names) > 1 else None
    if svm is None:
        raise UserError(f"{len(names)} scenes among the training images", where=path, hint="name two at least")
    own = replace(plan, split=replace(plan.split, records=records), training=training)
    return own, Scenes(names, network, plan.device, svm)


def mask_at(record: Record, view: View) -> np.ndarray | None:
    """[H, W] class numbers of an image's mask, as a network is shown the image; None where it has no mask."""
    if record.mask is None:
        return None
    mask = tv_tensors.Mask(torch.from_numpy(mask_pixels(record))[None])
    image = tv_tensors.Image(torch.zeros(3, *record.size_hw, dtype=torch.uint8))
    return np.asarray(view.transform()(image, mask)[1][0].numpy())


def taken_for(plan: Plan, scenes: Scenes) -> np.ndarray:
    """[N] the scene that each held-out image is taken for, with or without objects."""
    parts = plan.images([around(own) for own in plan.split.records], "scenes")
    return np.concatenate([scenes.guessed(cases).numpy() for cases in parts])


def seen_in(plan: Plan, scenes: Scenes, held: np.ndarray) -> Iterator[Seen]:
    """Each object of each held-out image with boxes, its pixels from its mask where there is one, else its boxes.

    Args:
        held: [N] the scene of each held-out image.
    """
    records = plan.split.records
    for cases in plan.cases(records, "objects"):
        guesses = torch.from_numpy(held[cases.record])
        maps = scenes.maps(cases, guesses)
        for place, (index, label) in enumerate(zip(cases.record.tolist(), cases.labels.tolist(), strict=True)):
            mask = mask_at(records[index], plan.files[0].view)
            pixels = cases.truth[place] if mask is None else mask == label + 1
            yield int(guesses[place]), maps[place], label, pixels


def drawn(plan: Plan, scenes: Scenes, count: int = SCENES) -> tuple[list[np.ndarray], list[str]]:
    """Of the first scenes some images that are taken for them, what their maps are high on beside each, and titles."""
    shown: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for cases in plan.images([around(own) for own in plan.split.records], "pictures"):
        guesses = scenes.guessed(cases)
        for place, one in enumerate(scenes.maps(cases, guesses)):
            own = shown.setdefault(int(guesses[place]), [])
            if len(own) < EACH:
                plain = picture(cases.images[place])
                high = one > one.min() + SHARE * np.ptp(one)
                own.append((plain, masked(overlaid(plain, one), high)))
    chosen = [(scenes.names[scene], pair) for scene in sorted(shown)[:count] for pair in shown[scene]]
    return [own for _, pair in chosen for own in pair], [title for name, _ in chosen for title in (name, "")]


def print_objects(found: Mapping[int, Sequence[Informative]], scenes: Sequence[str], objects: Sequence[str]) -> None:
    """The most frequent objects of each scene, and those that most often overlap with its maps."""
    for scene, own in sorted(found.items()):
        frequent = sorted(own, key=lambda one: (-one.frequency, one.name))[:OBJECTS]
        print(f"{scenes[scene]}")
        print("  most frequent:  " + ", ".join(f"{objects[one.name]} {one.frequency:.2f}" for one in frequent))
        print("  under its maps: " + ", ".join(f"{objects[one.name]} {one.overlapping:.2f}" for one in own[:OBJECTS]))


def main() -> None:
    """Learn, compare with objects, draw, print."""
    about, data = "Objects that scenes are recognised by.", "data yaml with boxes or masks of objects"
    parser = parser_of(about, "images of the first scenes and their maps", data=data)
    add_training(parser)
    parser.add_argument("--scenes", type=Path, help="csv with image and scene [the network's own classes]")
    parser.add_argument("--masks", action="store_true", help="objects are where the data set's masks say, not boxes")
    arguments = parsed(parser)
    training = arguments.training if arguments.scenes else 0
    plan = planned([arguments.weights], arguments.data, arguments.images, training=training, imgsz=arguments.imgsz)
    network = load_explained(plan.files[0], plan)
    if arguments.masks:
        plan = replace(plan, split=with_masks(plan.split))
    plan, scenes = learned(plan, network, arguments.scenes)
    held, objects = taken_for(plan, scenes), plan.split.description.names
    found = informative_objects(seen_in(plan, scenes, held), Counter(held.tolist()))
    if not found:
        raise UserError("no held-out image has an object", where=arguments.data, hint="give data with boxes")
    print_objects(found, scenes.names, objects)
    if arguments.pictures:
        page, titles = drawn(plan, scenes)
        save_page(page, arguments.pictures, titles, columns=2 * EACH)
    if arguments.json:
        rows = {
            scenes.names[scene]: [asdict(one) | {"name": objects[one.name]} for one in own]
            for scene, own in sorted(found.items())
        }
        content = {"data": arguments.data.name, "training": len(plan.training), "scenes": rows}
        write_text(arguments.json, json_text(content, indent=1))


if __name__ == "__main__":
    run_cli(main)
