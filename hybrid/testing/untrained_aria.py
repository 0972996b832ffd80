"""An UNTRAINED checkpoint in the published layout of GenS on Aria, of any size, with random weights.

``hybrid convert-gens`` reads it, so that conversion, loading and replies can be tried without a download of 51 GB. Its
replies are noise. Everything in it follows from the seed, bytes included.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid.runtime import ensure_torchvision
from hybrid.testing.untrained_gens import scale_of, write_json

if TYPE_CHECKING:
    import torch

__all__ = ["ARIA_SIZES", "TINY_SIZES", "UntrainedSizes", "make_untrained_aria", "published_shapes"]

_PATCH = 14
_BLOCK = 2**20

# The index of each is its id; 9 is that of a frame's features in the published checkpoint.
_SPECIAL = (
    "<unk>",
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<fim_prefix>",
    "<fim_suffix>",
    "<|endoftext|>",
    "<pad>",
    "<|img|>",
)

_LINES = (
    "user assistant",
    "Question: What happens after the door opens? Question: Which colour is the car?",
    "Please identify the video frames most relevant to the given question and provide",
    "their timestamps in seconds along with a relevance score. The score should be on a",
    'scale from 1 to 5. Return the output strictly in the following JSON format: {"timestamp": score, ...}.',
    '{"11-12": 5, "16-21": 4, "28-30": 4, "33": 2} {"0": 1, "4-9": 3}',
    "The person in the kitchen cuts the bread before the water boils.",
)

_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class UntrainedSizes:
    """The sizes of a checkpoint; those of the vision encoder have ``vision`` in their names.

    Attributes:
        vocabulary: rows of embeddings; at least as many as the small tokenizer that comes with it has.
        hidden, layers, heads: of the language model.
        experts, chosen, expert_width, shared_experts: experts of a layer, how many a token goes
            through, their inner width, and how many such widths the shared one has.
        vision_hidden, vision_layers, vision_heads, vision_width: of the vision encoder.
        image_size: side of the largest picture that it knows positions for: 490 or 980.
        tokens_per_image: the resampler's rule: a number, or least and largest.
    """

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    experts: int
    chosen: int
    expert_width: int
    shared_experts: int
    vision_hidden: int
    vision_layers: int
    vision_heads: int
    vision_width: int
    image_size: int
    tokens_per_image: int | tuple[int, int]


TINY_SIZES = UntrainedSizes(
    vocabulary=448,
    hidden=48,
    layers=3,
    heads=4,
    experts=8,
    chosen=3,
    expert_width=20,
    shared_experts=2,
    vision_hidden=32,
    vision_layers=2,
    vision_heads=4,
    vision_width=64,
    image_size=980,
    tokens_per_image=(16, 24),
)

ARIA_SIZES = UntrainedSizes(
    vocabulary=100352,
    hidden=2560,
    layers=28,
    heads=20,
    experts=64,
    chosen=6,
    expert_width=1664,
    shared_experts=2,
    vision_hidden=1152,
    vision_layers=27,
    vision_heads=16,
    vision_width=4304,
    image_size=980,
    tokens_per_image=(128, 256),
)
"""Those of Aria itself."""


Shapes = Iterator[tuple[str, tuple[int, ...]]]


def published_shapes(sizes: UntrainedSizes) -> Shapes:
    """Names and shapes of all tensors, in the layout of the published checkpoint."""
    hidden, width = sizes.hidden, sizes.vision_hidden
    vision, projector = "vision_tower.vision_model.", "multi_modal_projector."
    yield from _affine(vision + "embeddings.patch_embedding", width, 3, _PATCH, _PATCH)
    yield vision + "embeddings.position_embedding.weight", ((sizes.image_size // _PATCH) ** 2, width)
    for number in range(sizes.vision_layers):
        layer = f"{vision}encoder.layers.{number}."
        for part in ("q", "k", "v", "out"):
            yield from _affine(f"{layer}self_attn.{part}_proj", width, width)
        yield from _affine(layer + "mlp.fc1", sizes.vision_width, width)
        yield from _affine(layer + "mlp.fc2", width, sizes.vision_width)
        yield from _affine(layer + "layer_norm1", width)
        yield from _affine(layer + "layer_norm2", width)
    rule = sizes.tokens_per_image
    yield projector + "query", (rule if isinstance(rule, int) else max(rule), width)
    for part in "qkv":
        yield f"{projector}cross_attn.{part}_proj.weight", (width, width)
    yield projector + "cross_attn.multihead_attn.in_proj_weight", (3 * width, width)
    yield projector + "cross_attn.multihead_attn.in_proj_bias", (3 * width,)
    for name in ("cross_attn.multihead_attn.out_proj", "cross_attn.linear"):
        yield from _affine(projector + name, width, width)
    for name in ("cross_attn.layer_norm", "cross_attn.ln_kv", "ln_ffn"):
        yield from _affine(projector + name, width)
    yield projector + "ffn.linear_in.weight", (hidden, width)
    yield projector + "ffn.linear_out.weight", (hidden, hidden)
    yield "language_model.model.embed_tokens.weight", (sizes.vocabulary, hidden)
    for number in range(sizes.layers):
        layer = f"language_model.model.layers.{number}."
        for part in "qkvo":
            yield f"{layer}self_attn.{part}_proj.weight", (hidden, hidden)
        yield layer + "input_layernorm.weight", (hidden,)
        yield layer + "post_attention_layernorm.weight", (hidden,)
        yield layer + "mlp.gate.weight", (sizes.experts, hidden)
        yield from _gated(layer + "mlp.shared_experts.", hidden, sizes.expert_width * sizes.shared_experts)
        for expert in range(sizes.experts):
            yield from _gated(f"{layer}mlp.experts.{expert}.", hidden, sizes.expert_width)
    yield "language_model.model.norm.weight", (hidden,)
    yield "language_model.lm_head.weight", (sizes.vocabulary, hidden)


def _affine(name: str, *shape: int) -> Shapes:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _gated(prefix: str, hidden: int, inner: int) -> Shapes:
    yield prefix + "gate_proj.weight", (inner, hidden)
    yield prefix + "up_proj.weight", (inner, hidden)
    yield prefix + "down_proj.weight", (hidden, inner)


def make_untrained_aria(
    folder: str | Path,
    *,
    sizes: UntrainedSizes = TINY_SIZES,
    norm_topk_prob: bool = True,
    dtype: str = "float32",
    shard_bytes: int = 10**9,
    seed: int = 0,
) -> Path:
    """Write a checkpoint with random weights in the published layout (model type ``yi_vl``).

    Args:
        folder: where to; made if need be. Files of the same names are replaced.
        sizes: of the model.
        norm_topk_prob: whether the weights of a token's experts sum to 1.
        dtype: ``float32`` or ``bfloat16``.
        shard_bytes: the largest file of weights.
        seed: decides the weights.

    Returns:
        The folder, to be given to ``hybrid convert-gens``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write_weights(folder, sizes, dtype=dtype, shard_bytes=shard_bytes, seed=seed)
    _make_tokenizer().save_pretrained(folder)
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 8}
    write_json(folder / "config.json", {**_config(sizes, norm_topk_prob, dtype), **ids})
    write_json(folder / "generation_config.json", ids)
    return folder


