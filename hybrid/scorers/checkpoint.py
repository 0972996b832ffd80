"""Load a scorer's model and tokenizer through transformers, and say exactly which ones they are.

This is the one place where the exceptions of transformers become :class:`~hybrid.errors.ModelLoadError`. No code
from a checkpoint is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid.errors import HybridError, ModelError, ModelLoadError, OutOfMemoryError, first_line
from hybrid.fine.checkpoint import CheckpointFiles, find_folder, read_json
from hybrid.runtime import choose_device, choose_dtype, dtype_name, ensure_torchvision, out_of_memory_as_error
from hybrid.scorers.interface import Loading

if TYPE_CHECKING:
    import torch

__all__ = ["Place", "file_of", "identity_of", "load_model", "load_tokenizer", "model_errors", "open_checkpoint"]

_SMALL = ("*.json", "*.txt", "*.jinja", "*.model")
_USE = "--scores KIND:FOLDER"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model runs and in which precision."""

    device: torch.device
    dtype: torch.dtype

    @classmethod
    def of(cls, loading: Loading) -> Place:
        """What the caller asked for.

        Raises:
            InputError: the device or the dtype is not legal.
        """
        device = choose_device(loading.device)
        return cls(device, choose_dtype(loading.dtype, device))


def open_checkpoint(name: str) -> CheckpointFiles:
    """The files of a checkpoint in transformers' form; from the hub if it is no folder.

    Weights are safetensors, or where there are none, PyTorch's own files, of which transformers reads tensors only.

    Raises:
        ModelLoadError: there is no such folder or name, or there are no weights in it.
    """
    folder = find_folder(name, (*_SMALL, "*.safetensors"), use=_USE)
    config = read_json(folder / "config.json")
    weights = tuple(sorted(folder.glob("*.safetensors")))
    if not weights:
        folder = find_folder(name, (*_SMALL, "*.bin"), use=_USE)
        weights = tuple(sorted(folder.glob("*.bin")))
    if not isinstance(config, dict) or not weights:
        raise ModelLoadError(f"{folder} holds no weights of a checkpoint (*.safetensors, *.bin); download it again")
    return CheckpointFiles(name=name, folder=folder, config=config, weights=weights, parameters=0)


def load_model(files: CheckpointFiles, kind: Any, place: Place) -> Any:
    """A model of transformers, in evaluation mode, on its device.

    Args:
        files: of the checkpoint.
        kind: a class of transformers with ``from_pretrained``.
        place: where to.

    Raises:
        ModelLoadError: it cannot be read, or weights of the model are missing in it.
        OutOfMemoryError: it does not fit on the device.
    """
    try:
        with out_of_memory_as_error(f"loading {files.name}"):
            model, report = kind.from_pretrained(
                files.folder, dtype=place.dtype, output_loading_info=True, local_files_only=True
            )
    except OutOfMemoryError:
        raise
    except Exception as exc:  # transformers and safetensors raise what they like; one seam for all
        raise ModelLoadError(f"{files.name} cannot be loaded: {first_line(exc)}; download it again") from exc
    foreign = [key for key in map(str, report.get("unexpected_keys") or ()) if not key.endswith(".position_ids")]
    for what, found in (
        ("missing keys", report.get("missing_keys")),
        ("mismatched keys", report.get("mismatched_keys")),
        ("unexpected keys", foreign),
    ):
        keys = sorted(map(str, found or ()))
        if keys:
            raise ModelLoadError(
                f"{files.name} is not a checkpoint of {kind.__name__}: {len(keys)} {what}, first {keys[0]!r}; "
                "it is incomplete or of another architecture"
            )
    with out_of_memory_as_error(f"moving {files.name} to {place.device}"):
        return model.to(place.device).eval()


def load_tokenizer(files: CheckpointFiles) -> Any:
    """The tokenizer of a checkpoint.

    Raises:
        ModelLoadError: there is none that transformers can read.
    """
    ensure_torchvision()
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(files.folder, local_files_only=True)
    except Exception as exc:  # see load_model
        raise ModelLoadError(f"the tokenizer of {files.name} cannot be loaded: {first_line(exc)}") from exc


def identity_of(files: CheckpointFiles, kind: str, place: Place, **more: str) -> Mapping[str, str]:
    """Everything that decides a score of this checkpoint."""
    import torch
    import transformers

    return {
        "scorer": kind,
        "checkpoint": files.name,
        "revision": files.revision,
        "weights": files.weights_digest(),
        "settings": files.settings_digest(),
        "dtype": dtype_name(place.dtype),
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
        **more,
    }


@contextmanager
def model_errors(what: str) -> Iterator[None]:
    """Turn what a model library raises while it computes into a ModelError that says what was done.

    Raises:
        OutOfMemoryError: the device's memory did not suffice.
        ModelError: any other error of the library.
    """
    try:
        with out_of_memory_as_error(what):
            yield
    except HybridError:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as exc:
        raise ModelError(f"{what} failed: {first_line(exc)}") from exc


def file_of(name: str) -> Path:
    """A single file of weights.

    Raises:
        ModelLoadError: there is no such file.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        raise ModelLoadError(f"there is no file {name}; give the path of the downloaded weights")
    return path
