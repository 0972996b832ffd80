"""Folders of numbered images, one per second: the form in which GenS ships its example (``sec000.png``).

The number that ends a file's name is its second, so image ``n`` is shown in ``[n, n + 1)``. Numbers
keep their own value: a folder that begins with ``sec010.png`` begins at 10 s.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path

import numpy as np

from hybrid.errors import FrameDecodeError, VideoOpenError
from hybrid.formatting import plural
from hybrid.frames.interface import Decoder, ReadReport, Sample
from hybrid.frames.packets.plan import SLACK_SECONDS, first_of_intervals
from hybrid.image_file import read_header, read_image
from hybrid.values import IMAGE_SUFFIXES, ByteArray, VideoInfo

__all__ = ["FolderSource"]

MAX_SAMPLES = 1_000_000
"""Numbers further apart than this many samples are not seconds (dates, for example)."""


class FolderSource(Decoder):
    """Samples of a folder with numbered images. See the module's text for what a number means.

    Sample ``k`` shows image ``floor(k / rate)``. A number without an image, and an image that
    cannot be read, is a missing sample; both shift nothing. Samples before the first number do not
    exist. With the policy ``keyframes`` every image counts as a key frame. Images may differ in
    size; a batch ends where the size changes. How an image is read stands in
    :mod:`hybrid.image_file`.

    Args:
        path: the folder. Files that are no images, or whose names do not end in a number, are ignored.
        sampling: rate and policy.
        threads: not used; an image is read in the caller's thread.
        batch_bytes: how large a batch may grow.

    Raises:
        VideoOpenError: no such folder, it holds no numbered image, two images have one number, or
            the numbers are too far apart to be seconds.
        InputError: threads or batch_bytes is below 1.
    """

    name = "folder"

    def _open(self) -> VideoInfo:
        self._images = numbered_images(Path(self._path))
        first, last = min(self._images), max(self._images)
        if (last - first + 1) * self.sampling.rate > MAX_SAMPLES:
            raise VideoOpenError(
                f"the images in {self._path} are numbered {first} .. {last}; numbers are seconds, and at most "
                f"{MAX_SAMPLES} samples are taken. Number them from 0, one image per second"
            )
        self._end = float(last + 1)
        width, height, codec = _first_size(self._images)
        return self._info("folder", seconds=self._end, width=width, height=height, codec=codec)

    def _samples(self, ordinals: list[int] | None) -> Generator[Sample, None, ReadReport]:
        decoded = with_several = 0
        current: int | None = None
        rgb: ByteArray | None = None
        reason: str | None = None
        for ordinal, number in self._grid(ordinals):
            if number != current:
                current, rgb, reason = number, None, None
                try:
                    if number not in self._images:
                        raise FrameDecodeError(f"there is no image with the number {number}")
                    rgb, header = read_image(self._images[number])
                    decoded += 1
                    with_several += header.several
                except FrameDecodeError as exc:
                    reason = str(exc)
            yield Sample(ordinal, float(number), number, rgb, reason)
        several = plural(with_several, "image holds", "images hold")
        note = f"{several} several pictures; the first one is taken" if with_several else None
        return ReadReport(duration_seconds=self._end, frames_decoded=decoded, note=note)

    def _grid(self, ordinals: list[int] | None) -> list[tuple[int, int]]:
        """Ordinal and image number of every sample that exists, or of the requested ones."""
        rate = self.sampling.rate
        first, last = min(self._images), max(self._images)
        if self.sampling.policy == "keyframes":
            grid = first_of_intervals(((number, number) for number in sorted(self._images)), rate)
            return [(k, grid[k]) for k in (grid if ordinals is None else ordinals) if k in grid]
        if ordinals is None:
            begin = int(np.ceil((first - SLACK_SECONDS) * rate))
            end = int(np.ceil((last + 1 - SLACK_SECONDS) * rate))
            ordinals = list(range(begin, end))
        return [(k, int(k / rate + SLACK_SECONDS)) for k in ordinals]


def numbered_images(folder: Path) -> dict[int, Path]:
    """The images of a folder by the number that ends their names.

    Raises:
        VideoOpenError: it cannot be listed, holds none, or has two images with one number.
    """
    try:
        files = sorted(entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    except OSError as exc:
        raise VideoOpenError(f"the folder {folder} cannot be read: {exc.strerror or exc}") from exc
    images: dict[int, Path] = {}
    for file in files:
        ending = re.search(r"(\d{1,12})$", file.stem)
        if file.suffix.lower() not in IMAGE_SUFFIXES or ending is None:
            continue
        number = int(ending[1])
        if number in images:
            raise VideoOpenError(
                f"{images[number].name} and {file.name} in {folder} have one number; "
                "put each video's images in a folder of its own"
            )
        images[number] = file
    if not images:
        raise VideoOpenError(
            f"the folder {folder} holds no numbered images (looked at {len(files)} files); images are named "
            "like sec000.png, sec001.png, one per second. To use the videos in a folder, name them: FOLDER/*.mp4"
        )
    return images


def _first_size(images: dict[int, Path]) -> tuple[int, int, str]:
    """Width, height and format of the first image that can be read; zeros if none can."""
    for number in sorted(images):
        try:
            header = read_header(images[number])
        except FrameDecodeError:
            continue
        return header.width, header.height, header.format
    return 0, 0, "image"
