"""Registries: what comes in several forms is chosen by name, and its module is imported when it is first used.

A new form is a file that defines the entry, and one line in the registry. The key is the entry's own ``name``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Generic, Protocol, TypeVar

from hybrid.errors import InputError

__all__ = ["Named", "Registry", "unknown_name"]


class Named(Protocol):
    """Anything that carries the name it is registered under."""

    @property
    def name(self) -> str:
        """The key of the registry."""
        ...


Entry = TypeVar("Entry", bound=Named)


def unknown_name(kind: str, name: str, legal: tuple[str, ...]) -> InputError:
    """The error for a name that is not registered, with the nearest legal one.

    >>> str(unknown_name("colour", "gren", ("red", "green")))
    "there is no colour 'gren'; did you mean 'green'? Legal are red, green"
    """
    beginning = [each for each in legal if name and each.startswith(name)]
    near = beginning or get_close_matches(name, legal, n=1)
    guess = f"did you mean {near[0]!r}? Legal are" if near else "legal are"
    return InputError(f"there is no {kind} {name!r}; {guess} {', '.join(legal)}")


class Registry(Generic[Entry]):
    """The forms of one thing, by name.

    Args:
        kind: what an entry is, for messages: "selector".
        attribute: the attribute of a module that is its entry.
        modules: the module of each entry, by the entry's name, in the order of listings.
    """

    def __init__(self, kind: str, attribute: str, modules: Mapping[str, str]) -> None:
        self.kind = kind
        self._attribute = attribute
        self._modules = dict(modules)

    @property
    def names(self) -> tuple[str, ...]:
        """All names; nothing is imported."""
        return tuple(self._modules)

    def register(self, name: str, module: str) -> None:
        """Add an entry of another package.

        Args:
            name: the entry's own.
            module: importable; the entry is its attribute of the registry's.

        Raises:
            InputError: the name is taken.
        """
        if name in self._modules:
            raise InputError(f"there is a {self.kind} {name!r} already, in {self._modules[name]}; choose another name")
        self._modules[name] = module

    def check(self, name: str) -> None:
        """Refuse a name that no entry has; nothing is imported.

        Raises:
            InputError: no entry has this name.
        """
        if name not in self._modules:
            raise unknown_name(self.kind, name, self.names)

    def find(self, name: str) -> Entry:
        """The entry of that name; only its own module is imported.

        Raises:
            InputError: no entry has this name.
        """
        self.check(name)
        entry: Any = getattr(import_module(self._modules[name]), self._attribute)
        return entry  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[Entry]:
        return map(self.find, self.names)

    def __len__(self) -> int:
        return len(self._modules)
