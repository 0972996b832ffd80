"""How well methods find the frames that answer questions, and how well a VideoQA model answers from them.

    python -m bench.accuracy --dataset longvideobench --data lvb_val.json --videos videos/ --archive archive/ \\
        --method hybrid --method aks --method uniform --frames 64 --out runs/lvb \\
        --answer openai:http://localhost:8000/v1#Qwen/Qwen2.5-VL-7B-Instruct

Each sample is on disk before the next one begins: a run that was stopped goes on where it was, with the same command,
and only with the same settings. In the folder of the run lie ``run.json`` (settings, models with their hashes,
versions, commit, machine), ``samples.jsonl``, ``report.json``, ``report.txt`` and ``latency.png``.

Exit code 0: every sample has its numbers; 1: some failed (the report says why); 2: nothing could be run.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, redirect_stdout
from typing import Any, Final

from bench.accuracy.answerers.interface import Answerer
from bench.accuracy.answerers.registry import open_answerer
from bench.accuracy.run.arguments import (
    answerer_options,
    ask_options,
    check_arguments,
    check_labels,
    chosen_questions,
    digest,
    parser,
    template_of,
)
from bench.accuracy.run.grid import grid_text, one_grid
from bench.accuracy.run.measures import tolerances_for
from bench.accuracy.run.methods import Method, parse_method
from bench.accuracy.run.plot import save_plot
from bench.accuracy.run.record import RunFolder, part_of, read_run
from bench.accuracy.run.report import Samples, build_report, report_lines, report_notes
from bench.accuracy.run.runner import Plan, Progress, run_samples
from bench.command import run_command
from bench.datasets.question import Question
from bench.report import circumstances, print_table
from hybrid.clip.interface import FrameEncoder
from hybrid.engine import Engine
from hybrid.engine.models import ModelPool
from hybrid.errors import HybridError, InputError
from hybrid.export.text_file import write_text
from hybrid.fine.interface import FineModel
from hybrid.fine.prompt import PromptSpec, read_prompt_file
from hybrid.options.ask import AskOptions
from hybrid.options.engine import EngineOptions
from hybrid.scorers.interface import VideoScorer
from hybrid.scorers.spec import load_video_scorer, parse_scorer
from indexes.open_archive import open_archive

__all__ = ["main"]

FAILED, UNUSABLE, INTERRUPTED = 1, 2, 130
_CREDENTIALS: Final = re.compile(r"//[^/@\s]+@")


def main(argv: Sequence[str] | None = None) -> int:
    """Run, report, and give the exit code."""
    given = parser(__doc__.splitlines()[0] if __doc__ else None).parse_args(argv)
    try:
        return _run(given)
    except HybridError as exc:
        print(f"bench.accuracy: {exc}", file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        print("bench.accuracy: stopped; the same command goes on", file=sys.stderr)
        return INTERRUPTED


def _run(given: argparse.Namespace) -> int:
    methods = [parse_method(name) for name in dict.fromkeys(given.method)]
    options = _recorded_options(given)  # refuses what is not legal, before any work
    check_arguments(given)
    template = template_of(given)
    prompt = None if given.prompt is None else read_prompt_file(given.prompt)
    settings_of_engine = _settings(given, prompt)
    questions = chosen_questions(given)
    check_labels(given.by, questions)
    if given.report_only:
        settings, samples = read_run(given.out)
        dataset = part_of(settings, "dataset", given.out)
        if dataset != _dataset(given, questions):
            raise InputError(f"{given.out} holds a run over other questions: {dataset}")
        _check_reported(given, samples, methods)
        return _report(given, samples, questions, methods, settings)
    within = tuple(given.within) if given.within else tolerances_for(questions)
    models = _Models(given, methods, settings_of_engine)
    settings = {
        "dataset": _dataset(given, questions),
        "options": {
            **options,
            "with_options": given.with_options,
            "within_seconds": within,
            **({"visual": True} if given.visual else {}),  # without it, as in runs of earlier versions
        },
        "sampling": {"rate": given.rate, "policy": given.sampling, "decoder": given.decoder},
        "encoder": dict(models.encoder.identity),
        "device": models.encoder.device,
        "sampler": models.sampler_identity,
        "scores": {name: dict(scorer.identity) for name, scorer in models.video_scorers.items()},
        "answerer": None if models.answerer is None else {**models.answerer.identity, "template": template},
    }
    plan = Plan(
        questions=questions,
        folder=given.videos,
        methods=methods,
        options=ask_options(given),
        within=within,
        with_options=given.with_options,
        answerer=models.answerer,
        template=template,
        retry_failed=given.retry_failed,
        visual=given.visual,
    )
    session = {**_circumstances(), "methods": [method.name for method in methods]}
    with ExitStack() as stack:
        folder = stack.enter_context(RunFolder(given.out, settings, session))
        archive = open_archive(given.archive)
        engine = stack.enter_context(
            Engine(
                archive,
                models.settings,
                encoder=models.encoder,
                fine_model=models.scorer,
                video_scorers=models.video_scorers,
            )
        )
        run_samples(plan, engine, folder, tell=_tell)
        return _report(given, folder.samples, questions, methods, settings)


def _recorded_options(given: argparse.Namespace) -> dict[str, Any]:
    """The options of all methods; without ``look_for``, which no method has and earlier runs do not record.

    A seed is for those methods that draw.
    """
    common = ask_options(given)
    seed = common.pop("seed", None)
    recorded = {**AskOptions(**common).to_dict(), "seed": seed}
    del recorded["look_for"]
    return recorded


def _settings(given: argparse.Namespace, prompt: PromptSpec | None) -> EngineOptions:
    """What the engine works with; checked."""
    settings = EngineOptions(
        preset=given.preset,
        encoder=given.encoder,
        sampler=given.sampler,
        rate=given.rate,
        sampling=given.sampling,
        decoder=given.decoder,
        device=given.device,
        dtype=given.dtype,
        prompt=prompt,
        constrained=given.constrained,
    )
    settings.check()
    return settings


def _check_reported(given: argparse.Namespace, samples: Samples, methods: Sequence[Method]) -> None:
    """Refuse to report a method that the run did not have: its row would be empty, and the plot without it."""
    there = {method for method, _ in samples}
    for method in methods:
        if method.name not in there:
            listed = ", ".join(sorted(there)) or "none"
            raise InputError(f"{given.out} holds no sample of {method.name!r}; its methods are: {listed}")


def _circumstances() -> dict[str, Any]:
    """Command, commit, machine and versions; a name and password in a URL of the command are no one's business."""
    known = circumstances()
    return {**known, "command": _CREDENTIALS.sub("//***@", known["command"])}


