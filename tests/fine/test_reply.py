"""The parser of replies: the published one, the ways replies go wrong, and hostile text."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.fine.reply import parse_reply

PUBLISHED = '{"11-12": 5, "16-21": 4, "28-30": 4, "46-49": 4, "22-27": 3, "33": 2}'


def test_published_reply() -> None:
    scores, status, notes = parse_reply(PUBLISHED, 51)
    expected = {11: 5, 12: 5, 33: 2}
    expected |= dict.fromkeys([*range(16, 22), *range(28, 31), *range(46, 50)], 4)
    expected |= dict.fromkeys(range(22, 28), 3)
    assert scores == expected
    assert list(scores) == sorted(scores)
    assert (status, notes) == ("ok", ())


OK, SALVAGED, EMPTY = "ok", "salvaged", "empty"


@pytest.mark.parametrize(
    ("text", "scores", "status"),
    [
        ('{"3": 5}', {3: 5}, OK),
        ('  {"1-2":4,\n "0" : 1}\n', {0: 1, 1: 4, 2: 4}, OK),
        ('{"0-9": 2}', dict.fromkeys(range(10), 2), OK),
        # Cut at the token limit, at several places.
        ('{"1-2": 5, "4": 3, "6', {1: 5, 2: 5, 4: 3}, SALVAGED),
        ('{"1-2": 5, "4":', {1: 5, 2: 5}, SALVAGED),
        ('{"1-2": 5, "4-', {1: 5, 2: 5}, SALVAGED),
        # Wrapped.
        ('```json\n{"1": 5}\n```', {1: 5}, SALVAGED),
        ('Sure! Here it is: {"1-2": 5, "3": 4}. I hope it helps.', {1: 5, 2: 5, 3: 4}, SALVAGED),
        ('{"1": 5} {"2": 4}', {1: 5, 2: 4}, SALVAGED),
        # Other ways of writing.
        ('{"1.0-2.0": 5.0, "4.": 3}', {1: 5, 2: 5, 4: 3}, SALVAGED),
        ('{"3s": 5, "5s - 6s": 4, "7-8 seconds": 3}', {3: 5, 5: 4, 6: 4, 7: 3, 8: 3}, SALVAGED),
        ("{'1-2': 5, '3': 4}", {1: 5, 2: 5, 3: 4}, SALVAGED),
        ('{"1\u20132": 5, "4~5": 3, "7\u20147": 2, "8 to 9": 1}', {1: 5, 2: 5, 4: 3, 5: 3, 7: 2, 8: 1, 9: 1}, SALVAGED),
        ('{"[1]-[2]": 5, "[4]": 3}', {1: 5, 2: 5, 4: 3}, SALVAGED),
        ("{\u201c1-2\u201d: 5}", {1: 5, 2: 5}, SALVAGED),
        ('{"1": "5"}', {1: 5}, SALVAGED),
        ('{"007": 5}', {7: 5}, OK),
        # Wrong, but clear.
        ('{"5-3": 4}', {3: 4, 4: 4, 5: 4}, SALVAGED),
        ('{"1-4": 3, "3-6": 5}', {1: 3, 2: 3, 3: 5, 4: 5, 5: 5, 6: 5}, SALVAGED),
        ('{"3-6": 5, "1-4": 3}', {1: 3, 2: 3, 3: 5, 4: 5, 5: 5, 6: 5}, SALVAGED),
        ('{"1-4": 3, "2": 3}', dict.fromkeys(range(1, 5), 3), OK),
        ('{"3": 5, "3": 2}', {3: 5}, SALVAGED),
        ('{"3": 2, "3": 5, "4": 1}', {3: 5, 4: 1}, SALVAGED),
        ('{"8-20": 4, "10": 5, "30-40": 5}', {8: 4, 9: 4}, SALVAGED),
        ('{"0-99999999999999999999999999": 1}', dict.fromkeys(range(10), 1), SALVAGED),
        ('{"frames": {"1-2": 5}, "note": "two frames"}', {1: 5, 2: 5}, SALVAGED),
        ('[{"1": 5}, {"2": 4}]', {1: 5, 2: 4}, SALVAGED),
        # Scores that are none.
        ('{"1": 0, "2": 6, "3": 4.5, "4": true, "5": null, "6": -3, "7": 1e1, "8": 5}', {8: 5}, SALVAGED),
        # Too long to be read whole, in a text that is not JSON: not read at all.
        ('{"1": 1.00000000000000000000000000000000001, "2": 5', {2: 5}, SALVAGED),
        ('{"1": NaN, "2": Infinity, "3": 3}', {3: 3}, SALVAGED),
        # Keys that are none: nothing is guessed.
        ('{"00:05": 5, "scene 3": 4, "1,2": 5, "-4": 5, "3.5": 5, "1-2-3": 5, "9": 1}', {9: 1}, SALVAGED),
        ('{"timestamp": score, ...}', {}, EMPTY),
        # Times and lists in prose are no entries.
        ("At 12: 5 people enter; Question 1: 5. It's 3: 4, isn't it?", {}, EMPTY),
        ("{}", {}, EMPTY),
        ("", {}, EMPTY),
        ("no frame is relevant", {}, EMPTY),
        ("5", {}, EMPTY),
        ('"3"', {}, EMPTY),
        ('{"٣": 5}', {}, EMPTY),
        ('{"20": 5}', {}, EMPTY),
    ],
)
def test_replies_of_ten_frames(text: str, scores: dict[int, int], status: str) -> None:
    parsed = parse_reply(text, 10)
    assert parsed.scores == scores
    assert parsed.status == status
    assert (parsed.notes == ()) == (status == OK or text == "{}")


@pytest.mark.parametrize(
    ("key", "labels"),
    [
        *((f"{word} 3", [3]) for word in ("Frame", "frame", "Image", "Number", "No.", "index", "timestamp", "Picture")),
        *(
            (key, [3])
            for key in ("Frame #3", "frame_3", "frame: 3", "Frame number 3", "frame [3]", "second 3", "3 sec")
        ),
        *((f"frames 3{dash}5", [3, 4, 5]) for dash in ("-", "\u2013", " \u2014 ", " to ", " through ", "~")),
        ("Number 3 - Number 5", [3, 4, 5]),
        ("Frame 3 to Frame 5", [3, 4, 5]),
        ("from 3 to 5", [3, 4, 5]),
        ("from frame 3 to frame 5", [3, 4, 5]),
        ("[3-5]", [3, 4, 5]),
        ("3, 7", [3, 7]),
        ("frames 3 and 7", [3, 7]),
        ("1-2, 5; 7-8", [1, 2, 5, 7, 8]),
        ("Frame 3, Frame 7 and Frame 9", [3, 7, 9]),
        # Not understood, and so not read: decimal commas or lists, times of day, words that name something else.
        *((key, None) for key in ("1,2", "00:05", "scene 3", "frame", "frame three", "3-5-7", "3, x", "frame 3 of 9")),
    ],
)
@pytest.mark.parametrize(
    "form", ['{"%s": 4}', '{"%s": "4"}', '```json\n{"%s": 4,}\n```', '{"%s": {"score": 4}}', '{"%s": 4, "8']
)
def test_a_key_is_words_and_labels(key: str, labels: list[int] | None, form: str) -> None:
    parsed = parse_reply(form % key, 10)
    assert parsed.scores == dict.fromkeys(labels or [], 4)
    if labels is None:
        assert any(note.startswith("dropped: ") for note in parsed.notes)
    assert parsed.status == ("empty" if labels is None else "salvaged")


FIELDS = {3: 5, 4: 5}


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ('[{"timestamp": "3-4", "score": 5}]', FIELDS),
        ('{"timestamp": "3-4", "score": 5}', FIELDS),
        ('[{"score": 5, "timestamp": "3-4"}, {"score": 2, "timestamp": "7"}]', FIELDS | {7: 2}),
        ('[{"frame": 3, "relevance": 4}, {"frame": 4, "relevance": 1}]', {3: 4, 4: 1}),
        ('[{"frame_number": 3, "relevance_score": 4}]', {3: 4}),
        ('[{"Frame": "Frame 3 - Frame 4", "Relevance Score": "5/5"}]', FIELDS),
        ('[{"start": 3, "end": 4, "score": 5, "reason": "the door opens"}]', FIELDS),
        ('[{"start_frame": 3, "end_frame": 4, "frame_score": 5}]', FIELDS),
        ('{"frames": [{"frame": 3, "score": 5}, {"frame": 4, "score": 5}]}', FIELDS),
        ('{"frames": [3, 4], "score": 5}', FIELDS),
        ('{"frames": [3, 4, 7], "scores": [5, 5, 2]}', FIELDS | {7: 2}),
        ('{"relevance": {"3-4": 5}}', FIELDS),
        ('{"result": {"scores": {"3": 5, "4": {"relevance": 5}}}}', FIELDS),
        ('{"3-4": {"score": 5, "reason": "it rains"}}', FIELDS),
        ('{"Frame 3": {"relevance": "5 out of 5"}, "Frame 4": {"relevance": "5/5"}}', FIELDS),
        # Cut, or with commas too many: what is whole is read.
        ('[{"timestamp": "3-4", "score": 5}, {"timestamp": "7", "sc', FIELDS),
        ('[{"timestamp": "3-4", "score": 5}, {"timestamp": "7"', FIELDS),
        ('[{"timestamp": "3-4", "score": 5}, {"score": 2}, {"timestamp": "9"}, ', FIELDS),
        ('Here:\n```json\n[{"timestamp": "3-4", "score": 5,},]\n```\nDone.', FIELDS),
        ("[{'timestamp': '3-4', 'score': 5}]", FIELDS),
        ('{"timestamp": "3-4", "score": 5}\n{"timestamp": "7", "score": 2}', FIELDS | {7: 2}),
        # A score belongs to the frame of its own object, and to no other.
        ('[{"timestamp": "3-4"}, {"score": 5}]', {}),
        ('{"frames": [3, 4, 7], "scores": [5, 2]}', {}),
        ('{"score": 5}', {}),
        ('{"frames": [3, 4]}', {}),
        ("[[3, 5], [4, 2]]", {}),
        ('{"5": [3, 4]}', {}),
    ],
)
def test_frames_and_scores_may_stand_in_fields_of_their_own(text: str, scores: dict[int, int]) -> None:
    parsed = parse_reply(text, 10)
    assert parsed.scores == scores
    assert parsed.status == ("salvaged" if scores else "empty")
    assert parsed.notes


@pytest.mark.parametrize("score", ["5/10", "10/5", "five", "0/5", "6 out of 5", "5/", "4.5/5", "-4", ""])
def test_other_scores_are_dropped_with_a_note(score: str) -> None:
    parsed = parse_reply(f'{{"1": "{score}", "2": 3}}', 10)
    assert parsed.scores == {2: 3}
    assert any("the score is not a whole number from 1 to 5" in note for note in parsed.notes)


def test_labels_may_start_elsewhere() -> None:
    parsed = parse_reply('{"0": 5, "1-2": 4, "3": 3, "4": 2}', 3, first_index=1)
    assert parsed.scores == {0: 4, 1: 4, 2: 3}
    assert parsed.status == "salvaged"
    assert parse_reply('{"0-2": 5}', 3, first_index=1).scores == {0: 5, 1: 5}


def test_notes_say_what_and_how_often() -> None:
    parsed = parse_reply('{"1": 9, "2": 8, "7-5": 3}', 10)
    assert parsed.notes == (
        'dropped: the score is not a whole number from 1 to 5 (2, first "1": "9")',
        'reversed range, swapped (1, first "7-5")',
    )


def test_no_frames() -> None:
    assert parse_reply('{"0": 5}', 0).scores == {}


@given(st.text(), st.integers(0, 300), st.integers(0, 2))
def test_any_text_is_legal(text: str, count: int, first: int) -> None:
    check_sound(text, count, first)


fragments = st.sampled_from(
    [
        *(
            '{"',
            '"',
            "'",
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "-",
            "\u2013",
            ".",
            "to",
            "s",
            " ",
            "\n",
            "\\",
            "```",
            "\u201c",
        ),
        *("0", "1", "5", "7", "12", "99999999999999999999", "e9", "null", "true", '": ', '": 5, "'),
        *("\ud800", "\x00", "\u0663"),
    ]
)


@settings(max_examples=300)
@given(st.lists(fragments, max_size=40).map("".join), st.integers(0, 30))
def test_any_broken_reply_is_legal(text: str, count: int) -> None:
    check_sound(text, count, 0)


def check_sound(text: str, count: int, first: int) -> None:
    scores, status, notes = parse_reply(text, count, first_index=first)
    assert all(0 <= position < count and 1 <= score <= 5 for position, score in scores.items())
    assert (status == "empty") == (not scores)
    assert not (status == "ok" and notes)
    assert not (status == "salvaged" and not notes)


@st.composite
def replies(draw: st.DrawFn) -> tuple[dict[int, int], str, int]:
    """Random scores, written the way GenS writes them: runs of one score, best scores first."""
    count = draw(st.integers(1, 120))
    given = draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))
    runs: list[tuple[int, int, int]] = []
    for position, score in enumerate(given):
        if runs and runs[-1][1] == position - 1 and runs[-1][2] == score:
            runs[-1] = (runs[-1][0], position, score)
        else:
            runs.append((position, position, score))
    runs = sorted((run for run in runs if run[2]), key=lambda run: (-run[2], run[0]))
    entries = {(f"{a}-{b}" if b > a else f"{a}"): score for a, b, score in runs}
    return {position: score for position, score in enumerate(given) if score}, json.dumps(entries), count


@given(replies())
def test_what_gens_writes_is_read_back(case: tuple[dict[int, int], str, int]) -> None:
    scores, text, count = case
    parsed = parse_reply(text, count)
    assert parsed.scores == scores
    assert parsed.status == ("ok" if scores else "empty")


@given(replies(), st.integers(0, 10**6))
def test_a_cut_reply_gives_a_part_of_the_scores(case: tuple[dict[int, int], str, int], place: int) -> None:
    scores, text, count = case
    cut = text[: place % (len(text) + 1)]
    parsed = parse_reply(cut, count)
    assert parsed.scores.items() <= scores.items()
    # All entries before the cut that are complete are there.
    complete = cut.count(", ") if scores else 0
    assert len(parsed.scores) >= complete


HOSTILE = {
    "deep": "[" * 200_000,
    "deep objects": '{"1":' * 60_000,
    "digits": '{"1": ' + "9" * 300_000 + "}",
    "digits in a key": '{"' + "9" * 300_000 + '": 5}',
    "digits, cut": '"' + "1" * 300_000,
    "quotes": "\"'" * 150_000,
    "spaces": '{"1"' + " " * 300_000 + ": 5",
    "quoted spaces": '" ' * 150_000,
    "wide ranges": "{" + ", ".join(f'"0-99{i}": {i % 5 + 1}' for i in range(20_000)) + "}",
    "wide ranges, cut": "{" + ", ".join(f'"0-99{i}": {i % 5 + 1}' for i in range(20_000)),
    "same key": "{" + ", ".join('"3": 4' for _ in range(30_000)) + "}",
    "brackets": '"[ ' * 100_000,
    "key of dashes": '{"' + "1-" * 150_000 + '": 5}',
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_takes_linear_time(text: str) -> None:
    started = time.process_time()
    check_sound(text, 1000, 0)
    # 300 kB take under half a second; quadratic work on them would take minutes. Of this process, not of the clock.
    assert time.process_time() - started < 60


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ('{"range": [3, 5], "score": 4}', {3: 4, 4: 4, 5: 4}),
        ('[{"interval": [3, 8], "score": 5}]', dict.fromkeys(range(3, 9), 5)),
        ('{"frames": [3, 5], "score": 4}', {3: 4, 5: 4}),
        ('{"frame": 3, "time": 12, "score": 5}', {}),
        ('{"index": 0, "frame": 7, "score": 5}', {}),
        ('{"Frame 3": {"score": 5, "start": 1, "end": 2}}', {}),
        ('{"start": 3, "score": 5}', {}),
    ],
)
def test_frames_that_are_named_in_several_ways_are_dropped_with_a_note(text: str, scores: dict[int, int]) -> None:
    found = parse_reply(text, 20)
    assert found.scores == scores
    assert found.notes
