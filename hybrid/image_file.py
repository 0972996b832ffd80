"""Image files to RGB: the one way in which images are opened, with the same rules everywhere.

Formats are :data:`FORMATS`, whatever a file's name; Pillow's others (some of which start programs) are not tried.
A picture is shown upright (the orientation in its EXIF data), and its values become 8 bits:

* Grey, colour, palette, one bit, CMYK, YCbCr, LAB: as Pillow converts them; 16-bit colour is read as its high bytes.
* 16-bit grey: value / 257, rounded. Grey of another depth that is stored in 16 bits (TIFF): by its own white.
* Floating point: from 0 (black) to 1 (white). An image with other values is refused, for its white is not known.
* 32-bit integers: refused, for the same reason.
* Alpha: left out, and colours as they are stored, as ffmpeg's command line does it. They are not blended with a ground.
* An image with several pictures (GIF, APNG, TIFF): the first one.
* More than :data:`MAX_PIXELS` pixels: refused before anything is decoded.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from hybrid.errors import FrameDecodeError
from hybrid.values import ByteArray

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["FORMATS", "MAX_PIXELS", "ImageHeader", "read_header", "read_image", "too_large"]

FORMATS: Final = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""As Pillow names them. MPO, a JPEG file with further pictures behind it, is read as JPEG."""

PLUGINS: Final = ("Bmp", "Gif", "Jpeg", "Png", "Tiff", "WebP")
"""The parts of Pillow that read them."""

MAX_PIXELS: Final = 2**26
"""Pixels of a picture, of an image or a video: 8192 x 8192, twice those of 8K video (7680 x 4320), so that none of a
real film is refused. A picture of this size takes 192 MiB as RGB and some of these while it is decoded and passed on.
Without a limit, a file of 20 kB can ask for gigabytes."""

ROWS_AT_A_TIME: Final = 256
"""An image is copied in strips, so that there are not three of it in memory."""

_ORIENTATION: Final = 0x0112
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


class ImageHeader(NamedTuple):
    """What an image states before it is decoded.

    Attributes:
        width, height: in pixels, as shown.
        format: its name, in small letters.
        mode: of its pixels, as Pillow names it: ``RGB``, ``I;16`` ...
        several: whether it holds more than one picture.
    """

    width: int
    height: int
    format: str
    mode: str
    several: bool


def read_header(path: Path) -> ImageHeader:
    """What an image states, without decoding it.

    Raises:
        FrameDecodeError: it cannot be opened, is of another format, or too large.
    """
    with _open(path) as image:
        return _header_of(image)


def read_image(path: Path) -> tuple[ByteArray, ImageHeader]:
    """An image as it is shown, uint8 [H, W, 3], and what it states. See the module's text for the rules.

    Raises:
        FrameDecodeError: it cannot be read, is of another format or too large, or its white is not known.
    """
    from PIL import ImageOps

    with _open(path) as image:
        header = _header_of(image)
        white = _white_of_grey(image)
        ImageOps.exif_transpose(image, in_place=True)
        _check_range(image, path)
        rgb = np.empty((image.height, image.width, 3), dtype=np.uint8)
        for top, strip in _strips(image):
            if white is not None:
                rows = _grey_to_bytes(np.asarray(strip), *white)
            elif image.mode == "F":
                rows = np.rint(np.asarray(strip) * 255).astype(np.uint8)[..., None]
            else:
                rows = np.asarray(strip.convert("RGB"))
            rgb[top : top + ROWS_AT_A_TIME] = rows
        return rgb, header


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    """Where Pillow's errors become ours."""
    from PIL import Image, UnidentifiedImageError

    # Where formats are listed, Pillow tries only those whose modules are loaded.
    for name in PLUGINS:
        import_module(f"PIL.{name}ImagePlugin")
    try:
        with warnings.catch_warnings():
            # The limit is ours, below, and lower; what Pillow refuses by itself ends as an error too.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(path, formats=FORMATS)
        with opened as image:
            if image.width * image.height > MAX_PIXELS:
                command = f"magick {path.name} -resize 4096x4096 smaller-{path.name}"
                raise FrameDecodeError(too_large(path.name, *image.size, command=command))
            yield image
    except UnidentifiedImageError as exc:
        raise FrameDecodeError(f"{path.name} cannot be read: it is none of {', '.join(FORMATS)}") from exc
    except Image.DecompressionBombError as exc:
        raise FrameDecodeError(f"{path.name} cannot be read: it is too large: {exc}") from exc
    except (OSError, SyntaxError, ValueError, ArithmeticError, LookupError, TypeError, struct.error) as exc:
        raise FrameDecodeError(f"{path.name} cannot be read: {exc}") from exc


def _header_of(image: Image.Image) -> ImageHeader:
    width, height = image.size
    # Pillow states the size of a TIFF file, and of no other, as it is shown.
    if image.format != "TIFF" and image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8):
        width, height = height, width
    several = bool(getattr(image, "is_animated", False))
    return ImageHeader(width, height, (image.format or "image").lower(), image.mode, several)


def _white_of_grey(image: Image.Image) -> tuple[int, bool] | None:
    """Of grey in 16 bits: the value that is white, and whether white and black are swapped; None for others."""
    if not image.mode.startswith("I;16"):
        return None
    tags = getattr(image, "tag_v2", {})  # of TIFF
    bits = int(tags.get(_BITS, (16,))[0])
    return (1 << bits) - 1, tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Its rows from top to bottom, some at a time, each time with the number of the first."""
    for top in range(0, image.height, ROWS_AT_A_TIME):
        yield top, image.crop((0, top, image.width, min(image.height, top + ROWS_AT_A_TIME)))


def _grey_to_bytes(values: Any, white: int, swapped: bool) -> ByteArray:
    """Grey values [H, W] to [H, W, 1] in 0 .. 255, rounded to the nearest."""
    scaled = (values.astype(np.uint32) * 255 + white // 2) // white
    grey: ByteArray = np.minimum(scaled, 255).astype(np.uint8)[..., None]
    return 255 - grey if swapped else grey


def _check_range(image: Image.Image, path: Path) -> None:
    """Refuse pixel values whose white is not known."""
    if image.mode == "I":
        raise FrameDecodeError(
            f"{path.name} holds 32-bit integers, of which it is not known what is white; save it with 8 or 16 bits"
        )
    if image.mode != "F":
        return
    ends = np.array([(rows.min(), rows.max()) for rows in (np.asarray(strip) for _, strip in _strips(image))])
    low, high = float(ends.min()), float(ends.max())
    if not 0 <= low <= high <= 1:
        raise FrameDecodeError(
            f"{path.name} holds floating-point values from {low:g} to {high:g}; 0 is read as black and 1 as white, so "
            "bring its values to 0 .. 1, or save it with 8 bits"
        )


def too_large(name: str, width: int, height: int, *, command: str) -> str:
    """The message for a file whose pictures have more than :data:`MAX_PIXELS` pixels; ``command`` makes it smaller."""
    return (
        f"{name}: its pictures are of {width} x {height} pixels; at most {MAX_PIXELS:,} are read (8192 x 8192). "
        f"Make it smaller first: {command}"
    )
