"""Dataclasses as JSON documents, and back: nested ones, tuples of them, and ones that may be None."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, is_dataclass
from functools import lru_cache
from types import UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Union, get_args, get_origin, get_type_hints

from hybrid.errors import InputError
from hybrid.storage.foreign_json import parse_json

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["JsonRecord"]


class JsonRecord:
    """Base of a dataclass with a JSON round trip.

    Attributes:
        what: for messages, with an article: "an answer of hybrid".
    """

    __slots__ = ()
    what: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts, numbers and strings, ready for ``json.dumps``."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    def to_json(self, *, indent: int | None = 2) -> str:
        """One JSON document in ASCII; :meth:`from_json` gives the object back.

        ASCII, because the name of a file may hold bytes that are not text, and must not end a run.
        """
        return json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Rebuild what :meth:`to_dict` gave.

        Raises:
            InputError: the document lacks a field, has an unknown one, or a value of another type.
        """
        try:
            return _build(cls, document)  # type: ignore[no-any-return]
        except (KeyError, TypeError, AttributeError) as exc:
            raise InputError(f"this is not {cls.what}: {exc}") from exc

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Rebuild what :meth:`to_json` gave.

        Raises:
            InputError: the text is not JSON, or as :meth:`from_dict`.
        """
        return cls.from_dict(parse_json(text, where=f"this is not {cls.what}", names=True))


def _build(kind: Any, document: Mapping[str, Any]) -> Any:
    values: dict[str, Any] = {**document}
    for name, convert in _converters(kind).items():
        if name in values:
            values[name] = convert(values[name])
    return kind(**values)


@lru_cache(maxsize=64)
def _converters(kind: Any) -> Mapping[str, Callable[[Any], Any]]:
    """Of the fields whose values are not those of the document."""
    hints = get_type_hints(kind)
    found = ((each.name, _converter(hints[each.name])) for each in fields(kind))
    return {name: convert for name, convert in found if convert is not None}


def _converter(hint: Any) -> Callable[[Any], Any] | None:
    """From a value of a document to one of this type; None where they are the same."""
    if is_dataclass(hint):
        return lambda value: _build(hint, value)
    if get_origin(hint) is tuple:
        convert = _converter(get_args(hint)[0])
        return tuple if convert is None else lambda value: tuple(map(convert, value))
    if get_origin(hint) in (Union, UnionType):
        some = next((found for found in map(_converter, get_args(hint)) if found is not None), None)
        return None if some is None else lambda value: None if value is None else some(value)
    return None
