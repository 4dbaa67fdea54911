from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam, Saliency
from pytorch_grad_cam import LayerCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torchcam.methods import LayerCAM as TorchLayerCAM

from data.records import Record
from data.views import View
from maps.detector_cases import (
    BoxCases,
    Ignored,
    Scene,
    Targets,
    best_assigned,
    detected,
    of_predictions,
    outcomes,
)
from maps.detector_kinds import detector_explanations
from maps.detector_network import Answers, ExplainedDetector, score_logits
from maps.drise import Masks
from maps.evidence import NO_INFLUENCE, NOT_FOUND
from maps.measures import Rule, measure
from maps.overlap import box_mask
from models.darknet import DarkNet, DarkNetConfig
from models.decode import Decoder, Thresholds
from models.yolov3 import YOLOv3, scaled_anchors

CLASSES, SIZE = 3, 64
CELLS = [3 * (SIZE // stride) ** 2 for stride in (8, 16, 32)]  # predictions of each head
AT = torch.tensor([70, CELLS[0] + 20, CELLS[0] + CELLS[1] + 5])  # one of each head
LABELS = torch.tensor([0, 2, 1])
KINDS = ("gradcam", "layercam", "saliency")


@pytest.fixture(scope="module")
def network() -> ExplainedDetector:
    torch.manual_seed(0)
    model = YOLOv3(DarkNet(DarkNetConfig(width=0.125)), CLASSES)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    for head in model.heads:
        nn.init.normal_(head.predict.weight, std=0.3)
    return ExplainedDetector(model.eval(), Decoder(scaled_anchors(SIZE)))


def cases_of(images: Tensor, scenes: list[Scene], own: list[list[int]]) -> BoxCases:
    boxes = [scene.boxes_xyxy[one].numpy() for scene, one in zip(scenes, own, strict=True)]
    labels = torch.tensor([int(scene.labels[one[0]]) for scene, one in zip(scenes, own, strict=True)])
    truth = np.stack([box_mask(one, *images.shape[2:]) for one in boxes])
    return BoxCases(images, labels, truth, boxes, np.arange(len(images)), scenes, [np.array(one) for one in own])


@pytest.fixture
def cases() -> BoxCases:
    scene = Scene(torch.tensor([[8.0, 8, 40, 40]]), torch.tensor([0]))
    return cases_of(torch.rand(3, 3, SIZE, SIZE), [scene] * 3, [[0]] * 3)


def given(answers: Answers, _: BoxCases) -> Targets:
    return of_predictions(answers, AT, LABELS)


class Whole(nn.Module):
    """The detector as libraries for classifiers want it: a logit for every prediction and class; layers to hook."""

    def __init__(self, network: ExplainedDetector) -> None:
        super().__init__()
        self.network = network
        self.reads = nn.ModuleList(nn.Identity() for _ in network.taps)

    def forward(self, images: Tensor) -> Tensor:
        # A copy is what the neck alone reads: deeper blocks read the original.
        taps = [read(own.clone()) for read, own in zip(self.reads, self.network.read(images), strict=True)]
        answers = self.network.answers(taps)
        return score_logits(answers.objectness[..., None], answers.classes).flatten(1).float()


INDEX = (AT * CLASSES + LABELS).tolist()  # among its outputs


def test_a_tap_reaches_its_head_and_all_finer_ones(network: ExplainedDetector) -> None:
    assert network.reach == {11: (8,), 19: (8, 16), 23: (8, 16, 32)}


def test_answers_are_those_of_the_detector(network: ExplainedDetector, cases: BoxCases) -> None:
    answers = network(cases.images)
    boxes, scores = network.decoder(network.model(cases.images))
    torch.testing.assert_close(answers.scores, scores)
    torch.testing.assert_close((answers.boxes_xyxy[..., 2:] - answers.boxes_xyxy[..., :2]), boxes[..., 2:])
    assert [int((answers.strides == stride).sum()) for stride in (8, 16, 32)] == CELLS


def test_the_logit_of_a_score_does_not_saturate() -> None:
    pair = torch.tensor([[0.3, -2.0], [30, 30], [-40, 2], [25, -30], [-60, -60]], requires_grad=True)
    logits = score_logits(pair[:, 0], pair[:, 1])
    score = pair[0].double().sigmoid().prod()
    torch.testing.assert_close(logits[0], (score / (1 - score)).log())
    (slopes,) = torch.autograd.grad(logits.sum(), pair)
    assert ((slopes >= 0) & (slopes <= 1 + 1e-6)).all()
    assert ((slopes.sum(1) >= 1 - 1e-6) & (slopes.sum(1) <= 2 + 1e-6)).all()


def test_grad_cam_and_saliency_are_captums(network: ExplainedDetector, cases: BoxCases) -> None:
    found = detector_explanations(network, cases, KINDS, given, Masks.draw(1, 0), "cpu")
    whole = Whole(network)
    for tap, own in enumerate(found["gradcam"]):
        wanted = LayerGradCam(whole, whole.reads[tap]).attribute(cases.images, INDEX, relu_attributions=True)[:, 0]
        torch.testing.assert_close(own.maps, wanted, rtol=1e-5, atol=1e-7)
    wanted = Saliency(whole).attribute(cases.images.clone().requires_grad_(), INDEX).amax(1)
    torch.testing.assert_close(found["saliency"][0].maps, wanted, rtol=1e-4, atol=1e-6)


def test_layer_cam_is_that_of_torchcam_and_pytorch_grad_cam(network: ExplainedDetector, cases: BoxCases) -> None:
    found = detector_explanations(network, cases, ["layercam"], given, Masks.draw(1, 0), "cpu")["layercam"]
    whole = Whole(network)
    for tap, own in enumerate(found):
        with TorchLayerCAM(whole, target_layer=whole.reads[tap], input_shape=(3, SIZE, SIZE)) as peer:
            raw = peer(INDEX, whole(cases.images.clone().requires_grad_()), normalized=False)[0]
        torch.testing.assert_close(own.maps, raw, rtol=1e-5, atol=1e-7)
    with LayerCAM(whole, [whole.reads[2]]) as other:
        scaled = other(cases.images.clone().requires_grad_(), [ClassifierOutputTarget(index) for index in INDEX])
    size = (SIZE, SIZE)
    mine = nn.functional.interpolate(own.maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    low, high = mine.amin((1, 2), keepdim=True), mine.amax((1, 2), keepdim=True)
    np.testing.assert_allclose(scaled, ((mine - low) / (high - low)).numpy(), atol=2e-4)


def test_a_tap_without_influence_is_counted_and_not_measured(network: ExplainedDetector, cases: BoxCases) -> None:
    found = detector_explanations(network, cases, KINDS, given, Masks.draw(1, 0), "cpu")
    for kind in ("gradcam", "layercam"):
        absent = [own.absent.tolist() for own in found[kind]]
        assert absent == [[0, NO_INFLUENCE, NO_INFLUENCE], [0, 0, NO_INFLUENCE], [0, 0, 0]], kind
    values = measure(found["layercam"][0], cases.truth, cases.boxes, Rule())
    assert values["no_influence"].tolist() == [0, 1, 1]
    for name in ("iou", "mass", "pointing", "degenerate"):
        assert np.isnan(values[name]).tolist() == [False, True, True], name
    assert found["saliency"][0].absent.tolist() == [0, 0, 0], "the image has an influence on everything"


def test_what_was_not_found_is_not_explained(network: ExplainedDetector, cases: BoxCases) -> None:
    def some(answers: Answers, _: BoxCases) -> Targets:
        return of_predictions(answers, torch.tensor([70, -1, 80]), LABELS)

    found = detector_explanations(network, cases, (*KINDS, "drise"), some, Masks.draw(4, 0), "cpu")
    for own in (one for maps in found.values() for one in maps):
        assert own.absent is not None
        assert own.absent[1] == NOT_FOUND
        values = measure(own, cases.truth, cases.boxes, Rule())
        assert values["not_found"].tolist() == [0, 1, 0]
        assert np.isnan(values["iou"][1])


def logits_of(boxes: list[list[float]], scores: list[list[float]]) -> Answers:
    """Answers with these boxes, sure that there is an object, and these probabilities of the classes."""
    probabilities = torch.tensor([scores]).clamp(1e-6, 1 - 1e-6)
    count = len(boxes)
    return Answers(torch.tensor([boxes]), torch.full((1, count), 20.0), probabilities.logit(), torch.full((count,), 8))


def test_the_best_answer_that_true_boxes_can_claim() -> None:
    boxes = [[0.0, 0, 10, 10], [0, 0, 9, 10], [30, 30, 40, 40], [30, 30, 44, 44], [50, 50, 60, 60]]
    answers = logits_of(boxes, [[0.2, 0.9], [0.6, 0.1], [0.1, 0.1], [0.3, 0.9], [1, 1]])
    scene = Scene(torch.tensor([[0.0, 0, 10, 10], [30, 30, 38, 38]]), torch.tensor([0, 0]))
    image = torch.zeros(1, 3, SIZE, SIZE)
    assert best_assigned(answers, cases_of(image, [scene], [[0, 1]])).prediction.tolist() == [1], "not the best overlap"
    only = best_assigned(answers, cases_of(image, [scene], [[1]]))
    assert only.prediction.tolist() == [2], "the surer one overlaps by less than a half"
    assert only.boxes_xyxy.tolist() == [[30, 30, 38, 38]]
    assert only.classes.tolist() == [[1, 0]]
    apart = Scene(torch.tensor([[12.0, 12, 20, 20]]), torch.tensor([1]))
    assert best_assigned(answers, cases_of(image, [apart], [[0]])).prediction.tolist() == [-1]


def test_each_detection_is_named() -> None:
    scene = Scene(torch.tensor([[0.0, 0, 20, 20], [30, 30, 50, 50]]), torch.tensor([0, 1]))
    boxes = [[0.0, 0, 20, 19], [0, 0, 20, 13], [30, 30, 50, 50], [30, 44, 50, 64], [0, 50, 9, 60], [30, 31, 50, 51]]
    scores = [[0.9, 0], [0.8, 0], [0.7, 0], [0, 0.6], [0.5, 0], [0, 0.4]]
    answers = logits_of(boxes, scores)
    found = outcomes(answers, 0, scene, Thresholds(0.25, 0.9, multi_label=False))
    assert [(own.kind, own.truth) for own in found] == [
        ("hit", 0),
        ("duplicate", 0),
        ("wrong class", 1),
        ("poorly placed", 1),
        ("background", -1),
        ("hit", 1),
    ]
    assert [own.prediction for own in found] == [0, 1, 2, 3, 4, 5]
    few = outcomes(answers, 0, scene, Thresholds(0.45, 0.9, multi_label=False))
    assert len(few) == 5
    image = torch.zeros(2, 3, SIZE, SIZE)
    both = cases_of(image, [scene] * 2, [[0], [1]])
    both = BoxCases(**{**vars(both), "record": np.array([0, 0])})
    twice = Answers(answers.boxes_xyxy.repeat(2, 1, 1), answers.objectness.repeat(2, 1),
                    answers.classes.repeat(2, 1, 1), answers.strides)  # fmt: skip
    assert detected(Thresholds(0.25, 0.9, multi_label=False))(twice, both).prediction.tolist() == [0, 5]
    assert detected(Thresholds(0.45, 0.9, multi_label=False))(twice, both).prediction.tolist() == [0, -1]
    assert [own.kind for own in outcomes(answers, 0, Scene(torch.zeros(0, 4), torch.zeros(0)), Thresholds(0.8))] == [
        "background"
    ]


def test_what_is_on_a_difficult_box_or_in_a_crowd_is_left_out() -> None:
    """Boxes of a picture of 100 × 50 pixels, shown at twice that, 50 pixels from the top."""
    boxes = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 90, 50]], np.float32)
    flags = np.array([False, True, False]), np.array([False, False, True])
    record = Record(Path("x.png"), (50, 100), boxes, np.array([0, 0, 1]), flags[0], crowd=flags[1])
    record = replace(record, difficult=flags[0], crowd=flags[1])
    ignored = Ignored.of(record, View("pictures", 200))
    assert ignored is not None
    assert ignored.boxes_xyxy.tolist() == [[40, 50, 60, 70], [80, 50, 180, 150]]
    assert Ignored.of(replace(record, difficult=flags[0] & False, crowd=None), View("pictures", 200)) is None
    found = [[0.0, 50, 20, 70], [40, 50, 60, 70], [45, 50, 65, 70], [100, 80, 110, 90], [100, 80, 110, 90]]
    answers = logits_of(found, [[0.9, 0], [0.8, 0], [0.7, 0], [0, 0.6], [0.5, 0]])
    scene = Scene(torch.tensor([[0.0, 50, 20, 70]]), torch.tensor([0]), ignored)
    thresholds = Thresholds(0.25, 0.9, multi_label=False)
    assert [own.kind for own in outcomes(answers, 0, scene, thresholds)] == ["hit", "background"]
    assert len(outcomes(answers, 0, replace(scene, ignored=None), thresholds)) == 5
