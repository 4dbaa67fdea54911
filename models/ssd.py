"""SSD: default boxes of many shapes and sizes at the taps of any backbone and beyond (Liu et al., arXiv 1512.02325)."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, smooth_l1_loss
from torchvision.models.detection._utils import BoxCoder, SSDMatcher
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.ops import box_iou

from models.backbone import Backbone
from models.batchnorm import divisor_of
from models.network import DetectorNetwork, Predictions, RawDecoder
from models.yolov3 import STRIDES, tapped
from utils.boxes import Truth, cxcywh_to_xyxy

MOST_EXTRAS = 3  # maps below the taps, each half as wide: with three taps the six of SSD300
WIDEST = 512  # channels of the first of them
START = 20 / 512**0.5  # of the learnt scale behind the L2 norm: 20 for conv4_3's 512 channels, as much for each here
SMALLEST, LOW, HIGH = 0.07, 0.15, 1.05  # sides of default boxes as fractions of the image, as SSD300 on COCO has them
CODES = (10.0, 10.0, 5.0, 5.0)  # offsets of centre and size are multiplied by these; `variances` 0.1 and 0.2 in Caffe
MATCHED = 0.5  # IoU from which on a default box answers for a true one
NEGATIVES = 3  # that are learnt from for each positive
NEVER = 1e-15  # least probability of another class, in double precision


def sides(imgsz: int) -> list[int]:
    """Cells along a side of each map for an input of imgsz pixels: at the taps, then half as many until one is left."""
    found = [imgsz // stride for stride in STRIDES]
    for _ in range(MOST_EXTRAS):
        if found[-1] > 1:
            found.append(-(-found[-1] // 2))
    return found


def default_boxes(imgsz: int) -> DefaultBoxGenerator:
    """Torchvision's default boxes for the maps of an input of imgsz pixels, with SSD300's rule of sizes and shapes.

    On every map two squares and boxes of ratio 2 both ways; in the middle ones of ratio 3 too.
    """
    count = len(sides(imgsz))
    ratios = [[2, 3] if 0 < number < count - 2 else [2] for number in range(count)]
    step = (HIGH - LOW) / (count - 1)
    return DefaultBoxGenerator(ratios, scales=[SMALLEST, *(LOW + step * number for number in range(count))])


class Rescaled(nn.Module):
    """[B, C, H, W] of length 1 at every cell, times a learnt factor for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), START * channels**0.5))

    def forward(self, x: Tensor) -> Tensor:
        return normalize(x) * self.scale[:, None, None]


