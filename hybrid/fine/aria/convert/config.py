"""From the published ``config.json`` (model type ``yi_vl``) to one of transformers' own Aria.

Everything that transformers' Aria cannot represent is refused here, each with its own message.
Sizes are taken from the tensors; where the file states one too, both must agree. What the file
leaves out has the value that the published code's classes give it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isqrt
from typing import Any

from hybrid.errors import ModelLoadError
from hybrid.fine.aria.convert.source import TensorInfo

__all__ = ["FRAME_PATCHES", "FRAME_SIDE", "PATCH", "AriaSizes", "check_settings", "measure", "native_config"]

FRAME_SIDE = 490
"""Pixels per side of a frame as the vision encoder sees it."""
PATCH = 14
FRAME_PATCHES = (FRAME_SIDE // PATCH) ** 2

_REMEDY = "transformers' Aria cannot run this checkpoint"
_LAYER = "language_model.model.layers.{}."

# Setting, its value in the published class where the file leaves it out, the legal values.
_RULES: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
    ("mm_projector", "mlp", ("resampler",)),
    # "default" drops the first patch, so that 1,224 would remain.
    ("vision_feature_select_strategy", "default", ("full",)),
    ("mlp_post_norm", False, (False,)),
    ("text_config.model_type", "deepseek", ("deepseek",)),
    ("vision_config.model_type", "custom_siglip_vision_model", ("custom_siglip_vision_model",)),
    ("text_config.scoring_func", "softmax", ("softmax",)),
    ("text_config.first_k_dense_replace", 0, (0,)),
    ("text_config.moe_layer_freq", 1, (1,)),
    ("text_config.attention_bias", False, (False,)),
    ("text_config.rope_scaling", None, (None,)),
    ("text_config.hidden_act", "silu", ("silu",)),
    ("text_config.tie_word_embeddings", False, (False,)),
    ("text_config.norm_topk_prob", False, (False, True)),
)


@dataclass(frozen=True, slots=True)
class AriaSizes:
    """The sizes of a checkpoint, as its tensors have them.

    Attributes:
        vocabulary, hidden, layers: of the language model.
        experts: per layer.
        expert_width: inner width of one expert.
        shared_experts: how many expert widths the shared expert has.
        key_width: width of the keys of all heads.
        vision_hidden, vision_layers, vision_width: of the vision encoder and its inner layer.
        position_side: side of the grid of positions that the vision encoder knows, in patches.
        queries: rows of the resampler's queries.
    """

    vocabulary: int
    hidden: int
    layers: int
    experts: int
    expert_width: int
    shared_experts: int
    key_width: int
    vision_hidden: int
    vision_layers: int
    vision_width: int
    position_side: int
    queries: int


def check_settings(config: Mapping[str, Any]) -> None:
    """Refuse a ``config.json`` that is not of this kind or that transformers' Aria cannot represent.

    Raises:
        ModelLoadError: names the setting, its value and the legal ones.
    """
    _expect("model_type", config.get("model_type"), ("yi_vl",), "this is not GenS's original checkpoint")
    for name, default, legal in _RULES:
        _expect(name, _setting(config, name, default), legal)


def norm_topk_prob(config: Mapping[str, Any]) -> Any:
    """Whether the weights of a token's experts are made to sum to 1; the published class has false."""
    return _setting(config, "text_config.norm_topk_prob", False)


def _expect(name: str, value: object, legal: tuple[Any, ...], otherwise: str = _REMEDY) -> None:
    # By type too: 0 is not False, and 1 is not true.
    if not any(type(value) is type(one) and value == one for one in legal):
        raise ModelLoadError(f"config.json has {name} {value!r}; legal is {' or '.join(map(repr, legal))}; {otherwise}")


