"""Opening a container through FFmpeg, choosing its video stream, what both state, and packets past read errors."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

import av
import av.error
from av.codec.context import Flags
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.stream import VideoStream

from hybrid.errors import NoVideoStreamError, VideoOpenError
from hybrid.frames.container.formats import FORMATS, kind_of_head
from hybrid.image_file import MAX_PIXELS, too_large
from hybrid.storage.file_identity import absolute_path

VideoPacket: TypeAlias = "av.Packet[VideoStream]"

__all__ = [
    "Header",
    "VideoPacket",
    "open_container",
    "open_stream",
    "other_streams_end",
    "packet_times",
    "packets_of",
    "real_videos",
]

MAX_DEMUX_ERRORS = 16
"""This many read errors in a row end the reading; some demuxers would never stop."""
OGG_HEADERS = (b"\x80theora", b"\x81theora", b"\x82theora", b"OVP80\x01", b"OVP80\x02")
"""How packets begin that are headers. Where Ogg files are put together, FFmpeg passes them on as pictures."""
_FORMATS = ",".join(sorted(FORMATS))
_HEAD_BYTES = 4096


LIMITS = {"max_pixels": str(MAX_PIXELS)}
"""Options of every decoder, and of FFmpeg's probing of a file: pictures may grow in the middle of a stream."""


def open_stream(path: str | Path, *, index: int | None = None) -> tuple[InputContainer, VideoStream]:
    """Open a file and choose its video stream: the best one, or the one with ``index``.

    The stream's decoder is set to one thread; the other streams are not read.

    Raises:
        VideoOpenError: no such file, no permission, not a video, a codec that is not supported, pictures that
            are too large, or no video stream with ``index`` (any more).
        NoVideoStreamError: nothing but sound, subtitles or cover art.
    """
    container = open_container(path)
    try:
        stream = _best_stream(container, path) if index is None else _stream_again(container, index, path)
        if stream.codec_context is None:
            raise VideoOpenError(f"{path}: no decoder for its video codec in this build of FFmpeg; convert it to H.264")
        for other in container.streams:
            other.discard = Discard.default if other.index == stream.index else Discard.all
        stream.codec_context.thread_count = 1
        # Otherwise a crop on the left that is no multiple of the memory's alignment is left out.
        stream.codec_context.flags |= Flags.unaligned
        _check_stream_size(container, stream, path)
        stream.codec_context.options = LIMITS
    except BaseException:
        container.close()
        raise
    return container, stream


def open_container(source: str | Path | BinaryIO) -> InputContainer:
    """Open one file for reading, and only that: the seam where FFmpeg's errors of opening become ours.

    FFmpeg may use only the demuxers of :data:`~hybrid.frames.container.formats.FORMATS`, and no protocol but files.
    All that reads a container opens it here.

    Args:
        source: the path of a regular file; or a binary file that is open for reading and can seek.

    Raises:
        VideoOpenError: no such file, no permission, not a video, or a playlist.
    """
    if not isinstance(source, str | Path):
        return _open(source, "none", name=str(getattr(source, "name", None) or "the data"))
    try:
        if not stat.S_ISREG(Path(source).stat().st_mode):
            raise VideoOpenError(f"{source} is not a regular file; give a video file or a folder of images")
    except (OSError, ValueError) as exc:
        raise _not_opened(exc, str(source)) from exc
    # In full, because FFmpeg takes what comes before a colon in a name for a protocol.
    return _open(absolute_path(source), "file", name=str(source))


def _open(source: str | BinaryIO, protocols: str, *, name: str) -> InputContainer:
    options = {"format_whitelist": _FORMATS, "protocol_whitelist": protocols, **LIMITS}
    try:
        return av.open(source, "r", options=options, metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as exc:
        refused = kind_of_head(_head(source), name)
        raise (VideoOpenError(refused) if refused else _not_opened(exc, name)) from exc


def _not_opened(exc: Exception, name: str) -> VideoOpenError:
    if isinstance(exc, FileNotFoundError):
        return VideoOpenError(f"{name} does not exist")
    if isinstance(exc, PermissionError):
        return VideoOpenError(f"{name} cannot be read: permission denied")
    reason = getattr(exc, "strerror", None) or exc
    if isinstance(exc, av.error.ArgumentError):
        reason = "it is of a kind that is not read (a text, a script, a numbered sequence of files), or damaged"
    return VideoOpenError(f"{name} is not a video that FFmpeg can open: {reason}")


def _head(source: str | BinaryIO) -> bytes:
    try:
        if isinstance(source, str):
            with open(source, "rb") as file:
                return file.read(_HEAD_BYTES)
        source.seek(0)
        return source.read(_HEAD_BYTES)
    except (OSError, ValueError):
        return b""


def real_videos(container: InputContainer) -> list[VideoStream]:
    """The video streams that are no cover pictures and no thumbnails of another stream."""
    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    return [s for s in container.streams.video if not s.disposition & pictures]


def _check_stream_size(container: InputContainer, stream: VideoStream, path: str | Path) -> None:
    """Refuse a video whose pictures are too large, by what is known before any is decoded.

    Raises:
        VideoOpenError: they are.
    """
    if stream.width * stream.height > MAX_PIXELS:
        command = f"ffmpeg -i {Path(path).name} -vf scale=3840:-2 smaller.mp4"
        raise VideoOpenError(too_large(str(path), stream.width, stream.height, command=command))
    if stream.width == 0 and container.format.name.endswith("_pipe"):
        if _is_animated_webp(path):
            raise VideoOpenError(f"{path}: animated WebP is not supported; make a GIF or a video of it and index that")
        raise VideoOpenError(
            f"{path}: FFmpeg cannot read this image; it is damaged, or has more than {MAX_PIXELS:,} pixels"
        )


def _is_animated_webp(path: str | Path) -> bool:
    """Whether a file is WebP with the flag of an animation (RFC 9649, 2.7.1)."""
    with open(path, "rb") as file:
        head = file.read(21)
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[20] & 2)


