"""One name for one place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hybrid.storage.file_identity import absolute_path


def test_dots_and_the_working_folder_make_no_second_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "new").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "./a.mp4", "new/../a.mp4", "new/./..//a.mp4", "absent/../a.mp4", tmp_path / "new/../a.mp4"):
        assert absolute_path(name) == str(tmp_path / "a.mp4")
    assert absolute_path(".") == absolute_path("new/..") == str(tmp_path)
    assert absolute_path("/..") == "/"


def test_links_keep_their_names_unless_their_parent_is_meant(tmp_path: Path) -> None:
    (tmp_path / "there" / "deep").mkdir(parents=True)
    (tmp_path / "there" / "a.mp4").write_bytes(b"there")
    (tmp_path / "a.mp4").write_bytes(b"here")
    (tmp_path / "link").symlink_to(tmp_path / "there" / "deep")
    (tmp_path / "linked.mp4").symlink_to(tmp_path / "a.mp4")
    assert absolute_path(tmp_path / "linked.mp4") == str(tmp_path / "linked.mp4")
    odd = os.path.join(tmp_path, "link", "..", "a.mp4")
    assert Path(absolute_path(odd)).read_bytes() == Path(odd).read_bytes() == b"there"
