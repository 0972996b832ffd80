"""A VideoQA model behind an OpenAI-compatible endpoint; pictures go as JPEG in ``data:`` URLs."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from bench.accuracy.answerers.interface import (
    AnswererKind,
    AnswererOptions,
    AnswererSilentError,
    AnswererUnusableError,
    AnswerFailedError,
    AnswerRefusedError,
    Reply,
)
from bench.accuracy.answerers.prompts import JPEG_QUALITY, Picture, as_jpeg_url, times_of
from hybrid.errors import InputError, MissingDependencyError, first_line

__all__ = ["ANSWERER", "OpenAIAnswerer"]

_LOG = logging.getLogger(__name__)

KEY_VARIABLE: Final = "OPENAI_API_KEY"


class OpenAIAnswerer:
    """Sends one chat request a question, with the pictures before the text.

    Args:
        url: base of the endpoint (``http://localhost:8000/v1``); empty for OpenAI's own.
        model: its name there.
        options: how it is asked.

    Raises:
        InputError: the URL has no scheme or no host.
        MissingDependencyError: the package ``openai`` is not installed.
    """

    def __init__(self, url: str, model: str, options: AnswererOptions) -> None:
        try:
            import openai
        except ImportError as exc:
            raise MissingDependencyError('endpoints need the package openai: pip install "hybrid[bench]"') from exc
        parts = urlsplit(url)
        if url and not (parts.scheme in ("http", "https") and parts.hostname):
            raise InputError(f"the endpoint is {url!r}; it must be like http://localhost:8000/v1")
        self._model = model
        self._options = options
        self._parameters: dict[str, Any] = {"max_tokens": options.max_new_tokens, "temperature": 0.0}
        self._client = openai.OpenAI(
            base_url=url or None,
            api_key=os.environ.get(KEY_VARIABLE) or "none",
            timeout=options.timeout_seconds,
            max_retries=options.retries,
        )
        public = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
        self.identity: Mapping[str, Any] = {
            "kind": "openai",
            "url": urlunsplit(public),
            "model": model,
            "side": options.side,
            "times": options.times,
            "jpeg_quality": JPEG_QUALITY,
            "max_tokens": options.max_new_tokens,
            "temperature": 0.0,
            "seed": options.seed,
        }

    def answer(self, pictures: Sequence[Picture], prompt: str) -> Reply:
        """See :class:`~bench.accuracy.answerers.interface.Answerer`; passing faults are retried by the client."""
        import openai

        messages: Any = [{"role": "user", "content": self._content(pictures, prompt)}]
        try:
            completion = self._complete(messages)
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as exc:
            raise AnswererUnusableError(
                f"{self.identity['url'] or 'OpenAI'} refuses every request for {self._model!r}: {first_line(exc)}; "
                f"check the URL, the model's name and {KEY_VARIABLE}"
            ) from exc
        except openai.BadRequestError as exc:
            raise AnswerRefusedError(f"no reply from {self._model}: {first_line(exc)}") from exc
        except openai.OpenAIError as exc:
            if isinstance(exc, openai.APIConnectionError | openai.InternalServerError | openai.RateLimitError):
                url = self.identity["url"] or "OpenAI"
                raise AnswererSilentError(f"no reply from {self._model}: {first_line(exc)} ({url})") from exc
            raise AnswerFailedError(f"no reply from {self._model}: {first_line(exc)}") from exc
        if not completion.choices:
            raise AnswerFailedError(f"{self._model} sent a completion without a choice")
        choice, usage = completion.choices[0], completion.usage
        return Reply(
            text=choice.message.content or "",
            model=completion.model or self._model,
            prompt_tokens=usage.prompt_tokens if usage is not None else None,
            new_tokens=usage.completion_tokens if usage is not None else None,
            finish=choice.finish_reason,
            left_out=() if "temperature" in self._parameters else ("temperature",),
        )

    def _complete(self, messages: Any) -> Any:
        """Send the request, and again in another form if the server does not take one of its parameters.

        Newer models want ``max_completion_tokens`` for ``max_tokens``, and no temperature. A form that was taken is
        kept for the following requests; one that was refused too is not, as the fault may lie elsewhere.
        """
        import openai

        parameters = dict(self._parameters)
        while True:
            try:
                completion = self._client.chat.completions.create(
                    model=self._model, messages=messages, seed=self._options.seed, **parameters
                )
            except openai.BadRequestError as exc:
                changed = _other_form(parameters, f"{exc.param} {exc}")
                if changed is None:
                    raise
                parameters = changed
                continue
            if parameters != self._parameters:
                _LOG.warning("%s is asked with %s from now on", self._model, ", ".join(parameters) or "no parameters")
                self._parameters = parameters
            return completion

    def _content(self, pictures: Sequence[Picture], prompt: str) -> list[dict[str, Any]]:
        content: list[dict[str, Any]] = []
        for picture, when in zip(pictures, times_of(pictures), strict=True):
            if self._options.times:
                content.append({"type": "text", "text": when})
            url = as_jpeg_url(picture.rgb, side=self._options.side)
            content.append({"type": "image_url", "image_url": {"url": url}})
        return [*content, {"type": "text", "text": prompt}]


def _other_form(parameters: Mapping[str, Any], complaint: str) -> dict[str, Any] | None:
    """The parameters without the one that a server complains of; None if it complains of something else."""
    changed = dict(parameters)
    if "max_tokens" in parameters and "max_tokens" in complaint:
        changed["max_completion_tokens"] = changed.pop("max_tokens")
    elif "temperature" in parameters and "temperature" in complaint:
        del changed["temperature"]
    else:
        return None
    return changed


def _load(text: str, options: AnswererOptions) -> OpenAIAnswerer:
    url, _, model = text.partition("#")
    return OpenAIAnswerer(url, model, options)


ANSWERER = AnswererKind(
    name="openai", form="openai:URL#MODEL", is_legal=lambda text: bool(text.partition("#")[2]), load=_load
)
