"""How long `make demo` takes on this machine, and how fast it multiplies matrices. Prints a JSON line.

`python -m benchmarks.demo`, in a project that is installed. What the demo prints goes to stderr.
"""

import subprocess
import time

import torch

from benchmarks.figures import in_turns, show
from utils.config import ROOT
from utils.errors import UserError, run_cli
from utils.parser import Parser

TARGET = 10  # minutes, on two cores that multiply bf16
SIDE, REPEATS = 2048, 5
STDERR = 2


def gflops(dtype: torch.dtype, side: int = SIDE) -> float:
    """Billions of additions and multiplications a second in a product of two square matrices."""
    one, other = (torch.rand(side, side).to(dtype) for _ in range(2))
    seconds = in_turns({"product": lambda: one @ other}, REPEATS)["product"]
    return 2 * side**3 / seconds / 1e9


def main() -> None:
    """Multiply, run the demo, print."""
    parser = Parser(description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="print the demo's commands in place of running them")
    dry = ["--dry-run"] if parser.parse_args().dry_run else []
    speed = {
        f"gflops_{name}": round(gflops(dtype)) for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }
    began = time.monotonic()
    if code := subprocess.run(["make", *dry, "demo"], cwd=ROOT, check=False, stdout=STDERR).returncode:
        raise UserError(f"ended with {code}", where="make demo", hint="see what it printed")
    show(
        "make demo, minutes",
        (time.monotonic() - began) / 60,
        TARGET,
        "two cores, after installation",
        least=False,
        **speed,
    )


if __name__ == "__main__":
    run_cli(main)
