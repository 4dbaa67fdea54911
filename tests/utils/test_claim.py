import fcntl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
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


def test_a_lock_that_its_holder_removes_meanwhile_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opened while another process held it, locked when that one had ended: others would make a new file."""
    lock, real = tmp_path / "lock", fcntl.lockf

    def late(file: Any, how: int) -> None:
        monkeypatch.setattr(fcntl, "lockf", real)
        lock.unlink()
        real(file, how)

    monkeypatch.setattr(fcntl, "lockf", late)
    with claimed(lock) as holder:
        assert holder == ""
        command = [sys.executable, "-c", HOLD, str(lock)]
        other = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
        assert other.stdout.startswith("held by process ")
    assert not lock.exists()
