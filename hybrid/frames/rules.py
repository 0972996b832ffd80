"""Which version of the rules for reading frames made an index, and whether this file's frames are others by today's.

Not only pictures count: of a video whose length, or whether it is whole, is judged otherwise, the index is another
as well. That takes a pass over the file's packets, once for each index of version 1.

An index states the version (``frame_rules`` in its manifest; none is 1). A change of what is shown of some files gets a
new version and a line in :data:`VIDEO_CHANGES` or :data:`IMAGE_CHANGES`, which tells the files that it concerns. So an
index of any other file stays valid. An index of such a file is rebuilt, and never used together with frames that are
read now.

A change is looked for in what opening a file and decoding its first frame shows. One that needs more has a
``confirmed`` as well, which is asked, with the scan of the whole file, only where ``seen`` does not rule it out.

Only the decoders in :data:`FOLLOW_RULES` follow these rules; each of the others has its own, which have not changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import av
from av.codec.context import Flags
from av.container import InputContainer
from av.video.stream import VideoStream

from hybrid.errors import FrameDecodeError
from hybrid.formatting import plural
from hybrid.frames.container.boxes import container_crop
from hybrid.frames.container.open import open_stream, packets_of
from hybrid.frames.decoders.folder import numbered_images
from hybrid.frames.decoding.pictures import AS_STORED, Orientation, orientation_of
from hybrid.frames.packets.bitstream import KeyPackets
from hybrid.frames.packets.scan import Movie, scan
from hybrid.image_file import read_header
from hybrid.values import SamplingPolicy

__all__ = ["FRAME_RULES", "IMAGE_CHANGES", "VIDEO_CHANGES", "Change", "Indexed", "frames_changed_reason"]

FRAME_RULES: Final = 2
"""The version of today's rules."""

FOLLOW_RULES: Final = ("pyav", "folder")
"""Names of the decoders that read frames by these rules."""

MOST_PACKETS: Final = 64
"""How many packets are decoded to get a first frame."""


LARGEST_SLIP_SECONDS = 0.5
"""Lengths that differ by more than this are not the same."""


class Indexed(NamedTuple):
    """What an index states about its video.

    Attributes:
        seconds: its length.
        partial: whether it could not be read to its end, or lacks samples.
        missing: samples that could not be read.
    """

    seconds: float
    partial: bool
    missing: int


@dataclass(frozen=True, slots=True)
class Opened:
    """What is seen of a video at first.

    Attributes:
        path: of the file.
        policy: of the index's sampling.
        container, stream: open, and read some way.
        frame: its first frame; None if none came out of the decoder.
    """

    path: str
    policy: SamplingPolicy
    container: InputContainer
    stream: VideoStream
    frame: av.VideoFrame | None

    @property
    def codec(self) -> str:
        """Its name, as FFmpeg has it; empty if there is no decoder."""
        context = self.stream.codec_context
        return "" if context is None else context.codec.canonical_name


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the rules for videos or for images.

    Attributes:
        version: of the rules that made it.
        reason: what is read differently, as the rest of a sentence about the file.
        seen: whether it concerns a video, as far as :class:`Opened` tells, or an image.
        confirmed: whether it does concern the video, where ``seen`` alone cannot tell.
    """

    version: int
    reason: str
    seen: Callable[[Any], bool]
    confirmed: Callable[[Movie], bool] | None = None


def _is_turned_otherwise(opened: Opened) -> bool:
    """Version 1 knew turns alone, by the angle that FFmpeg makes of a matrix."""
    frame = opened.frame
    if frame is None:
        return False
    turned = (
        AS_STORED,
        Orientation(True, rows_flipped=True, columns_flipped=False),
        Orientation(False, rows_flipped=True, columns_flipped=True),
        Orientation(True, rows_flipped=False, columns_flipped=True),
    )
    return orientation_of(frame) != turned[round(frame.rotation / 90) % 4]


def _is_cropped_by_container(opened: Opened) -> bool:
    frame = opened.frame
    if frame is None:
        return False
    crop = container_crop(opened.path, opened.container, opened.stream)
    return crop.window(frame.width, frame.height, frame.format) != (0, 0, frame.width, frame.height)


def _is_cropped_on_the_left(opened: Opened) -> bool:
    """Version 1 left out a crop on the left that is no multiple of the memory's alignment."""
    frame, context = opened.frame, opened.stream.codec_context
    if frame is None or context is None or context.coded_width == frame.width:
        return False
    container, stream = open_stream(opened.path, index=opened.stream.index)
    with container:
        if stream.codec_context is not None:
            stream.codec_context.flags &= ~Flags.unaligned
        before = _first_frame(container, stream)
    return before is not None and before.width != frame.width


