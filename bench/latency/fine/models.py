"""Models of the fine stage with random weights, in the true shape and scaled, and their arithmetic.

The true shape is that of Qwen2.5-VL-3B (3,754,622,976 parameters). Speed does not depend on the
weights' values, as long as they are no zeros; replies do, and mean nothing here.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.latency.fine.inputs import make_questions
from hybrid.fine.decoding.options import LoopOptions
from hybrid.fine.prompt import IMAGE_BLOCK, PromptSpec
from hybrid.fine.qwen.preprocess import read_patch_rule
from hybrid.fine.tokens import PromptTokens, VisionTokenIds
from hybrid.testing.untrained_gens import make_untrained_gens, visual_token_ids

if TYPE_CHECKING:
    import torch

    from hybrid.fine.qwen.load import QwenScorer

__all__ = ["SHAPES", "FineModel", "Shape", "make_model"]


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a model: of the text part, then of the vision encoder."""

    hidden: int
    layers: int
    heads: int
    key_heads: int
    intermediate: int
    vocabulary: int
    sections: tuple[int, int, int]
    vision_hidden: int
    vision_layers: int
    vision_heads: int
    vision_intermediate: int

    @property
    def head_width(self) -> int:
        """Values per head."""
        return self.hidden // self.heads

    @property
    def layer_parameters(self) -> int:
        """Weights that every token of text passes, without embeddings and output layer."""
        attention = self.hidden * self.head_width * 2 * (self.heads + self.key_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def cache_values(self) -> int:
        """Keys and values of one token, in values."""
        return 2 * self.layers * self.key_heads * self.head_width

    def read_flops(self, tokens: int, before: int = 0) -> float:
        """Operations to read ``tokens`` behind ``before`` others, whose keys and values are there."""
        pairs = tokens * before + tokens * tokens / 2
        return 2 * self.layer_parameters * tokens + 4 * pairs * self.layers * self.hidden

    def step_bytes(self, *, rows: int, tails: int, prefixes: int, value_bytes: int, head_rows: int) -> float:
        """Bytes that one step of decoding has to read: weights once, keys and values of every prefix once.

        Args:
            rows: replies that are written together.
            tails: tokens of each row behind its prefix.
            prefixes: tokens of all different prefixes together.
            value_bytes: size of a value.
            head_rows: rows of the output layer.
        """
        weights = self.layer_parameters + head_rows * self.hidden
        return value_bytes * (weights + (prefixes + rows * tails) * self.cache_values)


SHAPES = {
    "3b": Shape(2048, 36, 16, 2, 11008, 151936, (16, 24, 24), 1280, 32, 16, 3420),
    # About 1/380 of it, in the same proportions of vision, reading, decoding and output layer.
    "scaled": Shape(256, 6, 8, 2, 1376, 4096, (4, 6, 6), 160, 4, 4, 428),
    "tiny": Shape(64, 2, 4, 2, 172, 512, (2, 3, 3), 64, 4, 4, 128),
}


@dataclass(frozen=True, slots=True, eq=False)
class FineModel:
    """A model with random weights, as transformers has it, and what its checkpoint would say."""

    shape: Shape
    model: Any
    tokenizer: Any
    folder: Path

    def scorer(self, spec: PromptSpec, options: LoopOptions) -> QwenScorer:
        """Our scorer on it, without end tokens: a free reply is as long as its limit."""
        from hybrid.fine.qwen.load import QwenCheckpoint, QwenScorer

        special = {token.content: number for number, token in self.tokenizer.added_tokens_decoder.items()}
        start, pad, end = (special[text] for text in IMAGE_BLOCK)
        tokens = PromptTokens(
            self.tokenizer, special_ids=special, vision=VisionTokenIds(start=start, pad=pad, end=end), spec=spec
        )
        identity = {"weights": "random", "dtype": str(self.model.dtype).removeprefix("torch.")}
        checkpoint = QwenCheckpoint(
            name="random weights",
            model=self.model,
            tokenizer=self.tokenizer,
            tokens=tokens,
            rule=read_patch_rule(self.folder),
            end_ids=frozenset(),
            repetition_penalty=1.0,
            identity=identity,
        )
        return QwenScorer(checkpoint, spec, options)


_TOKENS = re.compile(r" [A-Za-z]+|[A-Za-z]{4,}| \n| {13}")


def make_model(shape: Shape, *, device: torch.device, dtype: torch.dtype) -> FineModel:
    """Make it; preprocessing and tokenizer are those of the small untrained checkpoint, with more words.

    Qwen's tokenizer has a token for each word of a question, and for the runs of spaces in GenS's
    instruction. The small one would cut them to pieces, and questions would have 265 tokens, not 110.
    """
    folder = Path(tempfile.mkdtemp(prefix="hybrid-fine-"))
    make_untrained_gens(folder)
    import torch
    from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    prompt = " ".join([*PromptSpec().around_question(), next(make_questions())])
    tokenizer.add_tokens(sorted(set(_TOKENS.findall(prompt))))
    with torch.device(device):
        model = Qwen2_5_VLForConditionalGeneration._from_config(
            _config(shape, tokenizer), dtype=dtype, attn_implementation="sdpa"
        ).eval()
    generator = torch.Generator(device=device).manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "ln_q" in name:
                parameter.fill_(1.0)
            else:
                # Such that sums keep their size from layer to layer.
                fan_in = parameter.shape[-1] if parameter.ndim == 2 else 50 if parameter.ndim == 1 else 1176
                parameter.normal_(0.0, fan_in**-0.5, generator=generator)
    model.generation_config.update(do_sample=False, eos_token_id=None, pad_token_id=0, bos_token_id=None)
    return FineModel(shape=shape, model=model, tokenizer=tokenizer, folder=folder)


def _config(shape: Shape, tokenizer: Any) -> Any:
    from transformers import Qwen2_5_VLConfig

    ids = {text: tokenizer.convert_tokens_to_ids(text) for text in (*IMAGE_BLOCK, "<|video_pad|>")}
    text = {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_heads,
        "max_position_embeddings": 128000,
        "rms_norm_eps": 1e-6,
        "use_sliding_window": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": list(shape.sections)},
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    vision = {
        "depth": shape.vision_layers,
        "hidden_size": shape.vision_hidden,
        "intermediate_size": shape.vision_intermediate,
        "num_heads": shape.vision_heads,
        "out_hidden_size": shape.hidden,
        "fullatt_block_indexes": [n for n in range(shape.vision_layers) if n % 8 == 7] or [shape.vision_layers - 1],
        "window_size": 112,
        "tokens_per_second": 2,
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        **visual_token_ids(ids),
        tie_word_embeddings=True,
    )