def _config(sizes: UntrainedSizes, norm_topk_prob: bool, dtype: str) -> dict[str, Any]:
    rule = sizes.tokens_per_image
    return {
        "architectures": ["YiVLForConditionalGeneration"],
        "image_token_index": _SPECIAL.index("<|img|>"),
        "mm_projector": "resampler",
        "model_type": "yi_vl",
        "text_config": {
            "first_k_dense_replace": 0,
            "hidden_size": sizes.hidden,
            "max_position_embeddings": 65536,
            "model_type": "deepseek",
            "moe_intermediate_size": sizes.expert_width,
            "moe_layer_freq": 1,
            "n_routed_experts": sizes.experts,
            "n_shared_experts": sizes.shared_experts,
            "norm_topk_prob": norm_topk_prob,
            "num_attention_heads": sizes.heads,
            "num_experts_per_tok": sizes.chosen,
            "num_hidden_layers": sizes.layers,
            "num_key_value_heads": sizes.heads,
            "rope_theta": 5000000.0,
            "vocab_size": sizes.vocabulary,
        },
        "tokens_per_image": rule if isinstance(rule, int) else list(rule),
        "torch_dtype": dtype,
        "vision_config": {
            "hidden_size": sizes.vision_hidden,
            "image_size": sizes.image_size,
            "intermediate_size": sizes.vision_width,
            "model_type": "custom_siglip_vision_model",
            "num_attention_heads": sizes.vision_heads,
            "num_hidden_layers": sizes.vision_layers,
            "patch_size": _PATCH,
        },
        "vision_feature_select_strategy": "full",
    }


def _write_weights(folder: Path, sizes: UntrainedSizes, *, dtype: str, shard_bytes: int, seed: int) -> None:
    import torch
    from safetensors.torch import save_file

    kind = torch.float32 if dtype == "float32" else torch.bfloat16
    shards: list[list[tuple[str, tuple[int, ...]]]] = [[]]
    written = 0
    for name, shape in published_shapes(sizes):
        size = math.prod(shape) * kind.itemsize
        if shards[-1] and written + size > shard_bytes:
            shards.append([])
            written = 0
        shards[-1].append((name, shape))
        written += size
    generator = torch.Generator().manual_seed(seed)
    files: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        tensors = {name: _draw(name, shape, kind, generator) for name, shape in shard}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        files.update(dict.fromkeys(tensors, file))
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": files})


def _draw(name: str, shape: tuple[int, ...], kind: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    """Random weights, such that different frames and questions give different replies."""
    import torch

    if "norm" in name or ".ln_" in name:
        return torch.zeros(shape, dtype=kind) if name.endswith("bias") else torch.ones(shape, dtype=kind)
    count = math.prod(shape)
    # Large tensors repeat a block: drawing billions of numbers would take longer than all the rest.
    block = torch.randn(min(count, _BLOCK), generator=generator, dtype=kind).mul_(scale_of(name, shape))
    return block.repeat(-(-count // len(block)))[:count].reshape(shape).contiguous()


def _make_tokenizer() -> Any:
    """A byte-level BPE with ChatML's special tokens and those of a frame."""
    ensure_torchvision()
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    learner = Tokenizer(BPE())
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    learner.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=440,
        min_frequency=2,
        show_progress=False,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    learner.train_from_iterator(_LINES, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=learner, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(_SPECIAL[3:])})
    tokenizer.chat_template = _CHAT_TEMPLATE
    return tokenizer
