"""LV-Haystack's measures: by hand, and SSIM against a convolution in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.metrics.lv_haystack_temporal import temporal_means, temporal_score
from bench.metrics.lv_haystack_visual import VisualScore, ssim, visual_means, visual_score
from hybrid.errors import InputError


def test_temporal_by_hand() -> None:
    score = temporal_score([10.0, 14.9, 80.0, 80.0], [15.0, 40.0, 85.0])
    assert score is not None
    # 10 and 14.9 lie within 5 s of 15, and both 80s within 5 s of 85: all four. 40 is not found.
    assert (score.precision, score.recall) == (1.0, pytest.approx(2 / 3))
    assert score.f1 == pytest.approx(0.8)


def test_temporal_means_are_means_of_questions_and_leave_out_the_empty_ones() -> None:
    half = temporal_score([0.0, 100.0], [0.0])
    none = temporal_score([50.0], [0.0])
    means = temporal_means([half, none, temporal_score([], [1.0]), temporal_score([1.0], [])])
    assert (means.precision, means.recall) == (0.25, 0.5)
    # The mean of the F1s (2/3 and 0), not the F1 of the means (1/3).
    assert means.f1 == pytest.approx(1 / 3)
    assert (means.questions, means.left_out) == (2, 2)
    assert temporal_means([None]).f1 == 0


def torch_ssim(first: np.ndarray, second: np.ndarray) -> float:
    """SSIM by grouped 2-D convolution, over [channels, rows, columns]."""
    offsets = torch.arange(11, dtype=torch.float64) - 5
    line = torch.exp(-(offsets**2) / (2 * 1.5**2))
    line /= line.sum()
    window = torch.outer(line, line).expand(first.shape[0], 1, 11, 11)

    def mean(planes: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(planes[None], window, padding=5, groups=len(planes))[0]

    x, y = (torch.from_numpy(side.astype(np.float64) / 255) for side in (first, second))
    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    quotient = (2 * mx * my + 1e-4) * (2 * vxy + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
    return float(quotient.mean())


@pytest.mark.parametrize("size", [(24, 40), (7, 64), (33, 5)])
def test_ssim_is_that_of_a_convolution(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 256, size=(*size, 3), dtype=np.uint8)
    second = np.clip(first.astype(int) + rng.integers(-30, 30, size=first.shape), 0, 255).astype(np.uint8)
    assert ssim(first, second, layout="as_coded") == pytest.approx(torch_ssim(first, second), abs=1e-12)
    channels_first = [side.transpose(2, 0, 1) for side in (first, second)]
    assert ssim(first, second, layout="image") == pytest.approx(torch_ssim(*channels_first), abs=1e-12)
    assert ssim(first, first) == pytest.approx(1)


def test_visual_precision_looks_for_evidence_and_recall_for_a_selected_frame() -> None:
    rng = np.random.default_rng(1)
    red, noise = np.zeros((16, 16, 3), np.uint8), rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    red[..., 0] = 200
    unreadable = np.zeros((0,), np.uint8)
    score = visual_score([red, unreadable], [red, noise])
    assert score is not None
    assert score.precision == pytest.approx(1)
    assert score.recall == pytest.approx((1 + ssim(noise, red)) / 2)
    assert visual_score([unreadable], [red]) is None


def test_visual_f1_is_made_of_the_means() -> None:
    means = visual_means([VisualScore(1.0, 0.5), VisualScore(0.5, 0.0), None])
    assert (means.precision, means.recall) == (0.75, 0.25)
    assert means.f1 == pytest.approx(0.375)
    assert visual_means([]).f1 == 0


def test_pictures_of_different_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="shapes"):
        ssim(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8))
