"""How long is a video, by what its container states: milliseconds a file, for an estimate and for nothing else."""

from __future__ import annotations

from pathlib import Path

from hybrid.errors import VideoOpenError
from hybrid.values import IMAGE_SUFFIXES

__all__ = ["probe_seconds"]


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
