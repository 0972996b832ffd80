"""``hybrid ask``: questions about one video."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hybrid.cli.options import (
    DEFAULT_ARCHIVE,
    DEFAULT_PRESET,
    SHOWN_FRAMES,
    BackendOption,
    BatchOption,
    ContextOption,
    DecoderOption,
    DeviceOption,
    DtypeOption,
    EncoderOption,
    JsonOption,
    LoadingOption,
    NewArchiveOption,
    PresetOption,
    PromptOption,
    RateOption,
    SamplerOption,
    SamplingOption,
    SegmentsOption,
    WindowFramesOption,
    WindowOption,
    check_without_gens,
    open_engine,
    read_window,
)
from hybrid.cli.paths import check_one_video
from hybrid.cli.text import echo
from hybrid.errors import ArchiveFormatError, InputError, VideoOpenError
from hybrid.formatting import plural
from hybrid.spans import DEFAULT_MIN_SCORE
from hybrid.values import DEFAULT_FRAMES

if TYPE_CHECKING:
    from hybrid.answers import Answer
    from hybrid.cli.questions import Question
    from hybrid.engine import Engine
    from hybrid.options.ask import AskOptions
    from hybrid.progress import Progress
    from hybrid.values import ByteArray

__all__ = ["ask"]


def ask(
    video: Annotated[str, typer.Argument(help="A video file, or a folder of numbered images.")],
    question: Annotated[str | None, typer.Argument(help="What you want to see.")] = None,
    more: Annotated[list[str] | None, typer.Option("--question", "-q", help="A question; may come many times.")] = None,
    questions: Annotated[
        Path | None, typer.Option("--questions", help="File with questions: a line each, or JSON lines.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Write each answer here, as a JSON line, when it is there; what it answers already is kept."
        ),
    ] = None,
    archive: NewArchiveOption = DEFAULT_ARCHIVE,
    preset: PresetOption = DEFAULT_PRESET,
    frames: Annotated[int, typer.Option("--frames", help="How many frames to select at most.")] = DEFAULT_FRAMES,
    window: WindowOption = None,
    window_frames: WindowFramesOption = None,
    segments: SegmentsOption = None,
    context: ContextOption = None,
    encoder: EncoderOption = None,
    sampler: SamplerOption = None,
    prompt: PromptOption = None,
    constrained: Annotated[
        bool, typer.Option("--constrained", help="GenS can only write replies of its own form, always valid.")
    ] = False,
    no_fine: Annotated[bool, typer.Option("--no-fine", help="Without GenS: the most similar frames.")] = False,
    no_coarse: Annotated[bool, typer.Option("--no-coarse", help="Without CLIP: GenS reads the whole video.")] = False,
    no_features: Annotated[
        bool, typer.Option("--no-features", help="Neither take GenS's features from the archive nor keep them.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail where a stage cannot do what it should.")] = False,
    min_score: Annotated[
        int | None,
        typer.Option(
            "--min-score", help=f"Least GenS score (1-5) of a span's frames; {DEFAULT_MIN_SCORE} if not said."
        ),
    ] = None,
    gap: Annotated[
        float | None, typer.Option("--gap", help="Seconds between two stretches that are still one span.")
    ] = None,
    select: Annotated[
        str | None,
        typer.Option(
            "--select", help="Selector that chooses the frames: aks, aks:depth=3,faithful; see: hybrid selectors."
        ),
    ] = None,
    scores: Annotated[
        str | None,
        typer.Option("--scores", help="What the selector goes by: clip, gens, blip-itm:CHECKPOINT ..."),
    ] = None,
    look_for: Annotated[
        list[str] | None,
        typer.Option("--look-for", help="For --select tifre: a text to find, 'a photo of a dog'; may come many times."),
    ] = None,
    frames_dir: Annotated[Path | None, typer.Option("--frames-dir", help="Save the frames here as PNG.")] = None,
    sheet: Annotated[Path | None, typer.Option("--sheet", help="Save a contact sheet (PNG) here.")] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Tell spans on standard error as GenS finds them, as JSON lines.")
    ] = False,
    rate: RateOption = None,
    sampling: SamplingOption = None,
    backend: BackendOption = None,
    decoder: DecoderOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    loading: LoadingOption = None,
    batch_size: BatchOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a video a question, or many. It is indexed first if it is not yet.

    Many questions go to GenS together, which is much faster than one by one. Each answer is given as
    soon as GenS has finished it, in whatever order that is; --json prints one line an answer, with the
    question and its id. With --out, a run that was stopped goes on where it was.

    Exit code 0 also where a stage had to be replaced (the answer says so); --strict makes that 1.
    """
    from hybrid.cli.progress import BarProgress, print_json
    from hybrid.exports.output_file import ANSWERS, SHEET, check_output
    from hybrid.options.ask import AskOptions
    from hybrid.progress import NullProgress
    from hybrid.values import check_questions
    from indexes.format.location import is_remote

    asked = _questions(question, more, questions)
    many = len(asked) > 1 or questions is not None or out is not None
    if many and (frames_dir is not None or sheet is not None):
        given = "--frames-dir" if sheet is None else "--sheet"
        raise InputError(
            f"{given} is for a single question; leave it out, or ask one question alone, without --questions and --out"
        )
    if sheet is not None:
        check_output(sheet, SHEET, name="--sheet", archive=archive, video=video)
    if out is not None:
        check_output(out, ANSWERS, name="--out", archive=archive, video=video)
    mode, size = read_window(window, window_frames)
    options = AskOptions(  # before an archive is made
        frames=frames,
        window=size,
        window_mode=mode,
        segments=segments,
        context_seconds=context,
        coarse=not no_coarse,
        fine=not no_fine,
        features=not no_features,
        strict=strict,
        min_score=min_score,
        gap_seconds=gap,
        select=select,
        scores=scores,
        look_for=look_for,
    )
    if not options.fine:
        why = "--no-fine leaves it out; leave out --no-fine"
        check_without_gens(why, stream=stream)
        if options.scores is None or options.scores.kind.name != "gens":  # gens:CHECKPOINT heeds them
            check_without_gens(why, constrained=constrained, prompt=prompt, loading=loading)
    check_questions([one.text for one in asked])
    check_one_video(video, archive=archive)
    there = Path(video).exists()
    try:
        engine = open_engine(
            archive,
            preset=preset,
            encoder=encoder,
            sampler=sampler,
            rate=rate,
            sampling=sampling,
            backend=backend,
            decoder=decoder,
            device=device,
            dtype=dtype,
            batch_size=batch_size,
            prompt=prompt,
            loading=loading,
            constrained=constrained,
            create=there,
        )
    except ArchiveFormatError:
        if there or is_remote(archive) or Path(archive).exists():
            raise
        raise VideoOpenError(
            f"{video}: there is no such file or folder, and no archive {archive} that could know it; check the path, "
            "or name the archive in which the video was indexed with --archive"
        ) from None
    with engine:
        if many:
            _ask_many(engine, video, asked, options, out=out, stream=stream, as_json=as_json)
            return
        with BarProgress() as bar:
            progress = NullProgress() if as_json else bar
            answer = next(_answers(engine, video, asked, options, stream=stream, progress=progress))[1]
        # First what was asked for; a sheet that cannot be saved must not cost the answer.
        if as_json:
            print_json(answer.to_dict(), indent=2)
        else:
            _show(answer)
        _save(engine, answer, frames_dir=frames_dir, sheet=sheet, quiet=as_json)


