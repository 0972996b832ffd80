"""What is told while GenS still writes: spans of an answer, and all that it said to a question that is finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from hybrid.answers import Span
from hybrid.engine.ask.spans import gens_spans
from hybrid.engine.work import Work
from hybrid.fine.interface import OnScores, ScoreUpdate, WindowScores
from hybrid.fine.windows import FeatureWindow, FineScores, merge

__all__ = ["ListenerError", "OnFine", "OnSpans", "SpanStream", "SpanUpdate", "carried"]


@dataclass(frozen=True, slots=True)
class SpanUpdate:
    """What is known of an answer's spans so far.

    Attributes:
        question: place of the question among those that are asked together.
        spans: of all entries that are complete; they only grow and join, but for a device that runs
            out of memory, which starts the windows again.
        finished: whether GenS has said all about this question.
    """

    question: int
    spans: tuple[Span, ...]
    finished: bool


OnSpans = Callable[[SpanUpdate], None]
"""Called in the thread that asked, between two steps of decoding; what it raises ends the asking.

It cannot ask GenS itself, which is busy (:class:`~hybrid.errors.InputError`). Where GenS is asked from frames, one
question after the other, it is called between them, and can.
"""

OnFine = Callable[[int, FineScores | None], None]
"""(place of the question, what GenS said), once a question, when its record is kept: None if GenS could not run for it.

Called like :data:`OnSpans`, and after it.
"""


class ListenerError(Exception):
    """Carries what a listener raised past the places where errors of models are dealt with."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def carried() -> Iterator[None]:
    """Around what a scorer calls: what is raised there is no error of the scorer, and must not be taken for one.

    Raises:
        ListenerError: in place of any error.
    """
    try:
        yield
    except Exception as exc:
        raise ListenerError(exc) from exc


class SpanStream:
    """Turns scores of windows into spans of questions.

    Args:
        works: one a question.
        wanted: how many frames GenS reads for each question.
        on_spans: is told.
    """

    def __init__(self, works: Sequence[Work], wanted: Sequence[int], on_spans: OnSpans) -> None:
        self._works, self._wanted, self._tell = works, wanted, on_spans
        self._scores = [np.zeros(len(work.timeline), dtype=np.int8) for work in works]
        self._read = [np.zeros(len(work.timeline), dtype=bool) for work in works]

    def missing(self, question: int, frames: int) -> None:
        """So many frames of a question cannot be read after all."""
        self._wanted = [n - frames if place == question else n for place, n in enumerate(self._wanted)]

    def listen(self, windows: Sequence[FeatureWindow]) -> OnScores:
        """What is to be told of the entries of these windows; forgets what it heard of their frames before."""
        for window in windows:
            self._scores[window.question][window.window.rows] = 0
            self._read[window.question][window.window.rows] = False

        def hear(update: ScoreUpdate) -> None:
            window = windows[update.place]
            self._hear(window, update)

        return hear

    def _hear(self, window: FeatureWindow, update: ScoreUpdate) -> None:
        question, rows = window.question, window.window.rows
        merge(self._scores[question], rows, WindowScores(scores=update.scores, status="ok", text=""))
        if update.finished:
            self._read[question][rows] = True
        finished = bool(np.count_nonzero(self._read[question]) >= self._wanted[question])
        spans = gens_spans(self._works[question], self._scores[question])
        with carried():
            self._tell(SpanUpdate(question, spans, finished))
