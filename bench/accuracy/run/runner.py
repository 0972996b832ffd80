"""Ask every question under every method, measure, and keep each sample as soon as it is done.

Videos come one after another, each with all its questions. What fails ends a sample, never the run; the run ends only
for what would end every sample: a VideoQA model that refuses all requests, a disk that is full, the user.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.accuracy.answerers.interface import (
    Answerer,
    AnswererSilentError,
    AnswererUnusableError,
    AnswerFailedError,
    AnswerRefusedError,
    Reply,
)
from bench.accuracy.answerers.letters import extract_letter, without_thoughts
from bench.accuracy.answerers.prompts import DEFAULT_TEMPLATE, Picture, letters_of, write_prompt
from bench.accuracy.run.evidence import frames_at
from bench.accuracy.run.grid import Grid, grid_of, one_grid, same_grid
from bench.accuracy.run.measures import measure_pictures, measure_reply, measure_selection, measure_spans
from bench.accuracy.run.methods import Method, select_frames
from bench.accuracy.run.record import Failure, RunFolder, Sample
from bench.datasets.question import Question, check_ids
from hybrid.answers import Answer
from hybrid.engine import Engine
from hybrid.errors import ENDS_RUN, HybridError, SaveError, StageFailedError, first_line
from hybrid.options.keywords import AskKeywords
from hybrid.progress import NullProgress

__all__ = ["Plan", "Progress", "run_samples"]

_LOG = logging.getLogger(__name__)

SILENT_IN_A_ROW = 3
"""So many requests without a sound, each of them sent several times, and the server is taken for dead."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked.

    Attributes:
        questions: of one data set.
        folder: where their videos lie.
        methods: how frames are chosen.
        options: of all methods (``frames``, ``window``, ``seed`` ...).
        within: tolerances of the measures in seconds.
        with_options: whether the options are part of the text that frames are chosen by.
        answerer: the VideoQA model; None for none.
        template: what it is asked.
        retry_failed: whether samples that failed in an earlier session are done again.
        visual: whether LV-Haystack's visual measures are computed, for which all pictures are decoded and compared.

    Raises:
        InputError: two questions have the same id.
    """

    questions: Sequence[Question]
    folder: Path
    methods: Sequence[Method]
    options: AskKeywords
    within: Sequence[float]
    with_options: bool = False
    answerer: Answerer | None = None
    template: str = DEFAULT_TEMPLATE
    retry_failed: bool = False
    visual: bool = False

    def __post_init__(self) -> None:
        check_ids(self.questions)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: samples done now and left over all, of these failed, and seconds since it began."""

    done: int
    left: int
    failed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Indexed:
    """A video's index: how it was made, or why there is none."""

    grid: Grid | None = None
    reason: str | None = None


@dataclass(slots=True)
class _Server:
    """What is known of the VideoQA model: whether it was asked in this run before, and for how long it was silent."""

    asked: bool
    silent: int = 0

    def replied(self) -> None:
        """It said something, be it that it refuses."""
        self.asked, self.silent = True, 0

    def refused(self, exc: AnswerRefusedError) -> None:
        """It does not take a request.

        Raises:
            AnswererUnusableError: it was the first of the run, so that one that is refused would be all there is.
        """
        if not self.asked:
            raise AnswererUnusableError(
                f"the first request of the run was refused: {exc}; see whether the model takes pictures, "
                "and so many and so large ones (--frames, --side)"
            ) from exc
        self.replied()

    def did_not_reply(self, exc: AnswererSilentError) -> None:
        """It said nothing.

        Raises:
            AnswererUnusableError: to the first request of the run, or to several in a row.
        """
        self.silent += 1
        if not self.asked or self.silent >= SILENT_IN_A_ROW:
            times = "the first request of the run" if not self.asked else f"{self.silent} requests in a row"
            raise AnswererUnusableError(
                f"{times} got no reply: {exc}; see whether the server runs, and what its log says. The same command "
                "goes on, with --retry-failed it does again what failed"
            ) from exc


@dataclass(slots=True)
class _Step:
    """Which step a sample is in, and how long the steps took."""

    name: str = "select"
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        self.name = name
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


