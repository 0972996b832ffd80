"""Which decoder reads a video, and how a source of frames is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from hybrid.errors import InputError
from hybrid.frames.interface import DEFAULT_BATCH_BYTES, FrameSource
from hybrid.values import Sampling

__all__ = ["DECODERS", "DecoderName", "open_source"]

DecoderName = Literal["pyav", "decord"]
DECODERS: tuple[DecoderName, ...] = ("pyav", "decord")


def open_source(
    path: str | Path,
    sampling: Sampling,
    *,
    decoder: DecoderName = "pyav",
    threads: int | None = None,
    batch_bytes: int = DEFAULT_BATCH_BYTES,
) -> FrameSource:
    """Open a video file, or a folder of numbered images, for sampling.

    Args:
        path: a video file; or a folder with images whose names end in their number
            (``sec000.png``, ``sec001.png`` ...), one per second.
        sampling: rate and policy.
        decoder: for files; a folder needs none.
        threads: decoding threads; by default as many as there are cores.
        batch_bytes: how large a batch may grow.

    Raises:
        VideoOpenError: there is no such path, or it is not a video or such a folder.
        NoVideoStreamError: a container without a video stream.
        InputError: the decoder is not known.
        MissingDependencyError: the decoder's package is not installed.
    """
    if decoder not in DECODERS:
        raise InputError(f"decoder is {decoder!r}; legal are {', '.join(DECODERS)}")
    path = Path(path)
    if path.is_dir():
        from hybrid.frames.decoders.folder import FolderSource

        return FolderSource(path, sampling, batch_bytes=batch_bytes)
    if decoder == "decord":
        from hybrid.frames.decoders.decord import DecordSource

        return DecordSource(path, sampling, threads=threads, batch_bytes=batch_bytes)
    from hybrid.frames.decoders.pyav import PyAVSource

    return PyAVSource(path, sampling, threads=threads, batch_bytes=batch_bytes)