class SSD(DetectorNetwork):
    """Convolutions that predict 4 offsets and 1 + classes logits of each default box, the background first.

    The taps of any backbone take the place of conv4_3 and fc7: all three are brought to one length, as the paper does
    with the first, whose features are of another size than the others'.

    Args:
        imgsz: side of the input, from which the number of maps follows.

    Raises:
        UserError: the backbone has no taps.
    """

    def __init__(self, backbone: Backbone, classes: int, imgsz: int) -> None:
        channels = tapped(backbone)
        cells = sides(imgsz)
        strides = tuple(round(imgsz / own) for own in cells)
        super().__init__(backbone, classes, backbone.taps, strides, imgsz)
        self.rescale = nn.ModuleList(map(Rescaled, channels))
        widest = min(WIDEST, channels[-1])
        wide = [channels[-1], *(widest if number == 0 else widest // 2 for number in range(len(cells) - len(channels)))]
        self.extras = nn.ModuleList(halved(c_in, c_out) for c_in, c_out in pairwise(wide))
        boxes = default_boxes(imgsz).num_anchors_per_location()
        made = zip([*channels, *wide[1:]], boxes, strict=True)
        self.predict = nn.ModuleList(nn.Conv2d(own, count * (5 + classes), 3, padding=1) for own, count in made)
        for part in (self.extras, self.predict):
            part.apply(init_xavier)

    def raw(self, features: list[Tensor]) -> list[Tensor]:
        """[B, boxes · (4 + 1 + classes), h, w] of each map: for each default box its offsets, then its logits."""
        maps = [rescale(own) for rescale, own in zip(self.rescale, features, strict=True)]
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        return [predict(own) for predict, own in zip(self.predict, maps, strict=True)]


def halved(c_in: int, c_out: int) -> nn.Sequential:
    """1×1 convolution to half of c_out, 3×3 with stride 2 to c_out, each with ReLU and without BatchNorm."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out // 2, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(c_out // 2, c_out, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
    )


def init_xavier(module: nn.Module) -> None:
    """Glorot's uniform weights, biases 0."""
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        assert module.bias is not None
        nn.init.zeros_(module.bias)


class SSDDecoder(RawDecoder):
    """Offsets of default boxes → boxes: centre = default + offset · size / 10, size = default · exp(offset / 5).

    Default boxes keep their size in pixels on images of other sizes, and their centres share the image out.

    Args:
        imgsz: side of the input that the network was made for.
    """

    def __init__(self, imgsz: int) -> None:
        super().__init__()
        sizes = [own.clamp(max=1) * imgsz for own in default_boxes(imgsz)._wh_pairs]
        for number, own in enumerate(sizes):
            self.register_buffer(f"sizes{number}", own, persistent=False)
        self.limit = BoxCoder(CODES).bbox_xform_clip

    @property
    def sizes(self) -> list[Tensor]:
        """Of each map [boxes, 2] width × height of its default boxes in pixels."""
        return list(self.buffers())

    def flat(self, raw_maps: list[Tensor]) -> Tensor:
        """[B, N, 4 + 1 + classes], order: map, row, column, default box."""
        parts = []
        for raw, own in zip(raw_maps, self.sizes, strict=True):
            batch, channels, height, width = raw.shape
            cells = raw.reshape(batch, len(own), channels // len(own), height * width)
            parts.append(cells.permute(0, 3, 1, 2).flatten(1, 2))
        return torch.cat(parts, 1).float()

    def defaults(self, raw_maps: list[Tensor]) -> Tensor:
        """[N, 4] centre and size of the default boxes in pixels, in the order of `flat`."""
        parts = []
        height, width = (STRIDES[0] * side for side in raw_maps[0].shape[2:])
        for raw, own in zip(raw_maps, self.sizes, strict=True):
            rows, columns = raw.shape[2:]
            y = (torch.arange(rows, device=raw.device) + 0.5) * (height / rows)
            x = (torch.arange(columns, device=raw.device) + 0.5) * (width / columns)
            centre = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).view(rows * columns, 1, 2)
            shape = (rows * columns, len(own), 2)
            parts.append(torch.cat([centre.expand(shape), own.expand(shape)], -1).flatten(0, 1))
        return torch.cat(parts)

    def counts(self, raw_maps: list[Tensor]) -> list[int]:
        return [len(own) * raw.shape[2] * raw.shape[3] for raw, own in zip(raw_maps, self.sizes, strict=True)]

    def boxes_cxcywh(self, flat: Tensor, raw_maps: list[Tensor]) -> Tensor:
        """[B, N, 4] centre and size in pixels, of flat predictions [B, N, 4 or more]."""
        defaults, scale = self.defaults(raw_maps), flat.new_tensor(CODES)
        centre = flat[..., :2] / scale[:2] * defaults[:, 2:] + defaults[:, :2]
        size = (flat[..., 2:4] / scale[2:]).clamp(max=self.limit).exp() * defaults[:, 2:]
        return torch.cat([centre, size], -1)

    def parts(self, raw_maps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Objectness: all classes together against the background; class: softmax over the classes alone."""
        flat = self.flat(raw_maps)
        return self.boxes_cxcywh(flat, raw_maps), objectness(flat).sigmoid()[..., None], flat[..., 5:].softmax(-1)

    def predictions(self, raw_maps: list[Tensor]) -> Predictions:
        flat = self.flat(raw_maps)
        return Predictions(self.boxes_cxcywh(flat, raw_maps), objectness(flat), against_others(flat[..., 5:]))


def objectness(flat: Tensor) -> Tensor:
    """[B, N] logit of all classes together against the background."""
    return flat[..., 5:].logsumexp(-1) - flat[..., 4]


def against_others(logits: Tensor) -> Tensor:
    """[..., classes] the logit of each probability of a softmax; large and finite where there is one class only."""
    log = logits.double().log_softmax(-1)
    return (log - (-log.expm1()).clamp(min=NEVER).log()).to(logits.dtype)


class SSDLoss(nn.Module):
    """Smooth L1 of the offsets of positives, cross-entropy of positives and of the hardest three times as many others.

    Sums over the batch over the number of its positives (eq. 1), that of all processes. A default box is positive where
    it overlaps a true one by half, and the one that each true box overlaps most; both by torchvision's matcher.
    """

    def __init__(self, decoder: SSDDecoder) -> None:
        super().__init__()
        self.decoder = decoder
        self.coder, self.matcher = BoxCoder(CODES), SSDMatcher(MATCHED)

    def forward(self, raw_maps: list[Tensor], truth: Truth) -> dict[str, Tensor]:
        """Scalars `box`, `class`; their sum is the loss. Finite with no boxes at all.

        Args:
            raw_maps: of SSD, any float type; computed in float32.
        """
        flat = self.decoder.flat(raw_maps)
        defaults = cxcywh_to_xyxy(self.decoder.defaults(raw_maps))
        target = torch.zeros(flat.shape[:2], dtype=torch.long, device=flat.device)  # 0 is the background
        box = flat.new_zeros(())
        for index in range(len(flat)):
            mine = truth.sample == index
            boxes, labels = truth.boxes_xyxy[mine], truth.labels[mine]
            if not len(boxes):
                continue
            matched = self.matcher(box_iou(boxes, defaults))
            positive = matched >= 0
            wanted = self.coder.encode_single(boxes[matched[positive]], defaults[positive])
            box = box + smooth_l1_loss(flat[index, positive, :4], wanted, reduction="sum")
            target[index, positive] = labels[matched[positive]] + 1
        count = divisor_of((target > 0).sum())
        return {"box": box / count, "class": mined(flat[..., 4:], target) / count}


def mined(logits: Tensor, target: Tensor) -> Tensor:
    """Sum of the cross-entropy over positives and the NEGATIVES times as many worst others of each image.

    Args:
        logits: [B, N, 1 + classes].
        target: [B, N], 0 for the background.
    """
    loss = cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view_as(target)
    positive = target > 0
    with torch.no_grad():
        rank = loss.masked_fill(positive, -torch.inf).sort(1, descending=True)[1].sort(1)[1]
        hard = rank < NEGATIVES * positive.sum(1, keepdim=True)
    return loss[positive | hard].sum()
