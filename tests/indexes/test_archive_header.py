"""Which folders become archives, and which are refused."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from hybrid.errors import ArchiveFormatError, InputError
from indexes.archive import header as header_module
from indexes.archive.header import Header
from indexes.archive.writer import Archive
from indexes.format.layout import Layout


def test_a_new_an_empty_and_an_existing_folder(tmp_path: Path) -> None:
    new, empty = tmp_path / "deep" / "new", tmp_path / "empty"
    empty.mkdir()
    for folder in (new, empty):
        assert Archive.open(folder).backend == "faiss"
        assert Archive.open(str(folder), create=False).backend == "faiss"
        header = json.loads((folder / "archive.json").read_text())
        assert header["format_version"] == 1
        assert header["backend"] == "faiss"
        assert header["created_by"].startswith("hybrid ")


def test_the_backend_is_chosen_once(tmp_path: Path) -> None:
    assert Archive.open(tmp_path / "a", backend="lancedb").backend == "lancedb"
    assert Archive.open(tmp_path / "a").backend == "lancedb"
    with pytest.raises(ArchiveFormatError, match=r"backend is 'lancedb', not 'faiss'; leave the backend out"):
        Archive.open(tmp_path / "a", backend="faiss")
    with pytest.raises(InputError, match="no backend 'chroma'; legal are faiss, lancedb"):
        Archive.open(tmp_path / "b", backend="chroma")
    assert not (tmp_path / "b").exists()


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.mp4").write_bytes(b"x")
    with pytest.raises(ArchiveFormatError, match=r"not empty \(it holds 'holiday.mp4'\)"):
        Archive.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.mp4"]
    with pytest.raises(ArchiveFormatError, match="this is a file"):
        Archive.open(tmp_path / "holiday.mp4")


def test_no_archive_and_none_to_be_made(tmp_path: Path) -> None:
    with pytest.raises(ArchiveFormatError, match="hybrid index VIDEO --archive"):
        Archive.open(tmp_path / "none", create=False)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ('{"format_version": 2, "something": "new"}', "reads up to 1; run: pip install --upgrade"),
        ('{"format_version": "1", "backend": "faiss", "created_by": ""}', "format version is '1'"),
        (
            '{"format_version": 1, "backend": "chroma", "created_by": ""}',
            "no backend 'chroma'; legal are faiss, lancedb",
        ),
        ('{"format_version": 1, "back', "line 1: not JSON"),
        ("[]", "no format version"),
        ("", "line 1: not JSON"),
    ],
)
def test_headers_that_cannot_be_read(tmp_path: Path, content: str, text: str) -> None:
    (tmp_path / "archive.json").write_text(content)
    with pytest.raises(ArchiveFormatError, match=text):
        Archive.open(tmp_path)


def test_what_a_killed_creation_leaves_behind_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()
    (tmp_path / ".archive.json.tmp-0badcafe").write_text('{"form')
    Archive.open(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive.json", "locks"]


def test_many_openers_of_one_new_archive_agree(tmp_path: Path) -> None:
    outcomes: list[str] = []

    def opener(number: int) -> None:
        backend = "faiss" if number % 2 else "lancedb"
        try:
            outcomes.append(Archive.open(tmp_path / "new", backend=backend).backend)
        except ArchiveFormatError:
            outcomes.append("refused")

    threads = [threading.Thread(target=opener, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("refused") == 4
    assert outcomes.count(Archive.open(tmp_path / "new").backend) == 4


@pytest.mark.parametrize("also", [None, "something-of-the-archive"])
def test_an_archive_made_while_an_opener_looks_is_no_foreign_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, also: str | None
) -> None:
    """The other opener is done between our look for a header and our look at what else is there."""
    look, looked = header_module.read_header, 0

    def made_meanwhile(layout: Layout) -> Header | None:
        nonlocal looked
        looked += 1
        found = look(layout)
        if looked == 1:
            Archive.open(layout.folder, backend="lancedb")
            if also is not None:
                (layout.folder / also).mkdir()
        return found

    monkeypatch.setattr(header_module, "read_header", made_meanwhile)
    assert Archive.open(tmp_path / "new").backend == "lancedb"
