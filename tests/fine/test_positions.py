"""Closed-form rotary positions against transformers' token by token derivation."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.fine.qwen.writer import VisualGrid, rope_positions

images = st.builds(VisualGrid, st.just(1), st.integers(1, 6), st.integers(1, 6))
sides = st.integers(1, 4)


def seconds_per_step() -> list[float]:
    """Transformers before 5.23 (5.17 for one) rounds them down to whole seconds in ``get_rope_index``."""
    import transformers

    version = tuple(map(int, transformers.__version__.split(".")[:2]))
    return [1.0, 2.0, 3.0] + ([0.25, 0.5, 1.7] if version >= (5, 23) else [])


videos = st.tuples(st.integers(1, 9), sides, sides, st.deferred(lambda: st.sampled_from(seconds_per_step())))
runs = st.integers(1, 20)


def reference(model: Any, layout: list[Any], steps: list[float]) -> list[list[int]]:
    """get_rope_index on a prompt of that layout; a video's grid has its seconds per step in ``steps``."""
    import torch

    kinds: list[int] = []
    grids: dict[int, list[list[int]]] = {1: [], 2: []}
    for part in layout:
        if isinstance(part, int):
            kinds += [0] * part
            continue
        kind = 1 if part.steps == 1 and part.step_positions == 1.0 else 2
        kinds += [kind] * part.tokens
        grids[kind].append([part.steps, part.rows * 2, part.columns * 2])
    kinds_tensor = torch.tensor([kinds])
    positions, _ = model.model.get_rope_index(
        torch.zeros_like(kinds_tensor),
        mm_token_type_ids=kinds_tensor,
        image_grid_thw=torch.tensor(grids[1]) if grids[1] else None,
        video_grid_thw=torch.tensor(grids[2]) if grids[2] else None,
        second_per_grid_ts=torch.tensor(steps) if steps else None,
    )
    expected: list[list[int]] = positions[:, 0].tolist()
    return expected


def check(model: Any, layout: list[Any], steps: list[float]) -> None:
    positions, following = rope_positions(layout)
    assert positions.tolist() == reference(model, layout, steps)
    # ``generate`` counts on from the last token.
    assert [axis[-1] + 1 for axis in positions.tolist()] == [following] * 3


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(runs, images), min_size=1, max_size=8), runs)
def test_images(reference_model: Any, pairs: list[tuple[int, VisualGrid]], tail: int) -> None:
    check(reference_model, [part for pair in pairs for part in pair] + [tail], [])


@settings(deadline=None, max_examples=50)
@given(runs, videos, runs)
def test_video(reference_model: Any, head: int, video: tuple[int, int, int, float], tail: int) -> None:
    steps, rows, columns, seconds = video
    # tokens_per_second of the small checkpoint is 2, as in Qwen2.5-VL-3B. Kept off 1.0, by which the
    # reference above tells images from videos.
    grid = VisualGrid(steps, rows, columns, step_positions=2 * seconds + (1e-9 if seconds == 0.5 else 0))
    check(reference_model, [head, grid, tail], [seconds])


def test_full_window_of_square_frames() -> None:
    """256 frames of 4x4 tokens: each block advances the text by 4 though it has 16 tokens."""
    layout = [part for _ in range(256) for part in (5, VisualGrid(1, 4, 4))] + [7]
    positions, following = rope_positions(layout)
    assert positions.shape == (3, 256 * 21 + 7)
    assert following == 256 * 9 + 7
    assert positions[:, 5:21].tolist() == [
        [5] * 16,
        [5] * 4 + [6] * 4 + [7] * 4 + [8] * 4,
        [5, 6, 7, 8] * 4,
    ]


@pytest.mark.parametrize(("layout", "following"), [([], 0), ([3], 3)])
def test_text_only(layout: list[int], following: int) -> None:
    positions, after = rope_positions(layout)
    assert after == following
    assert positions.tolist() == [list(range(following))] * 3
