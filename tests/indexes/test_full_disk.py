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

import pytest
from archive_samples import some_index, video_id

from hybrid.errors import ArchiveError
from indexes.archive import Archive
from indexes.transfer import export_index

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
        before = archive.commit(ONE, **some_index(1))
        other = archive.commit(video_id(2), **some_index(2)).vectors_hash
    said: list[str] = []
    for nth in range(1, 100):
        calls: dict[str, int] = {}
        with Archive.open(tmp_path / "archive") as archive:
            committed = False
            with failing(calls, nth, error):
                try:
                    archive.commit(ONE, **some_index(2))
                    committed = True
                except ArchiveError as exc:
                    said.append(str(exc))
        with Archive.open(tmp_path / "archive", create=False) as archive:
            found = archive.verify(ONE)
            # Refused after the commit point, it may be the new one already; between them there is nothing.
            assert found.vectors_hash in ([other] if committed else [before.vectors_hash, other])
            archive.commit(ONE, **some_index(1))  # and it can be gone on with
            assert archive.verify(ONE).vectors_hash == before.vectors_hash
        if calls["made"] < nth:
            break
    else:
        pytest.fail("the calls that write never came to an end")
    assert len(said) >= 5
    assert all(os.strerror(error) in line for line in said)


LIMITED = """
import resource, signal, sys
sys.path.insert(0, sys.argv[2])
from archive_samples import some_index, video_id
from hybrid.errors import ArchiveError
from indexes.archive import Archive
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Archive.open(sys.argv[1]) as archive:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
    try:
        archive.commit(video_id(1), **some_index(2, count=4000))
    except ArchiveError as exc:
        print("refused", exc)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs RLIMIT_FSIZE")
@pytest.mark.parametrize("limit", [0, 100, 50_000])
def test_a_write_that_the_system_cuts_short_leaves_the_index_that_was_there(tmp_path: Path, limit: int) -> None:
    """Real short writes: the system lets no file grow beyond a limit."""
    with Archive.open(tmp_path / "archive", backend="faiss") as archive:
        before = archive.commit(ONE, **some_index(1))
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "archive"), str(Path(__file__).parent), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("refused"), done.stderr
    assert "could not be written: File too large" in done.stdout
    with Archive.open(tmp_path / "archive") as archive:
        assert archive.verify(ONE) == before
        archive.commit(video_id(2), **some_index(2, count=4000))
        archive.verify(video_id(2))
    assert not list((tmp_path / "archive").rglob(".*.tmp-*"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    with Archive.open(tmp_path / "archive", backend="faiss") as archive:
        manifest = archive.commit(ONE, **some_index(1))
    folders = [tmp_path / "archive", *(path for path in (tmp_path / "archive").rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        with Archive.open(tmp_path / "archive") as archive:
            assert archive.verify(ONE) == manifest
            with pytest.raises(ArchiveError, match=r"cannot be written|cannot be locked"):
                archive.commit(video_id(2), **some_index(2))
            with pytest.raises(ArchiveError, match="cannot be written"):
                export_index(archive, manifest, tmp_path / "archive" / "file")
    finally:
        for folder in folders:
            folder.chmod(0o755)
