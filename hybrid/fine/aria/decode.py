"""Prefill and greedy decoding with transformers' own cache.

Goes through the modules as they are called by transformers, so that layers may lie on several
devices, in host memory or quantised. Only the logits of a prompt's last token are computed: those
of a window of 256 frames would take 14 GB.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import torch

from hybrid.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Reader", "greedy_tokens"]


class Reader:
    """What a model has read: its cache, and how long it is. Not for several threads at once.

    Args:
        model: transformers' ``AriaForConditionalGeneration``.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._cache: Any = None
        self.length = 0

    def read(self, embeddings: Tensor) -> Tensor:
        """Read on. [L, hidden] embeddings -> [hidden] state of the last token."""
        output = self._model.model.language_model(
            inputs_embeds=embeddings[None], past_key_values=self._cache, use_cache=True
        )
        self._cache = output.past_key_values
        self.length += len(embeddings)
        state: Tensor = output.last_hidden_state[0, -1]
        return state

    def forget(self, length: int) -> None:
        """Go back to the first ``length`` tokens."""
        if length < self.length:
            self._cache.crop(length - self.length)  # negative: so many from the end
            self.length = length


def greedy_tokens(
    model: Any,
    reader: Reader,
    state: Tensor,
    *,
    seen: Sequence[int],
    end_ids: Collection[int],
    limit: int,
    penalty: float,
) -> list[int]:
    """The most likely tokens until an end token or the limit.

    Args:
        model: transformers' ``AriaForConditionalGeneration``.
        reader: has read the prompt.
        state: [hidden] of the prompt's last token.
        seen: the prompt's tokens, on which a repetition penalty falls too.
        end_ids: tokens that end a reply; the one that came is the last of the result.
        limit: longest reply, in tokens.
        penalty: repetition penalty (CTRL, arXiv 1909.05858, section 4.1); 1.0 for none.

    Raises:
        ModelError: the model's output is not finite.
    """
    embed = model.model.language_model.embed_tokens
    ids: list[int] = []
    marked = torch.zeros(0, dtype=torch.bool)
    while not ids or (ids[-1] not in end_ids and len(ids) < limit):
        if ids:
            state = reader.read(embed(torch.tensor([ids[-1]], device=state.device)))
        logits = model.lm_head(state[None])[0].float()
        if not ids:
            if not bool(torch.isfinite(logits).all()):
                raise ModelError(
                    "the model's output is not finite: its weights are damaged, or need bfloat16 or float32"
                )
            marked = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
            marked[torch.tensor(list(seen), device=logits.device)] = True
        if penalty != 1.0:
            logits = torch.where(marked, torch.where(logits < 0, logits * penalty, logits / penalty), logits)
        ids.append(int(logits.argmax()))
        marked[ids[-1]] = True
    return ids
