"""The tiny GenS before it has learned anything: Qwen2.5-VL's architecture scaled down, and its tokenizer.

Every frame is one visual token, and whole numbers are single tokens: the fewer tokens a frame
takes, the cheaper a window of 256 of them is to learn from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.world.questions import KINDS, WORDINGS
from bench.world.things import COLOURS, SHAPES
from bench.world.training.pictures import PICTURE_SIDE
from hybrid.fine.prompt import PROMPT_FILE, PromptSpec
from hybrid.fine.qwen.preprocess import PatchRule
from hybrid.runtime import ensure_torchvision
from hybrid.testing.untrained_gens import SPECIAL_TOKENS, learn_bpe, visual_token_ids

__all__ = [
    "LARGEST_LABEL",
    "PATCH_RULE",
    "PROMPT",
    "make_model",
    "make_tokenizer",
    "name_what_is_seen",
    "save_checkpoint",
]

LARGEST_LABEL: Final = 255
PATCH_RULE: Final = PatchRule(mean=(0.4, 0.4, 0.4), std=(0.25, 0.25, 0.25), patch=16, merge=4)

PROMPT: Final = PromptSpec(
    head="<|im_start|>user\n",
    frame_label="{index}",
    frame_end="",
    question="\nQuestion: {question}",
    tail="<|im_end|>\n<|im_start|>assistant\n",
    frame_size=(PICTURE_SIDE, PICTURE_SIDE),
    max_new_tokens=200,
)
"""Short on purpose: this model has only ever seen this one instruction, so it need not be told."""

# Qwen's rule for splitting text, but numbers of up to three digits stay whole.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
_WIDTH = 128
_HEAD = 32
_ROPE_THETA = 1e6
_SHARPNESS = 12.0
_RESIDUAL = 0.2
_MATCHING_LAYER: Final = 2
_MATCH_STRENGTH: Final = 1.3


def make_tokenizer() -> Any:
    """A byte-level BPE that knows the words of the world and the numbers 0 to 255 as single tokens.

    Any other text is spelt in smaller pieces.
    """
    from transformers import PreTrainedTokenizerFast

    tokenizer = learn_bpe(_known_text(), split=_SPLIT, vocab_size=2000, min_frequency=1)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=[text for text in SPECIAL_TOKENS if text not in ("<|im_end|>", "<|endoftext|>")],
        clean_up_tokenization_spaces=False,
    )


def _known_text() -> list[str]:
    names = [f" {word} {word}" for word in (*COLOURS, *SHAPES)]
    wordings = [wording.format(a="red star", b="blue ring") for kind in KINDS for wording in WORDINGS[kind]]
    numbers = [str(number) for number in range(LARGEST_LABEL + 1)]
    replies = ['{"11-12": 5, "16-21": 4, "33": 2}', "{}"]
    prompt = [PROMPT.head, PROMPT.question, PROMPT.tail, "user", "assistant", "Question"]
    captions = [": 12 nothing.", ": 12 red star, blue ring since 11 after red star, blue ring 7-10."]
    return names + wordings + numbers + replies * 50 + prompt + captions


def make_model(tokenizer: Any) -> Any:
    """An untrained ``Qwen2_5_VLForConditionalGeneration`` of about 3.2 million parameters."""
    ensure_torchvision()
    import torch
    from transformers import GenerationConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    ids = {text: tokenizer.convert_tokens_to_ids(text) for text in SPECIAL_TOKENS}
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": _WIDTH,
        "intermediate_size": 384,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "use_sliding_window": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": _ROPE_THETA, "mrope_section": [4, 6, 6]},
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "initializer_range": 0.08,
        "tie_word_embeddings": True,
    }
    vision = {
        "depth": 4,
        "hidden_size": 80,
        "intermediate_size": 240,
        "num_heads": 4,
        "out_hidden_size": _WIDTH,
        "patch_size": PATCH_RULE.patch,
        "spatial_merge_size": PATCH_RULE.merge,
        "temporal_patch_size": PATCH_RULE.temporal,
        "fullatt_block_indexes": [0, 1, 2, 3],
        "window_size": PICTURE_SIDE,
        "tokens_per_second": 1,
        "initializer_range": 0.05,
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        **visual_token_ids(ids),
        tie_word_embeddings=True,
        initializer_range=0.08,
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    first, *others = model.model.language_model.layers
    _look_back(first.self_attn)
    for layer in others:
        _look_for_the_like(layer.self_attn)
    with torch.no_grad():
        for layer in (first, *others):
            # What is seen and what is read shall pass through all layers; each adds a little to it.
            layer.self_attn.o_proj.weight.mul_(_RESIDUAL)
            layer.mlp.down_proj.weight.mul_(_RESIDUAL)
    copy_labels(first.self_attn, others[-1].self_attn)
    end, start = ids["<|im_end|>"], ids["<|endoftext|>"]
    model.generation_config = GenerationConfig(bos_token_id=start, pad_token_id=start, eos_token_id=[end, start])
    return model


def _look_back(attention: Any) -> None:
    """Let each head of a layer begin by looking a fixed number of tokens back.

    From a frame's token its label is two tokens back and the frame before it four. Written into the
    biases of query and key, which turn with the position: their product is largest where the turn of
    the query matches the distance. Without it, the copying of labels takes thousands of steps to appear.
    """
    import torch

    frequencies = 1.0 / _ROPE_THETA ** (torch.arange(0, _HEAD, 2) / _HEAD)
    strength = torch.where(frequencies > 0.05, (_SHARPNESS * _HEAD**0.5) ** 0.5, 0.0)
    with torch.no_grad():
        for head, distance in enumerate((1, 2, 3, 4)):
            rows = slice(head * _HEAD, (head + 1) * _HEAD)
            # The two halves of a head turn together, as cosine and sine.
            attention.k_proj.bias[rows] = torch.cat([strength, torch.zeros_like(strength)])
            turn = -distance * frequencies
            attention.q_proj.bias[rows] = torch.cat([strength * turn.cos(), strength * turn.sin()])


def copy_labels(first: Any, last: Any) -> None:
    """Let labels begin to be carried along: to the frame's token, and from there to where a reply is written.

    The head of the first layer that looks two tokens back brings a frame its label, in a part of the
    space; the first head of the last layer passes that part on, to be read as the next token. So
    what looks at the right frame writes the right label, and only the looking is left to learn.
    """
    import torch

    part = torch.linalg.qr(torch.randn(first.v_proj.weight.shape[1], _HEAD)).Q.T
    with torch.no_grad():
        for attention, head, strength in ((first, 1, 0.15), (last, 0, 0.4)):
            rows = slice(head * _HEAD, (head + 1) * _HEAD)
            attention.v_proj.weight[rows] = part
            attention.v_proj.bias[rows] = 0.0
            attention.o_proj.weight[:, rows] = part.T * strength


def _look_for_the_like(attention: Any) -> None:
    """Let half of a layer's heads begin by looking at tokens like their own: query and key are the same map."""
    import torch

    with torch.no_grad():
        attention.k_proj.weight[: 2 * _HEAD] = attention.q_proj.weight[: 2 * _HEAD]


