"""Make the video and the questions of ``hybrid demo``, which are shipped with the package."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Final

from bench.command import run_command
from bench.world.film import film_world
from bench.world.questions import choose_questions
from bench.world.scenes import World, make_world
from hybrid.demo import QUESTIONS_FILE, VIDEO_FILE

__all__ = ["demo_world", "make_demo"]

SEED: Final = 777
SECONDS: Final = 300.0

_QUESTIONS = (
    "When can the green star be seen?",
    "When is the red cross to the right of the white cross?",
    "When does the yellow square appear for the first time?",
    "When is the white triangle last seen?",
    "What follows directly after the purple square?",
    "What comes right before the white circle?",
)
"""One of each kind, chosen from those that the shipped models answer rightly: a demo shows how it is meant to
be. How many of all questions to this video are answered rightly is counted by ``bench.accuracy.demo_video``; how often
the models are right on other videos is measured by ``bench.accuracy.world``. Green stars and
white crosses are among the pairs that do not occur in training."""


def demo_world(seed: int = SEED, seconds: float = SECONDS) -> World:
    """What the demo's video shows.

    Args:
        seed: of the test split, from which the models have seen nothing.
        seconds: about how long the video is.
    """
    # Little noise: it is what an encoder spends most of a file's size on.
    return make_world("test", seed, seconds=seconds, noise=2.0)


def make_demo(folder: Path, *, seed: int, seconds: float) -> World:
    """Write the video and its questions.

    Args:
        folder: where to.
        seed, seconds: see :func:`demo_world`.
    """
    world = demo_world(seed, seconds)
    # Anew, even if there is one: that may be of another seed, or an older world.
    filmed = folder / f"{world.name}.unfinished.mp4"
    filmed.unlink(missing_ok=True)
    film_world(world, filmed, crf=30).replace(folder / VIDEO_FILE)
    possible = {question.text: question for question in choose_questions(world, per_kind=1000)}
    chosen = [possible[text] for text in _QUESTIONS]
    document = {
        "video": VIDEO_FILE,
        "made_by": f"python -m bench.world.make_demo --seed {seed} --seconds {seconds:g}",
        "questions": [
            {
                "question": question.text,
                "kind": question.kind,
                "moments": [[round(start, 3), round(end, 3)] for start, end in question.moments],
            }
            for question in chosen
        ],
    }
    (folder / QUESTIONS_FILE).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return world


def main() -> None:
    """``python -m bench.world.make_demo``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("hybrid/demo"))
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    given = parser.parse_args()
    world = make_demo(given.folder, seed=given.seed, seconds=given.seconds)
    for scene in world.scenes:
        shown = ", ".join(map(str, scene.things))
        print(f"{scene.start_seconds:7.2f} to {scene.end_seconds:7.2f} s  {shown}")


if __name__ == "__main__":
    run_command(main)
