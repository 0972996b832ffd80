"""The decoders of video files by their names, and how a video is opened or measured.

A new decoder is a file in ``decoders/`` that ends in ``DECODER = ItsClass``, and a line in :data:`DECODERS`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hybrid.errors import VideoOpenError
from hybrid.frames.interface import DEFAULT_BATCH_BYTES, Decoder, FrameSource
from hybrid.registry import Registry
from hybrid.values import IMAGE_SUFFIXES, Sampling

__all__ = ["DECODERS", "DEFAULT_DECODER", "FOLDER", "open_source", "probe_seconds"]

DECODERS: Final[Registry[type[Decoder]]] = Registry(
    "decoder",
    "DECODER",
    {
        "pyav": "hybrid.frames.decoders.pyav",
        "decord": "hybrid.frames.decoders.decord",
    },
)
DEFAULT_DECODER: Final = "pyav"

FOLDER: Final = "folder"
"""The decoder that an index of a folder of images names; every folder is read the same way."""


def open_source(
    path: str | Path,
    sampling: Sampling,
    *,
    decoder: str = DEFAULT_DECODER,
    threads: int | None = None,
    batch_bytes: int = DEFAULT_BATCH_BYTES,
) -> FrameSource:
    """Open a video file, or a folder of numbered images, for sampling.

    Args:
        path: a video file; or a folder with images whose names end in their number
            (``sec000.png``, ``sec001.png`` ...), one per second.
        sampling: rate and policy.
        decoder: of a video file: a name in :data:`DECODERS`. A folder is read without one.
        threads: decoding threads; None: what suits the decoder.
        batch_bytes: how large a batch may grow.

    Raises:
        VideoOpenError: there is no such path, or it is not a video or such a folder.
        NoVideoStreamError: a container without a video stream.
        InputError: the decoder is not known.
        MissingDependencyError: the decoder's package is not installed.
    """
    if not Path(path).is_dir():
        return DECODERS.find(decoder)(path, sampling, threads=threads, batch_bytes=batch_bytes)
    from hybrid.frames.decoders.folder import FolderSource

    if decoder != FOLDER:
        DECODERS.check(decoder)
    return FolderSource(path, sampling, threads=threads, batch_bytes=batch_bytes)


def probe_seconds(path: str | Path) -> float | None:
    """The stated length of a video; of a folder of images, one second an image. None if none is stated.

    What is stated may be wrong, and packets are not looked at; indexing goes by the packets.

    Raises:
        VideoOpenError: it cannot be opened, or holds no video.
    """
    if Path(path).is_dir():
        return float(sum(1 for entry in Path(path).iterdir() if entry.suffix.lower() in IMAGE_SUFFIXES))
    from hybrid.frames.container.open import open_container

    with open_container(path) as container:
        stream = container.streams.best("video")
        if stream is None:
            raise VideoOpenError(f"{path}: it holds no video stream")
        if container.duration is not None:
            return float(container.duration) / 1_000_000
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        return None
