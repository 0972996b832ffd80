"""How many of all questions to the bundled video are answered rightly, by the rule of ``hybrid demo``.

    python -m bench.accuracy.demo_video --archive FOLDER [--out FILE]

The six of the demo were chosen among those that are: this says among how many, and names the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.command import make_parser, run_command
from bench.report import circumstances, print_table, write_result
from bench.world.make_demo import demo_world
from bench.world.questions import KINDS, choose_questions
from hybrid.demo import DemoQuestion, answers_rightly, demo_video
from hybrid.engine import Engine
from hybrid.progress import NullProgress

__all__ = ["count_right", "main"]

EVERY: Final = 1000
"""More questions of a kind than there are."""


def count_right(engine: Engine, *, per_kind: int, frames: int) -> dict[str, Any]:
    """Ask questions of every kind, and hold the answers against the truth.

    Args:
        engine: its archive gets the video's index.
        per_kind: at most so many of each kind.
        frames: budget of each answer.
    """
    video = demo_video()
    engine.index(video, progress=NullProgress())
    questions = choose_questions(demo_world(), per_kind=per_kind)
    answers = engine.ask_many(video, [question.text for question in questions], frames=frames)
    right = [
        answers_rightly(answer.frames, DemoQuestion(question.text, question.moments))
        for question, answer in zip(questions, answers, strict=True)
    ]
    asked_of = Counter(question.kind for question in questions)
    right_of = Counter(question.kind for question, good in zip(questions, right, strict=True) if good)
    return {
        "questions": len(questions),
        "right": sum(right),
        "by_kind": {kind: {"questions": asked_of[kind], "right": right_of[kind]} for kind in KINDS},
        "unseen_pairs": {
            "questions": sum(question.held_out for question in questions),
            "right": sum(question.held_out and good for question, good in zip(questions, right, strict=True)),
        },
        "wrong": [question.text for question, good in zip(questions, right, strict=True) if not good],
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Count and report."""
    parser = make_parser(__doc__)
    parser.add_argument("--archive", type=Path, required=True, help="folder of the index")
    parser.add_argument("--frames", type=int, default=12, help="budget; that of the demo by default")
    given = parser.parse_args(argv)
    run = circumstances()
    with Engine.open(given.archive, preset="tiny") as engine:
        result = count_right(engine, per_kind=EVERY, frames=given.frames)
    rows = [[kind, one["right"], one["questions"]] for kind, one in result["by_kind"].items()]
    rows.append(["unseen pairs, of any kind", *(result["unseen_pairs"][name] for name in ("right", "questions"))])
    print_table(["kind", "right", "questions"], [*rows, ["all", result["right"], result["questions"]]])
    write_result("demo_video", {"frames": given.frames, **result}, given.out, run=run)


if __name__ == "__main__":
    run_command(main)
