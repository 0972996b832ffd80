"""Small checkpoints, and transformers itself as the reference that our own path is measured against."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid.fine.prompt import PromptSpec
from hybrid.fine.qwen.preprocess import pair_frames, patchify, read_patch_rule
from hybrid.values import ByteArray

QUESTION = "After styling the lady's hair, what action did the maid perform next?"

MakeFrames = Callable[..., list[ByteArray]]


@pytest.fixture(scope="session")
def make_frames() -> MakeFrames:
    """Frames that differ from one another and hold large and small structure."""

    def make(count: int, width: int = 112, height: int = 112, *, seed: int = 0) -> list[ByteArray]:
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 256, (count, 4, 5, 3), dtype=np.uint8)
        large = coarse.repeat(-(-height // 4), axis=1).repeat(-(-width // 5), axis=2)[:, :height, :width]
        noise = rng.integers(0, 40, large.shape, dtype=np.uint8)
        return list(large // 2 + noise)

    return make


@pytest.fixture(scope="session")
def reference_model(gens_folder: Path) -> Any:
    """The checkpoint as transformers loads it, untouched by this package."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    return Qwen2_5_VLForConditionalGeneration.from_pretrained(gens_folder, attn_implementation="sdpa").eval()


@pytest.fixture(scope="session")
def reference_tokenizer(gens_folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(gens_folder)


@pytest.fixture(scope="session")
def reference_processor(gens_folder: Path) -> Any:
    """The image processor, without torchvision."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    return Qwen2VLImageProcessorPil.from_pretrained(gens_folder)


@pytest.fixture(scope="session")
def make_scorer(gens_folder: Path) -> Callable[..., Any]:
    """Our scorer on the small checkpoint, with a changed prompt."""
    from hybrid.fine.load import load_scorer

    def make(folder: Path = gens_folder, **changes: Any) -> Any:
        spec = replace(PromptSpec(max_new_tokens=24), **changes)
        return load_scorer(folder, device="cpu", dtype="float32", prompt=spec)

    return make


@pytest.fixture(scope="session")
def scorer(make_scorer: Callable[..., Any]) -> Any:
    """Our scorer with the default prompt, at most 24 new tokens."""
    return make_scorer()


@pytest.fixture(scope="session")
def reference_inputs(reference_tokenizer: Any, reference_processor: Any, gens_folder: Path) -> Callable[..., Any]:
    """What transformers' own processor would give its model for a prompt: a dict of tensors.

    Frames come in their final size. The prompt is tokenised as one string. Pixels of images go
    through transformers' image processor; its video processor needs torchvision, so those of a
    video go through our patches, which have their own test.
    """
    import torch

    rule = read_patch_rule(gens_folder)

    def make(frames: list[ByteArray], question: str, spec: PromptSpec) -> dict[str, Any]:
        height, width, _ = frames[0].shape
        if spec.mode == "image":
            pixels = reference_processor(
                images=frames,
                size={"shortest_edge": height * width, "longest_edge": height * width},
                return_tensors="pt",
            )
            inputs = {"pixel_values": pixels["pixel_values"], "image_grid_thw": pixels["image_grid_thw"]}
            blocks = tuple(pixels["image_grid_thw"].prod(-1) // rule.merge**2)
        else:
            patches = patchify(pair_frames(np.stack(frames), rule.temporal), rule)
            grid = torch.tensor([[len(patches), height // rule.patch, width // rule.patch]])
            inputs = {"pixel_values_videos": torch.from_numpy(patches).flatten(0, 1), "video_grid_thw": grid}
            inputs["second_per_grid_ts"] = torch.tensor([rule.temporal / spec.video_fps])
            blocks = (grid.prod() // rule.merge**2,)
        text = spec.render(question, tokens_per_block=tuple(int(block) for block in blocks))
        ids = reference_tokenizer(text, return_tensors="pt")
        kinds = torch.zeros_like(ids["input_ids"])
        for kind, pad in ((1, "<|image_pad|>"), (2, "<|video_pad|>")):
            kinds[ids["input_ids"] == reference_tokenizer.convert_tokens_to_ids(pad)] = kind
        return {**ids, **inputs, "mm_token_type_ids": kinds}

    return make


@pytest.fixture
def checkpoint_copy(gens_folder: Path, tmp_path: Path) -> Path:
    """A copy of the small checkpoint that a test may damage."""
    return Path(shutil.copytree(gens_folder, tmp_path / "checkpoint"))


@pytest.fixture(scope="session")
def question() -> str:
    return QUESTION
