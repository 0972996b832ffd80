"""The input of a selector: the candidate frames of a video, in time order, and whatever was computed for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hybrid.errors import InputError
from hybrid.values import Float32Array, FloatArray, IntArray

__all__ = ["Candidates", "ScoreFrames"]

ScoreFrames = Callable[[IntArray], FloatArray]
"""Scores on demand: int64 [n] rows in, float64 [n] scores out, for selectors that need few of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The frames that can be chosen. Row ``i`` of everything is candidate ``i``.

    What was not computed is None.

    Attributes:
        seconds: float64 [N], times of the candidates, not decreasing.
        scores: float64 [N], relevance to the question, finite; more is better, on any scale.
        similarities: float64 [N], relevance by a model that scores every frame on its own (CLIP's cosine, or that
            of another scorer), on any scale; for selectors that weigh two kinds of scores.
        gens_scores: float64 [N], GenS's 1 to 5, 0 where there is none.
        embeddings: float32 [N, D], pictures as unit vectors.
        query: float32 [D], the question as a unit vector of the same space.
        prompts: float32 [P, D], several texts made from the question, as unit vectors.
        score_frames: gives the scores of some rows, where scoring all of them costs too much.

    Raises:
        InputError: lengths that differ, times that go back, or numbers that are not finite.
    """

    seconds: FloatArray
    scores: FloatArray | None = None
    similarities: FloatArray | None = None
    gens_scores: FloatArray | None = None
    embeddings: Float32Array | None = None
    query: Float32Array | None = None
    prompts: Float32Array | None = None
    score_frames: ScoreFrames | None = None

    def __post_init__(self) -> None:
        n = len(self.seconds)
        if self.seconds.ndim != 1 or (n > 1 and not (np.diff(self.seconds) >= 0).all()):
            raise InputError("the times of the candidates must be one list of seconds that does not decrease")
        for name in ("scores", "similarities", "gens_scores"):
            array = getattr(self, name)
            if array is not None and array.shape != (n,):
                raise InputError(f"{n} candidates need {n} {name}, not an array of the shape {list(array.shape)}")
        if self.embeddings is not None and (self.embeddings.ndim != 2 or len(self.embeddings) != n):
            raise InputError(f"{n} candidates need embeddings [{n}, D], not {list(self.embeddings.shape)}")
        for name in ("seconds", "scores", "similarities", "gens_scores", "embeddings", "query", "prompts"):
            array = getattr(self, name)
            if array is not None and not np.isfinite(array).all():
                raise InputError(f"{name} of the candidates hold a number that is not finite")

    def __len__(self) -> int:
        return len(self.seconds)
