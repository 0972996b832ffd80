"""The decoders of video files by their names, and how a video is opened.

A new decoder is a file in ``decoders/`` that ends in ``DECODER = ItsClass``, and a line in :data:`DECODERS`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hybrid.frames.interface import DEFAULT_BATCH_BYTES, Decoder, FrameSource
from hybrid.registry import Registry, unknown_name
from hybrid.values import Sampling

__all__ = ["DECODERS", "DEFAULT_DECODER", "FOLDER", "check_decoder", "open_source"]

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
"""What an index of a folder of images has in the place of a decoder's name; folders are read in one way."""


def check_decoder(name: str) -> None:
    """Refuse a name that is not that of a decoder; nothing is imported.

    Raises:
        InputError: no decoder has this name.
    """
    if name not in DECODERS.names:
        raise unknown_name("decoder", name, DECODERS.names)


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
        check_decoder(decoder)
    return FolderSource(path, sampling, threads=threads, batch_bytes=batch_bytes)
