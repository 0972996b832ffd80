"""Frames as a checkpoint's input: resized, cropped and normalised by its ``preprocessor_config.json``.

Pillow does the resizing, as it did when these models were published; transformers' present processors use
torchvision, which rounds differently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hybrid.errors import ModelLoadError
from hybrid.fine.checkpoint import read_json
from hybrid.values import ByteArray, Float32Array

__all__ = ["PixelRule", "read_pixel_rule"]

BILINEAR, BICUBIC = 2, 3
"""Pillow's numbers, which preprocessor files hold."""

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True)
class PixelRule:
    """From a frame to a model's input.

    Attributes:
        shorter: length that the shorter side is brought to, the longer one in proportion; None with ``exact``.
        exact: (height, width) whatever the frame's form; None with ``shorter``.
        crop: (height, width) of the middle that is cropped; None for all.
        resample: Pillow's number of the filter.
        rounded: the longer side is rounded to whole pixels; else truncated.
        mean, std: per channel, of values in 0..1.
    """

    shorter: int | None = None
    exact: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    resample: int = BICUBIC
    rounded: bool = False
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD

    def apply(self, frame: ByteArray) -> Float32Array:
        """The input of one frame: float32 [3, height, width].

        Args:
            frame: uint8 [H, W, 3] RGB.
        """
        from PIL import Image

        height, width = self._size(frame.shape[0], frame.shape[1])
        image = Image.fromarray(frame)
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling(self.resample))
        if self.crop is not None:
            top, left = (max(0, (side - inner) // 2) for side, inner in zip((height, width), self.crop, strict=True))
            # Where the picture is smaller than the crop, the rest is black.
            image = image.crop((left, top, left + self.crop[1], top + self.crop[0]))
        values = np.asarray(image, dtype=np.float32) / np.float32(255)
        values = (values - np.array(self.mean, dtype=np.float32)) / np.array(self.std, dtype=np.float32)
        planes: Float32Array = np.ascontiguousarray(values.transpose(2, 0, 1))
        return planes

    def _size(self, height: int, width: int) -> tuple[int, int]:
        if self.exact is not None:
            return self.exact
        assert self.shorter is not None  # one of the two is always given
        scale = self.shorter / min(height, width)
        if self.rounded:
            return max(1, round(height * scale)), max(1, round(width * scale))
        longer = int(self.shorter * max(height, width) / min(height, width))
        return (self.shorter, longer) if height <= width else (longer, self.shorter)


def read_pixel_rule(folder: Path, *, square: bool) -> PixelRule:
    """The rule of a checkpoint.

    Args:
        folder: of the checkpoint.
        square: what a size that is a single number means: both sides, or the shorter one.

    Raises:
        ModelLoadError: the file is missing, or has settings that are not supported.
    """
    path = folder / "preprocessor_config.json"
    config = read_json(path)
    if not isinstance(config, dict):
        raise ModelLoadError(f"{path} is no JSON object; download the checkpoint again")
    try:
        shorter, exact = _size(config.get("size", 384 if square else 224), square=square)
        crop = _crop(config) if config.get("do_center_crop", False) else None
        rule = PixelRule(
            shorter=shorter,
            exact=exact,
            crop=crop,
            resample=int(config.get("resample", BICUBIC)),
            mean=_triple(config.get("image_mean", CLIP_MEAN)),
            std=_triple(config.get("image_std", CLIP_STD)),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise ModelLoadError(f"{path} is not as transformers writes it ({exc!r}); download it again") from exc
    switched_off = [key for key in ("do_resize", "do_rescale", "do_normalize") if config.get(key, True) is False]
    if switched_off:
        raise ModelLoadError(f"{path} sets {switched_off[0]} to false, which is not supported")
    return rule


def _size(size: object, *, square: bool) -> tuple[int | None, tuple[int, int] | None]:
    if isinstance(size, int):
        return (None, (size, size)) if square else (size, None)
    if isinstance(size, Mapping) and "shortest_edge" in size:
        return int(size["shortest_edge"]), None
    if isinstance(size, Mapping):
        return None, (int(size["height"]), int(size["width"]))
    raise ValueError(f"size is {size!r}")


def _crop(config: Mapping[str, Any]) -> tuple[int, int]:
    crop = config.get("crop_size", 224)
    return (crop, crop) if isinstance(crop, int) else (int(crop["height"]), int(crop["width"]))


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
