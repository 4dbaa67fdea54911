"""YOLOv1 as a detector: four convolutions and two fully connected layers on any backbone (arXiv 1506.02640)."""

from torch import Tensor, nn

from models.backbone import Backbone
from models.layers import init_leaky
from models.network import DetectorNetwork, Predictions, RawDecoder
from models.plan import shapes_at
from models.yolov1 import BOX, YOLOv1Loss, cell_truth, cells_of, image_boxes
from utils.boxes import Truth, xyxy_to_cxcywh
from utils.errors import UserError

CELLS, BOXES = 7, 2  # S and B of the paper
WIDEST, WIDER = 1024, 4  # channels of the convolutions at most, and how many times as many the hidden layer has
DROPOUT = 0.5
SIZES = (224, 448)  # of the input in the paper: what it is pre-trained at, and what it detects at
EDGE = 1e-3  # of 0 and 1, beyond which the logit continues as a straight line


class YOLOv1(DetectorNetwork):
    """Reads the last features, and predicts two boxes and the class of each of 7 × 7 cells.

    At DarkNet-53's 1,024 channels the layers are the paper's: four 3×3 convolutions of 1,024 channels with leaky ReLU,
    the second with stride 2 where the features have 14 × 14 cells; 4,096 hidden units, dropout, a linear layer.

    Args:
        imgsz: side of the input; it takes no other.

    Raises:
        UserError: the backbone has neither 14 × 14 nor 7 × 7 cells at this size.
    """

    def __init__(self, backbone: Backbone, classes: int, imgsz: int) -> None:
        stride = stride_at(backbone, imgsz)
        last = len(backbone.blocks)
        super().__init__(backbone, classes, (last,), (imgsz // CELLS,), imgsz)
        wide = min(WIDEST, backbone.channels[-1])
        self.convolutions = nn.Sequential(
            Convolution(backbone.channels[-1], wide),
            Convolution(wide, wide, stride),
            Convolution(wide, wide),
            Convolution(wide, wide),
        )
        self.connected = nn.Sequential(
            nn.Flatten(),
            nn.Linear(CELLS**2 * wide, WIDER * wide),
            nn.LeakyReLU(0.1),
            nn.Dropout(DROPOUT),
            nn.Linear(WIDER * wide, CELLS**2 * (BOX * BOXES + classes)),
        )

    def raw(self, features: list[Tensor]) -> list[Tensor]:
        """[B, 2 · 5 + classes, 7, 7]: of each box x, y in its cell, √w, √h, confidence; then the classes."""
        found: Tensor = self.connected(self.convolutions(features[0]))
        return [found.view(-1, BOX * BOXES + self.classes, CELLS, CELLS)]


class Convolution(nn.Sequential):
    """3×3 convolution, leaky ReLU 0.1."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__(nn.Conv2d(c_in, c_out, 3, stride, padding=1), nn.LeakyReLU(0.1, inplace=True))
        self.apply(init_leaky)


def last_side(backbone: Backbone, imgsz: int) -> int:
    """Cells along a side of the last features; 0 where they are no square or the backbone does not take the size."""
    try:
        _, height, width = shapes_at(backbone, (imgsz, imgsz))[-1]
    except (RuntimeError, ValueError, AssertionError):
        return 0
    return height if height == width else 0


def stride_at(backbone: Backbone, imgsz: int) -> int:
    """Stride that makes 7 × 7 cells of the last features.

    Raises:
        UserError: none does.
    """
    side = last_side(backbone, imgsz)
    if side in (CELLS, 2 * CELLS):
        return side // CELLS
    fits = [str(own) for own in SIZES if last_side(backbone, own) in (CELLS, 2 * CELLS)]
    what = f"yolov1's head is made for 7 × 7 or 14 × 14 cells, and {type(backbone).__name__} has {side} × {side}"
    hint = f"give {' or '.join(fits)}" if fits else "give another --backbone or --detector"
    raise UserError(f"{imgsz}: {what}", where="--imgsz", hint=hint)


class CellDecoder(RawDecoder):
    """Numbers of 7 × 7 cells → boxes within the image; confidence and class within 0–1.

    Args:
        imgsz: side of the input in pixels.
    """

    def __init__(self, imgsz: int) -> None:
        super().__init__()
        self.imgsz = imgsz

    def counts(self, raw_maps: list[Tensor]) -> list[int]:
        return [BOXES * CELLS**2]

    def cells(self, raw_maps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes [B, N, 4] as centre and size in pixels, confidence [B, N] and classes [B, N, classes] as they are."""
        predicted, classes = cells_of(raw_maps[0].float(), BOXES)
        boxes = xyxy_to_cxcywh(image_boxes(predicted) * self.imgsz)
        repeated = classes.flatten(1, 2)[:, :, None].expand(-1, -1, BOXES, -1)  # N: row, column, box
        return boxes, predicted[..., 4].flatten(1), repeated.flatten(1, 2)

    def parts(self, raw_maps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        boxes, confidence, classes = self.cells(raw_maps)
        return boxes, confidence.clamp(0, 1)[..., None], classes.clamp(0, 1)

    def predictions(self, raw_maps: list[Tensor]) -> Predictions:
        """The logits are those of numbers that were learnt as probabilities themselves."""
        boxes, confidence, classes = self.cells(raw_maps)
        return Predictions(boxes, straight_logit(confidence), straight_logit(classes))


def straight_logit(share: Tensor) -> Tensor:
    """The logit between EDGE and 1 − EDGE, and its tangent beyond, so that no gradient ends there."""
    within = share.clamp(EDGE, 1 - EDGE)
    return within.logit() + (share - within) / (EDGE * (1 - EDGE))


class CellLoss(nn.Module):
    """YOLOv1's five terms of raw maps against true boxes in pixels."""

    def __init__(self, decoder: CellDecoder, classes: int) -> None:
        super().__init__()
        self.decoder, self.loss = decoder, YOLOv1Loss(BOXES, classes)

    def forward(self, raw_maps: list[Tensor], truth: Truth) -> dict[str, Tensor]:
        """Scalars `centre`, `size`, `object`, `no_object`, `classes`; their sum is the loss."""
        raw = raw_maps[0].float()
        return self.loss(raw, cell_truth(truth, len(raw), CELLS, self.decoder.imgsz))  # type: ignore[no-any-return]
