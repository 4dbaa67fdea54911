import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from conftest import write_yaml
from PIL import Image
from torch import Tensor

from data.description import load_description
from data.images import UnreadableError
from data.records import Split, make_record
from models.backbones import make_backbone
from training.cache import CacheKey, FeatureCache, choose_place, hash_split
from utils import checkpoint
from utils.checkpoint import hash_weights
from utils.errors import UserError

KEY = CacheKey("prefix", "data", "transform", "float32", (8, 3, 5), views=2, images=7)


@contextmanager
def small_files(limit: int) -> Iterator[None]:
    """No file may grow beyond limit: what a full disk does, without one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def content(rows: list[int], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Features and classes that say their row."""
    features = torch.tensor(rows, dtype=torch.float32).view(-1, 1, 1, 1) + torch.arange(8 * 15).view(8, 3, 5) / 1000
    return features.to(dtype), torch.tensor([[row % 2, 1 - row % 2] for row in rows])


def filled(cache: FeatureCache) -> FeatureCache:
    rows = cache.missing()
    cache.fill(content(rows[at : at + cache.step], cache.dtype) for at in range(0, len(rows), cache.step))
    return cache


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("place", ["ram", "disk"])
def test_gives_back_what_was_put_in(tmp_path: Path, place: str, dtype: str) -> None:
    key = CacheKey("prefix", "data", "transform", dtype, (8, 3, 5), views=2, images=7)
    cache = filled(FeatureCache(tmp_path / "cache" if place == "disk" else None, key, 2, step=4))
    batch = cache.__getitems__([(1, 3), (0, 6), (0, 0)])
    features, present = content([10, 6, 0], getattr(torch, dtype))
    assert torch.equal(batch.features, features)
    assert torch.equal(batch.present, present.float())
    assert batch.index.tolist() == [3, 6, 0]
    assert batch.features.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident pages of files are given by Linux only")
def test_reading_a_file_leaves_none_of_it_in_memory(tmp_path: Path) -> None:
    key = CacheKey("prefix", "data", "transform", "float32", (64, 64, 64), views=1, images=64)
    cache, before = FeatureCache(tmp_path / "c", key, 2, step=8), resident_file_bytes()
    cache.fill((torch.ones(8, 64, 64, 64), torch.ones(8, 2)) for _ in range(8))
    for start in range(0, 64, 8):
        assert (cache.__getitems__([(0, start + n) for n in range(8)]).features == 1).all()
    assert FeatureCache.nbytes(key, 2)[0] == 64 * 2**20
    assert resident_file_bytes() - before < 16 * 2**20


def resident_file_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("RssFile:")[2].split()[0])


def test_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "c", KEY, 2, step=4)

    def broken() -> Iterator[tuple[Tensor, Tensor]]:
        yield content([0, 1, 2, 3])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.fill(broken())
    again = FeatureCache(tmp_path / "c", KEY, 2, step=4)
    assert not again.complete
    assert again.missing() == list(range(4, 14))
    with pytest.raises(AssertionError):
        again.__getitems__([(0, 0)])
    filled(again)
    assert torch.equal(again.__getitems__([(0, 1), (1, 6)]).features, content([1, 13])[0])


def spoil(path: Path, how: str) -> None:
    whole = path.read_bytes()
    if how == "cut short":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "changed":
        path.write_bytes(whole[:9] + bytes([whole[9] ^ 4]) + whole[10:])
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["cut short", "changed", "gone"])
@pytest.mark.parametrize("name", ["features.bin", "present.bin", "key.json", "filled0of1by4.json"])
def test_damaged_files_are_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, how: str) -> None:
    filled(FeatureCache(tmp_path / "c", KEY, 2, step=4))
    assert FeatureCache(tmp_path / "c", KEY, 2, step=4).complete
    spoil(tmp_path / "c" / name, how)
    again = FeatureCache(tmp_path / "c", KEY, 2, step=4)
    assert not again.complete
    assert len(again.missing()) == 14
    said = capsys.readouterr().out
    assert said.count("\n") == said.count("are computed again\n") == (how != "gone" or name.endswith(".bin"))
    assert torch.equal(filled(again).__getitems__([(0, 1), (1, 6)]).features, content([1, 13])[0])


