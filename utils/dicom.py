"""DICOM pictures: the values of a file of one frame, in any transfer syntax and photometric interpretation."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import NotReadError
from utils.levels import Levels
from utils.limits import PICTURE

SUFFIXES = frozenset((".dcm", ".dicom", ".ima"))
HEAD = 2**16  # bytes of a file in which its transfer syntax is named
DEFLATED = re.compile(rb"\x02\x00\x10\x00UI..1\.2\.840\.10008\.1\.2\.1\.99", re.DOTALL)
GREY = ("MONOCHROME1", "MONOCHROME2")


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its suffix or by the mark that such files bear.

    Raises:
        OSError: it cannot be read.
    """
    if path.suffix.lower() in SUFFIXES:
        return True
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_dicom(path: Path, *, pixels: bool = True) -> Any:
    """The data set of a file with one frame.

    Args:
        pixels: read them too, not only what is said about them.

    Raises:
        ValueError: no pixels, several frames, or more pixels than are read without being asked; deflated as a whole:
            it would be inflated, to whatever size, before anything in it is known.
    """
    import pydicom

    with path.open("rb") as file:
        if DEFLATED.search(file.read(HEAD)):
            raise NotReadError("deflated DICOM; write it in another transfer syntax")
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    data = pydicom.dcmread(path, force=path.suffix.lower() in SUFFIXES, stop_before_pixels=not pixels)
    if not all(key in data for key in ("Rows", "Columns", "BitsStored", "PhotometricInterpretation")):
        raise NotReadError("DICOM without a picture")
    if (frames := int(data.get("NumberOfFrames") or 1)) > 1:
        raise NotReadError(f"DICOM of {frames} frames; write each frame to a file of its own")
    if what := PICTURE.too_much(data.Rows * data.Columns / 1e6):
        raise NotReadError(what)
    return data


def is_deep(path: Path) -> bool:
    """Whether values need levels: grey of other values than 0 to 255.

    Raises:
        ValueError: as in read_dicom.
    """
    data = read_dicom(path, pixels=False)
    return data.PhotometricInterpretation in GREY and not is_plain(data)


def is_plain(data: Any) -> bool:
    """Whether the numbers in the file are brightnesses from 0 to 255: 8 bits without a sign, not rescaled."""
    return data.BitsStored == 8 and data.PixelRepresentation == 0 and not rescaled(data)


def rescaled(data: Any) -> bool:
    """Whether the file says how its numbers become values."""
    slope, intercept = data.get("RescaleSlope"), data.get("RescaleIntercept")
    return "ModalityLUTSequence" in data or (slope, intercept) not in ((None, None), (1, 0))


def dicom_values(path: Path) -> np.ndarray:
    """[H, W] values of a grey picture, larger is brighter; [H, W, 3] RGB of a coloured one.

    Values are those after rescale slope and intercept. MONOCHROME1, in which larger is darker, is mirrored within the
    range that its bits allow. Brightnesses from 0 to 255 are uint8, and nothing else is.

    Raises:
        ValueError, and whatever the decoder of a transfer syntax stumbles over: not whole, or of no known kind.
    """
    from pydicom.pixels import apply_color_lut, pixel_array

    data = read_dicom(path)
    kind, pixels = data.PhotometricInterpretation, pixel_array(data)
    if kind == "PALETTE COLOR":
        coloured = apply_color_lut(pixels, data)[..., :3]
        return coloured if coloured.dtype == np.uint8 else (coloured >> 8).astype(np.uint8)
    if kind not in GREY:
        if pixels.ndim != 3:
            raise NotReadError(f"DICOM of the photometric interpretation {kind}")
        return pixels if pixels.dtype == np.uint8 else Levels(0, 2**data.BitsStored - 1).apply(pixels)
    if is_plain(data):
        return (255 - pixels if kind == GREY[0] else pixels).astype(np.uint8)
    own = brightness(pixels, data)
    return own.astype(np.uint16) if own.dtype == np.uint8 else own  # whose values are not yet brightnesses


def brightness(numbers: np.ndarray, data: Any) -> np.ndarray:
    """Values of the numbers in a grey picture, larger is brighter."""
    from pydicom.pixels import apply_modality_lut

    values = np.asarray(apply_modality_lut(numbers, data))
    return ends(data).sum() - values if data.PhotometricInterpretation == GREY[0] else values


def padding(path: Path) -> tuple[float, float] | None:
    """The first and the last value of what is outside a grey picture; None where the file names none.

    Raises:
        ValueError: as in read_dicom.
    """
    data = read_dicom(path, pixels=False)
    value = data.get("PixelPaddingValue")
    if not isinstance(value, int) or data.PhotometricInterpretation not in GREY:
        return None
    limit = data.get("PixelPaddingRangeLimit")
    own = brightness(np.array([value, limit if isinstance(limit, int) else value]), data).tolist()
    return min(own), max(own)


def ends(data: Any) -> np.ndarray:
    """[2] the values of the smallest and of the largest number that the bits of a grey picture allow."""
    from pydicom.pixels import apply_modality_lut

    bits, signed = data.BitsStored, data.PixelRepresentation == 1
    least = -(2 ** (bits - 1)) if signed else 0
    numbers = np.array([least, least + 2**bits - 1])
    return np.asarray(apply_modality_lut(numbers, data) if "ModalityLUTSequence" not in data else numbers, np.float64)


def voi(path: Path) -> Levels | None:
    """The window that a file itself asks for, the first where it gives several; None where it gives no linear one.

    Window centre and width as in part 3 of the standard, C.11.2.1.2.

    Raises:
        ValueError: as in read_dicom.
    """
    data = read_dicom(path, pixels=False)
    centre, width = (first(data.get(key)) for key in ("WindowCenter", "WindowWidth"))
    function = data.get("VOILUTFunction") or "LINEAR"
    if centre is None or width is None or function not in ("LINEAR", "LINEAR_EXACT") or not 1 < width < math.inf:
        return None
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    black, white = centre - width / 2, centre + width / 2
    if data.PhotometricInterpretation == GREY[0]:
        black, white = ends(data).sum() - white, ends(data).sum() - black
    return Levels(float(black), float(white), "the window of the files")


def first(value: Any) -> float | None:
    """A finite number, or the first of several; None for none, and for what is no number."""
    try:
        number = float(value[0] if isinstance(value, Sequence) and not isinstance(value, str) else value)
    except (TypeError, ValueError, IndexError):
        return None
    return number if math.isfinite(number) else None
