"""What Qwen2.5-VL sees of frames: its preprocessing and its vision tower, without its language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hybrid.errors import InputError
from hybrid.fine.features import FrameFeatures, check_frames, content_key
from hybrid.fine.prompt import PromptSpec
from hybrid.fine.qwen.preprocess import (
    PatchRule,
    image_identity,
    pair_frames,
    patchify,
    resize_frame,
    target_size,
)
from hybrid.fine.qwen.vision_encoder import encode_patches
from hybrid.runtime import dtype_name, out_of_memory_as_error, timed
from hybrid.values import ByteArray

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["QwenFrames"]


class QwenFrames:
    """Turns frames into features, as :class:`hybrid.fine.scorer.FeatureEncoder` asks for.

    Args:
        visual: the tower: transformers' ``Qwen2_5_VisionTransformerPretrainedModel``, in evaluation mode.
        rule: the preprocessing of its checkpoint.
        spec: the prompt, which says how large frames are.
        identity: of the checkpoint; ``weights`` and ``dtype`` decide the features.
    """

    def __init__(self, visual: Any, *, rule: PatchRule, spec: PromptSpec, identity: Mapping[str, str]) -> None:
        weight: Tensor = next(visual.parameters())
        self._visual = visual
        self._rule = rule
        self._spec = spec
        self._identity = identity
        self._device, self._dtype = weight.device, weight.dtype

    @property
    def device(self) -> str:
        """Where the tower runs."""
        return str(self._device)

    @property
    def feature_identity(self) -> Mapping[str, str]:
        """Everything that decides :meth:`encode_frames`; see :class:`hybrid.fine.interface.FeatureModel`."""
        identity = {name: self._identity[name] for name in ("weights", "dtype")}
        return {**identity, **image_identity(self._spec, self._rule)}

    @property
    def feature_width(self) -> int:
        """Values per token of a feature."""
        return int(self._visual.config.out_hidden_size)

    @property
    def feature_dtype(self) -> str:
        """``float32``, ``bfloat16`` or ``float16``."""
        return dtype_name(self._dtype)

    def prepare(self, frame: ByteArray) -> ByteArray:
        """The frame in the size that the model looks at; preparing it again changes nothing.

        (With pixel limits that holds for frames of up to 16 to 1 where ``max_pixels`` is 112x112 or
        more; Qwen's rule itself overshoots the limits for narrower ones.)
        """
        size = target_size(frame.shape[1], frame.shape[0], spec=self._spec, factor=self._rule.factor)
        return resize_frame(frame, size, resample=self._rule.resample)

    def encode_frames(self, frames: Sequence[ByteArray]) -> FrameFeatures:
        """Run the vision tower; depends on the frames and the checkpoint, not on any question.

        Each image's features are independent of the other frames. In video mode a feature
        belongs to two consecutive frames.

        Args:
            frames: uint8 [H, W, 3] RGB each.

        Raises:
            InputError: no frames, or a frame of another form.
            OutOfMemoryError: the device's memory did not suffice.
        """
        check_frames(frames)
        seconds: dict[str, float] = {}
        preparing = out_of_memory_as_error(f"preparing {len(frames)} frames")
        with timed(seconds, "preprocess", self._device), preparing:
            resized = [self.prepare(frame) for frame in frames]
            batches = self._batches(resized)
        items: list[Any] = [None] * (sum(len(indices) for indices, _, _ in batches))
        grids: list[tuple[int, int]] = [(0, 0)] * len(items)
        with (
            timed(seconds, "vision", self._device),
            out_of_memory_as_error(f"the vision tower on {len(frames)} frames"),
            torch.inference_mode(),
        ):
            for indices, grid, patches in batches:
                features = encode_patches(
                    self._visual,
                    patches,
                    rows=grid[0],
                    columns=grid[1],
                    fill_batches=self._device.type != "cpu",
                )
                for index, feature in zip(indices, features, strict=True):
                    items[index], grids[index] = feature, grid
        key = content_key(items, grids, mode=self._spec.mode)
        return FrameFeatures(tuple(items), tuple(grids), len(frames), self._spec.mode, key, seconds)

    def _batches(self, frames: list[ByteArray]) -> list[tuple[list[int], tuple[int, int], Tensor]]:
        """Frames of one size together: their indices among the items, their grid, their patches."""
        rule = self._rule
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for index, frame in enumerate(frames):
            by_shape.setdefault(frame.shape, []).append(index)
        if self._spec.mode == "video" and len(by_shape) > 1:
            raise InputError(f"the frames of a video item have {len(by_shape)} sizes; all must have one")
        batches = []
        for shape, members in by_shape.items():
            stacked = np.stack([frames[index] for index in members])
            indices = members
            if self._spec.mode == "video":
                stacked = pair_frames(stacked, rule.temporal)
                indices = list(range(len(stacked)))
            grid = (shape[0] // rule.factor, shape[1] // rule.factor)
            batches.append((indices, grid, torch.from_numpy(patchify(stacked, rule))))
        return batches
