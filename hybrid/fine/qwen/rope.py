"""Rotary positions of a prompt with visual items, in closed form.

Qwen2-VL and Qwen2.5-VL give every token three positions: time, row and column (M-RoPE; arXiv
2409.12191, section 2.1). Text counts on in all three at once. A visual item spreads its tokens
over rows and columns from the current position on, and the text after it goes on behind its
longer side. transformers derives this token by token (``get_rope_index``); here it follows from
the layout of the prompt alone, and no state is kept in the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hybrid.values import IntArray

__all__ = ["VisualGrid", "rope_positions"]


@dataclass(frozen=True, slots=True)
class VisualGrid:
    """The tokens of one visual item after merging, in order of time, row, column.

    Attributes:
        steps: how many moments (1 for an image).
        rows, columns: tokens per moment.
        step_positions: by how much the time position grows per moment: 1 for an image,
            ``tokens_per_second * seconds_per_step`` for a video.
    """

    steps: int
    rows: int
    columns: int
    step_positions: float = 1.0

    @property
    def tokens(self) -> int:
        """How many tokens the item takes in the prompt."""
        return self.steps * self.rows * self.columns


def rope_positions(layout: Sequence[int | VisualGrid]) -> tuple[IntArray, int]:
    """Positions of all tokens of a prompt.

    Args:
        layout: the prompt in order: a number stands for a run of so many tokens of text, a
            :class:`VisualGrid` for one visual item.

    Returns:
        int64 [3, L] (time, row, column), and the position of the first token after the prompt,
        the same in all three, if the prompt ends with text.

    As in transformers 5.17 to 5.23, a video item advances the text after it by its longer side
    only, however long it lasts, and new tokens go on from the text, even where a long video's
    time positions are ahead of it (``generate`` does so; the model's ``rope_deltas``, which it
    ignores then, would go on from the greatest position).
    Fractional positions per step are kept until they are scaled, as 5.23 does; 5.17 rounds the
    seconds per step down first, which differs only for videos of more than 1 frame per second or
    at odd rates.
    """
    pieces: list[IntArray] = []
    here = 0
    for part in layout:
        if isinstance(part, VisualGrid):
            pieces.append(_grid_positions(part) + here)
            here += max(part.rows, part.columns)
        else:
            pieces.append(np.broadcast_to(np.arange(here, here + part, dtype=np.int64), (3, part)))
            here += part
    if not pieces:
        return np.zeros((3, 0), dtype=np.int64), 0
    positions = np.concatenate(pieces, axis=1)
    return positions, here


def _grid_positions(grid: VisualGrid) -> IntArray:
    """int64 [3, tokens], from 0."""
    time, row, column = np.indices((grid.steps, grid.rows, grid.columns), dtype=np.int64).reshape(3, -1)
    # Truncated after scaling, as a fractional number of positions per step is legal.
    scaled = (time * grid.step_positions).astype(np.int64)
    return np.stack([scaled, row, column])
