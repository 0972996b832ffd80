"""The interface of a VideoQA model: pictures and a text in, a reply out; and how one is named on the command line.

* ``openai:URL#MODEL``: any server that speaks OpenAI's chat completions (vLLM, SGLang, Ollama, OpenAI itself ...). The
  key is read from the environment variable ``OPENAI_API_KEY``; a server that wants none gets a made-up one.
* ``transformers:FOLDER`` or ``transformers:OWNER/NAME``: a model in this process (Qwen2-VL, Qwen2.5-VL, LLaVA ...).

An answerer knows nothing of videos, methods or options.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from bench.accuracy.prompts import Picture
from hybrid.errors import HybridError, InputError

__all__ = [
    "AnswerFailedError",
    "AnswerRefusedError",
    "Answerer",
    "AnswererOptions",
    "AnswererSilentError",
    "AnswererUnusableError",
    "Reply",
    "open_answerer",
    "read_answerer",
]

DEFAULT_SIDE: Final = 768
DEFAULT_NEW_TOKENS: Final = 64


class AnswerFailedError(HybridError):
    """A model gave no reply to one question."""


class AnswerRefusedError(AnswerFailedError):
    """A server refused the request itself (400): too long, or a form that it does not know."""


class AnswererSilentError(AnswerFailedError):
    """A server is not there, gives no reply in time, is overloaded or broken: others will likely fare no better now."""


class AnswererUnusableError(HybridError):
    """A model would give no reply to any question: a wrong key, a model that the server does not have."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said.

    Attributes:
        text: word for word.
        model: which model said it, as the server names it.
        prompt_tokens, new_tokens: sizes, where they are known.
        finish: why the reply ended (``stop``, ``length`` ...), where it is known.
        left_out: parameters of the request that the server does not take (``temperature``).
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
                AnswererSilentError if it said nothing.
            AnswererUnusableError: there will be none to others either.
        """
        ...


def read_answerer(spec: str) -> tuple[str, str, str]:
    """The parts of a name: kind, URL or folder, and the model's name (empty for a folder); see the module.

    Raises:
        InputError: the name has another form.
    """
    kind, _, rest = spec.partition(":")
    if kind == "openai" and rest:
        url, _, model = rest.partition("#")
        if not model:
            raise InputError(f"the answerer is {spec!r}; it lacks the model's name: openai:URL#MODEL")
        return kind, url, model
    if kind == "transformers" and rest:
        return kind, rest, ""
    raise InputError(f"the answerer is {spec!r}; legal are openai:URL#MODEL and transformers:FOLDER")


def open_answerer(spec: str, options: AnswererOptions | None = None) -> Answerer:
    """The model of that name; see the module.

    Raises:
        InputError: the name has another form.
        ModelError: a checkpoint cannot be loaded.
        MissingDependencyError: the client library is not installed.
    """
    options = options or AnswererOptions()
    kind, place, model = read_answerer(spec)
    if kind == "openai":
        from bench.accuracy.openai_answerer import OpenAIAnswerer

        return OpenAIAnswerer(place, model, options)
    from bench.accuracy.transformers_answerer import load_transformers_answerer

    return load_transformers_answerer(place, options)
