"""Writes replies by asking a server of vLLM (``vllm serve CHECKPOINT --enable-mm-embeds``)."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeGuard

from hybrid.errors import HybridError, InputError, MissingDependencyError, ModelError, first_line
from hybrid.gens.frame_features import FrameFeatures
from hybrid.gens.turns import Runs
from hybrid.gens.vllm.asking import Asking, Written
from hybrid.gens.vllm.chat import Chat, image_parts
from hybrid.gens.vllm.name import VllmName
from hybrid.gens.writer import OnFinished, OnTokens, Reply

__all__ = ["KEY_VARIABLE", "ServerWriter"]

KEY_VARIABLE = "VLLM_API_KEY"
TIMEOUT_SECONDS = 600.0
"""For one reply, waiting behind others at the server included."""
CONNECT_SECONDS = 10.0
RETRIES = 1
"""How often a passing fault is tried again."""
_WINDOWS_ENCODED = 4
_REMEDY = (
    "start it with the same checkpoint, its own chat template and --chat-template-content-format openai, or run vLLM "
    "in this process (--sampler without an address)"
)


class ServerWriter:
    """A :class:`hybrid.gens.writer.Writer`. Questions go to the server side by side, and it batches them.

    Args:
        name: the server's address, and the checkpoint, by whose name it has to be served.
        asking: how it is asked.
        batch: how many questions are with the server at once, at most.

    Raises:
        MissingDependencyError: the package ``openai`` is not installed.
        InputError: the prompt cannot be put as messages of a chat.
    """

    def __init__(self, name: VllmName, asking: Asking, *, batch: int) -> None:
        try:
            import openai
        except ImportError as exc:
            raise MissingDependencyError(
                "asking a vLLM server needs the package openai: pip install 'hybrid[vllm-server]'"
            ) from exc
        assert name.address is not None
        self._address, self._checkpoint = name.address, name.checkpoint
        self._asking, self._batch = asking, batch
        self._chat = Chat(asking.spec)
        self._client = openai.OpenAI(
            base_url=name.address,
            api_key=os.environ.get(KEY_VARIABLE) or "none",
            timeout=openai.Timeout(TIMEOUT_SECONDS, connect=CONNECT_SECONDS),
            max_retries=RETRIES,
        )
        self._runs = Runs()
        self._lock = threading.Lock()
        self._model: str | None = None
        # Questions about one window follow each other; to encode its 16 MiB takes as long as to send them.
        self._images = lru_cache(maxsize=_WINDOWS_ENCODED)(self._make_images)

    @property
    def device(self) -> str:
        """The server's address."""
        return self._address

    def check(self, question: str) -> None:
        """See :meth:`hybrid.gens.writer.Writer.check`; a server cannot be told that a special token is plain text."""
        self._asking.tokens.suffix(question)
        special = self._asking.tokens.special_in(question)
        if special is not None:
            raise InputError(
                f"the question holds {special}, which a server takes for a token of its own and not for text; "
                "leave it out, or run the checkpoint in this process (--sampler without an address)"
            )

    def write(
        self,
        features: Sequence[FrameFeatures],
        questions: Sequence[str],
        *,
        on_tokens: OnTokens | None = None,
        on_finished: OnFinished | None = None,
    ) -> list[Reply]:
        """See :meth:`hybrid.gens.writer.Writer.write`; ``on_tokens`` is told of finished replies only.

        ``seconds`` are those from a question's turn to its reply, over the number of questions that are under way at
        once.
        """
        pairs = list(zip(features, questions, strict=True))
        for question in questions:
            self.check(question)
        if not pairs:
            return []
        with self._runs.begin():
            return self._write(pairs, on_tokens=on_tokens, on_finished=on_finished)

    def _write(
        self,
        pairs: Sequence[tuple[FrameFeatures, str]],
        *,
        on_tokens: OnTokens | None,
        on_finished: OnFinished | None,
    ) -> list[Reply]:
        replies: dict[int, Reply] = {}
        model = self._model_there()
        at_once = min(self._batch, len(pairs))
        pool = ThreadPoolExecutor(at_once)
        try:
            asked = {pool.submit(self._ask_timed, model, *pairs[place]): place for place in _by_window(pairs)}
            for future in as_completed(asked):
                place = asked[future]
                written, seconds = future.result()
                share = {"vllm": seconds / at_once}
                reply = replies[place] = self._asking.reply(*pairs[place], written, share, remedy=_REMEDY)
                if on_tokens is not None:
                    on_tokens(place, reply.ids, True)
                if on_finished is not None:
                    on_finished(place, reply)
        finally:
            # After a fault, what is not yet sent is not sent any more.
            pool.shutdown(wait=False, cancel_futures=True)
            self._images.cache_clear()
        return [replies[place] for place in range(len(pairs))]

    def _ask_timed(self, model: str, features: FrameFeatures, question: str) -> tuple[Written, float]:
        started = time.perf_counter()
        return self._ask(model, features, question), time.perf_counter() - started

    def _make_images(self, features: FrameFeatures) -> list[dict[str, Any]]:
        return image_parts(features, self._asking.merge)

    def _ask(self, model: str, features: FrameFeatures, question: str) -> Written:
        asking = self._asking
        pattern = asking.pattern(features)
        messages: Any = self._chat.messages(self._images(features), question)
        with self._failures():
            completion = self._client.chat.completions.create(
                model=model,
                messages=messages,
                temperature=0.0,
                max_completion_tokens=asking.spec.max_new_tokens,
                extra_body={
                    "repetition_penalty": asking.repetition_penalty,
                    "stop_token_ids": sorted(asking.end_ids),
                    "return_token_ids": True,
                    **({} if pattern is None else {"structured_outputs": {"regex": pattern}}),
                },
            )
            return self._read(completion)

    def _read(self, completion: Any) -> Written:
        choice: Any = next(iter(getattr(completion, "choices", None) or ()), None)
        ids, prompt_ids = getattr(choice, "token_ids", None), getattr(completion, "prompt_token_ids", None)
        if not _are_ids(ids) or not _are_ids(prompt_ids):
            raise ModelError(
                f"{self._address} replied without token ids (return_token_ids); it must be vLLM 0.33 or newer: "
                f"vllm serve {self._checkpoint} --enable-mm-embeds"
            )
        details = getattr(getattr(completion, "usage", None), "prompt_tokens_details", None)
        cached = getattr(details, "cached_tokens", None) or 0
        return Written(ids=ids, prompt_ids=prompt_ids, finish=choice.finish_reason, reused_tokens=cached)

    def _model_there(self) -> str:
        """The name by which the server has the checkpoint; it is asked once."""
        with self._lock:
            if self._model is None:
                self._model = self._find_model()
            return self._model

    def _find_model(self) -> str:
        with self._failures():
            cards: list[Any] = list(self._client.models.list())
            # ``root`` is the path of a model that is served by another name.
            roots = {card.id: getattr(card, "root", None) for card in cards if isinstance(card.id, str)}
        for served, root in roots.items():
            if self._checkpoint in (served, root):
                return served
        names = ", ".join(roots) or "nothing"
        raise ModelError(
            f"{self._address} serves {names}, not {self._checkpoint}; write vllm:{self._address}#NAME with a name that "
            f"is served and found here, or start vllm serve CHECKPOINT --enable-mm-embeds --served-model-name "
            f"{self._checkpoint}"
        )

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Whatever the client raises becomes a ModelError that says what to do.

        Raises:
            ModelError: in its place.
        """
        import openai

        start = f"vllm serve {self._checkpoint} --enable-mm-embeds"
        try:
            yield
        except openai.APITimeoutError as exc:
            if type(exc.__cause__).__name__ == "ConnectTimeout":
                raise ModelError(f"no server can be reached at {self._address}; start it: {start}") from exc
            raise ModelError(
                f"{self._address} gave no reply within {TIMEOUT_SECONDS:g} s; see its log, ask fewer questions at "
                f"once, or restart it: {start}"
            ) from exc
        except openai.APIConnectionError as exc:
            cause = first_line(exc.__cause__ or exc)
            raise ModelError(
                f"no server can be reached at {self._address}, or it broke off ({cause}); start it: {start}"
            ) from exc
        except (openai.AuthenticationError, openai.PermissionDeniedError) as exc:
            raise ModelError(
                f"{self._address} refuses the key; set {KEY_VARIABLE} to the one that it was started with"
            ) from exc
        except openai.NotFoundError as exc:
            raise ModelError(
                f"{self._address} does not know what it is asked for: {first_line(exc)}; the address must be the base "
                "of its routes, as a rule http://HOST:PORT/v1"
            ) from exc
        except openai.InternalServerError as exc:
            raise ModelError(f"{self._address} failed: {first_line(exc)}; see its log, restart it: {start}") from exc
        except openai.APIStatusError as exc:
            hint = _hint(str(exc))
            raise ModelError(f"{self._address} refuses the request: {first_line(exc)}; {hint or start}") from exc
        except HybridError:
            raise
        except Exception as exc:  # of the client, or of what it makes of a reply that is no server's of this kind
            raise ModelError(f"{self._address} cannot be asked: {first_line(exc)}; it must be vLLM: {start}") from exc


def _hint(refusal: str) -> str | None:
    """What to do about a refusal, where its text tells."""
    lower = refusal.lower()
    if "mm-embeds" in lower or "mm_embeds" in lower:
        return "start the server with --enable-mm-embeds"
    if "context length" in lower or "max_model_len" in lower or "maximum model length" in lower:
        return "use a smaller --window, or start the server with a larger --max-model-len"
    if "at most" in lower and "image" in lower:
        return """start the server with --limit-mm-per-prompt '{"image": 0}', which sets no limit to embeddings"""
    return None


def _by_window(pairs: Sequence[tuple[FrameFeatures, str]]) -> list[int]:
    """The places of pairs, those of one window together, in the order in which it came first."""
    first: dict[str, int] = {}
    for place, (window, _) in enumerate(pairs):
        first.setdefault(window.key, place)
    return sorted(range(len(pairs)), key=lambda place: first[pairs[place][0].key])


def _are_ids(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(isinstance(token, int) for token in value)
