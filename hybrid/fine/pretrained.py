"""Loading that all families of checkpoints share: prompt, tokenizer, generation settings, identity.

Here and in the families' own ``load`` modules the exceptions of transformers and safetensors become
:class:`~hybrid.errors.ModelLoadError`. No code from a checkpoint is ever run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybrid.errors import InputError, ModelLoadError, OutOfMemoryError, first_line
from hybrid.fine.checkpoint import CheckpointConfig, CheckpointFiles
from hybrid.fine.prompt import PromptSpec, read_prompt
from hybrid.fine.tokens import PromptTokens
from hybrid.runtime import dtype_name, free_host_bytes, out_of_memory_as_error

if TYPE_CHECKING:
    import torch

__all__ = [
    "LoadedCheckpoint",
    "check_memory",
    "check_parameters",
    "generation_settings",
    "identity_of",
    "load_errors",
    "load_tokenizer",
    "prompt_beside",
]

_NEUTRAL: Mapping[object, str] = {
    0: "min_length min_new_tokens no_repeat_ngram_size encoder_no_repeat_ngram_size",
    1: "num_beams encoder_repetition_penalty guidance_scale",
    None: "bad_words_ids suppress_tokens begin_suppress_tokens forced_bos_token_id forced_eos_token_id "
    "exponential_decay_length_penalty sequence_bias penalty_alpha stop_strings watermarking_config",
}
"""Generation settings that change greedy decoding and are not implemented here, by the value that switches them off.

A checkpoint that sets one would silently give other replies.
"""


@dataclass(frozen=True, slots=True, eq=False)
class LoadedCheckpoint:
    """A loaded checkpoint and all that decides its replies; made by :func:`hybrid.fine.load.load_scorer`.

    Attributes:
        name: as the caller named it: a hub name or a folder.
        model: the model of transformers, in evaluation mode.
        tokenizer: its fast tokenizer.
        tokens: makes token ids of the prompt.
        end_ids: tokens that end a reply.
        repetition_penalty: of its generation settings; 1.0 for none.
        identity: see :class:`hybrid.fine.interface.FineModel`.
    """

    name: str
    model: Any
    tokenizer: Any
    tokens: PromptTokens
    end_ids: frozenset[int]
    repetition_penalty: float
    identity: Mapping[str, str]


@contextmanager
def load_errors(what: str, *, remedy: str = "") -> Iterator[None]:
    """Turn the exceptions of transformers and safetensors, which are of any type, into those of this package.

    Raises:
        ModelLoadError: ``what`` cannot be loaded.
        OutOfMemoryError: the memory does not suffice for it.
    """
    try:
        with out_of_memory_as_error(f"loading {what}"):
            yield
    except (ModelLoadError, OutOfMemoryError):
        raise
    except Exception as exc:
        raise ModelLoadError(f"{what} cannot be loaded: {first_line(exc)}{remedy}") from exc


def prompt_beside(files: CheckpointConfig) -> PromptSpec | None:
    """The checkpoint's own prompt; one that cannot be read is a fault of the checkpoint, not of the caller."""
    try:
        return read_prompt(files.folder)
    except InputError as exc:
        raise ModelLoadError(f"the prompt beside {files.name} cannot be used: {exc}") from exc


def check_memory(files: CheckpointFiles, needed: int, device: torch.device) -> None:
    """Refuse weights of so many bytes that do not fit on a device now."""
    import torch

    if device.type == "cpu":
        there = free_host_bytes()
        if there is not None and needed > there:
            raise OutOfMemoryError(
                f"{files.name} needs {needed / 1e9:.1f} GB for its weights, this machine has {there / 1e9:.1f} GB of "
                "memory free; free some, or use --dtype bfloat16 (half of float32)"
            )
    if device.type != "cuda":
        return
    # What torch has cached for reuse, after encoding frames for instance, counts as taken.
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    if needed > free:
        raise OutOfMemoryError(
            f"{files.name} needs {needed / 1e9:.1f} GB for its weights, {device} has {free / 1e9:.1f} of "
            f"{total / 1e9:.1f} GB free; free some, or use --device cpu"
        )


def identity_of(files: CheckpointFiles, spec: PromptSpec, dtype: torch.dtype) -> dict[str, str]:
    """Everything that decides a reply of a checkpoint: see :class:`hybrid.fine.interface.FineModel`."""
    import torch
    import transformers

    return {
        "name": files.name,
        "revision": files.revision,
        "weights": files.weights_digest(),
        "settings": files.settings_digest(),
        "prompt": spec.digest,
        "dtype": dtype_name(dtype),
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
    }


def load_tokenizer(files: CheckpointFiles, *, by_file: bool = False) -> Any:
    """The tokenizer of a checkpoint.

    Args:
        files: of the checkpoint.
        by_file: a ``tokenizer.json`` alone defines the tokenizer, whichever class the checkpoint names.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    from_file = by_file and (files.folder / "tokenizer.json").is_file()
    with load_errors(f"the tokenizer of {files.name}"):
        return (PreTrainedTokenizerFast if from_file else AutoTokenizer).from_pretrained(
            files.folder, local_files_only=True
        )


def generation_settings(
    files: CheckpointFiles, settings: Any, *, needs_end: bool = True
) -> tuple[frozenset[int], float]:
    """End tokens and repetition penalty of a checkpoint's generation settings.

    Args:
        files: of the checkpoint.
        settings: transformers' ``GenerationConfig``.
        needs_end: whether a missing end token is an error.

    Raises:
        ModelLoadError: there is no end token, or a setting would change greedy decoding and is not
            supported.
    """
    for key, neutral in ((key, neutral) for neutral, keys in _NEUTRAL.items() for key in keys.split()):
        value = getattr(settings, key, None)
        if value not in (None, neutral):
            raise ModelLoadError(
                f"generation_config.json of {files.name} sets {key} to {value!r}, which this version does not "
                "follow; remove it from that file to run without it"
            )
    ends = settings.eos_token_id
    end_ids = frozenset([ends] if isinstance(ends, int) else ends or ())
    if needs_end and not end_ids:
        raise ModelLoadError(f"{files.name} names no eos_token_id in generation_config.json or config.json")
    penalty = float(settings.repetition_penalty or 1.0)
    if penalty <= 0:
        raise ModelLoadError(f"repetition_penalty of {files.name} is {penalty}; it must be above 0")
    return end_ids, penalty


def check_parameters(files: CheckpointFiles, report: Mapping[str, Any], *, remedy: str) -> None:
    """Refuse weights that do not fit the configuration: a part of the model would run on random numbers.

    Args:
        files: of the checkpoint.
        report: transformers' loading report.
        remedy: how to fix it, for the error.
    """
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        keys = sorted(map(str, report.get(kind) or ()))
        if keys:
            raise ModelLoadError(
                f"{files.name} does not fit its config.json: {len(keys)} {kind.replace('_', ' ')}, first {keys[0]!r}; "
                f"{remedy}"
            )
