"""From decoded frames to the patches that Qwen2-VL's vision encoder reads.

The result is that of transformers' ``Qwen2VLImageProcessorPil``, for a whole batch at once and without torchvision.
Resizing stays with Pillow (bicubic), because another library's bicubic gives other pixels than the model was trained
on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hybrid.errors import InputError, ModelLoadError, first_line
from hybrid.fine.checkpoint import read_json
from hybrid.fine.prompt import PromptSpec
from hybrid.values import ByteArray, Float32Array

__all__ = [
    "PIXELS_FILE",
    "PROCESSOR_FILE",
    "PatchRule",
    "image_identity",
    "level_table",
    "pair_frames",
    "patchify",
    "read_patch_rule",
    "resize_frame",
    "smart_size",
    "target_size",
]

PIXELS_FILE = "preprocessor_config.json"
PROCESSOR_FILE = "processor_config.json"
MAX_ASPECT_RATIO = 200
BICUBIC = int(Image.Resampling.BICUBIC)


@dataclass(frozen=True, slots=True)
class PatchRule:
    """How a checkpoint turns pixels into patches; the values of its ``preprocessor_config.json``.

    Attributes:
        mean, std: per channel, for values scaled by ``rescale``.
        patch: side of a patch in pixels.
        merge: side of a merged token in patches.
        temporal: frames per patch; an image is repeated to fill it.
        rescale: factor from bytes to the scale of mean and std.
        resample: Pillow's number of the resampling filter (3 = bicubic).
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    patch: int = 14
    merge: int = 2
    temporal: int = 2
    rescale: float = 1 / 255
    resample: int = BICUBIC

    @property
    def factor(self) -> int:
        """Side of a merged token in pixels; width and height of a frame must be multiples of it."""
        return self.patch * self.merge


def image_identity(spec: PromptSpec, rule: PatchRule) -> dict[str, str]:
    """What decides the features of a frame besides the weights and their precision, for Qwen2.5-VL."""
    return {
        "mode": spec.mode,
        "frame_size": "x".join(map(str, spec.frame_size)) if spec.frame_size else "",
        "pixel_limits": "x".join(map(str, spec.pixel_limits)),
        "rule": repr(rule),
    }


def read_patch_rule(folder: str | Path) -> PatchRule:
    """Read the preprocessing of a checkpoint.

    Raises:
        ModelLoadError: the file is missing, is not JSON, or asks for what is not supported.
    """
    path = Path(folder) / PIXELS_FILE
    nested = Path(folder) / PROCESSOR_FILE
    try:
        if not path.exists() and nested.exists():
            # The form in which transformers 5 saves a whole processor.
            path = nested
            return _patch_rule(read_json(path)["image_processor"])
        return _patch_rule(read_json(path))
    except (ValueError, TypeError, KeyError) as exc:
        raise ModelLoadError(f"{path} is not a Qwen2-VL preprocessing: {first_line(exc)}") from exc


def _patch_rule(document: Mapping[str, Any]) -> PatchRule:
    if not isinstance(document, dict):
        raise TypeError(f"a JSON {type(document).__name__}, not an object")
    for step in ("do_rescale", "do_normalize"):
        if document.get(step, True) is not True:
            raise ValueError(f"{step} is {document[step]!r}; only true is supported")
    mean, std = (tuple(float(value) for value in document[key]) for key in ("image_mean", "image_std"))
    if len(mean) != 3 or len(std) != 3 or not all(value > 0 for value in std):
        raise ValueError(f"image_mean is {mean} and image_std is {std}; three values each, std above 0")
    sides = {name: int(document[key]) for name, key in _SIDES.items()}
    if not 1 <= min(sides.values()) <= max(sides.values()) <= _LARGEST_PATCH:
        raise ValueError(f"{sides} must all be at least 1 and at most {_LARGEST_PATCH}")
    resample = int(document.get("resample", BICUBIC))
    if not 0 <= resample <= _LAST_FILTER:
        raise ValueError(f"resample is {resample}; Pillow's filters are 0 to {_LAST_FILTER}")
    return PatchRule(
        mean=mean, std=std, **sides, rescale=float(document.get("rescale_factor", 1 / 255)), resample=resample
    )


_LARGEST_PATCH = 1024
_LAST_FILTER = 5
_SIDES = {"patch": "patch_size", "merge": "merge_size", "temporal": "temporal_patch_size"}


