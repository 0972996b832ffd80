"""The last step: which frames are the answer. By default GenS's best, or CLIP's; else a selector by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hybrid.clip.encoder import FrameEncoder
from hybrid.engine.work import Work
from hybrid.gens.windows import FineScores
from hybrid.selectors.candidates import Candidates
from hybrid.selectors.registry import find_selector, select
from hybrid.values import FloatArray, Hits, IntArray

__all__ = ["choose_rows"]


def choose_rows(
    work: Work, name: str, fine: FineScores | None, hits: Hits | None, encoder: Callable[[], FrameEncoder]
) -> IntArray:
    """Choose frames of the whole video with a selector.

    Args:
        work: the question.
        name: of the selector.
        fine: GenS's scores; frames that it did not name have 0. They are what the selector goes by.
        hits: all frames of the video by similarity; what the selector goes by without GenS.
        encoder: is called if the selector compares frames with the question itself.

    Returns:
        int64, increasing rows; a frame that is held over several samples counts once.
    """
    needs = find_selector(name).needs
    rows = work.timeline.distinct_rows()
    scores = _scores(work, fine, hits)
    scores = None if scores is None else scores[rows]
    candidates = Candidates(
        seconds=work.timeline.pts_seconds[rows],
        scores=scores,
        embeddings=work.archive.read(work.manifest)[rows] if "embeddings" in needs else None,
        query=encoder().encode_text(work.question).vector if "query" in needs else None,
        score_frames=None if scores is None else scores.__getitem__,
    )
    chosen = select(name, candidates, work.options.frames, seed=work.options.seed)
    selected: IntArray = rows[np.unique(chosen)]
    return selected


def _scores(work: Work, fine: FineScores | None, hits: Hits | None) -> FloatArray | None:
    if fine is not None:
        return fine.scores.astype(np.float64)
    if hits is None:
        return None
    # A frame that was held back from the search as a copy of another is left out above as well.
    scores = np.full(len(work.timeline), float(hits.similarities.min()) if len(hits) else 0.0)
    scores[hits.rows] = hits.similarities
    return scores
