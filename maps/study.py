"""Backbones explained: every classifier at every cut, measured against the true boxes, in one study."""

from maps.lime_columns import lime_columns
from maps.localise import Study, baseline_columns, columns_of, fill, mean_boxes
from maps.networks import trained_networks, untrained_networks
from maps.plan import Plan
from utils.device import keep_memory


def run(plan: Plan) -> Study:
    """Explain and measure; memory does not grow with the images but by their values."""
    keep_memory()
    networks = [*trained_networks(plan), *untrained_networks(plan)]
    columns = [column for own in networks for column in columns_of(plan, own)]
    columns += baseline_columns(mean_boxes(plan))
    pairs, shares = fill(columns, plan.cases(plan.split.records, "maps"), plan.rule, kept=plan.kept)
    study = Study(plan, columns, pairs, shares)
    if plan.lime:
        columns += lime_columns(study, networks)
    return study
