"""What a family of fine-stage checkpoints offers; :mod:`hybrid.fine.registry` lists the families."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hybrid.fine.checkpoint import CheckpointConfig, CheckpointFiles
from hybrid.fine.prompt import PromptSpec

if TYPE_CHECKING:
    import torch

    from hybrid.fine.decoding.options import LoopOptions
    from hybrid.fine.interface import FineModel

__all__ = ["Family", "FeatureRule", "LoadOptions"]


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a checkpoint is loaded.

    Attributes:
        device: the device.
        device_name: the device as the caller named it; ``auto`` leaves more to the family.
        dtype: precision of the weights.
        prompt: the prompt; None: the one beside the checkpoint, else the family's own.
        loop: how replies are written; None: the defaults.
        loading: quantization and offloading (:func:`hybrid.fine.aria.placement.read_loading`).
    """

    device: torch.device
    device_name: str
    dtype: torch.dtype
    prompt: PromptSpec | None
    loop: LoopOptions | None
    loading: str | None


@dataclass(frozen=True, slots=True)
class FeatureRule:
    """What is known of a checkpoint's features of frames without loading it.

    Attributes:
        identity: entries of their identity besides weights and dtype.
        frame_values: how many numbers the features of a frame have; None if unknown, or if it differs by frame.
    """

    identity: Mapping[str, str]
    frame_values: int | None


class Family(Protocol):
    """Checkpoints of one architecture."""

    @property
    def name(self) -> str:
        """The ``model_type`` in config.json."""
        ...

    def load(self, files: CheckpointFiles, options: LoadOptions) -> FineModel:
        """Load a checkpoint.

        Raises:
            ModelLoadError: it is damaged, or of a kind that is not supported.
            OutOfMemoryError: its weights do not fit on the device.
            InputError: an option is not for this family.
            MissingDependencyError: a package that ``loading`` needs is not installed.
        """
        ...

    def feature_rule(self, found: CheckpointConfig, options: LoadOptions) -> FeatureRule:
        """What the small files tell of the features.

        Raises:
            CheckpointNotHereError: a file that tells is not on this machine.
            ModelLoadError: the checkpoint, or the prompt beside it, is damaged or not supported.
            InputError: an option is not for this family, or features of single frames cannot be stored.
        """
        ...
