"""TiFRe's selection: the frames most similar to any of the things that the question is about.

TiFRe (arXiv 2602.08861), from second-hand descriptions: a language model turns the question into prompts
such as "a photo of a <object>", and

    S_j = max over prompts i of cos(text_i, frame_j)

The frames with the highest S are chosen; their number is not known for every setting, here it is the budget.
Missing: the language model (the prompts come with the candidates: the caller's, or a photo of each word of the
question that may name a thing, :func:`object_prompts`), and the merging of the other frames' features into the kept
ones, which is no choice of frames and whose formula is not known. Ties go to the earlier frame.
"""

from __future__ import annotations

import re

import numpy.typing as npt

from hybrid.errors import InputError
from hybrid.selectors.ranking import as_vectors, best_rows, first_equal_rows
from hybrid.selectors.selector import Selector
from hybrid.values import IntArray

__all__ = ["object_prompts", "tifre"]

_WORD = re.compile(r"\w+(?:['\u2019-]\w+)*")
_STOPWORDS = """
    a about after again all also am an and another any are as at be because been before being below between both but
    by can could did do does doing down during each either else ever every few first following for from had happen
    happened happens has have he her here him his how i if in into is it its just last many may me might more most much
    must my near next no none nor not now of off on once one only or other our out over own right s same she should
    show showed shown shows so some still such t take taken takes than that the their them then there these they thing
    things this those through time times to too under until up use used uses using very video was we were what when
    where whether which while who whom whose why will with within without would you your frame frames scene scenes see
    seen visible appear appears appeared come comes came go goes went get gets make makes made moment
"""
_NO_OBJECTS = frozenset(_STOPWORDS.split())
"""Words of English questions that name no object."""


def object_prompts(question: str) -> tuple[str, ...]:
    """A text for each word of a question that may name a thing, once, in order; the question itself if none does.

    A rule in place of the language model that writes them in TiFRe.

    >>> object_prompts("Where is the red bag when the man comes?")
    ('a photo of a red', 'a photo of a bag', 'a photo of a man')
    """
    objects = dict.fromkeys(word for word in _WORD.findall(question.lower()) if word not in _NO_OBJECTS)
    return tuple(f"a photo of a {each}" for each in objects) or (question,)


def tifre(embeddings: npt.ArrayLike, prompts: npt.ArrayLike, frames: int) -> IntArray:
    """Choose the rows that are most similar to any one of the prompts.

    Args:
        embeddings: [N, D], unit vectors.
        prompts: [P, D], unit vectors, at least one.
        frames: the budget, at least 1.

    Returns:
        int64, increasing; ``min(N, frames)`` of them.

    Raises:
        InputError: shapes that do not fit.
    """
    vectors, texts = as_vectors(embeddings), as_vectors(prompts)
    if len(texts) == 0 or texts.shape[1] != vectors.shape[1]:
        raise InputError(f"embeddings {list(vectors.shape)} and prompts {list(texts.shape)} must be [N, D] and [P, D]")
    return best_rows((vectors @ texts.T).max(axis=1)[first_equal_rows(vectors)], frames)


SELECTOR = Selector(
    tifre,
    summary="the best similarity to any of several prompts",
    source="TiFRe (arXiv 2602.08861)",
    partial="selection only: prompts from the caller or by a rule, not by a language model; no merging of features",
)
