"""The vision encoder of Qwen2.5-VL over frames of one size: one attention call per layer.

transformers' own forward calls attention once per frame and layer. All frames of a batch have the
same grid here, so a batch is a regular array and attention runs over all of them at once; where
the grid is larger than one attention window (arXiv 2502.13923, section 2.1.1), windows of equal
length are gathered. Weights and the small modules are those of transformers; in float32 the features
are those of ``get_image_features`` and ``get_video_features`` to 1e-5, else within rounding.

A frame's features do not depend on the other frames of its batch, except for rounding, which may
depend on the size of a batch on a GPU. There, batches are therefore filled up to one fixed size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from hybrid.errors import InputError
from hybrid.fine.features import FrameFeatures, check_frames, content_key
from hybrid.fine.prompt import PromptSpec
from hybrid.fine.qwen.preprocess import PatchRule, image_identity, pair_frames, patchify, resize_frame, target_size
from hybrid.runtime import dtype_name, out_of_memory_as_error, timed
from hybrid.values import ByteArray

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["VISION_BATCH", "QwenFrames", "WindowPlan", "encode_patches", "frames_per_batch", "plan_windows"]

VISION_BATCH = 64
"""Frames per pass of the vision encoder, for frames of up to 64 patches (112x112 pixels)."""
PATCHES_PER_BATCH = 64 * VISION_BATCH


def frames_per_batch(patches: int) -> int:
    """Frames per pass for frames of so many patches: fixed for a grid, so that rounding is too."""
    return max(1, min(VISION_BATCH, PATCHES_PER_BATCH // patches))


@dataclass(frozen=True, slots=True, eq=False)
class WindowPlan:
    """How the patches of one frame fall into attention windows.

    Attributes:
        order: int64 [S]: the patches, grouped by window.
        unit_restore: int64 [U]: where each merged token, in order of rows, lies after the merger.
        groups: per length of window, int64 [windows, length] positions in the order above.
        single: whether one window holds the whole frame, so that nothing has to be moved.
    """

    order: Tensor
    unit_restore: Tensor
    groups: tuple[Tensor, ...]
    single: bool


def plan_windows(rows: int, columns: int, *, merge: int, window: int, device: torch.device) -> WindowPlan:
    """Lay out the windows of one frame.

    Args:
        rows: height of the frame in merged tokens.
        columns: width of the frame in merged tokens.
        merge: patches per side of a merged token.
        window: side of an attention window in merged tokens.
        device: where the plan is used.
    """
    units = torch.arange(rows * columns).reshape(rows, columns)
    windows = [
        units[top : top + window, left : left + window].reshape(-1)
        for top in range(0, rows, window)
        for left in range(0, columns, window)
    ]
    unit_order = torch.cat(windows)
    per_unit = merge * merge
    order = (unit_order[:, None] * per_unit + torch.arange(per_unit)).reshape(-1)
    lengths = [len(units_of_window) * per_unit for units_of_window in windows]
    starts = torch.tensor([0, *lengths[:-1]]).cumsum(0)
    groups = tuple(
        torch.stack([start + torch.arange(length) for start, n in zip(starts, lengths, strict=True) if n == length])
        for length in sorted(set(lengths))
    )
    return WindowPlan(
        order=order.to(device),
        unit_restore=torch.argsort(unit_order).to(device),
        groups=tuple(group.to(device) for group in groups),
        single=len(windows) == 1,
    )


def encode_patches(visual: Any, patches: Tensor, *, rows: int, columns: int, fill_batches: bool) -> Tensor:
    """Features of frames (or of pairs of frames, in video mode) that all have one grid.

    Args:
        visual: the vision encoder of a transformers Qwen2.5-VL model.
        patches: float32 [N, S, patch values], as :func:`hybrid.fine.qwen.preprocess.patchify` makes them.
        rows: height of the grid in merged tokens; S = rows * columns * merge^2.
        columns: width of the grid in merged tokens.
        fill_batches: give every batch the same size, so that rounding does not depend on N.

    Returns:
        [N, rows * columns, features] in the model's dtype.
    """
    weight = visual.patch_embed.proj.weight
    plan = plan_windows(
        rows,
        columns,
        merge=visual.spatial_merge_size,
        window=visual.window_size // visual.spatial_merge_size // visual.patch_size,
        device=weight.device,
    )
    rotation = _rotation(visual, rows, columns, plan, weight)
    features = []
    size = frames_per_batch(patches.shape[1])
    for start in range(0, len(patches), size):
        batch = patches[start : start + size]
        count = len(batch)
        if fill_batches and count < size:
            batch = torch.cat([batch, batch[-1:].expand(size - count, -1, -1)])
        moved = batch.to(device=weight.device, dtype=weight.dtype)
        features.append(_encode_batch(visual, moved, plan, rotation)[:count])
    return torch.cat(features)


def _rotation(visual: Any, rows: int, columns: int, plan: WindowPlan, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the 2-D rotary embedding, float32 [S, 1, head_dim], in window order."""
    merge = visual.spatial_merge_size
    row, column = torch.meshgrid(torch.arange(rows * merge), torch.arange(columns * merge), indexing="ij")
    # Patches come merged token by merged token, not line by line.
    coordinates = torch.stack([row, column], dim=-1).reshape(rows, merge, columns, merge, 2)
    coordinates = coordinates.permute(0, 2, 1, 3, 4).reshape(-1, 2).to(like.device)
    cosine, sine = visual.rotary_pos_emb(like, coordinates)
    return cosine[plan.order].float().unsqueeze(1), sine[plan.order].float().unsqueeze(1)


