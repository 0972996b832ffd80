"""Video files through PyAV (FFmpeg): exact samples without decoding everything.

Opening a file demuxes it once, without decoding, which tells which packet holds the frame of each
sample (:mod:`hybrid.frames.plan`). Reading then decodes only what those frames need:

* groups of pictures without a wanted frame are not decoded, and decoding stops at the last wanted
  frame of each group;
* unwanted pictures that no other picture refers to are skipped (``skip_frame`` of FFmpeg), for
  codecs where the stream says which these are;
* groups are decoded on several threads, each with a decoder and a file handle of its own.

Frames and times are those of a full decode, bit for bit. Where that cannot be had (a stream whose
packets do not tell, damage), the file or the damaged part is decoded in full, and the report says
so. No option that changes pictures (such as leaving out the loop filter) is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from hybrid.errors import FrameDecodeError, VideoOpenError
from hybrid.formatting import plural
from hybrid.frames.decode import Shown, Tally, decode_job, frames_of
from hybrid.frames.display import orientation_of, skew_degrees
from hybrid.frames.images import BatchBuilder, RgbConverter, Sample
from hybrid.frames.parallel import run_ordered
from hybrid.frames.plan import (
    NO_PTS,
    Job,
    Wanted,
    entries,
    grid,
    in_order_of_presentation,
    keyframe_jobs,
    plan_jobs,
    restrict,
)
from hybrid.frames.reader import PacketReader
from hybrid.frames.scan import Movie, scan
from hybrid.frames.sequential import sequential_samples
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
from hybrid.picture_size import MAX_PIXELS
from hybrid.values import FrameBatch, MissingFrame, Sampling

__all__ = ["PyAVSource"]

WAITING_BYTES = 64 * 2**20
"""How much decoded pictures may take up while they wait for their turn."""
DECODER_BYTES = 240 * 2**20
"""How much the decoders' own pictures may take up; fewer threads are used for large pictures."""
PICTURES_PER_DECODER = 24
"""What one more decoding thread takes in memory, in pictures (75 MB were measured for 1080p)."""
PACKETS_WITHOUT_SIZE = 64
"""Where a file does not say how large its pictures are, so many packets are tried for the first one."""


