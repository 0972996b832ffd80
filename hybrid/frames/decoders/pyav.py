"""Video files through PyAV (FFmpeg): exact samples without decoding everything.

Opening a file demuxes it once, without decoding, which tells which packet holds the frame of each
sample (:mod:`hybrid.frames.packets.plan`). Reading then decodes only what those frames need:

* groups of pictures without a requested frame are not decoded, and decoding stops at the last requested
  frame of each group;
* unwanted pictures that no other picture refers to are skipped (``skip_frame`` of FFmpeg), for
  codecs whose streams mark them;
* groups are decoded on several threads, each with a decoder and a file handle of its own.

Frames and times are those of a full decode, bit for bit. Where that cannot be had (a stream whose
packets do not tell, damage), the file or the damaged part is decoded in full, and the report says
so. No option that changes pictures (such as leaving out the loop filter) is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager

import numpy as np

from hybrid.errors import FrameDecodeError, VideoOpenError
from hybrid.formatting import plural
from hybrid.frames.decoding.decode import Shown, Tally, decode_job, frames_of, sequential_samples
from hybrid.frames.decoding.parallel import run_ordered
from hybrid.frames.decoding.pictures import RgbConverter, orientation_of, skew_degrees
from hybrid.frames.interface import Decoder, ReadReport, Sample
from hybrid.frames.packets.plan import (
    NO_PTS,
    Grid,
    Job,
    entries,
    grid,
    keyframe_jobs,
    plan_jobs,
    presentation_order,
    restrict,
)
from hybrid.frames.packets.scan import Movie, PacketReader, scan
from hybrid.image_file import MAX_PIXELS
from hybrid.values import VideoInfo

__all__ = ["DECODER", "PyAVSource"]

WAITING_BYTES = 64 * 2**20
"""How much decoded pictures may take up while they wait for their turn."""
DECODER_BYTES = 240 * 2**20
"""How much the decoders' own pictures may take up; fewer threads are used for large pictures."""
PICTURES_PER_DECODER = 24
"""What one more decoding thread takes in memory, in pictures (75 MB were measured for 1080p)."""
PACKETS_WITHOUT_SIZE = 64
"""Where a file does not say how large its pictures are, so many packets are tried for the first one."""


