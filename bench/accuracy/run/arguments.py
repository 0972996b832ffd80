"""The command line of ``python -m bench.accuracy``, and what of it decides the numbers of a run."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, get_args

from bench.accuracy.answerers.interface import DEFAULT_NEW_TOKENS, DEFAULT_SIDE, AnswererOptions
from bench.accuracy.answerers.prompts import DEFAULT_TEMPLATE, check_template
from bench.accuracy.answerers.registry import parse_answerer
from bench.command import check_counts
from bench.datasets.question import Question, subset, with_videos
from bench.datasets.registry import LOADERS, load_questions
from bench.datasets.world import LABELS as WORLD_LABELS
from bench.datasets.world import load_world
from bench.metrics.bootstrap import RESAMPLES, check_resamples
from hybrid.errors import InputError
from hybrid.frames.registry import DECODERS
from hybrid.options.ask import WindowMode
from hybrid.options.keywords import AskKeywords
from hybrid.presets import DEFAULT_PRESET, PRESETS
from hybrid.values import DEFAULT_WINDOW, SamplingPolicy

__all__ = [
    "answerer_options",
    "ask_options",
    "check_arguments",
    "check_labels",
    "chosen_questions",
    "digest",
    "parser",
    "template_of",
]

WORLD: Final = "world"


def parser(description: str | None) -> argparse.ArgumentParser:
    """All options, with their defaults."""
    parsed = argparse.ArgumentParser(prog="python -m bench.accuracy", description=description)
    what = parsed.add_argument_group("what is asked")
    what.add_argument("--dataset", required=True, choices=(WORLD, *LOADERS))
    what.add_argument("--data", type=Path, help="annotation file, or its folder (not for world)")
    what.add_argument("--videos", type=Path, required=True, help="folder of the videos; the world's are filmed there")
    what.add_argument("--split", help="of the world: validation or test (default)")
    what.add_argument("--only", action="append", default=[], metavar="LABEL=VALUE", help="may come many times")
    what.add_argument("--subset", type=int, metavar="N", help="so many questions, drawn with --seed")
    what.add_argument("--skip-missing", action="store_true", help="leave out questions whose video is not there")
    what.add_argument("--world-videos", type=int, default=20)
    what.add_argument("--world-seconds", type=float, default=300.0)
    what.add_argument("--per-kind", type=int, default=5, help="of the world: most questions of a kind about a video")
    how = parsed.add_argument_group("how frames are chosen")
    how.add_argument(
        "--method",
        action="append",
        required=True,
        help="hybrid, gens, clip, a selector (aks, aks:depth=3,faithful), hybrid+SELECTOR, SELECTOR@SCORES",
    )
    how.add_argument("--frames", type=int, default=64, help="budget (default 64)")
    how.add_argument("--window", type=int, default=DEFAULT_WINDOW, help="how many frames GenS reads at once")
    how.add_argument("--window-mode", default="scattered", choices=get_args(WindowMode))
    how.add_argument("--with-options", action="store_true", help="choose frames by question and options")
    how.add_argument(
        "--seed",
        type=int,
        help="of the subset and the VideoQA model (0 if not said), and of selectors that draw (their own if not said)",
    )
    how.add_argument("--archive", required=True, help="folder of the indexes, or s3://BUCKET/PREFIX")
    how.add_argument("--preset", default=DEFAULT_PRESET, choices=tuple(PRESETS))
    how.add_argument("--encoder", help="a CLIP encoder instead of the preset's")
    how.add_argument("--sampler", help="a GenS checkpoint instead of the preset's")
    how.add_argument("--prompt", type=Path, help="file with GenS's prompt")
    how.add_argument("--rate", type=float, help="samples per second; if not said, as indexed, or 1")
    how.add_argument("--sampling", choices=get_args(SamplingPolicy), help="if not said, as indexed, or exact")
    how.add_argument("--decoder", choices=DECODERS.names, help="default: as indexed, or pyav")
    how.add_argument("--constrained", action="store_true", help="GenS can only write replies of its form")
    how.add_argument("--device", default="auto")
    how.add_argument("--dtype", default="auto")
    answer = parsed.add_argument_group("who answers from them")
    answer.add_argument(
        "--answer", metavar="SPEC", help="openai:URL#MODEL (key: OPENAI_API_KEY) or transformers:FOLDER"
    )
    answer.add_argument("--answer-prompt", type=Path, help="file with {question} and {options}")
    answer.add_argument("--side", type=int, default=DEFAULT_SIDE, help="most pixels of a frame's longer side")
    answer.add_argument("--times", action="store_true", help="tell the time of each frame")
    answer.add_argument("--max-new-tokens", type=int, default=DEFAULT_NEW_TOKENS)
    answer.add_argument("--timeout", type=float, default=300.0, help="seconds for one reply")
    answer.add_argument("--retries", type=int, default=4, help="after a passing fault of the server")
    record = parsed.add_argument_group("what is kept")
    record.add_argument("--out", type=Path, required=True, help="folder of the run; a run that was stopped goes on")
    record.add_argument("--retry-failed", action="store_true", help="do samples again that failed before")
    record.add_argument("--within", type=float, nargs="+", metavar="SECONDS", help="tolerances of evidence")
    record.add_argument("--visual", action="store_true", help="LV-Haystack's visual measures: compares all pictures")
    record.add_argument("--by", action="append", default=[], metavar="LABEL", help="group the report by a label")
    record.add_argument("--resamples", type=int, default=RESAMPLES)
    record.add_argument("--report-only", action="store_true", help="ask nothing; report what is there")
    return parsed


def check_arguments(given: argparse.Namespace) -> None:
    """Refuse what is not legal before a video is filmed, a file is read or a model is loaded.

    Raises:
        InputError: a number out of its range, or options that do not go together.
    """
    check_resamples(given.resamples)
    for seconds in given.within or ():
        if not 0 <= seconds < math.inf:
            raise InputError(f"--within is {seconds:g}; tolerances are seconds, 0 or more")
    check_counts(given, "subset", "world_videos", "per_kind")
    if not 0 < given.world_seconds < math.inf:
        raise InputError(f"--world-seconds is {given.world_seconds:g}; it must be above 0")
    if given.seed is not None and given.seed < 0:
        raise InputError(f"--seed is {given.seed}; it must be 0 or more")
    for pair in given.only:
        if "=" not in pair:
            raise InputError(f"--only is {pair!r}; it must be LABEL=VALUE")
    if given.dataset == WORLD:
        if given.data is not None:
            raise InputError("the world makes its own questions; leave out --data")
        _check_known("--by", given.by, WORLD_LABELS)
        _check_known("--only", [pair.partition("=")[0] for pair in given.only], WORLD_LABELS)
    else:
        if given.split is not None:
            raise InputError(f"--split is for the world; of {given.dataset} the annotation file (--data) is the split")
        if given.data is None:
            raise InputError(f"{given.dataset} needs --data, the annotation file or its folder")
    if given.answer is not None:
        parse_answerer(given.answer)
        answerer_options(given)
    if given.report_only and given.retry_failed:
        raise InputError("--report-only asks nothing, so that --retry-failed has nothing to do; leave out one of them")


def check_labels(by: Sequence[str], questions: Sequence[Question]) -> None:
    """Refuse groups of a report that no question is in.

    Raises:
        InputError: no question has one of these labels.
    """
    _check_known("--by", by, sorted({label for question in questions for label in question.labels}))


def _check_known(option: str, labels: Sequence[str], known: Sequence[str]) -> None:
    for label in labels:
        if label not in known:
            raise InputError(f"{option} is {label!r}, but no question has this label; legal are {', '.join(known)}")


def chosen_questions(given: argparse.Namespace) -> list[Question]:
    """The questions of the data set that are asked for; the options were checked.

    Raises:
        InputError: a label that no question has, or nothing is left.
        DatasetError: the annotation file is missing or damaged.
    """
    if given.dataset == WORLD:
        questions = load_world(
            given.videos,
            split=given.split or "test",
            videos=given.world_videos,
            seconds=given.world_seconds,
            per_kind=given.per_kind,
        )
    else:
        questions = load_questions(given.dataset, given.data)
    labels: dict[str, list[str]] = {}
    for pair in given.only:
        label, _, value = pair.partition("=")
        labels.setdefault(label, []).append(value)
    questions = subset(questions, labels=labels)
    future = sum(question.until_seconds is not None for question in questions)
    if future:
        # Whoever selects frames of the whole video would look up the answer.
        questions = [question for question in questions if question.until_seconds is None]
        print(f"{future} questions ask what comes next, for which videos must be cut; left out", file=sys.stderr)
    if given.skip_missing:
        questions, missing = with_videos(questions, given.videos)
        if missing:
            print(f"{len(missing)} videos are not in {given.videos}; their questions are left out", file=sys.stderr)
    questions = subset(questions, limit=given.subset, seed=given.seed or 0)
    if not questions:
        raise InputError(
            f"no question is left: none has these labels, all ask what comes next, or none of the videos lies in "
            f"{given.videos}"
        )
    return questions


def ask_options(given: argparse.Namespace) -> AskKeywords:
    """Options of all methods."""
    return {
        "frames": given.frames,
        "window": given.window,
        "window_mode": given.window_mode,
        "seed": given.seed,
    }


def answerer_options(given: argparse.Namespace) -> AnswererOptions:
    """How the VideoQA model is asked.

    Raises:
        InputError: a value is not legal.
    """
    return AnswererOptions(
        side=given.side,
        times=given.times,
        max_new_tokens=given.max_new_tokens,
        seed=given.seed or 0,
        timeout_seconds=given.timeout,
        retries=given.retries,
        device=given.device,
        dtype=given.dtype,
    )


def template_of(given: argparse.Namespace) -> str:
    """What the VideoQA model is asked.

    Raises:
        InputError: the file cannot be read, or lacks a field.
    """
    if given.answer_prompt is None:
        return DEFAULT_TEMPLATE
    try:
        return check_template(given.answer_prompt.read_text(encoding="utf-8").rstrip("\n"))
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"{given.answer_prompt} cannot be read: {exc}") from exc


def digest(questions: Sequence[Question]) -> str:
    """Sixteen hexadecimal digits over everything that is known of the questions, in their order."""
    documents: list[Mapping[str, Any]] = [_known(question) for question in questions]
    return hashlib.sha256(json.dumps(documents, sort_keys=True).encode("ascii")).hexdigest()[:16]


def _known(question: Question) -> dict[str, Any]:
    known = asdict(question)
    if question.until_seconds is None:  # digests of before there was such a thing stay what they were
        del known["until_seconds"]
    return known
