"""Every selector that goes by scores, over CLIP's similarities and over GenS's scores, on videos of the world.

    python -m bench.accuracy.selectors_world --videos FOLDER --archive FOLDER --out FOLDER [--split test] [--count 20]

Scores are made once a question and kept (``scores.jsonl``); the selectors then cost next to nothing, and one that is
added later is run over the scores that are there. A run that was stopped goes on. GenS reads the window that CLIP
passes on, as ``hybrid ask --select`` does; a frame that it did not name has 0.

Prints, for each budget: evidence recall (share of the scenes that answer which have a selected frame), all-hit, and
seconds a question, with 95 % intervals over videos; then both by kind of question and by number of moments. Times of
scoring are of all questions of a video asked together, divided by their number; features are made with the index.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from bench.accuracy.run.arguments import digest
from bench.accuracy.run.measures import measure_selection
from bench.accuracy.run.record import Failure, LineFile, RunFolder, Sample
from bench.accuracy.run.report import build_report
from bench.accuracy.selector_tables import Way, print_tables, slim, ways_of
from bench.accuracy.world_scores import OpenedVideo, Scores, candidates_of, open_video, score_questions
from bench.command import make_parser, run_command
from bench.datasets.question import Question, needed_videos
from bench.datasets.world import SPLITS, load_world
from bench.metrics.bootstrap import RESAMPLES, check_resamples
from bench.report import circumstances, write_result
from hybrid.answers import Answer, AnswerFrame
from hybrid.clip.interface import FrameEncoder
from hybrid.clip.registry import load_encoder
from hybrid.engine import Engine
from hybrid.errors import HybridError, InputError
from hybrid.fine.load import load_scorer
from hybrid.options.engine import EngineOptions
from hybrid.presets import PRESETS
from hybrid.selectors.candidates import Candidates
from hybrid.selectors.ranking import check_budget
from hybrid.selectors.registry import SELECTORS, select
from hybrid.values import DEFAULT_WINDOW
from indexes.open_archive import open_archive

__all__ = ["main"]

SOURCES: Final = ("clip", "gens")
LABELS: Final = ("kind", "moments")
WITHIN: Final = (0.0,)
STEPS: Final = ("select", "rule")


@dataclass(frozen=True, slots=True)
class _Opened:
    """What a run works with."""

    folder: RunFolder
    scores_file: LineFile
    engine: Engine
    encoder: FrameEncoder


def _sample(
    video: OpenedVideo, question: Question, scores: Scores, candidates: Candidates, name: str, session: int
) -> Sample:
    way, _, frames = name.rpartition("@")
    source, _, selector = way.rpartition("+")
    started = time.perf_counter()
    try:
        rows = video.rows[np.unique(select(selector, candidates, int(frames)))]
    except HybridError as exc:
        return Sample(name, question.id, question.video, session, failure=Failure("select", str(exc)))
    seconds = time.perf_counter() - started
    answer = Answer(
        question=question.question,
        video=str(video.path),
        video_id=video.video_id,
        duration_seconds=video.timeline.duration_seconds,
        spans=(),
        frames=tuple(AnswerFrame.of_row(video.timeline, row) for row in rows.tolist()),
        stages=(),
    )
    return Sample(
        method=name,
        id=question.id,
        video=question.video,
        session=session,
        selection={"frames": [frame.ordinal for frame in answer.frames]},
        seconds={"select": seconds + (scores.seconds_of(source) if source else 0.0), "rule": seconds},
        measures=measure_selection(question, answer, video.timeline, WITHIN),
        degraded=(scores.note,) if source == "gens" and scores.note else (),
    )


def _run(given: argparse.Namespace, questions: Sequence[Question], opened: _Opened, ways: Sequence[Way]) -> None:
    folder, engine, encoder = opened.folder, opened.engine, opened.encoder
    known = {line["id"]: Scores.from_dict(line) for line in opened.scores_file.lines}
    names = [way.name(frames) for frames in given.frames for way in ways]
    videos = needed_videos(questions)
    for number, name in enumerate(videos, 1):
        asked = [question for question in questions if question.video == name]
        if all((method, question.id) in folder.samples for question in asked for method in names):
            continue
        video = open_video(engine, given.videos / name)
        unknown = [question for question in asked if question.id not in known]
        if unknown:
            fresh = list(score_questions(engine, encoder, video, unknown, window=given.window))
            opened.scores_file.add(*(scores.to_dict() for scores in fresh))
            known |= {scores.id: scores for scores in fresh}
        for question in asked:
            query = encoder.encode_text(question.question).vector
            candidates = {s: candidates_of(video, known[question.id], s, query) for s in ("", *SOURCES)}
            folder.add(
                *(
                    _sample(video, question, known[question.id], candidates[way.source], method, folder.session)
                    for frames in given.frames
                    for way in ways
                    if ((method := way.name(frames)), question.id) not in folder.samples
                )
            )
        print(f"video {number} of {len(videos)}, {len(asked)} questions", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> None:
    """Run and report."""
    parser = make_parser(__doc__, out=False)
    parser.add_argument("--videos", type=Path, required=True, help="folder of the videos, which are filmed there")
    parser.add_argument("--archive", required=True, help="folder of the indexes, or s3://BUCKET/PREFIX")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; one that was stopped goes on")
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--count", type=int, default=20, help="how many videos")
    parser.add_argument("--seconds", type=float, default=300.0, help="length of each")
    parser.add_argument("--per-kind", type=int, default=4, help="most questions of a kind about a video")
    parser.add_argument("--frames", type=int, nargs="+", default=[8, 16, 32], help="budgets")
    parser.add_argument("--window", type=int, default=DEFAULT_WINDOW, help="how many frames GenS reads")
    parser.add_argument("--encoder", default=None, help="by default the tiny preset's")
    parser.add_argument("--sampler", default=None, help="by default the tiny preset's")
    parser.add_argument("--against", default="gens+best_first", help="what the others are compared with")
    parser.add_argument("--resamples", type=int, default=RESAMPLES)
    parser.add_argument("--result", type=Path, help="file for the figures, besides the last line")
    given = parser.parse_args(argv)
    ways = ways_of(tuple(SELECTORS))
    _check_against(ways, given.against)
    check_resamples(given.resamples)
    for frames in given.frames:
        check_budget(frames)
    questions = load_world(
        given.videos, split=given.split, videos=given.count, seconds=given.seconds, per_kind=given.per_kind
    )
    encoder = load_encoder(given.encoder or PRESETS["tiny"].encoder, device="auto")
    scorer = load_scorer(given.sampler or PRESETS["tiny"].sampler, device="auto")
    settings = {
        "dataset": {"name": "world", "split": given.split, "questions": len(questions), "digest": digest(questions)},
        "window": given.window,
        "encoder": dict(encoder.identity),
        "sampler": dict(scorer.identity),
        "device": encoder.device,
    }
    with ExitStack() as stack:
        folder = stack.enter_context(RunFolder(given.out, settings, circumstances()))
        scores_file = stack.enter_context(LineFile(given.out / "scores.jsonl"))
        engine = stack.enter_context(
            Engine(open_archive(given.archive), EngineOptions(preset="tiny"), encoder=encoder, fine_model=scorer)
        )
        _run(given, questions, _Opened(folder, scores_file, engine, encoder), ways)
    report = {
        frames: build_report(
            folder.samples,
            questions,
            _compared(ways, frames, given.against),
            by=LABELS,
            resamples=given.resamples,
            steps=STEPS,
        )
        for frames in given.frames
    }
    print_tables(report, ways)
    slimmed = {frames: slim(one) for frames, one in report.items()}
    write_result("selectors_world", {"settings": settings, "report": slimmed}, given.result)


def _compared(ways: Sequence[Way], frames: int, against: str) -> list[str]:
    """The methods of one budget, with the one that the others are compared with first."""
    return sorted((way.name(frames) for way in ways), key=lambda name: name != f"{against}@{frames}")


def _check_against(ways: Sequence[Way], against: str) -> None:
    known = [way.name(0).partition("@")[0] for way in ways]
    if against not in known:
        raise InputError(f"--against is {against!r}; legal are {', '.join(known)}")


if __name__ == "__main__":
    run_command(main)
