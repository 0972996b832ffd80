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
  word. Such files are refused here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, Literal

from hybrid.errors import InputError
from hybrid.exports.json_file import write_text
from hybrid.values import Answer, AnswerFrame

__all__ = ["Consumer", "rag_line", "save_rag_file"]

Consumer = Literal["llava", "qwen2_vl"]

MILLISECONDS = 1000


def save_rag_file(
    answers: Mapping[str, Answer], place: Path, *, frames: int, consumer: Consumer = "llava"
) -> tuple[str, ...]:
    """Write the file.

    Args:
        answers: by the benchmark's id of the question, in the order of the lines. The question must be a part of what
            the benchmark asks the model, the name of the video that of its own file.
        place: where; its name should end in ``.json``.
        frames: how many the model is shown at most.
        consumer: whose traps are looked for.

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
                "readers put uniform frames in the place of none and drop some of too many"
            )
    _check_one_line_each(answers, consumer)
    lines = [json.dumps(rag_line(name, answer)) for name, answer in answers.items()]
    write_text(place, "\n".join(lines) + "\n")
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


def _check_one_line_each(answers: Mapping[str, Answer], consumer: Consumer) -> None:
    seen: dict[str, list[tuple[str, str]]] = {}
    for name, answer in answers.items():
        seen.setdefault(_stem(answer), []).append((name, answer.question))
    if consumer == "qwen2_vl":
        crowded = next((video for video, lines in seen.items() if len(lines) > 1), None)
        if crowded is not None:
            raise InputError(
                f"{len(seen[crowded])} questions are about the video {crowded}, and the Qwen2-VL loader keeps the last "
                "line of a video for all of them; write a file for each, or give each question a video name of its own"
            )
        return
    for video, asked in seen.items():
        # The loader takes the lines whose video_id contains the video's name and whose question is part of the prompt.
        others = [line for other, lines in seen.items() if video in other for line in lines]
        for name, question in asked:
            twin = next((other for other, text in others if other != name and text in question), None)
            if twin is not None:
                raise InputError(
                    f"the lines {name} and {twin} both belong to the question {question!r} of the video {video}, so "
                    "the LLaVA loader would use neither; videos and questions must not be parts of each other"
                )
