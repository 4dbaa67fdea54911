"""Detectors explained: every answer that is asked for at every tap, measured against the true boxes, in one study."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import torch

from evaluation.accuracy import line_names
from maps.cells import largest_cell
from maps.detector_audit import audit
from maps.detector_cases import BoxCases, Choose, Targets
from maps.detector_kinds import DETECTOR_MAPS, detector_explanations
from maps.detector_network import Answers, ExplainedDetector
from maps.detector_plan import DetectorFile, DetectorPlan
from maps.detector_tables import beside as beside_of
from maps.drise import Masks
from maps.evidence import Evidence
from maps.granulometry import radii_for
from maps.localise import SEED, Cases, Column, Study, baseline_columns, fill, mean_boxes
from maps.networks import UNTRAINED
from models.backbones import make_backbone
from models.inference import fold_batchnorm
from models.network import DetectorNetwork
from utils.device import keep_memory
from utils.seed import seed_process


def run_detectors(plan: DetectorPlan) -> Study:
    """Explain and measure; memory does not grow with the images but by their values.

    Detectors of every architecture with new weights are explained beside the trained ones, at the very answers that are
    explained of the first one of that architecture: an answer depends on what surrounds its cell, whatever the weights
    are, and so much of a map's place is the architecture's.
    """
    keep_memory()
    networks = [explained(file, plan) for file in plan.detectors]
    every = [network.cells(plan.view.imgsz) for network in networks]
    cell = largest_cell((own, plan.coarse_taps(own)) for own in every)
    plan = replace(plan, rule=replace(plan.rule, radii=radii_for(plan.view.imgsz, cell)))
    named = list(zip(line_names(plan.detectors), plan.detectors, networks, strict=True))
    beside = untrained_lines(plan.detectors)
    columns = [
        column
        for line, file, network in named
        for column in columns_of(plan, network, line, file.seed, plan.choose, beside[file.settings])
    ]
    for settings, line in beside.items():
        file, like = next((file, network) for _, file, network in named if file.settings == settings)
        for seed in range(plan.untrained):
            columns += columns_of(plan, untrained(file, seed, plan), line, seed, as_of(like, plan), line)
    columns += baseline_columns(mean_boxes(plan))
    pairs, shares = fill(columns, plan.cases(plan.split.records, "maps"), plan.rule)
    audits = [audit(plan, network, line, file) for line, file, network in named]
    return Study(plan, columns, pairs, shares, beside_of(plan, networks[0], audits))


def untrained_lines(files: Sequence[DetectorFile]) -> dict[tuple[str, ...], str]:
    """Settings of each architecture among files → the line of the detectors like it that learnt nothing."""
    own = {file.settings: replace(file, method=UNTRAINED) for file in files}
    return dict(zip(own, line_names(list(own.values())), strict=True))


def as_of(network: ExplainedDetector, plan: DetectorPlan) -> Choose:
    """The answers that are explained of another detector."""

    def choose(_: Answers, cases: BoxCases) -> Targets:
        with torch.no_grad():
            return plan.choose(network(cases.images.to(plan.device)), cases)

    return choose


def columns_of(
    plan: DetectorPlan, network: ExplainedDetector, line: str, seed: int, choose: Choose, beside: str
) -> list[Column]:
    """A column for each kind of map of a detector.

    Args:
        beside: the line of the detectors that are like it and learnt nothing.
    """
    masks = Masks.draw(plan.masks, SEED)

    def explain(cases: Cases) -> dict[str, list[Evidence]]:
        assert isinstance(cases, BoxCases), "a DetectorPlan gives these"
        return detector_explanations(network, cases, plan.kinds, choose, masks, plan.device)

    coarse = plan.coarse_taps(network.cells(plan.view.imgsz))
    return [
        Column(
            line, seed, kind, own.cuts(network.taps), explain,
            coarse=coarse if own.at_taps else frozenset(), untrained=beside,
        )
        for kind, own in ((kind, DETECTOR_MAPS[kind]) for kind in plan.kinds)
    ]  # fmt: skip


def explained(file: DetectorFile, plan: DetectorPlan) -> ExplainedDetector:
    """The network of a file, ready to be explained."""
    return ready(file.detector.model, file, plan)


def untrained(file: DetectorFile, seed: int, plan: DetectorPlan) -> ExplainedDetector:
    """A network like that of a file, with new weights: the same in every run."""
    recipe = file.detector.recipe
    seed_process(seed)
    backbone = make_backbone(recipe.get("backbone", "darknet53"), recipe.get("width", 1.0), file.detector.in_channels)
    return ready(file.detector.entry.network(backbone, file.detector.settings), file, plan)


def ready(model: DetectorNetwork, file: DetectorFile, plan: DetectorPlan) -> ExplainedDetector:
    """A copy where it computes, in the order of memory that suits convolutions, BatchNorm folded into them."""
    own = deepcopy(model)
    fold_batchnorm(own)
    network = ExplainedDetector(own, deepcopy(file.detector.decoder), aligned=not plan.stretched)
    return network.to(plan.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
