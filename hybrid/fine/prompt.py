"""The prompt of a fine-stage model as data: the texts around the frames, and the size of the frames.

A checkpoint only understands the prompt it was trained with, and not every checkpoint documents
its own. So the prompt is a value that may lie in a file, ``hybrid_prompt.json``, beside a
checkpoint. The default :data:`GENS_QWEN` is the prompt that GenS publishes (labels ``[0]``,
``[1]`` ..., then the question and one fixed instruction; github.com/yaolinli/GenS, inference.py)
in the chat form of Qwen2.5-VL, with frames of 112x112 pixels.

This module knows nothing of tokens (see :mod:`hybrid.fine.tokens`) or of models.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from hybrid.errors import InputError
from hybrid.storage.foreign_json import parse_json, read_text

__all__ = [
    "GENS_INSTRUCTION",
    "GENS_QWEN",
    "IMAGE_BLOCK",
    "PROMPT_FILE",
    "VIDEO_BLOCK",
    "PromptMode",
    "PromptSpec",
    "read_prompt",
    "read_prompt_file",
]

PROMPT_FILE = "hybrid_prompt.json"
PromptMode = Literal["image", "video"]

IMAGE_BLOCK = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")
VIDEO_BLOCK = ("<|vision_start|>", "<|video_pad|>", "<|vision_end|>")

# GenS was trained with the line breaks and the indentation of its source file inside the
# instruction: a space, a newline and fourteen spaces. They are part of the prompt.
_WRAP = " \n" + 14 * " "
GENS_INSTRUCTION = _WRAP.join(
    [
        "Please identify the video frames most relevant to the given question and provide",
        "their timestamps in seconds along with a relevance score. The score should be on a",
        "scale from 1 to 5, where higher scores indicate greater relevance. Return the output",
        'strictly in the following JSON format: {"timestamp": score, ...}.',
    ]
)

DEFAULT_FRAME_SIZE = (112, 112)
DEFAULT_MAX_NEW_TOKENS = 1024
_LARGEST_SIDE = 3584
"""A square of it is the largest image that Qwen2.5-VL takes: 16,384 tokens of 28x28 pixels."""

_LARGEST_PIXELS = _LARGEST_SIDE**2
_LONGEST_TEXT = 100_000
_LARGEST_NUMBER = 10**9


@dataclass(frozen=True, slots=True)
class PromptSpec:
    """How a window of frames and a question are put to a model.

    In ``image`` mode the prompt reads ``head``, then for every frame its label, the frame and
    ``frame_end``, then ``question`` and ``tail``. In ``video`` mode all frames form one video
    item without labels, followed by ``frame_end``.

    Attributes:
        head: text before the first label: the chat's system turn and the opening of the user's.
        frame_label: text before each frame; ``{index}`` stands for its number. Empty in video mode.
        first_index: number of the first frame, in labels and in replies.
        frame_end: text after each frame (after the video in video mode).
        question: text after the frames; ``{question}``, once, stands for the question. Other braces
            are plain text.
        tail: closes the user's turn and opens the model's.
        mode: ``image`` (a frame is an image) or ``video`` (all frames are one video item, whose
            frames are merged in pairs).
        frame_size: (width, height) that each frame is stretched to; None: see the pixel limits.
        min_pixels, max_pixels: with ``frame_size`` None, each frame keeps its aspect ratio and is
            scaled so that width * height lies within these limits (Qwen's rule). ``max_pixels`` is
            at least four times ``min_pixels``.
        video_fps: frames per second that a video item claims, in video mode.
        max_new_tokens: the longest reply, in tokens.

    Raises:
        InputError: a value is not legal.
    """

    head: str = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    frame_label: str = "[{index}]"
    first_index: int = 0
    frame_end: str = "\n"
    question: str = "Question: {question}\n" + GENS_INSTRUCTION
    tail: str = "<|im_end|>\n<|im_start|>assistant\n"
    mode: PromptMode = "image"
    frame_size: tuple[int, int] | None = DEFAULT_FRAME_SIZE
    min_pixels: int | None = None
    max_pixels: int | None = None
    video_fps: float = 1.0
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS

    def __post_init__(self) -> None:
        _check_texts(self)
        _check_size(self)
        if self.mode not in get_args(PromptMode):
            raise InputError(f"mode is {self.mode!r}; legal are 'image' and 'video'")
        if self.mode == "video" and self.frame_label:
            raise InputError(f"frame_label is {self.frame_label!r}; a video item has no labels, so it must be ''")
        if self.mode == "image" and self.frame_label.count("{index}") != 1:
            raise InputError(f"frame_label is {self.frame_label!r}; it must hold {{index}} once")
        if self.question.count("{question}") != 1:
            raise InputError(f"question is {self.question!r}; it must hold {{question}} once")
        _check_whole("first_index", self.first_index, least=0)
        _check_whole("max_new_tokens", self.max_new_tokens, least=1)
        if not (_is_number(self.video_fps) and 0 < self.video_fps <= 1000):
            raise InputError(f"video_fps is {self.video_fps!r}; it must be above 0 and at most 1000")

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that change with every field."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def pixel_limits(self) -> tuple[int, int]:
        """``min_pixels`` and ``max_pixels``; with a fixed ``frame_size`` both are its area."""
        if self.frame_size is not None:
            return self.frame_size[0] * self.frame_size[1], self.frame_size[0] * self.frame_size[1]
        return self.min_pixels or 1, self.max_pixels or _LARGEST_PIXELS

    def before_block(self, block: int) -> str:
        """The text between the last visual item and item ``block``; for item 0, the start of the prompt."""
        label = self.frame_label.replace("{index}", str(self.first_index + block))
        return (self.head if block == 0 else self.frame_end) + label

    def around_question(self) -> tuple[str, str]:
        """The text between the last visual item and the question, and the text after the question."""
        before, after = self.question.split("{question}")
        return self.frame_end + before, after + self.tail

    def render(self, question: str, *, tokens_per_block: tuple[int, ...]) -> str:
        """The whole prompt as one string, for reading and for tests; models get tokens instead.

        Args:
            question: put in word for word.
            tokens_per_block: how many placeholders each visual item takes.
        """
        start, pad, end = IMAGE_BLOCK if self.mode == "image" else VIDEO_BLOCK
        items = [f"{self.before_block(i)}{start}{pad * n}{end}" for i, n in enumerate(tokens_per_block)]
        before, after = self.around_question()
        return "".join(items) + before + question + after

    def to_dict(self) -> dict[str, Any]:
        """Plain strings, numbers and lists, ready for ``json.dumps``."""
        document = asdict(self)
        document["frame_size"] = None if self.frame_size is None else list(self.frame_size)
        return document

    def to_json(self) -> str:
        """The prompt as a JSON document, as it may lie in ``hybrid_prompt.json``."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> PromptSpec:
        """Build a prompt; a key that is left out keeps its value in :data:`GENS_QWEN`.

        Raises:
            InputError: a key is not known, or a value is not legal.
        """
        legal = [field.name for field in fields(cls)]
        unknown = sorted(set(document) - set(legal))
        if unknown:
            raise InputError(f"the prompt has the unknown key {unknown[0]!r}; legal are {', '.join(legal)}")
        values = dict(document)
        if isinstance(values.get("frame_size"), list):
            values["frame_size"] = tuple(values["frame_size"])
        return replace(GENS_QWEN, **values)

    @classmethod
    def from_json(cls, text: str, *, where: str = "the prompt") -> PromptSpec:
        """Rebuild a prompt from :meth:`to_json`.

        Args:
            text: the JSON.
            where: its file, for the error.

        Raises:
            InputError: not JSON, not an object, a key is not known, or a value is not legal.
        """
        document = parse_json(text, where=where)
        if not isinstance(document, dict):
            raise InputError(f"{where} is a JSON {type(document).__name__}; it must be an object")
        try:
            return cls.from_dict(document)
        except InputError as exc:
            raise InputError(f"{where}: {exc}") from exc


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_whole(name: str, value: object, *, least: int, most: int = _LARGEST_NUMBER) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InputError(f"{name} is {ascii(value)[:80]}; it must be a whole number, at least {least}, at most {most}")


def _check_texts(spec: PromptSpec) -> None:
    for name in ("head", "frame_label", "frame_end", "question", "tail"):
        text = getattr(spec, name)
        if not isinstance(text, str):
            raise InputError(f"{name} is {ascii(text)[:80]}; it must be text")
        if len(text) > _LONGEST_TEXT:
            raise InputError(f"{name} has {len(text)} characters; at most {_LONGEST_TEXT} are legal")
        for marker in dict.fromkeys(IMAGE_BLOCK + VIDEO_BLOCK):
            if marker in text:
                raise InputError(f"{name} holds {marker}; the position of the frames is fixed, not part of a text")


def _check_size(spec: PromptSpec) -> None:
    size = spec.frame_size
    if size is not None:
        if spec.min_pixels is not None or spec.max_pixels is not None:
            raise InputError("a prompt has either frame_size or min_pixels and max_pixels; set frame_size to null")
        if not isinstance(size, tuple) or len(size) != 2:
            raise InputError(f"frame_size is {ascii(size)[:80]}; it must be two whole numbers, width and height")
        for side in size:
            _check_whole("a side of frame_size", side, least=1, most=_LARGEST_SIDE)
        return
    if spec.min_pixels is None or spec.max_pixels is None:
        raise InputError("a prompt without frame_size needs min_pixels and max_pixels")
    _check_whole("min_pixels", spec.min_pixels, least=1)
    # Closer together, Qwen's rule lands outside of them, and resizing a resized frame changes it again.
    name = "max_pixels (four times min_pixels or more)"
    _check_whole(name, spec.max_pixels, least=4 * spec.min_pixels, most=_LARGEST_PIXELS)


GENS_QWEN = PromptSpec()
"""GenS's own labels and instruction in the chat form of Qwen2.5-VL, frames at 112x112."""


def read_prompt(folder: str | Path) -> PromptSpec | None:
    """The prompt that lies beside a checkpoint, or None if there is none.

    Raises:
        InputError: there is one, but it cannot be read or is not legal; the text names the file.
    """
    path = Path(folder) / PROMPT_FILE
    return read_prompt_file(path) if path.exists() else None


def read_prompt_file(path: Path) -> PromptSpec:
    """The prompt in a file.

    Raises:
        InputError: it cannot be read or is not legal; the text names the file.
    """
    try:
        return PromptSpec.from_json(read_text(path), where=str(path))
    except OSError as exc:
        raise InputError(f"{path} cannot be read: {exc}") from exc
