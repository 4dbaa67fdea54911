import torch
from torch import Tensor, nn

from models.decode import Decoder
from models.test_time import augmented
from models.yolov3 import scaled_anchors


class Bright(nn.Module):
    """A network that sees one thing: the brightest cell, at stride 8, as a box of the first anchor."""

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = [torch.full((len(images), 18, images.shape[2] // s, images.shape[3] // s), -9.0) for s in (8, 16, 32)]
        cells = nn.functional.avg_pool2d(images.mean(1), 8)
        for image, own in enumerate(cells):
            row, column = divmod(int(own.argmax()), own.shape[1])
            maps[0][image, :, row, column] = torch.tensor([0.0, 0, 0, 0, 9, 9] + [-9.0] * 12)
        return maps


def test_views_are_turned_back() -> None:
    images = torch.zeros(1, 3, 128, 128)
    images[..., 96:104, 24:32] = 1
    decoder = Decoder(scaled_anchors(128))
    bright = Bright()
    boxes, scores = augmented(lambda view: decoder(bright(view)), images)
    found = boxes[0, scores[0, :, 0] > 0.5]
    assert len(found) == 3
    assert (found[:, 0] - 28).abs().max() <= 8
    assert (found[:, 1] - 100).abs().max() <= 8
    # An anchor keeps its pixels in a smaller view: back in the image the box is larger.
    assert found[:, 2].tolist() == sorted(found[:, 2].tolist())
