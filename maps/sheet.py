"""A group of the gallery as one picture, for pages that cannot hold a slider."""

import base64
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from maps.overlay import LETTERS, as_jpeg
from maps.shown import Group, Strip
from utils.fonts import drawing_font

SIDE, WIDE = 168, 240  # of a tile, pixels; of one with a longer caption
HEAD = 22  # above each row of tiles, for what it shows
GAP = 4


def sheet(group: Group) -> bytes:
    """A JPEG: for each case a row a line and kind, the picture with its boxes first, then the map at every cut."""
    rows = [row(exhibit.picture, strip) for exhibit in group.exhibits for strip in exhibit.strips]
    wide = max(own.shape[1] for own in rows)
    parts = [(own, blank(own.shape[0], wide - own.shape[1])) for own in rows]
    return as_jpeg(np.concatenate([np.concatenate(part, 1) for part in parts]))


def in_a_row(steps: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    """[H, W, 3] pictures side by side, each under its caption."""
    tiles = [cv2.resize(own, (WIDE, WIDE), interpolation=cv2.INTER_AREA) for _, own in steps]
    captions = [said(text, WIDE) for text, _ in steps]
    return np.concatenate([beside(captions), beside(tiles)])


def row(picture: str, strip: Strip) -> np.ndarray:
    """[HEAD + SIDE + GAP, W, 3] a case and its maps, with line, kind and cuts above the maps."""
    cuts = ", ".join(f"b{cut}" for cut in strip.cuts)
    words = beside([said("true boxes"), said(f"{strip.line}, {strip.kind}: {cuts}", len(strip.cuts) * SIDE)])
    tiles = beside([tile(picture, 1), tile(strip.picture, len(strip.cuts))])
    return np.concatenate([words, tiles, blank(GAP, tiles.shape[1])])


def said(text: str, side: int = SIDE) -> np.ndarray:
    """[HEAD, side, 3] a few words, made narrow enough."""
    found, width = Image.fromarray(blank(HEAD, side)), drawing_font(text, LETTERS).getlength(text)
    font = drawing_font(text, max(6, int(LETTERS * min(1, (side - 6) / width))))
    ImageDraw.Draw(found).text((2, HEAD - 7), text, fill=(40, 40, 40), font=font, anchor="ls")
    return np.asarray(found)


def tile(uri: str, count: int) -> np.ndarray:
    """[SIDE, count · SIDE, 3] the pictures that a data URI holds side by side."""
    content = np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8)
    pixels = cv2.cvtColor(np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB)
    return np.asarray(cv2.resize(pixels, (count * SIDE, SIDE), interpolation=cv2.INTER_AREA))


def beside(parts: list[np.ndarray]) -> np.ndarray:
    """Pictures of one height in a row, with a gap behind each."""
    return np.concatenate([part for own in parts for part in (own, blank(own.shape[0], GAP))], 1)


def blank(height: int, width: int) -> np.ndarray:
    """White."""
    return np.full((height, width, 3), 255, np.uint8)
