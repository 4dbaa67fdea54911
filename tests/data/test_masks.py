import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import DIGITS, ROOT, write_yaml
from PIL import Image
from pycocotools import mask as peer
from pycocotools.coco import COCO

from data import sample
from data.coco_masks import from_runs, runs_of
from data.description import load_description
from data.formats import read_split, read_unseen
from data.mask_set import MaskSet, join_masks
from data.masks import read_mask, with_masks
from data.records import Split
from data.transforms import segment_transform
from training.reading import read_pair
from training.same_data import identity
from utils.config import Augment, Recipe
from utils.errors import UserError
from utils.files import make_folder
from utils.letterbox import IGNORED


def read(folder: Path, split: str = "train", **changes: Any) -> Split:
    return read_split(load_description(write_yaml(folder / "d.yaml", **({"path": str(folder)} | changes))), split)


def pictures(folder: Path, names: str, size: tuple[int, int] = (20, 30)) -> None:
    for name in names.split():
        (folder / "images").mkdir(exist_ok=True, parents=True)
        Image.new("RGB", size[::-1]).save(folder / "images" / f"{name}.png")


def masks(folder: Path, **arrays: np.ndarray) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    for name, array in arrays.items():
        Image.fromarray(array.astype(np.uint8)).save(folder / f"{name}.png")


FOLDER = {"format": "masks", "train": "images", "val": None, "test": None, "names": ["cat", "dog"], "masks": "masks"}


def test_masks_of_the_scenes_are_the_ink_in_the_boxes(scenes_yaml: Path) -> None:
    split = with_masks(read_split(load_description(scenes_yaml), "train"))
    assert "8 images with masks" in split.summary()
    for record in split.records:
        assert record.mask
        found = record.mask.pixels(record.size_hw)
        outside = np.ones_like(found, bool)
        for (x1, y1, x2, y2), label in zip(record.boxes_xyxy.astype(int), record.labels, strict=True):
            inside = found[y1:y2, x1:x2]
            assert set(np.unique(inside)) == {0, label + 1}
            for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
                assert edge.any()
            outside[y1:y2, x1:x2] = False
        assert not found[outside].any()


def test_scenes_of_before_get_masks(scenes: Path, tmp_path: Path) -> None:
    sample.write(tmp_path / "old", size=sample.SampleSize(2, 1, 1))
    wanted = {path.name: path.read_bytes() for path in (tmp_path / "old" / sample.MASKS).iterdir()}
    for path in (tmp_path / "old" / sample.MASKS).iterdir():
        path.unlink()
    (tmp_path / "old" / sample.MASKS).rmdir()
    load_description(
        write_yaml(tmp_path / "d.yaml", path=str(tmp_path / "old"), scenes={"train": 2, "val": 1, "test": 1})
    )
    assert {path.name: path.read_bytes() for path in (tmp_path / "old" / sample.MASKS).iterdir()} == wanted
    assert sample.MASKS in {path.name for path in scenes.iterdir()}


def test_a_folder_of_masks(tmp_path: Path) -> None:
    pictures(tmp_path, "a b c")
    whole = np.zeros((20, 30))
    whole[:5], whole[5:8] = 2, IGNORED
    masks(tmp_path / "masks", a=whole, b=np.zeros((20, 30)), c=np.zeros((30, 20)))
    plain = read(tmp_path, **FOLDER)
    assert [own.classes.tolist() for own in plain.records if own.classes is not None] == [[1], []]
    assert "c.png: damaged mask (the mask is of 20×30, its picture of 30×20)" in plain.summary()
    split = with_masks(plain)
    assert [own.image.name for own in split.records] == ["a.png", "b.png"]
    assert split.records[0].mask
    assert np.array_equal(split.records[0].mask.pixels((20, 30)), whole)
    with pytest.raises(UserError, match=r"c.png: damaged mask \(the mask is of 20×30"):
        read_split(plain.description, "train", strict=True)


def test_masks_are_decoded_once_for_their_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path, "a b")
    masks(tmp_path / "masks", a=np.full((20, 30), 2), b=np.full((20, 30), IGNORED))
    decoded: list[str] = []
    monkeypatch.setattr("data.masks.read_mask", lambda path: decoded.append(path.name) or read_mask(path))
    assert [own.classes.tolist() for own in read(tmp_path, **FOLDER).records if own.classes is not None] == [[1], []]
    assert sorted(decoded) == ["a.png", "b.png"]


