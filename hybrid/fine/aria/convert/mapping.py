"""How the tensors of the native checkpoint are made from those of the published one.

The names on the native side are those that transformers 4.52 to 5.23 all load; the order of the
halves of ``fc1`` (gate, then up) and every other entry was checked against outputs of the published
code (tests/fine/aria).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hybrid.errors import ModelLoadError
from hybrid.fine.aria.convert.config import PATCH, AriaSizes
from hybrid.fine.aria.convert.source import BITS, RawArray, TensorInfo, TensorSource

__all__ = ["NativeTensor", "plan_tensors"]

Step = Literal["copy", "experts_in", "experts_out", "ones", "zeros"]

_VISION, _VISION_NEW = "vision_tower.vision_model.", "model.vision_tower."
_PROJECTOR, _PROJECTOR_NEW = "multi_modal_projector.", "model.multi_modal_projector."
_TEXT, _TEXT_NEW = "language_model.model.", "model.language_model."

_RENAMED = {
    "cross_attn.ln_kv.weight": "cross_attn.layer_norm_kv.weight",
    "cross_attn.ln_kv.bias": "cross_attn.layer_norm_kv.bias",
    "ln_ffn.weight": "layer_norm.weight",
    "ln_ffn.bias": "layer_norm.bias",
    "ffn.linear_in.weight": "feed_forward.linear_in.weight",
    "ffn.linear_out.weight": "feed_forward.linear_out.weight",
}

# Buffers that some versions of the published code wrote; they are computed anew.
_COMPUTED = (".inv_freq", ".position_ids")


@dataclass(frozen=True, slots=True)
class NativeTensor:
    """One tensor to be written.

    Attributes:
        name: on the native side.
        shape: its sides.
        sources: the tensors that it is made of: one to copy; for ``experts_in`` gate and up of each
            expert in turn; for ``experts_out`` down of each expert; for a constant none, once it is checked.
        source_shapes: their shapes, which repeat over them.
        step: how it is made.
        dtype: see :data:`hybrid.fine.aria.convert.source.BITS`; that of its sources, once they are checked.
    """

    name: str
    shape: tuple[int, ...]
    sources: tuple[str, ...]
    source_shapes: tuple[tuple[int, ...], ...]
    step: Step = "copy"
    dtype: str = ""

    @property
    def size(self) -> int:
        """In bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(BITS[self.dtype]).itemsize

    def pieces(self, source: TensorSource) -> Iterator[RawArray]:
        """The tensor's bits from front to back, in pieces: experts come one by one."""
        if self.step == "copy":
            yield source.read(self.sources[0])
        elif self.step == "experts_in":
            for gate, up in zip(self.sources[::2], self.sources[1::2], strict=True):
                yield np.concatenate([source.read(gate).T, source.read(up).T], axis=1)
        elif self.step == "experts_out":
            for down in self.sources:
                yield np.ascontiguousarray(source.read(down).T)
        else:
            bits = 0 if self.step == "zeros" else _ONE[self.dtype]
            yield np.full(self.shape, bits, dtype=BITS[self.dtype])


_ONE = {"BF16": 0x3F80, "F16": 0x3C00, "F32": 0x3F800000}


def plan_tensors(tensors: Mapping[str, TensorInfo], sizes: AriaSizes) -> list[NativeTensor]:
    """Everything that is to be written, in order.

    Raises:
        ModelLoadError: a tensor is missing, superfluous, or of a wrong shape or precision.
    """
    plan = [*_vision(sizes), *_projector(sizes), *_text(sizes)]
    made = [_check(entry, tensors) for entry in plan]
    used = {name for entry in made for name in entry.sources}
    superfluous = sorted(name for name in tensors if name not in used and not name.endswith(_COMPUTED))
    if superfluous:
        raise ModelLoadError(
            f"the checkpoint holds {len(superfluous)} tensors that Aria does not have, first {superfluous[0]}"
        )
    return made


def _check(planned: NativeTensor, tensors: Mapping[str, TensorInfo]) -> NativeTensor:
    absent = [name for name in planned.sources if name not in tensors]
    if absent:
        raise ModelLoadError(
            f"the weights lack {absent[0]}, of which {planned.name} is made; "
            "the checkpoint is incomplete, download it again"
        )
    for index, name in enumerate(planned.sources):
        shape = planned.source_shapes[index % len(planned.source_shapes)]
        if tensors[name].shape != shape:
            raise ModelLoadError(
                f"{name} is {list(tensors[name].shape)}; by the other tensors it must be {list(shape)}"
            )
    precisions = sorted({tensors[name].dtype for name in planned.sources})
    if len(precisions) != 1 or precisions[0] not in BITS:
        raise ModelLoadError(
            f"{planned.sources[0]} is {' and '.join(precisions)}; weights are expected as {', '.join(BITS)}"
        )
    # A constant names a neighbour only for its precision.
    constant = planned.step in ("ones", "zeros")
    return replace(planned, dtype=precisions[0], sources=() if constant else planned.sources)


