"""Models of lmms-eval that show another model of it the frames that hybrid selected. Imported by lmms-eval alone.

See :mod:`hybrid.export.benchmarks.lmms_eval` for the use. The wrapped model is made by lmms-eval's own registry and
runs unchanged: only what a request says of its media is replaced, before the model looks at it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmms_eval.api.model import lmms
from lmms_eval.models import get_model

from hybrid.errors import InputError
from hybrid.export.benchmarks.lmms_eval import check_show, only_video, read_selection, shown_media, shown_messages

__all__ = ["ChatFrames", "SimpleFrames"]


class _Frames(lmms):  # type: ignore[misc]  # lmms-eval ships no type information
    """What both kinds of models share.

    Args:
        inner: name of the model that is shown the frames.
        selection: folder that :func:`hybrid.export.benchmarks.lmms_eval.save_selection` wrote.
        show: ``images`` or ``clip``.
        key: field of the task's documents that holds the id of a line.
        options: of the inner model; lmms-eval's own (``batch_size``, ``device``) are passed on as well.

    Raises:
        InputError: no selection, or an inner model of the other kind.
    """

    def __init__(
        self, inner: str, selection: str, show: str = "images", key: str | None = None, **options: Any
    ) -> None:
        super().__init__()
        self._selection = read_selection(Path(selection), key=key)
        self._show = check_show(show)
        cls = get_model(inner, force_simple=self.is_simple)
        if cls.is_simple != self.is_simple:
            raise InputError(
                f"the model {inner!r} is {'simple' if cls.is_simple else 'chat'} only; "
                f"{'add' if cls.is_simple else 'leave out'} --force_simple"
            )
        self.inner = cls(**options)
        self._rank, self._world_size = self.inner.rank, self.inner.world_size
        self.inner.task_dict = self.task_dict  # lmms-eval puts the tasks' documents there later

    def __getattr__(self, name: str) -> Any:
        """What lmms-eval asks of a model besides (``accelerator``, ``device``, ``tokenizer_name`` ...)."""
        if name == "inner":  # not made yet
            raise AttributeError(name)
        return getattr(self.inner, name)

    def generate_until(self, requests: Sequence[Any]) -> Any:
        """The inner model's replies."""
        return self.inner.generate_until([self._shown(request) for request in requests])

    def generate_until_multi_round(self, requests: Sequence[Any]) -> Any:
        """The inner model's replies."""
        return self.inner.generate_until_multi_round([self._shown(request) for request in requests])

    def loglikelihood(self, requests: Sequence[Any]) -> Any:
        """The inner model's likelihoods."""
        return self.inner.loglikelihood([self._shown(request) for request in requests])

    def set_cache_hook(self, cache_hook: Any) -> None:
        """The cache is the inner model's."""
        super().set_cache_hook(cache_hook)
        self.inner.set_cache_hook(cache_hook)

    def clean(self) -> None:
        """Free what the inner model holds."""
        self.inner.clean()

    def _shown(self, request: Any) -> Any:
        shown = copy.copy(request)
        arguments = list(request.args)
        index = self._media_argument(arguments)
        arguments[index] = self._with_frames(arguments[index], str(arguments[0]))
        shown.arguments = tuple(arguments)
        return shown

    def _media_argument(self, arguments: Sequence[Any]) -> int:
        raise NotImplementedError

    def _with_frames(self, function: Callable[..., Any], text: str) -> Callable[..., Any]:
        raise NotImplementedError


class ChatFrames(_Frames):
    """For models that are given messages: the function that makes them is replaced."""

    is_simple = False

    def _media_argument(self, arguments: Sequence[Any]) -> int:
        return next(index for index, argument in enumerate(arguments) if callable(argument))

    def _with_frames(self, function: Callable[..., Any], text: str) -> Callable[..., Any]:
        def messages(document: Mapping[str, Any], **more: Any) -> list[dict[str, Any]]:
            return shown_messages(function(document, **more), document, self._selection, self._show)

        return messages


class SimpleFrames(_Frames):
    """For models that are given a text and media: the function that gives the media is replaced."""

    is_simple = True

    def _media_argument(self, arguments: Sequence[Any]) -> int:
        return 2  # text, options or target, media, ...

    def _with_frames(self, function: Callable[..., Any], text: str) -> Callable[..., Any]:
        def media(document: Mapping[str, Any]) -> list[Any]:
            line = self._selection.find(document, only_video(function(document)), text)
            return shown_media(line, self._show)

        return media
