"""What a VideoQA model is asked, and the pictures that it is shown."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.datasets.question import Question
from hybrid.errors import InputError
from hybrid.values import ByteArray

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "DEFAULT_TEMPLATE",
    "Picture",
    "as_image",
    "as_jpeg_url",
    "check_template",
    "letters_of",
    "times_of",
    "write_prompt",
]

DEFAULT_TEMPLATE: Final = "{question}\n{options}\nReply with the letter of the right option and nothing else."
"""For questions with options; where there are none, the question alone is asked."""

JPEG_QUALITY: Final = 90


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One selected frame: uint8 [H, W, 3] RGB, and when it is shown."""

    seconds: float
    rgb: ByteArray


def letters_of(question: Question) -> list[str]:
    """A, B, C ... of the options."""
    return [chr(ord("A") + index) for index in range(len(question.options))]


def check_template(template: str) -> str:
    """The template, if it can be filled.

    Raises:
        InputError: it lacks ``{question}`` or ``{options}``, or has other fields.
    """
    try:
        filled = template.format(question="\0question", options="\0options")
    except (KeyError, IndexError, ValueError) as exc:
        raise InputError(
            f"the prompt template cannot be filled ({exc}); its fields are {{question}}, {{options}}"
        ) from exc
    if "\0question" not in filled or "\0options" not in filled:
        raise InputError("the prompt template must have both {question} and {options}")
    return template


def write_prompt(question: Question, template: str = DEFAULT_TEMPLATE) -> str:
    """The text that goes with the pictures."""
    if not question.options:
        return question.question
    options = "\n".join(
        f"{letter}. {option}" for letter, option in zip(letters_of(question), question.options, strict=True)
    )
    return template.format(question=question.question, options=options)


def as_image(rgb: ByteArray, *, side: int) -> Image:
    """A picture whose longer side has at most ``side`` pixels; smaller ones are left as they are."""
    from PIL import Image

    picture = Image.fromarray(rgb)
    picture.thumbnail((side, side), Image.Resampling.BICUBIC)
    return picture


def as_jpeg_url(rgb: ByteArray, *, side: int) -> str:
    """The same as a ``data:`` URL with a JPEG in base64, as chat endpoints take pictures."""
    buffer = io.BytesIO()
    as_image(rgb, side=side).save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def times_of(pictures: Sequence[Picture]) -> list[str]:
    """A text for each picture that says when it is shown."""
    return [f"[{picture.seconds:.1f} s]" for picture in pictures]
