import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from warm import Warm

from utils.errors import UserError
from utils.files import csv_text, json_text
from utils.text import as_markdown, cell, counted, printable, redacted


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://admin:secret@10.0.0.1:554/a", "rtsp://10.0.0.1:554/a"),
        ("rtsp://admin:p@ss:secret@10.0.0.1/a", "rtsp://10.0.0.1/a"),
        ("rtsp://admin:se/secret@10.0.0.1/a", "rtsp://10.0.0.1/a"),
        ("https://secret@host.org/x", "https://host.org/x"),
        ("https://host.org/x?size=3&access_token=secret&b=1", "https://host.org/x?size=3&access_token=***&b=1"),
        ("https://host.org/x?X-Amz-Signature=secret", "https://host.org/x?X-Amz-Signature=***"),
        ("https://host.org:8080/a@2x.png?size=large", "https://host.org:8080/a@2x.png?size=large"),
        ("srt://h:9000?passphrase=secret", "srt://h:9000?passphrase=***"),
        ("http://h/a.cgi?loginuse=secret&loginpas=secret&x=1", "http://h/a.cgi?loginuse=***&loginpas=***&x=1"),
        ("http://h/a?usr=secret&pw=secret&psw=secret&size=2", "http://h/a?usr=***&pw=***&psw=***&size=2"),
        ("rtsp://h/user=secret_password=secret_channel=1.sdp?x", "rtsp://h/user=***"),
        ("/data/user=1/lr_key=2/a.jpg", "/data/user=1/lr_key=2/a.jpg"),
        ("cannot open 'http://u:secret@h/a' (http://u:secret@h/b)", "cannot open 'http://h/a' (http://h/b)"),
    ],
)
def test_no_user_password_or_token(address: str, shown: str) -> None:
    assert redacted(address) == shown
    assert "secret" not in str(UserError(f"cannot open {address}", where=address, hint="try again"))


@given(st.text())
def test_nothing_steers_a_terminal(text: str) -> None:
    found = printable(text)
    assert not any(sign < " " and sign not in "\n\t" for sign in found)
    assert not set(found) & set("\x7f\x9b\u202e\u2066")
    assert found.encode().decode() == found
    assert printable(found) == found


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+cmd", "-2+3+cmd|' /C calc'!A0", "\tx"])
def test_no_cell_is_a_formula(text: str) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text([{"name": text, "=header": -0.5, "number": "-0.25"}]))))
    assert rows == [{"name": f"'{text}", "'=header": "-0.5", "number": "-0.25"}]
    assert cell(-3) == -3


def test_json_has_no_nan() -> None:
    assert json_text({"a": [float("nan"), 1.5], "b": (float("inf"),)}) == '{"a": [null, 1.5], "b": [null]}\n'


Done = subprocess.CompletedProcess[str]
SAYING = """
import sys
sys.path.insert(0, {root!r})
from utils.console import console
from utils.errors import UserError, run_cli

def main():
    print("a\\x1b[2Jb × 猫" + {more!r})
    console.print("c\\x1b[31md")
    if {fails}:
        raise UserError("what\\x1b[2J", where="here", hint="correct it")

run_cli(main)
"""


def say(redirected: str, *, more: str = "", fails: bool = False, encoding: str = "utf-8") -> Done:
    """Run a command in a shell that sends its output somewhere."""
    code = SAYING.format(root=str(ROOT), more=more, fails=fails)
    command = ["bash", "-c", f'"$0" -c "$1" {redirected}', sys.executable, code]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONIOENCODING": encoding}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_names_cannot_steer_the_terminal() -> None:
    done = say("", fails=True)
    assert done.stdout == "a\\x1b[2Jb × 猫\nc\\x1b[31md\n"
    assert done.stderr == "error: here: what\\x1b[2J — correct it\n"
    assert done.returncode == 2


def test_terminals_of_ascii() -> None:
    done = say("", fails=True, encoding="ascii")
    assert done.stdout.startswith("a\\x1b[2Jb \\xd7 \\u732b\n")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)


@pytest.mark.parametrize("more", ["", "x" * 100_000])
def test_standard_output_is_full_or_closed(more: str) -> None:
    full = say("> /dev/full", more=more)
    assert full.returncode == 2
    assert full.stderr == (
        "error: standard output: cannot write (No space left on device)"
        " — free the disk that it goes to, or send it elsewhere\n"
    )
    closed = say(">&- 2>&-", more=more)
    assert (closed.returncode, closed.stdout, closed.stderr) == (0, "", "")
    gone = say("| true; exit ${PIPESTATUS[0]}", more=more)
    assert gone.returncode in (0, 141)
    assert "Traceback" not in gone.stderr


def test_scripts_say_so_too(tmp_path: Path) -> None:
    command = [ROOT / "detect.py", "--weights", tmp_path / "\x1b[2J.pt"]
    errors = tmp_path / "errors"
    assert Warm(*command, environment=os.environ, stdout=Path(os.devnull), stderr=errors).end() == 2
    assert "\x1b" not in errors.read_text()
    assert "\\x1b[2J.pt: no such checkpoint" in errors.read_text()


@pytest.mark.parametrize(
    ("what", "three", "one"),
    [
        ("boxes", "3 boxes", "1 box"),
        ("classes", "3 classes", "1 class"),
        ("pictures are in no split", "3 pictures are in no split", "1 picture is in no split"),
        ("pictures are there more than once and count once", None, "1 picture is there more than once and counts once"),
        ("categories have no box and are left out", None, "1 category has no box and is left out"),
        ("pictures have equal boxes, which count once", None, "1 picture has equal boxes, which count once"),
        ("of 9 images have no label file", "3 of 9 images have no label file", "1 of 9 images has no label file"),
        ("label files belong to no image", None, "1 label file belongs to no image"),
        ("images of boxes.csv do not exist", None, "1 image of boxes.csv does not exist"),
        ("lines end with a score, which does not count", None, "1 line ends with a score, which does not count"),
        ("of 9 images were used and are left out", None, "1 of 9 images was used and is left out"),
    ],
)
def test_one_of_what_is_counted(what: str, three: str | None, one: str) -> None:
    assert counted(3, what) == (three or f"3 {what}")
    assert counted(1, what) == one


def test_tables_in_markdown() -> None:
    table = [["name", "what", "a", "b"], ["x|y", "two\n lines", "1", "2"], ["z", "ends early"]]
    assert as_markdown(table, "llr").splitlines() == [
        "| name | what | a | b |",
        "|---|---|---:|---:|",
        r"| x\|y | two lines | 1 | 2 |",
        "| z | ends early |  |  |",
    ]
    assert as_markdown(table[:1]).splitlines()[1] == "|---|---:|---:|---:|"
    assert as_markdown(table[:1], "l").splitlines()[1] == "|---|---|---|---|"
