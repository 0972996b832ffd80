"""A small, UNTRAINED checkpoint of the fine stage: the architecture of GenS, random weights.

It is loaded through the same calls as the real one and runs on any CPU in milliseconds, so that the whole path can be
tried without a download. Its replies are noise. Everything in it follows from the seed, bytes included: the weights are
drawn here, name by name, whatever transformers' own initial values are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid.runtime import ensure_torchvision

if TYPE_CHECKING:
    import torch

__all__ = ["SPECIAL_TOKENS", "learn_bpe", "make_untrained_gens", "scale_of", "visual_token_ids", "write_json"]

MAX_NEW_TOKENS = 64
"""Longest reply that the checkpoint's own prompt asks for: noise needs no more."""

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# Text to learn a few merges from: the words of a prompt, of replies, and of plain questions.
_LINES = (
    "system user assistant",
    "You are a helpful assistant.",
    "Question: What happens after the door opens?",
    "Question: When is the diagram drawn, and who draws it?",
    "Question: Which colour is the car that leaves the street first?",
    "Please identify the video frames most relevant to the given question",
    "and provide their timestamps in seconds along with a relevance score.",
    "The score should be on a scale from 1 to 5, where higher scores indicate greater relevance.",
    'Return the output strictly in the following JSON format: {"timestamp": score, ...}.',
    '{"11-12": 5, "16-21": 4, "28-30": 4, "33": 2}',
    '{"0": 1, "4-9": 3, "250-255": 5}',
    "[0] [1] [2] [10] [99] [255]",
    "The person in the kitchen cuts the bread before the water boils.",
    "A dog runs across the field while two children throw a ball.",
    "The speaker points at the screen and explains the next step.",
    "Where does the train stop after the bridge? At the small station.",
)

_CHAT_TEMPLATE = (
    "{%- if not messages or messages[0].role != 'system' -%}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message.role + '\\n' }}"
    "{%- set parts = message.content -%}"
    "{%- if parts is string -%}{{ parts }}{%- else -%}"
    "{%- for part in parts -%}"
    "{%- if part.type == 'image' -%}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- elif part.type == 'video' -%}{{ '<|vision_start|><|video_pad|><|vision_end|>' }}"
    "{%- else -%}{{ part.text }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- endif -%}"
    "{{ '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)

_PREPROCESSING = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "image_processor_type": "Qwen2VLImageProcessor",
    "max_pixels": 12845056,
    "merge_size": 2,
    "min_pixels": 3136,
    "patch_size": 14,
    "processor_class": "Qwen2_5_VLProcessor",
    "temporal_patch_size": 2,
}

_README = """\
# An untrained checkpoint

This folder holds a model with the architecture of Qwen2.5-VL, {parameters:,} parameters large, whose
weights are random numbers (seed {seed}). It was never trained. It exists so that the path of a video
through hybrid can be tried and tested without a download. **Its replies are noise and mean nothing.**

For answers, use a trained checkpoint, for instance `--sampler yaolily/GenS-qwen2d5-vl-3b` (its weights
are for research use).
"""


def make_untrained_gens(folder: str | Path, *, seed: int = 0) -> Path:
    """Write a small checkpoint with random weights, in the form of a published Qwen2.5-VL one.

    Args:
        folder: where to; made if need be. Files of the same names are replaced.
        seed: decides the weights. The same seed gives the same bytes (with the same versions of
            transformers and tokenizers, whose file formats are used).

    Returns:
        The folder, to be given to :func:`hybrid.fine.load.load_scorer`.
    """
    ensure_torchvision()
    import torch
    from transformers import Qwen2_5_VLForConditionalGeneration

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _make_tokenizer()
    with torch.random.fork_rng(devices=[]):  # transformers draws weights too; they are replaced below
        model = Qwen2_5_VLForConditionalGeneration(_make_config(tokenizer))
    _draw_weights(model, seed)
    model.generation_config = _make_generation(tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_json(folder / "preprocessor_config.json", _PREPROCESSING)
    # Read by hybrid.fine.prompt; the rest is as in the default prompt.
    write_json(folder / "hybrid_prompt.json", {"max_new_tokens": MAX_NEW_TOKENS})
    parameters = sum(parameter.numel() for parameter in model.parameters())
    (folder / "README.md").write_text(_README.format(parameters=parameters, seed=seed), encoding="utf-8")
    return folder


def learn_bpe(lines: Sequence[str], *, split: str, vocab_size: int, min_frequency: int) -> Any:
    """A byte-level BPE, as Qwen's is, learned from some text: a ``tokenizers.Tokenizer``.

    Args:
        lines: to learn from.
        split: regular expression of the pieces that are never merged with each other.
        vocab_size: most tokens.
        min_frequency: how often a pair must occur to be merged.
    """
    from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer

    learner = Tokenizer(BPE())
    learner.normalizer = normalizers.NFC()
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    learner.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    learner.train_from_iterator(lines, trainer)
    return learner


def visual_token_ids(ids: Mapping[str, int]) -> dict[str, int]:
    """The arguments of a ``Qwen2_5_VLConfig`` that name the tokens around frames."""
    return {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }


def _make_tokenizer() -> Any:
    """A byte-level BPE with Qwen's rules, so that every digit is a token of its own."""
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX, Qwen2Tokenizer

    learner = learn_bpe(_LINES, split=PRETOKENIZE_REGEX, vocab_size=400, min_frequency=2)
    learned = json.loads(learner.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(pair) for pair in learned["merges"]],
        unk_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL_TOKENS)})
    tokenizer.chat_template = _CHAT_TEMPLATE
    return tokenizer


def _make_config(tokenizer: Any) -> Any:
    """Qwen2.5-VL-3B scaled down; every ratio that the code depends on is kept."""
    from transformers import Qwen2_5_VLConfig

    ids = {text: tokenizer.convert_tokens_to_ids(text) for text in SPECIAL_TOKENS}
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 192,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "use_sliding_window": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "tie_word_embeddings": True,
    }
    vision = {
        "depth": 4,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 4,
        "out_hidden_size": 64,
        "fullatt_block_indexes": [1, 3],
        "window_size": 112,
        "tokens_per_second": 2,
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        **visual_token_ids(ids),
        tie_word_embeddings=True,
    )


def _make_generation(tokenizer: Any) -> Any:
    from transformers import GenerationConfig

    end, start = (tokenizer.convert_tokens_to_ids(text) for text in ("<|im_end|>", "<|endoftext|>"))
    return GenerationConfig(bos_token_id=start, pad_token_id=start, eos_token_id=[end, start], repetition_penalty=1.05)


def _draw_weights(model: torch.nn.Module, seed: int) -> None:
    """Random weights, such that different frames and questions give different replies."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if "norm" in name or "ln_q" in name:
                parameter.fill_(1.0)
                continue
            values = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(values * scale_of(name, parameter.shape))


def scale_of(name: str, shape: Sequence[int]) -> float:
    """The standard deviation of a tensor's random weights.

    Attention in the language model is sharp: without it every token sees the same average of the prompt, and all
    prompts get the same reply.
    """
    fan_in = 50 if len(shape) == 1 else math.prod(shape[1:])
    sharp = 3.0 if name.endswith(("q_proj.weight", "k_proj.weight")) else 1.0
    return sharp / math.sqrt(fan_in)


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write one of a checkpoint's documents."""
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
