"""Index many videos: each ends as done, skipped, partial or failed with a reason, and the run goes on.

What ends a run is only what would end every video in it: a model that cannot be loaded, an archive
that cannot be written, the user. Videos that another process is writing are left for the end.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from hybrid.engine.frames.decode_ahead import MAX_PREFETCHED_VIDEOS
from hybrid.engine.index.indexing import IndexResult, end_failure
from hybrid.errors import (
    ENDS_RUN,
    ArchiveError,
    ArchiveLockedError,
    FrameDecodeError,
    HybridError,
    IndexDamagedError,
    VideoError,
    VideoOpenError,
    first_line,
)
from hybrid.options.engine import EngineOptions
from hybrid.progress import Progress
from hybrid.storage.file_identity import absolute_path
from indexes.format.failures import Attempt, Failure, known_failure, remember_failure

if TYPE_CHECKING:
    from hybrid.engine.engine import Engine

__all__ = [
    "RunListener",
    "RunSummary",
    "VideoOutcome",
    "failed_outcome",
    "index_here",
    "index_one",
    "note_failure",
]

_LOG = logging.getLogger(__name__)

RunStatus = Literal["done", "skipped", "partial", "failed"]

WAIT_SECONDS = 600.0
"""How long the end of a run waits for each video that another process is writing."""


@dataclass(frozen=True, slots=True)
class VideoOutcome:
    """How one video of a run ended.

    Attributes:
        video: the path.
        status: ``done``: indexed now; ``skipped``: there was nothing to do; ``partial``: indexed now
            as far as it can be read; ``failed``.
        seconds: how long it took.
        result: what indexing did; None if it failed.
        reason: why it failed; None if it did not.
        missing_seconds: how much of the video has no frames because samples could not be decoded.
        remembered: it failed in an earlier run and was not tried again.
    """

    video: str
    status: RunStatus
    seconds: float
    result: IndexResult | None = None
    reason: str | None = None
    missing_seconds: float = 0.0
    remembered: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for ``json.dumps``."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class RunSummary:
    """How a run ended.

    Attributes:
        outcomes: of the videos that were come to, in the order in which they ended.
        videos: how many there were to come to.
        seconds: how long it took.
        interrupted: the user stopped it.
        stopped_by: what would have failed every further video.
    """

    outcomes: tuple[VideoOutcome, ...]
    videos: int
    seconds: float
    interrupted: bool = False
    stopped_by: HybridError | None = None

    @property
    def failed(self) -> tuple[VideoOutcome, ...]:
        """The videos that have no index."""
        return tuple(outcome for outcome in self.outcomes if outcome.status == "failed")

    def counts(self) -> dict[str, int]:
        """How many videos ended in which way."""
        names = [outcome.status for outcome in self.outcomes]
        return {name: names.count(name) for name in ("done", "skipped", "partial", "failed")}


class RunListener(Protocol):
    """Is told of a run as it goes."""

    def progress(self, worker: int) -> Progress:
        """Who is told of the work of one worker (0 if there is only this process)."""
        ...

    def outcome(self, outcome: VideoOutcome) -> None:
        """A video has ended."""
        ...


def index_here(
    engine: Engine,
    videos: Sequence[Path],
    listener: RunListener,
    *,
    features: bool | None = None,
    retry_failed: bool = False,
) -> RunSummary:
    """Index videos one after another in this process."""
    started = time.perf_counter()
    outcomes: list[VideoOutcome] = []
    progress = listener.progress(0)
    interrupted, stopped_by = False, None
    todo = [(video, 0.0) for video in videos]
    try:
        while todo:
            video, wait = todo.pop(0)
            outcome = index_one(
                engine,
                video,
                progress,
                following=[following for following, _ in todo[:MAX_PREFETCHED_VIDEOS]],
                features=features,
                retry_failed=retry_failed,
                lock_seconds=wait,
            )
            if outcome is None:
                todo.append((video, WAIT_SECONDS))
                continue
            outcomes.append(outcome)
            listener.outcome(outcome)
    except KeyboardInterrupt:
        interrupted = True
        progress.finish("failed")
    except HybridError as exc:
        stopped_by = exc
        progress.finish("failed")
    return RunSummary(tuple(outcomes), len(videos), time.perf_counter() - started, interrupted, stopped_by)


def index_one(
    engine: Engine,
    video: Path,
    progress: Progress,
    *,
    following: Sequence[Path] = (),
    features: bool | None,
    retry_failed: bool,
    lock_seconds: float,
) -> VideoOutcome | None:
    """Index one video and say how it ended; None if another process is writing it and ``lock_seconds`` is 0.

    Args:
        engine: indexes it.
        video: which.
        progress: is told how far it is.
        following: the videos that come next, as in :meth:`hybrid.engine.engine.Engine.index`.
        features: likewise.
        retry_failed: whether it is tried again if it failed before.
        lock_seconds: how long to wait for another process that writes it.

    Raises:
        HybridError: what would fail every further video too.
    """
    started = time.perf_counter()
    path = absolute_path(video)
    try:
        before = _failed_before(engine, video)
        if before is not None and not retry_failed:
            # Its reason names the file that failed, which may be another one of the same content.
            also = "" if before.path == path else f"{video} has the content of {before.path}, which failed: "
            return VideoOutcome(str(video), "failed", 0.0, reason=f"{also}{before.reason}", remembered=True)
        result = engine.index(
            video, features=features, following=following, progress=progress, lock_seconds=lock_seconds
        )
        end_failure(engine.archive, result.video_id, video)
    except ArchiveLockedError as exc:
        progress.finish("failed")
        if not lock_seconds:
            return None
        return failed_outcome(video, exc, time.perf_counter() - started)
    except (HybridError, OSError, MemoryError) as exc:
        progress.finish("failed")
        if isinstance(exc, ENDS_RUN):
            raise
        note_failure(engine, video, exc)
        return failed_outcome(video, exc, time.perf_counter() - started)
    except Exception as exc:
        # A mistake of ours that this video brings out must not cost the others; it is not hushed up.
        _LOG.error("%s: unexpected error", video, exc_info=exc)
        progress.finish("failed")
        reason = f"{video}: unexpected error, please report it: {first_line(exc)}"
        note_failure(engine, video, reason, lasting=False)
        return failed_outcome(video, reason, time.perf_counter() - started)
    status: RunStatus = result.status if result.outcome == "indexed" else "skipped"
    rate = _rate(engine, result)
    return VideoOutcome(
        str(video),
        status,
        time.perf_counter() - started,
        result=result,
        missing_seconds=result.missing / rate if rate else 0.0,
    )


def failed_outcome(video: Path, exc: BaseException | str, seconds: float) -> VideoOutcome:
    """A video that failed, with the error's text as the reason."""
    reason = exc if isinstance(exc, str) else str(exc) or type(exc).__name__
    return VideoOutcome(str(video), "failed", seconds, reason=reason)


