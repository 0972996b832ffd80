"""What an archive holds, whether it is sound, and what it can give back."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from archive_samples import some_index, video_id
from feature_samples import some_items, some_spec

from hybrid.errors import ArchiveError
from indexes.archive.new_index import NewIndex
from indexes.archive.source_location import missing_videos
from indexes.archive.writer import Archive
from indexes.format.failures import Attempt, Failure, failures, forget_failure, known_failure, remember_failure
from indexes.format.layout import VectorKey
from indexes.format.manifest import Manifest, Source
from indexes.maintenance.stats import archive_stats, compact_archive
from indexes.maintenance.verify import verify_archive
from indexes.stores.faiss_store import FaissStore
from indexes.stores.interface import VectorStore

ONE = video_id(1)


@pytest.fixture
def filled(archive: Archive) -> Archive:
    for number in range(3):
        archive.commit(video_id(number), NewIndex(**some_index(number)))
    return archive


def states(archive: Archive) -> dict[str, str]:
    """The first that is found of each video; what it left over may be found besides."""
    found: dict[str, str] = {}
    for finding in verify_archive(archive):
        found.setdefault(finding.video_id, finding.state)
    return found


def test_stock_is_taken_of_everything(filled: Archive) -> None:
    remember_failure(filled.folder, failure("/videos/bad.mp4", video_id(9)))
    found = archive_stats(filled)
    assert (found.videos, found.frames, found.backend) == (3, 120, filled.backend)
    assert found.hours == pytest.approx(sum(manifest.video.duration_seconds for manifest in filled.manifests()) / 3600)
    assert found.statuses == {"done": 0, "partial": 3, "failed": 1, "damaged": 0}
    assert found.missing == sum(manifest.missing for manifest in filled.manifests())
    assert found.encoders == {"ViT-B-32/test, float32, 1/s, exact": 3}
    assert found.gone == 3  # the made-up place of all of them
    on_disk = [path for path in filled.folder.rglob("*") if path.is_file()]
    assert found.files == len(on_disk)
    assert sum(found.bytes.values()) == sum(path.stat().st_size for path in on_disk)
    assert found.bytes["vectors"] >= 120 * 16 * 2
    assert found.bytes["manifests"] == sum(path.stat().st_size for path in filled.folder.rglob("manifest.json"))
    own = sum(found.bytes[kind] for kind in ("vectors", "timelines", "manifests"))
    assert found.bytes_per_frame == pytest.approx(own / 120)


def test_stock_of_an_empty_archive(archive: Archive) -> None:
    found = archive_stats(archive)
    assert (found.videos, found.frames, found.bytes_per_frame) == (0, 0, None)


def test_a_sound_archive_is_sound(filled: Archive) -> None:
    findings = list(verify_archive(filled))
    assert [finding.state for finding in findings] == ["sound"] * 3
    assert sum(finding.frames for finding in findings) == 120


def flip_vectors(folder: Path) -> None:
    files = sorted(folder.glob(f"videos/{ONE}/vectors-*")) or sorted(folder.glob("frames_16.lance/data/*.lance"))
    data = bytearray(files[len(files) // 2].read_bytes())
    data[len(data) // 3] ^= 0x01
    files[len(files) // 2].write_bytes(bytes(data))


def flip_timeline(folder: Path) -> None:
    (path,) = folder.glob(f"videos/{ONE}/timeline-*")
    data = bytearray(path.read_bytes())
    data[-3] ^= 0x01
    path.write_bytes(bytes(data))


def halve_manifest(folder: Path) -> None:
    path = folder / "videos" / ONE / "manifest.json"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change_count(folder: Path) -> None:
    path = folder / "videos" / ONE / "manifest.json"
    path.write_text(path.read_text().replace('"frames": 40', '"frames": 41'))


def change_dimension(folder: Path) -> None:
    path = folder / "videos" / ONE / "manifest.json"
    document = json.loads(path.read_text())
    del document["digest"]  # as one of an early version
    path.write_text(json.dumps({**document, "dimension": 17}))


def change_generation(folder: Path) -> None:
    """Of everything that bears its name."""
    path = folder / "videos" / ONE / "manifest.json"
    document = json.loads(path.read_text())
    del document["digest"]
    for file in path.parent.iterdir():
        file.rename(file.with_name(file.name.replace(document["generation"], "00000000deadbeef")))
    path.write_text(json.dumps({**document, "generation": "00000000deadbeef"}))


def change_path(folder: Path) -> None:
    path = folder / "videos" / ONE / "manifest.json"
    path.write_text(path.read_text().replace("/videos/", "/elsewhere/"))


def change_seconds(folder: Path) -> None:
    path = folder / "videos" / ONE / "manifest.json"
    path.write_text(path.read_text().replace('"decode_and_embed": 1.5', '"decode_and_embed": 1.25'))


def lose_manifest(folder: Path) -> None:
    (folder / "videos" / ONE / "manifest.json").unlink()


def lose_timeline(folder: Path) -> None:
    (path,) = folder.glob(f"videos/{ONE}/timeline-*")
    path.unlink()


@pytest.mark.parametrize(
    "damage",
    [
        flip_vectors,
        flip_timeline,
        halve_manifest,
        change_count,
        change_dimension,
        change_generation,
        change_path,
        change_seconds,
        lose_manifest,
        lose_timeline,
    ],
)
def test_whatever_is_damaged_is_found_and_nothing_else(filled: Archive, damage: Callable[[Path], None]) -> None:
    damage(filled.folder)
    with Archive.open(filled.folder, create=False) as fresh:
        found = states(fresh)
    assert "damaged" in found.values()
    if filled.backend == "faiss" or damage is not flip_vectors:  # LanceDB keeps the rows of several videos together
        assert {video for video, state in found.items() if state == "damaged"} == {ONE}


def test_lost_vectors_are_found(filled: Archive) -> None:
    filled.store.remove(filled.require(ONE).key)
    assert states(filled)[ONE] == "damaged"


def test_what_a_killed_writer_left_is_not_damage(filled: Archive) -> None:
    (filled.folder / "videos" / ONE / "manifest.json").unlink()
    (filled.folder / "pending").mkdir(exist_ok=True)
    (filled.folder / "pending" / ONE).touch()
    assert states(filled)[ONE] == "unfinished"


@pytest.mark.parametrize("what", ["commit", "remove"])
def test_what_a_writer_does_while_it_is_looked_at_is_not_damage(
    filled: Archive, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """There was no manifest when it was asked for; by the time of the next question the writer has done its work."""
    looked_at = video_id(9)
    (filled.folder / "videos" / looked_at).mkdir()
    look = Archive.manifest

    def meanwhile(self: Archive, name: str) -> Manifest | None:
        found = look(self, name)
        if name == looked_at:
            monkeypatch.setattr(Archive, "manifest", look)
            with Archive.open(filled.folder) as writer:
                writer.commit(looked_at, NewIndex(**some_index(9)))
                if what == "remove":
                    writer.remove(looked_at)
        return found

    monkeypatch.setattr(Archive, "manifest", meanwhile)
    (finding,) = verify_archive(filled, [looked_at])
    assert finding.state == ("sound" if what == "commit" else "unfinished")


def test_a_writer_that_begins_while_a_video_is_looked_at_is_not_damage(
    filled: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There was neither mark nor manifest when it was asked for them; then the writer makes mark and folder."""
    looked_at, looks = video_id(9), 0
    look = Archive.manifest

    with contextlib.ExitStack() as until_then:
        writer = until_then.enter_context(Archive.open(filled.folder))

        def meanwhile(self: Archive, name: str) -> Manifest | None:
            nonlocal looks
            looks += self is filled
            if self is filled and looks == 2:
                staged = until_then.enter_context(writer.stage_features(looked_at, some_spec()))
                staged.add(some_items([0]).values())
                assert (filled.folder / "videos" / looked_at).exists()
            return look(self, name)

        monkeypatch.setattr(Archive, "manifest", meanwhile)
        (finding,) = verify_archive(filled, [looked_at])
    assert looks >= 2
    assert (finding.state, finding.problem) == ("unfinished", "it is being written, or its writer was killed")


