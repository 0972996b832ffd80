"""The family of Aria: checkpoints of GenS that were converted once (:mod:`hybrid.fine.aria.convert`)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hybrid.errors import InputError, ModelLoadError, OutOfMemoryError, first_line
from hybrid.fine.aria.convert.config import FRAME_PATCHES, FRAME_SIDE
from hybrid.fine.aria.fitness import check_transformers
from hybrid.fine.aria.frames import AriaFrames
from hybrid.fine.aria.placement import Placement, choose_placement, memory_need
from hybrid.fine.aria.preprocess import image_identity
from hybrid.fine.aria.prompt import FRAME_BLOCK, TURN_END, SpellingTokenizer, marks_of, prompt_of_tokenizer
from hybrid.fine.aria.router import leave_weights_unnormalised, mixture_layers
from hybrid.fine.aria.writer import AriaWriter
from hybrid.fine.checkpoint import CheckpointConfig, CheckpointFiles
from hybrid.fine.families import FeatureRule, Loading, LoadOptions
from hybrid.fine.features import FrameFeatures
from hybrid.fine.pretrained import (
    LoadedCheckpoint,
    check_parameters,
    generation_settings,
    identity_of,
    load_errors,
    load_tokenizer,
    prompt_beside,
)
from hybrid.fine.prompt import PromptSpec
from hybrid.fine.scorer import TokenScorer
from hybrid.fine.tokens import PromptTokens, TextTokenizer, VisionTokenIds
from hybrid.runtime import dtype_name, ensure_torchvision
from hybrid.values import ByteArray

if TYPE_CHECKING:
    import torch

__all__ = ["FAMILY", "AriaScorer", "load_model"]

_LOG = logging.getLogger(__name__)

# Left alone where the rest is quantised: attention of the resampler is computed by torch from its
# raw weights, and the first and last layers decide quality.
_NEVER_QUANTIZED = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]


class AriaScorer(TokenScorer):
    """A :class:`hybrid.fine.interface.FeatureModel` on a converted checkpoint of GenS on Aria.

    Args:
        checkpoint: what was loaded.
        spec: the prompt.

    Attributes:
        writer: writes replies.
    """

    def __init__(self, checkpoint: LoadedCheckpoint, spec: PromptSpec) -> None:
        self.writer = AriaWriter(checkpoint, spec)
        super().__init__(checkpoint, spec, encoder=AriaFrames(checkpoint, spec.mode), writer=self.writer)

    def encode_frames(self, frames: Sequence[ByteArray]) -> FrameFeatures:
        """See :meth:`hybrid.fine.interface.FeatureModel.encode_frames`."""
        try:
            return super().encode_frames(frames)
        except OutOfMemoryError:
            # The cached window of the last question may be what takes the memory.
            if not self.writer.holds_window:
                raise
            self.writer.forget()
            return super().encode_frames(frames)


class _Aria:
    """A :class:`hybrid.fine.families.Family`."""

    name = "aria"

    def load(self, files: CheckpointFiles, options: LoadOptions) -> AriaScorer:
        """See :meth:`hybrid.fine.families.Family.load`.

        Replies are written freely and one after another, so a form for them is refused.
        """
        loading = options.loading
        prompt = options.prompt or prompt_beside(files)
        if options.loop is not None and options.loop.constrained:
            raise InputError(
                f"{files.name} is on Aria, whose replies cannot be held to their form yet; leave out --constrained"
            )
        ensure_torchvision()
        tokenizer = load_tokenizer(files, by_file=True)
        spec = prompt or prompt_of_tokenizer(tokenizer)
        check_prompt(files, spec)
        need = _memory_need(files, options.dtype, loading)
        _LOG.info("%s needs %s", files.name, need)
        placement = choose_placement(
            files.name, need, asked=options.device_name, device=options.device, loading=loading
        )
        model = load_model(
            files, device=options.device, dtype=options.dtype, placement=placement, quantization=loading.quantization
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
    with load_errors(files.name, remedy="; convert it again"):
        config = AriaConfig.from_pretrained(files.folder, local_files_only=True)
        check_transformers(config)
        model, report = AriaForConditionalGeneration.from_pretrained(
            files.folder, output_loading_info=True, local_files_only=True, use_safetensors=True, **options
        )
        if placement.device_map is None:
            model = model.to(device)
    check_parameters(files, report, remedy="convert it again")
    if FRAME_PATCHES not in model.config.projector_patch_to_query_dict:
        raise ModelLoadError(f"{files.name} has no number of queries for frames of {FRAME_PATCHES} patches")
    if getattr(config.text_config, "norm_topk_prob", True) is False:
        for layer in mixture_layers(model):
            leave_weights_unnormalised(layer)
    return model.eval()


def _quantization(kind: str, dtype: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    four_bits = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": dtype}
    options: dict[str, Any] = {"load_in_8bit": True} if kind == "8bit" else four_bits
    return BitsAndBytesConfig(llm_int8_skip_modules=_NEVER_QUANTIZED, **options)


def _checkpoint(
    files: CheckpointFiles, model: Any, tokenizer: Any, spec: PromptSpec, dtype: torch.dtype, loading: Loading
) -> LoadedCheckpoint:

    marks = marks_of(tokenizer)
    ends, penalty = generation_settings(files, model.generation_config, needs_end=TURN_END not in marks)
    return LoadedCheckpoint(
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
