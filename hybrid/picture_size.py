"""How large a picture may be that is read, of a video or an image: known from its header, before it is decoded."""

from __future__ import annotations

from typing import Final

from hybrid.errors import VideoError, VideoOpenError

__all__ = ["MAX_PIXELS", "check_picture_size"]

MAX_PIXELS: Final = 2**26
"""Pixels of a picture: 8192 x 8192, twice those of 8K video (7680 x 4320), so that none of a real film is refused. A
picture of this size takes 192 MiB as RGB and some of these while it is decoded and handed on. Without a limit, a file
of 20 kB can ask for gigabytes."""


def check_picture_size(
    width: int, height: int, *, of: str, hint: str, error: type[VideoError] = VideoOpenError
) -> None:
    """Refuse pictures of more than :data:`MAX_PIXELS`.

    Args:
        width, height: as stated, in pixels; 0 is not known.
        of: names the file, for the error.
        hint: the command that makes it smaller.
        error: what is raised.

    Raises:
        VideoOpenError: they are too large; or whichever ``error`` is.
    """
    if width * height > MAX_PIXELS:
        raise error(
            f"{of}: its pictures are of {width} x {height} pixels; at most {MAX_PIXELS:,} are read (8192 x 8192). "
            f"Make it smaller first: {hint}"
        )
