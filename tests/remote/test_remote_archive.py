"""An archive in an object store does what one in a folder does, for several machines."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from hybrid.errors import (
    ArchiveError,
    ArchiveFormatError,
    ArchiveLockedError,
    IndexDamagedError,
    InputError,
    VideoNotIndexedError,
)
from hybrid.storage.atomic import remove_temporaries
from hybrid.values import Timeline
from indexes.archive.header import Header
from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive
from indexes.format.failures import Attempt, Failure, failures, forget_failure, known_failure, remember_failure
from indexes.format.layout import Layout
from indexes.format.manifest import Source
from indexes.maintenance.stats import archive_stats, compact_archive
from indexes.maintenance.transfer import copy_index, export_index, import_index, read_export
from indexes.maintenance.verify import verify_archive
from indexes.open_archive import open_archive
from indexes.remote import archive as remote
from indexes.remote.archive import RemoteArchive
from indexes.remote.leases import Leases
from indexes.remote.local_mirror import LocalMirror
from indexes.remote.object_store import ObjectInfo, Objects
from indexes.search.archive_search import search_archive_vectors
from tests.indexes.archive_samples import some_config, some_index, unit_vectors, video_id
from tests.remote.conftest import Machine

ONE, TWO, THREE = video_id(1), video_id(2), video_id(3)


def assert_same(found: Timeline, wanted: Timeline) -> None:
    np.testing.assert_array_equal(found.ordinals, wanted.ordinals)
    np.testing.assert_array_equal(found.pts_seconds, wanted.pts_seconds)


def test_the_same_objects_as_the_files_of_a_folder(uri: str, tmp_path: Path) -> None:
    with open_archive(uri) as remote, open_archive(tmp_path / "local", backend="lancedb") as local:
        assert (remote.uri, remote.backend) == (uri, "lancedb")
        for number in (1, 2):
            index = some_index(number)
            assert (
                remote.commit(video_id(number), NewIndex(**index)).key
                == local.commit(video_id(number), NewIndex(**index)).key
            )
    listed = Objects(uri).list()
    small = {name for name in listed if not name.startswith("frames_16.lance/")}
    timelines = {f"videos/{m.video_id}/timeline-{m.generation}.safetensors" for m in local.manifests()}
    assert small == {"archive.json", f"videos/{ONE}/manifest.json", f"videos/{TWO}/manifest.json", *timelines}
    # Copied into a folder, they are an archive.
    for name in listed:
        found = Objects(uri).get(name)
        assert found is not None
        path = tmp_path / "copy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(found.data)
    with open_archive(tmp_path / "copy", create=False) as copy:
        assert [finding.state for finding in verify_archive(copy)] == ["sound", "sound"]
        query = unit_vectors(1, 16, 5)[0]
        assert copy.search(ONE, query, 5).rows.tolist() == local.search(ONE, query, 5).rows.tolist()


def test_another_machine_reads_and_changes_it(uri: str, machine: Machine) -> None:
    first, second = some_index(1), some_index(2)
    here = open_archive(uri)
    here.commit(ONE, NewIndex(**first))
    machine("two")
    with open_archive(uri, backend="lancedb", create=False) as there:
        assert there.folder != here.folder
        assert [manifest.video_id for manifest in there.manifests()] == [ONE]
        assert_same(there.timeline(ONE), first["timeline"])
        np.testing.assert_array_equal(there.read(ONE), first["vectors"].astype(np.float16).astype(np.float32))
        assert there.up_to_date(ONE, some_config()) is not None
        there.commit(TWO, NewIndex(**second))
        there.commit(ONE, NewIndex(**second))  # replaced
        query = unit_vectors(1, 16, 7)[0]
        found = search_archive_vectors(there, list(there.manifests()), query, 3)
        assert not found.failed
        assert sum(map(len, found.hits.values())) == 3
        # What another machine did is seen without opening again.
        assert [manifest.video_id for manifest in here.manifests()] == [ONE, TWO]
        assert_same(here.timeline(ONE), second["timeline"])
        there.remove(ONE)
        assert here.manifest(ONE) is None
        with pytest.raises(VideoNotIndexedError):
            here.timeline(ONE)
        assert [finding.video_id for finding in verify_archive(there)] == [TWO]
    here.close()
    assert not [name for name in Objects(uri).list() if ONE in name or name.startswith("pending/")]
    with open_archive(uri) as again:
        assert list(again.store.keys()) == [again.require(TWO).key]


def test_a_machine_forgets_what_others_removed(uri: str, machine: Machine) -> None:
    with open_archive(uri) as here:
        here.commit(ONE, NewIndex(**some_index(1)))
        folder = here.folder
    machine("two")
    with open_archive(uri) as there:
        there.remove(ONE)
    machine("one")
    assert (folder / "videos" / ONE).is_dir()
    with open_archive(uri) as here:
        assert list(here.manifests()) == []
        assert list(verify_archive(here)) == []
    assert not (folder / "videos" / ONE).exists()


def test_one_machine_at_a_time_writes_a_video(uri: str, machine: Machine) -> None:
    here = open_archive(uri)
    machine("two")
    there = open_archive(uri)
    with here.lock(ONE):
        with pytest.raises(ArchiveLockedError, match=f"video {ONE} in archive {uri} is being written"):
            there.commit(ONE, NewIndex(**some_index(1)))
        there.commit(TWO, NewIndex(**some_index(2)))
        here.commit(ONE, NewIndex(**some_index(1)))
    there.note_source(ONE, Source(path="/moved.mp4", size_bytes=5))
    assert here.require(ONE).source.path == "/moved.mp4"
    here.close()
    there.close()


def test_a_writer_that_was_taken_over_commits_nothing(uri: str) -> None:
    archive = open_archive(uri)
    archive.commit(ONE, NewIndex(**some_index(1)))
    before = archive.require(ONE)
    with archive.lock(ONE):
        Objects(uri).put(f"pending/{ONE}", Leases(Objects(uri), "another machine").content())
        with pytest.raises(ArchiveLockedError, match="taken the video over"):
            archive.commit(ONE, NewIndex(**some_index(2)))
    assert archive.require(ONE) == before
    archive.close()


def test_damage_is_found(uri: str, machine: Machine) -> None:
    with open_archive(uri) as archive:
        for number in (1, 2, 3):
            archive.commit(video_id(number), NewIndex(**some_index(number)))
        timeline = archive._layout.timeline(archive.require(ONE).key).name
        objects = Objects(uri)
        objects.put(f"videos/{ONE}/{timeline}", b"something else")
        objects.put(f"videos/{TWO}/manifest.json", b'{"format_version": 1')
        objects.delete(f"videos/{THREE}/manifest.json")
        # This machine's copies are sound, but the copies are not what counts.
        with pytest.raises(IndexDamagedError, match=f"hybrid remove {ONE} --archive {uri}"):
            archive.verify(ONE)
        machine("two")
        with open_archive(uri) as there:
            states = {finding.video_id: finding.state for finding in verify_archive(there)}
            assert states == dict.fromkeys((ONE, TWO, THREE), "damaged")
            with pytest.raises(IndexDamagedError):
                there.timeline(ONE)
            # Indexing again mends it.
            assert [there.up_to_date(video_id(number), some_config()) for number in (1, 2, 3)] == [None] * 3
            there.commit(TWO, NewIndex(**some_index(2)))
            there.verify(TWO)


def test_vectors_that_are_gone_are_found(uri: str) -> None:
    with open_archive(uri) as archive:
        manifest = archive.commit(ONE, NewIndex(**some_index(1)))
        archive.store.remove(manifest.key)
        assert archive.up_to_date(ONE, some_config()) is None
        with pytest.raises(IndexDamagedError, match="missing"):
            archive.read(ONE)


def test_failures_are_everyones(uri: str, machine: Machine) -> None:
    record = Failure(
        path="/bad.mp4",
        video_id=ONE,
        reason="no video",
        kind="VideoOpenError",
        lasting=True,
        attempt=Attempt(),
        attempts=1,
        failed_at="2026-03-01T00:00:00+00:00",
    )
    with open_archive(uri) as here:
        remember_failure(here.folder, record, put=here.put_file)
    machine("two")
    with open_archive(uri) as there:
        assert known_failure(there.folder, ONE, "/bad.mp4") == record
        assert archive_stats(there).failed == ("/bad.mp4: no video",)
        forget_failure(there.folder, ONE, "/bad.mp4", drop=there.drop_file)
    machine("one")
    with open_archive(uri) as here:
        assert list(failures(here.folder)) == []


def test_stock_and_compaction(uri: str) -> None:
    with open_archive(uri) as archive:
        for number in (1, 2):
            archive.commit(video_id(number), NewIndex(**some_index(number)))
        stock = archive_stats(archive)
        assert (stock.archive, stock.videos, stock.frames) == (uri, 2, 80)
        assert sum(stock.bytes.values()) == sum(info.size_bytes for info in Objects(uri).list().values())
        assert stock.bytes["vectors"] > 80 * 16 * 2
        assert stock.bytes["cache"] == 0
        compact_archive(archive)
        assert [finding.state for finding in verify_archive(archive)] == ["sound", "sound"]


def test_in_and_out(uri: str, tmp_path: Path) -> None:
    with open_archive(tmp_path / "faiss", backend="faiss") as source, open_archive(uri) as remote:
        manifest = source.commit(ONE, NewIndex(**some_index(1)))
        assert copy_index(source, remote, manifest)
        assert not copy_index(source, remote, manifest)
        export_index(remote, remote.require(ONE), tmp_path / "one.zip")
        remote.remove(ONE)
        assert import_index(remote, read_export(tmp_path / "one.zip")) == (manifest, True)
        remote.verify(ONE)


def test_only_where_it_can_be(uri: str) -> None:
    with pytest.raises(InputError, match="no remote backend 'faiss'; legal are lancedb"):
        open_archive(uri, backend="faiss")
    with pytest.raises(InputError, match="a Path, in which a URI loses a slash"):
        open_archive(Path(uri))
    with pytest.raises(ArchiveFormatError, match="there is no archive here"):
        open_archive(uri, create=False)
    Objects(uri).put("something.txt", b"else")
    with pytest.raises(ArchiveFormatError, match="other objects lie below"):
        open_archive(uri)
    Objects(uri).delete("something.txt")
    Objects(uri).put("archive.json", b'{"format_version": 1, "backend": "faiss", "created_by": "x"}')
    with pytest.raises(ArchiveFormatError, match="cannot be used in an object store"):
        open_archive(uri)
    Objects(uri).put("archive.json", b'{"format_version": 2}')
    with pytest.raises(ArchiveFormatError, match="format version is 2"):
        open_archive(uri)
    with pytest.raises(ArchiveError, match="no such bucket"):
        open_archive("s3://there-is-none/videos")


@pytest.mark.parametrize("done", ["tried out", "made", "filled"])
def test_an_archive_made_while_an_opener_looks_is_no_foreign_prefix(
    uri: str, monkeypatch: pytest.MonkeyPatch, done: str
) -> None:
    """What another opener has done between our look for a header and our look at what else is there."""
    look = remote._first_contact

    def made_meanwhile(objects: Objects, layout: Layout) -> Header | None:
        found = look(objects, layout)
        monkeypatch.setattr(remote, "_first_contact", look)
        if done == "tried out":
            objects.put(".tmp-0123456789abcdef", b"1")
            return found
        with open_archive(uri) as other:
            if done == "filled":
                other.commit(ONE, NewIndex(**some_index(1)))
        return found

    monkeypatch.setattr(remote, "_first_contact", made_meanwhile)
    with open_archive(uri) as archive:
        assert [manifest.video_id for manifest in archive.manifests()] == [ONE] * (done == "filled")


def test_a_header_whose_copy_another_process_deletes_counts(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one asked before there was an archive, and clears its copy away after this one wrote it."""
    write = remote.write_atomically

    def deleted_at_once(path: Path, data: bytes) -> None:
        write(path, data)
        path.unlink()

    monkeypatch.setattr(remote, "write_atomically", deleted_at_once)
    open_archive(uri).close()


