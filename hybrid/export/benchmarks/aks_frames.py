"""Answers as the frame lists that the authors of AKS evaluate (ncTimTang/AKS).

Two files, as their scripts leave them:

* ``selected_frames.json``: a list of lists of native frame numbers, in the order of the benchmark's annotations;
* ``include_frame_idx.json``: those annotations, each with its list as ``frame_idx``.

What their loader makes of it: it takes the first ``max_frames_num`` of a list (the earliest, as lists are in time
order), and puts evenly spaced frames of the whole video instead of every list that is shorter. Their own
files hold such lists for short videos. ``repeat=True`` fills short lists by repeating their frames, so that the
model sees what was selected.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hybrid.answers import Answer
from hybrid.errors import InputError
from hybrid.export.text_file import write_text

__all__ = ["ANNOTATIONS_FILE", "FRAMES_FILE", "aks_frame_list", "save_aks_frames"]

FRAMES_FILE = "selected_frames.json"
ANNOTATIONS_FILE = "include_frame_idx.json"


def save_aks_frames(
    answers: Sequence[Answer],
    annotations: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    frames: int,
    repeat: bool = False,
) -> tuple[int, ...]:
    """Write both files.

    Args:
        answers: one for each annotation, in their order.
        annotations: of the benchmark, as its file holds them.
        folder: made if it is not there.
        frames: ``max_frames_num`` of the evaluation.
        repeat: fill short lists by repeating their frames.

    Returns:
        The indexes of the lists that are shorter than ``frames``, which the loader replaces by uniform frames.

    Raises:
        InputError: not one answer for each annotation, an answer to another question, more frames than the loader
            takes, or frames whose native number is not known.
        SaveError: a file cannot be written.
    """
    if len(answers) != len(annotations):
        raise InputError(f"there are {len(answers)} answers to {len(annotations)} annotations; each needs its own")
    lists = []
    for index, (answer, annotation) in enumerate(zip(answers, annotations, strict=True)):
        asked = annotation.get("question")
        if asked is not None and answer.question not in str(asked):
            raise InputError(f"answer {index} is to {answer.question!r}, but annotation {index} asks {asked!r}")
        lists.append(aks_frame_list(answer, frames=frames, repeat=repeat))
    joined = [{**annotation, "frame_idx": numbers} for annotation, numbers in zip(annotations, lists, strict=True)]
    write_text(folder / FRAMES_FILE, json.dumps(lists))
    write_text(folder / ANNOTATIONS_FILE, json.dumps(joined))
    return tuple(index for index, numbers in enumerate(lists) if len(numbers) < frames)


def aks_frame_list(answer: Answer, *, frames: int, repeat: bool = False) -> list[int]:
    """The native frame numbers of one answer, in time order.

    Args:
        answer: its frames must have native numbers.
        frames: how many the loader takes at most.
        repeat: fill a short list by repeating its frames in turn.

    Raises:
        InputError: more frames than that, or a frame whose number is not known.
    """
    numbers = [frame.frame_number for frame in answer.frames]
    if len(numbers) > frames:
        raise InputError(f"an answer has {len(numbers)} frames, of which the loader would take the first {frames} only")
    if any(number < 0 for number in numbers):
        raise InputError(
            f"a frame of {answer.video} has no known number in the video; index it with the sampling 'exact', which "
            "counts frames"
        )
    if repeat and numbers:
        numbers = [numbers[i % len(numbers)] for i in range(frames)]
    return sorted(numbers)
