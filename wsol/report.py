"""The comparison as a table, a plot, a page of pictures, JSON, and the boxes by image."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from evaluation.learnt import NOT_TESTED
from maps.cells import FEWEST
from maps.levels import verdict
from maps.plan import Plan
from maps.plotting import as_csv
from utils.errors import UserError
from utils.files import json_text, make_folder, write_text
from utils.text import NOTHING, as_markdown, as_terminal
from wsol.compare import Comparison, Trial, compare
from wsol.judge import (
    ACCURACY,
    AHEAD,
    BY_CLASS,
    FALSE,
    OVER_CAM,
    OVER_CENTRE,
    OVER_CONTROL,
    OVER_UNTRAINED,
    SUBSET,
    Row,
    Value,
    begins_as,
    judge,
    taken_apart,
)
from wsol.methods import BASELINES, METHODS, all_blind, wants_boxes
from wsol.mined_pictures import save_mining
from wsol.pictures import save_boxes, save_examples, save_plot
from wsol.pipeline_picture import Pipeline, save_pipeline
from wsol.ranked import DENOMINATORS, Published, Ranked, ranked_lists, ranked_table, read_published

__all__ = ["compare_and_report", "read_published", "wanted"]

DIFFERENCES = {
    AHEAD: "ahead",
    OVER_CENTRE: "over centre",
    OVER_UNTRAINED: "over untrained",
    OVER_CAM: "over CAM",
    OVER_CONTROL: "over control",
}
OVER = {
    OVER_CENTRE: "the centre box's",
    OVER_UNTRAINED: "that of the same method on networks that learnt nothing, or of CAM for mining",
    OVER_CAM: "CAM's on the same networks",
    OVER_CONTROL: "that of mining with nothing erased",
}
BOUNDS = {"map50": "mAP50, class known", "auc": "AUC", "v2_best": "at best", "pixel_ap": "PxAP"}
TITLES = {
    "corloc": "CorLoc",
    "gt_known": "IoU ≥ 0.5, class known",
    "iou": "mean IoU",
    "class1_error": "class error, top-1",
    "class5_error": "class error, top-5",
    "top1_error": "top-1 error",
    "top5_error": "top-5 error",
    "guesses_error": "top-5 error, loose and tight",
    "v2": "MaxBoxAccV2",
}


def compare_and_report(
    plan: Plan, names: Sequence[str], draws: int, command: str, folder: Path, *, published: Path | None,
    figures: Path | None, reference: Sequence[Published] = (), over: str = "class", pictures: bool = True,
) -> str:  # fmt: skip
    """Compare, write everything into the folder, and give the table for the terminal.

    Args:
        names: of METHODS, as `wanted` gives them.
        published: a Markdown file to write too, its plot beside it; no pictures of the data.
        figures: a further place for the JSON.
        reference: published accuracies, whose false positives bound the ranked lists.
        over: what false positives are counted over, of DENOMINATORS.
        pictures: whether images of the data are written.
    """
    comparison = compare(plan, names, everywhere=over == "all")
    rows, lists = judge(comparison, draws), ranked_lists(comparison, reference, over)
    shown = {"rows": list(map(asdict, rows)), "ranked": list(map(asdict, lists)), "ranked_over": over}
    numbers = json_text({"command": command, **about(comparison), **shown}, 1)
    for path in filter(None, (folder / "localisers.json", figures)):
        write_text(path, numbers)
    write_text(folder / "boxes.csv", as_csv(box_rows(comparison)))
    write_text(folder / "classes.csv", as_csv(class_rows(rows)))
    if pictures:
        save_pictures(comparison, folder)
    for page in filter(None, (folder / "localisers.md", published)):
        save_plot(rows, make_folder(page.parent) / f"{page.stem}.png")
        write_text(page, as_page(comparison, rows, command, f"{page.stem}.png", lists, over))
    printed = f"{as_terminal(table(rows))}\n\n{not_ahead(rows, comparison.plan.untaught())}"
    return f"{heading(comparison)}\n\n{printed}\n\n{'pictures, ' * pictures}plot and every box in {folder}"


def save_pictures(comparison: Comparison, folder: Path) -> None:
    """Images of the data: boxes of every method, examples of each class, ways from an image to its box, mined maps."""
    save_boxes(comparison, folder / "boxes.jpg")
    save_examples(comparison, folder)
    for name, (pipeline, title) in first_traced(comparison).items():
        save_pipeline(pipeline, title, folder / f"pipeline_{name}.png")
    for number, trial in enumerate(first_mined(comparison)):
        save_mining(trial.mined, folder / f"mining_{number + 1}.jpg")


def first_mined(comparison: Comparison) -> list[Trial]:
    """The first trial of each way of mining."""
    found: dict[str, Trial] = {}
    for trial in comparison.trials:
        if trial.mined:
            found.setdefault(trial.method, trial)
    return list(found.values())


def first_traced(comparison: Comparison) -> dict[str, tuple[Pipeline, str]]:
    """Method → what becomes of an image on its first network, and on which."""
    return {
        trial.method.partition(":")[0]: (trial.pipeline, f"{trial.method}, {trial.line}")
        for trial in reversed(comparison.trials)
        if trial.pipeline
    }


def wanted(plan: Plan, names: Sequence[str]) -> list[str]:
    """The methods that are asked for, after the baselines, asked for or not.

    Raises:
        UserError: an unknown one, or one that these networks or data cannot have; nothing to learn from.
    """
    asked = [name for name in dict.fromkeys(names) if name not in BASELINES]
    if not plan.training and not plan.pool:
        hint = "add `train:` to the data yaml, or explain another split"
        raise UserError("no training images with boxes", where=plan.split.description.yaml, hint=hint)
    if asked == ["all"]:
        quick = [own for own in METHODS.values() if not (own.baseline or own.slow or own.named)]
        asked = [own.name + options for own in quick for options in ("", *own.also) if not obstacle(plan, own.name)]
        asked = [name for name in asked if plan.training or not wants_boxes(METHODS.choose(name))]
    for name in asked:
        check(plan, name)
    asked += [name for name in dict.fromkeys(map(begins_as, asked)) if name not in asked]
    if not asked and not plan.training:
        hint = "give a method with a fraction of the maximum, such as cam@0.2"
        raise UserError("no training image has a box", where=plan.split.description.yaml, hint=hint)
    return [*(BASELINES if plan.training else ()), *asked]


def check(plan: Plan, name: str) -> None:
    """Refuse a method that these networks or data cannot have.

    Raises:
        UserError: it cannot be had; says why.
    """
    yaml = plan.split.description.yaml
    if plan.foreign and not all_blind([name]):
        what = f"{name} asks for a class of the network, which has others than {yaml.name}"
        raise UserError(what, where=METHODS.flag, hint="take a method that asks for none, such as attention")
    if (why := obstacle(plan, name)) is not None:
        raise UserError(f"{name} {why}", where=METHODS.flag, hint="leave it out, or change that")
    if not plan.training and wants_boxes(METHODS.choose(name)):
        what = f"{name} learns from boxes, and no training image of {yaml.name} has one"
        raise UserError(what, where=METHODS.flag, hint="say where maps are cut off, as in cam@0.2 or mining@0.5")


def obstacle(plan: Plan, name: str) -> str | None:
    """What is in the way of a method with its options."""
    chosen = METHODS.choose(name)
    return chosen.entry.obstacle(plan, chosen.options)


def about(comparison: Comparison) -> dict[str, object]:
    """On what it was measured."""
    split = comparison.plan.split
    return {
        "data": split.description.yaml.name,
        "split": split.name,
        "images": len(split.records),
        "cases": len(comparison.cases),
        "imgsz": comparison.plan.files[0].imgsz,
        "training_images": len(comparison.plan.training),
    }


def heading(comparison: Comparison) -> str:
    """The same as a sentence."""
    without = () if comparison.plan.training else (f"{', '.join(BASELINES)} learn from such boxes and are left out",)
    said = (*comparison.plan.doubts(), *comparison.plan.notes, *without, *coarse_notes(comparison))
    own, notes = about(comparison), "".join(f"\n{line}." for line in said)
    return (
        f"{own['data']} `{own['split']}`: {own['cases']} cases (image and class) of {own['images']} images. What "
        f"learns, learns from {own['training_images']} training images, unless its name says how many. 95 % intervals; "
        f"*ahead*: right boxes minus those of the best baseline or, where higher, the same method untrained.{notes}"
    )


def coarse_notes(comparison: Comparison) -> list[str]:
    """A line for each method whose maps have too few cells to be judged, with the networks."""
    lines: dict[str, dict[str, None]] = {}
    for trial in comparison.trials:
        if trial.coarse:
            lines.setdefault(trial.method, {})[trial.line] = None
    fate = f"fewer than {FEWEST} × {FEWEST} cells inside most pictures: in brackets, compared with nothing"
    return [f"{method} of {', '.join(own)} has maps with {fate}" for method, own in lines.items()]


def table(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each row, header first."""
    subsets = dict.fromkeys(name for row in rows for name in row.values if name.startswith(f"{SUBSET}/"))
    bounds = [name for name in BOUNDS if any(name in row.bounds for row in rows)]
    measures, apart = (
        [name for name in names if any_has(rows, name)]
        for names in (["corloc", *subsets, *list(TITLES)[1:]], DIFFERENCES)
    )
    header = [
        "method",
        "features",
        *(title_of(name) for name in measures),
        "lowest class",
        *(BOUNDS[name] for name in bounds),
        *(DIFFERENCES[name] for name in apart),
        "no box",
        "ms",
        "passes",
        "MB",
    ]
    return [header, *(cells(row, measures, bounds, apart) for row in rows)]


