"""Scores by name: what a selector goes by is what was asked for, and the answer says so."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from hybrid.answers import Answer, Stage
from hybrid.cli.app import app
from hybrid.engine import Answered, Engine
from hybrid.errors import InputError, StageFailedError
from hybrid.options.keywords import AskKeywords
from hybrid.scorers.gens import GensScorer
from hybrid.scorers.interface import Loading, VideoScorer
from hybrid.scorers.spec import load_video_scorer
from hybrid.selectors.candidates import Candidates
from hybrid.selectors.focus import focus
from hybrid.selectors.registry import select
from hybrid.values import ByteArray, FloatArray
from tests.engine.conftest import Recorded, counted_from

OpenEngine = Callable[..., Engine]
QUESTION = "When is the red circle visible?"


@pytest.fixture(scope="session")
def blip(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tests.scorers.checkpoints import make_blip

    return f"blip-itm:{make_blip(tmp_path_factory.mktemp('scores') / 'blip')}"


def stage(answer: Answer, name: str) -> Stage:
    return next(stage for stage in answer.stages if stage.name == name)


def test_a_selector_goes_by_a_model_of_its_own(open_engine: OpenEngine, demo_clip: Path, blip: str) -> None:
    engine = open_engine()
    answer = engine.ask(demo_clip, QUESTION, frames=6, fine=False, select="aks", scores=blip)
    manifest = engine.archive.require(engine.archive.identify(demo_clip))
    timeline = engine.archive.timeline(manifest)
    rows = timeline.distinct_rows()
    frames = (rgb for _, rgb in engine.read_frames(demo_clip, timeline.ordinals[rows].tolist()))
    scores = load_video_scorer(blip, device="cpu").score(frames, [QUESTION])[0]
    expected = select("aks", Candidates(seconds=timeline.pts_seconds[rows], scores=scores), 6)
    assert [frame.ordinal for frame in answer.frames] == timeline.ordinals[rows[expected]].tolist()
    ran = stage(answer, "scores")
    assert (ran.ran, ran.model, ran.device, ran.candidates_in) == (True, blip, "cpu", len(rows))
    assert ran.seconds > 0
    assert ran.details["identity"]["scorer"] == "blip-itm"
    assert stage(answer, "select").details["scores"] == blip
    assert not answer.degraded


class Counting:
    """A scorer that counts the frames which it is given."""

    def __init__(self, inner: VideoScorer) -> None:
        self.inner = inner
        self.name, self.identity, self.device = inner.name, inner.identity, inner.device
        self.counts: list[int] = []

    def score(self, frames: Iterable[ByteArray], questions: Sequence[str]) -> FloatArray:
        scores = self.inner.score(frames, questions)
        self.counts.append(scores.shape[1])
        return scores


def test_focus_has_only_those_frames_scored_that_it_asks_for(
    open_engine: OpenEngine, demo_clip: Path, blip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = open_engine()
    counting = Counting(load_video_scorer(blip, device="cpu"))
    engine = Engine(plain.archive, plain.settings, video_scorers={blip: counting})
    with monkeypatch.context() as patch:
        # To score takes 1000 s, whatever else a busy machine is slow at.
        clock = time.perf_counter
        patch.setattr(time, "perf_counter", lambda: clock() + 1000 * len(counting.counts))
        answer = engine.ask(demo_clip, QUESTION, frames=6, fine=False, select="focus", scores=blip)
    timeline = engine.archive.timeline(engine.archive.require(engine.archive.identify(demo_clip)))
    rows = timeline.distinct_rows()
    seconds = timeline.pts_seconds[rows]
    every = (rgb for _, rgb in engine.read_frames(demo_clip, timeline.ordinals[rows].tolist()))
    scores = counting.inner.score(every, [QUESTION])[0]
    asked: list[int] = []

    def score_frames(places: np.ndarray) -> np.ndarray:
        asked.extend(places.tolist())
        return np.asarray(scores[places])

    expected = focus(seconds, score_frames, 6)
    assert [frame.ordinal for frame in answer.frames] == timeline.ordinals[rows[expected]].tolist()
    assert len(counting.counts) == 2  # every stretch a little, then the promising ones
    assert sum(counting.counts) == len(asked) == len(set(asked)) < len(rows)
    ran = stage(answer, "scores")
    assert (ran.ran, ran.model, ran.candidates_in, ran.candidates_out) == (True, blip, len(asked), len(asked))
    assert (ran.details["on_demand"], ran.details["candidates"]) == (True, len(rows))
    assert stage(answer, "select").details["scores"] == blip
    assert stage(answer, "select").seconds < 1000 < 2000 <= ran.seconds
    assert not answer.degraded


def test_focus_goes_by_other_scores_where_its_own_cannot_be_had(
    open_engine: OpenEngine, demo_clip: Path, tmp_path: Path
) -> None:
    engine = open_engine()
    nowhere = f"blip-itm:{tmp_path / 'nowhere'}"
    answer = engine.ask(demo_clip, QUESTION, frames=6, fine=False, select="focus", scores=nowhere)
    by_clip = engine.ask(demo_clip, QUESTION, frames=6, fine=False, select="focus")
    assert answer.frames == by_clip.frames
    failed = stage(answer, "scores")
    assert not failed.ran
    assert "goes by the scores of the other stages instead" in (failed.fallback_reason or "")
    assert (stage(answer, "select").details["scores"], answer.degraded) == ("clip", True)
    with pytest.raises(StageFailedError, match="'scores' failed"):
        engine.ask(demo_clip, QUESTION, frames=6, fine=False, select="focus", scores=nowhere, strict=True)


def test_many_questions_share_one_reading(open_engine: OpenEngine, demo_clip: Path, blip: str) -> None:
    engine = open_engine()
    asked = [QUESTION, "What comes right after the blue square?"]
    together = engine.ask_many(demo_clip, asked, frames=6, fine=False, select="top_k", scores=blip)
    alone = [engine.ask(demo_clip, q, frames=6, fine=False, select="top_k", scores=blip) for q in asked]
    assert [answer.frames for answer in together] == [answer.frames for answer in alone]
    first, second = (stage(answer, "scores") for answer in together)
    assert first.details["questions"] == second.details["questions"] == 2
    assert first.seconds == second.seconds
    assert second.details["load_seconds"] == 0


@pytest.mark.parametrize("select", ["top_k", "focus"])
def test_an_answer_by_other_scores_is_given_before_gens_writes_the_next(
    open_engine: OpenEngine, demo_clip: Path, blip: str, tiny_scorer: object, select: str
) -> None:
    """Whether the model has scored the whole video before, or scores the frames that the selector asks for then."""
    engine = open_engine(scorer=counted_from(tiny_scorer, batch=1))
    options: AskKeywords = {"frames": 6, "window": 8, "select": select, "scores": blip}
    asked = [QUESTION, "What comes right after the blue square?"]
    events = list(engine.stream(demo_clip, asked, spans=True, **options))
    told = [("answer" if isinstance(event, Answered) else "spans", event.question) for event in events]
    answers = [event.answer for event in sorted(events, key=lambda each: each.question) if isinstance(event, Answered)]
    (given, first), (_, second) = [(number, place) for number, (kind, place) in enumerate(told) if kind == "answer"]
    assert {first, second} == {0, 1}
    assert ("spans", second) not in told[:given]
    assert ("spans", second) in told[given:]
    assert [stage(answer, "scores").ran for answer in answers] == [True, True]
    assert [stage(answer, "select").details["scores"] for answer in answers] == [blip, blip]
    alone = [engine.ask(demo_clip, question, **options) for question in asked]
    assert [answer.frames for answer in answers] == [answer.frames for answer in alone]


def test_scores_of_a_stage_can_be_chosen(open_engine: OpenEngine, demo_clip: Path) -> None:
    engine = open_engine(scorer=Recorded('{"3-4": 5, "30": 4}'))
    by_gens = engine.ask(demo_clip, QUESTION, frames=3, select="top_k", scores="gens")
    assert [frame.ordinal for frame in by_gens.frames] == [3, 4, 30]
    by_clip = engine.ask(demo_clip, QUESTION, frames=3, select="top_k", scores="clip")
    plain = engine.ask(demo_clip, QUESTION, frames=3, select="top_k", fine=False)
    assert [frame.ordinal for frame in by_clip.frames] == [frame.ordinal for frame in plain.frames]
    assert [stage(a, "select").details["scores"] for a in (by_gens, by_clip, plain)] == ["gens", "clip", "clip"]
    assert [frame.gens_score is None for frame in by_clip.frames] == [False] * 3


def test_coverage_goes_by_both(open_engine: OpenEngine, demo_clip: Path, blip: str) -> None:
    engine = open_engine(scorer=Recorded('{"3-4": 5, "30": 4}'))
    both = engine.ask(demo_clip, QUESTION, frames=3, select="coverage")
    assert stage(both, "select").details["scores"] == "clip and gens"
    other = engine.ask(demo_clip, QUESTION, frames=3, select="coverage", scores=blip)
    assert stage(other, "select").details["scores"] == f"{blip} and gens"
    alone = engine.ask(demo_clip, QUESTION, frames=3, select="coverage", fine=False)
    assert stage(alone, "select").details["scores"] == "clip"
    no_clip = engine.ask(demo_clip, QUESTION, frames=3, select="coverage", coarse=False)
    assert stage(no_clip, "select").details["scores"] == "gens"
    uniform = engine.ask(demo_clip, QUESTION, frames=3, select="uniform")
    assert stage(uniform, "select").details["scores"] == "none"


def test_coverage_can_be_told_to_go_by_one_alone(open_engine: OpenEngine, demo_clip: Path) -> None:
    engine = open_engine(scorer=Recorded('{"3-4": 5, "30": 4}'))
    chosen = {}
    for scores, used in ((None, "clip and gens"), ("clip", "clip"), ("gens", "gens")):
        answer = engine.ask(demo_clip, QUESTION, frames=3, select="coverage", scores=scores)
        assert stage(answer, "select").details["scores"] == used
        chosen[scores] = [frame.ordinal for frame in answer.frames]
    # By the rule itself, with one kind of scores given and the other withheld.
    hits = engine.ask(demo_clip, QUESTION, frames=1000, fine=False, select="top_k").frames
    seconds = np.array([frame.seconds for frame in hits])
    similarities = np.array([frame.clip_similarity for frame in hits])
    given = np.zeros(len(hits))
    given[[3, 4, 30]] = 5, 5, 4
    for scores, own in (("clip", {"similarities": similarities}), ("gens", {"gens_scores": given})):
        rows = select("coverage", Candidates(seconds=seconds, scores=next(iter(own.values())), **own), 3)
        assert chosen[scores] == [hits[row].ordinal for row in rows]
    assert chosen["clip"] != chosen["gens"] != chosen[None]
    silent = open_engine(scorer=Recorded("I cannot say."))
    replaced = silent.ask(demo_clip, QUESTION, frames=3, select="coverage", scores="gens")
    assert stage(replaced, "select").details["scores"] == "clip"
    assert replaced.degraded


def gens_that_says(monkeypatch: pytest.MonkeyPatch, *replies: str, window: int = 256) -> None:
    """Whatever checkpoint ``gens:`` names replies this."""
    import hybrid.scorers.gens as gens

    def load(loading: Loading) -> GensScorer:
        return GensScorer(Recorded(*replies), name=loading.name, window=window)

    monkeypatch.setattr(gens, "SCORER", replace(gens.SCORER, load=load))


def test_replies_of_another_gens_that_hold_no_scores_are_a_fallback(
    open_engine: OpenEngine, demo_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gens_that_says(monkeypatch, "I cannot say.", "Nothing.", window=20)
    engine = open_engine()
    options: AskKeywords = {"frames": 3, "fine": False, "select": "top_k", "scores": "gens:other"}
    answer = engine.ask_many(demo_clip, [QUESTION], **options)[0]
    failed = stage(answer, "scores")
    assert (failed.ran, failed.candidates_out) == (False, 0)
    assert "none of the replies to 3 windows holds scores" in (failed.fallback_reason or "")
    assert stage(answer, "select").details["scores"] == "clip"
    options["strict"] = True
    with pytest.raises(StageFailedError, match="'scores' failed: none of the replies"):
        engine.ask_many(demo_clip, [QUESTION], **options)


def test_a_window_without_a_usable_reply_is_counted(
    open_engine: OpenEngine, demo_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gens_that_says(monkeypatch, '{"2": 5}', "Nothing.", "{}", window=20)
    answer = open_engine().ask(demo_clip, QUESTION, frames=1, fine=False, select="top_k", scores="gens:other")
    ran = stage(answer, "scores")
    assert ran.ran
    assert ran.fallback_reason == "1 of 3 windows gave no usable reply"
    assert [frame.ordinal for frame in answer.frames] == [2]


def test_one_question_without_scores_does_not_cost_the_others_theirs(
    open_engine: OpenEngine, demo_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gens_that_says(monkeypatch, "Nothing.", '{"2": 5}')
    first, second = open_engine().ask_many(
        demo_clip, [QUESTION, "a square"], frames=1, fine=False, select="top_k", scores="gens:other"
    )
    assert [stage(answer, "scores").ran for answer in (first, second)] == [False, True]
    assert [stage(answer, "select").details["scores"] for answer in (first, second)] == ["clip", "gens:other"]
    assert not second.degraded


def test_another_gens_gets_the_prompt_and_the_form_of_its_replies(
    open_engine: OpenEngine, demo_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hybrid.scorers.gens as gens

    loaded: dict[str, Any] = {}

    def load_scorer(name: str, **given: Any) -> Recorded:
        loaded.update(given, name=name)
        return Recorded('{"2": 5}')

    monkeypatch.setattr(gens, "load_scorer", load_scorer)
    prompt = tmp_path / "prompt.json"
    prompt.write_text('{"max_new_tokens": 7}')
    engine = open_engine(prompt=prompt, constrained=True)
    engine.ask(demo_clip, QUESTION, frames=1, fine=False, select="top_k", scores="gens:other")
    assert (loaded["name"], loaded["prompt"].max_new_tokens, loaded["loop"].constrained) == ("other", 7, True)


def test_what_cannot_run_is_replaced_and_said(
    open_engine: OpenEngine, demo_clip: Path, tmp_path: Path, blip: str
) -> None:
    engine = open_engine()
    gone = f"blip-itm:{tmp_path / 'none'}"
    answer = engine.ask(demo_clip, QUESTION, frames=3, fine=False, select="top_k", scores=gone)
    failed = stage(answer, "scores")
    assert not failed.ran
    assert "there is no folder" in (failed.fallback_reason or "")
    assert stage(answer, "select").details["scores"] == "clip"
    with pytest.raises(StageFailedError, match="'scores' failed"):
        engine.ask(demo_clip, QUESTION, frames=3, fine=False, select="top_k", scores=gone, strict=True)
    moved = tmp_path / "moved.mp4"
    moved.write_bytes(demo_clip.read_bytes())
    elsewhere = open_engine(archive=tmp_path / "elsewhere")
    elsewhere.index(moved)
    moved.unlink()
    answer = elsewhere.ask(moved, QUESTION, frames=3, fine=False, select="top_k", scores=blip)
    assert "does not exist any more" in (stage(answer, "scores").fallback_reason or "")
    assert len(answer.frames) == 3


@pytest.mark.parametrize("select", ["top_k", "focus"])
def test_frames_that_cannot_be_decoded_are_not_chosen(
    open_engine: OpenEngine, demo_clip: Path, blip: str, monkeypatch: pytest.MonkeyPatch, select: str
) -> None:
    import hybrid.engine.ask.external_scores as scoring

    engine = open_engine()
    whole, scored = scoring._frames, set[int]()

    def noted(work: object, video: object, reading: scoring._Decoding, rows: np.ndarray) -> object:
        scored.update(rows.tolist())
        return whole(work, video, reading, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(scoring, "_frames", noted)
    options: AskKeywords = {"frames": 10, "fine": False, "select": select, "scores": blip}
    before = engine.ask_many(demo_clip, [QUESTION], **options)[0]
    best = next(frame.ordinal for frame in before.frames if frame.ordinal in scored)

    def without_the_best(work: object, video: object, reading: scoring._Decoding, rows: np.ndarray) -> object:
        for frame in whole(work, video, reading, rows):  # type: ignore[arg-type]
            if reading.rows[-1] == best:
                reading.rows.pop()
                continue
            yield frame

    monkeypatch.setattr(scoring, "_frames", without_the_best)
    answer = engine.ask_many(demo_clip, [QUESTION], **options)[0]
    assert best not in [frame.ordinal for frame in answer.frames]
    assert "1 frame of the index cannot be decoded" in (stage(answer, "scores").fallback_reason or "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scores": "clip"}, "name one with --select"),
        ({"scores": "clip", "select": "uniform"}, "does not look at scores"),
        ({"scores": "gens", "select": "aks", "fine": False}, "leave out --no-fine"),
        ({"scores": "clip", "select": "aks", "coarse": False}, "leave out --no-coarse"),
        ({"scores": "blip-itm", "select": "aks"}, "needs a checkpoint"),
        ({"scores": "sharpness", "select": "aks"}, "there is no scorer 'sharpness'"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    open_engine: OpenEngine, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        open_engine().ask(tmp_path / "none.mp4", QUESTION, **options)  # type: ignore[arg-type]


def test_the_command_line_takes_them(demo_clip: Path, clip_folder: Path, tmp_path: Path, blip: str) -> None:
    encoder = ["--encoder", f"local-dir:{clip_folder}", "--archive", str(tmp_path / "archive"), "--device", "cpu"]
    command = ["ask", str(demo_clip), QUESTION, *encoder, "--no-fine", "--json", "--frames", "5"]
    result = CliRunner().invoke(app, [*command, "--select", "aks", "--scores", blip], catch_exceptions=False)
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    ran = next(stage for stage in answer["stages"] if stage["name"] == "scores")
    assert (ran["ran"], ran["model"]) == (True, blip)
    assert len(answer["frames"]) == 5
    assert np.isfinite(ran["seconds"])


def test_a_question_whose_scorer_failed_is_asked_again(
    demo_clip: Path, clip_folder: Path, tmp_path: Path, blip: str
) -> None:
    encoder = ["--encoder", f"local-dir:{clip_folder}", "--archive", str(tmp_path / "archive"), "--device", "cpu"]
    folder = tmp_path / "blip"
    command = ["ask", str(demo_clip), QUESTION, *encoder, "--no-fine", "--out", str(tmp_path / "answers.jsonl")]
    command += ["--select", "aks", "--scores", f"blip-itm:{folder}"]
    for there, said in ((False, "1 of 1 question answered now"), (True, "1 of 1"), (True, "0 of 1")):
        if there and not folder.exists():
            shutil.copytree(blip.partition(":")[2], folder)
        result = CliRunner().invoke(app, command, catch_exceptions=False)
        assert said in result.stdout