@pytest.mark.parametrize("written", [ONE, video_id(9)], ids=["indexed anew", "new"])
@pytest.mark.parametrize("what", ["committed", "committed and replaced", "committed and removed"])
def test_what_a_writer_finishes_while_vectors_are_listed_is_no_stranger(
    filled: Archive, monkeypatch: pytest.MonkeyPatch, written: str, what: str
) -> None:
    """All manifests have been read, and the vectors are about to be listed."""
    kind = type(filled.store)
    listed = kind.keys

    def meanwhile(self: VectorStore, video: str | None = None) -> Iterator[VectorKey]:
        monkeypatch.setattr(kind, "keys", listed)
        with Archive.open(filled.folder) as writer:
            writer.commit(written, NewIndex(**some_index(7)))
            found = list(listed(self, video))
            if what == "committed and replaced":
                writer.commit(written, NewIndex(**some_index(8)))
            elif what == "committed and removed":
                writer.remove(written)
        return iter(found)

    monkeypatch.setattr(kind, "keys", meanwhile)
    assert [finding.state for finding in verify_archive(filled)] == ["sound"] * 3


def test_vectors_that_belong_to_no_index_are_said(filled: Archive) -> None:
    filled.store.write(VectorKey(video_id(7), "0b"), some_index(7)["vectors"])
    filled.store.write(VectorKey(ONE, "0b"), some_index(7)["vectors"])
    problems = {
        finding.video_id: finding.problem for finding in verify_archive(filled) if finding.state == "unfinished"
    }
    assert problems[ONE] == "vectors of generation 0b belong to no index; hybrid compact deletes them"
    if filled.backend == "lancedb":  # FAISS's lie in a folder without a manifest, as is said then
        assert problems[video_id(7)] == problems[ONE]


