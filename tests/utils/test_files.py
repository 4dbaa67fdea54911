import errno
import os
from pathlib import Path

import pytest

from utils.errors import UserError
from utils.files import replaced


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(FileNotFoundError), replaced(folder) as partial:
        (partial / "none" / "half").touch()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["set", "set/old"]
    with replaced(folder) as partial:
        (partial / "new").touch()
        assert (folder / "old").exists()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["set", "set/new"]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write \(No space left on device\)"), replaced(tmp_path / "set"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not [*tmp_path.iterdir()]
