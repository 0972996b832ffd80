"""How well frames are found, on videos of the world, whose truth is known exactly.

Prints a table of methods (uniform, clip-topk, gens in windows, hybrid), what GenS and CLIP do on their
own, and one line of JSON. Intervals are bootstrapped, clustered by video.

Seconds of a question are of the whole answer. Cold: GenS knows nothing of the frames yet, which are decoded and go
through its vision encoder; one question a video, with nothing taken from the archive but CLIP's index. Warm: the video
was asked about before, and the features of frames that were read are in the archive.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.accuracy.run.methods import Method, parse_method, select_frames
from bench.command import check_counts, make_parser, run_command
from bench.metrics.bootstrap import bootstrap_difference, bootstrap_mean
from bench.metrics.frame_f1 import frame_f1
from bench.metrics.moment_recall import moment_recall
from bench.report import circumstances, print_table, write_result
from bench.world.exam import Exam, prepare_exam
from bench.world.questions import ANCHOR_SCORE, ANSWER_SCORE, KINDS, Question, choose_questions
from bench.world.scenes import World
from bench.world.things import ALL_THINGS
from hybrid.answers import Answer
from hybrid.clip.registry import load_encoder
from hybrid.engine import Engine
from hybrid.errors import InputError
from hybrid.fine.interface import FineModel, read_window
from hybrid.fine.load import load_scorer
from hybrid.fine.qwen.load import QwenScorer
from hybrid.options.engine import EngineOptions
from hybrid.presets import PRESETS
from hybrid.progress import NullProgress
from hybrid.values import ByteArray, FloatArray, IntArray, Timeline
from indexes.open_archive import open_archive

__all__ = ["main", "score_f1"]

WINDOW: Final = 256
TEMPORAL: Final = ("after", "before")
FIRST_HOUR_SEED: Final = 10_000
METHODS: Final[Mapping[str, Method]] = {
    "uniform": parse_method("uniform"),
    "clip-topk": parse_method("clip"),
    "gens": parse_method("gens"),
    "hybrid": parse_method("hybrid"),
}


@dataclass(slots=True)
class _Record:
    """What a method gave, question by question.

    Attributes:
        recall: evidence recall.
        frames: how many it gave.
        stages: seconds of each stage.
        reasons: why a stage did not do what it was asked to.
        degraded: how many answers that befell.
        cold, warm: seconds of whole answers; see the module.
    """

    recall: list[float] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    stages: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    reasons: Counter[str] = field(default_factory=Counter)
    degraded: int = 0
    cold: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)

    def add(self, question: Question, answer: Answer) -> None:
        """Keep what an answer shows of a method."""
        seconds = [frame.seconds for frame in answer.frames]
        self.recall.append(moment_recall(seconds, question.moments, within_seconds=0.0))
        self.frames.append(len(seconds))
        for stage in answer.stages:
            self.stages[stage.name].append(stage.seconds)
        self.reasons.update(stage.fallback_reason for stage in answer.stages if stage.fallback_reason)
        self.degraded += answer.degraded


def score_f1(given: IntArray, truth: IntArray, *, least: int) -> float:
    """F1 of the frames with a score of ``least`` or more; 1 where there are none and none are given.

    Args:
        given: int64 [N] scores, 0 for none.
        truth: int64 [N].
        least: smallest score that counts.
    """
    found, expected = np.flatnonzero(given >= least), np.flatnonzero(truth >= least)
    return frame_f1(found, expected).f1 if len(expected) else float(not len(found))


def compare_methods(engine: Engine, scorer: FineModel, exams: Sequence[Exam], *, frames: int) -> dict[str, Any]:
    """Evidence recall of every method on the same questions, and how they differ."""
    records = {name: _Record() for name in METHODS}
    for number, exam in enumerate(exams):
        _ask_cold(engine, scorer, exam, exam.questions[number % len(exam.questions)], records, frames)
        for index, question in enumerate(exam.questions):
            for name, method in METHODS.items():
                started = time.perf_counter()
                answer = select_frames(engine, method, exam.video, question.text, {"frames": frames})
                # The first question about a video brings GenS's features into the archive.
                if index > 0:
                    records[name].warm.append(time.perf_counter() - started)
                records[name].add(question, answer)
    asked = [(exam.world.name, question) for exam in exams for question in exam.questions]
    videos = [video for video, _ in asked]
    groups = _groups([question for _, question in asked])
    return {
        "frames_asked_for": frames,
        "methods": {name: _summary(record, videos, groups) for name, record in records.items()},
        "hybrid_minus_clip_on_temporal": _difference(records, "clip-topk", videos, groups.get("temporal", [])),
        "hybrid_minus_uniform_on_all": _difference(records, "uniform", videos, groups["all"]),
    }


def _ask_cold(
    engine: Engine, scorer: FineModel, exam: Exam, question: Question, records: Mapping[str, _Record], frames: int
) -> None:
    for name, method in METHODS.items():
        if isinstance(scorer, QwenScorer):
            scorer.prefix_cache.clear()
        started = time.perf_counter()
        select_frames(engine, method, exam.video, question.text, {"frames": frames, "features": False})
        records[name].cold.append(time.perf_counter() - started)


def _groups(questions: Sequence[Question]) -> dict[str, list[int]]:
    """Places of questions, by what they have in common; a group without questions is left out."""
    unseen = {index for index, question in enumerate(questions) if question.held_out}
    groups = {"all": list(range(len(questions)))}
    groups["temporal"] = [index for index, question in enumerate(questions) if question.kind in TEMPORAL]
    groups |= {kind: [index for index, one in enumerate(questions) if one.kind == kind] for kind in KINDS}
    groups |= {
        f"{name}, unseen pair": [index for index in indices if index in unseen] for name, indices in groups.items()
    }
    return {name: indices for name, indices in groups.items() if indices}


def _summary(record: _Record, videos: Sequence[str], groups: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    return {
        "evidence_recall": {name: _mean(record.recall, videos, indices) for name, indices in groups.items()},
        "mean_frames": statistics.mean(record.frames),
        "degraded": {"answers": record.degraded, "reasons": dict(record.reasons.most_common())},
        "median_seconds": {
            "cold": statistics.median(record.cold),
            "warm": statistics.median(record.warm) if record.warm else None,
            "stages": {stage: statistics.median(seconds) for stage, seconds in record.stages.items()},
        },
    }


def _mean(values: Sequence[float], videos: Sequence[str], indices: Sequence[int]) -> dict[str, Any]:
    return asdict(bootstrap_mean([values[index] for index in indices], [videos[index] for index in indices]))


def _difference(
    records: Mapping[str, _Record], other: str, videos: Sequence[str], indices: Sequence[int]
) -> dict[str, Any] | None:
    """Hybrid's recall minus another method's; None where there is no such question."""
    if not indices:
        return None
    first, second = ([records[name].recall[index] for index in indices] for name in ("hybrid", other))
    return asdict(bootstrap_difference(first, second, [videos[index] for index in indices]))


def gens_alone(engine: Engine, scorer: FineModel, exams: Sequence[Exam], *, per_kind: int) -> dict[str, Any]:
    """GenS on one window of each video, the scenes within its first 256 frames, and questions about them."""
    f1: dict[str, list[tuple[float, str]]] = defaultdict(list)
    parsed: list[tuple[float, str]] = []
    seconds: list[float] = []
    for exam in exams:
        times = _timeline(engine, exam).pts_seconds[:WINDOW]
        part = _whole_scenes(exam.world, float(times[-1]))
        # A scene that the window would cut is shown by its frames, but not in the truth: it is left out of both.
        times = times[times < part.duration_seconds]
        frames = _frames(engine, exam, len(times))
        for question in choose_questions(part, per_kind=per_kind):
            scored = read_window(scorer, frames, question.text)
            given, truth = np.zeros(len(times), np.int64), question.scores_at(times)
            for index, score in scored.scores.items():
                given[index] = score
            least = ANSWER_SCORE if question.kind in TEMPORAL else ANCHOR_SCORE
            value = (score_f1(given, truth, least=least), exam.world.name)
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
    timeline = _timeline(engine, exam)
    return [rgb for _, rgb in engine.read_frames(exam.video, timeline.ordinals[:count].tolist())]


def _whole_scenes(world: World, until_seconds: float) -> World:
    """The part of a video up to a time, without the scene that is cut there."""
    whole = tuple(scene for scene in world.scenes if scene.end_seconds <= until_seconds)
    return replace(world, scenes=whole)


def _timeline(engine: Engine, exam: Exam) -> Timeline:
    """The sampled frames of the video."""
    archive = engine.archive
    return archive.timeline(archive.require(archive.identify(exam.video)))


def clip_on_hours(engine: Engine, exams: Sequence[Exam], *, top: int = WINDOW) -> dict[str, Any]:
    """Of the frames that show the asked object, the share that CLIP brings under the best 256 of a long video.

    Raises:
        InputError: there is no object that is shown in 1 to 256 frames.
    """
    shares: list[float] = []
    sizes: list[int] = []
    asked: list[tuple[str, Question]] = []
    for exam in exams:
        times = _timeline(engine, exam).pts_seconds
        for question in exam.questions:
            expected = times[question.scores_at(times) > 0]
            if question.kind != "object" or not 0 < len(expected) <= top:
                continue
            shares.append(_share_found(engine, exam, question, expected, top))
            sizes.append(len(expected))
            asked.append((exam.world.name, question))
    if not shares:
        raise InputError(f"no object is shown in 1 to {top} frames of the long videos; give them another --hour")
    videos = [video for video, _ in asked]
    unseen = [index for index, (_, question) in enumerate(asked) if question.held_out]
    return {
        "videos": len(exams),
        "frames": [len(_timeline(engine, exam)) for exam in exams],
        "questions": len(shares),
        "mean_frames_wanted": statistics.mean(sizes),
        "share_in_top_256": _mean(shares, videos, range(len(shares))),
        "share_in_top_256, unseen pair": _mean(shares, videos, unseen) if unseen else None,
        "share_by_video": {name: _mean_of(shares, videos, name) for name in dict.fromkeys(videos)},
        "worst_question": min(shares),
    }


def _share_found(engine: Engine, exam: Exam, question: Question, expected: FloatArray, top: int) -> float:
    found = {frame.seconds for frame in engine.ask(exam.video, question.text, frames=top, fine=False).frames}
    return float(np.mean([seconds in found for seconds in expected.tolist()]))


def _mean_of(values: Sequence[float], videos: Sequence[str], name: str) -> float:
    return statistics.mean(value for value, video in zip(values, videos, strict=True) if video == name)


def _print(result: dict[str, Any]) -> None:
    methods = result["methods"]["methods"]
    groups = [group for group in next(iter(methods.values()))["evidence_recall"] if "unseen" not in group]
    rows = []
    for name, figures in methods.items():
        recalls = [f"{figures['evidence_recall'][group]['value']:.3f}" for group in groups]
        seconds = figures["median_seconds"]
        warm = "-" if seconds["warm"] is None else f"{seconds['warm']:.2f}"
        stages = ", ".join(f"{stage} {median:.2f}" for stage, median in seconds["stages"].items())
        degraded = figures["degraded"]["answers"]
        rows.append([name, f"{figures['mean_frames']:.1f}", *recalls, degraded, f"{seconds['cold']:.2f}", warm, stages])
    print_table(["method", "frames", *groups, "degraded", "cold s", "warm s", "median seconds of stages"], rows)
    print_table(
        ["evidence recall, unseen pair", *methods, "questions"],
        [
            [
                group,
                *(f"{figures['evidence_recall'][group]['value']:.3f}" for figures in methods.values()),
                e["questions"],
            ]
            for group, e in next(iter(methods.values()))["evidence_recall"].items()
            if "unseen" in group
        ],
    )
    print_table(
        ["GenS alone, frame F1", "value", "95 % interval", "questions"],
        [_row(name, e) for name, e in result["gens_alone"]["frame_f1"].items()],
    )
    hours = result["clip_on_an_hour"]
    print_table(
        ["CLIP alone, share in the best 256", "value", "95 % interval", "questions"],
        [_row(f"{hours['videos']} videos of {result['seconds_of_long_ones']:g} s", hours["share_in_top_256"])],
    )


def _row(name: str, estimate: Mapping[str, Any]) -> list[object]:
    interval = f"{estimate['low']:.3f} to {estimate['high']:.3f}"
    return [name, f"{estimate['value']:.3f}", interval, estimate["questions"]]


def _read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="videos and indexes are kept here")
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--videos", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--per-kind", type=int, default=5, help="most questions of a kind about a video")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--hours", type=int, default=3, help="how many long videos CLIP is measured on")
    parser.add_argument("--hour", type=float, default=3600.0, help="seconds of each")
    parser.add_argument("--encoder", help="by default the tiny preset's")
    parser.add_argument("--sampler", help="by default the tiny preset's")
    return parser.parse_args(argv)


def _check(given: argparse.Namespace) -> None:
    """Refuse what cannot be measured before a video is filmed, which takes minutes.

    Raises:
        InputError: a value is not legal.
    """
    check_counts(given, "videos", "per_kind", "frames", "hours")
    for name in ("seconds", "hour"):
        if not 0 < (value := getattr(given, name)) < float("inf"):
            raise InputError(f"--{name} is {value}; it must be above 0")
    if given.videos > FIRST_HOUR_SEED:
        raise InputError(f"--videos is {given.videos}; the seeds from {FIRST_HOUR_SEED} on are those of long videos")
    if given.folder.exists() and not given.folder.is_dir():
        raise InputError(f"--folder is {str(given.folder)!r}, which is a file; name a folder")
    if given.out is not None and given.out.is_dir():
        raise InputError(f"--out is {str(given.out)!r}, which is a folder; name a file")


def main(argv: Sequence[str] | None = None) -> None:
    """``python -m bench.accuracy.world``."""
    given = _read_arguments(argv)
    _check(given)
    # Now, not at the end: what is changed in the meantime is not what is measured.
    run = circumstances()
    encoder = load_encoder(given.encoder or PRESETS["tiny"].encoder, device="auto")
    scorer = load_scorer(given.sampler or PRESETS["tiny"].sampler, device="auto")
    exams = [
        prepare_exam(given.folder, given.split, seed, seconds=given.seconds, per_kind=given.per_kind)
        for seed in range(given.videos)
    ]
    hours = [
        prepare_exam(given.folder, given.split, seed, seconds=given.hour, per_kind=1000, things=len(ALL_THINGS))
        for seed in range(FIRST_HOUR_SEED, FIRST_HOUR_SEED + given.hours)
    ]
    archive = open_archive(given.folder / "archive")
    with Engine(archive, EngineOptions(preset="tiny"), encoder=encoder, fine_model=scorer) as engine:
        for exam in [*exams, *hours]:
            engine.index(exam.video, progress=NullProgress())
        result = {
            "split": given.split,
            "videos": len(exams),
            "seconds_of_each": given.seconds,
            "seconds_of_long_ones": given.hour,
            "questions": sum(len(exam.questions) for exam in exams),
            "clip_on_an_hour": clip_on_hours(engine, hours),
            "gens_alone": gens_alone(engine, scorer, exams, per_kind=given.per_kind),
            "methods": compare_methods(engine, scorer, exams, frames=given.frames),
            "models": {"encoder": dict(encoder.identity), "sampler": dict(scorer.identity)},
        }
    _print(result)
    write_result("world", result, given.out, run=run)


if __name__ == "__main__":
    run_command(main)
