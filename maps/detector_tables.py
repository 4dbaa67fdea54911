"""What a report on detectors says besides its measures: what taps can resolve, what was explained, what was found."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from data.records import Record
from maps.cells import FEWEST as FEWEST_CELLS
from maps.cells import short_sides
from maps.detector_audit import MISSED, OWN_BOX, Audit
from maps.detector_cases import OUTCOMES, OVERLAP
from maps.detector_kinds import DETECTOR_MAPS
from maps.detector_network import ExplainedDetector
from maps.detector_plan import DetectorPlan
from maps.localise import Beside, Row
from utils.letterbox import Letterbox
from utils.text import NOTHING, as_number

Table = list[list[str]]


def beside(plan: DetectorPlan, network: ExplainedDetector, audits: Sequence[Audit]) -> Beside:
    """Notes, tables, numbers and sheets of a study of detectors."""
    taps = tap_rows(plan, network)
    tables = [("What each tap can resolve", as_table(taps)), ("What is explained", answer_table(audits))]
    sheets: dict[str, list[Row]] = {}
    if plan.explain_boxes == "detections":
        tables += [("What was found", found_table(audits)), ("Maps against the box that each detection claims",
                    claim_table(plan, network, audits))]  # fmt: skip
        sheets["detections"] = [{"line": own.line, "seed": own.seed, **row} for own in audits for row in own.detections]
    answers = [in_numbers(own) for own in audits]
    numbers: dict[str, Any] = {"explain_boxes": plan.explain_boxes, "taps": taps, "answers": answers}
    if "drise" in plan.kinds:
        numbers["masks"] = plan.masks
    return Beside(notes(plan), tables, numbers, sheets)


def notes(plan: DetectorPlan) -> list[str]:
    """Lines below the heading: what was explained, what the letters mean, what is left out."""
    true = (
        "Explained is the highest score of the class among the answers that its true boxes can claim: those that "
        f"overlap one by {OVERLAP} IoU or more, and the one that overlaps each most"
    )
    found = (
        f"Explained is the detection (score above {plan.thresholds.conf_thres:g}) that hits the true box by {OVERLAP} "
        "IoU or more; boxes without one are counted as not found"
    )
    said = [
        f"{true if plan.explain_boxes == 'true' else found}, as the logit of objectness · class",
        "Taps are explained through neck and heads alone; one that cannot change an answer has no influence on it, "
        "which is counted and not measured. b0 is the image itself",
        "Finer heads answer for smaller boxes, so that a tap's cases are its own: compare it with `untrained`, which "
        "has the first detector's answers, and not with the baselines, which are over all cases",
    ]
    if plan.unboxed:
        said.append(f"{plan.unboxed} images without a box are left out, and so is whatever was found there")
    return said


FEW = f"pictures with fewer than {FEWEST_CELLS} × {FEWEST_CELLS} cells"


def tap_rows(plan: DetectorPlan, network: ExplainedDetector) -> list[Row]:
    """A row for each tap: its cells, which heads it reaches, and how coarse it is for these pictures and boxes."""
    records, imgsz = plan.split.records, plan.view.imgsz
    fits = [Letterbox.fit(record.size_hw, imgsz) for record in records]
    sides = np.concatenate([narrow_sides(own) * fit.scale for own, fit in zip(records, fits, strict=True)])
    rows: list[Row] = []
    lengths = short_sides(plan.view, records)
    for tap, cells in network.cells(imgsz).items():
        rows.append(
            {
                "tap": f"b{tap}",
                "pixels a cell": round(cells.stride),
                "cells": f"{cells.count} × {cells.count}",
                "reaches heads": ", ".join(f"/{own}" for own in network.reach[tap]),
                FEW: int((cells.inside(lengths, imgsz) < FEWEST_CELLS).sum()),
                "boxes narrower than a cell": int((sides < cells.stride).sum()),
            }
        )
    return rows


def narrow_sides(record: Record) -> np.ndarray:
    """[n] the shorter side of each true box that may be explained, in pixels of the image."""
    own = record.boxes_xyxy[record.asked]
    return np.asarray(np.minimum(own[:, 2] - own[:, 0], own[:, 3] - own[:, 1]))


def as_table(rows: Sequence[Row]) -> Table:
    """Rows of the same keys."""
    return [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]


def answer_table(audits: Sequence[Audit]) -> Table:
    """Of each detector which heads gave the explained answers, and how sure they are."""
    strides = sorted({stride for own in audits for stride in own.strides})
    heads = [f"at the /{stride} head" for stride in strides]
    table = [["detector", "seed", "mAP50 in training", "explained", *heads, "median score"]]
    for own in audits:
        counts = [str(own.at_head(stride)) if stride in own.strides else NOTHING for stride in strides]
        median, explained = as_number(own.median_score, ".3f"), str(len(own.answers))
        table.append([own.line, str(own.seed), as_number(own.map50, ".3f"), explained, *counts, median])
    return table


def found_table(audits: Sequence[Audit]) -> Table:
    """Of each detector how many detections are what, and how many true boxes it missed."""
    kinds = (*OUTCOMES, MISSED)
    rows = [[own.line, str(own.seed), *(str(len(own.of(kind))) for kind in kinds)] for own in audits]
    return [["detector", "seed", *kinds], *rows]


def claim_table(plan: DetectorPlan, network: ExplainedDetector, audits: Sequence[Audit]) -> Table:
    """Fraction of the evidence inside the box that detections claim, by outcome; means of what is there."""
    keys = [f"{kind}_b{tap}" for kind in plan.kinds if DETECTOR_MAPS[kind].at_taps for tap in network.taps]
    titles = [f"{DETECTOR_MAPS[kind].title}, b{tap}" for kind, tap in (key.rsplit("_b", 1) for key in keys)]
    table = [["detector", "seed", "detections", "count", "mean score", *titles]]
    for own in audits:
        for outcome in OUTCOMES:
            rows = own.of(outcome)
            means = [mean_of(rows, name) for name in ("score", *(f"{key}_{OWN_BOX[1]}" for key in keys))]
            table.append([own.line, str(own.seed), outcome, str(len(rows)), *means])
    return table


def mean_of(rows: Sequence[Row], name: str) -> str:
    """Of the rows that have a value."""
    values = [float(row[name]) for row in rows if name in row]
    return as_number(float(np.mean(values)) if values else None, ".3f")


def in_numbers(own: Audit) -> dict[str, Any]:
    """An audit for the JSON file."""
    counts = {kind: len(own.of(kind)) for kind in (*OUTCOMES, MISSED)} if own.detections else {}
    heads = {f"/{stride}": own.at_head(stride) for stride in own.strides}
    about = {"line": own.line, "seed": own.seed, "map50": own.map50, "explained": len(own.answers)}
    return {**about, "heads": heads, "median_score": own.median_score, "detections": counts}