def attempt_of(settings: EngineOptions) -> Attempt:
    """What videos are tried with under these settings."""
    return Attempt(rate=settings.rate, policy=settings.sampling, decoder=settings.decoder)


def note_failure(
    engine: Engine, video: Path, exc: BaseException | str, *, lasting: bool | None = None, read: bool = True
) -> None:
    """Keep a record of a failed video in the archive; where that cannot be written, the run's report is all there is.

    Args:
        engine: whose archive and settings are meant.
        video: which.
        exc: why, or an error that says so.
        lasting: whether trying again is in vain; by default as the error says.
        read: whether it may be read, to know it by its content.
    """
    path = absolute_path(video)
    video_id = _identity(engine, video) if read else None
    before = known_failure(engine.archive.folder, video_id, path)
    record = Failure(
        path=path,
        video_id=video_id,
        reason=exc if isinstance(exc, str) else str(exc) or type(exc).__name__,
        kind="Ended" if isinstance(exc, str) else type(exc).__name__,
        lasting=video_id is not None and (_is_lasting(exc) if lasting is None else lasting),
        attempt=attempt_of(engine.settings),
        attempts=1 + (before.attempts if before is not None else 0),
        failed_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    try:
        remember_failure(engine.archive.folder, record, put=engine.archive.put_file, drop=engine.archive.drop_file)
    except (ArchiveError, OSError, UnicodeEncodeError):
        return


def _failed_before(engine: Engine, video: Path) -> Failure | None:
    """The record of a failure that the same attempt would only repeat."""
    if not engine.archive.has_failures():
        return None
    video_id = _identity(engine, video)
    if video_id is None:
        return None
    record = known_failure(engine.archive.folder, video_id, absolute_path(video))
    if record is None or not record.lasting or record.attempt != attempt_of(engine.settings):
        return None
    return record


def _identity(engine: Engine, video: Path) -> str | None:
    try:
        return engine.archive.identify(video)
    except (VideoError, OSError):
        return None


def _is_lasting(exc: BaseException | str) -> bool:
    """Whether the content of the video is to blame, and not the moment (a missing right, a lost disk)."""
    if not isinstance(exc, VideoOpenError | FrameDecodeError):
        return False
    return not isinstance(exc.__cause__, PermissionError | FileNotFoundError | TimeoutError | InterruptedError)


def _rate(engine: Engine, result: IndexResult) -> float:
    try:
        manifest = engine.archive.manifest(result.video_id)
    except IndexDamagedError:
        return 0.0
    return manifest.config.rate if manifest is not None else 0.0