def run_samples(
    plan: Plan, engine: Engine, folder: RunFolder, *, tell: Callable[[Progress], None] | None = None
) -> int:
    """Do all samples that the folder does not hold yet.

    Args:
        plan: what is asked.
        engine: with its models loaded, so that their loading is in no sample's time.
        folder: where samples are kept.
        tell: is told after each video.

    Returns:
        How many samples were done now.

    Raises:
        AnswererUnusableError: the VideoQA model refuses all requests, or the first request of the run; or it is
            silent, at once or several times in a row.
        GridsDifferError: a video is indexed with another rate, policy, decoder or encoder than the run's others.
        SaveError: the disk is full.
        HybridError: what would meet every further video.
    """
    todo = _todo(plan, folder)
    started, done, failed = time.perf_counter(), 0, 0
    left = sum(len(pairs) for pairs in todo.values())
    server = _Server(asked=any(map(_was_asked, folder.samples.values())))
    known = one_grid(folder.samples.values())
    _warm_up(plan, engine, todo)
    for video, pairs in todo.items():
        indexed = _index(plan, engine, video)
        if indexed.grid is not None:
            known = same_grid(known, indexed.grid, video=video)
        for question, method in pairs:
            if indexed.reason is None:
                sample = _sample(plan, engine, folder.session, question, method, server)
                sample = replace(sample, index=indexed.grid)
            else:
                failure = Failure("index", indexed.reason)
                sample = Sample(method.name, question.id, video, folder.session, failure=failure)
            folder.add(sample)
            done, left, failed = done + 1, left - 1, failed + (sample.failure is not None)
        if tell is not None:
            tell(Progress(done, left, failed, time.perf_counter() - started))
    return done


def _was_asked(sample: Sample) -> bool:
    """Whether a VideoQA model was asked for this one, with or without a reply."""
    return sample.reply is not None or (sample.failure is not None and sample.failure.step == "answer")


def _todo(plan: Plan, folder: RunFolder) -> dict[str, list[tuple[Question, Method]]]:
    """What is not done yet, by video in order of first use."""
    todo: dict[str, list[tuple[Question, Method]]] = {}
    for question in plan.questions:
        for method in plan.methods:
            before = folder.samples.get((method.name, question.id))
            if before is None or (plan.retry_failed and before.failure is not None):
                todo.setdefault(question.video, []).append((question, method))
    return todo


def _index(plan: Plan, engine: Engine, video: str) -> _Indexed:
    """Make the video's index, with GenS's features if a method needs them."""
    features = None if any(method.needs_gens for method in plan.methods) else False
    try:
        made = engine.index(plan.folder / video, features=features, progress=NullProgress())
        return _Indexed(grid=grid_of(engine.archive.require(made.video_id)))
    except (HybridError, OSError, MemoryError) as exc:
        if isinstance(exc, ENDS_RUN):
            raise
        return _Indexed(reason=str(exc) or first_line(exc))
    except Exception as exc:
        _LOG.error("%s: unexpected error", video, exc_info=exc)
        return _Indexed(reason=f"unexpected error: {first_line(exc)}")


def _warm_up(plan: Plan, engine: Engine, todo: Mapping[str, Sequence[tuple[Question, Method]]]) -> None:
    """One question that is not measured: the first call of a model is slower than all others."""
    video = next(iter(todo), None)
    if video is None or _index(plan, engine, video).reason is not None:
        return
    for method in plan.methods:
        try:
            select_frames(engine, method, plan.folder / video, todo[video][0][0].question, plan.options)
        except HybridError:
            return  # the sample itself will say so


def _sample(plan: Plan, engine: Engine, session: int, question: Question, method: Method, server: _Server) -> Sample:
    """One question under one method, with the reason where something fails."""
    step = _Step()
    sample = Sample(method.name, question.id, question.video, session)
    try:
        video = plan.folder / question.video
        text = write_prompt(question, "{question}\n{options}") if plan.with_options else question.question
        with step.timed("select"):
            answer = select_frames(engine, method, video, text, plan.options)
        _check_scored(method, answer)
        sample = _measured(sample, plan, engine, question, method, answer, step)
        if plan.answerer is not None:
            sample = _answered(sample, plan, plan.answerer, engine, question, answer, step)
            server.replied()
    except (AnswererUnusableError, SaveError):
        raise
    except AnswerRefusedError as exc:
        server.refused(exc)
        return replace(sample, seconds=step.seconds, failure=_failure(step, str(exc)))
    except AnswererSilentError as exc:
        server.did_not_reply(exc)
        return replace(sample, seconds=step.seconds, failure=_failure(step, str(exc)))
    except (HybridError, OSError, MemoryError) as exc:
        if isinstance(exc, ENDS_RUN) and step.name != "answer":
            raise
        if isinstance(exc, AnswerFailedError):
            server.replied()
        return replace(sample, seconds=step.seconds, failure=_failure(step, str(exc) or first_line(exc)))
    except Exception as exc:
        # A mistake of ours that one question brings out must not cost the others; it is not hushed up.
        _LOG.error("%s, %s: unexpected error", question.id, method.name, exc_info=exc)
        return replace(sample, seconds=step.seconds, failure=_failure(step, f"unexpected error: {first_line(exc)}"))
    return replace(sample, seconds=step.seconds)