def test_a_folder_that_goes_while_it_is_looked_at_is_no_error(filled: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that removes a video deletes its folder when a reader, or who compacts, is about to list it."""
    folder = filled.folder / "videos" / video_id(9)

    def going(real: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def look(place: Any) -> Any:
            if Path(place) == folder and folder.exists():
                folder.rmdir()
            return real(place)

        return look

    folder.mkdir()
    before = [manifest.key for manifest in filled.manifests()]
    monkeypatch.setattr(os, "listdir", going(os.listdir))
    monkeypatch.setattr(os, "scandir", going(os.scandir))
    assert list(FaissStore(filled.folder).keys()) == (before if filled.backend == "faiss" else [])
    for look in (filled._layout.timelines, filled._layout.feature_lists, filled._layout.feature_values):
        folder.mkdir(exist_ok=True)
        assert list(look(video_id(9))) == []
        assert not folder.exists()


def test_a_folder_that_cannot_be_read_is_named_and_the_others_are_looked_at(
    filled: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files can be opened by name, but not listed. (Nothing is forbidden to root.)"""
    folder, real = filled.folder / "videos" / ONE, os.listdir

    def forbidden(place: Any = ".") -> list[str]:
        if Path(place) == folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))
        return real(place)

    manifest = filled.require(ONE)
    filled.add_features(manifest, some_spec(), some_items([0]))
    monkeypatch.setattr(os, "listdir", forbidden)
    findings = list(verify_archive(filled))
    assert [(finding.video_id, finding.state) for finding in findings] == [
        (video_id(0), "sound"),
        (ONE, "damaged"),
        (video_id(2), "sound"),
    ]
    assert findings[1].problem == f"{folder}: cannot be read: Permission denied"
    assert filled.feature_lists(manifest) == []
    with pytest.raises(ArchiveError, match="Permission denied"):
        filled.remove(ONE)


