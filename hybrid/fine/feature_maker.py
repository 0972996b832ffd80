"""Whose features of frames are stored: told from the files of a checkpoint, without loading or downloading it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid.errors import InputError
from hybrid.fine.aria.placement import read_loading
from hybrid.fine.checkpoint import CheckpointConfig, find_checkpoint, find_config, is_hub_name, not_here
from hybrid.fine.interface import WHY_VIDEO_IS_NOT_KEPT
from hybrid.fine.load import check_frame_size, check_loading, prompt_beside
from hybrid.fine.prompt import GENS_QWEN, PromptSpec
from hybrid.fine.qwen.preprocess import PIXELS_FILE, PROCESSOR_FILE, image_identity, read_patch_rule
from hybrid.runtime import choose_device, choose_dtype, dtype_name

if TYPE_CHECKING:
    from hybrid.fine.known_weights import KnownWeights

__all__ = ["FeatureMaker", "find_feature_maker"]


@dataclass(slots=True)
class FeatureMaker:
    """A sampler that is not loaded, as far as it shows which features are its own.

    Attributes:
        checkpoint: its folder, or its name on the hub.
        known: entries of the identity of its features, all but that of the weights.
        frame_bytes: how much the features of a frame take; None if that is not known, or differs by frame.
    """

    checkpoint: str | Path
    known: Mapping[str, str]
    frame_bytes: int | None
    _weights: str | None = field(default=None, init=False)

    def made(self, identity: Mapping[str, str], weights: KnownWeights | None = None) -> bool:
        """Whether features of this identity are its own.

        Only if all else is the same the weights are compared: their digest is the one that is remembered in
        ``weights``, or every byte of them is read, once.

        Raises:
            CheckpointNotHereError: the weights have to be compared, and are not on this machine.
            ModelLoadError: the files of the weights are damaged.
        """
        others = {name: value for name, value in identity.items() if name != "weights"}
        if others != self.known:
            return False
        if self._weights is None:
            files = find_checkpoint(self.checkpoint, download=False)
            self._weights = files.weights_digest() if weights is None else weights.digest(files)
        return identity.get("weights") == self._weights


def find_feature_maker(
    name_or_folder: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    prompt: PromptSpec | None = None,
    loading: str | None = None,
) -> FeatureMaker:
    """Look at the small files of a sampler; the arguments are those of :func:`hybrid.fine.load.load_scorer`.

    The hub is never asked: of a name on it, what its cache holds is looked at.

    Raises:
        CheckpointNotHereError: it is a name on the hub whose files are not on this machine.
        ModelLoadError: the checkpoint, or the prompt beside it, is missing, damaged or not supported.
        InputError: the name, the device, the dtype or the loading is not legal, or no features of single frames
            can be made with the prompt.
    """
    precision = choose_dtype(dtype, choose_device(device))
    read_loading(loading)
    found = find_config(name_or_folder, download=False)
    known = {"dtype": dtype_name(precision)}
    if found.config["model_type"] == "aria":
        return FeatureMaker(name_or_folder, {**known, **_aria_identity(found, prompt)}, None)
    check_loading(loading, f"{found.name} is none")
    has_rule = any((found.folder / name).is_file() for name in (PIXELS_FILE, PROCESSOR_FILE))
    if is_hub_name(name_or_folder) and not has_rule:
        raise not_here(found.name)
    spec = _qwen_prompt(found, prompt)
    rule = read_patch_rule(found.folder)
    check_frame_size(spec, rule, found)
    tokens = None if spec.frame_size is None else spec.frame_size[0] * spec.frame_size[1] // rule.factor**2
    width = _vision_width(found)
    frame_bytes = None if tokens is None or width is None else tokens * width * precision.itemsize
    return FeatureMaker(name_or_folder, {**known, **image_identity(spec, rule)}, frame_bytes)


def _aria_identity(found: CheckpointConfig, prompt: PromptSpec | None) -> dict[str, str]:
    from hybrid.fine.aria.load import check_prompt
    from hybrid.fine.aria.preprocess import image_identity as aria_identity

    spec = prompt or prompt_beside(found)
    if spec is not None:  # else that of the tokenizer, which fits
        check_prompt(found, spec)
    return aria_identity()


def _qwen_prompt(found: CheckpointConfig, prompt: PromptSpec | None) -> PromptSpec:
    """The prompt that would be used, after a check that features of single frames can be made with it."""
    spec = prompt or prompt_beside(found) or GENS_QWEN
    if spec.mode != "image":
        raise InputError(f"features cannot be stored: {WHY_VIDEO_IS_NOT_KEPT}")
    return spec


def _vision_width(found: CheckpointConfig) -> int | None:
    """How many values a token of a frame has; None if config.json does not say."""
    vision = found.config.get("vision_config")
    width = vision.get("out_hidden_size") if isinstance(vision, dict) else None
    return width if isinstance(width, int) else None
