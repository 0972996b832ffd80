"""A run over many videos: how each ends, what is remembered, what ends the run. No model is needed for that."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid.engine.batch.run import RunSummary, VideoOutcome, index_here
from hybrid.engine.index.indexing import IndexResult
from hybrid.errors import (
    ArchiveError,
    ArchiveLockedError,
    ArchiveUnreachableError,
    ArchiveUnwritableError,
    FrameDecodeError,
    HybridError,
    MissingDependencyError,
    ModelLoadError,
    VideoError,
    VideoOpenError,
)
from hybrid.options.engine import EngineOptions
from hybrid.progress import NullProgress
from hybrid.values import MissingFrame, Sampling, Timeline
from indexes.archive.new_index import NewIndex
from indexes.format.failures import failures
from indexes.format.manifest import IndexConfig, IndexedVideo, Source
from indexes.open_archive import open_archive


class Listener:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.outcomes: list[VideoOutcome] = []

    def progress(self, worker: int) -> NullProgress:
        assert worker == 0
        return NullProgress()

    def outcome(self, outcome: VideoOutcome) -> None:
        self.outcomes.append(outcome)


class MadeUpEngine:
    """An engine whose videos are a few bytes, with a real archive: the content says how indexing goes."""

    def __init__(self, folder: Path, *, backend: str = "faiss") -> None:
        self.archive = open_archive(folder, backend=backend)
        self.settings = EngineOptions(rate=1.0)
        self.tried: list[tuple[str, float]] = []
        self.errors: dict[str, list[BaseException]] = {}

    def index(
        self, video: Path, *, features: object, following: Sequence[Path], progress: object, lock_seconds: float
    ) -> IndexResult:
        self.tried.append((video.name, lock_seconds))
        planned = self.errors.get(video.name)
        if planned:
            raise planned.pop(0)
        video_id = self.archive.identify(video)
        content = video.read_bytes()
        if self.archive.manifest(video_id) is not None:
            return self._result(video, video_id, "unchanged")
        missing = tuple(MissingFrame(ordinal, "damaged") for ordinal in (1, 2)) if b"damaged" in content else ()
        ordinals = np.array([0, 3], dtype=np.int64)
        self.archive.commit(
            video_id,
            NewIndex(
                timeline=Timeline(ordinals, ordinals / 1.0, ordinals, Sampling(), 4.0, missing),
                vectors=np.eye(2, 8, dtype=np.float32),
                config=IndexConfig(encoder={"model": "m"}, rate=0.5, policy="exact", decoder="pyav"),
                source=Source(path=str(video), size_bytes=len(content)),
                video=IndexedVideo(kind="file", duration_seconds=4.0, width=2, height=2, codec="x"),
            ),
        )
        return self._result(video, video_id, "indexed")

    def _result(self, video: Path, video_id: str, outcome: Any) -> IndexResult:
        manifest = self.archive.require(video_id)
        return IndexResult(
            video=str(video),
            video_id=video_id,
            outcome=outcome,
            status=manifest.status,
            frames=manifest.frames,
            missing=manifest.missing,
            duration_seconds=4.0,
            frames_decoded=2,
        )


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[MadeUpEngine]:
    made = MadeUpEngine(tmp_path / "archive")
    yield made
    made.archive.close()


@pytest.fixture
def videos(tmp_path: Path) -> Callable[..., list[Path]]:
    def make(*names: str) -> list[Path]:
        places = []
        for name in names:
            place = tmp_path / name
            place.write_bytes(name.encode())
            places.append(place)
        return places

    return make


def run(engine: MadeUpEngine, videos: list[Path], **options: Any) -> RunSummary:
    listener = Listener()
    summary = index_here(engine, videos, listener, **options)  # type: ignore[arg-type]
    assert tuple(listener.outcomes) == summary.outcomes
    return summary


def statuses(summary: RunSummary) -> list[str]:
    return [outcome.status for outcome in summary.outcomes]


def test_each_video_ends_in_its_own_way(engine: MadeUpEngine, videos: Callable[..., list[Path]]) -> None:
    four = videos("good", "bad", "damaged", "later")
    engine.errors["bad"] = [FrameDecodeError("bad: no frame could be decoded")]
    summary = run(engine, four)
    assert statuses(summary) == ["done", "failed", "partial", "done"]
    assert summary.counts() == {"done": 2, "skipped": 0, "partial": 1, "failed": 1}
    assert summary.outcomes[2].missing_seconds == 4.0  # two samples at one each two seconds
    assert summary.failed[0].reason == "bad: no frame could be decoded"
    assert statuses(run(engine, four)) == ["skipped", "failed", "skipped", "skipped"]


def test_what_the_content_is_to_blame_for_is_not_tried_again_unless_asked(
    engine: MadeUpEngine, videos: Callable[..., list[Path]]
) -> None:
    (bad,) = videos("bad")
    engine.errors["bad"] = [FrameDecodeError("nothing in it") for _ in range(2)]
    assert not run(engine, [bad]).outcomes[0].remembered
    again = run(engine, [bad])
    assert again.outcomes[0].remembered
    assert again.outcomes[0].reason == "nothing in it"
    assert len(engine.tried) == 1
    (record,) = failures(engine.archive.folder)
    assert (record.path, record.attempts, record.kind) == (str(bad), 1, "FrameDecodeError")
    assert statuses(run(engine, [bad], retry_failed=True)) == ["failed"]
    (record,) = failures(engine.archive.folder)
    assert record.attempts == 2
    assert statuses(run(engine, [bad], retry_failed=True)) == ["done"]
    assert list(failures(engine.archive.folder)) == []


def test_other_settings_and_other_content_are_tried(engine: MadeUpEngine, videos: Callable[..., list[Path]]) -> None:
    (bad,) = videos("bad")
    engine.errors["bad"] = [FrameDecodeError("nothing in it"), FrameDecodeError("nothing in it")]
    run(engine, [bad])
    engine.settings = EngineOptions(rate=2.0)
    assert not run(engine, [bad]).outcomes[0].remembered
    bad.write_bytes(b"mended")
    assert statuses(run(engine, [bad])) == ["done"]
    assert list(failures(engine.archive.folder)) == []  # a record ends when its path succeeds


@pytest.mark.parametrize("first", [FrameDecodeError("nothing in it"), VideoOpenError("bad: cannot be read")])
def test_a_record_ends_when_its_path_or_its_content_succeeds(
    engine: MadeUpEngine, videos: Callable[..., list[Path]], first: HybridError, tmp_path: Path
) -> None:
    bad, other, copy = videos("bad", "other", "copy")
    folder = engine.archive.folder
    engine.errors = {"bad": [first, FrameDecodeError("nor now")], "other": [FrameDecodeError("nothing in it")]}
    run(engine, [bad, other])
    bad.write_bytes(b"changed, and still bad")
    run(engine, [bad])
    assert [record.path for record in failures(folder)] == [str(bad), str(other)]  # one a path
    bad.write_bytes(b"mended")
    run(engine, [bad])
    assert [record.path for record in failures(folder)] == [str(other)]
    # Under another path the same content is indexed: it was not to blame.
    copy.write_bytes(other.read_bytes())
    run(engine, [copy], retry_failed=True)
    assert list(failures(folder)) == []
    # What lies at the path is indexed already.
    engine.errors = {"bad": [FrameDecodeError("not again")]}
    bad.write_bytes(b"bad once more")
    run(engine, [bad])
    bad.write_bytes(b"mended")
    assert statuses(run(engine, [bad])) == ["skipped"]
    assert list(failures(folder)) == []


def test_what_the_moment_is_to_blame_for_is_tried_again(
    engine: MadeUpEngine, videos: Callable[..., list[Path]], tmp_path: Path
) -> None:
    changed, (locked,) = tmp_path / "absent", videos("locked")
    denied = VideoOpenError("locked: cannot be read")
    denied.__cause__ = PermissionError(errno.EACCES, "Permission denied")
    engine.errors["locked"] = [denied, VideoError("locked was changed while it was indexed")]
    engine.errors["absent"] = [VideoOpenError("there is no such file") for _ in range(2)]
    for _ in range(2):
        summary = run(engine, [locked, changed])
        assert statuses(summary) == ["failed", "failed"]
        assert not any(outcome.remembered for outcome in summary.outcomes)
    assert statuses(run(engine, [locked])) == ["done"]


def test_a_video_that_another_process_writes_is_left_for_the_end(
    engine: MadeUpEngine, videos: Callable[..., list[Path]]
) -> None:
    three = videos("busy", "one", "two")
    engine.errors["busy"] = [ArchiveLockedError("it is being written")]
    summary = run(engine, three)
    assert [Path(outcome.video).name for outcome in summary.outcomes] == ["one", "two", "busy"]
    assert statuses(summary) == ["done"] * 3
    assert [wait > 0 for _, wait in engine.tried] == [False, False, False, True]
    engine.errors["busy"] = [ArchiveLockedError("it is being written") for _ in range(2)]
    assert statuses(run(engine, three))[-1] == "failed"
    assert list(failures(engine.archive.folder)) == []


@pytest.mark.parametrize(
    "error",
    [
        ArchiveUnwritableError("archive: video could not be written: No space left on device"),
        ModelLoadError("no weights"),
        MissingDependencyError("decord is not installed"),
        ArchiveUnreachableError("s3://bucket/videos cannot be reached"),
    ],
)
def test_what_would_fail_every_video_ends_the_run(
    engine: MadeUpEngine, videos: Callable[..., list[Path]], error: HybridError
) -> None:
    three = videos("one", "two", "three")
    engine.errors["two"] = [error]
    summary = run(engine, three)
    assert summary.stopped_by is error
    assert statuses(summary) == ["done"]
    assert list(failures(engine.archive.folder)) == []
    assert statuses(run(engine, three)) == ["skipped", "done", "done"]


def test_an_archive_error_of_one_video_does_not(engine: MadeUpEngine, videos: Callable[..., list[Path]]) -> None:
    # The type decides: the name of a video may hold any words.
    engine.errors["one"] = [ArchiveError("No space left on device.mp4 could not be written: Is a directory")]
    assert statuses(run(engine, videos("one", "two"))) == ["failed", "done"]


@pytest.mark.parametrize(
    "number", [errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EROFS, errno.EDQUOT, errno.ENOSPC]
)
@pytest.mark.parametrize("call", ["replace", "mkdir"])
def test_an_archive_that_cannot_be_written_ends_the_run(
    engine: MadeUpEngine, videos: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    three = videos("one", "two", "three")
    original = getattr(os, call)

    def refused(*arguments: Any, **options: Any) -> Any:
        if any(str(argument).startswith(f"{engine.archive.folder}/videos/") for argument in arguments):
            raise OSError(number, os.strerror(number))
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refused)
        summary = run(engine, three)
    assert isinstance(summary.stopped_by, ArchiveUnwritableError)
    assert f"could not be written: {os.strerror(number)}" in str(summary.stopped_by)
    assert (statuses(summary), list(failures(engine.archive.folder))) == ([], [])
    assert statuses(run(engine, three)) == ["done"] * 3


def test_leftovers_that_cannot_be_deleted_end_it_too(
    engine: MadeUpEngine, videos: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = videos("one", "two")
    (engine.archive.folder / "pending").mkdir()
    (engine.archive.folder / "pending" / engine.archive.identify(one)).touch()

    def refused(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refused)
        summary = run(engine, [one, two])
    assert "Read-only file system" in str(summary.stopped_by)
    assert statuses(run(engine, [one, two])) == ["done", "done"]


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file here that opens and cannot be read")
def test_a_video_that_cannot_be_read_fails_alone(
    engine: MadeUpEngine, videos: Callable[..., list[Path]], tmp_path: Path
) -> None:
    (good,) = videos("good")
    lost = tmp_path / "lost"
    lost.symlink_to("/proc/self/mem")  # reading its beginning gives EIO, as a broken disk does
    summary = run(engine, [lost, good])
    assert summary.stopped_by is None
    assert statuses(summary) == ["failed", "done"]
    assert "Input/output error" in (summary.failed[0].reason or "")


def test_tables_that_cannot_be_read_end_it_before_more_is_embedded_in_vain(
    videos: Callable[..., list[Path]], tmp_path: Path
) -> None:
    engine = MadeUpEngine(tmp_path / "lance", backend="lancedb")
    three = videos("one", "two", "three")
    assert statuses(run(engine, three[:1])) == ["done"]
    engine.archive.close()
    for path in engine.archive.folder.glob("frames_8.lance/_versions/*"):
        path.write_bytes(b"")
    engine = MadeUpEngine(tmp_path / "lance", backend="lancedb")
    summary = run(engine, three[1:])
    assert "takes no vectors, because those that it holds cannot be read" in str(summary.stopped_by)
    assert "delete frames_*.lance" in str(summary.stopped_by)
    assert [name for name, _ in engine.tried] == ["two"]
    assert statuses(summary) == []


def test_the_user_stops_it(engine: MadeUpEngine, videos: Callable[..., list[Path]]) -> None:
    three = videos("one", "two", "three")
    engine.errors["two"] = [KeyboardInterrupt()]
    summary = run(engine, three)
    assert summary.interrupted
    assert statuses(summary) == ["done"]
    assert statuses(run(engine, three)) == ["skipped", "done", "done"]
