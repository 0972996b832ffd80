"""The vision encoder in one attention call per layer: features equal to transformers' own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid.fine.qwen.preprocess import PatchRule, pair_frames, patchify, read_patch_rule
from hybrid.values import ByteArray

MakeFrames = Callable[..., list[ByteArray]]

# In merged tokens. A window of attention is 4x4 of them: one window; two of two sizes; a 2x2 grid of
# windows of four sizes; whole windows only; the smallest frame.
GRIDS = [(4, 4), (3, 5), (6, 7), (8, 4), (1, 1)]


@pytest.fixture(scope="module")
def rule(gens_folder: Path) -> PatchRule:
    return read_patch_rule(gens_folder)


def encode(model: Any, patches: np.ndarray[Any, Any], rows: int, columns: int, *, fill: bool = False) -> Any:
    import torch

    from hybrid.fine.qwen.vision_encoder import encode_patches

    with torch.inference_mode():
        return encode_patches(
            model.model.visual, torch.from_numpy(patches), rows=rows, columns=columns, fill_batches=fill
        )


@pytest.mark.parametrize(("rows", "columns"), GRIDS)
def test_features_of_images(
    reference_model: Any, rule: PatchRule, make_frames: MakeFrames, rows: int, columns: int
) -> None:
    import torch

    patches = patchify(np.stack(make_frames(3, columns * 28, rows * 28)), rule)
    grid = torch.tensor([[1, rows * 2, columns * 2]] * 3)
    with torch.inference_mode():
        expected = reference_model.model.get_image_features(torch.from_numpy(patches).flatten(0, 1), grid)
    ours = encode(reference_model, patches, rows, columns)
    assert ours.shape == (3, rows * columns, reference_model.config.text_config.hidden_size)
    torch.testing.assert_close(ours, torch.stack(list(expected.pooler_output)), atol=2e-5, rtol=1e-5)
    # The frames differ, so that features in a wrong order would be seen.
    assert (ours[0] - ours[1]).abs().max() > 0.01


@pytest.mark.parametrize("count", [1, 4, 5])
def test_features_of_a_video(reference_model: Any, rule: PatchRule, make_frames: MakeFrames, count: int) -> None:
    import torch

    patches = patchify(pair_frames(np.stack(make_frames(count, 140, 84)), rule.temporal), rule)
    grid = torch.tensor([[len(patches), 6, 10]])
    with torch.inference_mode():
        expected = reference_model.model.get_video_features(torch.from_numpy(patches).flatten(0, 1), grid)
    ours = encode(reference_model, patches, 3, 5)
    torch.testing.assert_close(ours.flatten(0, 1), expected.pooler_output[0], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (3, 5)])
def test_a_frame_does_not_depend_on_the_others(
    reference_model: Any, rule: PatchRule, make_frames: MakeFrames, rows: int, columns: int
) -> None:
    import torch

    patches = patchify(np.stack(make_frames(70, columns * 28, rows * 28)), rule)
    together = encode(reference_model, patches, rows, columns)
    single = torch.cat([encode(reference_model, patches[i : i + 1], rows, columns) for i in (0, 40, 63, 64, 69)])
    torch.testing.assert_close(together[[0, 40, 63, 64, 69]], single, atol=2e-5, rtol=1e-5)
    # Another second batch leaves the frames of the first one alone, to the last bit.
    others = np.concatenate([patches[:64], patches[:6]])
    assert torch.equal(encode(reference_model, others, rows, columns)[:64], together[:64])


def test_filled_batches_do_not_depend_on_their_number(
    reference_model: Any, rule: PatchRule, make_frames: MakeFrames
) -> None:
    """With batches of one size, a frame's features are the same bits whatever stands beside it."""
    import torch

    patches = patchify(np.stack(make_frames(9, 140, 84)), rule)
    together = encode(reference_model, patches, 3, 5, fill=True)
    assert together.shape[0] == 9
    for start in (0, 3, 8):
        part = encode(reference_model, patches[start : start + 1], 3, 5, fill=True)
        torch.testing.assert_close(part[0], together[start], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("patches", "frames"), [(64, 64), (60, 64), (128, 32), (5476, 1), (1, 64)])
def test_large_frames_go_through_the_tower_in_small_batches(patches: int, frames: int) -> None:
    from hybrid.fine.qwen.vision_encoder import frames_per_batch

    assert frames_per_batch(patches) == frames