def _questions(first: str | None, more: list[str] | None, file: Path | None) -> list[Question]:
    from hybrid.cli.questions import Question, read_questions

    asked = [Question(text) for text in ([] if first is None else [first]) + list(more or ())]
    if file is not None:
        asked += read_questions(file)
    if not asked:
        raise InputError("there is no question; give one behind the video, with -q, or in a file with --questions")
    return list(dict.fromkeys(asked))


def _ask_many(
    engine: Engine,
    video: str,
    asked: list[Question],
    options: AskOptions,
    *,
    out: Path | None,
    stream: bool,
    as_json: bool,
) -> None:
    """Ask all questions that have no answer yet, and give each answer as soon as it is there."""
    from contextlib import ExitStack

    from hybrid.cli.progress import BarProgress, print_json_line
    from hybrid.cli.questions import AnswerFile
    from hybrid.progress import NullProgress

    with ExitStack() as stack:
        progress: Progress = NullProgress() if as_json else stack.enter_context(BarProgress())
        left = asked
        file: AnswerFile | None = None
        if out is not None:
            configuration = engine.configuration(video, options, progress=progress)
            file = stack.enter_context(AnswerFile(out, configuration))
            left = file.left(asked)
        try:
            for question, answer in _answers(engine, video, left, options, stream=stream, progress=progress):
                if file is not None:
                    file.add(question, answer)
                if as_json:
                    print_json_line(id=question.name, **answer.to_dict())
                else:
                    _show_short(answer)
        except KeyboardInterrupt:
            if out is not None:
                echo(f"stopped; what was answered is kept in {out}, the same command goes on from there", err=True)
            raise
    if out is not None:
        kept = f", {len(asked) - len(left)} there already" if len(left) < len(asked) else ""
        echo(f"{len(left)} of {plural(len(asked), 'question')} answered now{kept}: {out}", err=as_json)


