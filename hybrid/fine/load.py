"""Opens a checkpoint of the fine stage: by name from the model hub, or from a folder.

This is the one place where the exceptions of transformers, the hub client and safetensors become
:class:`~hybrid.errors.ModelLoadError`. No code from a checkpoint is ever run, and transformers'
``Processor`` classes, which need torchvision, are not used.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid.errors import InputError, ModelLoadError, OutOfMemoryError, first_line
from hybrid.fine.checkpoint import CheckpointConfig, CheckpointFiles, find_checkpoint
from hybrid.fine.prompt import GENS_QWEN, PromptSpec, read_prompt
from hybrid.fine.qwen.preprocess import PatchRule, read_patch_rule
from hybrid.runtime import (
    choose_device,
    choose_dtype,
    dtype_name,
    ensure_torchvision,
    free_host_bytes,
    out_of_memory_as_error,
)

if TYPE_CHECKING:
    import torch

    from hybrid.fine.decoding.options import LoopOptions
    from hybrid.fine.interface import FrameScorer
    from hybrid.fine.qwen.scorer import QwenCheckpoint
    from hybrid.fine.tokens import PromptTokens

__all__ = ["load_scorer"]

_LOG = logging.getLogger(__name__)

# Generation settings that change greedy decoding and are not implemented here, with the value at
# which they do nothing. A checkpoint that sets one would silently give other replies.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "num_beams": (None, 1),
    "min_length": (None, 0),
    "min_new_tokens": (None, 0),
    "no_repeat_ngram_size": (None, 0),
    "encoder_repetition_penalty": (None, 1.0),
    "encoder_no_repeat_ngram_size": (None, 0),
    "bad_words_ids": (None,),
    "suppress_tokens": (None,),
    "begin_suppress_tokens": (None,),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "exponential_decay_length_penalty": (None,),
    "sequence_bias": (None,),
    "guidance_scale": (None, 1.0),
    "penalty_alpha": (None,),
    "stop_strings": (None,),
    "watermarking_config": (None,),
}


def load_scorer(
    name_or_folder: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    prompt: PromptSpec | None = None,
    loop: LoopOptions | None = None,
    loading: str | None = None,
) -> FrameScorer:
    """Load a frame sampler.

    Args:
        name_or_folder: a folder with a checkpoint in transformers' form (Qwen2.5-VL, or Aria as
            ``hybrid convert-gens`` makes it), or a name on the model hub such as
            ``yaolily/GenS-qwen2d5-vl-3b``; ``name@revision`` pins a revision.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` ...
        dtype: ``auto`` (bfloat16 on CUDA, else float32), ``float32``, ``bfloat16``, ``float16``.
        prompt: the prompt; by default the one that lies beside the checkpoint as
            ``hybrid_prompt.json``, else :data:`hybrid.fine.prompt.GENS_QWEN`, or for Aria
            :data:`hybrid.fine.aria.prompt.GENS_ARIA` in the turns of its tokenizer.
        loop: how replies are written (freely or in their form, how many at once), and how much
            memory may be kept for further questions.
        loading: of Aria: quantization and offloading (:func:`hybrid.fine.aria.placement.read_loading`).

    Raises:
        ModelLoadError: the checkpoint, or the prompt beside it, is missing, damaged, or of a kind that
            is not supported.
        OutOfMemoryError: its weights do not fit on the device.
        InputError: the name, the device, the dtype or the loading is not legal.
        MissingDependencyError: a package that ``loading`` needs is not installed.
    """
    from hybrid.fine.aria.placement import read_loading
    from hybrid.fine.qwen.scorer import QwenScorer

    chosen_device = choose_device(device)
    chosen_dtype = choose_dtype(dtype, chosen_device)
    how = read_loading(loading)
    files = find_checkpoint(name_or_folder)
    if files.config["model_type"] == "aria":
        from hybrid.fine.aria.load import load_aria

        return load_aria(
            files,
            asked=device,
            device=chosen_device,
            dtype=chosen_dtype,
            prompt=prompt or prompt_beside(files),
            loading=how,
            loop=loop,
        )
    check_loading(loading, f"{files.name} is none")
    spec = prompt or prompt_beside(files) or GENS_QWEN
    rule = read_patch_rule(files.folder)
    check_frame_size(spec, rule, files)
    needed = files.parameters * chosen_dtype.itemsize
    _LOG.info("loading %s: %.2f GB of weights on %s", files.name, needed / 1e9, chosen_device)
    check_memory(files, needed, chosen_device)
    checkpoint = _load(files, spec=spec, rule=rule, device=chosen_device, dtype=chosen_dtype)
    return QwenScorer(checkpoint, spec, loop)


def check_loading(loading: str | None, why_not: str) -> None:
    """Refuse a way of loading, which only Aria has.

    Raises:
        InputError: one is said.
    """
    if loading:
        raise InputError(f"loading is {loading!r}, which is for checkpoints on Aria; {why_not}")


def prompt_beside(files: CheckpointConfig) -> PromptSpec | None:
    """The checkpoint's own prompt; one that cannot be read is a fault of the checkpoint, not of the caller."""
    try:
        return read_prompt(files.folder)
    except InputError as exc:
        raise ModelLoadError(f"the prompt beside {files.name} cannot be used: {exc}") from exc


def check_frame_size(spec: PromptSpec, rule: PatchRule, files: CheckpointConfig) -> None:
    """Refuse a prompt whose frames cannot be cut into patches."""
    if spec.frame_size is not None and any(side % rule.factor for side in spec.frame_size):
        raise ModelLoadError(
            f"the prompt of {files.name} has frame_size {spec.frame_size}; "
            f"both sides must be multiples of {rule.factor} for this checkpoint"
        )


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


def _load(
    files: CheckpointFiles, *, spec: PromptSpec, rule: PatchRule, device: torch.device, dtype: torch.dtype
) -> QwenCheckpoint:
    ensure_torchvision()
    from hybrid.fine.qwen.scorer import QwenCheckpoint

    model = _load_model(files, dtype).eval()
    with out_of_memory_as_error(f"moving {files.name} to {device}"):
        model = model.to(device)
    tokenizer = load_tokenizer(files)
    end_ids, penalty = generation_settings(files, model.generation_config)
    check_vision(files, model.config, rule)
    return QwenCheckpoint(
        name=files.name,
        model=model,
        tokenizer=tokenizer,
        tokens=prompt_tokens(files, tokenizer, model.config, spec),
        rule=rule,
        end_ids=end_ids,
        repetition_penalty=penalty,
        identity=identity_of(files, spec, dtype),
    )


def identity_of(files: CheckpointFiles, spec: PromptSpec, dtype: torch.dtype) -> dict[str, str]:
    """Everything that decides a reply of a checkpoint: see :class:`hybrid.fine.interface.FrameScorer`."""
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


def _load_model(files: CheckpointFiles, dtype: torch.dtype) -> Any:
    from transformers import Qwen2_5_VLForConditionalGeneration

    try:
        with out_of_memory_as_error(f"loading {files.name}"):
            model, report = Qwen2_5_VLForConditionalGeneration.from_pretrained(
                files.folder,
                dtype=dtype,
                attn_implementation="sdpa",
                output_loading_info=True,
                local_files_only=True,
                use_safetensors=True,
            )
    except OutOfMemoryError:
        raise
    except Exception as exc:  # transformers and safetensors raise what they like; one seam for all
        raise ModelLoadError(f"{files.name} cannot be loaded: {first_line(exc)}; download it again") from exc
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        keys = sorted(map(str, report.get(kind) or ()))
        if keys:
            raise ModelLoadError(
                f"{files.name} does not fit its config.json: {len(keys)} {kind.replace('_', ' ')}, "
                f"first {keys[0]!r}; it is incomplete or of another architecture, download it again"
            )
    return model


def load_tokenizer(files: CheckpointFiles) -> Any:
    """The tokenizer of a checkpoint."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(files.folder, local_files_only=True)
    except Exception as exc:  # see _load_model
        raise ModelLoadError(f"the tokenizer of {files.name} cannot be loaded: {first_line(exc)}") from exc


def generation_settings(
    files: CheckpointFiles, settings: Any, *, needs_end: bool = True
) -> tuple[frozenset[int], float]:
    """End tokens and repetition penalty of a checkpoint's generation settings.

    Args:
        files: of the checkpoint.
        settings: transformers' ``GenerationConfig``.
        needs_end: whether no end token is a fault.

    Raises:
        ModelLoadError: there is no end token, or a setting would change greedy decoding and is not
            followed here.
    """
    for key, neutral in _NEUTRAL.items():
        value = getattr(settings, key, None)
        if value not in neutral:
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


def check_vision(files: CheckpointFiles, config: Any, rule: PatchRule) -> None:
    """Refuse a checkpoint whose preprocessing cuts other patches than its tower takes."""
    vision = config.vision_config
    of_model = (vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size)
    if of_model != (rule.patch, rule.merge, rule.temporal):
        raise ModelLoadError(
            f"{files.name}: config.json has patch, merge and temporal sizes {of_model}, "
            f"preprocessor_config.json has {(rule.patch, rule.merge, rule.temporal)}; they must be the same"
        )


def prompt_tokens(files: CheckpointFiles, tokenizer: Any, config: Any, spec: PromptSpec) -> PromptTokens:
    """What makes token ids of a prompt, after a check that tokenizer and model mean the same frames."""
    from hybrid.fine.prompt import IMAGE_BLOCK, VIDEO_BLOCK
    from hybrid.fine.tokens import PromptTokens, VisionTokenIds

    image = spec.mode == "image"
    ids = VisionTokenIds(
        start=config.vision_start_token_id,
        pad=config.image_token_id if image else config.video_token_id,
        end=config.vision_end_token_id,
    )
    special: Mapping[str, int] = {
        token.content: number for number, token in tokenizer.added_tokens_decoder.items() if token.special
    }
    for text, number in zip(IMAGE_BLOCK if image else VIDEO_BLOCK, (ids.start, ids.pad, ids.end), strict=True):
        if special.get(text) != number:
            raise ModelLoadError(
                f"{files.name}: its tokenizer has {text} as {special.get(text)}, its config.json as {number}"
            )
        if number in tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True):
            raise ModelLoadError(
                f"the tokenizer of {files.name} ({type(tokenizer).__name__}) cannot take {text} as plain text, so a "
                "question could stand for frames; a fast tokenizer (tokenizer.json) is needed"
            )
    return PromptTokens(tokenizer, special_ids=dict(special), vision=ids, spec=spec)
