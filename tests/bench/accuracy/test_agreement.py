"""The benchmark that holds our replies against those of ``generate``, on the bundled model and video."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.accuracy.agreement import Generate, compare_replies, main, replies_of_ours
from hybrid.demo import demo_questions, demo_video
from hybrid.errors import InputError
from hybrid.fine.load import load_scorer
from hybrid.fine.qwen.load import QwenScorer
from hybrid.frames.registry import open_source
from hybrid.presets import PRESETS
from hybrid.values import Sampling

FRAMES = 40


def test_replies_of_the_bundled_model_are_those_of_generate() -> None:
    scorer = load_scorer(PRESETS["tiny"].sampler, device="cpu", dtype="float32")
    assert isinstance(scorer, QwenScorer)
    with open_source(demo_video(), Sampling()) as source:
        batch = next(source.read(ordinals=range(FRAMES)))
        frames = [scorer.prepare(rgb) for rgb in batch.rgb]
    questions = [question.text for question in demo_questions()]
    theirs = Generate(PRESETS["tiny"].sampler, "float32", scorer.prompt)
    expected, mine = theirs(frames, questions), replies_of_ours(scorer, frames, questions)
    assert len({*expected}) > 1
    assert mine == expected
    same = compare_replies(mine, expected, theirs, frames=len(frames))
    assert same == {"replies": len(mine), "same_tokens": len(mine), "same_scores": len(mine), "differing": []}


def test_a_reply_that_differs_is_counted_and_shown() -> None:
    scorer = load_scorer(PRESETS["tiny"].sampler, device="cpu", dtype="float32")
    theirs = Generate(PRESETS["tiny"].sampler, "float32", scorer.prompt)  # type: ignore[attr-defined]
    ids = {text: tuple(theirs._tokenizer(text)["input_ids"]) for text in ("{}", '{"1": 5}', '{"1": 4}', '{"1-1": 5}')}
    end = tuple(theirs._ends)[:1]
    found = compare_replies(
        [ids["{}"] + end, ids['{"1": 5}'], ids['{"1-1": 5}']],
        [ids["{}"], ids['{"1": 4}'], ids['{"1": 5}']],
        theirs,
        frames=3,
    )
    assert (found["replies"], found["same_tokens"], found["same_scores"]) == (3, 1, 2)
    assert [one for one, _ in found["differing"]] == ['{"1": 5}', '{"1-1": 5}']


@pytest.mark.parametrize("option", ["--videos", "--per-kind", "--frames"])
def test_nothing_to_compare_is_refused_before_anything_is_filmed(tmp_path: Path, option: str) -> None:
    with pytest.raises(InputError, match=f"{option} is 0; it must be at least 1"):
        main(["--folder", str(tmp_path / "films"), option, "0"])
    assert not (tmp_path / "films").exists()