def _best_stream(container: InputContainer, path: str | Path) -> VideoStream:
    real = real_videos(container)
    if not real:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "none"
        art = " (the video is a cover picture)" if container.streams.video else ""
        raise NoVideoStreamError(f"{path} holds no video stream; its streams: {kinds}{art}")
    best = container.streams.best("video")
    chosen = best if best in real else max(real, key=lambda s: s.width * s.height)
    assert isinstance(chosen, VideoStream)
    if not _is_grey(chosen):
        return chosen
    # FFmpeg does not tell the alpha plane of an AVIF or HEIF sequence from the pictures that it belongs to.
    size = (chosen.width, chosen.height, chosen.frames)
    return next((s for s in real if (s.width, s.height, s.frames) == size and not _is_grey(s)), chosen)


def _is_grey(stream: VideoStream) -> bool:
    context = stream.codec_context
    return context is not None and (context.pix_fmt or "").startswith("gray")


def _stream_again(container: InputContainer, index: int, path: str | Path) -> VideoStream:
    """The stream with ``index`` of a file that was scanned before."""
    stream = container.streams[index] if index < len(container.streams) else None
    if not isinstance(stream, VideoStream):
        raise VideoOpenError(f"{path} changed while it was read: its stream {index} is no video any more; read it anew")
    return stream


def packets_of(container: InputContainer, stream: VideoStream, errors: list[str]) -> Iterator[VideoPacket]:
    """The packets of a stream from where the container stands; read errors are noted and passed over."""
    in_a_row = 0
    headers = OGG_HEADERS if container.format.name == "ogg" else ()
    while in_a_row < MAX_DEMUX_ERRORS:
        try:
            for packet in container.demux(stream):
                if packet.size == 0 and packet.dts is None and packet.pts is None:
                    continue
                in_a_row = 0
                if headers and bytes(memoryview(packet)[:7]).startswith(headers):
                    continue
                yield packet
            return
        except IndexError:
            # PyAV stumbles over the first packet of a stream that was not there when the file was
            # opened (MPEG-TS); it was not ours, and the next round knows the new stream.
            in_a_row += 1
        except av.error.FFmpegError as exc:
            errors.append(str(exc.strerror or exc))
            in_a_row += 1


@dataclass(frozen=True, slots=True)
class Header:
    """Starts and lengths as stated, taken when the file was opened. Seconds on the container's clock.

    Attributes:
        is_mov: an MP4 or QuickTime file.
        is_matroska: a Matroska or WebM file.
        start: where the container begins; None if it does not say.
        stream_start: where the video stream begins; None if it does not say.
        stream_length: how long the video stream is; None if it does not say.
        length: how long the container is; None if it does not say.
    """

    is_mov: bool
    is_matroska: bool
    start: Fraction | None
    stream_start: Fraction | None
    stream_length: Fraction | None
    length: Fraction | None

    @classmethod
    def of(cls, container: InputContainer, stream: VideoStream) -> Header:
        """Take the statements of a container and its chosen stream that were just opened."""
        base = stream.time_base or Fraction(0)
        start = cast("int | None", container.start_time)  # PyAV's stub leaves the None out.
        return cls(
            is_mov="mp4" in container.format.name.split(","),
            is_matroska=container.format.name.startswith("matroska"),
            start=None if start is None else Fraction(start, 1_000_000),
            stream_start=None if stream.start_time is None else stream.start_time * base,
            stream_length=stream.duration * base if stream.duration and base else None,
            length=Fraction(container.duration, 1_000_000) if container.duration else None,
        )

    def end_seconds(self) -> float | None:
        """Where the video ends on the timeline whose zero is the container's start, as stated.

        None if it is not, or cannot be: some files begin late and count their length from there.
        """
        start = self.start or Fraction(0)
        if self.stream_length is not None:
            # In MP4, the length of a stream that begins with an empty edit counts from zero, not from its start.
            begin = Fraction(0) if self.is_mov else self.stream_start or Fraction(0)
            end = begin + self.stream_length - start
        else:
            # In Matroska the length is a time on the clock of the file, which need not begin at 0.
            end = (self.length or Fraction(0)) - (max(Fraction(0), start) if self.is_matroska else 0)
        return float(end) if end > 0 else None


def packet_times(container: InputContainer, streams: Sequence[Stream]) -> Iterator[tuple[Packet[Stream], float, float]]:
    """The packets of the streams that have a time, with when they begin and end, in seconds on their clock."""
    for packet in container.demux(streams) if streams else ():
        if packet.pts is not None and packet.time_base:
            end = packet.pts + (packet.duration or 0)
            yield packet, float(packet.pts * packet.time_base), float(end * packet.time_base)


def other_streams_end(path: str, chosen: int) -> float | None:
    """Where the last packet of all streams but the chosen one ends, in seconds on the timeline.

    Returns:
        None if there are no other streams, or they cannot be read.
    """
    with open_container(path) as container:
        start = (cast("int | None", container.start_time) or 0) / 1e6
        others = [stream for stream in container.streams if stream.index != chosen]
        try:
            latest = max((end for _, _, end in packet_times(container, others)), default=None)
        except av.error.FFmpegError:
            return None
        return None if latest is None else latest - start
