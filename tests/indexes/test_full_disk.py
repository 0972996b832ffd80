"""A disk that is full, or may not be written, at any of the places where something is written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archive_samples import some_index, video_id

from hybrid.errors import ArchiveError, ArchiveUnreachableError, ArchiveUnwritableError, IndexDamagedError
from hybrid.storage.atomic import write_errors
from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive
from indexes.format.feature_list import FeatureSpec, feature_item
from indexes.format.manifest import Source
from indexes.maintenance.transfer import export_index
from indexes.stores.lance_errors import lance_errors
from indexes.stores.registry import STORES
from tests.full_disk import fill, make_read_only, small_disk

ONE = video_id(1)


@contextmanager
def failing(calls: dict[str, int], nth: int, error: int) -> Iterator[None]:
    """The ``nth`` of the calls that write fails; ``calls`` counts them."""
    originals: dict[str, Callable[..., Any]] = {
        name: getattr(os, name) for name in ("fsync", "replace", "mkdir", "utime")
    }

    def wrap(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            calls["made"] = calls.get("made", 0) + 1
            if calls["made"] == nth:
                raise OSError(error, os.strerror(error))
            return originals[name](*arguments, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in originals:
            patch.setattr(os, name, wrap(name))
        yield


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES, errno.EDQUOT])
def test_wherever_writing_fails_the_index_that_was_there_stays(tmp_path: Path, error: int) -> None:
    with Archive.open(tmp_path / "archive", backend="faiss") as archive:
        before = archive.commit(ONE, NewIndex(**some_index(1)))
        other = archive.commit(video_id(2), NewIndex(**some_index(2))).vectors_hash
    said: list[str] = []
    for nth in range(1, 100):
        calls: dict[str, int] = {}
        with Archive.open(tmp_path / "archive") as archive:
            committed = False
            with failing(calls, nth, error):
                try:
                    archive.commit(ONE, NewIndex(**some_index(2)))
                    committed = True
                except ArchiveError as exc:
                    said.append(str(exc))
        with Archive.open(tmp_path / "archive", create=False) as archive:
            found = archive.verify(ONE)
            # Refused after the commit point, it may be the new one already; between them there is nothing.
            assert found.vectors_hash in ([other] if committed else [before.vectors_hash, other])
            archive.commit(ONE, NewIndex(**some_index(1)))  # and it can be gone on with
            assert archive.verify(ONE).vectors_hash == before.vectors_hash
        if calls["made"] < nth:
            break
    else:
        pytest.fail("the calls that write never came to an end")
    assert len(said) >= 5
    assert all(os.strerror(error) in line for line in said)


def error_of(write: Callable[[], object]) -> ArchiveError | None:
    """What a write raises; None if it succeeds."""
    try:
        write()
    except ArchiveError as exc:
        return exc
    return None


@pytest.mark.parametrize("backend", STORES.names)
def test_a_disk_that_is_really_full_is_recognised_wherever_it_ends(tmp_path: Path, backend: str) -> None:
    """With room for one page more each time, until a commit fits."""
    refused = 0
    with small_disk(tmp_path / "disk") as disk:
        with Archive.open(disk / "archive", backend=backend) as archive:
            before = archive.commit(ONE, NewIndex(**some_index(1)))
        for pages in range(100):
            ballast = fill(disk, free_bytes=4096 * pages)
            with Archive.open(disk / "archive") as archive:
                error = error_of(lambda archive=archive: archive.commit(video_id(2), NewIndex(**some_index(2))))  # type: ignore[misc]
            ballast.unlink()
            if error is None:
                break
            assert type(error) is ArchiveUnwritableError
            assert os.strerror(errno.ENOSPC) in str(error)
            refused += 1
            with Archive.open(disk / "archive") as archive:
                assert archive.verify(ONE) == before
        with Archive.open(disk / "archive") as archive:
            assert archive.verify(ONE) == before
            archive.verify(video_id(2))
    assert refused >= 3


@pytest.mark.parametrize("backend", STORES.names)
def test_the_first_video_of_an_archive_on_a_full_disk(tmp_path: Path, backend: str) -> None:
    with small_disk(tmp_path / "disk") as disk:
        with Archive.open(disk / "archive", backend=backend) as archive:
            for pages in (0, 1, 4):
                ballast = fill(disk, free_bytes=4096 * pages)
                with pytest.raises(ArchiveUnwritableError, match="No space left"):
                    archive.commit(ONE, NewIndex(**some_index(1, count=4000)))
                ballast.unlink()
            archive.commit(ONE, NewIndex(**some_index(1, count=4000)))
            archive.verify(ONE)
        fill(disk)
        with pytest.raises(ArchiveUnwritableError, match="No space left"):
            Archive.open(disk / "another", backend=backend)


@pytest.mark.parametrize("backend", STORES.names)
def test_every_way_to_write_says_that_the_disk_is_full(tmp_path: Path, backend: str) -> None:
    spec = FeatureSpec({"model": "m"}, "float32", 4)
    item = feature_item((1, 64), np.zeros(64 * 16, dtype=np.uint8))
    with small_disk(tmp_path / "disk") as disk, Archive.open(disk / "archive", backend=backend) as archive:
        before = archive.commit(ONE, NewIndex(**some_index(1)))
        ballast = fill(disk)
        writes: dict[str, Callable[[], object]] = {
            "commit": lambda: archive.commit(video_id(2), NewIndex(**some_index(2))),
            "replace": lambda: archive.commit(ONE, NewIndex(**some_index(2))),
            "features": lambda: archive.add_features(before, spec, {0: item}),
            "source": lambda: archive.note_source(ONE, Source(path="/elsewhere", size_bytes=1)),
        }

        def stage_many() -> None:
            # The caller turns the errors of adding into ours, who knows what else may fail there.
            with archive.stage_features(ONE, spec) as staged, write_errors("features"):
                for _ in range(1000):
                    staged.add([item])

        for what, write in {**writes, "staged": stage_many}.items():
            error = error_of(write)
            assert type(error) is ArchiveUnwritableError, what
            assert "No space left" in str(error)
        ballast.unlink()
        assert archive.verify(ONE).generation == before.generation
        assert archive.add_features(before, spec, {0: item}) == 1
        assert not list(disk.rglob(".*.tmp-*"))


@pytest.mark.parametrize("backend", STORES.names)
def test_a_disk_that_became_read_only(tmp_path: Path, backend: str) -> None:
    with small_disk(tmp_path / "disk") as disk:
        with Archive.open(disk / "archive", backend=backend) as archive:
            before = archive.commit(ONE, NewIndex(**some_index(1)))
        make_read_only(disk)
        with Archive.open(disk / "archive") as archive:
            with pytest.raises(ArchiveUnwritableError, match="Read-only file system"):
                archive.commit(video_id(2), NewIndex(**some_index(2)))
            assert archive.verify(ONE) == before


REFUSALS = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE]


@pytest.mark.parametrize(("number", "lasting"), [*((number, True) for number in REFUSALS), (errno.EISDIR, False)])
def test_what_ends_a_run_is_known_by_the_number_of_the_systems_error(number: int, lasting: bool) -> None:
    expected = ArchiveUnwritableError if lasting else ArchiveError
    for seam in (write_errors("it"), lance_errors("it", ArchiveError)):
        with pytest.raises(ArchiveError, match=os.strerror(number)) as caught, seam:
            raise OSError(number, os.strerror(number))
        assert type(caught.value) is expected
    # As Rust writes it; a video's name with the same words in it means nothing.
    texts = {f"LanceError(IO): {os.strerror(number)} (os error {number}), /x/src/io.rs:1:2": expected}
    texts[f"LanceError(IO): {os.strerror(number)}.mp4"] = ArchiveError
    for text, kind in texts.items():
        with pytest.raises(ArchiveError) as caught, lance_errors("it", ArchiveError):
            raise RuntimeError(text)
        assert type(caught.value) is kind
        with pytest.raises(IndexDamagedError), lance_errors("it", IndexDamagedError):
            raise RuntimeError(text)


@pytest.mark.parametrize("error", [ArchiveError, IndexDamagedError])
def test_an_object_store_that_does_not_answer_is_no_damage(error: type[ArchiveError]) -> None:
    text = "LanceError(IO): Generic S3 error: Error performing PUT http://x in 1.2s, after 3 retries - 503"
    with pytest.raises(ArchiveUnreachableError), lance_errors("it", error):
        raise RuntimeError(text)


LIMITED = """
import resource, signal, sys
sys.path.insert(0, sys.argv[2])
from archive_samples import some_index, video_id
from hybrid.errors import ArchiveError
from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Archive.open(sys.argv[1]) as archive:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
    try:
        archive.commit(video_id(1), NewIndex(**some_index(2, count=4000)))
    except ArchiveError as exc:
        print("refused", exc)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs RLIMIT_FSIZE")