def title_of(measure: str) -> str:
    """What a column is called."""
    subset = measure.removeprefix(f"{SUBSET}/")
    return TITLES[measure] if subset == measure else f"CorLoc, {subset}"


def not_ahead(rows: Sequence[Row], untaught: str | None = None) -> str:
    """Which rows do not beat what needs no trained network, by the interval of the paired difference.

    Args:
        untaught: why the networks show nothing, if so.
    """
    if untaught:
        return f"What is ahead is {NOT_TESTED}: {untaught}."
    lows = {f"{row.method} of {row.line}": row.values[AHEAD].low for row in rows if AHEAD in row.values}
    if not lows:
        return "No row is compared with the baselines."
    unknown = [name for name, low in lows.items() if np.isnan(low)]
    behind = [name for name, low in lows.items() if low <= 0]
    if len(unknown) == len(lows):
        return "Without intervals nothing is said of what needs no trained network."
    return verdict("ahead of", "it", behind, unknown, above=len(lows) > len(behind) + len(unknown))


def cells(row: Row, measures: Sequence[str], bounds: Sequence[str], apart: Sequence[str]) -> list[str]:
    """One line of the table."""
    seeds = f"{row.line} ({row.seeds} seeds)" if row.seeds > 1 else row.line
    values = [bracketed(bounded(row.values[name]), row.coarse) if name in row.values else NOTHING for name in measures]
    values += [f"{row.lowest[1]:.3f} ({row.lowest[0]})" if row.lowest else NOTHING]
    values += [f"{row.bounds[name]:.3f}" if name in row.bounds else NOTHING for name in bounds]
    differences = [bounded(row.values[name], "+.3f") if name in row.values else NOTHING for name in apart]
    passes = f"{row.milliseconds / row.forward:.2f}" if row.forward else NOTHING
    costs = [f"{row.milliseconds:.1f}", passes, f"{row.megabytes:.1f}"]
    return [row.method, seeds, *values, *differences, f"{row.no_box:.1%}", *costs]


