"""Video files through decord, for those who have it in their pipeline.

Frames are chosen by decord's own table of time stamps, never by frame rate arithmetic, and read one
by one. The reader is opened for each reading and closed at its end: an open reader continues
decoding ahead in its own thread without limit (4.5 GB after ten idle seconds was measured).

Where decord 0.6 is known to be wrong or to fail, so that PyAV is the default:

* open groups of pictures (H.264) and HEVC: a seek lands on a key frame and drops or keeps the
  pictures around it wrongly; the frame is a few positions off while its time stamp is reported right
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
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from hybrid.errors import MissingDependencyError, NoVideoStreamError, VideoOpenError
from hybrid.frames.container.open import open_container
from hybrid.frames.interface import Decoder, ReadReport, Sample
from hybrid.frames.packets.plan import SLACK_SECONDS, first_of_intervals, grid_size
from hybrid.storage.file_identity import absolute_path
from hybrid.values import FloatArray, IntArray, VideoInfo

__all__ = ["DECODER", "DecordSource"]


class DecordSource(Decoder):
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

    name = "decord"

    def _open(self) -> VideoInfo:
        stamps, self._keys, (height, width) = self._survey()
        self._times: FloatArray = stamps[:, 0] - stamps[0, 0]
        self._end = float(stamps[-1, 1] - stamps[0, 0])
        try:
            return self._info("file", seconds=self._end, width=width, height=height, codec="unknown")
        except VideoOpenError as exc:
            raise VideoOpenError(f"{exc}, or decord reads its time stamps wrongly; try --decoder pyav") from exc

    def _reader(self) -> Any:
        try:
            import decord
        except ImportError as exc:
            raise MissingDependencyError(
                "decoder 'decord' needs the package decord: pip install 'hybrid[decord]', or use --decoder pyav"
            ) from exc
        # decord sets no limits for its FFmpeg, so a file must pass ours first.
        with open_container(self._path):
            pass
        with self._our_errors(decord.DECORDError):
            return decord.VideoReader(absolute_path(self._path), num_threads=self._threads or 1)

    def _survey(self) -> tuple[FloatArray, IntArray, tuple[int, int]]:
        """Start and end of every frame in seconds [N, 2], the key frames' numbers, height and width."""
        reader = self._reader()
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

    def _samples(self, ordinals: list[int] | None) -> Generator[Sample, None, ReadReport]:
        import decord

        grid = self._grid()
        chosen = [k for k in (grid if ordinals is None else ordinals) if k in grid]
        decoded = 0
        reader = self._reader() if chosen else None
        for ordinal in chosen:
            frame = grid[ordinal]
            try:
                assert reader is not None
                rgb = reader[frame].asnumpy()
            except (decord.DECORDError, RuntimeError, IndexError) as exc:
                yield Sample.missing(ordinal, f"decord: {_reason(exc)}")
                continue
            decoded += 1
            yield Sample(ordinal, float(self._times[frame]), frame, rgb)
        return ReadReport(duration_seconds=self._end, frames_decoded=decoded)

    def _grid(self) -> dict[int, int]:
        """The frame number of every sample, by ordinal."""
        rate = self.sampling.rate
        if self.sampling.policy == "keyframes":
            return first_of_intervals(zip(self._times[self._keys].tolist(), self._keys.tolist(), strict=True), rate)
        seconds = np.arange(grid_size(self._end, rate)) / rate
        return dict(enumerate((np.searchsorted(self._times, seconds + SLACK_SECONDS, side="right") - 1).tolist()))


def _reason(error: Exception) -> str:
    """The text of an error, without the time and the C++ line that decord puts before it."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"^\[\d\d:\d\d:\d\d\] \S+ ", "", first)


DECODER = DecordSource