class PyAVSource(FrameSource):
    """Samples of a video file. See the module's text for how, and :class:`Sampling` for which.

    The timeline's zero is the start of the container (what a player shows as 0), so a video stream
    that begins after the sound begins later than 0.

    Args:
        path: the file.
        sampling: rate and policy.
        threads: decoding threads; by default one per core that this process may use. Fewer run
            where the pictures are so large that decoders would take too much memory.
        batch_bytes: how large a batch may grow.

    Raises:
        VideoOpenError: the file does not exist, cannot be read, is not a video, is cut before its
            first frame, or has pictures that are too large (:data:`~hybrid.picture_size.MAX_PIXELS`).
        NoVideoStreamError: there is no video stream in it.
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
        self._batch_bytes = batch_bytes
        self._movie = scan(path)
        width, height, self._skew = _first_look(self._movie)
        self._threads = _affordable_threads(threads or _cores(), width, height)
        self.info = video_info(
            path, "file", seconds=self._movie.end_seconds, width=width, height=height, codec=self._movie.codec
        )

    def read(self, *, ordinals: Sequence[int] | None = None) -> Iterator[FrameBatch]:
        """See :meth:`FrameSource.read`.

        With ``ordinals``, only the groups of pictures that hold one of them are decoded. The policy
        ``keyframes`` gives a sample only where there is a key frame; one that is asked for by its
        ordinal and has none is reported as missing.
        """
        asked = None if ordinals is None else check_ordinals(ordinals)
        return self._read(asked)

    def _read(self, ordinals: list[int] | None) -> Iterator[FrameBatch]:
        tally = Tally()
        missing: list[MissingFrame] = []
        builder = BatchBuilder(self._batch_bytes)
        found = 0
        with closing(self._samples(ordinals, tally)) as samples:
            for sample in samples:
                if sample.rgb is None:
                    missing.append(MissingFrame(sample.ordinal, sample.reason or "no frame"))
                    continue
                found += 1
                batch = builder.add(sample)
                if batch is not None:
                    yield batch
        rest = builder.take()
        if rest is not None:
            yield rest
        if ordinals is None and not found and not missing:
            raise FrameDecodeError(f"{self.info.path}: no frame is marked as a key frame; take --sampling exact")
        self._report = self._make_report(tally, checked_gaps(self.info.path, missing, found=found))

    def _samples(self, ordinals: list[int] | None, tally: Tally) -> Generator[Sample]:
        if self._why_in_full() is not None:
            yield from self._sequential_samples(ordinals, tally)
            return
        wanted = grid(self._movie.packets, self._movie.clock, self.sampling, end_seconds=self._movie.end_seconds)
        if ordinals is not None:
            reason = why_none(self.sampling, self._movie.end_seconds)
            wanted = restrict(wanted, np.array(ordinals, dtype=np.int64), why_none=reason)
        for gap in wanted.missing:
            yield Sample(gap.ordinal, 0.0, -1, None, gap.reason)
        yield from self._planned_samples(wanted, tally)

    def _why_in_full(self) -> str | None:
        """Why the file has to be decoded from its start with nothing left out; None if it need not."""
        if self._movie.unsafe is None and self.sampling.policy == "keyframes" and not self._movie.keys_proven:
            return f"it is not proven where decoding of {self._movie.codec} may start"
        return self._movie.unsafe

    def _sequential_samples(self, ordinals: list[int] | None, tally: Tally) -> Iterator[Sample]:
        left = None if ordinals is None else set(ordinals)
        chosen = None if ordinals is None else frozenset(ordinals)
        with PacketReader(self._movie) as reader:
            for sample in sequential_samples(reader, self._movie, self.sampling, chosen, tally):
                if left is not None:
                    left.discard(sample.ordinal)
                yield sample
        for ordinal in sorted(left or ()):
            yield Sample(ordinal, 0.0, -1, None, why_none(self.sampling, self._movie.end_seconds))

    def _planned_samples(self, wanted: Wanted, tally: Tally) -> Iterator[Sample]:
        movie = self._movie
        times = movie.packets.pts[in_order_of_presentation(movie.packets)]
        place = 0
        latest = NO_PTS
        with closing(self._shown(wanted, tally)) as shown:
            for picture in shown:
                if picture.pts < latest:
                    # Only damage can do that: what is shown does not go back in time.
                    picture = picture._replace(rgb=None, reason="the time stamps around it are damaged")
                elif picture.rgb is not None:
                    latest = picture.pts
                seconds = float(movie.clock.seconds(picture.pts))
                number = int(np.searchsorted(times, picture.pts))
                while place < len(wanted.packets) and wanted.packets[place] == picture.packet:
                    yield Sample(int(wanted.ordinals[place]), seconds, number, picture.rgb, picture.reason)
                    place += 1

    def _shown(self, wanted: Wanted, tally: Tally) -> Generator[Shown]:
        """The picture of every distinct wanted packet, in order of presentation."""
        movie = self._movie
        starts = entries(movie.packets)
        if self.sampling.policy == "keyframes":
            jobs = keyframe_jobs(movie.packets, wanted.packets, stop_early=movie.stop_early)
        else:
            jobs = plan_jobs(movie.packets, starts, wanted.packets, stop_early=movie.stop_early)
        tallies: list[Tally] = []

        @contextmanager
        def worker() -> Iterator[Callable[[Job], Iterator[Shown]]]:
            own = Tally()
            tallies.append(own)
            to_rgb = RgbConverter(movie.crop)
            with PacketReader(movie) as reader:
                yield lambda job: decode_job(reader, movie, job, starts, own, to_rgb)

        try:
            yield from run_ordered(
                jobs,
                worker,
                threads=self._threads,
                buffer_bytes=WAITING_BYTES,
                size_of=lambda picture: 0 if picture.rgb is None else picture.rgb.nbytes,
            )
        finally:
            for own in tallies:
                tally.add(own)

    def _make_report(self, tally: Tally, missing: tuple[MissingFrame, ...]) -> ReadReport:
        notes = [self._movie.note] if self._movie.note else []
        if self._skew is not None:
            notes.append(f"shown as stored: its display matrix turns it by {self._skew:.0f} degrees, no quarter turn")
        in_full = self._why_in_full()
        if in_full is not None:
            notes.append(f"decoded in full: {in_full}")
        if tally.redone:
            notes.append(f"decoded again in full after damage or a lost frame: {tally.redone} of its stretches")
        if tally.concealed:
            notes.append(
                f"{plural(tally.concealed, 'damaged frame was', 'damaged frames were')} patched up by the decoder"
            )
        if tally.backward:
            notes.append(f"{plural(tally.backward, 'frame is', 'frames are')} left out because the time stamps go back")
        if tally.reordered:
            notes.append(
                f"{plural(tally.reordered, 'frame keeps', 'frames keep')} the decoder's order where times go back"
            )
        return ReadReport(
            duration_seconds=self._movie.end_seconds,
            frames_decoded=tally.frames,
            packets_seen=len(self._movie.packets),
            packets_decoded=tally.packets,
            packets_damaged=len(tally.damaged),
            missing=missing,
            cut=self._movie.cut or tally.backward > 0,
            note="; ".join(notes) or None,
        )


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _affordable_threads(threads: int, width: int, height: int) -> int:
    """As many threads as asked for, or fewer so that their decoders' pictures fit; two at the least."""
    per_decoder = max(1, width * height * 3 // 2 * PICTURES_PER_DECODER)
    return min(threads, max(2, DECODER_BYTES // per_decoder))


def _first_look(movie: Movie) -> tuple[int, int, float | None]:
    """Width and height of the first frame as shown, and a turn that is not applied, in degrees.

    If it cannot be decoded: what the stream says.

    Raises:
        VideoOpenError: the stream does not say, and a look at further packets gives no frame either.
    """
    with PacketReader(movie) as reader:
        stated = reader.context.width, reader.context.height
        last = 0 if all(stated) else min(len(movie.packets), PACKETS_WITHOUT_SIZE) - 1
        with closing(frames_of(reader, 0, last, Tally())) as frames:
            for frame in frames:
                if not isinstance(frame, int):
                    _, _, *cropped = movie.crop.window(frame.width, frame.height, frame.format)
                    return (*orientation_of(frame).size(*cropped), skew_degrees(frame))
    if not all(stated):
        raise VideoOpenError(
            f"{movie.path}: none of its pictures can be decoded, and their size is not known: the video is damaged, or "
            f"they are of more than {MAX_PIXELS:,} pixels, which are not read"
        )
    return (*stated, None)
