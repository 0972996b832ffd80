"""The catalogue makes reading all manifests quick, and never wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from archive_samples import some_index, video_id

from indexes.archive.new_index import NewIndex
from indexes.archive.reader import ArchiveReader
from indexes.archive.writer import Archive
from indexes.format.manifest import Source, parse_manifest

VIDEOS = 6


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    with Archive.open(folder, backend="faiss") as archive:
        for number in range(VIDEOS):
            archive.commit(video_id(number), NewIndex(**some_index(number)))
    return folder


def catalogue_of(folder: Path) -> Path:
    return folder / "cache" / "catalogue"


def listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[str]]:
    """What a new reader lists, as JSON, and which manifests it had to read for that."""
    read: list[str] = []
    original = ArchiveReader.manifest

    def counted(self: ArchiveReader, video: str) -> object:
        read.append(video)
        return original(self, video)

    with monkeypatch.context() as patch, Archive.open(folder, create=False) as archive:
        patch.setattr(ArchiveReader, "manifest", counted)
        return [manifest.model_dump_json() for manifest in archive.manifests()], read


def truth(folder: Path) -> list[str]:
    with Archive.open(folder, create=False) as archive:
        found = [archive.manifest(name) for name in sorted(os.listdir(folder / "videos"))]
    return [manifest.model_dump_json() for manifest in found if manifest is not None]


def test_no_manifest_is_read_that_the_catalogue_holds(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert listed(filled, monkeypatch) == (truth(filled), [])


def test_a_reader_sees_what_another_process_adds_and_changes(filled: Path) -> None:
    with Archive.open(filled, create=False) as reader, Archive.open(filled) as writer:
        assert len(list(reader.manifests())) == VIDEOS
        writer.commit(video_id(9), NewIndex(**some_index(9)))
        writer.note_source(video_id(1), Source(path="/elsewhere.mp4", size_bytes=1))
        writer.remove(video_id(0))
        found = {manifest.video_id: manifest for manifest in reader.manifests()}
        assert sorted(found) == [video_id(number) for number in (1, 2, 3, 4, 5, 9)]
        assert found[video_id(1)].source.path == "/elsewhere.mp4"


def test_two_changes_within_one_tick_of_the_clock_are_told_apart(filled: Path) -> None:
    with Archive.open(filled) as archive:
        path = filled / "videos" / video_id(0) / "manifest.json"
        for name in ("/a.mp4", "/b.mp4"):
            archive.note_source(video_id(0), Source(path=name, size_bytes=1))
            os.utime(path, ns=(0, 0))  # as if both were written in the same tick
            archive._catalogue_writer.note(archive.require(video_id(0)))
            assert next(iter(archive.manifests())).source.path == name


def damage_last_line(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    place = data.index(b'"frames":40') + 10
    data[place] ^= 1
    path.write_bytes(bytes(data))


def fill_with_noise(path: Path) -> None:
    path.write_bytes(os.urandom(5000) + b"\n" + bytes(300))


@pytest.mark.parametrize("damage", [damage_last_line, flip_a_byte, fill_with_noise, os.remove])
def test_a_damaged_catalogue_costs_time_only(
    filled: Path, damage: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(catalogue_of(filled))
    found, read = listed(filled, monkeypatch)
    assert found == truth(filled)
    assert read
    with Archive.open(filled) as archive:  # and it can be added to
        archive.commit(video_id(7), NewIndex(**some_index(7)))
    found, read = listed(filled, monkeypatch)
    assert found == truth(filled)
    assert video_id(7) not in read


def test_a_manifest_that_changed_behind_its_back_is_read(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filled / "videos" / video_id(2) / "manifest.json"
    manifest = parse_manifest(path.read_bytes(), video_id=video_id(2), where=str(path))
    source = manifest.source.model_copy(update={"path": "/Videos/2.mp4"})
    path.write_bytes(manifest.model_copy(update={"source": source}).to_bytes())
    found, read = listed(filled, monkeypatch)
    assert found == truth(filled)
    assert read == [video_id(2)]


def test_a_video_that_is_being_written_is_looked_at_itself(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (filled / "pending").mkdir(exist_ok=True)
    (filled / "pending" / video_id(3)).touch()
    assert listed(filled, monkeypatch) == (truth(filled), [video_id(3)])


def test_an_archive_without_a_catalogue_gets_one_by_compacting(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from indexes.maintenance.stats import compact_archive

    copied = filled.with_name("copied")
    shutil.copytree(filled, copied, copy_function=shutil.copyfile)  # other times of change
    assert len(listed(copied, monkeypatch)[1]) == VIDEOS
    with Archive.open(copied) as archive:
        compact_archive(archive)
    assert listed(copied, monkeypatch) == (truth(filled), [])


def test_it_is_written_anew_before_it_grows_without_end(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexes.format.catalogue._SPARE_BYTES", 4096)
    with Archive.open(filled) as archive:
        for number in range(100):
            archive.note_source(video_id(0), Source(path=f"/{number}.mp4", size_bytes=1))
    whole = sum(len(text) for text in truth(filled))
    assert catalogue_of(filled).stat().st_size < 5 * whole + 4096
    assert listed(filled, monkeypatch) == (truth(filled), [])


def test_a_catalogue_that_cannot_be_written_does_not_stop_a_commit(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue_of(filled).unlink()
    catalogue_of(filled).mkdir()
    with Archive.open(filled) as archive:
        archive.commit(video_id(8), NewIndex(**some_index(8)))
    assert listed(filled, monkeypatch)[0] == truth(filled)
