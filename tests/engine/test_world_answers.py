"""The bundled models on the bundled video: right answers, not only the right shapes.

Each threshold lies below what was measured and above what is left when a stage is broken: labels
shifted by one frame or counted from one, spans moved or cut short, a best part that is none, frames
chosen worst first or first come, another prompt, another least score, a coarse stage that ranks at random.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from bench.accuracy.demo_video import count_right
from bench.accuracy.world import score_f1
from bench.metrics.moment_recall import moment_recall
from bench.world.make_demo import demo_world
from bench.world.questions import ANCHOR_SCORE, ANSWER_SCORE, Question, choose_questions
from bench.world.scenes import World
from bench.world.training.gens_model import PROMPT
from hybrid.answers import Answer, Span
from hybrid.demo import answers_rightly, best_frames, demo_questions, demo_video
from hybrid.engine import Engine
from hybrid.fine.interface import Event, ReplyFinished, Request
from hybrid.fine.load import load_scorer
from hybrid.fine.prompt import PROMPT_FILE, read_prompt_file
from hybrid.fine.qwen.load import QwenScorer
from hybrid.fine.reply import parse_reply
from hybrid.presets import PRESETS
from hybrid.values import DEFAULT_WINDOW, FloatArray

EVERY_FRAME = 1000
BUDGET = 16
FEW = 6
TEMPORAL = ("after", "before")
CLOSE_SECONDS = 2.0
"""How far a span's edge may lie from the truth: a sampled second, and one that a fade may hide."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, the answer with all the frames that GenS named, and the one at a budget."""

    question: Question
    every: Answer
    budgeted: Answer


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine.open(tmp_path_factory.mktemp("world") / "archive", preset="tiny") as opened:
        opened.index(demo_video())
        yield opened


@pytest.fixture(scope="module")
def world() -> World:
    return demo_world()


@pytest.fixture(scope="module")
def asked(engine: Engine, world: World) -> list[Asked]:
    """Questions of every kind."""
    questions = choose_questions(world, per_kind=6)
    texts = [question.text for question in questions]
    every, budgeted = (engine.ask_many(demo_video(), texts, frames=frames) for frames in (EVERY_FRAME, BUDGET))
    return [Asked(*three) for three in zip(questions, every, budgeted, strict=True)]


def test_most_questions_to_the_bundled_video_are_answered_rightly(engine: Engine) -> None:
    counted = count_right(engine, per_kind=3, frames=12)
    assert counted["questions"] == sum(one["questions"] for one in counted["by_kind"].values()) == 18
    assert counted["right"] == sum(one["right"] for one in counted["by_kind"].values())
    assert len(counted["wrong"]) == counted["questions"] - counted["right"]
    # 76 of all 83 when this was written.
    assert counted["right"] >= 15, counted["wrong"]
    # The truth that the demo is shipped with is that of the world that it was filmed from.
    asked = {question.text: question.moments for question in choose_questions(demo_world(), per_kind=EVERY_FRAME)}
    for question in demo_questions():
        assert np.array(question.moments) == pytest.approx(np.array(asked[question.text]), abs=0.001)


def times(engine: Engine, video: Path) -> FloatArray:
    archive = engine.archive
    return archive.timeline(archive.require(archive.identify(video))).pts_seconds


@pytest.mark.parametrize("number", range(len(demo_questions())))
def test_the_demo_answers_rightly_and_to_the_second(engine: Engine, number: int) -> None:
    question = demo_questions()[number]
    answer = engine.ask(demo_video(), question.text, frames=EVERY_FRAME, strict=True)
    assert not answer.degraded
    best = best_frames(answer.frames)
    assert answers_rightly(best, question), (question.text, question.moments, best)
    # The coarse stage, which knows nothing of before and after, may drop frames of what comes then.
    slack = 2.6 if question.text.startswith("What") else 1.1
    for start, end in question.moments:
        inside = [frame.seconds for frame in best if start <= frame.seconds < end]
        assert inside[0] - start < slack
        assert end - inside[-1] < slack
    # A span holds its frames, and each frame is shown until the next one.
    for frame in best:
        assert any(span.start_seconds <= frame.seconds < span.end_seconds for span in answer.spans)


