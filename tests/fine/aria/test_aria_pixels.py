"""Preprocessing to the pixel, against the written rule restated with a resampling of our own."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from hybrid.fine.aria.preprocess import normalise, prepare_frame, scaled_size, shrunk_size
from hybrid.runtime import ensure_torchvision
from hybrid.values import ByteArray

BITS = 22  # of the weights in Pillow's arithmetic on bytes


def cubic(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keys' cubic convolution kernel with a = -1/2."""
    x = np.abs(distance)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def resampling(before: int, after: int) -> npt.NDArray[np.int64]:
    """[after, before]: weights of one side, widened by the factor of shrinking, in fixed point."""
    factor = before / after
    widened = max(factor, 1.0)
    table = np.zeros((after, before), dtype=np.int64)
    for place in range(after):
        centre = (place + 0.5) * factor
        first = max(0, int(centre - 2 * widened + 0.5))
        last = min(before, int(centre + 2 * widened + 0.5))
        weights = cubic((np.arange(first, last) - centre + 0.5) / widened)
        weights = weights / weights.sum()
        table[place, first:last] = np.trunc(weights * 2**BITS + np.copysign(0.5, weights))
    return table


def resample(pixels: npt.NDArray[Any], width: int, height: int, *, rows_first: bool) -> npt.NDArray[np.uint8]:
    """Bicubic, along one side and then along the other, rounded to bytes after each."""
    sides = ((1, width), (0, height))
    for axis, side in sides if rows_first else sides[::-1]:
        if pixels.shape[axis] == side:
            continue
        # Whole numbers far below 2**53: sums of floats are exact, and quick.
        table = resampling(pixels.shape[axis], side).astype(np.float64)
        summed = np.moveaxis(np.tensordot(table, pixels.astype(np.float64), axes=(1, axis)), 0, axis)
        pixels = np.clip(np.floor((summed + 2 ** (BITS - 1)) / 2**BITS), 0, 255)
    return pixels.astype(np.uint8)


def written_rule(frame: ByteArray, *, rows_first: tuple[bool, bool] = (True, True)) -> ByteArray:
    """The documented steps, one after another, without the code under test."""
    height, width = frame.shape[:2]
    if width > 490 or height > 490:
        ratio = min(490 / width, 490 / height)
        width, height = int(width * ratio), int(height * ratio)
        frame = resample(frame, width, height, rows_first=rows_first[0])
    scale = 490 / max(width, height)
    if width >= height:
        width, height = 490, max(int(height * scale), 336)
    else:
        width, height = max(int(width * scale), 336), 490
    picture: ByteArray = np.zeros((490, 490, 3), dtype=np.uint8)
    picture[:height, :width] = resample(frame, width, height, rows_first=rows_first[1])
    return picture


def drawn(width: int, height: int, seed: int = 0) -> ByteArray:
    """A picture with large shapes, edges and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([128 + 100 * np.sin(x / 17 + c) * np.cos(y / 23 - c) for c in range(3)], axis=-1)
    smooth[height // 3 : height // 2, width // 4 : width // 2] = rng.integers(0, 256, 3)
    return np.clip(smooth + rng.integers(-20, 21, smooth.shape), 0, 255).astype(np.uint8)


def test_the_published_example_to_the_pixel(shared_data: Path) -> None:
    paths = sorted((shared_data / "gens_example").glob("sec*.png"))
    assert len(paths) == 51
    for path in paths[::10]:
        frame = np.asarray(Image.open(path).convert("RGB"))
        assert frame.shape == (336, 588, 3)  # so both steps resize it: to 490x280, then to 490x336
        np.testing.assert_array_equal(prepare_frame(frame), written_rule(frame))


@pytest.mark.parametrize(
    ("size", "shrunk", "scaled"),
    [
        ((1280, 720), (490, 275), (490, 336)),
        # 1920 * (490 / 1920) is a little less than 490, and sides are rounded down.
        ((1920, 800), (489, 204), (490, 336)),
        ((720, 1280), (275, 490), (336, 490)),
        ((640, 480), (490, 367), (490, 367)),
        ((112, 112), (112, 112), (490, 490)),
        ((320, 240), (320, 240), (490, 367)),
        ((240, 426), (240, 426), (336, 490)),
        ((490, 490), (490, 490), (490, 490)),
        ((491, 100), (490, 99), (490, 336)),
        ((5000, 3), (490, 1), (490, 336)),
    ],
)
def test_sizes_and_pixels(size: tuple[int, int], shrunk: tuple[int, int], scaled: tuple[int, int]) -> None:
    assert shrunk_size(*size) == shrunk
    assert scaled_size(*shrunk) == scaled
    frame = drawn(*size)
    prepared = prepare_frame(frame)
    assert prepared.shape == (490, 490, 3)
    assert not prepared[scaled[1] :].any()
    assert not prepared[:, scaled[0] :].any()
    if min(shrunk) > 1:
        np.testing.assert_array_equal(prepared, written_rule(frame))


@settings(max_examples=10, deadline=None)
@given(width=st.integers(8, 700), height=st.integers(8, 700), seed=st.integers(0, 5))
@example(width=8, height=626, seed=0)  # 6x489, then 336x490: Pillow 13 takes another side first in each step
def test_any_size_to_the_pixel_and_only_once(width: int, height: int, seed: int) -> None:
    """Which side Pillow resamples first in a step depends on its version and on the sides; bicubic are both."""
    frame = drawn(width, height, seed)
    prepared = prepare_frame(frame)
    orders = product((True, False), repeat=2)
    assert any(np.array_equal(prepared, written_rule(frame, rows_first=order)) for order in orders)
    np.testing.assert_array_equal(prepare_frame(prepared), prepared)


def test_one_step_would_give_other_pixels() -> None:
    """The first shrinking matters: without it the pixels differ, so the tests above can tell."""
    frame = drawn(1280, 720)
    at_once = np.asarray(Image.fromarray(frame).resize((490, 336), Image.Resampling.BICUBIC))
    assert np.abs(prepare_frame(frame)[:336].astype(int) - at_once).max() > 5


def test_values_are_those_of_transformers() -> None:
    """From the shrunk frame on, transformers' image processor does the same; its mask is not used."""
    ensure_torchvision()
    from transformers.models.aria.image_processing_pil_aria import AriaImageProcessorPil

    frames = [drawn(400, 300), drawn(250, 480, 1), drawn(490, 280, 2)]
    theirs = AriaImageProcessorPil(max_image_size=490)(
        images=[Image.fromarray(frame) for frame in frames], return_tensors="pt"
    )["pixel_values"]
    ours = normalise([prepare_frame(frame) for frame in frames], device=torch.device("cpu"), dtype=torch.float32)
    assert ours.shape == (3, 3, 490, 490)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1.2e-7)


def test_padding_is_minus_one_and_bytes_span_the_range() -> None:
    levels = np.arange(256, dtype=np.uint8)
    frame = np.zeros((490, 490, 3), dtype=np.uint8)
    frame[0, :256, 1] = levels
    pixels = normalise([frame], device=torch.device("cpu"), dtype=torch.float32)
    torch.testing.assert_close(
        pixels[0, 1, 0, :256].double(), torch.from_numpy(levels / 127.5 - 1), rtol=0, atol=1.2e-7
    )
    assert float(pixels[0, 0].max()) == float(pixels.min()) == -1.0
    assert normalise([frame], device=torch.device("cpu"), dtype=torch.bfloat16).dtype == torch.bfloat16
