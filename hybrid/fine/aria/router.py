"""The router of checkpoints with ``norm_topk_prob`` false.

A token's experts are weighted by the softmax over the logits of *all* experts (DeepSeekMoE, arXiv
2401.06066, equations 3 to 5). transformers' Aria takes the softmax over those that were chosen, so that the weights
sum to 1. Which experts are chosen is the same. The difference cannot be put into the weights of
the checkpoint, since it depends on the token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybrid.errors import ModelLoadError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["leave_weights_unnormalised", "mixture_layers"]


def mixture_layers(model: Any) -> list[Any]:
    """The mixture-of-experts part of every layer of an Aria model."""
    return [layer.mlp for layer in model.model.language_model.layers]


def leave_weights_unnormalised(layer: Any) -> None:
    """Make one mixture-of-experts layer of transformers weight its experts by the softmax over all.

    Args:
        layer: transformers' ``AriaTextMoELayer``, of which this instance alone is changed.

    Raises:
        ModelLoadError: it is built in another way than in transformers 5.17 to 5.23.
    """
    import torch

    if type(layer.router) is torch.nn.Linear and hasattr(layer.experts, "route_tokens_to_experts"):
        # Up to 5.17 the router gives logits, and the experts choose by them.
        layer.experts.route_tokens_to_experts = _Chooser(int(layer.experts.config.moe_topk))
    elif hasattr(layer.router, "top_k"):
        layer.router.register_forward_hook(_reweigh)
    else:
        raise ModelLoadError(
            f"the router of this transformers ({type(layer.router).__name__}) is not known; it cannot be corrected for "
            "a checkpoint with norm_topk_prob false"
        )


class _Chooser:
    """(indices, weights) of a token's experts from the router's logits, [tokens, experts]."""

    def __init__(self, chosen: int) -> None:
        self._chosen = chosen

    def __call__(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        _, indices = logits.topk(self._chosen, dim=-1)
        return indices, _weights(logits, indices)


def _reweigh(module: Any, arguments: Any, output: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Forward hook: (logits, weights, indices) with the corrected weights."""
    logits, _, indices = output
    return logits, _weights(logits, indices), indices


def _weights(logits: Tensor, indices: Tensor) -> Tensor:
    return logits.softmax(dim=-1).gather(-1, indices)
