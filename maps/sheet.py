"""A group of the gallery as one picture, for pages that cannot hold a slider."""

import base64

import cv2
import numpy as np

from maps.gallery import FONT, Group, Strip

SIDE = 168  # of a tile, pixels
HEAD = 22  # above each row of tiles, for what it shows
GAP = 4


def sheet(group: Group) -> bytes:
    """A JPEG: a row a case, its picture with the boxes first, then the maps of each line and kind at every cut."""
    strips = group.exhibits[0].strips
    rows = [titles(strips)]
    for exhibit in group.exhibits:
        tiles = [tile(exhibit.picture, 1), *(tile(strip.picture, len(strip.cuts)) for strip in exhibit.strips)]
        rows.append(beside(tiles))
    picture = np.concatenate([part for row in rows for part in (row, blank(GAP, row.shape[1]))])
    _, content = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
    return content.tobytes()


def titles(strips: list[Strip]) -> np.ndarray:
    """[HEAD, W, 3] the kind of map and the cut above each tile."""
    parts = [said("true boxes")]
    for strip in strips:
        parts.append(np.concatenate([said(f"{strip.line} {strip.kind} b{cut}") for cut in strip.cuts], 1))
    return beside(parts)


def said(text: str) -> np.ndarray:
    """[HEAD, SIDE, 3] a few words, made narrow enough."""
    found = blank(HEAD, SIDE)
    width = cv2.getTextSize(text, FONT, 0.42, 1)[0][0]
    scale = 0.42 * min(1, (SIDE - 6) / width)
    cv2.putText(found, text, (2, HEAD - 7), FONT, scale, (40, 40, 40), 1, cv2.LINE_AA)
    return found


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
