"""A loaded checkpoint of GenS on Aria."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from hybrid.fine.tokens import PromptTokens

__all__ = ["AriaCheckpoint", "device_names", "resident_device"]


@dataclass(frozen=True, slots=True, eq=False)
class AriaCheckpoint:
    """A loaded checkpoint and all that decides its replies; made by :func:`hybrid.fine.load.load_scorer`.

    Attributes:
        name: as the caller named it: a hub name or a folder.
        model: transformers' ``AriaForConditionalGeneration``, in evaluation mode.
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


def device_names(model: Any) -> str:
    """Where a model runs; several devices with commas."""
    devices = getattr(model, "hf_device_map", None)
    if not devices:
        return str(resident_device(model, model.model.language_model.embed_tokens.weight.device))
    names = (f"cuda:{device}" if isinstance(device, int) else str(device) for device in devices.values())
    return ",".join(dict.fromkeys(names))


def resident_device(model: Any, device: torch.device) -> torch.device:
    """Where a part of a model computes; weights that are offloaded are on the device ``meta`` until they are needed."""
    if device.type != "meta":
        return device
    devices = getattr(model, "hf_device_map", {}).values()
    cards = [each for each in devices if isinstance(each, int)]
    return torch.device(f"cuda:{cards[0]}" if cards else "cpu")
