from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    generate_uid,
)

from data.images import check_image
from data.records import Problem
from utils.dicom import dicom_values, voi
from utils.images import is_deep, read_occurring, read_rgb, read_values

VALUES = np.arange(4096, dtype=np.uint16).reshape(64, 64)  # 12 bits
COLOURS = np.stack([VALUES // 16, VALUES[::-1] // 16, 255 - VALUES // 16], 2).astype(np.uint8)


def written(path: Path, pixels: np.ndarray, kind: str = "MONOCHROME2", *, bits: int = 12, **tags: Any) -> Path:
    """A DICOM file of these pixels; `tags` are further elements."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    data.PhotometricInterpretation, data.PixelRepresentation = kind, int(pixels.dtype.kind == "i")
    frames = pixels if pixels.ndim == 4 else pixels[None]
    data.Rows, data.Columns = frames.shape[1:3]
    data.SamplesPerPixel = frames.shape[3] if frames.ndim == 4 else 1
    data.BitsAllocated = 8 * pixels.dtype.itemsize
    data.BitsStored, data.HighBit = (bits, bits - 1) if pixels.dtype.itemsize == 2 else (8, 7)
    if data.SamplesPerPixel == 3:
        data.PlanarConfiguration = 0
    data.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path


def test_grey_of_twelve_bits_keeps_its_levels(tmp_path: Path) -> None:
    path = written(tmp_path / "a.dcm", VALUES)
    assert (read_values(path) == VALUES).all()
    assert is_deep(path)
    found = read_rgb(path)
    assert (found.shape, found.min(), found.max()) == ((64, 64, 3), 0, 255)
    assert len(np.unique(found)) > 250
    assert check_image(path) == (64, 64)
    assert (read_values(path.rename(tmp_path / "IM0001")) == VALUES).all()  # known by its mark, too


def test_larger_is_brighter_whatever_the_interpretation(tmp_path: Path) -> None:
    dark = written(tmp_path / "a.dcm", VALUES, "MONOCHROME1")
    assert (dicom_values(dark) == 4095 - VALUES.astype(int)).all()
    eight = written(tmp_path / "b.dcm", (VALUES // 16).astype(np.uint8), "MONOCHROME1")
    assert (read_rgb(eight)[..., 0] == 255 - VALUES // 16).all()
    assert not is_deep(eight)


def test_eight_bits_that_are_not_0_to_255_have_levels(tmp_path: Path) -> None:
    signed = (VALUES // 16).astype(np.int16) - 128
    path = written(tmp_path / "a.dcm", signed.astype(np.int8))
    assert is_deep(path)
    assert (dicom_values(path) == signed).all()
    assert (dicom_values(written(tmp_path / "b.dcm", signed.astype(np.int8), "MONOCHROME1")) == -1 - signed).all()
    four = written(tmp_path / "c.dcm", (VALUES // 256).astype(np.uint8), BitsStored=4, HighBit=3)
    assert is_deep(four)
    assert read_rgb(four).max() == 255, "white is the largest number, and not 15"


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("limit", [{}, {"PixelPaddingRangeLimit": 3990}])
def test_what_is_outside_the_picture_counts_for_no_levels(tmp_path: Path, kind: str, limit: dict[str, int]) -> None:
    inside = (VALUES % 100).reshape(64, 64)
    framed = inside.copy()
    framed[:8], framed[-8:] = 4000, 3995 if limit else 4000
    scale = {"RescaleSlope": 2, "RescaleIntercept": -9}
    padded = written(tmp_path / "a.dcm", framed, kind, PixelPaddingValue=4000, **scale, **limit)
    plain = written(tmp_path / "b.dcm", inside, kind, **scale)
    assert len(read_occurring(padded)) == 48 * 64
    assert (read_rgb(padded)[8:-8] == read_rgb(plain)[8:-8]).all()


def test_hounsfield_units(tmp_path: Path) -> None:
    signed = VALUES.astype(np.int16) - 2048
    path = written(tmp_path / "a.dcm", signed, RescaleSlope="2", RescaleIntercept="-10")
    assert (dicom_values(path) == 2.0 * signed - 10).all()


def test_the_window_of_the_file_decides(tmp_path: Path) -> None:
    """Centre 1000.5 and width 2001 of the standard's LINEAR function: 0 is black, 2000 is white."""
    path = written(tmp_path / "a.dcm", VALUES, WindowCenter="1000.5", WindowWidth="2001")
    levels = voi(path)
    assert levels is not None
    assert levels.pair == [0, 2000]
    assert (read_rgb(path)[..., 0] == np.rint((VALUES / 2000 * 255).clip(0, 255))).all()
    exact = {"VOILUTFunction": "LINEAR_EXACT", "WindowCenter": ["1000", "9"], "WindowWidth": ["2000", "9"]}
    dark = voi(written(tmp_path / "b.dcm", VALUES, "MONOCHROME1", **exact))
    assert dark is not None
    assert dark.pair == [4095 - 2000, 4095]


def test_pydicom_shows_the_same_window(tmp_path: Path) -> None:
    from pydicom.pixels import apply_windowing

    path = written(tmp_path / "a.dcm", VALUES, WindowCenter="1500", WindowWidth="1800")
    peer = apply_windowing(VALUES, pydicom.dcmread(path))
    scaled = (peer - peer.min()) / (peer.max() - peer.min()) * 255
    assert np.abs(read_rgb(path)[..., 0] - scaled).max() <= 1


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_files(tmp_path: Path, syntax: str) -> None:
    data = pydicom.dcmread(written(tmp_path / "a.dcm", VALUES))
    data.compress(syntax)
    data.save_as(tmp_path / "b.dcm")
    assert (read_values(tmp_path / "b.dcm") == VALUES).all()


def test_what_is_deflated_as_a_whole_is_not_inflated(tmp_path: Path) -> None:
    data = pydicom.dcmread(written(tmp_path / "a.dcm", VALUES))
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(tmp_path / "b.dcm")
    found = check_image(tmp_path / "b.dcm")
    assert isinstance(found, Problem)
    assert found.what == "is not read: deflated DICOM; write it in another transfer syntax"
    assert not is_deep(tmp_path / "b.dcm")


@pytest.mark.parametrize("name", ["JPEG2000.dcm", "JPEGLSNearLossless_16.dcm"])
def test_compressed_files_of_others(name: str) -> None:
    """Of pydicom's own test files: their decoders come as plugins."""
    from pydicom.data import get_testdata_file

    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"{name} is not installed with pydicom")
    assert read_rgb(Path(str(path))).std() > 1


def test_colours(tmp_path: Path) -> None:
    from pydicom.pixels.processing import convert_color_space

    assert (read_rgb(written(tmp_path / "a.dcm", COLOURS, "RGB")) == COLOURS).all()
    other = convert_color_space(COLOURS, "RGB", "YBR_FULL")
    assert np.abs(read_rgb(written(tmp_path / "b.dcm", other, "YBR_FULL")).astype(int) - COLOURS).max() <= 2
    assert not is_deep(tmp_path / "a.dcm")


def test_palette(tmp_path: Path) -> None:
    table = np.arange(256, dtype=np.uint16) * 257
    tags: dict[str, Any] = {}
    for name, values in (("Red", table), ("Green", table[::-1]), ("Blue", table // 2)):
        tags[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tags[f"{name}PaletteColorLookupTableData"] = np.ascontiguousarray(values).tobytes()
    index = (VALUES // 16).astype(np.uint8)
    found = read_rgb(written(tmp_path / "a.dcm", index, "PALETTE COLOR", **tags))
    assert (found == np.stack([index, 255 - index, index // 2], 2)).all()


@pytest.mark.parametrize(
    ("tags", "pixels", "what"),
    [
        ({"NumberOfFrames": 3}, np.stack([VALUES] * 3), "3 frames; write each frame"),
        ({"PixelData": VALUES.tobytes()[:-900]}, VALUES, "damaged image"),
        ({"Rows": 60_000, "Columns": 60_000}, VALUES, "3,600 megapixels, more than 100; read it with --max-megapixels"),
    ],
)
def test_what_is_not_read_is_named(tmp_path: Path, tags: dict[str, Any], pixels: np.ndarray, what: str) -> None:
    path = written(tmp_path / "a.dcm", pixels[0] if "NumberOfFrames" in tags else pixels, **tags)
    found = check_image(path)
    assert isinstance(found, Problem)
    assert what in found.what


def test_no_dicom_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_text("nothing of the kind")
    found = check_image(tmp_path / "a.dcm")
    assert isinstance(found, Problem)


@pytest.mark.parametrize(("centre", "width"), [("nan", "5"), ("", ""), ("7", "0"), ("1e400", "3"), ("5", None)])
def test_windows_that_are_none(tmp_path: Path, centre: str, width: str | None) -> None:
    path = written(tmp_path / "a.dcm", VALUES)
    data = pydicom.dcmread(path)
    data.add_new("WindowCenter", "LO", centre)
    if width is not None:
        data.add_new("WindowWidth", "LO", width)
    data.save_as(path)
    assert voi(path) is None
    assert (read_rgb(path).min(), read_rgb(path).max()) == (0, 255)