def _encode_batch(visual: Any, patches: Tensor, plan: WindowPlan, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """[N, S, patch values] -> [N, U, features]."""
    count, length, _ = patches.shape
    # The embedding is a 3-D convolution whose stride is its kernel: a product with a matrix, which
    # every device does faster.
    weight = visual.patch_embed.proj.weight
    hidden = functional.linear(patches, weight.reshape(len(weight), -1))
    if not plan.single:
        hidden = hidden[:, plan.order]
    for layer, block in enumerate(visual.blocks):
        whole = plan.single or layer in visual.fullatt_block_indexes
        groups = () if whole else plan.groups
        hidden = hidden + _attend(block.attn, block.norm1(hidden), groups, rotation)
        hidden = hidden + block.mlp(block.norm2(hidden))
    merged: Tensor = visual.merger(hidden.reshape(count * length, -1)).reshape(count, len(plan.unit_restore), -1)
    return merged if plan.single else merged[:, plan.unit_restore]


def _attend(attention: Any, hidden: Tensor, groups: tuple[Tensor, ...], rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Self-attention within each frame, or within each window where ``groups`` are given."""
    count, length, width = hidden.shape
    query, key, value = attention.qkv(hidden).reshape(count, length, 3, attention.num_heads, -1).unbind(2)
    query, key = _rotate(query, rotation), _rotate(key, rotation)
    if not groups:
        mixed = _attention(query, key, value, attention.scaling)
    else:
        mixed = torch.empty_like(query)
        for window in groups:
            parts = [part[:, window].flatten(0, 1) for part in (query, key, value)]
            windows = _attention(parts[0], parts[1], parts[2], attention.scaling)
            mixed[:, window] = windows.reshape(count, *window.shape, *query.shape[2:])
    result: Tensor = attention.proj(mixed.reshape(count, length, width))
    return result


def _attention(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    """[N, S, heads, head_dim] each -> the same shape."""
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    return functional.scaled_dot_product_attention(query, key, value, scale=scaling).transpose(1, 2)


def _rotate(states: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary embedding in float32, as transformers does it."""
    cosine, sine = rotation
    full = states.float()
    left, right = full.chunk(2, dim=-1)
    return (full * cosine + torch.cat([-right, left], dim=-1) * sine).to(states.dtype)


class QwenFrames:
    """Encodes frames: a :class:`hybrid.fine.interface.FeatureEncoder`.

    Args:
        visual: the vision encoder: transformers' ``Qwen2_5_VisionTransformerPretrainedModel``, in evaluation mode.
        rule: the preprocessing of its checkpoint.
        spec: the prompt, which sets the size of frames.
        identity: of the checkpoint; ``weights`` and ``dtype`` decide the features.

    Attributes:
        device, feature_identity, feature_width, feature_dtype: see :class:`hybrid.fine.interface.FeatureEncoder`.
    """

    def __init__(self, visual: Any, *, rule: PatchRule, spec: PromptSpec, identity: Mapping[str, str]) -> None:
        weight: Tensor = next(visual.parameters())
        self._visual, self._rule, self._spec, self._device = visual, rule, spec, weight.device
        self.device, self.feature_dtype = str(weight.device), dtype_name(weight.dtype)
        self.feature_width = int(visual.config.out_hidden_size)
        weights = {name: identity[name] for name in ("weights", "dtype")}
        self.feature_identity = {**weights, **image_identity(spec, rule)}

    def prepare(self, frame: ByteArray) -> ByteArray:
        """The frame in the size that the model reads; preparing it again changes nothing.

        (With pixel limits that holds for frames of up to 16 to 1 where ``max_pixels`` is 112x112 or
        more; Qwen's rule itself overshoots the limits for narrower ones.)
        """
        size = target_size(frame.shape[1], frame.shape[0], spec=self._spec, factor=self._rule.factor)
        return resize_frame(frame, size, resample=self._rule.resample)

    def encode_frames(self, frames: Sequence[ByteArray]) -> FrameFeatures:
        """Run the vision encoder; depends on the frames and the checkpoint, not on any question.

        Each image's features are independent of the other frames. In video mode a feature
        belongs to two consecutive frames.

        Args:
            frames: uint8 [H, W, 3] RGB each.

        Raises:
            InputError: there are no frames, or a frame is not uint8 [H, W, 3].
            OutOfMemoryError: the device has too little memory.
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
            out_of_memory_as_error(f"the vision encoder on {len(frames)} frames"),
            torch.inference_mode(),
        ):
            for indices, grid, patches in batches:
                features = encode_patches(
                    self._visual, patches, rows=grid[0], columns=grid[1], fill_batches=self._device.type != "cpu"
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