VIDEO_CHANGES: Final = (
    Change(2, "its display matrix, which mirrors or is singular, is read rightly now", _is_turned_otherwise),
    Change(2, "the crop that its container asks for is applied now", _is_cropped_by_container),
    Change(2, "its crop on the left is applied now", _is_cropped_on_the_left),
    Change(
        2,
        "several of its pictures share a packet (packed B-frames), which are decoded in full now",
        seen=lambda opened: opened.codec == "mpeg4",
        confirmed=lambda movie: movie.keys.packed,
    ),
    Change(
        2,
        "time stamps of MPEG-PS that go back by a frame are put right now, and it may have some",
        seen=lambda opened: opened.container.format.name == "mpeg",
        confirmed=lambda movie: movie.unsafe is not None,
    ),
    Change(
        2,
        "key frames of its codec, for which no entry rule is proven, are decoded from the start now",
        seen=lambda opened: opened.policy == "keyframes" and not KeyPackets(opened.codec, b"").proven,
    ),
)

IMAGE_CHANGES: Final = (
    Change(2, "grey of 16 bits, which is scaled now", lambda header: header.mode.startswith("I;16")),
    Change(2, "floating-point pixels, which are read from 0 to 1 now", lambda header: header.mode == "F"),
    Change(2, "pixels of 32-bit integers, which are refused now", lambda header: header.mode == "I"),
)


def frames_changed_reason(
    path: str | Path, *, since: int, decoder: str, policy: SamplingPolicy, indexed: Indexed | None = None
) -> str | None:
    """Why today's frames of a video are others than those by older rules; None if they are the same.

    Args:
        path: a file, or a folder of images.
        since: the version of the older rules.
        decoder, policy: those of the index.
        indexed: what the index states about the video; None: only its pictures are looked at.

    Raises:
        VideoError: it cannot be opened.
    """
    if since >= FRAME_RULES or decoder not in FOLLOW_RULES:
        return None
    path = Path(path)
    return _folder_reason(path, since) if path.is_dir() else _file_reason(path, since, policy, indexed)


def _file_reason(path: Path, since: int, policy: SamplingPolicy, indexed: Indexed | None) -> str | None:
    container, stream = open_stream(path)
    with container:
        opened = Opened(str(path), policy, container, stream, _first_frame(container, stream))
        possible = [change for change in VIDEO_CHANGES if change.version > since and change.seen(opened)]
    movie: Movie | None = None
    for change in possible:
        if change.confirmed is None:
            return change.reason
        movie = movie or scan(path)
        if change.confirmed(movie):
            return change.reason
    return None if indexed is None else _judgement_reason(movie or scan(path), indexed)


def _judgement_reason(movie: Movie, indexed: Indexed) -> str | None:
    if abs(movie.end_seconds - indexed.seconds) > LARGEST_SLIP_SECONDS:
        return f"it is {movie.end_seconds:.2f} s long by today's rules, not {indexed.seconds:.2f} s"
    if movie.cut and not indexed.partial:
        return f"it is not read whole, which was not noticed: {movie.note}"
    if indexed.partial and not indexed.missing and not movie.cut:
        return "it was taken for cut, and is whole"
    return None


def _first_frame(container: InputContainer, stream: VideoStream) -> av.VideoFrame | None:
    context = stream.codec_context
    assert context is not None  # open_stream looked
    for _, packet in zip(range(MOST_PACKETS), packets_of(container, stream, []), strict=False):
        try:
            frames = context.decode(packet)
        except av.error.FFmpegError:
            continue
        if frames:
            return frames[0]
    try:
        return next(iter(context.decode(None)), None)
    except av.error.FFmpegError:
        return None


def _folder_reason(folder: Path, since: int) -> str | None:
    headers = []
    for path in numbered_images(folder).values():
        try:
            headers.append(read_header(path))
        except FrameDecodeError:
            continue
    for change in IMAGE_CHANGES:
        concerned = sum(map(change.seen, headers)) if change.version > since else 0
        if concerned:
            return f"{plural(concerned, 'of its images has', 'of its images have')} {change.reason}"
    return None
