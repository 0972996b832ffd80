"""What must outlive a power failure is flushed before the manifest that speaks for it can be seen.

A file counts as flushed if it has been flushed since it last changed, a folder if it has been since its last
new entry; so what LanceDB writes by itself is judged as well as what we write.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from archive_samples import some_index, video_id

from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive
from indexes.format.failures import Attempt, Failure, remember_failure
from indexes.format.feature_list import FeatureSpec, feature_item
from indexes.maintenance.stats import compact_archive

Stamp = tuple[int, int, tuple[str, ...]]

REBUILT = ("locks", "cache")
"""Folders that an archive goes without: locks hold nothing, and the cache is made anew from what is there."""


class Flushes:
    """Remembers how each file and folder was when it was flushed last."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.commits = 0
        self._seen: dict[Path, Stamp] = {}
        self._fsync = os.fsync

    def fsync(self, handle: int) -> None:
        self._fsync(handle)
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        self._seen[path] = stamp(path)

    def rename(self, source: Path, target: Path) -> None:
        """A file keeps its content under its new name."""
        if source in self._seen:
            self._seen[target] = self._seen.pop(source)

    def missing(self) -> list[str]:
        """What would not be there, or not be whole, if the power failed now."""
        paths = [self.root, *(path for path in self.root.rglob("*") if not is_rebuilt(path.relative_to(self.root)))]
        return [str(path.relative_to(self.root.parent)) for path in paths if not self._is_flushed(path)]

    def _is_flushed(self, path: Path) -> bool:
        seen, now = self._seen.get(path), stamp(path)
        if path.is_dir():  # an entry that has gone since may come back; it does no harm
            return seen is not None and set(now[2]) <= set(seen[2])
        return seen == now or not now[0]  # an empty file is its name, which is its folder's


def is_rebuilt(path: Path) -> bool:
    return not set(REBUILT).isdisjoint(path.parts)


def stamp(path: Path) -> Stamp:
    if path.is_dir():
        entries = [name for name in os.listdir(path) if not is_rebuilt(Path(name)) and ".tmp-" not in name]
        return 0, 0, tuple(sorted(entries))
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, ()


@pytest.fixture
def flushes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flushes:
    """Watches an archive that is made in new folders; each manifest is looked at as it becomes visible."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc to tell which file is flushed")
    seen, replace = Flushes(tmp_path / "new"), os.replace

    def watched(source: Path, target: Path) -> None:
        if Path(target).name == "manifest.json":
            seen.commits += 1
            (temporary,) = Path(target).parent.glob(".manifest.json.tmp-*")
            assert [path for path in seen.missing() if ".tmp-" not in path] == []
            assert seen._is_flushed(temporary)
        replace(source, target)
        seen.rename(Path(source), Path(target))

    monkeypatch.setattr(os, "fsync", seen.fsync)
    monkeypatch.setattr(os, "replace", watched)
    return seen


def test_everything_is_flushed_before_a_manifest_is_seen(flushes: Flushes, backend: str) -> None:
    folder = flushes.root / "made" / "with" / "archive"
    with Archive.open(folder, backend=backend) as archive:
        for number in (1, 2, 3):
            archive.commit(video_id(number), NewIndex(**some_index(number)))
            assert flushes.missing() == []
        archive.commit(video_id(1), NewIndex(**some_index(2)))  # another index of the same video
        archive.commit(video_id(4), NewIndex(**some_index(4, dimension=16)))  # LanceDB makes another table for it
        assert flushes.missing() == []
        archive.remove(video_id(2))
        assert flushes.missing() == []
    with Archive.open(folder) as archive:
        archive.commit(video_id(5), NewIndex(**some_index(5)))
    assert flushes.missing() == []
    assert flushes.commits == 6


def test_what_a_table_gains_when_it_is_compacted_is_flushed(flushes: Flushes, backend: str) -> None:
    with Archive.open(flushes.root, backend=backend) as archive:
        for number in range(1, 5):
            archive.commit(video_id(number), NewIndex(**some_index(number)))
        compact_archive(archive, approximate_from=1)
        assert flushes.missing() == []
        archive.commit(video_id(9), NewIndex(**some_index(9)))
    assert flushes.commits == 5


def test_features_and_failures_are_flushed_with_their_folders(flushes: Flushes, backend: str) -> None:
    spec = FeatureSpec({"model": "m"}, "float32", 1)
    item = feature_item((1, 1), np.zeros(4, dtype=np.uint8))
    with Archive.open(flushes.root, backend=backend) as archive:
        index = some_index(1)
        with archive.stage_features(video_id(1), spec) as staged:
            staged.add([item] * len(index["timeline"].distinct_rows()))
            manifest = archive.commit(video_id(1), NewIndex(**index), features=staged)
        assert flushes.missing() == []
        other = FeatureSpec({"model": "n"}, "float32", 1)
        assert archive.add_features(manifest, other, {0: item}) == 1
        assert flushes.missing() == []
        record = Failure(
            path="/x", video_id=None, reason="r", kind="k", lasting=False, attempt=Attempt(), attempts=1, failed_at=""
        )
        remember_failure(archive.folder, record, put=archive.put_file)
        assert flushes.missing() == []


def test_a_mark_of_unfinished_work_outlives_a_power_failure(flushes: Flushes, backend: str) -> None:
    """Or else nobody would know that there is something to clean up."""
    with Archive.open(flushes.root, backend=backend) as archive:
        with archive.stage_features(video_id(1), FeatureSpec({"model": "m"}, "float32", 1)):
            assert (flushes.root / "pending" / video_id(1)).exists()
            assert "new/pending" not in flushes.missing()
            assert "new" not in flushes.missing()


def test_folders_of_a_process_that_was_killed_are_flushed_by_the_next_writer(flushes: Flushes, backend: str) -> None:
    """It may have been killed between making one and flushing it."""
    Archive.open(flushes.root, backend=backend).close()
    for name in ("videos", "pending"):
        (flushes.root / name).mkdir()
    with Archive.open(flushes.root) as archive:
        archive.commit(video_id(1), NewIndex(**some_index(1)))
    assert flushes.missing() == []
