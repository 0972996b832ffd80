"""The family of Qwen2.5-VL: GenS-3B, and every checkpoint of its architecture.

transformers' ``Processor`` classes, which need torchvision, are not used.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybrid.errors import InputError, ModelLoadError
from hybrid.fine.checkpoint import CheckpointConfig, CheckpointFiles, is_hub_name, not_here
from hybrid.fine.decoding.options import LoopOptions
from hybrid.fine.decoding.prefix_cache import PrefixCache
from hybrid.fine.families import FeatureRule, Loading, LoadOptions
from hybrid.fine.interface import VIDEO_MODE_REASON
from hybrid.fine.pretrained import (
    LoadedCheckpoint,
    check_memory,
    check_parameters,
    generation_settings,
    identity_of,
    load_errors,
    load_tokenizer,
    prompt_beside,
)
from hybrid.fine.prompt import GENS_QWEN, IMAGE_BLOCK, VIDEO_BLOCK, PromptSpec
from hybrid.fine.qwen.preprocess import PIXELS_FILE, PROCESSOR_FILE, PatchRule, image_identity, read_patch_rule
from hybrid.fine.qwen.vision_encoder import QwenFrames
from hybrid.fine.qwen.writer import QwenWriter
from hybrid.fine.scorer import TokenScorer
from hybrid.fine.tokens import PromptTokens, VisionTokenIds
from hybrid.runtime import ensure_torchvision, out_of_memory_as_error

if TYPE_CHECKING:
    import torch

__all__ = ["FAMILY", "QwenCheckpoint", "QwenScorer"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class QwenCheckpoint(LoadedCheckpoint):
    """A loaded checkpoint of Qwen2.5-VL.

    Attributes:
        rule: its preprocessing.
    """

    rule: PatchRule


class QwenScorer(TokenScorer):
    """A :class:`hybrid.fine.interface.FeatureModel` on a Qwen2.5-VL checkpoint.

    The work is cut where results can be stored: :class:`~hybrid.fine.qwen.vision_encoder.QwenFrames` depends on the
    frames alone, :class:`~hybrid.fine.qwen.writer.QwenWriter` adds questions. No call leaves state in the model, so
    several threads may use one scorer.

    Args:
        checkpoint: what was loaded.
        spec: the prompt.
        options: how replies are written, and how much memory the prefixes may take.

    Attributes:
        options: how replies are written.
        writer: writes them.

    Raises:
        ModelLoadError, InputError: see :class:`hybrid.fine.qwen.writer.QwenWriter`.
    """

    def __init__(self, checkpoint: QwenCheckpoint, spec: PromptSpec, options: LoopOptions | None = None) -> None:
        self.options = options or LoopOptions()
        self.writer = QwenWriter(checkpoint, spec, self.options)
        visual, rule = checkpoint.model.model.visual, checkpoint.rule
        encoder = QwenFrames(visual, rule=rule, spec=spec, identity=checkpoint.identity)
        super().__init__(checkpoint, spec, encoder=encoder, writer=self.writer)

    @property
    def prefix_cache(self) -> PrefixCache:
        """The cached keys and values of windows, with counts; ``clear()`` frees the memory."""
        return self.writer.scheduler.cache


class _Qwen:
    """A :class:`hybrid.fine.families.Family`."""

    name = "qwen2_5_vl"

    def load(self, files: CheckpointFiles, options: LoadOptions) -> QwenScorer:
        """See :meth:`hybrid.fine.families.Family.load`."""
        spec, rule = _prompt_and_rule(files, options)
        needed = files.parameters * options.dtype.itemsize
        _LOG.info("loading %s: %.2f GB of weights on %s", files.name, needed / 1e9, options.device)
        check_memory(files, needed, options.device)
        return QwenScorer(_checkpoint(files, spec, rule, options), spec, options.loop)

    def feature_rule(self, found: CheckpointConfig, options: LoadOptions) -> FeatureRule:
        """See :meth:`hybrid.fine.families.Family.feature_rule`."""
        has_rule = any((found.folder / name).is_file() for name in (PIXELS_FILE, PROCESSOR_FILE))
        if is_hub_name(found.name) and not has_rule:
            raise not_here(found.name)
        spec, rule = _prompt_and_rule(found, options)
        if spec.mode != "image":
            raise InputError(f"features cannot be stored: {VIDEO_MODE_REASON}")
        tokens = None if spec.frame_size is None else spec.frame_size[0] * spec.frame_size[1] // rule.factor**2
        vision = found.config.get("vision_config")
        width = vision.get("out_hidden_size") if isinstance(vision, dict) else None
        values = tokens * width if tokens is not None and isinstance(width, int) else None
        return FeatureRule(image_identity(spec, rule), values)


FAMILY = _Qwen()


def _prompt_and_rule(found: CheckpointConfig, options: LoadOptions) -> tuple[PromptSpec, PatchRule]:
    """The prompt and the preprocessing.

    Raises:
        InputError: the options have a way of loading, which only Aria has.
        ModelLoadError: the prompt's frames cannot be cut into patches.
    """
    if options.loading != Loading():
        raise InputError(f"loading (8bit, 4bit, offload) is for checkpoints on Aria; {found.name} is none")
    spec = options.prompt or prompt_beside(found) or GENS_QWEN
    rule = read_patch_rule(found.folder)
    if spec.frame_size is not None and any(side % rule.factor for side in spec.frame_size):
        raise ModelLoadError(
            f"the prompt of {found.name} has frame_size {spec.frame_size}; "
            f"both sides must be multiples of {rule.factor} for this checkpoint"
        )
    return spec, rule


def _checkpoint(files: CheckpointFiles, spec: PromptSpec, rule: PatchRule, options: LoadOptions) -> QwenCheckpoint:
    ensure_torchvision()
    model = _load_model(files, options.dtype).eval()
    with out_of_memory_as_error(f"moving {files.name} to {options.device}"):
        model = model.to(options.device)
    tokenizer = load_tokenizer(files)
    end_ids, penalty = generation_settings(files, model.generation_config)
    _check_vision(files, model.config, rule)
    return QwenCheckpoint(
        name=files.name,
        model=model,
        tokenizer=tokenizer,
        tokens=_prompt_tokens(files, tokenizer, model.config, spec),
        rule=rule,
        end_ids=end_ids,
        repetition_penalty=penalty,
        identity=identity_of(files, spec, options.dtype),
    )


def _load_model(files: CheckpointFiles, dtype: torch.dtype) -> Any:
    from transformers import Qwen2_5_VLForConditionalGeneration

    with load_errors(files.name, remedy="; download it again"):
        model, report = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            files.folder,
            dtype=dtype,
            attn_implementation="sdpa",
            output_loading_info=True,
            local_files_only=True,
            use_safetensors=True,
        )
    check_parameters(files, report, remedy="it is incomplete or of another architecture, download it again")
    return model


def _check_vision(files: CheckpointFiles, config: Any, rule: PatchRule) -> None:
    """Refuse a checkpoint whose preprocessing and vision encoder have different patch sizes."""
    vision = config.vision_config
    of_model = (vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size)
    if of_model != (rule.patch, rule.merge, rule.temporal):
        raise ModelLoadError(
            f"{files.name}: config.json has patch, merge and temporal sizes {of_model}, "
            f"preprocessor_config.json has {(rule.patch, rule.merge, rule.temporal)}; they must be the same"
        )


def _prompt_tokens(files: CheckpointFiles, tokenizer: Any, config: Any, spec: PromptSpec) -> PromptTokens:
    """What makes token ids of a prompt, after a check that tokenizer and model mean the same frames."""
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