def _answers(
    engine: Engine, video: str, asked: list[Question], options: AskOptions, *, stream: bool, progress: Progress
) -> Iterator[tuple[Question, Answer]]:
    """Each question with its answer, as soon as it is complete; with ``stream`` spans go to standard error before."""
    from dataclasses import asdict

    from hybrid.cli.progress import print_json
    from hybrid.engine import SpansChanged

    texts = [question.text for question in asked]
    for event in engine.stream(video, texts, options, spans=stream, progress=progress):
        question = asked[event.question]
        if isinstance(event, SpansChanged):
            spans = [asdict(span) for span in event.spans]
            line = {"question": question.text, "id": question.name, "spans": spans, "finished": event.finished}
            print_json(line, err=True)
        else:
            yield question, event.answer


def _show_short(answer: Answer) -> None:
    from hybrid.cli.text import best_part, clock, styled, terminal

    console = terminal()
    console.print(styled((answer.question, "bold")))
    for span in answer.spans:
        times = f"{clock(span.start_seconds)} to {clock(span.end_seconds)}"
        best = f"  (best: {best_part(span)})" if span.best else ""
        console.print(f"  {times}  {span.score:.3g} by {span.scorer}{best}")
    if not answer.spans:
        console.print("  no spans")
    shown = ", ".join(clock(frame.seconds) for frame in answer.frames[:SHOWN_FRAMES])
    more = f" and {len(answer.frames) - SHOWN_FRAMES} more" if len(answer.frames) > SHOWN_FRAMES else ""
    console.print(f"  frames {shown}{more}" if shown else "  no frames")
    for stage in answer.stages:
        for note in stage.notes if stage.name == "gens" else ():
            console.print(f"  {stage.name}: {note}")
        if stage.fallback_reason:
            console.print(styled("  ", ("fallback", "bold yellow"), f" {stage.name}: {stage.fallback_reason}"))


def _save(engine: Engine, answer: Answer, *, frames_dir: Path | None, sheet: Path | None, quiet: bool) -> None:
    from hybrid.exports.images import save_frames
    from hybrid.exports.sheet import save_sheet

    if frames_dir is not None:
        save_frames(answer, _images(engine, answer), frames_dir)
    if sheet is not None:
        save_sheet(answer, _images(engine, answer), sheet)
    if not quiet:
        for place in filter(None, (frames_dir, sheet)):
            echo(f"saved {place}")


def _images(engine: Engine, answer: Answer) -> Iterator[tuple[int, ByteArray]]:
    """The frames of the answer; none if the video cannot be read any more, which is said."""
    from hybrid.errors import VideoError

    try:
        yield from engine.read_frames(answer.video, [frame.ordinal for frame in answer.frames])
    except VideoError as exc:
        echo(f"hybrid: there are no pictures to save: {exc}", err=True)


def _show(answer: Answer) -> None:
    from rich.table import Column, Table

    from hybrid.cli.tables import frames_table, spans_table
    from hybrid.cli.text import clock, styled, terminal

    console = terminal()
    console.print(styled((answer.question, "bold"), f"  {answer.video} ({clock(answer.duration_seconds)})"))
    console.print(spans_table(answer))
    console.print(frames_table(answer))
    stages = Table(
        "stage",
        "ran",
        Column("model", overflow="fold"),
        "device",
        "in",
        "out",
        "seconds",
        title="stages",
        title_justify="left",
    )
    for stage in answer.stages:
        stages.add_row(
            stage.name,
            "yes" if stage.ran else "no",
            stage.model or "",
            stage.device or "",
            "" if stage.candidates_in is None else str(stage.candidates_in),
            "" if stage.candidates_out is None else str(stage.candidates_out),
            f"{stage.seconds:.3f}",
        )
    console.print(stages)
    for stage in answer.stages:
        for note in stage.notes:
            console.print(f"{stage.name}: {note}")
        if stage.fallback_reason:
            console.print(styled(("fallback", "bold yellow"), f" {stage.name}: {stage.fallback_reason}"))
    if answer.reply is not None:
        console.print(f"reply: {answer.reply}")
