"""Patches equal to those of transformers, without its processor at run time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from hybrid.errors import InputError, ModelLoadError
from hybrid.fine.features import check_frames
from hybrid.fine.prompt import GENS_QWEN, PromptSpec
from hybrid.fine.qwen.preprocess import (
    PatchRule,
    pair_frames,
    patchify,
    read_patch_rule,
    resize_frame,
    smart_size,
    target_size,
)
from hybrid.values import ByteArray


@pytest.fixture(scope="module")
def rule(gens_folder: Path) -> PatchRule:
    return read_patch_rule(gens_folder)


@pytest.mark.parametrize(("width", "height"), [(112, 112), (140, 84), (28, 56), (252, 140)])
def test_patches_are_those_of_transformers(
    rule: PatchRule, reference_processor: Any, make_frames: Callable[..., list[ByteArray]], width: int, height: int
) -> None:
    frames = make_frames(3, width, height)
    area = width * height
    expected = reference_processor(
        images=frames, size={"shortest_edge": area, "longest_edge": area}, return_tensors="np"
    )
    assert expected["image_grid_thw"].tolist() == [[1, height // 14, width // 14]] * 3
    ours = patchify(np.stack(frames), rule)
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours.reshape(-1, ours.shape[-1]), expected["pixel_values"])


@pytest.mark.parametrize(("width", "height"), [(640, 360), (320, 240), (100, 300), (57, 41), (112, 112)])
def test_resize_with_limits_is_that_of_transformers(
    rule: PatchRule, reference_processor: Any, make_frames: Callable[..., list[ByteArray]], width: int, height: int
) -> None:
    frames = make_frames(2, width, height)
    spec = PromptSpec(frame_size=None, min_pixels=56 * 56, max_pixels=112 * 112)
    size = target_size(width, height, spec=spec, factor=rule.factor)
    expected = reference_processor(
        images=frames, size={"shortest_edge": 56 * 56, "longest_edge": 112 * 112}, return_tensors="np"
    )
    assert expected["image_grid_thw"][0].tolist() == [1, size[1] // 14, size[0] // 14]
    ours = patchify(np.stack([resize_frame(frame, size) for frame in frames]), rule)
    np.testing.assert_array_equal(ours.reshape(-1, ours.shape[-1]), expected["pixel_values"])


def test_default_size_is_bicubic_112(make_frames: Callable[..., list[ByteArray]]) -> None:
    frame = make_frames(1, 426, 240)[0]
    assert target_size(426, 240, spec=GENS_QWEN, factor=28) == (112, 112)
    expected = np.asarray(Image.fromarray(frame).resize((112, 112), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(resize_frame(frame, (112, 112)), expected)
    # Frames that lie in memory otherwise give the same pixels.
    strided = np.asfortranarray(frame)
    np.testing.assert_array_equal(resize_frame(strided, (112, 112)), expected)


@pytest.mark.parametrize(
    ("size", "expected"), [((1920, 1080), (140, 84)), ((640, 480), (112, 84)), ((500, 500), (112, 112))]
)
def test_112_squared_as_a_limit_keeps_the_aspect(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert smart_size(*size, factor=28, min_pixels=56 * 56, max_pixels=112 * 112) == expected


@given(st.integers(20, 4000), st.floats(1 / 16, 16), st.sampled_from([3136, 50176]), st.sampled_from([4, 5, 100]))
def test_a_resized_frame_is_not_resized_again(height: int, aspect: float, least: int, ratio: int) -> None:
    """Frames may be prepared when they are decoded, and again when they are scored."""
    width = max(1, round(height * aspect))
    assume(max(width, height) <= 16 * min(width, height))
    spec = PromptSpec(frame_size=None, min_pixels=least, max_pixels=ratio * least)
    once = target_size(width, height, spec=spec, factor=28)
    assert target_size(*once, spec=spec, factor=28) == once
    assert not any(side % 28 for side in once)


def test_extreme_aspect_is_refused() -> None:
    with pytest.raises(InputError, match="2010x10"):
        smart_size(2010, 10, factor=28, min_pixels=3136, max_pixels=12544)


def test_video_patches_hold_two_moments(rule: PatchRule, make_frames: Callable[..., list[ByteArray]]) -> None:
    """Patch by patch, written out, and with the last frame of an odd number repeated."""
    frames = np.stack(make_frames(5, 56, 84))
    ours = patchify(pair_frames(frames, 2), rule)
    assert ours.shape == (3, 24, 3 * 2 * 14 * 14)
    mean, std = np.array(rule.mean), np.array(rule.std)
    padded = [*frames, frames[-1]]
    for group in range(3):
        place = 0
        for row in range(0, 6, 2):
            for column in range(0, 4, 2):
                for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
                    top, left = (row + y) * 14, (column + x) * 14
                    moments = [
                        (padded[2 * group + t][top : top + 14, left : left + 14] / 255 - mean) / std for t in (0, 1)
                    ]
                    patch = np.stack(moments, axis=0).transpose(3, 0, 1, 2).ravel()
                    np.testing.assert_allclose(ours[group, place], patch, atol=1e-6)
                    place += 1


def test_size_that_does_not_fit_is_refused(rule: PatchRule) -> None:
    with pytest.raises(InputError, match="multiples of 28"):
        patchify(np.zeros((1, 112, 100, 3), np.uint8), rule)


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [np.zeros((4, 4, 3), np.float32)],
        [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)],
        [np.zeros((4, 4, 4), np.uint8)],
        [np.zeros((0, 4, 3), np.uint8)],
    ],
)
def test_bad_frames_are_refused(frames: list[Any]) -> None:
    with pytest.raises(InputError):
        check_frames(frames)


def test_processor_file_of_transformers_5(gens_folder: Path, tmp_path: Path, rule: PatchRule) -> None:
    """A processor saved as a whole nests the image processor's values."""
    document = json.loads((gens_folder / "preprocessor_config.json").read_text())
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": document}))
    assert read_patch_rule(tmp_path) == rule


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"do_normalize": False}, "do_normalize"),
        ({"image_mean": [0.5]}, "three values"),
        ({"image_std": [0, 1, 1]}, "above 0"),
        ({"patch_size": 0}, "at least 1"),
        ({"patch_size": None}, "preprocessing"),
    ],
)
def test_strange_preprocessing_is_refused(
    gens_folder: Path, tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    document = json.loads((gens_folder / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(document | change))
    with pytest.raises(ModelLoadError, match=complaint):
        read_patch_rule(tmp_path)