def bracketed(text: str, coarse: bool) -> str:
    """A value that is not judged in brackets."""
    return f"({text})" if coarse else text


def bounded(value: Value, digits: str = ".3f") -> str:
    """`mean [low, high]`."""
    mean = format(value.mean, digits)
    return mean if np.isnan(value.low) else f"{mean} [{value.low:{digits}}, {value.high:{digits}}]"


def as_page(
    comparison: Comparison, rows: Sequence[Row], command: str, plot: str, lists: Sequence[Ranked] = (),
    over: str = "class",
) -> str:  # fmt: skip
    """The report for a repository."""
    apart = [f"*{DIFFERENCES[name]}*: minus {rival}" for name, rival in OVER.items() if any_has(rows, name)]
    note = (f"The fraction of right boxes, case by case, {'; '.join(apart)}. " if apart else "") + (
        "*lowest class*: CorLoc of the class with the fewest right boxes; classes.csv has all. *mAP50, class known*: "
        "one box in each image of a class, ranked by the network's probability. *AUC*: of a "
        "classifier that has learnt on, over images that it did not learn from. *at best*: MaxBoxAccV2 with the "
        "threshold that is best on these images. *no box*: maps with nothing in them, which count as wrong. *ms*: for "
        "one image with its class known; *passes*: over a plain forward pass; *MB*: of tensors at once."
    )
    parts = [
        f"Made by `{command}`.",
        heading(comparison),
        as_markdown(table(rows)),
        f"*ahead*: {not_ahead(rows, comparison.plan.untaught())}",
        note,
        f"![fraction of right boxes]({plot})",
    ]
    if found := corloc_table(rows):
        parts += ["CorLoc by class:", as_markdown(found)]
    if found := findings_table(rows):
        parts += ["**Acc–AFP**: fraction of the true boxes found by three boxes a map – false boxes for each true one.",
                  as_markdown(found)]  # fmt: skip
    if lists:
        parts += ["Ranked lists up to the false positives of the reference, accuracy-false positives:",
                  as_markdown(ranked_table(lists)), DENOMINATORS[over]]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def any_has(rows: Sequence[Row], measure: str) -> bool:
    """Whether there is a measure of some row."""
    return any(measure in row.values for row in rows)


