"""The models and tokenizers of scorers, loaded through transformers, and their identity.

Exceptions of transformers become :class:`~hybrid.errors.ModelLoadError` here and nowhere else. No code from a
checkpoint is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybrid.errors import ModelLoadError, OutOfMemoryError, first_line
from hybrid.fine.checkpoint import CheckpointFiles, find_folder, read_json
from hybrid.runtime import choose_device, choose_dtype, dtype_name, ensure_torchvision, out_of_memory_as_error
from hybrid.scorers.batches import batch_size_for
from hybrid.scorers.interface import Loading

if TYPE_CHECKING:
    import torch

__all__ = ["Checkpoint", "ModelScorer", "load_errors", "open_checkpoint"]

_SMALL = ("*.json", "*.txt", "*.jinja", "*.model")
_USE = "--scores KIND:FOLDER"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ModelScorer:
    """The common part of scorers that load a model.

    Attributes:
        name: ``KIND:CHECKPOINT``, with options, as the caller wrote it.
        identity: everything that decides a score.
        model: has the attribute ``device``.
        batch_size: frames that are computed together.
    """

    name: str
    identity: Mapping[str, str]
    model: Any
    batch_size: int

    @property
    def device(self) -> str:
        """The device of its model."""
        return str(self.model.device)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The files of a checkpoint in transformers' form, and the device and precision its model is loaded with."""

    loading: Loading
    files: CheckpointFiles
    device: torch.device
    dtype: torch.dtype

    @property
    def name(self) -> str:
        """Its folder, or its name on the hub."""
        return self.files.name

    def batch_size(self, *, cpu: int, cuda: int) -> int:
        """The requested batch size; by default that of the device."""
        return batch_size_for(str(self.device), self.loading.batch_size, cpu=cpu, cuda=cuda)

    def model(self, kind: Any) -> Any:
        """A model of transformers, in evaluation mode, on its device.

        Args:
            kind: a class of transformers with ``from_pretrained``.

        Raises:
            ModelLoadError: it cannot be read, or its weights are not those of this class.
            OutOfMemoryError: it does not fit on the device.
        """
        with load_errors(self.name):
            model, report = kind.from_pretrained(
                self.files.folder, dtype=self.dtype, output_loading_info=True, local_files_only=True
            )
        foreign = [key for key in map(str, report.get("unexpected_keys") or ()) if not key.endswith(".position_ids")]
        for what, found in (
            ("missing keys", report.get("missing_keys")),
            ("mismatched keys", report.get("mismatched_keys")),
            ("unexpected keys", foreign),
        ):
            keys = sorted(map(str, found or ()))
            if keys:
                raise ModelLoadError(
                    f"{self.name} is not a checkpoint of {kind.__name__}: {len(keys)} {what}, first {keys[0]!r}; "
                    "it is incomplete or of another architecture"
                )
        with out_of_memory_as_error(f"moving {self.name} to {self.device}"):
            return model.to(self.device).eval()

    def tokenizer(self) -> Any:
        """Its tokenizer.

        Raises:
            ModelLoadError: there is none that transformers can read.
        """
        from transformers import AutoTokenizer

        with load_errors(f"the tokenizer of {self.name}"):
            return AutoTokenizer.from_pretrained(self.files.folder, local_files_only=True)

    def identity(self, kind: str, **more: str) -> Mapping[str, str]:
        """Everything that decides a score of this checkpoint."""
        import torch
        import transformers

        return {
            "scorer": kind,
            "checkpoint": self.name,
            "revision": self.files.revision,
            "weights": self.files.weights_digest(),
            "settings": self.files.settings_digest(),
            "dtype": dtype_name(self.dtype),
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
            **more,
        }


def open_checkpoint(loading: Loading) -> Checkpoint:
    """A checkpoint in transformers' form: a folder, or a name on the hub.

    Weights are safetensors, or where there are none, PyTorch's own files, of which transformers reads tensors only.

    Raises:
        InputError: the device or the dtype is not legal.
        ModelLoadError: there is no such folder or name, or it holds no weights.
    """
    device = choose_device(loading.device)
    dtype = choose_dtype(loading.dtype, device)
    folder = find_folder(loading.checkpoint, (*_SMALL, "*.safetensors"), use=_USE)
    config = read_json(folder / "config.json")
    weights = tuple(sorted(folder.glob("*.safetensors")))
    if not weights:
        folder = find_folder(loading.checkpoint, (*_SMALL, "*.bin"), use=_USE)
        weights = tuple(sorted(folder.glob("*.bin")))
    if not isinstance(config, dict) or not weights:
        raise ModelLoadError(f"{folder} holds no weights of a checkpoint (*.safetensors, *.bin); download it again")
    ensure_torchvision()
    files = CheckpointFiles(name=loading.checkpoint, folder=folder, config=config, weights=weights, parameters=0)
    return Checkpoint(loading, files, device, dtype)


@contextmanager
def load_errors(what: str) -> Iterator[None]:
    """Turn what a model library raises while it loads into a ModelLoadError.

    Raises:
        OutOfMemoryError: the memory did not suffice.
        ModelLoadError: any other error.
    """
    try:
        with out_of_memory_as_error(f"loading {what}"):
            yield
    except OutOfMemoryError:
        raise
    except Exception as exc:  # transformers and safetensors raise exceptions of many types
        raise ModelLoadError(f"{what} cannot be loaded: {first_line(exc)}; download it again") from exc
