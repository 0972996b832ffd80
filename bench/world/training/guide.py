"""What is taught beside the text of the replies, because a small model would be very long in finding it by itself."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.world.training.packing import Packed
from bench.world.training.vision import Heads, label_loss

__all__ = ["Guide"]


class Guide:
    """Three lessons beside the text, for what a small model else learns only after many thousands of steps.

    * Pointing: wherever a label is to be written, the first head of the last layer is taught to look at
      the frame that has it.
    * Carrying: what that head takes from a frame is taught to read as the label of the frame.
    * Knowing what is asked: at the end of a question, the middle of the model is taught to hold what the
      question names in the form in which the vision encoder shows it, and at each frame what the frame
      shows: the frozen heads that were trained with the tower must read it there. So the two are alike.

    Args:
        model: what is watched.
        heads: trained with the vision encoder, on its features before they were scaled and centred.
        mean, scale: [width] mean and standard deviation of those features.
    """

    def __init__(self, model: Any, heads: Heads, *, mean: Tensor, scale: float) -> None:
        config = model.config.text_config
        self._size = config.hidden_size // config.num_attention_heads
        self._turns = model.model.language_model.rotary_emb.inv_freq
        self._heads, self._scale = heads.requires_grad_(False), scale
        for reader in cast(Iterable[nn.Linear], self._heads.readers):
            reader.bias.add_(reader.weight @ mean)
        self._seen: dict[str, Tensor] = {}
        layers = model.model.language_model.layers
        layers[-1].self_attn.q_proj.register_forward_hook(partial(self._keep, "query"))
        layers[-1].self_attn.k_proj.register_forward_hook(partial(self._keep, "key"))
        layers[-1].self_attn.v_proj.register_forward_hook(partial(self._keep, "value"))
        self._out = layers[-1].self_attn.o_proj
        self._embeddings = model.model.language_model.embed_tokens
        layers[len(layers) // 2 - 1].register_forward_hook(partial(self._keep, "middle"))

    def _keep(self, name: str, _module: nn.Module, _given: tuple[Any, ...], made: Any) -> None:
        self._seen[name] = (made[0] if isinstance(made, tuple) else made).float()

    def losses(self, packed: Packed) -> dict[str, Tensor]:
        """Of each lesson, for the batch that was predicted last."""
        return {
            "pointing": self._pointing(packed),
            "carrying": self._carrying(packed),
            "knowing": self._knowing(packed),
        }

    def _carrying(self, packed: Packed) -> Tensor:
        taken = self._seen["value"][:, packed.frames, : self._size] @ self._out.weight[:, : self._size].T
        read = functional.normalize(taken, dim=-1) * taken.shape[-1] ** 0.5 @ self._embeddings.weight.T
        return functional.cross_entropy(read.flatten(0, 1), packed.label_tokens.flatten())

    def _knowing(self, packed: Packed) -> Tensor:
        known = packed.about[..., 0] >= 0
        held = functional.normalize(self._seen["middle"][known], dim=-1)
        return label_loss(self._heads(held * (self._scale * held.shape[-1] ** 0.5)), packed.about[known])

    def _pointing(self, packed: Packed) -> Tensor:
        rows, tokens = (packed.points_to >= 0).nonzero(as_tuple=True)
        if not len(rows):
            # Replies that name no frame, all of them: the mean of nothing would be no number.
            return self._seen["query"].sum() * 0.0
        query = self._turn(self._seen["query"][rows, tokens, : self._size], packed.positions[rows, tokens])
        key = self._turn(self._seen["key"][:, packed.frames, : self._size], packed.positions[:, packed.frames])
        logits = torch.einsum("pd,pnd->pn", query, key[rows]) / self._size**0.5
        hidden = packed.frames[None, :] >= packed.sees[rows, tokens][:, None]
        return functional.cross_entropy(logits.masked_fill(hidden, -1e4), packed.points_to[rows, tokens])

    def _turn(self, states: Tensor, positions: Tensor) -> Tensor:
        """Rotary embedding; the three axes of a frame of one token have the same position."""
        angles = positions.unsqueeze(-1) * self._turns
        angles = torch.cat([angles, angles], dim=-1)
        left, right = states.chunk(2, dim=-1)
        return states * angles.cos() + torch.cat([-right, left], dim=-1) * angles.sin()
