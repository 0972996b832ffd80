"""The text model of a checkpoint as a stack of layers that can be run on any layout of tokens.

The weights and the small modules are those of transformers. Only what runs between them is ours:
tokens of many rows lie in one flat array without padding, keys and values go where the caller
keeps them, and attention is the caller's. Any model whose layers have Llama's parts fits
(``input_layernorm``, ``self_attn.{q,k,v,o}_proj``, ``post_attention_layernorm``, ``mlp``), with
one position per token or with the three of Qwen2-VL (arXiv 2409.12191, section 2.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from hybrid.errors import ModelLoadError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Attend", "TextStack"]

Attend = Callable[[int, "Tensor", "Tensor", "Tensor"], "Tensor"]
"""(layer, query [T, K, G, D], key [T, K, D], value [T, K, D]) -> mixture [T, K, G, D] (or fewer tokens)."""


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    before_attention: Any
    qkv_weight: Tensor
    qkv_bias: Tensor | None
    output: Any
    before_mlp: Any
    gate_up: Tensor | None
    down: Any
    activation: Any
    mlp: Any


class TextStack:
    """The layers of a text model, between embeddings and the last norm.

    The weights of the query, key and value projections of a layer, and those of the gate and up
    projections, are laid side by side, so that one product does the work of several. The modules
    of transformers keep working: their weights become views of these.

    Args:
        language_model: a text model of transformers in evaluation mode (``embed_tokens``, ``layers``,
            ``norm``, ``rotary_emb``).
        sections: how many of the rotary frequencies follow the time, the row and the column of a
            token; None where tokens have one position.
        fused: run the small operations as kernels of :mod:`hybrid.fine.decoding.fused_kernels`, which needs Triton,
            in layers whose parts those kernels know.

    Raises:
        ModelLoadError: the model attends or rotates in a way that is not supported here.
    """

    def __init__(self, language_model: Any, *, sections: tuple[int, ...] | None, fused: bool = False) -> None:
        config = language_model.config
        _check(config, language_model.rotary_emb, sections)
        self._model = language_model
        self._fused: Any = None
        if fused and _known_parts(language_model):
            from hybrid.fine.decoding import fused_kernels as kernels

            self._fused = kernels
        with torch.no_grad():
            self._layers = [_side_by_side(layer) for layer in language_model.layers]
        first = language_model.layers[0].self_attn
        self.layers = len(self._layers)
        self.heads = int(config.num_key_value_heads)
        self.group = int(config.num_attention_heads) // self.heads
        self.width = int(first.head_dim)
        self.scale = float(first.scaling)
        weight = language_model.embed_tokens.weight
        self.dtype: torch.dtype = weight.dtype
        self.device: torch.device = weight.device
        self._frequencies: Tensor = language_model.rotary_emb.inv_freq.to(device=self.device, dtype=torch.float32)
        self._rotary_scale = float(language_model.rotary_emb.attention_scaling)
        self._axes: Tensor | None = None
        if sections is not None:
            axes = [axis for axis, count in enumerate(sections) for _ in range(count)]
            self._axes = torch.tensor(axes, device=self.device)

    @property
    def bytes_per_token(self) -> int:
        """Memory of the keys and values of one token in all layers."""
        return 2 * self.layers * self.heads * self.width * self.dtype.itemsize

    def embed(self, ids: Tensor) -> Tensor:
        """int64 [T] -> [T, hidden]."""
        embedded: Tensor = self._model.embed_tokens(ids)
        return embedded

    def rotation(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine of tokens, [T, 1, D] each, in the model's dtype.

        Args:
            positions: int64 [3, T] or [T]; with three axes of the checkpoint and [T], all three are equal.
        """
        if positions.ndim == 2 and self._axes is not None:
            angles = positions.float()[self._axes].T * self._frequencies
        else:
            angles = positions.float()[:, None] * self._frequencies
        cosine, sine = angles.cos() * self._rotary_scale, angles.sin() * self._rotary_scale
        return (
            torch.cat([cosine, cosine], dim=-1).to(self.dtype).unsqueeze(1),
            torch.cat([sine, sine], dim=-1).to(self.dtype).unsqueeze(1),
        )

    def forward(
        self, hidden: Tensor, rotation: tuple[Tensor, Tensor], attend: Attend, *, last_queries: Tensor | None = None
    ) -> Tensor:
        """Run all layers.

        Args:
            hidden: [T, hidden].
            rotation: of these tokens, see :meth:`rotation`.
            attend: called once a layer; keeps the keys and values and mixes.
            last_queries: int64 [N]: in the last layer only these tokens are of interest; there may be none. Its keys
                and values are made for all, its output for these alone, and ``attend`` gets their queries.

        Returns:
            [T, hidden] or [N, hidden], after the last norm.
        """
        change: Tensor | None = None
        for number, layer in enumerate(self._layers):
            hidden, normed = self._add_norm(hidden, change, layer.before_attention)
            query, key, value = self._project(layer, normed, rotation)
            if last_queries is not None and number == self.layers - 1:
                query, hidden = query[last_queries], hidden[last_queries]
            change = layer.output(attend(number, query, key, value).flatten(1))
            hidden, normed = self._add_norm(hidden, change, layer.before_mlp)
            change = self._mlp(layer, normed)
        return self._add_norm(hidden, change, self._model.norm)[1]

    def _add_norm(self, hidden: Tensor, change: Tensor | None, norm: Any) -> tuple[Tensor, Tensor]:
        """The states with what the last part of a layer adds, and their norm."""
        if self._fused is not None:
            added, normed = self._fused.add_norm(hidden, change, norm.weight, epsilon=norm.variance_epsilon)
            return added, normed
        added = hidden if change is None else hidden + change
        return added, norm(added)

    def _project(self, layer: _Layer, normed: Tensor, rotation: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries [T, K, G, D] and keys [T, K, D], and values [T, K, D]."""
        joined = functional.linear(normed, layer.qkv_weight, layer.qkv_bias).view(len(normed), -1, self.width)
        queries = self.heads * self.group
        if self._fused is not None:
            self._fused.rotate_inplace(joined, rotation, heads=queries + self.heads)
            rotated = joined[:, : queries + self.heads]
        else:
            rotated = _rotate(joined[:, : queries + self.heads], rotation)
        query = rotated[:, :queries].view(len(normed), self.heads, self.group, self.width)
        return query, rotated[:, queries:], joined[:, queries + self.heads :]

    def _mlp(self, layer: _Layer, hidden: Tensor) -> Tensor:
        if layer.gate_up is None:
            mixed: Tensor = layer.mlp(hidden[None])[0]
            return mixed
        joined = functional.linear(hidden, layer.gate_up)
        if self._fused is not None:
            gated = self._fused.gate(joined)
        else:
            opening, passing = joined.chunk(2, dim=-1)
            gated = layer.activation(opening) * passing
        result: Tensor = layer.down(gated)
        return result


def _rotate(states: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary embedding in the model's dtype, as transformers does it for text."""
    cosine, sine = rotation
    left, right = states.chunk(2, dim=-1)
    return states * cosine + torch.cat([-right, left], dim=-1) * sine


def _known_parts(language_model: Any) -> bool:
    """Whether the norms are root mean square norms and the gates SiLU, and heads are as wide as the kernels need."""
    layer = language_model.layers[0]
    norms = (layer.input_layernorm, layer.post_attention_layernorm, language_model.norm)
    width = int(layer.self_attn.head_dim)
    return (
        all(hasattr(norm, "variance_epsilon") and norm.weight is not None for norm in norms)
        and hasattr(layer.mlp, "act_fn")
        and language_model.config.hidden_act == "silu"
        and width & (width - 1) == 0
    )


def _side_by_side(layer: Any) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    weight, bias = _join(attention.q_proj, attention.k_proj, attention.v_proj)
    gate_up, gate_bias = None, None
    if all(hasattr(mlp, part) for part in ("gate_proj", "up_proj", "down_proj", "act_fn")):
        gate_up, gate_bias = _join(mlp.gate_proj, mlp.up_proj)
    return _Layer(
        before_attention=layer.input_layernorm,
        qkv_weight=weight,
        qkv_bias=bias,
        output=attention.o_proj,
        before_mlp=layer.post_attention_layernorm,
        gate_up=gate_up if gate_bias is None else None,
        down=getattr(mlp, "down_proj", None),
        activation=getattr(mlp, "act_fn", None),
        mlp=mlp,
    )


def _join(*linears: Any) -> tuple[Tensor, Tensor | None]:
    """The weights and biases of several linear layers in one tensor each, which the layers then view."""
    sizes = [linear.weight.shape[0] for linear in linears]
    weight = _beside([linear.weight.data for linear in linears])
    bias = None if linears[0].bias is None else _beside([linear.bias.data for linear in linears])
    for number, part in enumerate(torch.split(weight, sizes)):
        linears[number].weight = torch.nn.Parameter(part, requires_grad=False)
    for number, part in enumerate(() if bias is None else torch.split(bias, sizes)):
        linears[number].bias = torch.nn.Parameter(part, requires_grad=False)
    return weight, bias


def _beside(parts: list[Tensor]) -> Tensor:
    """Tensors of equal further sizes in one; no copy where they lie one behind another, as another stack left them."""
    first, starts = parts[0], [part.data_ptr() for part in parts]
    ends = [part.data_ptr() + part.nbytes for part in parts]
    storages = {part.untyped_storage().data_ptr() for part in parts}
    if len(storages) == 1 and starts[1:] == ends[:-1] and all(part.is_contiguous() for part in parts):
        rows = sum(len(part) for part in parts)
        return first.as_strided((rows, *first.shape[1:]), first.stride())
    return torch.cat(parts)


def _check(config: Any, rotary: Any, sections: tuple[int, ...] | None) -> None:
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        raise ModelLoadError(
            "the checkpoint's config.json asks for sliding window attention (use_sliding_window), "
            "which this version does not follow"
        )
    if rotary.rope_type in ("dynamic", "longrope"):
        raise ModelLoadError(
            f"the checkpoint's rotary positions are of the type {rotary.rope_type!r}, which depends on the length of "
            "the prompt; this version does not follow that"
        )
    if sections is not None and (len(sections) != 3 or sum(sections) != len(rotary.inv_freq)):
        raise ModelLoadError(
            f"mrope_section of the checkpoint is {list(sections)}; it must be three numbers whose sum is "
            f"{len(rotary.inv_freq)}"
        )