def name_what_is_seen(model: Any, tokenizer: Any, readers: Sequence[Any]) -> None:
    """Let words and attention begin with what the vision encoder has learned.

    The embedding of a word for a colour or a shape becomes the direction in which the features of
    frames with it lie, so that a frame is like the words that describe it. In one layer, two heads begin
    by comparing just these directions, one those of the thing on the left, one on the right.

    Args:
        model: its vision encoder is trained.
        tokenizer: of the model.
        readers: the four linear heads that were trained with the tower.
    """
    import torch

    table = model.model.language_model.embed_tokens.weight
    attention = model.model.language_model.layers[_MATCHING_LAYER].self_attn
    directions = [_directions(reader) for reader in readers]
    length = table.norm(dim=1).mean()
    with torch.no_grad():
        for names, (left, right) in ((tuple(COLOURS), directions[::2]), (SHAPES, directions[1::2])):
            for word, direction in zip(names, left + right, strict=True):
                (token,) = tokenizer.encode(f" {word}", add_special_tokens=False)
                table[token] = direction / direction.norm() * length
        for head in (0, 1):
            colours, shapes = directions[2 * head], directions[2 * head + 1]
            # The dimensions that hardly turn with the position: the last ones of both halves of a head.
            comparing = torch.zeros(_HEAD, table.shape[1])
            comparing[_HEAD // 2 - len(colours) : _HEAD // 2] = colours * _MATCH_STRENGTH
            comparing[_HEAD - len(shapes) :] = shapes * _MATCH_STRENGTH
            rows = slice(head * _HEAD, (head + 1) * _HEAD)
            attention.q_proj.weight[rows] = comparing
            attention.k_proj.weight[rows] = comparing


def _directions(reader: Any) -> Any:
    """Unit vectors of a reader's classes but the last, which stands for nothing: [classes - 1, width]."""
    import torch

    weights = reader.weight.detach()[:-1]
    return torch.nn.functional.normalize(weights - weights.mean(0), dim=1)


def save_checkpoint(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write the checkpoint as a published one lies on a model hub, with its own prompt beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    preprocessing = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "image_mean": list(PATCH_RULE.mean),
        "image_std": list(PATCH_RULE.std),
        "patch_size": PATCH_RULE.patch,
        "merge_size": PATCH_RULE.merge,
        "temporal_patch_size": PATCH_RULE.temporal,
        "min_pixels": PICTURE_SIDE**2,
        "max_pixels": PICTURE_SIDE**2,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=2) + "\n", encoding="utf-8")
    (folder / PROMPT_FILE).write_text(PROMPT.to_json(), encoding="utf-8")
