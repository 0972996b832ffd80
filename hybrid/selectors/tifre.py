"""TiFRe's selection: the frames that show best any of the things that the question is about.

TiFRe (arXiv 2602.08861), from second-hand descriptions: a language model turns the question into prompts
such as "a photo of a <object>", and

    S_j = max over prompts i of cos(text_i, frame_j)

The frames with the highest S are kept; how many is not known for every setting, here it is the budget.
Left out: the language model (the prompts come with the candidates), and the merging of the other frames'
features into the kept ones, which is no choice of frames and whose formula is not known. Ties go to the
earlier frame.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybrid.errors import InputError
from hybrid.selectors.ranking import best_rows, check_budget
from hybrid.selectors.selector import Selector
from hybrid.values import IntArray

__all__ = ["tifre"]


def tifre(embeddings: npt.ArrayLike, prompts: npt.ArrayLike, frames: int) -> IntArray:
    """Choose the rows that are most similar to any one of the prompts.

    Args:
        embeddings: [N, D], unit vectors.
        prompts: [P, D], unit vectors, at least one.
        frames: the budget, at least 1.

    Returns:
        int64, increasing; ``min(N, frames)`` of them.

    Raises:
        InputError: a budget below 1, or shapes that do not fit.
    """
    frames = check_budget(frames)
    vectors, texts = np.asarray(embeddings), np.asarray(prompts)
    if vectors.ndim != 2 or texts.ndim != 2 or len(texts) == 0 or texts.shape[1] != vectors.shape[1]:
        raise InputError(f"embeddings {list(vectors.shape)} and prompts {list(texts.shape)} must be [N, D] and [P, D]")
    return best_rows((vectors @ texts.T).max(axis=1), frames)


SELECTOR = Selector(
    name="tifre",
    choose=tifre,
    summary="the best similarity to any of several prompts",
    source="TiFRe (arXiv 2602.08861)",
    partial="selection only: no writing of prompts, no merging of features",
)
