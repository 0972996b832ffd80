"""``hybrid demo``: the whole way on the bundled video, with the bundled models; neither hub nor GPU is needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hybrid.cli.display.text import best_part, clock, echo
from hybrid.cli.registry import Verb
from hybrid.options.engine import EngineOptions
from hybrid.options.index import RunOptions

if TYPE_CHECKING:
    from hybrid.demo import DemoQuestion
    from hybrid.engine import Engine

__all__ = ["VERB"]

_FRAMES = 12


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the archive and the results.")] = Path("demo-out"),
) -> None:
    """Index the bundled video with the tiny models, ask it some questions, and hold the answers against the truth.

    Exit code 1 if an answer is wrong, 2 if the results cannot be put where --out says.
    """
    import shlex

    from hybrid.cli.verbs.index import index_videos
    from hybrid.demo import demo_questions, demo_video
    from hybrid.engine import Engine

    _make_folder(out)
    archive = out / "archive"
    command = ["hybrid", "index", str(demo_video()), "--archive", str(archive), "--preset", "tiny"]
    echo(f"$ {shlex.join(command)}")
    index_videos(str(archive), [demo_video()], EngineOptions(preset="tiny"), RunOptions())
    questions = demo_questions()
    with Engine.open(archive, preset="tiny") as engine:
        right = sum(
            [_ask(engine, question, out, number, archive) for number, question in enumerate(questions, start=1)]
        )
    echo(
        "",
        f"{right} of {len(questions)} questions answered rightly; contact sheets and answers as JSON are in {out}.",
        "The tiny models know this world of coloured shapes and nothing else. For real videos:",
        "  hybrid ask VIDEO QUESTION --preset gens-3b    (needs a model hub, and better a GPU)",
    )
    if right < len(questions):
        raise typer.Exit(1)


VERB = Verb("demo", demo)


def _make_folder(out: Path) -> None:
    """Make the folder for the results, and those above it.

    Raises:
        InputError: a file is in the way, or the folder cannot be made.
    """
    from hybrid.errors import InputError

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        why = "that is a file" if out.exists() else exc.strerror or str(exc)
        raise InputError(
            f"--out is {str(out)!r}, and that folder cannot be made: {why}; "
            "name a folder that is there or can be made, for instance --out demo-out"
        ) from exc


def _ask(engine: Engine, question: DemoQuestion, out: Path, number: int, archive: Path) -> bool:
    """Ask a question, save its sheet and its JSON, print the spans beside the truth."""
    import shlex

    from hybrid.demo import answers_rightly, demo_video
    from hybrid.export.sheet import EXPORTER as sheet_exporter

    video = demo_video()
    answer = engine.ask(video, question.text, frames=_FRAMES)
    (out / f"answer-{number}.json").write_text(answer.to_json() + "\n", encoding="utf-8")
    sheet = out / f"sheet-{number}.png"
    sheet_exporter.write(answer, engine.read_frames(video, [frame.ordinal for frame in answer.frames]), sheet)
    right = answers_rightly(answer.frames, question)
    command = ["hybrid", "ask", str(video), question.text, "--archive", str(archive), "--preset", "tiny"]
    command += ["--frames", str(_FRAMES), "--sheet", str(sheet)]
    echo("", f"$ {shlex.join(command)}")
    for span in answer.spans:
        best = f"  (best: {best_part(span)})" if span.best else ""
        times = f"{clock(span.start_seconds)} to {clock(span.end_seconds)}"
        echo(f"  {times}  score {span.score:g} by {span.scorer}{best}")
    truth = ", ".join(f"{clock(start)} to {clock(end)}" for start, end in question.moments)
    stages = ", ".join(f"{stage.name} {stage.seconds:.2f} s" for stage in answer.stages if stage.ran)
    echo(f"  truth: {truth}: {'right' if right else 'WRONG'}   ({stages})")
    return right