def smart_size(width: int, height: int, *, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Qwen2-VL's choice of a size: multiples of ``factor``, same aspect, area within the limits.

    Returns:
        (width, height) in pixels.

    Raises:
        InputError: one side is more than 200 times the other.
    """
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise InputError(f"a frame is {width}x{height}; one side may be at most {MAX_ASPECT_RATIO} times the other")
    # Python's round, halves to even, as in the original rule.
    sides = [round(side / factor) * factor for side in (width, height)]
    if sides[0] * sides[1] > max_pixels:
        shrink = math.sqrt(width * height / max_pixels)
        sides = [max(factor, math.floor(side / shrink / factor) * factor) for side in (width, height)]
    elif sides[0] * sides[1] < min_pixels:
        grow = math.sqrt(min_pixels / (width * height))
        sides = [math.ceil(side * grow / factor) * factor for side in (width, height)]
    return sides[0], sides[1]


def target_size(width: int, height: int, *, spec: PromptSpec, factor: int) -> tuple[int, int]:
    """(width, height) that a frame of the given size is resized to under a prompt."""
    if spec.frame_size is not None:
        return spec.frame_size
    least, most = spec.pixel_limits
    return smart_size(width, height, factor=factor, min_pixels=least, max_pixels=most)


def resize_frame(frame: ByteArray, size: tuple[int, int], *, resample: int = BICUBIC) -> ByteArray:
    """Stretch one frame, uint8 [H, W, 3], to ``size`` = (width, height); the frame itself if it fits."""
    if (frame.shape[1], frame.shape[0]) == size:
        return frame
    image = Image.fromarray(np.ascontiguousarray(frame)).resize(size, resample=Image.Resampling(resample))
    return np.asarray(image)


def level_table(rule: PatchRule) -> Float32Array:
    """What each byte becomes, float32 [3, 256]: scaled, less the mean, over the deviation.

    Rounds where transformers rounds: the scaling to float32, then the subtraction and the division.
    """
    levels = (np.arange(256, dtype=np.float64) * rule.rescale).astype(np.float32)
    mean, std = (np.array(values, dtype=np.float32)[:, None] for values in (rule.mean, rule.std))
    return (levels - mean) / std


def pair_frames(frames: ByteArray, temporal: int) -> ByteArray:
    """The temporal groups of a video item: uint8 [N, H, W, 3] -> [ceil(N / temporal), temporal, H, W, 3].

    The last frame is repeated until the last group is full, as transformers does.
    """
    missing = -len(frames) % temporal
    filled = np.concatenate([frames, np.repeat(frames[-1:], missing, axis=0)])
    return filled.reshape(-1, temporal, *frames.shape[1:])


def patchify(frames: ByteArray, rule: PatchRule) -> Float32Array:
    """The patches of images, or of the groups of a video.

    Args:
        frames: uint8 [N, H, W, 3] images, or uint8 [N, temporal, H, W, 3] groups. H and W are
            multiples of ``rule.factor``.
        rule: the checkpoint's preprocessing.

    Returns:
        float32 [N, S, 3 * temporal * patch^2], S = (H / patch) * (W / patch); patches of one
        merged token stand together, merged tokens in order of rows.
    """
    grouped = frames if frames.ndim == 5 else frames[:, None]
    count, steps, height, width, _ = grouped.shape
    if height % rule.factor or width % rule.factor:
        raise InputError(f"a frame is {width}x{height}; both sides must be multiples of {rule.factor}")
    rows, columns = height // rule.factor, width // rule.factor
    split = grouped.reshape(count, steps, rows, rule.merge, rule.patch, columns, rule.merge, rule.patch, 3)
    # -> item, merged row, merged column, patch row, patch column, channel, time, y, x
    levels = np.ascontiguousarray(split.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7))
    levels = levels.reshape(count, rows * columns * rule.merge**2, 3, steps, -1)
    patches = np.empty((*levels.shape[:3], rule.temporal, levels.shape[-1]), dtype=np.float32)
    for channel, values in enumerate(level_table(rule)):
        # An image fills all moments of its patches with itself.
        patches[:, :, channel] = values[levels[:, :, channel]]
    return patches.reshape(*levels.shape[:2], -1)
