"""The bundled demonstration: a video of coloured shapes, questions about it, and the right answers.

The video is drawn and encoded by ``python -m bench.world.make_demo``; nobody's footage is in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from hybrid.answers import AnswerFrame

__all__ = ["DemoQuestion", "answers_rightly", "best_frames", "demo_questions", "demo_video"]

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


def answers_rightly(frames: Sequence[AnswerFrame], question: DemoQuestion) -> bool:
    """Whether the frames that GenS scored highest show the scenes asked for: each scene, and nothing else.

    A question about what comes after something has that something among its frames and in its spans
    too, with a lower score; so only the frames with the highest score are held against the truth.
    """
    best = best_frames(frames)
    found = [any(start <= frame.seconds < end for frame in best) for start, end in question.moments]
    inside = [any(start <= frame.seconds < end for start, end in question.moments) for frame in best]
    return bool(best) and all(found) and all(inside)


def best_frames(frames: Sequence[AnswerFrame]) -> list[AnswerFrame]:
    """Those with GenS's highest score; none where it scored none."""
    highest = max((frame.gens_score or 0 for frame in frames), default=0)
    return [frame for frame in frames if highest > 0 and frame.gens_score == highest]
