"""Whose features of frames are stored: told from the files of a checkpoint, without loading it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hybrid.gens.checkpoint import CheckpointFiles, find_checkpoint
from hybrid.gens.load import prompt_beside
from hybrid.gens.pixels import image_identity, read_patch_rule
from hybrid.gens.prompt import GENS_QWEN, PromptSpec
from hybrid.gens.vllm.name import read_vllm_name
from hybrid.runtime import choose_device, choose_dtype, dtype_name

__all__ = ["FeatureMaker", "find_feature_maker"]


@dataclass(slots=True)
class FeatureMaker:
    """A sampler that is not loaded, as far as it shows which features are its own.

    Attributes:
        files: of its checkpoint.
        known: entries of the identity of its features, all but that of the weights.
        frame_bytes: how much the features of a frame take; None if that is not known, or differs by frame.
    """

    files: CheckpointFiles
    known: Mapping[str, str]
    frame_bytes: int | None
    _weights: str | None = field(default=None, init=False)

    def made(self, identity: Mapping[str, str]) -> bool:
        """Whether features of this identity are its own. The weights are read, once, only if all else is the same."""
        if any(identity.get(name) != value for name, value in self.known.items()):
            return False
        if self._weights is None:
            self._weights = self.files.weights_digest()
        return identity.get("weights") == self._weights


def find_feature_maker(
    name_or_folder: str | Path, *, device: str = "auto", dtype: str = "auto", prompt: PromptSpec | None = None
) -> FeatureMaker:
    """Look at the files of a sampler; the arguments are those of :func:`hybrid.gens.load.load_scorer`.

    Raises:
        ModelLoadError: the checkpoint, or the prompt beside it, is missing, damaged or not supported.
        InputError: the name, the device or the dtype is not legal.
    """
    in_vllm = read_vllm_name(name_or_folder)
    files = find_checkpoint(name_or_folder if in_vllm is None else in_vllm.checkpoint)
    precision = choose_dtype(dtype, choose_device(device))
    known = {"dtype": dtype_name(precision)}
    if files.config["model_type"] == "aria":
        return FeatureMaker(files, known, None)
    spec = prompt or prompt_beside(files) or GENS_QWEN
    rule = read_patch_rule(files.folder)
    tokens = None if spec.frame_size is None else spec.frame_size[0] * spec.frame_size[1] // rule.factor**2
    width = files.config.get("vision_config", {}).get("out_hidden_size")
    frame_bytes = tokens * width * precision.itemsize if tokens is not None and isinstance(width, int) else None
    return FeatureMaker(files, {**known, **image_identity(spec, rule)}, frame_bytes)