def test_masks_of_0_and_255_have_no_class(tmp_path: Path) -> None:
    pictures(tmp_path, "a b c")
    half = np.repeat([[0], [IGNORED]], 10, 0) * np.ones((1, 30))
    masks(tmp_path / "masks", a=half, b=np.zeros((20, 30)))
    shutil.copytree(tmp_path / "images", tmp_path / "all" / "cat")
    for own in (FOLDER, FOLDER | {"format": "folder", "train": "all", "names": None}):
        with pytest.raises(UserError, match=r"d.yaml: no mask of `train` shows a class; 255 does not .*write class 1"):
            with_masks(read(tmp_path, **own))
    masks(tmp_path / "masks", c=half / IGNORED)
    summary = with_masks(read(tmp_path, **FOLDER)).summary()
    assert summary.count("1 mask has 255 on 25% of the pixels, or in place of a class: ") == 1, summary
    assert "a.png; 255 does not count, class 1 is 1" in summary


@pytest.mark.parametrize(
    ("border", "inside", "said"), [(1, 1, False), (5, 1, True), (1, 0, True), (0, 0, False), (0, 1, False)]
)
def test_an_outline_that_does_not_count_is_no_doubt(border: int, inside: int, said: bool, tmp_path: Path) -> None:
    pictures(tmp_path, "a b")
    own = np.full((20, 30), inside)
    own[:border] = IGNORED
    masks(tmp_path / "masks", a=own, b=np.ones((20, 30)))
    assert ("in place of a class" in with_masks(read(tmp_path, **FOLDER)).summary()) == said


def test_more_names_than_a_mask_has_numbers(tmp_path: Path, scenes: Path) -> None:
    names = [*DIGITS, *(f"n{number}" for number in range(245))]
    whole = read_split(load_description(write_yaml(tmp_path / "v.yaml", path=str(scenes), names=names)), "train")
    with pytest.raises(UserError, match=r"v\.yaml: 255 names, and a mask has numbers for 254"):
        with_masks(whole)
    assert with_masks(replace(whole, description=replace(whole.description, names=names[:254]))).records
    with pytest.raises(UserError, match=r"d\.yaml: 255 names, and a mask has numbers for 254"):
        read(tmp_path, **FOLDER | {"names": names})  # before there is a single picture


def test_without_masks(tmp_path: Path, scenes: Path) -> None:
    pictures(tmp_path, "a b")
    masks(tmp_path / "masks", a=np.full((20, 30), 3))
    with pytest.raises(UserError, match=r"a.png: class number 3 in a mask, and 2 names \(0 is the background\)"):
        read(tmp_path, **FOLDER)
    masks(tmp_path / "masks", a=np.full((20, 30), 2))
    assert "train: 1 image, 2 classes, 0 left out" in read(tmp_path, **FOLDER).summary()
    assert "1 of 2 pictures has no mask and is left out" in read(tmp_path, **FOLDER).summary()
    Image.new("RGB", (30, 20)).save(tmp_path / "masks" / "a.png")
    with pytest.raises(UserError, match=r"no readable image in `train`.*a.png: damaged mask \(colours \(RGB\) in"):
        read(tmp_path, **FOLDER)
    Image.fromarray(np.ones((20, 30), np.uint16)).save(tmp_path / "masks" / "a.png")
    with pytest.raises(UserError, match=r"damaged mask \(grey of more than 8 bits \(I;16\); save its class numbers"):
        read(tmp_path, **FOLDER)
    with pytest.raises(UserError, match="key `masks` is missing — name the folder of the masks"):
        read(tmp_path, **FOLDER | {"masks": None})
    with pytest.raises(UserError, match=r"`train` has no masks: not one picture has a mask — name their folder"):
        with_masks(read_split(load_description(write_yaml(tmp_path / "v.yaml", path=str(scenes), masks="no")), "train"))
    (tmp_path / "all" / "cat").mkdir(parents=True)
    Image.new("RGB", (30, 20)).save(tmp_path / "all" / "cat" / "a.png")
    with pytest.raises(UserError, match="the format `folder` has no masks — name a folder of mask files"):
        with_masks(read(tmp_path, format="folder", train="all", val=None, test=None, names=None))


