"""Answers as a RAG file of GenS, for those who evaluate with its authors' lmms-eval (OuyangKun10/Aria-RAG-Eval).

JSON Lines in a ``.json`` file, one answer a line, with all seven keys that the three consumers read:

* ``rag_images``: "00011023.jpg" ...; the stem must be a whole number n (a name like "sec011.png" ends their run);
* ``rag_sim``: scores, parallel to it;
* ``fps``: time = n / fps. It is 1000 here and n is the first whole millisecond after the frame appears, because the
  consumer takes frame int(rate * n / fps): a time that is rounded down is the frame before;
* ``video_path`` (its last part is the key of the Qwen2-VL loader), ``id`` (of the LLaVA and VILA loaders),
  ``video_id`` and ``question`` (looked up by "is part of" among all lines).

What their loaders make of it:

* Equal scores are ordered at random and the list is cut to the model's budget: ask for no more frames than the model
  is shown, and nothing is cut.
* LLaVA fills a list that is shorter than its budget with randomly drawn frames of a uniform grid.
* Qwen2-VL keeps only the last line of each video, and cuts to the earliest frames: one question a video.
* A question to which not exactly one line belongs, and an answer without frames, is shown uniform frames without a
  word. Where a question is part of what another one asks of the same video, its line holds its options too, if they
  are known; files in which that does not help are refused here.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, Literal

from hybrid.answers import Answer, AnswerFrame
from hybrid.errors import InputError
from hybrid.export.text_file import write_text

__all__ = ["Consumer", "rag_line", "save_rag_file"]

Consumer = Literal["llava", "qwen2_vl"]

MILLISECONDS = 1000


def save_rag_file(
    answers: Mapping[str, Answer],
    path: Path,
    *,
    frames: int,
    consumer: Consumer = "llava",
    prompts: Mapping[str, str] | None = None,
) -> tuple[str, ...]:
    """Write the file.

    Args:
        answers: by the benchmark's id of the question, in the order of the lines. The question must be a part of what
            the benchmark asks the model, the name of the video that of its own file.
        path: the file; its name should end in ``.json``.
        frames: how many the model is shown at most.
        consumer: whose traps are looked for.
        prompts: what the benchmark asks the model, by id: question, newline, options. Without it a question whose text
            is part of another's is refused.

    Returns:
        The ids with fewer frames than that, which LLaVA's loader fills up at random.

    Raises:
        InputError: no answer; an answer without frames, or with more than ``frames``; or lines that the consumer would
            confuse.
        SaveError: the file cannot be written.
    """
    if not answers:
        raise InputError("there is no answer to write")
    for name, answer in answers.items():
        if not 1 <= len(answer.frames) <= frames:
            raise InputError(
                f"the answer to {name} has {len(answer.frames)} frames; it must have 1 to {frames}, because its "
                "readers put uniform frames instead of none and drop some of too many"
            )
    if consumer == "qwen2_vl":
        _check_one_question_each(answers)
        lines = [rag_line(name, answer) for name, answer in answers.items()]
    else:
        lines = _distinct_lines(answers, prompts or {})
    write_text(path, "\n".join(map(json.dumps, lines)) + "\n")
    return tuple(name for name, answer in answers.items() if len(answer.frames) < frames)


def rag_line(name: str, answer: Answer) -> dict[str, Any]:
    """One line, with all seven keys."""
    return {
        "id": name,
        "video_id": _stem(answer),
        "video_path": answer.video,
        "question": answer.question,
        "fps": float(MILLISECONDS),
        "rag_images": [f"{_milliseconds(frame):08d}.jpg" for frame in answer.frames],
        "rag_sim": [_score(frame) for frame in answer.frames],
    }


def _milliseconds(frame: AnswerFrame) -> int:
    """The first whole millisecond after the frame appears.

    Not the one at which it appears: 25 times 2.28 is a little less than 57 in floating point, and so frame 56. Times
    come as quotients; what is off by less than a microsecond is meant to be whole.
    """
    return max(0, math.floor(round(frame.seconds * MILLISECONDS, 3)) + 1)


def _score(frame: AnswerFrame) -> float:
    """GenS's score, or CLIP's cosine where GenS gave none; a selected frame without either counts like the others."""
    if frame.gens_score is not None:
        return float(frame.gens_score)
    return frame.clip_similarity if frame.clip_similarity is not None else 1.0


def _stem(answer: Answer) -> str:
    return PurePath(answer.video).stem


def _check_one_question_each(answers: Mapping[str, Answer]) -> None:
    """Refuse what the Qwen2-VL loader would lose."""
    asked = Counter(_stem(answer) for answer in answers.values())
    video, count = asked.most_common(1)[0]
    if count > 1:
        raise InputError(
            f"{count} questions are about the video {video}, and the Qwen2-VL loader keeps the last line of a video "
            "for all of them; write a file for each, or give each question a video name of its own"
        )


def _distinct_lines(answers: Mapping[str, Answer], prompts: Mapping[str, str]) -> list[dict[str, Any]]:
    """The lines, so that the LLaVA loader finds just one for each question.

    Raises:
        InputError: it would find another number, or a prompt does not hold its question.
    """
    lines = {name: rag_line(name, answer) for name, answer in answers.items()}
    asked = {name: prompts.get(name, line["question"]) for name, line in lines.items()}
    foreign = next((name for name, line in lines.items() if line["question"] not in asked[name]), None)
    if foreign is not None:
        raise InputError(
            f"the question {foreign} is {lines[foreign]['question']!r}, and what the benchmark asks does not hold it: "
            f"{asked[foreign]!r}; take the annotations that the run was over"
        )
    for name, twins in _found(lines, asked).items():
        for twin in twins:
            if twin != name:
                lines[twin]["question"] = asked[twin]
    for name, (first, *more) in _found(lines, asked).items():
        if more:
            other = more[0] if first == name else first
            advice = (
                "they are asked in the same words" if prompts else "with what the benchmark asks the model they may be "
                "told apart: save_rag_file(prompts=...), or --data of bench.accuracy.export"
            )  # fmt: skip
            raise InputError(
                f"the lines {name} and {other} both belong to the question {asked[name]!r} of the video "
                f"{lines[name]['video_id']}, so the LLaVA loader would use neither; {advice}"
            )
    return list(lines.values())


def _found(lines: Mapping[str, dict[str, Any]], asked: Mapping[str, str]) -> dict[str, list[str]]:
    """The lines that the LLaVA loader finds for each question: those whose video_id contains the video's name and
    whose question is part of what is asked."""
    by_video: dict[str, list[str]] = {}
    for name, line in lines.items():
        by_video.setdefault(line["video_id"], []).append(name)
    found: dict[str, list[str]] = {}
    for video, names in by_video.items():
        near = [other for known, others in by_video.items() if video in known for other in others]
        for name in names:
            found[name] = [other for other in near if lines[other]["question"] in asked[name]]
    return found
