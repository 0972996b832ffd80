"""Opens a checkpoint of the fine stage: by name from the model hub, or from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hybrid.fine.checkpoint import find_checkpoint
from hybrid.fine.families import Family, LoadOptions, read_loading
from hybrid.fine.prompt import PromptSpec
from hybrid.fine.registry import FAMILIES
from hybrid.runtime import choose_device, choose_dtype

if TYPE_CHECKING:
    from hybrid.fine.decoding.options import LoopOptions
    from hybrid.fine.interface import FineModel

__all__ = ["load_options", "load_scorer"]


def load_options(
    *,
    device: str = "auto",
    dtype: str = "auto",
    prompt: PromptSpec | None = None,
    loop: LoopOptions | None = None,
    loading: str | None = None,
) -> LoadOptions:
    """The options of :func:`load_scorer`, checked.

    Raises:
        InputError: the device, the dtype or the loading is not legal.
    """
    chosen = choose_device(device)
    return LoadOptions(chosen, device, choose_dtype(dtype, chosen), prompt, loop, read_loading(loading))


def load_scorer(
    name_or_folder: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    prompt: PromptSpec | None = None,
    loop: LoopOptions | None = None,
    loading: str | None = None,
) -> FineModel:
    """Load a fine-stage model.

    Args:
        name_or_folder: the folder of a checkpoint, or a hub name such as ``yaolily/GenS-qwen2d5-vl-3b``;
            ``name@revision`` pins a revision.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` ...
        dtype: ``auto`` (bfloat16 on CUDA, else float32), ``float32``, ``bfloat16``, ``float16``.
        prompt: the prompt; by default ``hybrid_prompt.json`` beside the checkpoint, else
            :data:`hybrid.fine.prompt.GENS_QWEN`, or for Aria :data:`hybrid.fine.aria.prompt.GENS_ARIA` in the turns of
            its tokenizer.
        loop: how replies are written (freely or in their form, how many at once), and how much memory the cache
            of prefixes may take.
        loading: of Aria: quantization and offloading (:func:`hybrid.fine.families.read_loading`).

    Raises:
        ModelLoadError: the checkpoint, or the prompt beside it, is missing, damaged, or of a kind that is not
            supported.
        OutOfMemoryError: its weights do not fit on the device.
        InputError: the name, the device, the dtype or the loading is not legal.
        MissingDependencyError: a package that ``loading`` needs is not installed.
    """
    options = load_options(device=device, dtype=dtype, prompt=prompt, loop=loop, loading=loading)
    files = find_checkpoint(name_or_folder)
    family: Family = FAMILIES.find(files.config["model_type"])
    return family.load(files, options)