def _copies(
    before: str, after: str, shapes: Mapping[str, tuple[int, ...]], renamed: Mapping[str, str] | None = None
) -> Iterator[NativeTensor]:
    for name, shape in shapes.items():
        yield NativeTensor(after + (renamed or {}).get(name, name), shape, (before + name,), (shape,))


def _with_bias(names: Sequence[str], out: int, into: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{part}": shape for name in names for part, shape in (("weight", (out, into)), ("bias", (out,)))}


def _norm(*names: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{part}": (width,) for name in names for part in ("weight", "bias")}


def _vision(sizes: AriaSizes) -> Iterator[NativeTensor]:
    width, inner = sizes.vision_hidden, sizes.vision_width
    embeddings = {
        "embeddings.patch_embedding.weight": (width, 3, PATCH, PATCH),
        "embeddings.patch_embedding.bias": (width,),
        "embeddings.position_embedding.weight": (sizes.position_side**2, width),
    }
    yield from _copies(_VISION, _VISION_NEW, embeddings)
    layer = {
        **_with_bias([f"self_attn.{part}_proj" for part in ("q", "k", "v", "out")], width, width),
        **_norm("layer_norm1", "layer_norm2", width=width),
        **_with_bias(["mlp.fc1"], inner, width),
        **_with_bias(["mlp.fc2"], width, inner),
    }
    for number in range(sizes.vision_layers):
        block = f"encoder.layers.{number}."
        yield from _copies(_VISION + block, _VISION_NEW + block, layer)
    # The published encoder has no last norm and transformers' has one, whose output Aria does not
    # use. Ones and zeros do the least harm in a version that does.
    like = (_VISION + "embeddings.patch_embedding.bias",)
    yield NativeTensor(_VISION_NEW + "post_layernorm.weight", (width,), like, ((width,),), "ones")
    yield NativeTensor(_VISION_NEW + "post_layernorm.bias", (width,), like, ((width,),), "zeros")


def _projector(sizes: AriaSizes) -> Iterator[NativeTensor]:
    width, out = sizes.vision_hidden, sizes.hidden
    shapes: dict[str, tuple[int, ...]] = {
        "query": (sizes.queries, width),
        "cross_attn.q_proj.weight": (width, width),
        "cross_attn.k_proj.weight": (width, width),
        "cross_attn.v_proj.weight": (width, width),
        "cross_attn.multihead_attn.in_proj_weight": (3 * width, width),
        "cross_attn.multihead_attn.in_proj_bias": (3 * width,),
        **_with_bias(["cross_attn.multihead_attn.out_proj", "cross_attn.linear"], width, width),
        **_norm("cross_attn.layer_norm", "cross_attn.ln_kv", "ln_ffn", width=width),
        "ffn.linear_in.weight": (out, width),
        "ffn.linear_out.weight": (out, out),
    }
    yield from _copies(_PROJECTOR, _PROJECTOR_NEW, shapes, _RENAMED)


def _text(sizes: AriaSizes) -> Iterator[NativeTensor]:
    width, inner, shared = sizes.hidden, sizes.expert_width, sizes.expert_width * sizes.shared_experts
    yield from _copies(_TEXT, _TEXT_NEW, {"embed_tokens.weight": (sizes.vocabulary, width)})
    for number in range(sizes.layers):
        yield from _text_layer(f"layers.{number}.", sizes, width=width, inner=inner, shared=shared)
    yield from _copies(_TEXT, _TEXT_NEW, {"norm.weight": (width,)})
    yield from _copies("language_model.", "", {"lm_head.weight": (sizes.vocabulary, width)})


def _text_layer(block: str, sizes: AriaSizes, *, width: int, inner: int, shared: int) -> Iterator[NativeTensor]:
    before, after = _TEXT + block, _TEXT_NEW + block
    shapes: dict[str, tuple[int, ...]] = {
        **{f"self_attn.{part}_proj.weight": (width, width) for part in "qo"},
        **{f"self_attn.{part}_proj.weight": (sizes.key_width, width) for part in "kv"},
        "input_layernorm.weight": (width,),
        "post_attention_layernorm.weight": (width,),
        "mlp.shared_experts.gate_proj.weight": (shared, width),
        "mlp.shared_experts.up_proj.weight": (shared, width),
        "mlp.shared_experts.down_proj.weight": (width, shared),
        "mlp.gate.weight": (sizes.experts, width),
    }
    yield from _copies(before, after, shapes, {"mlp.gate.weight": "mlp.router.weight"})
    experts = [f"{before}mlp.experts.{number}." for number in range(sizes.experts)]
    yield NativeTensor(
        after + "mlp.experts.fc1.weight",
        (sizes.experts, width, 2 * inner),
        tuple(f"{expert}{part}_proj.weight" for expert in experts for part in ("gate", "up")),
        ((inner, width),),
        "experts_in",
    )
    yield NativeTensor(
        after + "mlp.experts.fc2.weight",
        (sizes.experts, inner, width),
        tuple(f"{expert}down_proj.weight" for expert in experts),
        ((width, inner),),
        "experts_out",
    )
