"""Small checkpoints with random weights, of the true architectures and in the form of the published ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hybrid.runtime import ensure_torchvision
from hybrid.testing.untrained_gens import learn_bpe

ensure_torchvision()

import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

LINES = (
    "yes no Yes No",
    "When is the red circle visible? What comes right after the blue square?",
    "This is one frame of a video. Does this frame show something that is needed to answer it?",
    "Reply with one word, yes or no. A question about the whole video",
)
PREPROCESSING = {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28], "resample": 3}


def make_bert_tokenizer(folder: Path) -> int:
    """BERT's WordPiece over the words of LINES and letters; its size."""
    from transformers import BertTokenizer

    words = sorted({word.strip("?,.").lower() for line in LINES for word in line.split()})
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = list(dict.fromkeys([*special, *words, *letters, *("##" + c for c in letters), "?", ",", "'"]))
    tokenizer = BertTokenizer(vocab={word: place for place, word in enumerate(vocabulary)})
    tokenizer.save_pretrained(folder)
    return len(vocabulary)


def make_bpe_tokenizer(folder: Path | None, special: dict[str, str], extra: list[str] | None = None) -> Any:
    """A byte-level BPE in transformers' form."""
    from transformers import PreTrainedTokenizerFast

    learner = learn_bpe(LINES, split=r"\s?\w+|\s?[^\s\w]+|\s+", vocab_size=420, min_frequency=1)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=learner, **special)
    if extra:
        tokenizer.add_special_tokens({"additional_special_tokens": extra})
    if folder is not None:
        tokenizer.save_pretrained(folder)
    return tokenizer


def draw_weights(model: torch.nn.Module, seed: int, *, scale: float = 0.3) -> None:
    """Random weights large enough that scores depend on frames and words."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in sorted(model.named_parameters()):
            if tensor.ndim < 2 and "bias" not in name and "embedding" not in name:
                tensor.fill_(1.0)  # the factors of norms
            else:
                tensor.copy_(scale * torch.randn(tensor.shape, generator=generator))


def make_blip(folder: Path, *, enc: bool = True, seed: int = 0) -> Path:
    """A checkpoint of ``BlipForImageTextRetrieval``; ``enc``: with the rows of [DEC] and [ENC], as published."""
    from transformers import BlipConfig, BlipForImageTextRetrieval

    folder.mkdir(parents=True)
    words = make_bert_tokenizer(folder)
    config = BlipConfig(
        text_config={
            "vocab_size": words + (2 if enc else 0), "hidden_size": 32, "encoder_hidden_size": 24,
            "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64,
        },
        vision_config={
            "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "image_size": 32, "patch_size": 8,
        },
        image_text_hidden_size=16,
    )  # fmt: skip
    model = BlipForImageTextRetrieval(config)
    draw_weights(model, seed)
    model.save_pretrained(folder)
    size = {"height": 32, "width": 32}
    (folder / "preprocessor_config.json").write_text(json.dumps({**PREPROCESSING, "size": size}))
    return folder


def make_llava(folder: Path, *, seed: int = 0) -> Path:
    """A checkpoint of LLaVA (CLIP and Llama) with a processor and a chat template."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    folder.mkdir(parents=True)
    tokenizer = make_bpe_tokenizer(None, {"pad_token": "<pad>", "eos_token": "</s>"}, ["<image>"])
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            image_size=32, patch_size=8,
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
        ),
        image_token_index=image_token,
        vision_feature_layer=-1,
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config)
    draw_weights(model, seed)
    model.save_pretrained(folder)
    template = (
        "{% for m in messages %}{{ m.role }}: {% for p in m.content %}"
        "{% if p.type == 'image' %}<image>\n{% else %}{{ p.text }}{% endif %}{% endfor %} {% endfor %}assistant:"
    )
    pictures = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = LlavaProcessor(
        image_processor=pictures,
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )
    processor.save_pretrained(folder)
    return folder


def make_tspo(folder: Path, *, selector: bool = True, seed: int = 0) -> Path:
    """CLIP with the tensors of TSPO's selector, in one file as ``save_pretrained`` writes it."""
    from transformers import CLIPConfig, CLIPModel

    folder.mkdir(parents=True)
    tokenizer = make_bpe_tokenizer(folder, {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"})
    config = CLIPConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "max_position_embeddings": 77, "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={
            "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "image_size": 32, "patch_size": 8,
        },
        projection_dim=16,
    )  # fmt: skip
    model = CLIPModel(config)
    draw_weights(model, seed)
    model.save_pretrained(folder)
    if selector:
        generator = torch.Generator().manual_seed(seed + 1)
        layers = ("temporal.Self_q", "temporal.Self_k", "temporal.Self_v", "temporal.ffn_o", "mlp.0", "mlp.2")
        added = {f"selector.{layer}.weight": torch.randn(16, 16, generator=generator) for layer in layers}
        added |= {f"selector.{layer}.bias": torch.randn(16, generator=generator) for layer in layers}
        file = folder / "model.safetensors"
        save_file({**load_file(file), **added}, file, metadata={"format": "pt"})
    preprocessing = {**PREPROCESSING, "size": 32, "crop_size": 32, "do_center_crop": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return folder


def peek_tensors(width: int, *, hidden: int = 256, feed_forward: int = 1024, seed: int = 0) -> dict[str, torch.Tensor]:
    """Tensors with the names and shapes of ``peek_base.safetensors`` (there with a width of 512)."""
    shapes: dict[str, tuple[int, ...]] = {
        "layer_norm.weight": (width,),
        "layer_norm.bias": (width,),
        "input_projection.weight": (hidden, width),
        "input_projection.bias": (hidden,),
        "score_head.weight": (1, hidden),
        "score_head.bias": (1,),
    }
    for layer in range(2):
        shapes |= {
            f"transformer.layers.{layer}.{name}": shape
            for name, shape in {
                "self_attn.in_proj_weight": (3 * hidden, hidden),
                "self_attn.in_proj_bias": (3 * hidden,),
                "self_attn.out_proj.weight": (hidden, hidden),
                "self_attn.out_proj.bias": (hidden,),
                "linear1.weight": (feed_forward, hidden),
                "linear1.bias": (feed_forward,),
                "linear2.weight": (hidden, feed_forward),
                "linear2.bias": (hidden,),
                "norm1.weight": (hidden,),
                "norm1.bias": (hidden,),
                "norm2.weight": (hidden,),
                "norm2.bias": (hidden,),
            }.items()
        }
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def make_peek(file: Path, width: int) -> Path:
    """PEEK's weights as a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(peek_tensors(width), file)
    return file