@pytest.mark.parametrize(
    ("kinds", "least", "threshold"),
    [
        # 0.97 and 0.82 when this was written; frames chosen blindly, as many as the truth has, would
        # give less than 0.1.
        (("object", "relation", "first", "last"), ANCHOR_SCORE, 0.9),
        (TEMPORAL, ANSWER_SCORE, 0.7),
    ],
)
def test_gens_tells_the_frames_that_answer_from_the_others(
    engine: Engine, asked: list[Asked], kinds: tuple[str, ...], least: int, threshold: float
) -> None:
    shown = times(engine, demo_video())
    values = []
    for one in asked:
        if one.question.kind not in kinds:
            continue
        given = np.zeros(len(shown), np.int64)
        for frame in one.every.frames:
            given[int(np.searchsorted(shown, frame.seconds))] = frame.gens_score or 0
        values.append(score_f1(given, one.question.scores_at(shown), least=least))
    assert len(values) >= 6
    assert np.mean(values) >= threshold, values


def test_the_spans_begin_and_end_where_the_scenes_do(asked: list[Asked]) -> None:
    """Those that score highest, or their best part where something else leads to it."""
    near = []
    for one in asked:
        parts = best_parts(one.budgeted.spans)
        moments = one.question.moments
        near.append(len(parts) == len(moments) and all(map(close, parts, moments)))
    # All but 3 of 30 when this was written; spans that are moved, or parts that are not the best, leave few.
    assert np.mean(near) >= 0.85, [one.question.text for one, right in zip(asked, near, strict=True) if not right]


def test_what_leads_to_an_answer_is_in_the_span_and_not_in_its_best_part(asked: list[Asked]) -> None:
    joined = 0
    for one in asked:
        if one.question.kind not in TEMPORAL:
            continue
        (anchor,) = one.question.anchors
        middle = (anchor.start_seconds + anchor.end_seconds) / 2
        holding = [span for span in one.budgeted.spans if span.start_seconds <= middle < span.end_seconds]
        assert len(holding) == 1, (one.question.text, one.budgeted.spans)
        if holding[0].score == ANSWER_SCORE:
            joined += 1
            assert holding[0].best is not None
            start, end = holding[0].best
            assert not start <= middle < end
    assert joined >= 3


def best_parts(spans: Sequence[Span]) -> list[tuple[float, float]]:
    highest = max((span.score for span in spans), default=0.0)
    return [span.best or (span.start_seconds, span.end_seconds) for span in spans if span.score == highest]


def close(part: tuple[float, float], moment: tuple[float, float]) -> bool:
    return all(abs(ours - true) <= CLOSE_SECONDS for ours, true in zip(part, moment, strict=True))


def test_a_budget_takes_the_best_frames_and_spreads_equal_ones_evenly(engine: Engine, asked: list[Asked]) -> None:
    cut = [check_budget(one.every, one.budgeted, BUDGET) for one in asked]
    assert sum(cut) >= 3
    # What leads to an answer and what answers are seldom more than 16 frames together.
    temporal = [one for one in asked if one.question.kind in TEMPORAL]
    few = engine.ask_many(demo_video(), [one.question.text for one in temporal], frames=FEW)
    cut = [check_budget(one.every, answer, FEW) for one, answer in zip(temporal, few, strict=True)]
    assert sum(cut) >= 3


