"""Greedy decoding of one prompt with a key-value cache.

Gives the tokens that ``generate(do_sample=False)`` of transformers gives, from embeddings and
positions that are made elsewhere, and without the mutable state (``rope_deltas``) that
``generate`` keeps in the model.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from hybrid.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Generated", "best_token", "greedy"]


@dataclass(frozen=True, slots=True)
class Generated:
    """What a model wrote.

    Attributes:
        ids: the new tokens; the last one is an end token, unless the reply was cut.
        cut: whether the limit came before an end token.
        prompt_tokens: how long the prompt was.
        seconds: time by part: ``prefill`` until the first token, ``decode`` for all others.
    """

    ids: list[int]
    cut: bool
    prompt_tokens: int
    seconds: Mapping[str, float]


def greedy(
    model: Any,
    embeddings: Tensor,
    positions: Tensor,
    *,
    prompt_ids: Sequence[int],
    next_position: int,
    end_ids: Collection[int],
    repetition_penalty: float,
    max_new_tokens: int,
) -> Generated:
    """Take the most likely token until an end token or the limit.

    Args:
        model: a transformers Qwen2.5-VL model.
        embeddings: [L, hidden], in the model's dtype and on its device.
        positions: int64 [3, L].
        prompt_ids: the L token ids; the repetition penalty looks at them too, as in transformers.
        next_position: position of the first new token.
        end_ids: tokens that end a reply.
        repetition_penalty: 1.0 for none. The logit of every token seen so far is divided by it if
            positive and multiplied by it if negative (CTRL, arXiv 1909.05858, section 4.1).
        max_new_tokens: the longest reply.

    Raises:
        ModelError: the model's output is not finite.
    """
    started = time.perf_counter()
    step = _step(model, embeddings, positions, cache=None)
    if not bool(torch.isfinite(step.logits).all()):
        raise ModelError("the model's output is not finite: its weights are damaged, or need bfloat16 or float32")
    seen = torch.zeros(step.logits.shape[-1], dtype=torch.bool, device=step.logits.device)
    seen[torch.tensor(list(prompt_ids), device=seen.device)] = True
    ids = [best_token(step.logits, seen, repetition_penalty=repetition_penalty)]
    prefilled = time.perf_counter()
    while ids[-1] not in end_ids and len(ids) < max_new_tokens:
        seen[ids[-1]] = True
        token = torch.tensor([ids[-1]], device=embeddings.device)
        here = torch.full((3, 1), next_position + len(ids) - 1, device=embeddings.device)
        step = _step(model, model.model.language_model.embed_tokens(token), here, cache=step.cache)
        ids.append(best_token(step.logits, seen, repetition_penalty=repetition_penalty))
    return Generated(
        ids=ids,
        cut=ids[-1] not in end_ids,
        prompt_tokens=len(prompt_ids),
        seconds={"prefill": prefilled - started, "decode": time.perf_counter() - prefilled},
    )


@dataclass(frozen=True, slots=True)
class _Step:
    """Logits after the last token, float32 [vocabulary], and the cache up to and with it."""

    logits: Tensor
    cache: Any


def _step(model: Any, embeddings: Tensor, positions: Tensor, *, cache: Any) -> _Step:
    output = model.model.language_model(
        inputs_embeds=embeddings[None], position_ids=positions[:, None], past_key_values=cache, use_cache=True
    )
    # Only the last token's logits: those of a whole window would take gigabytes.
    logits = model.lm_head(output.last_hidden_state[:, -1])[0]
    return _Step(logits=logits.float(), cache=output.past_key_values)


def best_token(logits: Tensor, seen: Tensor, *, repetition_penalty: float) -> int:
    """The most likely token; of equals the first.

    Args:
        logits: float32 [vocabulary].
        seen: bool [vocabulary]: the tokens that the penalty falls on.
        repetition_penalty: see :func:`greedy`.
    """
    penalty = repetition_penalty
    if penalty != 1.0:
        penalised = torch.where(logits < 0, logits * penalty, logits / penalty)
        logits = torch.where(seen, penalised, logits)
    return int(logits.argmax())
