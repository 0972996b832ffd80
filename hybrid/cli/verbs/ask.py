"""``hybrid ask``: questions about one video."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hybrid.cli.display.text import echo, print_json, print_json_line
from hybrid.cli.from_fields import FromRegistry, Given
from hybrid.cli.input.paths import check_one_video
from hybrid.cli.options import DEFAULT_ARCHIVE, BackendOption, JsonOption, NewArchiveOption, refuse_for_gens
from hybrid.cli.registry import Verb
from hybrid.errors import ArchiveFormatError, InputError, VideoOpenError
from hybrid.export.registry import export_flags
from hybrid.formatting import plural
from hybrid.options.ask import AskOptions
from hybrid.options.engine import EngineOptions

if TYPE_CHECKING:
    from hybrid.answers import Answer
    from hybrid.cli.input.questions import Question
    from hybrid.engine import Engine
    from hybrid.progress import Progress
    from hybrid.values import ByteArray

__all__ = ["VERB"]


@dataclass(frozen=True, slots=True)
class Asked:
    """Which questions about which video."""

    video: Annotated[str, typer.Argument(help="A video file, or a folder of numbered images.")]
    question: Annotated[str | None, typer.Argument(help="What you want to see.")] = None
    more: Annotated[list[str] | None, typer.Option("--question", "-q", help="A question; may come many times.")] = None
    file: Annotated[
        Path | None, typer.Option("--questions", help="File with questions: a line each, or JSON lines.")
    ] = None

    def read(self) -> list[Question]:
        """All questions, each once.

        Raises:
            InputError: there is none, or the file cannot be read.
        """
        from hybrid.cli.input.questions import Question, read_questions

        asked = [Question(text) for text in ([] if self.question is None else [self.question]) + list(self.more or ())]
        if self.file is not None:
            asked += read_questions(self.file)
        if not asked:
            raise InputError("there is no question; give one behind the video, with -q, or in a file with --questions")
        return list(dict.fromkeys(asked))


@dataclass(frozen=True, slots=True)
class Output:
    """How answers are given."""

    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Write each answer here, as a JSON line, when it is there; what it answers already is kept."
        ),
    ] = None
    stream: Annotated[
        bool, typer.Option("--stream", help="Print spans on standard error as GenS finds them, as JSON lines.")
    ] = False
    as_json: JsonOption = False


def ask(
    asked: Asked,
    options: AskOptions,
    exports: Annotated[dict[str, Path], FromRegistry(export_flags)],
    engine: Given[EngineOptions],
    output: Output,
    archive: NewArchiveOption = DEFAULT_ARCHIVE,
    backend: BackendOption = None,
) -> None:
    """Ask a video a question, or many. It is indexed first if it is not yet.

    Many questions go to GenS together, which is much faster than one by one. Each answer is given as
    soon as GenS has finished it, in whatever order that is; --json prints one line an answer, with the
    question and its id. With --out, a run that was stopped goes on where it was.

    Exit code 0 also where a stage had to be replaced (the answer says so); --strict makes that 1.
    """
    from hybrid.export.output_file import ANSWERS, check_output
    from hybrid.export.registry import EXPORTERS
    from hybrid.values import check_questions

    # Everything that can be refused is, before an archive is made.
    questions = asked.read()
    many = len(questions) > 1 or asked.file is not None or output.out is not None
    for name, path in exports.items():
        exporter = EXPORTERS.find(name)
        if many:
            raise InputError(
                f"{exporter.flag} is for a single question; leave it out, or ask one question alone, without "
                "--questions and --out"
            )
        exporter.check(path, archive=archive, video=asked.video)
    if output.out is not None:
        check_output(output.out, ANSWERS, name="--out", archive=archive, video=asked.video)
    if not options.fine:
        _check_without_gens(options, engine, stream=output.stream)
    check_questions([one.text for one in questions])
    check_one_video(asked.video, archive=archive)
    with _open(archive, asked.video, engine.read(), backend) as opened:
        if many:
            _ask_many(opened, asked.video, questions, options, output)
        else:
            _ask_one(opened, asked.video, questions[0], options, output, exports)


VERB = Verb("ask", ask)


def _check_without_gens(options: AskOptions, engine: Given[EngineOptions], *, stream: bool) -> None:
    why = "--no-fine leaves it out; leave out --no-fine"
    if stream:
        raise InputError(f"--stream is for GenS, and {why}, or leave out --stream")
    if options.scores is None or options.scores.kind.name != "gens":  # gens:CHECKPOINT heeds them
        refuse_for_gens(why, EngineOptions, engine.values, but=("sampler",))


def _open(archive: str, video: str, options: EngineOptions, backend: str | None) -> Engine:
    """The engine; its archive is made if there is none and the video is there."""
    from hybrid.engine import Engine
    from indexes.format.location import is_remote

    exists = Path(video).exists()
    try:
        return Engine.open(archive, options, backend=backend, create=exists)
    except ArchiveFormatError:
        if exists or is_remote(archive) or Path(archive).exists():
            raise
        raise VideoOpenError(
            f"{video}: there is no such file or folder, and no archive {archive} that could know it; check the path, "
            "or name the archive in which the video was indexed with --archive"
        ) from None


def _ask_one(
    engine: Engine, video: str, question: Question, options: AskOptions, output: Output, exports: Mapping[str, Path]
) -> None:
    """Ask a question; print the answer, then save what was asked for: that may fail, and must not cost the answer."""
    from hybrid.cli.display.answers import show_answer
    from hybrid.cli.display.progress import Bars
    from hybrid.export.registry import EXPORTERS
    from hybrid.progress import NullProgress

    with Bars() as bars:
        progress: Progress = NullProgress() if output.as_json else bars.row()
        answer = next(_answers(engine, video, [question], options, stream=output.stream, progress=progress))[1]
    if output.as_json:
        print_json(answer.to_dict(), indent=2)
    else:
        show_answer(answer)
    for name, path in exports.items():
        EXPORTERS.find(name).write(answer, _frames(engine, answer), path)
    if not output.as_json:
        for path in exports.values():
            echo(f"saved {path}")


def _ask_many(engine: Engine, video: str, questions: list[Question], options: AskOptions, output: Output) -> None:
    """Ask all questions that have no answer yet, and give each answer as soon as it is there."""
    from hybrid.cli.display.answers import show_short_answer
    from hybrid.cli.display.progress import Bars
    from hybrid.cli.input.questions import AnswerFile
    from hybrid.progress import NullProgress

    out, left = output.out, questions
    with ExitStack() as stack:
        progress: Progress = NullProgress() if output.as_json else stack.enter_context(Bars()).row()
        file: AnswerFile | None = None
        if out is not None:
            configuration = engine.configuration(video, options, progress=progress)
            file = stack.enter_context(AnswerFile(out, configuration))
            left = file.left(questions)

        answers = _answers(engine, video, left, options, stream=output.stream, progress=progress)
        try:
            for question, answer in answers:
                if file is not None:
                    file.add(question, answer)
                if output.as_json:
                    print_json_line(id=question.name, **answer.to_dict())
                else:
                    show_short_answer(answer)
        except KeyboardInterrupt:
            if out is not None:
                echo(f"stopped; what was answered is kept in {out}, the same command goes on from there", err=True)
            raise
    if out is not None:
        before = f", {len(questions) - len(left)} there already" if len(left) < len(questions) else ""
        echo(f"{len(left)} of {plural(len(questions), 'question')} answered now{before}: {out}", err=output.as_json)


def _answers(
    engine: Engine, video: str, questions: list[Question], options: AskOptions, *, stream: bool, progress: Progress
) -> Iterator[tuple[Question, Answer]]:
    """Each question with its answer, as soon as it is complete; with ``stream`` spans go to standard error before."""
    from hybrid.engine import SpansChanged

    texts = [question.text for question in questions]
    for event in engine.stream(video, texts, options, spans=stream, progress=progress):
        question = questions[event.question]
        if isinstance(event, SpansChanged):
            spans = [asdict(span) for span in event.spans]
            line = {"question": question.text, "id": question.name, "spans": spans, "finished": event.finished}
            print_json(line, err=True)
        else:
            yield question, event.answer


def _frames(engine: Engine, answer: Answer) -> Iterator[tuple[int, ByteArray]]:
    """The frames of the answer; none, with a message, if the video cannot be read any more."""
    from hybrid.errors import VideoError

    try:
        yield from engine.read_frames(answer.video, [frame.ordinal for frame in answer.frames])
    except VideoError as exc:
        echo(f"hybrid: there are no pictures to save: {exc}", err=True)