def _dataset(given: argparse.Namespace, questions: Sequence[Question]) -> dict[str, Any]:
    return {"name": given.dataset, "questions": len(questions), "digest": digest(questions)}


class _Models:
    """What the methods and the answers need, loaded before the run so that nobody waits for it in between.

    All score models (``RULE@SCORES``) are held at once. Where the device is too small for that, the methods of each can
    be run by a command of their own with the same ``--out``.
    """

    def __init__(self, given: argparse.Namespace, methods: Sequence[Method], settings: EngineOptions) -> None:
        self.settings = settings
        self.answerer: Answerer | None = None
        if given.answer is not None:
            self.answerer = open_answerer(given.answer, answerer_options(given))
        held = ModelPool(settings)
        self.encoder: FrameEncoder = held.encoder_for(None)
        self.scorer: FineModel | None = None
        self.sampler_identity: Mapping[str, Any] | None = None
        if any(method.needs_gens for method in methods):
            self.scorer = held.fine_model()
            self.sampler_identity = {**self.scorer.identity, "constrained": settings.constrained}
        names = dict.fromkeys(
            method.scores for method in methods if method.scores and parse_scorer(method.scores).checkpoint
        )
        self.video_scorers: dict[str, VideoScorer] = {
            name: load_video_scorer(name, device=given.device, dtype=given.dtype) for name in names
        }


def _tell(progress: Progress) -> None:
    each = progress.seconds / max(1, progress.done)
    print(
        f"{progress.done} samples done, {progress.left} left ({progress.left * each / 60:.1f} min), "
        f"{progress.failed} failed",
        file=sys.stderr,
    )


def _report(
    given: argparse.Namespace,
    samples: Samples,
    questions: Sequence[Question],
    methods: Sequence[Method],
    settings: Mapping[str, Any],
) -> int:
    grid = one_grid(samples.values())
    report = build_report(
        samples, questions, [method.name for method in methods], by=given.by, resamples=given.resamples
    )
    text = io.StringIO()
    with redirect_stdout(text):
        for title, header, rows in report_lines(report):
            print(f"\n{title}")
            print_table(header, rows)
        for note in (grid_text(grid), *report_notes(report)):
            print(f"\n{note}")
    for method, state in report["methods"].items():
        for reason, count in state["failures"].items():
            text.write(f"\n{method}: {count} failed: {reason}")
    shown = text.getvalue().strip()
    print(shown)
    write_text(given.out / "report.txt", shown.encode("ascii", "backslashreplace").decode("ascii") + "\n")
    result = {"benchmark": "accuracy", **_circumstances(), "settings": settings, "index": grid, "report": report}
    write_text(given.out / "report.json", json.dumps(result, indent=2) + "\n")
    # Of the run: --report-only need not say them.
    frames = part_of(settings, "options", given.out).get("frames")
    title = f"{given.dataset}, {frames} frames, {report['questions']} questions to {report['videos']} videos"
    save_plot(report, given.out / "latency.png", title=title)
    print(json.dumps(result))
    return FAILED if any(state["failed"] for state in report["methods"].values()) else 0


if __name__ == "__main__":
    run_command(main)
