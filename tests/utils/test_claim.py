import subprocess
import sys
from pathlib import Path

from conftest import ROOT

from utils.claim import claimed

HOLD = "import sys, pathlib; from utils.claim import claimed\nwith claimed(pathlib.Path(sys.argv[1])) as holder:\n"
HOLD += "    print('held by', holder or 'me', flush=True)\n    sys.stdin.read()\n"


def test_another_process_is_kept_off_until_it_dies(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "held by me\n"
        with claimed(lock) as holder:
            assert holder.startswith(f"process {other.pid} on ")
        other.kill()
    assert lock.exists(), "killed, it could not remove it"
    with claimed(lock) as holder:
        assert holder == ""
        with claimed(tmp_path / "." / "lock") as second:
            assert second.startswith("process "), "nor twice by one process"
    assert not lock.exists()
