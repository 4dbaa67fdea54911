"""ONNX file of a trained detector, compared with PyTorch on real images after it is written."""

import argparse
from pathlib import Path

from utils.errors import UserError, run_cli
from utils.runs import newest_detector

TOLERANCE = 1e-3


def parse() -> argparse.Namespace:
    """Flags."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Output `output0` [B, 4 + classes, N]: centre and size in input pixels, then objectness · class.",
    )
    parser.add_argument("--weights", type=Path, help="detector checkpoint [best.pt of the newest finished run]")
    parser.add_argument("--file", type=Path, help="where to write [beside the checkpoint, .onnx]")
    parser.add_argument("--project", type=Path, default=Path("runs"), help="where run folders are [runs]")
    return parser.parse_args()


def main() -> None:
    """Load, write, compare."""
    arguments = parse()
    weights = arguments.weights or newest_detector(arguments.project)
    from data.description import load_description
    from data.formats import read_split
    from engine.export import compare, write_onnx
    from models.detector import load_detector

    detector = load_detector(weights)
    path = arguments.file or weights.with_suffix(".onnx")
    description = load_description(Path(detector.recipe["data"]))
    records = read_split(description, description.held_out).records
    exporter = write_onnx(detector, path)
    print(f"wrote {path} ({path.stat().st_size / 2**20:.0f} MiB; {exporter})")
    worst = 0.0
    for row in compare(detector, path, records):
        worst = max(worst, row.box, row.score)
        size = f"{row.size_hw[0]}×{row.size_hw[1]}"
        print(f"  batch {row.batch}, {size}: boxes differ by {row.box:.1e} (relative), scores by {row.score:.1e}")
    if not worst <= TOLERANCE:
        raise UserError(
            f"differs from PyTorch by {worst:.1e}",
            where=path,
            mend=f"do not use it: more than {TOLERANCE:g}; report the versions in requirements.txt",
        )
    print(f"largest difference {worst:.1e}, allowed {TOLERANCE:g}")


if __name__ == "__main__":
    run_cli(main)
