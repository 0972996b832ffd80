"""The scorers on a CUDA device give what they give on a CPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hybrid.scorers.interface import VideoScorer
from hybrid.scorers.spec import load_video_scorer
from hybrid.values import ByteArray


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["clip", "blip-itm", "yes", "tspo", "peek"])
def test_scores_are_those_of_the_cpu(
    name: str, spec_of: Callable[[str], str], scorer_of: Callable[..., VideoScorer], frames: list[ByteArray]
) -> None:
    asked = ["When is the red circle visible?", "What comes right after the blue square?"]
    on_device = load_video_scorer(spec_of(name), device="cuda", dtype="float32")
    assert on_device.device.startswith("cuda")
    scores = scorer_of(name).score(frames, asked)
    assert on_device.score(frames, asked) == pytest.approx(scores, rel=0.02, abs=0.02)
    half = load_video_scorer(spec_of(name), device="cuda").score(frames, asked)  # bfloat16 by default
    assert half.shape == scores.shape
