"""Writing whole or not at all."""

import errno
import os

import pytest

from md_jax.errors import UserError
from md_jax.files import replacing, resolved, write_bytes


def test_the_file_appears_whole_and_alone(tmp_path):
    write_bytes(tmp_path / "a.bin", b"one")
    write_bytes(tmp_path / "a.bin", b"two")
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]
    assert (tmp_path / "a.bin").read_bytes() == b"two"


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    with pytest.raises(UserError, match=r"a\.bin cannot be written: No space left") as caught, replacing(path) as part:
        part.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]
    assert path.read_bytes() == b"old"


def test_other_errors_pass_and_leave_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "a.bin") as part:
        part.write_bytes(b"half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot be written: No such file"):
        write_bytes(tmp_path / "nowhere" / "a.bin", b"")


def test_a_link_to_itself_is_resolved_to_itself(tmp_path):
    """`Path.resolve` raises a RuntimeError, which no reader expects."""
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "there").symlink_to(tmp_path)
    assert resolved(tmp_path / "loop") == tmp_path / "loop"
    assert resolved(tmp_path / "there" / "x") == tmp_path.resolve() / "x"
