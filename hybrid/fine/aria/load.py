"""The family of Aria: checkpoints of GenS that were converted once (:mod:`hybrid.fine.aria.convert`)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from hybrid.errors import InputError, ModelLoadError, OutOfMemoryError, first_line
from hybrid.fine.aria.checkpoint import AriaCheckpoint
from hybrid.fine.aria.convert.config import FRAME_PATCHES, FRAME_SIDE
from hybrid.fine.aria.fitness import check_transformers
from hybrid.fine.aria.placement import Loading, Placement, choose_placement, memory_need, read_loading
from hybrid.fine.aria.preprocess import image_identity
from hybrid.fine.aria.prompt import FRAME_BLOCK, TURN_END, SpellingTokenizer, marks_of, prompt_of_tokenizer
from hybrid.fine.aria.router import leave_weights_unnormalised, mixture_layers
from hybrid.fine.checkpoint import CheckpointConfig, CheckpointFiles
from hybrid.fine.families import FeatureRule, LoadOptions
from hybrid.fine.pretrained import check_parameters, generation_settings, identity_of, prompt_beside
from hybrid.fine.prompt import PromptSpec
from hybrid.fine.tokens import PromptTokens, TextTokenizer, VisionTokenIds
from hybrid.runtime import dtype_name, ensure_torchvision, out_of_memory_as_error

if TYPE_CHECKING:
    import torch

    from hybrid.fine.interface import FineModel

__all__ = ["FAMILY", "load_model"]

_LOG = logging.getLogger(__name__)

# Left alone where the rest is quantised: attention of the resampler is computed by torch from its
# raw weights, and the first and last layers decide quality.
_NEVER_QUANTIZED = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]


class _Aria:
    """A :class:`hybrid.fine.families.Family`."""

    name = "aria"

    def load(self, files: CheckpointFiles, options: LoadOptions) -> FineModel:
        """See :meth:`hybrid.fine.families.Family.load`.

        Replies are written freely and one after another, so a form for them is refused.
        """
        from hybrid.fine.aria.scorer import AriaScorer

        loading = read_loading(options.loading)
        prompt = options.prompt or prompt_beside(files)
        if options.loop is not None and options.loop.constrained:
            raise InputError(
                f"{files.name} is on Aria, whose replies cannot be held to their form yet; leave out --constrained"
            )
        tokenizer = _load_tokenizer(files)
        spec = prompt or prompt_of_tokenizer(tokenizer)
        check_prompt(files, spec)
        need = _memory_need(files, options.dtype, loading)
        _LOG.info("%s needs %s", files.name, need)
        placement = choose_placement(
            files.name, need, asked=options.device_name, device=options.device, loading=loading
        )
        model = load_model(
            files,
            device=options.device,
            dtype=options.dtype,
            placement=placement,
            quantization=loading.quantization,
        )
        return AriaScorer(_checkpoint(files, model, tokenizer, spec, options.dtype, loading), spec)

    def feature_rule(self, found: CheckpointConfig, options: LoadOptions) -> FeatureRule:
        """See :meth:`hybrid.fine.families.Family.feature_rule`."""
        spec = options.prompt or prompt_beside(found)
        if spec is not None:  # else that of the tokenizer, which fits
            check_prompt(found, spec)
        return FeatureRule(image_identity(), None)


FAMILY = _Aria()


def check_prompt(files: CheckpointConfig, spec: PromptSpec) -> None:
    """Refuse a prompt whose frames are not those that Aria takes.

    Raises:
        ModelLoadError: it is not in image mode, or has another size of frames.
    """
    if spec.mode != "image" or spec.frame_size != (FRAME_SIDE, FRAME_SIDE):
        raise ModelLoadError(
            f"the prompt for {files.name} has the mode {spec.mode} and frame_size {spec.frame_size}; "
            f"Aria takes images of {FRAME_SIDE}x{FRAME_SIDE} pixels"
        )


def _memory_need(files: CheckpointFiles, dtype: torch.dtype, loading: Loading) -> Any:
    try:
        return memory_need(
            files.config, files.parameters, itemsize=dtype.itemsize, dtype=dtype_name(dtype), loading=loading
        )
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as exc:
        raise ModelLoadError(
            f"config.json of {files.name} is not one of transformers' Aria: {first_line(exc)}; convert it again"
        ) from exc


def load_model(
    files: CheckpointFiles,
    *,
    device: torch.device,
    dtype: torch.dtype,
    placement: Placement | None = None,
    quantization: str | None = None,
) -> Any:
    """transformers' ``AriaForConditionalGeneration`` in evaluation mode, checked and with the right router.

    Raises:
        ModelLoadError: transformers is known to be wrong for Aria, or the weights do not fit the
            config.
        OutOfMemoryError: the memory did not suffice.
    """
    ensure_torchvision()
    from transformers import AriaConfig, AriaForConditionalGeneration

    placement = placement or Placement()
    options: dict[str, Any] = {"dtype": dtype, "attn_implementation": "sdpa"}
    if placement.device_map is not None:
        options["device_map"] = dict(placement.device_map)
        if placement.folder is not None:
            options["offload_folder"] = str(placement.folder)
    if quantization is not None:
        options["quantization_config"] = _quantization(quantization, dtype)
    try:
        config = AriaConfig.from_pretrained(files.folder, local_files_only=True)
        check_transformers(config)
        with out_of_memory_as_error(f"loading {files.name}"):
            model, report = AriaForConditionalGeneration.from_pretrained(
                files.folder, output_loading_info=True, local_files_only=True, use_safetensors=True, **options
            )
            if placement.device_map is None:
                model = model.to(device)
    except (ModelLoadError, OutOfMemoryError):
        raise
    except Exception as exc:  # transformers and safetensors raise what they like; one seam for all
        raise ModelLoadError(f"{files.name} cannot be loaded: {first_line(exc)}; convert it again") from exc
    check_parameters(files, report, remedy="convert it again")
    if FRAME_PATCHES not in model.config.projector_patch_to_query_dict:
        raise ModelLoadError(f"{files.name} has no number of queries for frames of {FRAME_PATCHES} patches")
    if getattr(config.text_config, "norm_topk_prob", True) is False:
        for layer in mixture_layers(model):
            leave_weights_unnormalised(layer)
    return model.eval()


def _quantization(kind: str, dtype: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    if kind == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=_NEVER_QUANTIZED)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=_NEVER_QUANTIZED,
    )


def _load_tokenizer(files: CheckpointFiles) -> Any:
    ensure_torchvision()
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    # tokenizer.json says all; a class that a checkpoint names may make something else of it.
    kind = PreTrainedTokenizerFast if (files.folder / "tokenizer.json").is_file() else AutoTokenizer
    try:
        return kind.from_pretrained(files.folder, local_files_only=True)
    except Exception as exc:  # see load_model
        raise ModelLoadError(f"the tokenizer of {files.name} cannot be loaded: {first_line(exc)}") from exc


def _checkpoint(
    files: CheckpointFiles, model: Any, tokenizer: Any, spec: PromptSpec, dtype: torch.dtype, loading: Loading
) -> AriaCheckpoint:

    marks = marks_of(tokenizer)
    ends, penalty = generation_settings(files, model.generation_config, needs_end=TURN_END not in marks)
    return AriaCheckpoint(
        name=files.name,
        model=model,
        tokenizer=tokenizer,
        tokens=_prompt_tokens(files, tokenizer, marks, spec, image_id=int(model.config.image_token_index)),
        end_ids=ends | ({marks[TURN_END]} if TURN_END in marks else frozenset()),
        repetition_penalty=penalty,
        identity={**identity_of(files, spec, dtype), "quantization": loading.quantization or ""},
    )


def _prompt_tokens(
    files: CheckpointFiles, tokenizer: Any, marks: dict[str, int], spec: PromptSpec, *, image_id: int
) -> PromptTokens:
    absent = [text for text in FRAME_BLOCK if text not in marks]
    if absent:
        raise ModelLoadError(f"the tokenizer of {files.name} has no token {absent[0]}; it is not that of GenS on Aria")
    start, pad, end = (marks[text] for text in FRAME_BLOCK)
    if pad != image_id:
        raise ModelLoadError(
            f"{files.name}: its tokenizer has {FRAME_BLOCK[1]} as {pad}, its config.json as {image_id}"
        )
    plain: TextTokenizer = tokenizer
    if any(marks[text] in tokenizer.encode(text, **_AS_TEXT) for text in (*FRAME_BLOCK, TURN_END) if text in marks):
        plain = SpellingTokenizer(tokenizer, marks)
    return PromptTokens(plain, special_ids=marks, vision=VisionTokenIds(start, pad, end), spec=spec)


_AS_TEXT = {"add_special_tokens": False, "split_special_tokens": True}