def test_a_store_that_cannot_be_reached(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(ArchiveError, match="found by the environment: AWS_ACCESS_KEY_ID"):
        open_archive(uri)


def test_a_stale_copy_is_not_believed(uri: str, machine: Machine) -> None:
    """However the folder and its memory of versions were mixed up."""
    with open_archive(uri) as here:
        here.commit(ONE, NewIndex(**some_index(1)))
        path = here._layout.manifest(ONE)
        list(here.manifests())
        before = path.read_bytes()
    machine("two")
    with open_archive(uri) as there:
        there.commit(ONE, NewIndex(**some_index(2)))
        wanted = there.require(ONE)
    machine("one")
    path.write_bytes(before)
    with open_archive(uri) as here:
        assert list(here.manifests()) == [wanted]
        path.write_bytes(before)
        assert list(here.manifests()) == [wanted]


def test_two_machines_write_at_once(uri: str, machine: Machine) -> None:
    """Different videos, and the same ones: all are whole afterwards, and each is there once."""
    archives = []
    for name in ("one", "two"):
        machine(name)
        archives.append(open_archive(uri))
    numbers = range(1, 4)

    def write(archive: Archive, order: list[int]) -> None:
        for number in order:
            with archive.lock(video_id(number), timeout=60):
                if archive.up_to_date(video_id(number), some_config()) is None:
                    archive.commit(video_id(number), NewIndex(**some_index(number)))

    with ThreadPoolExecutor(2) as pool:
        orders = (list(numbers), list(reversed(numbers)))
        for done in [pool.submit(write, archive, order) for archive, order in zip(archives, orders, strict=True)]:
            done.result()
    ids = [video_id(number) for number in numbers]
    for archive in archives:
        assert [(finding.video_id, finding.state) for finding in verify_archive(archive)] == [
            (id_, "sound") for id_ in ids
        ]
        assert [key.video_id for key in archive.store.keys()] == ids  # noqa: SIM118 (a store is no dictionary)
        archive.close()
    assert not [name for name in Objects(uri).list() if name.startswith("pending/")]


def test_a_mark_made_since_the_store_was_listed_stays(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process of this machine gets lease and mark between this one's question and its answer."""
    with open_archive(uri) as writer, open_archive(uri) as reader:
        assert isinstance(reader, RemoteArchive)
        writer.commit(ONE, NewIndex(**some_index(1)))
        mark, stale = writer._layout.pending / ONE, writer._layout.pending / TWO
        stale.touch()
        listed = Objects(uri).list("pending")
        assert not listed
        ask = Objects.list

        def asked_before(self: Objects, prefix: str = "") -> dict[str, ObjectInfo]:
            return listed if prefix == "pending" else ask(self, prefix)

        with ThreadPoolExecutor(1) as other_process, writer.lock(ONE):
            writer._mark(ONE)
            monkeypatch.setattr(Objects, "list", asked_before)
            other_process.submit(reader.refresh).result()
            assert mark.exists()
            assert not stale.exists()
            monkeypatch.setattr(Objects, "list", ask)
            writer._clean(ONE)
        # Its writer is dead, so nobody holds the lock; but the store has the lease.
        mark.touch()
        Objects(uri).put(f"pending/{ONE}", b"{}")
        monkeypatch.setattr(Objects, "list", asked_before)
        reader.refresh()
        assert mark.exists()


@pytest.mark.parametrize("late", ["none", "older"])
def test_a_copy_that_a_late_process_makes_costs_no_index(uri: str, monkeypatch: pytest.MonkeyPatch, late: str) -> None:
    """It asked the store before the commit, and changes this machine's copy while the writer cleans up behind it."""
    with open_archive(uri) as archive:
        before = archive.commit(ONE, NewIndex(**some_index(1))).to_bytes() if late == "older" else None
        path, fetch = archive._layout.manifest(ONE), LocalMirror.fetch

        def overtaken(self: LocalMirror, name: str) -> bytes | None:
            found = fetch(self, name)
            if before is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(before)
            return found

        with monkeypatch.context() as patch:
            patch.setattr(LocalMirror, "fetch", overtaken)
            committed = archive.commit(ONE, NewIndex(**some_index(2)))
        assert archive.verify(ONE) == committed
        assert list(archive.manifests()) == [committed]


def test_a_copy_that_is_cleaned_away_before_it_has_its_name_is_made_again(
    uri: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer of this machine cleans up in the folder of its video, where a reader has begun a copy."""
    with open_archive(uri) as here:
        wanted = here.commit(ONE, NewIndex(**some_index(1)))
    machine("two")
    replace, cleaned = os.replace, set()

    def too_late(begun: Path, path: Path) -> None:
        if path not in cleaned:
            cleaned.add(path)
            remove_temporaries(path.parent)
        replace(begun, path)

    with open_archive(uri) as there:
        for copy in (there._layout.manifest(ONE), there._layout.timeline(wanted.key)):
            copy.unlink(missing_ok=True)
        monkeypatch.setattr(os, "replace", too_late)
        assert there.require(ONE) == wanted
        assert_same(there.timeline(ONE), some_index(1)["timeline"])
        assert there._layout.timeline(wanted.key) in cleaned


def test_times_are_read_where_no_copy_of_them_can_be_kept(uri: str) -> None:
    with open_archive(uri) as archive:
        manifest = archive.commit(ONE, NewIndex(**some_index(1)))
        (copy,) = (archive.folder / "videos" / ONE).glob("timeline-*")
        copy.unlink()
        copy.mkdir()
        assert len(archive.timeline(manifest)) == manifest.frames
        assert [path.name for path in copy.parent.iterdir() if ".tmp-" in path.name] == []


def test_a_lease_stays_until_it_was_cleaned_up(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the mark is gone, or was put there by another process of this machine."""
    with open_archive(uri) as archive:
        mark, lease = archive._layout.pending / ONE, f"pending/{ONE}"

        def failing(video_id: str) -> bool:
            mark.unlink()
            raise ArchiveError("the store went away")

        with monkeypatch.context() as patch:
            patch.setattr(archive, "_clean", failing)
            with pytest.raises(ArchiveError, match="went away"):
                archive.commit(ONE, NewIndex(**some_index(1)))
        assert Objects(uri).get(lease) is not None
        with archive.lock(ONE):
            mark.touch()
        assert Objects(uri).get(lease) is None
        archive.verify(ONE)


def test_compacting_that_takes_more_room_says_why(uri: str) -> None:
    with open_archive(uri) as archive:
        for number in (1, 2, 3):
            archive.commit(video_id(number), NewIndex(**some_index(number)))
        done = compact_archive(archive)
    # All of it is younger than ten minutes.
    assert done.bytes_after > done.bytes_before
    assert done.note is not None
    assert "stays for 10 minutes" in done.note
