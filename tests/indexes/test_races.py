"""Who reads while others remove and index: a video that is gone is gone, and not damaged."""

from __future__ import annotations

import time
from multiprocessing import get_context
from pathlib import Path

import pytest
from archive_samples import some_index, unit_vectors, video_id
from writer_process import come_and_go

from hybrid.errors import IndexDamagedError, VideoNotIndexedError
from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive
from indexes.format.layout import VectorKey
from indexes.maintenance.stats import archive_stats
from indexes.maintenance.verify import verify_archive
from indexes.search.timed_hits import find_timed_hits
from indexes.stores.registry import STORES

VIDEOS = 6
SECONDS = 3.0


def fail(name: str, error: IndexDamagedError) -> None:
    pytest.fail(f"{name} is not damaged: {error}")


@pytest.mark.parametrize("backend", STORES.names)
def test_what_is_removed_while_others_read_is_not_damaged(tmp_path: Path, backend: str) -> None:
    """Search, one video, list, statistics and verify beside a process that removes and indexes."""
    with Archive.open(tmp_path / "archive", backend=backend) as archive:
        for number in range(VIDEOS):
            archive.commit(video_id(number), NewIndex(**some_index(number)))
    context = get_context("spawn")  # LanceDB must not be used across a fork
    stop = context.Event()
    writer = context.Process(target=come_and_go, args=(stop, str(tmp_path / "archive"), VIDEOS))
    writer.start()
    rounds = searched = 0
    try:
        with Archive.open(tmp_path / "archive", create=False) as archive:
            deadline = time.monotonic() + SECONDS
            while rounds < 3 or time.monotonic() < deadline:
                rounds += 1
                query = unit_vectors(1, 16, rounds)[0]
                manifests = list(archive.manifests(on_damage=fail))
                found = find_timed_hits(archive, manifests, query, 20)
                # On a slow machine a video may be replaced twice while one search runs.
                assert all("was replaced or removed by" in reason for reason in found.found.failed.values())
                searched += len(found.found.searched)
                for manifest in manifests[:2]:
                    try:
                        archive.timeline(manifest.video_id)
                        archive.search(manifest.video_id, query, 3)
                    except VideoNotIndexedError:
                        continue
                if rounds % 5 == 0:
                    assert [one.problem for one in verify_archive(archive) if one.state == "damaged"] == []
                    assert archive_stats(archive, recall=False).videos <= VIDEOS
    finally:
        stop.set()
        writer.join(60)
        if writer.is_alive():
            writer.kill()
    assert writer.exitcode == 0
    assert searched > 0


@pytest.mark.parametrize("backend", STORES.names)
def test_what_is_removed_and_indexed_again_during_a_read_is_not_damaged(
    tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same content has the same generation; damage that stays is still told."""
    with (
        Archive.open(tmp_path / "archive", backend=backend) as writer,
        Archive.open(tmp_path / "archive", backend=backend) as reader,
    ):
        writer.commit(video_id(0), NewIndex(**some_index(0)))
        check = reader.store.check

        def removed_meanwhile(key: VectorKey, *hashes: str) -> tuple[int, int]:
            monkeypatch.undo()
            writer.remove(video_id(0))
            try:
                return check(key, *hashes)
            finally:
                writer.commit(video_id(0), NewIndex(**some_index(0)))

        monkeypatch.setattr(reader.store, "check", removed_meanwhile)
        assert [one.state for one in verify_archive(reader)] == ["sound"]
        writer.store.remove(next(writer.store.keys(video_id(0))))
        assert [one.state for one in verify_archive(reader)] == ["damaged"]