def test_the_official_lists_of_voc(scenes: Path, tmp_path: Path) -> None:
    """The yaml for Pascal VOC's own masks, on a tree of its shape: a list of fewer images than there are."""
    own = tmp_path / "VOCdevkit" / "VOC2012"
    shutil.copytree(scenes, own)
    (own / "ImageSets" / "Segmentation").mkdir()
    for name, ids in (("train", "train_00001\ntrain_00003\n"), ("val", "val_00000\n")):
        (own / "ImageSets" / "Segmentation" / f"{name}.txt").write_text(ids)
    content = yaml.safe_load((ROOT / "data" / "voc_segmentation.yaml").read_text())
    content |= {"path": "VOCdevkit", "names": DIGITS, "archives": []}
    (tmp_path / "d.yaml").write_text(yaml.safe_dump(content))
    description = load_description(tmp_path / "d.yaml")
    for split, names in (("train", ["train_00001.jpg", "train_00003.jpg"]), ("val", ["val_00000.jpg"])):
        found = with_masks(read_split(description, split), strict=True)
        assert [record.image.name for record in found.records] == names


def random_outlines(draw: np.random.Generator, height: int, width: int) -> list[dict[str, Any]]:
    """Two polygons in one annotation, run lengths as a list, run lengths as a text, and a crowd."""
    polygons = [(draw.random((int(draw.integers(3, 8)), 2)) * [width, height]).ravel().tolist() for _ in range(2)]
    blobs = [(draw.random((height, width)) < draw.random()).astype(np.uint8) for _ in range(3)]
    packed = [peer.encode(np.asfortranarray(own)) for own in blobs]
    texts = [{"size": [height, width], "counts": own["counts"].decode()} for own in packed]
    plain = np.diff(np.flatnonzero(np.diff(np.r_[2, blobs[0].T.ravel(), 2])))
    lists = [0] * int(blobs[0][0, 0]) + plain.tolist()
    segmentations = [polygons, {"size": [height, width], "counts": lists}, texts[1], texts[2]]
    return [
        {"id": number, "image_id": 7, "category_id": 1 + number % 2, "bbox": [0, 0, width, height], "area": 9,
         "iscrowd": int(number == 3), "segmentation": own}
        for number, own in enumerate(segmentations)
    ]  # fmt: skip


def coco_json(folder: Path, annotations: list[dict[str, Any]], size: tuple[int, int]) -> Path:
    image = {"id": 7, "file_name": "a.png", "height": size[0], "width": size[1]}
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    path = folder / "all.json"
    path.write_text(json.dumps({"images": [image], "annotations": annotations, "categories": categories}))
    return path


COCO_DATA = {"format": "coco", "train": "all.json", "val": None, "test": None, "names": None}


def painted_by_peer(path: Path) -> np.ndarray:
    """The mask of the only image by pycocotools, overlaps of classes and crowds ignored."""
    own = COCO(str(path))
    shapes = [(entry, own.annToMask(entry) > 0) for entry in own.anns.values()]

    def union(label: int, crowd: int) -> np.ndarray:
        wanted = [s for e, s in shapes if e["iscrowd"] == crowd and (crowd or e["category_id"] == label)]
        return np.any([np.zeros_like(shapes[0][1]), *wanted], axis=0)

    cat, dog = union(1, 0), union(2, 0)
    single = np.where(cat & dog, IGNORED, cat * 1 + dog * 2)
    return np.where((single == 0) & union(0, 1), IGNORED, single)


