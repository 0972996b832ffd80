"""A video has one place, by whatever path it was named: stored, compared, filtered and recorded as one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hybrid.cli.input.paths import find_videos
from hybrid.engine import Engine
from hybrid.engine.batch.estimate import estimate_run
from hybrid.engine.batch.run import index_here
from hybrid.options.engine import EngineOptions
from indexes.archive.lookup import choose, find_indexed
from indexes.archive.source_location import missing_videos, replaced_videos
from indexes.archive.writer import Archive
from indexes.format.failures import failures
from indexes.open_archive import open_archive
from tests.demo_clip import DEMO_SCENES, write_demo_clip
from tests.engine.test_run import Listener
from tests.engine.test_search import ColourEncoder


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    (tmp_path / "videos" / "new").mkdir(parents=True)
    return write_demo_clip(tmp_path / "videos" / "a.mp4", [replace(DEMO_SCENES[0], seconds=2)])


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine(open_archive(tmp_path / "archive"), EngineOptions(device="cpu"), encoder=ColourEncoder()) as made:
        yield made


def other_name(clip: Path) -> Path:
    return clip.parent / "new" / ".." / clip.name


def write_path(archive: Archive, video_id: str, path: Path) -> None:
    """What a version before this one would have stored."""
    manifest = archive.folder / "videos" / video_id / "manifest.json"
    document = json.loads(manifest.read_text())
    document["source"]["path"] = str(path)
    del document["digest"], document["vectors_checksum"]
    manifest.write_text(json.dumps(document))


def test_a_roundabout_path_is_stored_straight(engine: Engine, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = engine.index(other_name(clip))
    assert engine.archive.require(result.video_id).source.path == str(clip)
    stamp = (engine.archive.folder / "videos" / result.video_id / "manifest.json").stat().st_mtime_ns
    monkeypatch.chdir(clip.parent / "new")
    for name in (clip, Path("../a.mp4"), other_name(clip)):
        assert engine.index(name).outcome == "unchanged"
    assert (engine.archive.folder / "videos" / result.video_id / "manifest.json").stat().st_mtime_ns == stamp


def test_a_roundabout_path_that_is_stored_is_understood(engine: Engine, clip: Path) -> None:
    video_id = engine.index(clip).video_id
    write_path(engine.archive, video_id, other_name(clip))
    manifests = list(engine.archive.manifests())
    assert choose(manifests, under=[clip.parent]) == manifests
    assert choose(manifests, under=[clip.parent / "new"]) == []
    assert choose(manifests, under=[clip.parent / "new" / ".."]) == manifests
    # Without what is remembered of its content, an estimate goes by place and size.
    shutil.rmtree(engine.archive.folder / "cache", ignore_errors=True)
    assert estimate_run(engine.archive, [clip], EngineOptions()).indexed == 1
    assert missing_videos(engine.archive, manifests) == []
    clip.unlink()
    assert find_indexed(engine.archive, str(clip)).video_id == video_id
    assert engine.configuration(clip)["video_id"] == video_id
    assert engine.configuration(other_name(clip))["video_id"] == video_id


def test_what_was_replaced_under_another_name_of_its_place_is_known(engine: Engine, clip: Path) -> None:
    old = engine.index(clip).video_id
    write_path(engine.archive, old, other_name(clip))
    write_demo_clip(clip, [replace(DEMO_SCENES[1], seconds=2)])
    new = engine.index(clip).video_id
    assert old != new
    assert replaced_videos(engine.archive, list(engine.archive.manifests())) == {old}


def test_a_failure_is_recorded_by_the_one_name(engine: Engine, clip: Path) -> None:
    clip.write_text("This is no video.")
    assert index_here(engine, [other_name(clip)], Listener()).failed
    assert [record.path for record in failures(engine.archive.folder)] == [str(clip)]
    assert index_here(engine, [clip], Listener()).failed[0].remembered


def test_a_video_that_is_named_twice_is_one(clip: Path) -> None:
    assert find_videos([str(other_name(clip)), str(clip), str(clip.parent)]).videos == [other_name(clip)]


@pytest.fixture
def copy(engine: Engine, clip: Path) -> Path:
    """The same content at another place; both are indexed."""
    (clip.parent.parent / "backup").mkdir()
    place = Path(shutil.copy(clip, clip.parent.parent / "backup" / "b.mp4"))
    for each in (clip, place):
        engine.index(each)
    return place


def test_copies_do_not_take_turns(engine: Engine, clip: Path, copy: Path) -> None:
    (manifest,) = engine.archive.manifests()
    assert manifest.source.locations == (str(clip), str(copy))
    file = engine.archive.folder / "videos" / manifest.video_id / "manifest.json"
    before = file.stat().st_mtime_ns
    for place in (copy, clip, copy):
        assert engine.index(place).outcome == "unchanged"
    assert file.stat().st_mtime_ns == before
    assert estimate_run(engine.archive, [clip, copy], EngineOptions()).indexed == 2


def test_either_place_is_found_and_named(engine: Engine, clip: Path, copy: Path) -> None:
    for place in (clip, copy):
        (found,) = engine.search("a?", under=[place.parent]).videos
        assert found.video == str(place)
    (found,) = engine.search("a?", under=[copy.parent.parent]).videos
    assert found.video == str(clip)
    assert find_indexed(engine.archive, str(copy)).source.path == str(clip)


def test_a_place_that_is_left_is_forgotten_when_the_other_is_indexed(engine: Engine, clip: Path, copy: Path) -> None:
    clip.unlink()
    manifests = list(engine.archive.manifests())
    assert missing_videos(engine.archive, manifests) == []  # it still lies at the other place
    ready = engine.search("a?").videos[0]
    assert (ready.video, ready.gone) == (str(copy), None)
    engine.index(copy)
    (manifest,) = engine.archive.manifests()
    assert manifest.source.locations == (str(copy),)
    copy.unlink()
    assert len(missing_videos(engine.archive, list(engine.archive.manifests()))) == 1


def test_another_index_keeps_the_places(engine: Engine, clip: Path, copy: Path) -> None:
    with Engine(engine.archive, EngineOptions(device="cpu", rate=2.0), encoder=ColourEncoder()) as other:
        assert other.index(copy).outcome == "indexed"
        (manifest,) = other.archive.manifests()
    assert manifest.source.locations == (str(clip), str(copy))
    assert manifest.config.rate == 2.0


def test_a_copy_keeps_a_video_whose_first_place_was_taken(engine: Engine, clip: Path, copy: Path) -> None:
    write_demo_clip(clip, [replace(DEMO_SCENES[1], seconds=2)])
    new = engine.index(clip).video_id
    manifests = {manifest.video_id: manifest for manifest in engine.archive.manifests()}
    assert len(manifests) == 2
    assert replaced_videos(engine.archive, list(manifests.values())) == set()
    copied = next(video for video in manifests if video != new)
    assert engine.configuration(copied)["video_id"] == copied
    engine.index(copy)
    assert engine.archive.require(copied).source.locations == (str(copy),)


def test_a_manifest_of_an_early_version_has_one_place(engine: Engine, clip: Path) -> None:
    video_id = engine.index(clip).video_id
    file = engine.archive.folder / "videos" / video_id / "manifest.json"
    document = json.loads(file.read_text())
    del document["source"]["also"], document["digest"], document["vectors_checksum"]
    file.write_text(json.dumps(document))
    assert engine.archive.verify(video_id).source.locations == (str(clip),)
