"""Opening a container through FFmpeg, choosing its video stream, and getting packets past read errors."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import av
import av.error
from av.codec.context import Flags
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from hybrid.errors import NoVideoStreamError, VideoOpenError
from hybrid.picture_size import MAX_PIXELS, check_picture_size
from hybrid.places import absolute_path

VideoPacket: TypeAlias = "av.Packet[VideoStream]"

__all__ = ["VideoPacket", "open_container", "open_stream", "packets_of"]

MAX_DEMUX_ERRORS = 16
"""So many read errors in a row end the file; some demuxers would go on for ever."""


LIMITS = {"max_pixels": str(MAX_PIXELS)}
"""What decoders are told, FFmpeg's own look at a file included: pictures may grow in the middle of a stream."""


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


def open_container(path: str | Path) -> InputContainer:
    """Open a regular file; the seam where FFmpeg's errors of opening become ours.

    Raises:
        VideoOpenError: no such file, no permission, or not a video.
    """
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise VideoOpenError(f"{path} is not a regular file; give a video file or a folder of images")
        # In full, because FFmpeg takes what comes before a colon in a name for a protocol.
        return av.open(absolute_path(path), metadata_errors="replace", options=LIMITS)
    except FileNotFoundError as exc:
        raise VideoOpenError(f"{path} does not exist") from exc
    except PermissionError as exc:
        raise VideoOpenError(f"{path} cannot be read: permission denied") from exc
    except (av.error.FFmpegError, OSError, ValueError, UnicodeError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise VideoOpenError(f"{path} is not a video that FFmpeg can open: {reason}") from exc


def _check_stream_size(container: InputContainer, stream: VideoStream, path: str | Path) -> None:
    """Refuse a video whose pictures are too large, by what is known before any is decoded.

    Raises:
        VideoOpenError: they are.
    """
    hint = f"ffmpeg -i {Path(path).name} -vf scale=3840:-2 smaller.mp4"
    check_picture_size(stream.width, stream.height, of=str(path), hint=hint)
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
    real = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not real:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "none"
        art = " (the video is a cover picture)" if container.streams.video else ""
        raise NoVideoStreamError(f"{path} holds no video stream; its streams: {kinds}{art}")
    best = container.streams.best("video")
    return best if best in real else max(real, key=lambda s: s.width * s.height)


def _stream_again(container: InputContainer, index: int, path: str | Path) -> VideoStream:
    """The stream with ``index`` of a file that was scanned before."""
    stream = container.streams[index] if index < len(container.streams) else None
    if not isinstance(stream, VideoStream):
        raise VideoOpenError(f"{path} changed while it was read: its stream {index} is no video any more; read it anew")
    return stream


def packets_of(container: InputContainer, stream: VideoStream, errors: list[str]) -> Iterator[VideoPacket]:
    """The packets of a stream from where the container stands; read errors are noted and passed over."""
    in_a_row = 0
    while in_a_row < MAX_DEMUX_ERRORS:
        try:
            for packet in container.demux(stream):
                if packet.size == 0 and packet.dts is None and packet.pts is None:
                    continue
                in_a_row = 0
                yield packet
            return
        except IndexError:
            # PyAV stumbles over the first packet of a stream that was not there when the file was
            # opened (MPEG-TS); it was not ours, and the next round knows the new stream.
            in_a_row += 1
        except av.error.FFmpegError as exc:
            errors.append(str(exc.strerror or exc))
            in_a_row += 1
