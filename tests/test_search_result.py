"""The result of a search survives its JSON."""

from __future__ import annotations

import json

import pytest

from hybrid.answers import Answer, AnswerFrame, FoundVideo, SearchResult, SkippedVideo, Span, Stage
from hybrid.cli.display.answers import show_search as show
from hybrid.errors import InputError


def some_result(*, fallback: str | None = None, fallback_in_answer: str | None = None) -> SearchResult:
    frame = AnswerFrame(seconds=1.5, ordinal=1, frame_number=45, clip_similarity=0.25, gens_score=None)
    answer = Answer(
        question="a?",
        video="/größe\udce9.mp4",
        video_id="ab",
        duration_seconds=9.0,
        spans=(Span(1.0, 2.0, 5.0),),
        frames=(frame,),
        stages=(Stage(name="gens", ran=True, seconds=0.1, fallback_reason=fallback_in_answer),),
        reply="[5]",
    )
    return SearchResult(
        question="a?",
        archive="/archive",
        videos=(
            FoundVideo("/größe\udce9.mp4", "ab", 9.0, 0.25, (frame,), answer),
            FoundVideo("/other.mp4", "cd", 3.0, 0.125, (frame,), gone="/other.mp4 does not exist any more"),
        ),
        skipped=(SkippedVideo("/third.mp4", "ef", "it was indexed with another encoder"),),
        searched_videos=2,
        searched_frames=12,
        stages=(Stage(name="coarse", ran=True, seconds=0.01, fallback_reason=fallback, notes=("cut",)),),
    )


def test_it_survives_json() -> None:
    result = some_result()
    text = result.to_json()
    assert text.isascii()
    assert SearchResult.from_json(text) == result
    assert SearchResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_results_from_before_it_was_said_what_is_gone_are_read() -> None:
    document = some_result().to_dict()
    for found in document["videos"]:
        del found["gone"]
    assert [found.gone for found in SearchResult.from_dict(document).videos] == [None, None]


def test_people_are_told_what_is_gone(capsys: pytest.CaptureFixture[str]) -> None:
    show(some_result())
    told = capsys.readouterr().out
    assert told.count("found in the index only") == 1
    assert "found in the index only: /other.mp4 does not exist any more" in " ".join(told.split())


def test_a_fallback_anywhere_shows() -> None:
    assert not some_result().degraded
    assert some_result(fallback="1 of 3 videos was not searched").degraded
    assert some_result(fallback_in_answer="no weights").degraded


@pytest.mark.parametrize("text", ["{", "{}", '{"question": "a?"}', "[]"])
def test_what_is_no_result_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        SearchResult.from_json(text)
    with pytest.raises(InputError, match="not the result of a search"):
        SearchResult.from_dict({**some_result().to_dict(), "more": 1})