def test_coco_outlines_are_those_of_pycocotools(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for _ in range(12):
        height, width = map(int, draw.integers(4, 60, 2))
        pictures(tmp_path, "a", (height, width))
        path = coco_json(tmp_path, random_outlines(draw, height, width), (height, width))
        (record,) = with_masks(read(tmp_path, images="images", **COCO_DATA)).records
        assert record.mask
        assert np.array_equal(record.mask.pixels(record.size_hw), painted_by_peer(path))


def test_run_lengths_are_those_of_pycocotools() -> None:
    draw = np.random.default_rng(1)
    for _ in range(200):
        size = tuple(map(int, draw.integers(1, 90, 2)))
        blob = draw.random(size) < draw.random() ** 2
        packed = peer.encode(np.asfortranarray(blob.astype(np.uint8)))["counts"]
        assert np.array_equal(from_runs(runs_of(packed), (size[0], size[1])), blob)
    whole = peer.encode(np.asfortranarray(np.arange(700 * 900).reshape(700, 900) // 90000 % 2).astype(np.uint8))
    assert from_runs(runs_of(whole["counts"]), (700, 900)).sum() == peer.area(whole)


@pytest.mark.parametrize(
    ("segmentation", "what"),
    [
        (None, "no outline"),
        ([[1, 2, 3, 4]], "a polygon that is no list of three points or more"),
        ([[1, 2, 3, 4, float("nan"), 6]], "a polygon with points far outside its picture, or none"),
        ([[1, 2, 3, 4, 1e9, 6]], "a polygon with points far outside its picture"),
        ({"size": [20, 30], "counts": [0, 100]}, "run lengths of 100 pixels in a picture of 30×20"),
        ({"size": [20, 30], "counts": [-1, 601]}, "run lengths of 600 pixels"),
        ({"size": [20, 30], "counts": "ab"}, "counts that are no run lengths|counts that end|run lengths of"),
        ({"size": [20, 30], "counts": "~~"}, "counts that are no run lengths"),
        ({"size": [30, 20], "counts": [600]}, r"the mask is of \[30, 20\], its picture of \[20, 30\], height first"),
        ({"size": [20, 30]}, "a mask without counts"),
        ({"size": [20, 30], "counts": [float("inf")]}, "counts that are no whole numbers"),
        ({"size": [20, 30], "counts": [10**400]}, "counts that are no whole numbers"),
    ],
)
def test_a_damaged_outline(segmentation: Any, what: str, tmp_path: Path) -> None:
    pictures(tmp_path, "a")
    entry = {"id": 5, "image_id": 7, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 9, "segmentation": segmentation}
    coco_json(tmp_path, [entry], (20, 30))
    with pytest.raises(UserError, match=f"all.json, annotation 5: {what}"):
        with_masks(read(tmp_path, images="images", **COCO_DATA))


SQUARE = {"id": 5, "image_id": 7, "bbox": [0, 0, 9, 9], "area": 81, "segmentation": [[0, 0, 9, 0, 9, 9, 0, 9]]}


def test_categories_named_by_a_text(tmp_path: Path) -> None:
    pictures(tmp_path, "a")
    coco_json(tmp_path, [SQUARE | {"category_id": "2"}], (20, 30))
    (record,) = with_masks(read(tmp_path, images="images", **COCO_DATA)).records
    assert record.labels.tolist() == [1]
    assert record.mask
    assert np.unique(record.mask.pixels((20, 30))).tolist() == [0, 2]


def test_an_outline_of_no_category_is_not_background(tmp_path: Path) -> None:
    pictures(tmp_path, "a")
    coco_json(tmp_path, [SQUARE | {"category_id": 1}, SQUARE | {"id": 6, "category_id": 9}], (20, 30))
    with pytest.raises(UserError, match=r"`train` has no masks: .*a.png: all.json, annotation 6: no category of id 9"):
        with_masks(read(tmp_path, images="images", **COCO_DATA))


@pytest.mark.parametrize(
    ("width", "what"),
    [([40], "no width and height"), ("forty", "no width and height"), (10**9, "an image of 2e.04 megapixels")],
)
def test_a_stated_size_that_is_none(width: Any, what: str, tmp_path: Path) -> None:
    pictures(tmp_path, "a")
    coco_json(tmp_path, [SQUARE | {"category_id": 1}], (20, width))
    with pytest.raises(UserError, match=rf"`train` has no masks: .*a.png: all.json, {what}"):
        with_masks(read(tmp_path, images="images", **COCO_DATA))


def test_outlines_follow_the_size_of_the_file(tmp_path: Path) -> None:
    pictures(tmp_path, "a", (40, 60))
    entry = {"id": 5, "image_id": 7, "category_id": 2, "bbox": [0, 0, 15, 20], "area": 300,
             "segmentation": {"size": [20, 30], "counts": [0, 300, 300]}}  # fmt: skip
    coco_json(tmp_path, [entry], (20, 30))
    (record,) = with_masks(read(tmp_path, images="images", **COCO_DATA)).records
    assert record.mask
    found = record.mask.pixels(record.size_hw)
    assert found.shape == (40, 60)
    assert (found[:, :30] == 2).all()
    assert not found[:, 30:].any()


def test_draws_depend_on_seed_epoch_and_index(scenes_yaml: Path) -> None:
    records = with_masks(read_split(load_description(scenes_yaml), "train")).records
    transform = segment_transform(96, Augment(crop=1, zoom_out=0.5, photometric=1))
    first, again, later = (MaskSet(records, transform, 3)[epoch, 2] for epoch in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], later[1])
    batch = join_masks([first, later])
    assert batch.images.shape == (2, 3, 96, 96)
    assert set(batch.masks.unique().tolist()) <= {*range(11), IGNORED}


def test_a_mask_moves_with_its_picture(tmp_path: Path) -> None:
    """A picture whose red is its mask keeps saying so, whatever is drawn; nothing of the border counts."""
    pictures(tmp_path, "a", (40, 90))
    blocks = np.kron(np.random.default_rng(0).integers(0, 3, (4, 9)), np.ones((10, 10)))
    masks(tmp_path / "masks", a=blocks)
    Image.fromarray(np.repeat(blocks[..., None] * 100, 3, 2).astype(np.uint8)).save(tmp_path / "images" / "a.png")
    records = with_masks(read(tmp_path, **FOLDER)).records
    dataset = MaskSet(records, segment_transform(160, Augment(crop=0.5, zoom_out=0.5, photometric=0)), 0)
    counted = []
    for epoch in range(6):
        image, mask, _ = dataset[epoch, 0]
        known = mask != IGNORED
        counted.append(float(known.float().mean()))
        near = (image[0].float() / 100).round() == mask
        assert near[known].float().mean() > 0.85  # but for the edges of blocks, which are blurred
    assert 0 < min(counted) < 0.2 < max(counted) == 1


def test_identity_tells_masks(tmp_path: Path) -> None:
    pictures(tmp_path, "a")
    masks(tmp_path / "masks", a=np.ones((20, 30)))
    plain = read(tmp_path, **FOLDER)
    before = identity({"train": with_masks(plain)})
    assert before != identity({"train": plain})
    masks(tmp_path / "masks", a=np.random.default_rng(0).integers(0, 3, (20, 30)))
    assert identity({"train": with_masks(plain)})["train"]["labels"] != before["train"]["labels"]


def test_both_jsons_of_a_picture_paint_its_mask(tmp_path: Path) -> None:
    """A notice says that the picture counts once; its mask has the outlines of both, as its boxes are of both."""
    pictures(tmp_path, "a")
    other = SQUARE | {"id": 6, "category_id": 2, "segmentation": [[15, 10, 25, 10, 25, 18, 15, 18]]}
    for name, entry in (("cats", SQUARE | {"category_id": 1}), ("dogs", other)):
        coco_json(tmp_path, [entry], (20, 30)).rename(tmp_path / f"{name}.json")
    (record,) = with_masks(read(tmp_path, images="images", **COCO_DATA | {"train": ["cats.json", "dogs.json"]})).records
    assert record.mask
    found = record.mask.pixels((20, 30))
    assert (found[5, 5], found[14, 20], found[14, 5]) == (1, 2, 0)


def test_outlines_of_a_picture_that_was_turned_since(tmp_path: Path) -> None:
    pictures(tmp_path, "a", (30, 20))
    coco_json(tmp_path, [SQUARE | {"category_id": 1}], (20, 30))
    with pytest.raises(UserError, match="the image of 20×30 was turned since its outlines were drawn on 30×20"):
        with_masks(read(tmp_path, images="images", **COCO_DATA))


def test_a_mask_of_several_pictures_is_said(tmp_path: Path) -> None:
    for camera in ("one", "two"):
        pictures(tmp_path / camera, "a")
    masks(tmp_path / "masks", a=np.ones((20, 30)))
    summary = read(tmp_path, **FOLDER | {"train": "."}).summary()
    assert f"1 mask belongs to several images: {tmp_path / 'masks/a.png'}" in summary


def test_judged_pictures_are_those_that_training_held_out(scenes: Path, tmp_path: Path) -> None:
    """Where some have no mask: they are left out before a tenth is drawn. A json's split is found by its own name."""
    whole = write_yaml(tmp_path / "d.yaml", path=str(scenes), val=None, test=None)
    for number, record in enumerate(read_split(load_description(whole), "train").records):
        if number != 3:
            shutil.copy(scenes / sample.MASKS / f"{record.image.stem}.png", make_folder(tmp_path / "some"))
    data = write_yaml(tmp_path / "m.yaml", path=str(scenes), val=None, test=None, masks=str(tmp_path / "some"))
    kept, held = read_pair(data, Recipe(data=data), download=False, masked=True)
    judged = read_unseen(load_description(data), masked=True)
    assert [own.image for own in judged.records] == [own.image for own in held.records]
    assert not {own.image for own in judged.records} & {own.image for own in kept.records}
    pictures(tmp_path, "a")
    coco_json(tmp_path, [SQUARE | {"category_id": 1}], (20, 30))
    split = read(tmp_path, images="images", **COCO_DATA)
    assert with_masks(replace(split, name="held out of train", of="train")).records