def test_features_of_frames_that_the_index_no_longer_has_are_not_damage(filled: Archive) -> None:
    """A writer has replaced the index and has yet to delete them."""
    one = video_id(1)
    filled.add_features(filled.require(one), some_spec(), some_items([0, 1]))
    left = {path: path.read_bytes() for path in (filled.folder / "videos" / one).glob("features-*")}
    filled.commit(one, NewIndex(**some_index(7)))
    for path, data in left.items():
        path.write_bytes(data)
    (finding,) = verify_archive(filled, [one])
    assert (finding.state, finding.features) == ("sound", 0)


def test_only_some_videos_are_looked_at(filled: Archive) -> None:
    assert [finding.video_id for finding in verify_archive(filled, [ONE])] == [ONE]


def test_compacting_deletes_what_no_manifest_speaks_for_and_nothing_else(filled: Archive) -> None:
    filled.store.write(filled.require(ONE).key.__class__(video_id(7), "0b"), some_index(7)["vectors"])
    (filled.folder / "pending").mkdir(exist_ok=True)
    (filled.folder / "pending" / video_id(8)).touch()
    done = compact_archive(filled)
    assert done.swept == 2
    assert {key.video_id for key in list(filled.store.keys())} == {video_id(number) for number in range(3)}
    assert list((filled.folder / "pending").iterdir()) == []
    assert set(states(filled).values()) == {"sound"}
    assert compact_archive(filled).swept == 0


def test_videos_that_moved_away_or_were_replaced_are_known(filled: Archive, tmp_path: Path) -> None:
    here, replaced = tmp_path / "here.mp4", tmp_path / "replaced.mp4"
    here.write_bytes(b"first")
    replaced.write_bytes(b"second")
    index = some_index(5)
    for path in (here, replaced):
        source = Source(path=str(path), size_bytes=path.stat().st_size)
        filled.commit(filled.identify(path), NewIndex(**{**index, "source": source}))
    replaced.write_bytes(b"something else")
    found = {manifest.source.path: why for manifest, why in missing_videos(filled, list(filled.manifests()))}
    assert str(here) not in found
    assert found[str(replaced)] == f"another video lies at {replaced} now"
    assert found["/videos/größe 電影.mp4"] == "/videos/größe 電影.mp4 does not exist any more"


def failure(path: str, video: str | None, *, attempts: int = 1) -> Failure:
    return Failure(
        path=path,
        video_id=video,
        reason="no frame could be decoded",
        kind="FrameDecodeError",
        lasting=True,
        attempt=Attempt(rate=1.0),
        attempts=attempts,
        failed_at="2026-01-01T00:00:00+00:00",
    )


def test_failures_are_remembered_replaced_and_forgotten(tmp_path: Path) -> None:
    assert list(failures(tmp_path)) == []
    known, unknown = failure("/b.mp4", ONE), failure("/a\udce9.mp4", None)
    for record in (known, unknown):
        remember_failure(tmp_path, record)
    assert [record.path for record in failures(tmp_path)] == [unknown.path, known.path]
    assert known_failure(tmp_path, ONE, "/elsewhere.mp4") == known
    remember_failure(tmp_path, failure("/b.mp4", ONE, attempts=2))
    found = known_failure(tmp_path, ONE, "/b.mp4")
    assert found is not None
    assert found.attempts == 2
    (tmp_path / "failed" / "noise.json").write_bytes(os.urandom(40))
    assert len(list(failures(tmp_path))) == 2
    forget_failure(tmp_path, ONE, "/b.mp4")
    forget_failure(tmp_path, None, unknown.path)
    forget_failure(tmp_path, None, "/never.mp4")
    assert list(failures(tmp_path)) == []
