"""Which stored features a checkpoint made: read from its files, without loading or downloading it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid.fine.checkpoint import find_checkpoint, find_config
from hybrid.fine.families import Family
from hybrid.fine.load import load_options
from hybrid.fine.prompt import PromptSpec
from hybrid.fine.registry import FAMILIES
from hybrid.runtime import dtype_name

if TYPE_CHECKING:
    from hybrid.fine.known_weights import KnownWeights

__all__ = ["FeatureMaker", "find_feature_maker"]


@dataclass(slots=True)
class FeatureMaker:
    """A fine-stage model that is not loaded, with what identifies its features.

    Attributes:
        checkpoint: its folder, or its name on the hub.
        known: entries of the identity of its features, all but that of the weights.
        frame_bytes: bytes of a frame's features; None if unknown, or if it differs by frame.
    """

    checkpoint: str | Path
    known: Mapping[str, str]
    frame_bytes: int | None
    _weights: str | None = field(default=None, init=False)

    def made(self, identity: Mapping[str, str], weights: KnownWeights | None = None) -> bool:
        """Whether features of this identity are its own.

        The weights are compared last, only if all else is equal. Their digest comes from ``weights``; without it, every
        byte is read, once.

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
    """Read the small files of a fine-stage model; the arguments are those of :func:`hybrid.fine.load.load_scorer`.

    The hub is never contacted: for a hub name, only the local cache is read.

    Raises:
        CheckpointNotHereError: it is a name on the hub whose files are not on this machine.
        ModelLoadError: the checkpoint, or the prompt beside it, is missing, damaged or not supported.
        InputError: the name, the device, the dtype or the loading is not legal, or no features of single frames
            can be made with the prompt.
    """
    options = load_options(device=device, dtype=dtype, prompt=prompt, loading=loading)
    found = find_config(name_or_folder, download=False)
    family: Family = FAMILIES.find(found.config["model_type"])
    rule = family.feature_rule(found, options)
    frame_bytes = None if rule.frame_values is None else rule.frame_values * options.dtype.itemsize
    return FeatureMaker(name_or_folder, {"dtype": dtype_name(options.dtype), **rule.identity}, frame_bytes)
