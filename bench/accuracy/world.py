"""How well frames are found, on videos of the world, whose truth is known exactly.

Prints a table of methods (uniform, clip-topk, gens in windows, hybrid), what GenS and CLIP do on their
own, and one line of JSON. Intervals are bootstrapped, clustered by video.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.metrics.bootstrap import Difference, Estimate, bootstrap_difference, bootstrap_mean
from bench.metrics.moment_recall import moment_recall
from bench.report import circumstances, print_table, write_result
from bench.world.exam import Exam, prepare_exam
from bench.world.questions import ANCHOR_SCORE, ANSWER_SCORE, KINDS, Question, choose_questions
from bench.world.scenes import World
from hybrid.engine import Engine
from hybrid.gens.load import load_scorer
from hybrid.gens.scorer import FrameScorer
from hybrid.models.tiny import tiny_encoder, tiny_sampler
from hybrid.progress import NullProgress
from hybrid.values import Answer, ByteArray, FloatArray, IntArray

__all__ = ["Given", "frame_f1", "given_by"]

WINDOW: Final = 256
TEMPORAL: Final = ("after", "before")


@dataclass(frozen=True, slots=True)
class Given:
    """What a method gave for a question: when its frames are shown, and how long each stage took."""

    seconds: tuple[float, ...]
    stages: dict[str, float]


Method = Callable[[Engine, Exam, Question, int], Given]


def given_by(answer: Answer) -> Given:
    """The frames and the times of an answer."""
    return Given(
        tuple(frame.seconds for frame in answer.frames), {stage.name: stage.seconds for stage in answer.stages}
    )


def _uniform(engine: Engine, exam: Exam, question: Question, frames: int) -> Given:
    times = _times(engine, exam)
    places = ((np.arange(frames) + 0.5) * len(times) / frames).astype(np.int64)
    return Given(tuple(times[np.unique(places)].tolist()), {})


def _clip_topk(engine: Engine, exam: Exam, question: Question, frames: int) -> Given:
    return given_by(engine.ask(exam.video, question.text, frames=frames, fine=False))


def _gens(engine: Engine, exam: Exam, question: Question, frames: int) -> Given:
    return given_by(engine.ask(exam.video, question.text, frames=frames, coarse=False))


def _hybrid(engine: Engine, exam: Exam, question: Question, frames: int) -> Given:
    return given_by(engine.ask(exam.video, question.text, frames=frames))


METHODS: Final[dict[str, Method]] = {
    "uniform": _uniform,
    "clip-topk": _clip_topk,
    "gens": _gens,
    "hybrid": _hybrid,
}


def _times(engine: Engine, exam: Exam) -> FloatArray:
    """When each sampled frame of the video is shown: float64 [N]."""
    archive = engine.archive
    return archive.timeline(archive.require(archive.identify(exam.video))).pts_seconds


def frame_f1(given: IntArray, truth: IntArray, *, least: int) -> float:
    """F1 of the frames with a score of ``least`` or more; 1 where there are none and none are given.

    Args:
        given: int64 [N] scores, 0 for none.
        truth: int64 [N].
        least: smallest score that counts.
    """
    found, wanted = given >= least, truth >= least
    both = int((found & wanted).sum())
    total = int(found.sum() + wanted.sum())
    return 2 * both / total if total else 1.0


def compare_methods(engine: Engine, exams: Sequence[Exam], *, frames: int) -> dict[str, Any]:
    """Evidence recall of every method on the same questions, and how they differ."""
    recall: dict[str, list[float]] = {name: [] for name in METHODS}
    stages: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in METHODS}
    counts: dict[str, list[int]] = {name: [] for name in METHODS}
    asked = [(exam, question) for exam in exams for question in exam.questions]
    for exam, question in asked:
        for name, method in METHODS.items():
            given = method(engine, exam, question, frames)
            recall[name].append(moment_recall(given.seconds, question.moments, within_seconds=0.0))
            counts[name].append(len(given.seconds))
            for stage, seconds in given.stages.items():
                stages[name][stage].append(seconds)
    videos = [exam.world.name for exam, _ in asked]
    kinds = [question.kind for _, question in asked]
    groups = {"all": list(range(len(asked)))}
    groups["temporal"] = [place for place, kind in enumerate(kinds) if kind in TEMPORAL]
    groups |= {kind: [place for place, other in enumerate(kinds) if other == kind] for kind in KINDS}
    return {
        "frames_asked_for": frames,
        "methods": {
            name: {
                "evidence_recall": {group: asdict(_mean(recall[name], videos, rows)) for group, rows in groups.items()},
                "mean_frames": statistics.mean(counts[name]),
                "median_seconds": {stage: statistics.median(all_of) for stage, all_of in stages[name].items()},
            }
            for name in METHODS
        },
        "hybrid_minus_clip_on_temporal": asdict(_difference(recall, "clip-topk", videos, groups["temporal"])),
        "hybrid_minus_uniform_on_all": asdict(_difference(recall, "uniform", videos, groups["all"])),
    }


def _mean(values: Sequence[float], videos: Sequence[str], rows: Sequence[int]) -> Estimate:
    return bootstrap_mean([values[row] for row in rows], [videos[row] for row in rows])


def _difference(recall: dict[str, list[float]], other: str, videos: Sequence[str], rows: Sequence[int]) -> Difference:
    first, second = ([recall[name][row] for row in rows] for name in ("hybrid", other))
    return bootstrap_difference(first, second, [videos[row] for row in rows])


def gens_alone(engine: Engine, scorer: FrameScorer, exams: Sequence[Exam], *, per_kind: int) -> dict[str, Any]:
    """GenS on one window of each video, the scenes within its first 256 frames, and questions about them."""
    f1: dict[str, list[tuple[float, str]]] = defaultdict(list)
    parsed: list[tuple[float, str]] = []
    seconds: list[float] = []
    for exam in exams:
        times = _times(engine, exam)[:WINDOW]
        part = _whole_scenes(exam.world, float(times[-1]))
        # A scene that the window would cut is shown by its frames, but not in the truth: it is left out of both.
        times = times[times < part.duration_seconds]
        frames = _frames(engine, exam, len(times))
        for question in choose_questions(part, per_kind=per_kind):
            scored = scorer.score(frames, question.text)
            given, truth = np.zeros(len(times), np.int64), question.scores_at(times)
            for place, score in scored.scores.items():
                given[place] = score
            least = ANSWER_SCORE if question.kind in TEMPORAL else ANCHOR_SCORE
            value = (frame_f1(given, truth, least=least), exam.world.name)
            f1[question.kind].append(value)
            if question.kind in TEMPORAL:
                f1["temporal"].append(value)
            if question.held_out:
                f1[f"{question.kind}, unseen pair"].append(value)
                f1["any kind, unseen pair"].append(value)
            whole = scored.status == "ok" or (scored.status == "empty" and scored.text == "{}")
            parsed.append((float(whole), exam.world.name))
            seconds.append(sum(scored.seconds.values()))
    estimates = {name: bootstrap_mean(*zip(*values, strict=True)) for name, values in sorted(f1.items())}
    return {
        "frame_f1": {name: asdict(estimate) for name, estimate in estimates.items()},
        "replies_that_parse": asdict(bootstrap_mean(*zip(*parsed, strict=True))),
        "median_seconds": statistics.median(seconds),
    }


def _frames(engine: Engine, exam: Exam, count: int) -> list[ByteArray]:
    archive = engine.archive
    timeline = archive.timeline(archive.require(archive.identify(exam.video)))
    return [rgb for _, rgb in engine.read_frames(exam.video, timeline.ordinals[:count].tolist())]


def _whole_scenes(world: World, until_seconds: float) -> World:
    """The part of a video up to a time, without the scene that is cut there."""
    whole = tuple(scene for scene in world.scenes if scene.end_seconds <= until_seconds)
    return replace(world, scenes=whole)


def clip_on_an_hour(engine: Engine, exam: Exam, *, top: int = WINDOW) -> dict[str, Any]:
    """Of the frames that show what is asked for, the share that CLIP brings under the best 256 of an hour."""
    times = _times(engine, exam)
    shares, sizes = [], []
    for question in exam.questions:
        wanted = times[question.scores_at(times) > 0]
        if not 0 < len(wanted) <= top:
            continue
        found = {frame.seconds for frame in engine.ask(exam.video, question.text, frames=top, fine=False).frames}
        shares.append(float(np.mean([seconds in found for seconds in wanted.tolist()])))
        sizes.append(len(wanted))
    return {
        "frames": len(times),
        "questions": len(shares),
        "mean_frames_wanted": statistics.mean(sizes),
        "share_in_top_256": statistics.mean(shares),
        "worst_question": min(shares),
    }


def _encoder_identity(engine: Engine, exam: Exam) -> dict[str, Any]:
    return dict(engine.archive.require(engine.archive.identify(exam.video)).config.encoder)


def _print(result: dict[str, Any]) -> None:
    methods = result["methods"]["methods"]
    groups = list(next(iter(methods.values()))["evidence_recall"])
    rows = []
    for name, figures in methods.items():
        recalls = [f"{figures['evidence_recall'][group]['value']:.3f}" for group in groups]
        stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in figures["median_seconds"].items())
        rows.append([name, f"{figures['mean_frames']:.1f}", *recalls, stages])
    print_table(["method", "frames", *groups, "median seconds"], rows)
    alone = result["gens_alone"]["frame_f1"]
    print_table(
        ["GenS alone, frame F1", "value", "95 % interval", "questions"],
        [
            [name, f"{e['value']:.3f}", f"{e['low']:.3f} to {e['high']:.3f}", e["questions"]]
            for name, e in alone.items()
        ],
    )


def main() -> None:
    """``python -m bench.accuracy.world``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="videos and indexes are kept here")
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--videos", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--per-kind", type=int, default=5, help="most questions of a kind about a video")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--hour", type=float, default=3600.0, help="seconds of the video that CLIP is measured on")
    parser.add_argument("--encoder", help="by default the tiny preset's")
    parser.add_argument("--sampler", help="by default the tiny preset's")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    encoder, sampler = given.encoder or tiny_encoder(), given.sampler or tiny_sampler()
    scorer = load_scorer(sampler, device="auto")
    exams = [
        prepare_exam(given.folder, given.split, seed, seconds=given.seconds, per_kind=given.per_kind)
        for seed in range(given.videos)
    ]
    hour = prepare_exam(given.folder, given.split, 10_000, seconds=given.hour, per_kind=1000, things=48)
    with Engine.open(given.folder / "archive", encoder=encoder, sampler=sampler) as engine:
        for exam in [*exams, hour]:
            engine.index(exam.video, progress=NullProgress())
        objects = tuple(question for question in hour.questions if question.kind == "object")
        result = {
            "split": given.split,
            "videos": len(exams),
            "seconds_of_each": given.seconds,
            "questions": sum(len(exam.questions) for exam in exams),
            "clip_on_an_hour": clip_on_an_hour(engine, Exam(hour.world, hour.video, objects)),
            "gens_alone": gens_alone(engine, scorer, exams, per_kind=given.per_kind),
            "methods": compare_methods(engine, exams, frames=given.frames),
            "models": {"encoder": _encoder_identity(engine, hour), "sampler": dict(scorer.identity)},
        }
    _print(result)
    write_result({**circumstances(), **result}, given.out)


if __name__ == "__main__":
    main()