class PyAVSource(Decoder):
    """Samples of a video file. See the module's text for how, and :class:`hybrid.values.Sampling` for which.

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
            first frame, or has pictures that are too large (:data:`~hybrid.image_file.MAX_PIXELS`).
        NoVideoStreamError: there is no video stream in it.
        InputError: threads or batch_bytes is below 1.
    """

    name = "pyav"

    def _open(self) -> VideoInfo:
        self._movie = scan(self._path)
        width, height, self._skew = _first_look(self._movie)
        self._most_threads = _affordable_threads(self._threads or _cores(), width, height)
        return self._info(
            "file", seconds=self._movie.end_seconds, width=width, height=height, codec=self._movie.keys.codec
        )

    def _samples(self, ordinals: list[int] | None) -> Generator[Sample, None, ReadReport]:
        """With ``ordinals``, only the groups of pictures that hold one of them are decoded.

        The policy ``keyframes`` gives a sample only where there is a key frame; a requested ordinal that has none is
        missing.
        """
        tally = Tally()
        in_full = self._in_full_reason() is not None
        given = self._sequential_samples(ordinals, tally) if in_full else self._planned_samples(ordinals, tally)
        any_sample = False
        with closing(given):
            for sample in given:
                any_sample = True
                yield sample
        if ordinals is None and not any_sample:
            raise FrameDecodeError(f"{self.info.path}: no frame is marked as a key frame; take --sampling exact")
        return self._make_report(tally)

    def _in_full_reason(self) -> str | None:
        """Why the file has to be decoded from its start with nothing left out; None if it need not."""
        if self._movie.unsafe is None and self.sampling.policy == "keyframes" and not self._movie.keys.proven:
            return f"it is not proven where decoding of {self._movie.keys.codec} may start"
        return self._movie.unsafe

    def _sequential_samples(self, ordinals: list[int] | None, tally: Tally) -> Generator[Sample]:
        with closing(PacketReader(self._movie)) as reader:
            yield from sequential_samples(reader, self._movie, self.sampling, ordinals, tally)

    def _planned_samples(self, ordinals: list[int] | None, tally: Tally) -> Generator[Sample]:
        movie = self._movie
        requested = grid(movie.packets, movie.clock, self.sampling, end_seconds=movie.end_seconds)
        if ordinals is not None:
            requested = restrict(requested, np.array(ordinals, dtype=np.int64))
        for gap in requested.missing:
            yield Sample.missing(gap.ordinal, gap.reason)
        times = movie.packets.pts[presentation_order(movie.packets)]
        index = 0
        latest = NO_PTS
        with closing(self._shown(requested, tally)) as shown:
            for picture in shown:
                if picture.pts < latest:
                    # Only damage can do that: what is shown does not go back in time.
                    picture = picture._replace(rgb=None, reason="the time stamps around it are damaged")
                elif picture.rgb is not None:
                    latest = picture.pts
                seconds = float(movie.clock.seconds(picture.pts))
                number = int(np.searchsorted(times, picture.pts))
                while index < len(requested.packets) and requested.packets[index] == picture.packet:
                    yield Sample(int(requested.ordinals[index]), seconds, number, picture.rgb, picture.reason)
                    index += 1

    def _shown(self, requested: Grid, tally: Tally) -> Generator[Shown]:
        """The picture of every distinct requested packet, in order of presentation."""
        movie = self._movie
        starts = entries(movie.packets)
        if self.sampling.policy == "keyframes":
            jobs = keyframe_jobs(movie.packets, requested.packets, stop_early=movie.keys.whole_pictures)
        else:
            jobs = plan_jobs(movie.packets, starts, requested.packets, stop_early=movie.keys.whole_pictures)
        tallies: list[Tally] = []

        @contextmanager
        def worker() -> Iterator[Callable[[Job], Iterator[Shown]]]:
            own = Tally()
            tallies.append(own)
            to_rgb = RgbConverter(movie.crop)
            with closing(PacketReader(movie)) as reader:
                yield lambda job: decode_job(reader, movie, job, starts, own, to_rgb)

        try:
            yield from run_ordered(
                jobs,
                worker,
                threads=self._most_threads,
                buffer_bytes=WAITING_BYTES,
                size_of=lambda picture: 0 if picture.rgb is None else picture.rgb.nbytes,
            )
        finally:
            for own in tallies:
                tally.add(own)

    def _make_report(self, tally: Tally) -> ReadReport:
        notes = [self._movie.note] if self._movie.note else []
        if self._skew is not None:
            notes.append(f"shown as stored: its display matrix turns it by {self._skew:.0f} degrees, no quarter turn")
        in_full = self._in_full_reason()
        if in_full is not None:
            notes.append(f"decoded in full: {in_full}")
        if tally.redone:
            notes.append(f"decoded again in full after damage or a lost frame: {tally.redone} of its stretches")
        for count, one, many, what in (
            (tally.concealed, "damaged frame was", "damaged frames were", "patched up by the decoder"),
            (tally.backward, "frame is", "frames are", "left out because the time stamps go back"),
            (tally.reordered, "frame keeps", "frames keep", "the decoder's order where times go back"),
        ):
            if count:
                notes.append(f"{plural(count, one, many)} {what}")
        return ReadReport(
            duration_seconds=self._movie.end_seconds,
            frames_decoded=tally.frames,
            packets_seen=len(self._movie.packets),
            packets_decoded=tally.packets,
            packets_damaged=len(tally.damaged),
            cut=self._movie.cut or tally.backward > 0,
            note="; ".join(notes) or None,
        )


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _affordable_threads(threads: int, width: int, height: int) -> int:
    """The requested number of threads, or fewer so that their decoders' pictures fit in memory; at least two."""
    per_decoder = max(1, width * height * 3 // 2 * PICTURES_PER_DECODER)
    return min(threads, max(2, DECODER_BYTES // per_decoder))


def _first_look(movie: Movie) -> tuple[int, int, float | None]:
    """Width and height of the first frame as shown, and a turn that is not applied, in degrees.

    If it cannot be decoded: what the stream states.

    Raises:
        VideoOpenError: the stream does not say, and a look at further packets gives no frame either.
    """
    with closing(PacketReader(movie)) as reader:
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


DECODER = PyAVSource
