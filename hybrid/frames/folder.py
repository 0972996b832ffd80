"""Folders of numbered images, one per second: the form in which GenS ships its example (``sec000.png``).

The number that ends a file's name is its second, so image ``n`` is shown in ``[n, n + 1)``. Numbers
keep their own value: a folder that begins with ``sec010.png`` begins at 10 s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from hybrid.errors import FrameDecodeError, VideoOpenError
from hybrid.formatting import plural
from hybrid.frames.images import BatchBuilder, Sample
from hybrid.frames.plan import SLACK_SECONDS
from hybrid.frames.source import (
    DEFAULT_BATCH_BYTES,
    FrameSource,
    ReadReport,
    check_at_least_one,
    check_ordinals,
    checked_gaps,
    video_info,
)
from hybrid.image_file import read_header, read_image
from hybrid.values import IMAGE_SUFFIXES, ByteArray, FrameBatch, MissingFrame, Sampling

__all__ = ["FolderSource"]

MAX_SAMPLES = 1_000_000
"""Numbers further apart than this many samples are not seconds (dates, for example)."""


class FolderSource(FrameSource):
    """Samples of a folder with numbered images. See the module's text for what a number means.

    Sample ``k`` shows image ``floor(k / rate)``. A number without an image, and an image that
    cannot be read, is a missing sample; both shift nothing. Samples before the first number do not
    exist. With the policy ``keyframes`` every image counts as a key frame. Images may differ in
    size; a batch ends where the size changes. How an image is read stands in
    :mod:`hybrid.image_file`.

    Args:
        path: the folder. Files that are no images, or whose names do not end in a number, are ignored.
        sampling: rate and policy.
        batch_bytes: how large a batch may grow.

    Raises:
        VideoOpenError: no such folder, it holds no numbered image, two images have one number, or
            the numbers are too far apart to be seconds.
        InputError: batch_bytes is below 1.
    """

    def __init__(self, path: str | Path, sampling: Sampling, *, batch_bytes: int = DEFAULT_BATCH_BYTES) -> None:
        check_at_least_one(batch_bytes=batch_bytes)
        self.sampling = sampling
        self._batch_bytes = batch_bytes
        self._images = numbered_images(Path(path))
        first, last = min(self._images), max(self._images)
        if (last - first + 1) * sampling.rate > MAX_SAMPLES:
            raise VideoOpenError(
                f"the images in {path} are numbered {first} .. {last}; numbers are seconds, and at most "
                f"{MAX_SAMPLES} samples are taken. Number them from 0, one image per second"
            )
        self._end = float(last + 1)
        self._several = 0
        width, height, codec = _first_size(self._images)
        self.info = video_info(path, "folder", seconds=self._end, width=width, height=height, codec=codec)

    def read(self, *, ordinals: Sequence[int] | None = None) -> Iterator[FrameBatch]:
        """See :meth:`FrameSource.read`."""
        return self._read(None if ordinals is None else check_ordinals(ordinals))

    def _read(self, ordinals: list[int] | None) -> Iterator[FrameBatch]:
        missing: list[MissingFrame] = []
        builder = BatchBuilder(self._batch_bytes)
        decoded = self._several = 0
        number: int | None = None
        rgb: ByteArray | None = None
        reason = ""
        for ordinal, wanted in self._grid(ordinals):
            if wanted != number:
                number = wanted
                rgb, reason = self._load(number)
                decoded += rgb is not None
            if rgb is None:
                missing.append(MissingFrame(ordinal, reason))
                continue
            batch = builder.add(Sample(ordinal, float(number), number, rgb))
            if batch is not None:
                yield batch
        rest = builder.take()
        if rest is not None:
            yield rest
        gaps = checked_gaps(self.info.path, missing, found=decoded)
        note = None
        if self._several:
            note = f"{plural(self._several, 'image holds', 'images hold')} several pictures; the first one is taken"
        self._report = ReadReport(duration_seconds=self._end, frames_decoded=decoded, missing=gaps, note=note)

    def _grid(self, ordinals: list[int] | None) -> list[tuple[int, int]]:
        """Ordinal and number of every sample that exists, or of those that are asked for."""
        rate = self.sampling.rate
        first, last = min(self._images), max(self._images)
        if self.sampling.policy == "keyframes":
            sooner: dict[int, int] = {}
            for number in sorted(self._images):
                sooner.setdefault(int((number + SLACK_SECONDS) * rate), number)
            # An interval without an image has no sample; -1 is the number of no image.
            return sorted(sooner.items()) if ordinals is None else [(k, sooner.get(k, -1)) for k in ordinals]
        if ordinals is None:
            begin = int(np.ceil((first - SLACK_SECONDS) * rate))
            end = int(np.ceil((last + 1 - SLACK_SECONDS) * rate))
            ordinals = list(range(begin, end))
        return [(k, int(k / rate + SLACK_SECONDS)) for k in ordinals]

    def _load(self, number: int) -> tuple[ByteArray | None, str]:
        if number not in self._images:
            what = "with a number in its interval" if number < 0 else f"with the number {number}"
            return None, f"there is no image {what}"
        try:
            rgb, header = read_image(self._images[number])
            self._several += header.several
            return rgb, ""
        except FrameDecodeError as exc:
            return None, str(exc)


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
