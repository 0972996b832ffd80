"""Accuracy of multiple-choice answers: the share of questions that are answered rightly.

A reply from which no option could be read is wrong, as in lmms-eval; it is not left out, or a model would gain by
saying nothing. How often that happened belongs beside the number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hybrid.errors import InputError
from hybrid.values import FloatArray

__all__ = ["Accuracy", "correct", "qa_accuracy"]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Of a data set.

    Attributes:
        value: share of questions that are answered rightly.
        questions: how many there were.
        unreadable: how many replies held no option.
    """

    value: float
    questions: int
    unreadable: int


def correct(answers: Sequence[int | None], right: Sequence[int]) -> FloatArray:
    """1 for each right answer, 0 for each wrong or unreadable one: float64 [Q], ready for the bootstrap.

    Args:
        answers: place of the option that was chosen; None if none could be read.
        right: place of the right option.

    Raises:
        InputError: not as many answers as questions.
    """
    if len(answers) != len(right):
        raise InputError(f"there are {len(answers)} answers to {len(right)} questions")
    return np.array([float(answer == expected) for answer, expected in zip(answers, right, strict=True)])


def qa_accuracy(answers: Sequence[int | None], right: Sequence[int]) -> Accuracy:
    """The accuracy of a method.

    Raises:
        InputError: no question, or not as many answers as questions.
    """
    if not right:
        raise InputError("there is no question, so there is no accuracy")
    return Accuracy(
        value=float(correct(answers, right).mean()),
        questions=len(right),
        unreadable=sum(answer is None for answer in answers),
    )
