"""Video files through decord, for those who have it in their pipeline.

Frames are chosen by decord's own table of time stamps, never by frame rate arithmetic, and read in
small batches. The reader is opened for each reading and let go at its end: an open reader goes on
decoding ahead in its own thread without limit (4.5 GB after ten idle seconds was measured).

Where decord 0.6 is known to be wrong or to fail, so that PyAV is the default:

* open groups of pictures (H.264) and HEVC: a seek lands on a key frame and drops or keeps the
  pictures around it wrongly; the frame is some places off while its time stamp is reported right
  (up to 3 s early was measured);
* MPEG-TS: every frame is off by one to two seconds;
* AV1: cannot be opened (its FFmpeg is of 2018);
* VP9: fails with decord's own default of automatic threads, so one thread is used by default;
* display matrices that mirror are taken for turns; crops of a container, and crops on the left of a stream, are not
  applied rightly;
* damaged and cut files: raises, or repeats the last frame; what raises here is ``missing``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hybrid.errors import MissingDependencyError, NoVideoStreamError, VideoOpenError
from hybrid.frames.container import open_container
from hybrid.frames.images import BatchBuilder, Sample
from hybrid.frames.plan import SLACK_SECONDS, grid_size
from hybrid.frames.source import (
    DEFAULT_BATCH_BYTES,
    FrameSource,
    ReadReport,
    check_at_least_one,
    check_ordinals,
    checked_gaps,
    video_info,
    why_none,
)
from hybrid.storage.file_identity import absolute_path
from hybrid.values import FloatArray, FrameBatch, IntArray, MissingFrame, Sampling

__all__ = ["DecordSource"]

FRAMES_AT_A_TIME = 8


class DecordSource(FrameSource):
    """Samples of a video file through decord. The module's text lists where decord is wrong.

    The timeline begins at the first frame: decord does not tell when the container begins.

    Args:
        path: the file.
        sampling: rate and policy.
        threads: decord's decoding threads, 1 by default. More are not faster for single frames.
        batch_bytes: how large a batch may grow.

    Raises:
        MissingDependencyError: decord is not installed.
        VideoOpenError: the file does not exist, or decord cannot open it.
        NoVideoStreamError: decord finds no video stream in it.
        InputError: threads or batch_bytes is below 1.
    """

    def __init__(
        self,
        path: str | Path,
        sampling: Sampling,
        *,
        threads: int | None = None,
        batch_bytes: int = DEFAULT_BATCH_BYTES,
    ) -> None:
        check_at_least_one(threads=threads, batch_bytes=batch_bytes)
        self.sampling = sampling
        self._path = str(path)
        self._threads = threads or 1
        self._batch_bytes = batch_bytes
        stamps, self._keys, (height, width) = self._survey()
        self._times: FloatArray = stamps[:, 0] - stamps[0, 0]
        self._end = float(stamps[-1, 1] - stamps[0, 0])
        try:
            self.info = video_info(path, "file", seconds=self._end, width=width, height=height, codec="unknown")
        except VideoOpenError as exc:
            raise VideoOpenError(f"{exc}, or decord reads its time stamps wrongly; try --decoder pyav") from exc

    def _open(self) -> Any:
        try:
            import decord
        except ImportError as exc:
            raise MissingDependencyError(
                "decoder 'decord' needs the package decord: pip install 'hybrid[decord]', or use --decoder pyav"
            ) from exc
        # decord gives its FFmpeg no limits: what it opens has passed ours before.
        with open_container(self._path):
            pass
        with self._our_errors(decord.DECORDError):
            return decord.VideoReader(absolute_path(self._path), num_threads=self._threads)

    def _survey(self) -> tuple[FloatArray, IntArray, tuple[int, int]]:
        """Start and end of every frame in seconds [N, 2], the key frames' numbers, height and width."""
        reader = self._open()
        import decord

        with self._our_errors(decord.DECORDError):
            stamps = np.asarray(reader.get_frame_timestamp(np.arange(len(reader))), dtype=np.float64).reshape(-1, 2)
            if not len(stamps):
                raise VideoOpenError(f"{self._path}: decord finds no frame in it; try --decoder pyav")
            height, width = reader[0].shape[:2]
            return stamps, np.asarray(reader.get_key_indices(), dtype=np.int64), (height, width)

    @contextmanager
    def _our_errors(self, foreign: type[Exception]) -> Iterator[None]:
        """Where decord's errors of opening a file become ours."""
        try:
            yield
        except (foreign, RuntimeError, IndexError, ValueError) as exc:
            if "cannot find video stream" in str(exc):
                raise NoVideoStreamError(
                    f"decord finds no video stream in {self._path} that it can decode (AV1 is too new for it); "
                    "try --decoder pyav"
                ) from exc
            raise VideoOpenError(f"decord cannot open {self._path}: {_reason(exc)}; try --decoder pyav") from exc

    def read(self, *, ordinals: Sequence[int] | None = None) -> Iterator[FrameBatch]:
        """See :meth:`FrameSource.read`."""
        return self._read(None if ordinals is None else check_ordinals(ordinals))

    def _read(self, ordinals: list[int] | None) -> Iterator[FrameBatch]:
        grid = self._grid(ordinals)
        missing = [MissingFrame(k, why_none(self.sampling, self._end)) for k, frame in grid if frame < 0]
        wanted = [(k, frame) for k, frame in grid if frame >= 0]
        builder = BatchBuilder(self._batch_bytes)
        decoded = found = 0
        reader = self._open() if wanted else None
        for start in range(0, len(wanted), FRAMES_AT_A_TIME):
            part = wanted[start : start + FRAMES_AT_A_TIME]
            for (ordinal, frame), rgb in zip(part, self._pictures(reader, [frame for _, frame in part]), strict=True):
                decoded += not isinstance(rgb, str)
                if isinstance(rgb, str):
                    missing.append(MissingFrame(ordinal, rgb))
                    continue
                found += 1
                batch = builder.add(Sample(ordinal, float(self._times[frame]), frame, rgb))
                if batch is not None:
                    yield batch
        del reader
        rest = builder.take()
        if rest is not None:
            yield rest
        gaps = checked_gaps(self._path, missing, found=found)
        self._report = ReadReport(duration_seconds=self._end, frames_decoded=decoded, missing=gaps)

    def _pictures(self, reader: Any, frames: list[int]) -> list[Any]:
        """uint8 [H, W, 3] for every frame, or the reason why there is none."""
        import decord

        pictures: list[Any] = []
        for frame in frames:
            try:
                pictures.append(reader[frame].asnumpy())
            except (decord.DECORDError, RuntimeError, IndexError) as exc:
                pictures.append(f"decord: {_reason(exc)}")
        return pictures

    def _grid(self, ordinals: list[int] | None) -> list[tuple[int, int]]:
        """Ordinal and frame number of every sample, or of those asked for; -1 where there is none."""
        rate = self.sampling.rate
        if self.sampling.policy == "keyframes":
            sooner: dict[int, int] = {}
            for frame in self._keys.tolist():
                sooner.setdefault(int((self._times[frame] + SLACK_SECONDS) * rate), frame)
            return sorted(sooner.items()) if ordinals is None else [(k, sooner.get(k, -1)) for k in ordinals]
        count = grid_size(self._end, rate)
        asked = np.arange(count) if ordinals is None else np.array(ordinals, dtype=np.int64)
        frames = np.searchsorted(self._times, asked / rate + SLACK_SECONDS, side="right") - 1
        frames[asked >= count] = -1
        return list(zip(asked.tolist(), frames.tolist(), strict=True))


def _reason(error: Exception) -> str:
    """What a foreign error says, without the time and the line of C++ that decord puts before it."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"^\[\d\d:\d\d:\d\d\] \S+ ", "", first)
