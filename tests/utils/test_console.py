"""What a command says, and where."""

import io

import pytest
from rich.console import Console

from utils.console import Plain, progress


class Full(io.StringIO):
    """A file on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


@pytest.fixture
def said() -> Plain:
    return Plain(file=io.StringIO())


def test_what_is_in_brackets_is_text(said: Plain) -> None:
    """Folders, classes and files may be called so."""
    text = "left out runs[/b]/[red].jpg: [i]"
    said.print(text)
    said.aloud(text)
    assert said.file.getvalue() == f"{text}\n{text}\n"  # type: ignore[attr-defined]
    shown = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("utils.console.console", Plain(file=shown, force_terminal=True, width=80))
        assert list(progress("abc", "maps of [/b]", 3)) == list("abc")
    assert "maps of [/b]" in shown.getvalue()


def test_a_log_on_a_full_disk_ends_and_says_so(said: Plain) -> None:
    said.copy = Console(file=Full())
    said.print("first")
    said.print("second")
    assert said.file.getvalue().splitlines() == ["first", "console.log ends here: No space left on device", "second"]  # type: ignore[attr-defined]
    assert said.copy is None


def test_every_rank_is_heard_aloud(said: Plain, capsys: pytest.CaptureFixture[str]) -> None:
    log = io.StringIO()
    said.copy = Console(file=log)
    said.aloud("left out a.jpg")
    assert said.file.getvalue() == log.getvalue() == "left out a.jpg\n"  # type: ignore[attr-defined]
    said.quiet = True
    said.print("not from here")
    said.aloud("left out b\x1b[2J.jpg")
    assert capsys.readouterr().out == "left out b\\x1b[2J.jpg\n"
    assert said.file.getvalue() == "left out a.jpg\n"  # type: ignore[attr-defined]