def _part(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = config.get(name)
    if not isinstance(part, Mapping):
        raise ModelLoadError(f"config.json has no {name}; download the checkpoint again")
    return part


def _setting(config: Mapping[str, Any], name: str, default: object) -> Any:
    """A setting by its path, such as ``text_config.rope_theta``."""
    part, _, key = name.rpartition(".")
    return (_part(config, part) if part else config).get(key, default)


def measure(tensors: Mapping[str, TensorInfo], config: Mapping[str, Any]) -> AriaSizes:
    """The sizes of the checkpoint, checked against those that ``config.json`` states.

    Raises:
        ModelLoadError: a tensor that tells a size is missing, or the two disagree.
    """
    mlp = _LAYER.format(0) + "mlp."
    vocabulary, hidden = _shape(tensors, "language_model.model.embed_tokens.weight", 2)
    expert_width, _ = _shape(tensors, mlp + "experts.0.gate_proj.weight", 2)
    shared_width, _ = _shape(tensors, mlp + "shared_experts.gate_proj.weight", 2)
    positions, vision_hidden = _shape(tensors, "vision_tower.vision_model.embeddings.position_embedding.weight", 2)
    _, _, patch, _ = _shape(tensors, "vision_tower.vision_model.embeddings.patch_embedding.weight", 4)
    vision_width, _ = _shape(tensors, "vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight", 2)
    side = isqrt(positions)
    if shared_width % expert_width or side * side != positions or patch != PATCH or side not in (35, 70):
        raise ModelLoadError(
            f"the weights have {positions} positions of patches of {patch} pixels, experts of width {expert_width} and "
            f"a shared one of {shared_width}; expected are 1225 or 4900 positions, patches of {PATCH} pixels, and a "
            "multiple of the experts' width"
        )
    sizes = AriaSizes(
        vocabulary=vocabulary,
        hidden=hidden,
        layers=_count(tensors, r"language_model\.model\.layers\.(\d+)\."),
        experts=_shape(tensors, mlp + "gate.weight", 2)[0],
        expert_width=expert_width,
        shared_experts=shared_width // expert_width,
        key_width=_shape(tensors, _LAYER.format(0) + "self_attn.k_proj.weight", 2)[0],
        vision_hidden=vision_hidden,
        vision_layers=_count(tensors, r"vision_tower\.vision_model\.encoder\.layers\.(\d+)\."),
        vision_width=vision_width,
        position_side=side,
        queries=_shape(tensors, "multi_modal_projector.query", 2)[0],
    )
    expected = {
        "text_config.vocab_size": sizes.vocabulary,
        "text_config.hidden_size": sizes.hidden,
        "text_config.num_hidden_layers": sizes.layers,
        "text_config.n_routed_experts": sizes.experts,
        "text_config.moe_intermediate_size": sizes.expert_width,
        "text_config.n_shared_experts": sizes.shared_experts,
        "vision_config.hidden_size": sizes.vision_hidden,
        "vision_config.num_hidden_layers": sizes.vision_layers,
        "vision_config.intermediate_size": sizes.vision_width,
        "vision_config.image_size": side * PATCH,
        "vision_config.patch_size": PATCH,
    }
    for name, size in expected.items():
        _agree(name, _setting(config, name, size), size)
    return sizes


def _shape(tensors: Mapping[str, TensorInfo], name: str, sides: int) -> tuple[int, ...]:
    if name not in tensors:
        raise ModelLoadError(f"the weights lack {name}; the checkpoint is incomplete, download it again")
    shape = tensors[name].shape
    if len(shape) != sides or 0 in shape:
        raise ModelLoadError(f"{name} is {list(shape)}; it must have {sides} sides")
    return shape


def _count(tensors: Mapping[str, TensorInfo], pattern: str) -> int:
    found = re.compile(pattern)
    return 1 + max((int(match.group(1)) for match in map(found.match, tensors) if match), default=-1)


def _agree(name: str, stated: object, measured: int) -> None:
    if stated != measured:
        raise ModelLoadError(
            f"config.json has {name} {stated!r}, the weights have {measured}; "
            "the files do not belong together, download the checkpoint again"
        )


def patch_to_query(config: Mapping[str, Any], sizes: AriaSizes) -> dict[str, int]:
    """How many of the resampler's queries a frame gets, by its number of patches (as JSON keys).

    One number means that many for every frame. A list means its least for frames of fewer patches
    than the position grid has, and its largest for others.

    Raises:
        ModelLoadError: the rule and the number of queries in the weights disagree.
    """
    rule = config.get("tokens_per_image", 128)
    numbers = rule if isinstance(rule, list) else [rule]
    if not numbers or not all(type(number) is int and number > 0 for number in numbers):
        raise ModelLoadError(f"config.json has tokens_per_image {rule!r}; legal are a whole number, or a list of them")
    _agree("tokens_per_image", max(numbers), sizes.queries)
    positions = sizes.position_side**2
    if isinstance(rule, list) and positions > FRAME_PATCHES:
        return {str(FRAME_PATCHES): min(numbers), str(positions): sizes.queries}
    return {str(FRAME_PATCHES): sizes.queries}


def native_config(config: Mapping[str, Any], sizes: AriaSizes) -> dict[str, Any]:
    """The ``config.json`` of transformers' Aria.

    ``text_config.norm_topk_prob`` is copied: transformers does not read it, this package does.

    Raises:
        ModelLoadError: a setting is missing or not legal.
    """
    heads = _whole(config, "text_config.num_attention_heads")
    theta = _above_zero(config, "text_config.rope_theta")
    chosen = _whole(config, "text_config.num_experts_per_tok")
    vision_heads = _whole(config, "vision_config.num_attention_heads")
    key_heads = _whole(config, "text_config.num_key_value_heads", heads)
    fits = not sizes.hidden % heads and not sizes.vision_hidden % vision_heads and chosen <= sizes.experts
    if not fits or sizes.key_width != key_heads * (sizes.hidden // heads):
        raise ModelLoadError(
            f"config.json has {heads} heads for a width of {sizes.hidden}, {key_heads} for keys of {sizes.key_width}, "
            f"{vision_heads} for the vision encoder's {sizes.vision_hidden}, and {chosen} of {sizes.experts} experts "
            "per token; these do not fit"
        )
    ids = _special_ids(config)
    text = {
        "model_type": "aria_text",
        "attention_bias": False,
        "hidden_act": "silu",
        "hidden_size": sizes.hidden,
        # Aria calls the width of one expert so; the published file's intermediate_size is of
        # dense layers, of which there are none.
        "intermediate_size": sizes.expert_width,
        "max_position_embeddings": _whole(config, "text_config.max_position_embeddings"),
        "mlp_bias": False,
        "moe_num_experts": sizes.experts,
        "moe_num_shared_experts": sizes.shared_experts,
        "moe_topk": chosen,
        "norm_topk_prob": norm_topk_prob(config),
        "num_attention_heads": heads,
        "num_hidden_layers": sizes.layers,
        "num_key_value_heads": key_heads,
        "rms_norm_eps": _above_zero(config, "text_config.rms_norm_eps", 1e-6),
        "rope_parameters": {"rope_theta": theta, "rope_type": "default"},
        "rope_theta": theta,
        "tie_word_embeddings": False,
        "vocab_size": sizes.vocabulary,
        **ids,
    }
    return {
        "architectures": ["AriaForConditionalGeneration"],
        "model_type": "aria",
        **_precision_and_image(config, sizes),
        "projector_patch_to_query_dict": patch_to_query(config, sizes),
        "tie_word_embeddings": False,
        "vision_feature_layer": -1,
        **ids,
        "text_config": text,
        "vision_config": _native_vision(config, sizes, vision_heads),
    }


def _native_vision(config: Mapping[str, Any], sizes: AriaSizes, heads: int) -> dict[str, Any]:
    return {
        "model_type": "idefics3_vision",
        "hidden_act": _setting(config, "vision_config.hidden_act", "gelu_pytorch_tanh"),
        "hidden_size": sizes.vision_hidden,
        "image_size": sizes.position_side * PATCH,
        "intermediate_size": sizes.vision_width,
        "layer_norm_eps": _above_zero(config, "vision_config.layer_norm_eps", 1e-6),
        "num_attention_heads": heads,
        "num_channels": 3,
        "num_hidden_layers": sizes.vision_layers,
        "patch_size": PATCH,
    }


def _special_ids(config: Mapping[str, Any]) -> dict[str, Any]:
    """The ids that begin and end a text and fill it up, as far as they are set."""
    text = _part(config, "text_config")
    ids = {key: config.get(key, text.get(key)) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    ids = {key: value for key, value in ids.items() if value is not None}
    for key, value in ids.items():
        if not all(type(number) is int for number in (value if isinstance(value, list) else [value])):
            raise ModelLoadError(f"config.json has {key} {value!r}; legal are a whole number, or a list of them")
    return ids


def _precision_and_image(config: Mapping[str, Any], sizes: AriaSizes) -> dict[str, Any]:
    precision = config.get("torch_dtype", config.get("dtype")) or "bfloat16"
    _expect("torch_dtype", precision, ("bfloat16", "float16", "float32"))
    image = config.get("image_token_index", 9)
    if type(image) is not int or not 0 <= image < sizes.vocabulary:
        raise ModelLoadError(
            f"config.json has image_token_index {image!r}; it must be a token, from 0 to {sizes.vocabulary - 1}"
        )
    return {"dtype": precision, "image_token_index": image}


def _above_zero(config: Mapping[str, Any], name: str, default: float | None = None) -> Any:
    value = _setting(config, name, None)
    value = default if value is None else value
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < inf:
        raise ModelLoadError(f"config.json has {name} {value!r}; it is needed, as a number above 0")
    return value


def _whole(config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = _above_zero(config, name, default)
    if not isinstance(value, int):
        raise ModelLoadError(f"config.json has {name} {value!r}; it must be a whole number")
    return value
