"""What a run's worker takes for each video: CPU time and memory, from outside its process."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, replace
from types import TracebackType

import psutil

from hybrid.engine.batch.run import VideoOutcome
from hybrid.progress import NullProgress, Progress

__all__ = ["FileWatch", "Spent"]

_EVERY_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Spent:
    """What one video took.

    Attributes:
        cpu_seconds: of the worker and its threads.
        start_mb, peak_mb: memory that was resident when the video was begun, and at most. A peak that
            is shorter than the interval between two looks (50 ms) may be missed.
    """

    cpu_seconds: float
    start_mb: float
    peak_mb: float


class FileWatch(NullProgress):
    """Listens to a run with one worker, and looks at the worker's process meanwhile. A context manager."""

    def __init__(self) -> None:
        self.spent: dict[str, Spent] = {}
        """By path of the video."""
        self._video: str | None = None
        self._cpu_before = 0.0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, name="hybrid-watch", daemon=True)

    def progress(self, worker: int) -> Progress:
        """Itself: there is one worker."""
        return self

    def start(self, video: str) -> None:
        """The worker begins a video."""
        with self._lock:
            self._cpu_before, held = _looked_at()
            self._video = video
            self.spent[video] = Spent(0.0, held, held)

    def outcome(self, outcome: VideoOutcome) -> None:
        """The video has ended."""
        with self._lock:
            self._look()
            self._video = None

    def __enter__(self) -> FileWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_EVERY_SECONDS):
            with self._lock:
                self._look()

    def _look(self) -> None:
        if self._video is None:
            return
        cpu, held = _looked_at()
        known = self.spent[self._video]
        self.spent[self._video] = replace(
            known,
            # A worker that has died is not there any more; what it had taken until then is kept.
            cpu_seconds=max(known.cpu_seconds, cpu - self._cpu_before),
            peak_mb=max(known.peak_mb, held),
        )


def _looked_at() -> tuple[float, float]:
    """CPU seconds and resident MiB of the processes that this one has started."""
    cpu = held = 0.0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            cpu += times.user + times.system
            held += process.memory_info().rss / 2**20
    return cpu, held