def test_a_damaged_part_is_made_again_by_the_process_that_made_it(tmp_path: Path) -> None:
    for shard in range(2):
        filled(FeatureCache(tmp_path / "c", KEY, 2, step=4, shard=shard, shards=2))
    with (tmp_path / "c" / "features.bin").open("r+b") as file:
        file.seek(5 * 8 * 15 * 4)  # in row 5, the second process's
        file.write(b"!")
    shards = [FeatureCache(tmp_path / "c", KEY, 2, step=4, shard=shard, shards=2) for shard in range(2)]
    assert [len(shard.missing()) for shard in shards] == [0, 6]


def test_shards_share_the_rows(tmp_path: Path) -> None:
    shards = [FeatureCache(tmp_path / "c", KEY, 2, step=4, shard=shard, shards=2) for shard in range(2)]
    assert [shard.missing() for shard in shards] == [[0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13]]
    filled(shards[0])
    assert not shards[0].complete
    filled(shards[1])
    assert all(shard.complete for shard in shards)
    assert torch.equal(shards[0].__getitems__([(0, 5)]).features, content([5])[0])


def test_refuses_the_cache_of_something_else(tmp_path: Path) -> None:
    filled(FeatureCache(tmp_path / "c", KEY, 2, step=4))
    other = CacheKey("other", "data", "mirror", "float32", (8, 3, 5), views=2, images=7)
    with pytest.raises(UserError, match="prefix is 'prefix' there, 'other' now; transform is 'transform' there, 'mirr"):
        FeatureCache(tmp_path / "c", other, 2, step=4)


def test_full_disk_leaves_no_half_cache(tmp_path: Path) -> None:
    with small_files(1000), pytest.raises(UserError, match="cannot write"):
        FeatureCache(tmp_path / "c", KEY, 2, step=4)
    assert not (tmp_path / "c").exists()


def test_full_disk_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "a.pt", {"kind": "stage", "model": {"w": torch.zeros(3)}})
    with small_files(20_000), pytest.raises(UserError, match=os.strerror(errno.EFBIG)):
        checkpoint.save(tmp_path / "a.pt", {"kind": "stage", "model": {"w": torch.ones(10_000)}})
    assert checkpoint.load(tmp_path / "a.pt", "stage")["model"]["w"].tolist() == [0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


@pytest.mark.parametrize("place", ["ram", "disk"])
def test_too_little_space_is_refused_with_both_numbers(tmp_path: Path, place: str) -> None:
    with pytest.raises(UserError, match=r"--cache \w+: the features need 1048576\.00 GiB; free are [\d.]+ GiB of RAM"):
        choose_place(place, 2**50, [tmp_path / "c"], ranks=1)


def test_auto_takes_what_there_is(tmp_path: Path) -> None:
    assert choose_place("auto", 1000, [tmp_path / "c"], ranks=1) == "ram"
    assert choose_place("auto", 1000, [tmp_path / "c"], ranks=2) == "disk"
    assert "the features need" in choose_place("auto", 2**50, [tmp_path / "c"], ranks=1)


def test_hash_sees_weights_and_statistics() -> None:
    block = make_backbone("cnn6", 0.0625).blocks[0]
    before = hash_weights(block)
    assert hash_weights(block) == before
    block.norm.running_mean[0] += 1e-3
    assert hash_weights(block) != before


def test_hash_is_of_what_is_in_pictures(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.bmp")
    description = load_description(write_yaml(tmp_path / "d.yaml", path=str(tmp_path)))
    split = Split("train", description, [make_record(tmp_path / "a.bmp", (8, 8))])
    before = hash_split(split)
    os.utime(tmp_path / "a.bmp", (1, 1))
    assert hash_split(split) == before
    Image.new("L", (8, 8), 1).save(tmp_path / "a.bmp")
    assert hash_split(split) != before
    (tmp_path / "a.bmp").unlink()
    with pytest.raises(UnreadableError, match="does not exist"):
        hash_split(split)