def _failure(step: _Step, reason: str) -> Failure:
    if step.name in ("frames", "visual"):
        return Failure("frames", reason)
    return Failure("answer" if step.name == "answer" else "select", reason)


def _check_scored(method: Method, answer: Answer) -> None:
    """Refuse an answer whose frames were chosen without the model that the method is named after.

    Such an answer goes by CLIP's similarities, so that its numbers would be another method's. A model that was asked
    and gave no scores has details on record: that is its own doing, and the sample counts, as degraded.

    Raises:
        StageFailedError: the stage of that model did not run.
    """
    required = {"scores"} if method.scores is not None else set()
    if method.needs_gens:
        required |= {"frames", "gens"}
    lost = [
        stage
        for stage in answer.stages
        if stage.name in required and not stage.ran and stage.fallback_reason and not stage.details
    ]
    if lost:
        raise StageFailedError(f"the stage {lost[0].name!r} did not run: {lost[0].fallback_reason}")


def _measured(
    sample: Sample, plan: Plan, engine: Engine, question: Question, method: Method, answer: Answer, step: _Step
) -> Sample:
    archive = engine.archive
    timeline = archive.timeline(archive.require(answer.video_id))
    measures = measure_selection(question, answer, timeline, plan.within)
    if method.gives_spans:
        measures |= measure_spans(question, answer.spans)
    if plan.visual and question.moments_seconds:
        with step.timed("visual"):
            video = plan.folder / question.video
            shown = [picture.rgb for picture in _pictures(engine, video, answer)]
            measures |= measure_pictures(shown, frames_at(video, question.moments_seconds))
    return replace(
        sample,
        selection=answer.to_dict(),
        seconds=step.seconds,
        measures=measures,
        degraded=tuple(f"{stage.name}: {stage.fallback_reason}" for stage in answer.stages if stage.fallback_reason),
    )


def _answered(
    sample: Sample,
    plan: Plan,
    answerer: Answerer,
    engine: Engine,
    question: Question,
    answer: Answer,
    step: _Step,
) -> Sample:
    with step.timed("frames"):
        pictures = _pictures(engine, plan.folder / question.video, answer)
    with step.timed("answer"):
        reply = answerer.answer(pictures, write_prompt(question, plan.template))
    option = _option(question, reply)
    measures = {**sample.measures, **measure_reply(question, option)}
    return replace(sample, measures=measures, reply=_reply_record(reply, option, len(pictures)))


def _pictures(engine: Engine, video: Path, answer: Answer) -> list[Picture]:
    """The selected frames, all of them: an answer from fewer would be another method's."""
    seconds = {frame.ordinal: frame.seconds for frame in answer.frames}
    pictures = [Picture(seconds[ordinal], rgb) for ordinal, rgb in engine.read_frames(video, sorted(seconds))]
    if not pictures or len(pictures) < len(seconds):
        raise HybridError(f"{len(pictures)} of {len(seconds)} selected frames can be decoded from {video}")
    return pictures


def _option(question: Question, reply: Reply) -> int | None:
    """The place of the option that a reply names; None if it names none, or there are no options."""
    letters = letters_of(question)
    letter = extract_letter(without_thoughts(reply.text), letters) if letters else None
    return None if letter is None else letters.index(letter)


def _reply_record(reply: Reply, option: int | None, pictures: int) -> dict[str, Any]:
    return {
        "text": reply.text,
        "option": option,
        "model": reply.model,
        "pictures": pictures,
        "prompt_tokens": reply.prompt_tokens,
        "new_tokens": reply.new_tokens,
        "finish": reply.finish,
        "left_out": list(reply.left_out),
    }
