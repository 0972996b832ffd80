"""A loaded checkpoint of the architecture Qwen2.5-VL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hybrid.fine.qwen.preprocess import PatchRule
from hybrid.fine.tokens import PromptTokens

__all__ = ["QwenCheckpoint"]


@dataclass(frozen=True, slots=True, eq=False)
class QwenCheckpoint:
    """A loaded checkpoint and all that decides its replies; made by :func:`hybrid.fine.load.load_scorer`.

    Attributes:
        name: as the caller named it: a hub name or a folder.
        model: transformers' ``Qwen2_5_VLForConditionalGeneration``, in evaluation mode.
        tokenizer: its fast tokenizer.
        tokens: makes token ids of the prompt.
        rule: its preprocessing.
        end_ids: tokens that end a reply.
        repetition_penalty: of its generation settings; 1.0 for none.
        identity: see :class:`hybrid.fine.interface.FineModel`.
    """

    name: str
    model: Any
    tokenizer: Any
    tokens: PromptTokens
    rule: PatchRule
    end_ids: frozenset[int]
    repetition_penalty: float
    identity: Mapping[str, str]
