"""The interface of a VideoQA model: pictures and a text in, a reply out; no videos, methods or options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from bench.accuracy.answerers.prompts import Picture
from hybrid.errors import HybridError, InputError

__all__ = [
    "AnswerFailedError",
    "AnswerRefusedError",
    "Answerer",
    "AnswererKind",
    "AnswererOptions",
    "AnswererSilentError",
    "AnswererUnusableError",
    "Reply",
]

DEFAULT_SIDE: Final = 768
DEFAULT_NEW_TOKENS: Final = 64


class AnswerFailedError(HybridError):
    """A model gave no reply to one question."""


class AnswerRefusedError(AnswerFailedError):
    """A server refused the request itself (400): too long, or of an unknown form."""


class AnswererSilentError(AnswerFailedError):
    """A server is not there, too slow, overloaded or broken: other requests will likely fail too."""


class AnswererUnusableError(HybridError):
    """A model cannot reply to any question: a wrong key, or a model that the server does not have."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply of a model.

    Attributes:
        text: word for word.
        model: the server's name of the model.
        prompt_tokens, new_tokens: sizes, where they are known.
        finish: why the reply ended (``stop``, ``length`` ...), where it is known.
        left_out: parameters of the request that the server does not accept (``temperature``).
    """

    text: str
    model: str
    prompt_tokens: int | None = None
    new_tokens: int | None = None
    finish: str | None = None
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AnswererOptions:
    """How a model is asked.

    Attributes:
        side: most pixels of the longer side of a picture.
        times: whether each picture is preceded by the time at which it is shown.
        max_new_tokens: longest reply.
        seed: sent to servers that take one. Decoding is greedy.
        timeout_seconds: how long a server may take for one reply.
        retries: how often a request is sent again after a passing fault.
        device, dtype: of a model in this process.
    """

    side: int = DEFAULT_SIDE
    times: bool = False
    max_new_tokens: int = DEFAULT_NEW_TOKENS
    seed: int = 0
    timeout_seconds: float = 300.0
    retries: int = 4
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        if self.side < 1 or self.max_new_tokens < 1:
            raise InputError(f"side is {self.side} and max_new_tokens {self.max_new_tokens}; both must be at least 1")
        if self.timeout_seconds <= 0 or self.retries < 0:
            raise InputError(
                f"timeout is {self.timeout_seconds} s and retries {self.retries}; the one must be above 0, the other "
                "0 or more"
            )


class Answerer(Protocol):
    """A VideoQA model."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Everything that decides a reply, ready for ``json.dumps``; no key or password in it."""
        ...

    def answer(self, pictures: Sequence[Picture], prompt: str) -> Reply:
        """Reply to a text about pictures.

        Args:
            pictures: in time order, at least one.
            prompt: what is asked.

        Raises:
            AnswerFailedError: there is no reply to this one; AnswerRefusedError if the server refused it,
                AnswererSilentError if it did not reply.
            AnswererUnusableError: no request will get a reply.
        """
        ...


@dataclass(frozen=True, slots=True)
class AnswererKind:
    """A kind of VideoQA model.

    Attributes:
        name: before the colon of ``--answer``.
        form: how one is written, for messages.
        is_legal: whether what follows the colon has this form.
        load: makes one of what follows the colon; imports model libraries itself.
    """

    name: str
    form: str
    is_legal: Callable[[str], bool]
    load: Callable[[str, AnswererOptions], Answerer]