def check_budget(every: Answer, budgeted: Answer, budget: int) -> bool:
    """Whether the budget left something out; what it took is checked."""
    scored = {frame.seconds: frame.gens_score or 0 for frame in every.frames}
    chosen = {frame.seconds: frame.gens_score or 0 for frame in budgeted.frames}
    assert list(chosen) == sorted(chosen)
    assert len(chosen) == min(budget, len(scored))
    assert chosen.items() <= scored.items()
    assert set(scored.values()) <= {ANCHOR_SCORE, ANSWER_SCORE}
    left_out = [score for seconds, score in scored.items() if seconds not in chosen]
    if not left_out:
        return False
    least = min(chosen.values())
    assert max(left_out) <= least
    # Each in the middle of one of as many equal parts of the frames with that score.
    equal = [seconds for seconds, score in scored.items() if score == least]
    ranks = [equal.index(seconds) for seconds, score in chosen.items() if score == least]
    middles = (np.arange(len(ranks)) + 0.5) * len(equal) / len(ranks) - 0.5
    assert np.abs(np.array(ranks) - middles).max() <= 1.0, (ranks, len(equal))
    return True


def test_a_budget_of_frames_meets_the_scenes_that_answer(asked: list[Asked]) -> None:
    recalls = [
        moment_recall([frame.seconds for frame in one.budgeted.frames], one.question.moments, within_seconds=0.0)
        for one in asked
    ]
    # 0.98 when this was written; 0.35 for as many frames spread evenly.
    assert np.mean(recalls) >= 0.9, recalls


def test_replies_count_the_frames_of_the_window_from_zero(engine: Engine, asked: list[Asked]) -> None:
    for one in asked[::5]:
        window = engine.ask(demo_video(), one.question.text, frames=DEFAULT_WINDOW, fine=False).frames
        parsed = parse_reply(one.every.reply or "", len(window), first_index=0)
        named = [(window[place].seconds, score) for place, score in sorted(parsed.scores.items())]
        assert named == [(frame.seconds, frame.gens_score) for frame in one.every.frames]


def test_the_shipped_prompt_is_the_one_that_was_trained_with() -> None:
    assert read_prompt_file(Path(PRESETS["tiny"].sampler) / PROMPT_FILE) == PROMPT


class Severe(QwenScorer):
    """The real scorer, but every score is one lower: what leads to an answer has 3, the answer 4."""

    def read(self, requests: Sequence[Request], *, partial: bool = False) -> Generator[Event, None, None]:
        for event in super().read(requests, partial=partial):
            assert isinstance(event, ReplyFinished)
            lower = {frame: score - 1 for frame, score in event.reply.scores.items()}
            yield replace(event, reply=replace(event.reply, scores=lower))


def test_a_span_needs_a_score_of_four_if_nothing_else_is_said(engine: Engine, asked: list[Asked]) -> None:
    scorer = load_scorer(PRESETS["tiny"].sampler, device="cpu")
    assert isinstance(scorer, QwenScorer)
    severe = Engine(
        engine.archive, engine.settings, fine_model=Severe(scorer._checkpoint, scorer.prompt, scorer.options)
    )
    temporal = [one for one in asked if one.question.kind in TEMPORAL][:3]
    texts = [one.question.text for one in temporal]
    for one, answer in zip(temporal, severe.ask_many(demo_video(), texts, frames=EVERY_FRAME), strict=True):
        assert {frame.gens_score for frame in answer.frames} == {ANCHOR_SCORE - 1, ANSWER_SCORE - 1}
        inside = {frame.gens_score for frame in answer.frames if within(frame.seconds, answer.spans)}
        assert inside == {ANSWER_SCORE - 1}, one.question.text
        assert all(span.best is None for span in answer.spans)


def within(seconds: float, spans: Sequence[Span]) -> bool:
    return any(span.start_seconds <= seconds < span.end_seconds for span in spans)


def test_clip_puts_the_frames_that_show_a_thing_first(engine: Engine, world: World) -> None:
    shown = times(engine, demo_video())
    shares = []
    for question in choose_questions(world, per_kind=10):
        if question.kind != "object":
            continue
        wanted = shown[question.scores_at(shown) > 0]
        answer = engine.ask(demo_video(), question.text, frames=2 * len(wanted), fine=False)
        found = {frame.seconds for frame in answer.frames}
        shares.append(np.mean([seconds in found for seconds in wanted.tolist()]))
    # 0.98 when this was written; a random order would give about 0.15.
    assert np.mean(shares) >= 0.9