def class_rows(rows: Sequence[Row]) -> list[dict[str, str | int | float]]:
    """A row for each class of each method: for any number of classes."""
    return [
        {"method": row.method, "line": row.line, "class": name, **asdict(own)}
        for row in rows
        for name, own in row.classes.items()
    ]


def corloc_table(rows: Sequence[Row]) -> list[list[str]]:
    """A row for each method, a column a class; nothing where classes are many."""
    keys = [name for name in rows[0].values if name.startswith(f"{BY_CLASS}/")]
    if not keys:
        return []
    header = ["method", "features", *(name.partition("/")[2] for name in keys)]
    return [header, *([row.method, row.line, *(bounded(row.values[name]) for name in keys)] for row in rows)]


def findings_table(rows: Sequence[Row]) -> list[list[str]]:
    """A row for each method and IoU, a column a class; nothing where no map was cut off or classes are many."""
    own = [row for row in rows if any(name.startswith(ACCURACY) for name in row.values)]
    if not own:
        return []
    keys = [taken_apart(name) for name in own[0].values if name.startswith(ACCURACY)]
    classes, ious = (list(dict.fromkeys(column)) for column in list(zip(*keys, strict=True))[1:])
    table = [["method", "features", "IoU", *classes]]
    for row in own:
        for iou in ious:
            pairs = [[row.values[f"{key}/{name}/{iou}"] for key in (ACCURACY, FALSE)] for name in classes]
            table.append([row.method, row.line, iou, *(f"{bounded(acc)} – {false.mean:.2f}" for acc, false in pairs)])
    return table


def box_rows(comparison: Comparison) -> list[dict[str, str | int | float]]:
    """A row for each case of each trial: the box as fractions of the image, and its IoU."""
    records = comparison.plan.split.records
    return [
        {
            "method": trial.method, "line": trial.line, "seed": trial.seed, "image": records[image].image.name,
            "class": int(label), "x1": box[0], "y1": box[1], "x2": box[2], "y2": box[3], "iou": iou,
        }
        for trial in comparison.trials
        for (image, label), box, iou in zip(comparison.cases, trial.boxes.tolist(), trial.ious.tolist(), strict=True)
    ]  # fmt: skip
