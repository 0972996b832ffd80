"""Opening a container through FFmpeg, choosing its video stream, and getting packets past read errors."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TypeAlias

import av
import av.error
from av.codec.context import Flags
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from hybrid.errors import NoVideoStreamError, VideoOpenError
from hybrid.frames.formats import FORMATS, kind_of_head
from hybrid.picture_size import MAX_PIXELS, check_picture_size
from hybrid.storage.file_identity import absolute_path

VideoPacket: TypeAlias = "av.Packet[VideoStream]"

__all__ = ["VideoPacket", "open_container", "open_stream", "packets_of", "real_videos"]

MAX_DEMUX_ERRORS = 16
"""So many read errors in a row end the file; some demuxers would go on for ever."""
OGG_HEADERS = (b"\x80theora", b"\x81theora", b"\x82theora", b"OVP80\x01", b"OVP80\x02")
"""How packets begin that are headers. Where Ogg files are put together, FFmpeg passes them on as pictures."""
_FORMATS = ",".join(sorted(FORMATS))
_HEAD_BYTES = 4096


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


def open_container(source: str | Path | BinaryIO) -> InputContainer:
    """Open one file for reading, and only that: the seam where FFmpeg's errors of opening become ours.

    FFmpeg may use only the demuxers of :data:`hybrid.frames.formats.FORMATS`, and no protocol but files. All that
    reads a container opens it here.

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
        kind = kind_of_head(_head(source), name)
        if kind is None:
            raise _not_opened(exc, name) from exc
        command = f": {kind.command}" if kind.command else ""
        raise VideoOpenError(
            f"{name} is {kind.name}, not a video; it is not read, because what it refers to can change unnoticed. "
            f"Make one video file of it, and give that{command}"
        ) from exc


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
