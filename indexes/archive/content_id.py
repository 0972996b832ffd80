"""Which video is this? A video is known by its content, so it may be renamed and moved."""

from __future__ import annotations

import os
import stat
from collections.abc import MutableMapping
from pathlib import Path

import blake3

from hybrid.errors import VideoOpenError
from hybrid.storage.file_identity import DigestCache, absolute_path, file_state, text_hash
from hybrid.values import IMAGE_SUFFIXES

__all__ = ["content_id", "identify", "remembered"]

_CHUNK_BYTES = 4 * 2**20


def identify(
    path: str | Path,
    *,
    cache: Path | None = None,
    read_here: MutableMapping[str, tuple[str, str]] | None = None,
    from_cache: bool = True,
) -> str:
    """The content id of a video file or a folder of images: 32 hexadecimal digits.

    For a file it is the BLAKE3 of its bytes, cut to 128 bits (``b3sum --length 16`` shows the
    same). For a folder it is made of the images' names and contents. Neither depends on where the
    video lies or what it is called.

    Args:
        path: the video.
        cache: folder that remembers ids by absolute path, size, times and inode, so that an
            unchanged video is not read twice. It may be deleted at any time; a damaged entry
            counts as none; where it cannot be written, nothing is remembered.
        read_here: what this process has read itself: by path, the state of the files and the id.
        from_cache: whether an id that another process wrote down is good enough. It is not where an index is
            about to be stored under it: a false one would stay.

    Raises:
        VideoOpenError: there is no such path, it cannot be read, it is a folder without images, or neither a file
            nor a folder (a pipe, a device).
    """
    video = Path(absolute_path(path))
    key = str(video)
    try:
        if cache is None:
            return content_id(video)
        known, before = _cache(cache), _signature(video)
        signature, own = ("", "") if read_here is None else read_here.get(key, ("", ""))
        if own and signature == before:
            return own
        found = known.recall(key, before) if from_cache else None
        if found is None:
            found, certain = known.read(
                key, lambda: _files(video), lambda: _signature(video), lambda: content_id(video)
            )
            if certain is not None and read_here is not None:
                read_here[key] = (certain, found)
        return found
    except OSError as exc:
        raise VideoOpenError(f"{path}: cannot be read: {exc.strerror or exc}") from exc


def remembered(path: str | Path, *, cache: Path) -> str | None:
    """The content id of a video that was read before and is unchanged; None if that is not known. Nothing is read."""
    video = Path(absolute_path(path))
    try:
        return _cache(cache).recall(str(video), _signature(video))
    except (OSError, VideoOpenError):
        return None


def _cache(folder: Path) -> DigestCache:
    return DigestCache(folder, "video_id", with_path=True)


def content_id(video: Path) -> str:
    """The content id, read from the content. See :func:`identify`.

    Raises:
        OSError: the path cannot be read.
        VideoOpenError: a folder without images, or neither a file nor a folder.
    """
    if not video.is_dir():
        _check_regular(video)
        digest = blake3.blake3()
        _feed(digest, video)
        return digest.hexdigest(length=16)
    digest = blake3.blake3(b"hybrid frame folder 1\n")
    for image in _images(video):
        content = blake3.blake3()
        _feed(content, image)
        # Names cannot hold a zero byte, so no two folders give the same stream.
        digest.update(os.fsencode(image.name) + b"\0" + content.digest())
    return digest.hexdigest(length=16)


_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def _check_regular(video: Path) -> None:
    """Refuse what has no end, or waits for a writer, when it is read."""
    mode = video.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = next((name for test, name in _KINDS if test(mode)), "no regular file")
        raise VideoOpenError(f"{video}: this is {kind}; give a video file or a folder of images")


def _feed(digest: blake3.blake3, path: Path) -> None:
    # Read, not mapped: a mapped file that is cut while it is read kills the process.
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])


def _images(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if not entry.name.startswith(".") and entry.name.lower().endswith(tuple(IMAGE_SUFFIXES)) and entry.is_file()
        ]
    if not names:
        raise VideoOpenError(f"{folder}: this folder holds no images (a frame folder holds sec000.png, sec001.png ...)")
    return [folder / name for name in sorted(names, key=os.fsencode)]


def _signature(video: Path) -> str:
    """Changes whenever the content may have changed."""
    lines = [f"{path.name if path != video else ''} {file_state(path)}" for path in _files(video)]
    return text_hash("\n".join(lines))


def _files(video: Path) -> list[Path]:
    """The files that a video's content is read from."""
    return _images(video) if video.is_dir() else [video]
