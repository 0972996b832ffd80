"""Files appear complete or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hybrid.storage.atomic import NewFiles, is_temporary, remove_file, remove_temporaries, write_atomically
from indexes.ann.files import ApproximateFiles
from indexes.remote.local_mirror import _settle


def test_writing_replacing_and_removing(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file.bin"
    for data in (b"one", b"", b"three" * 100_000):
        write_atomically(path, data)
        assert path.read_bytes() == data
        assert [entry.name for entry in path.parent.iterdir()] == ["file.bin"]
    remove_file(path)
    remove_file(path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "file.bin"
    write_atomically(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.bin"]


def test_the_data_is_flushed_before_the_rename_and_the_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def seen_fsync(handle: int) -> None:
        calls.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")
        fsync(handle)

    def seen_replace(source: Path, target: Path) -> None:
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(os, "replace", seen_replace)
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc to tell files from folders")
    write_atomically(tmp_path / "file.bin", b"data")
    assert calls == ["file", "rename", "folder"]


def test_only_temporary_files_are_swept(tmp_path: Path) -> None:
    for name in (".a.json.tmp-0123abcd", "a.json", ".hidden", "x.tmp-1"):
        (tmp_path / name).touch()
    assert is_temporary(".a.json.tmp-0123abcd")
    remove_temporaries(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "a.json", "x.tmp-1"]
    remove_temporaries(tmp_path / "none")


def test_foreign_files_are_flushed_once_but_those_that_are_written_again_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    fsync = os.fsync

    def recorded(handle: int) -> None:
        flushed.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", recorded)
    (tmp_path / "deep").mkdir()
    for name in ("a.lance", "hint.json"):
        (tmp_path / "deep" / name).write_bytes(b"1")
    files = NewFiles(rewritten=(".json",))

    def flush() -> list[str]:
        flushed.clear()
        files.flush(tmp_path)
        return list(flushed)

    assert flush() == [tmp_path.parent.name, "a.lance", "hint.json", "deep", tmp_path.name]
    assert flush() == ["hint.json", "deep"]
    (tmp_path / "deep" / "b.lance").write_bytes(b"2")
    assert flush() == ["b.lance", "hint.json", "deep"]
    # A name that comes again after its file was deleted is another file.
    (tmp_path / "deep" / "a.lance").unlink()
    flush()
    (tmp_path / "deep" / "a.lance").write_bytes(b"3")
    assert flush() == ["a.lance", "hint.json", "deep"]
    files.flush(tmp_path / "none")


@pytest.mark.parametrize(
    ("place", "write"),
    [
        ("approximate/16/note.json", lambda folder: ApproximateFiles(folder, 16).write_json("note.json", {"a": 1})),
        ("videos/0a/manifest.json", lambda folder: _settle(folder / "videos" / "0a" / "manifest.json", b"{}")),
    ],
    ids=["approximate index", "copy of an object"],
)
def test_a_folder_that_others_make_and_delete_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, write: Callable[[Path], object]
) -> None:
    """Another process makes the folder when we are about to, and deletes it when we have been told that it is there."""
    folder, mkdir, met = (tmp_path / place).parent, os.mkdir, []

    def racing(path: Path, *arguments: int) -> None:
        if Path(path) != folder or met or not folder.parent.exists():
            mkdir(path, *arguments)
            return
        met.append(path)
        mkdir(path, *arguments)
        try:
            mkdir(path, *arguments)
        finally:
            folder.rmdir()

    monkeypatch.setattr(os, "mkdir", racing)
    write(tmp_path)
    assert met
    assert [path.name for path in folder.iterdir()] == [Path(place).name]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "approximate").write_bytes(b"a file where the folder should be")
    with pytest.raises(OSError, match="approximate"):
        ApproximateFiles(tmp_path, 16).write_json("note.json", {})


def test_a_folder_that_goes_with_its_last_file_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, unlink = tmp_path / "video" / "timeline", os.unlink
    write_atomically(path, b"times")

    def and_its_folder(place: Path) -> None:
        unlink(place)
        path.parent.rmdir()

    monkeypatch.setattr(os, "unlink", and_its_folder)
    remove_file(path)
    assert not path.parent.exists()


def test_a_copy_that_cannot_have_its_name_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        _settle(tmp_path / "manifest.json", b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
