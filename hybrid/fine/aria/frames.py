"""What Aria sees of frames: its preprocessing, its vision encoder and its resampler, without its language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from hybrid.fine.aria.placement import device_names, resident_device
from hybrid.fine.aria.preprocess import image_identity, normalise, prepare_frame
from hybrid.fine.features import FrameFeatures, check_frames, content_key
from hybrid.fine.pretrained import LoadedCheckpoint
from hybrid.fine.prompt import PromptMode
from hybrid.runtime import dtype_name, out_of_memory_as_error, timed
from hybrid.values import ByteArray

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FRAMES_PER_PASS", "AriaFrames", "encode_pixels"]

FRAMES_PER_PASS = 8
"""Frames per pass of the vision encoder (1,225 patches each)."""


def encode_pixels(model: Any, pixels: Tensor, *, fill_passes: bool = False) -> Tensor:
    """Image features, without a mask of the padding.

    Args:
        model: transformers' ``AriaForConditionalGeneration``.
        pixels: [N, 3, 490, 490], N at most :data:`FRAMES_PER_PASS`, where the vision encoder is and in
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


class AriaFrames:
    """Turns frames into features, as a :class:`hybrid.fine.interface.FeatureEncoder`.

    Args:
        checkpoint: what was loaded.
        mode: of the prompt.

    Attributes:
        device, feature_identity, feature_width, feature_dtype: see :class:`hybrid.fine.interface.FeatureEncoder`.
    """

    def __init__(self, checkpoint: LoadedCheckpoint, mode: PromptMode) -> None:
        weight = checkpoint.model.model.vision_tower.embeddings.patch_embedding.weight
        self._model, self._mode = checkpoint.model, mode
        self._device: torch.device = resident_device(checkpoint.model, weight.device)
        self._dtype: torch.dtype = weight.dtype
        self.device, self.feature_dtype = device_names(checkpoint.model), dtype_name(weight.dtype)
        self.feature_width = int(checkpoint.model.config.text_config.hidden_size)
        weights = {name: checkpoint.identity[name] for name in ("weights", "dtype")}
        self.feature_identity = {**weights, **image_identity()}

    def prepare(self, frame: ByteArray) -> ByteArray:
        """The frame in the size that the model looks at, padding included; preparing it again changes nothing."""
        return prepare_frame(frame)

    def encode_frames(self, frames: Sequence[ByteArray]) -> FrameFeatures:
        """Run the vision encoder and the resampler; depends on the frames and the checkpoint, not on any question.

        Each frame's features are independent of the other frames. They are a list without positions: a grid of one
        row.

        Args:
            frames: uint8 [H, W, 3] RGB each.

        Raises:
            InputError: no frames, or a frame of another form.
            OutOfMemoryError: the device's memory does not suffice.
        """
        check_frames(frames)
        seconds: dict[str, float] = {}
        items: list[Tensor] = []
        for start in range(0, len(frames), FRAMES_PER_PASS):
            with timed(seconds, "preprocess", self._device):
                prepared = [prepare_frame(frame) for frame in frames[start : start + FRAMES_PER_PASS]]
            with (
                timed(seconds, "vision", self._device),
                out_of_memory_as_error(f"the vision encoder on {len(frames)} frames"),
                torch.inference_mode(),
            ):
                pixels = normalise(prepared, device=self._device, dtype=self._dtype)
                fill = self._device.type != "cpu"
                items += encode_pixels(self._model, pixels, fill_passes=fill).unbind(0)
        grids = ((1, len(items[0])),) * len(items)
        key = content_key(items, grids, mode=self._mode)
        return FrameFeatures(tuple(items), grids, len(frames), self._mode, key, seconds)
