"""The vision tower and resampler of Aria over prepared frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FRAMES_PER_PASS", "encode_pixels"]

FRAMES_PER_PASS = 8
"""Frames per pass of the vision tower (1,225 patches each)."""


def encode_pixels(model: Any, pixels: Tensor, *, fill_passes: bool = False) -> Tensor:
    """Image features, without a mask of the padding.

    Args:
        model: transformers' ``AriaForConditionalGeneration``.
        pixels: [N, 3, 490, 490], N at most :data:`FRAMES_PER_PASS`, where the vision tower is and in
            its dtype.
        fill_passes: bring every pass to the same number of frames, so that rounding on a GPU, which
            may depend on it, is the same whichever frames come together.

    Returns:
        [N, queries, hidden].
    """
    count = len(pixels)
    if fill_passes and count < FRAMES_PER_PASS:
        pixels = torch.cat([pixels, pixels.new_zeros(FRAMES_PER_PASS - count, *pixels.shape[1:])])
    output = model.model.get_image_features(pixel_values=pixels, vision_feature_layer=-1, return_dict=True)
    features: Tensor = output.pooler_output[:count]
    return features
