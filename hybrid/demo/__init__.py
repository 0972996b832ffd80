"""The bundled demonstration: a video of coloured shapes, questions about it, and the right answers.

The video is drawn and encoded by ``python -m bench.world.make_demo``; nobody's footage is in it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from hybrid.values import Span

__all__ = ["DemoQuestion", "answers_rightly", "demo_questions", "demo_video"]

VIDEO_FILE = "world.mp4"
QUESTIONS_FILE = "questions.json"


@dataclass(frozen=True, slots=True)
class DemoQuestion:
    """A question about the video, and (start, end) in seconds of the scenes that answer it."""

    text: str
    moments: tuple[tuple[float, float], ...]


def demo_video() -> Path:
    """Where the video lies: about five minutes of H.264, 320x240."""
    return Path(str(resources.files(__package__) / VIDEO_FILE))


def demo_questions() -> tuple[DemoQuestion, ...]:
    """The questions and their truth."""
    text = (resources.files(__package__) / QUESTIONS_FILE).read_text(encoding="utf-8")
    return tuple(
        DemoQuestion(entry["question"], tuple((float(start), float(end)) for start, end in entry["moments"]))
        for entry in json.loads(text)["questions"]
    )


def answers_rightly(spans: tuple[Span, ...], question: DemoQuestion) -> bool:
    """Whether the best spans are the scenes asked for: each scene has one, and none lies elsewhere.

    A question about what comes after something has that something among its spans too, with a lower
    score; so only the spans with the highest score are held against the truth.
    """
    highest = max((span.score for span in spans), default=0.0)
    best = [span for span in spans if span.score == highest]
    found = [
        any(span.start_seconds < end and start < span.end_seconds for span in best) for start, end in question.moments
    ]
    middles = [(span.start_seconds + span.end_seconds) / 2 for span in best]
    inside = [any(start <= middle < end for start, end in question.moments) for middle in middles]
    return bool(best) and all(found) and all(inside)