@pytest.mark.parametrize("limit", [0, 100, 50_000])
def test_a_write_that_the_system_cuts_short_leaves_the_index_that_was_there(tmp_path: Path, limit: int) -> None:
    """Real short writes: the system lets no file grow beyond a limit."""
    with Archive.open(tmp_path / "archive", backend="faiss") as archive:
        before = archive.commit(ONE, NewIndex(**some_index(1)))
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "archive"), str(Path(__file__).parent), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("refused"), done.stderr
    assert "could not be written: File too large" in done.stdout
    with Archive.open(tmp_path / "archive") as archive:
        assert archive.verify(ONE) == before
        archive.commit(video_id(2), NewIndex(**some_index(2, count=4000)))
        archive.verify(video_id(2))
    assert not list((tmp_path / "archive").rglob(".*.tmp-*"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    with Archive.open(tmp_path / "archive", backend="faiss") as archive:
        manifest = archive.commit(ONE, NewIndex(**some_index(1)))
    folders = [tmp_path / "archive", *(path for path in (tmp_path / "archive").rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        with Archive.open(tmp_path / "archive") as archive:
            assert archive.verify(ONE) == manifest
            with pytest.raises(ArchiveUnwritableError, match=r"cannot be written|cannot be locked"):
                archive.commit(video_id(2), NewIndex(**some_index(2)))
            with pytest.raises(ArchiveError, match="cannot be written"):
                export_index(archive, manifest, tmp_path / "archive" / "file")
    finally:
        for folder in folders:
            folder.chmod(0o755)
