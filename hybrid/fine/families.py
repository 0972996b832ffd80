"""The interface of a family of fine-stage checkpoints; :mod:`hybrid.fine.registry` lists the families."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from hybrid.errors import InputError
from hybrid.fine.checkpoint import CheckpointConfig, CheckpointFiles
from hybrid.fine.prompt import PromptSpec

if TYPE_CHECKING:
    import torch

    from hybrid.fine.decoding.options import LoopOptions
    from hybrid.fine.interface import FineModel

__all__ = ["Family", "FeatureRule", "LoadOptions", "Loading", "Quantization", "read_loading"]


Quantization = Literal["8bit", "4bit"]


@dataclass(frozen=True, slots=True)
class Loading:
    """Quantization and offloading of a large checkpoint.

    Attributes:
        quantization: of the linear layers, by bitsandbytes.
        offload: weights that do not fit on the GPUs lie in host memory, and come for every step.
        folder: with ``offload``: what does not fit there either lies in this folder.
    """

    quantization: Quantization | None = None
    offload: bool = False
    folder: Path | None = None


def read_loading(text: str | None) -> Loading:
    """``4bit,offload:FOLDER`` -> :class:`Loading`.

    Args:
        text: words with commas: ``8bit`` or ``4bit``; ``offload`` or ``offload:FOLDER``. None: nothing.

    Raises:
        InputError: another word, or the same kind twice.
    """
    quantization: Quantization | None = None
    offload, folder = False, None
    for word in (text or "").split(","):
        kind, _, value = word.strip().partition(":")
        if kind in ("8bit", "4bit") and quantization is None and not value:
            quantization = "8bit" if kind == "8bit" else "4bit"
        elif kind == "offload" and not offload:
            offload, folder = True, Path(value).expanduser() if value else None
        elif kind:
            raise InputError(
                f"loading is {text!r}; legal are words of 8bit or 4bit, offload or offload:FOLDER, by commas"
            )
    return Loading(quantization, offload, folder)


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a checkpoint is loaded.

    Attributes:
        device: the device.
        device_name: the device as given; ``auto`` leaves the choice of several devices to the family.
        dtype: precision of the weights.
        prompt: the prompt; None: the one beside the checkpoint, else the family's own.
        loop: how replies are written; None: the defaults.
        loading: quantization and offloading.
    """

    device: torch.device
    device_name: str
    dtype: torch.dtype
    prompt: PromptSpec | None
    loop: LoopOptions | None
    loading: Loading


@dataclass(frozen=True, slots=True)
class FeatureRule:
    """The features of frames that a checkpoint makes, known without loading it.

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

    def load(self, files: CheckpointFiles, options: LoadOptions) -> FineModel:
        """Load a checkpoint.

        Raises:
            ModelLoadError: it is damaged, or of a kind that is not supported.
            OutOfMemoryError: its weights do not fit on the device.
            InputError: an option is not for this family.
            MissingDependencyError: a package that ``loading`` needs is not installed.
        """

    def feature_rule(self, found: CheckpointConfig, options: LoadOptions) -> FeatureRule:
        """The features, from the small files alone.

        Raises:
            CheckpointNotHereError: a file that decides them is not on this machine.
            ModelLoadError: the checkpoint, or the prompt beside it, is damaged or not supported.
            InputError: an option is not for this family, or features of single frames cannot be stored.
        """
