"""One option: a field of a dataclass whose metadata says everything about it; and the base of these dataclasses."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeVar

from hybrid.errors import InputError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "Choice",
    "Option",
    "Options",
    "Range",
    "Requirement",
    "documented",
    "flag_of",
    "names_requiring",
    "option",
    "options_of",
    "plain",
]

_OptionsClass = TypeVar("_OptionsClass", bound="type[Options]")


@dataclass(frozen=True, slots=True)
class Range:
    """The legal numbers: from ``least`` to ``most``, or to any finite one; and what they count, in the singular."""

    least: float
    most: float | None = None
    unit: str = ""

    @property
    def text(self) -> str:
        """The range as a message says it."""
        if self.most is not None:
            return f"{self.least:g} to {self.most:g}"
        amount = "0 or more" if self.least == 0 else f"at least {self.least:g}"
        finite = ", and finite" if self.least == 0 and self.unit == "second" else ""
        return f"{amount} {self.unit}{'' if self.least == 1 else 's'}{finite}" if self.unit else amount

    def check(self, name: str, value: Any) -> None:
        """Refuse any other value.

        Raises:
            InputError: the value is outside the range, or not a number.
        """
        try:
            legal = self.least <= value <= (math.inf if self.most is None else self.most) and value != math.inf
        except TypeError:
            legal = False
        if not legal:
            raise InputError(f"{name} is {value!r}; it must be {self.text}")


@dataclass(frozen=True, slots=True)
class Choice:
    """The legal texts: a tuple, or a function that gives those of a registry at the time of the call."""

    source: tuple[str, ...] | Callable[[], tuple[str, ...]]

    @property
    def values(self) -> tuple[str, ...]:
        """The legal texts."""
        return self.source if isinstance(self.source, tuple) else self.source()

    def check(self, name: str, value: Any) -> None:
        """Refuse any other value.

        Raises:
            InputError: the value is none of them; the message names the nearest one.
        """
        if value not in self.values:
            near = difflib.get_close_matches(str(value), self.values, n=1)
            guess = f" (did you mean {near[0]!r}?)" if near else ""
            raise InputError(f"{name} is {value!r}{guess}; legal are {', '.join(map(repr, self.values))}")


@dataclass(frozen=True, slots=True)
class Requirement:
    """What another option must be, so that this one decides anything.

    Attributes:
        name: of the other option.
        value: what it must be.
        message: of the error about an option that decides nothing, after "NAME is VALUE (FLAG), which ";
            ``{flag}`` is its own flag, ``{other}`` the value that the other option has.
    """

    name: str
    value: object
    message: str


@dataclass(frozen=True, slots=True)
class Option:
    """Everything about one option but its name, type and default, which are the field's.

    Attributes:
        help: one sentence for people; its first letter is a capital, and it ends in a full stop.
        flag: on the command line; empty: the name after two dashes; None: an option of Python calls alone. ``--no-x``
            of a field that is True by default makes it False.
        panel: the group in which help shows it.
        default_text: what holds where nobody sets it, if the field's default does not say that.
        legal: the legal values; by default all of the type.
        parse: makes the value that the field holds from what a caller gives, which may be such a value already.
        accepts: the type of what a caller may give, as source text, where that is not the field's own type.
        text_type: what the command line reads, where that is not the field's own type.
        keywords_of_text: makes keywords from a text of the command line, where that sets more than this option.
        requires: what other options must be, so that this one decides anything.
    """

    help: str
    flag: str | None = ""
    panel: str = ""
    default_text: str = ""
    legal: Range | Choice | None = None
    parse: Callable[[Any], Any] | None = None
    accepts: str = ""
    text_type: Any = None
    keywords_of_text: Callable[[str, Mapping[str, object]], Mapping[str, object]] | None = None
    requires: tuple[Requirement, ...] = ()


def option(default: Any, help: str, **facts: Any) -> Any:
    """A field of an options class: its default, its help, and the further facts of :class:`Option`."""
    # Not for dataclasses.replace, which would set every option; Options.changed does what it is used for.
    return field(default=default, init=False, metadata={"option": Option(help, **facts)})


def options_of(kind: type[Options]) -> Mapping[str, tuple[Field[Any], Option]]:
    """The options of a class, by name: the field, and what its metadata says."""
    return {each.name: (each, each.metadata["option"]) for each in fields(kind) if "option" in each.metadata}


def names_requiring(kind: type[Options], name: str) -> frozenset[str]:
    """The options that decide something only where another one has a certain value."""
    every = options_of(kind).items()
    return frozenset(own for own, (_, about) in every if any(each.name == name for each in about.requires))


def flag_of(each: Field[Any]) -> str | None:
    """The flag of an option on the command line; None: it has none."""
    flag: str | None = each.metadata["option"].flag
    return f"--{each.name.replace('_', '-')}" if flag == "" else flag


def plain(value: Any) -> Any:
    """A value as it is written into records that are JSON: a parsed one as the text that it was made from."""
    return getattr(value, "text", value)


_TYPES: Mapping[str, tuple[tuple[type, ...], str]] = {
    "bool": ((bool,), "True or False"),
    "int": ((Integral,), "a whole number"),
    "float": ((Real,), "a number"),
    "str": ((str,), "a text"),
}
"""What the values of a field of that type are, and how a message calls them."""


def _typed(name: str, value: Any, kind: str) -> Any:
    """The value, of a plain type where it is one of numpy; one that is none of its field's type is refused.

    Raises:
        InputError: as it says.
    """
    types, text = _TYPES.get(kind.removesuffix(" | None"), ((object,), ""))
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types and text):
        raise InputError(f"{name} is {value!r}; it must be {text}")
    return value.item() if text and hasattr(value, "item") else value


def _rebuilt(kind: type[Options], given: Mapping[str, Any]) -> Options:
    return kind(**given)


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Options:
    """The options of one verb. Each keyword is an option; one that is None is not set, and has its default."""

    _given: tuple[tuple[str, Any], ...] = field(init=False, compare=False)

    def __init__(self, *unnamed: Any, **given: Any) -> None:
        if unnamed:
            raise TypeError(f"{type(self).__name__} takes its options by name, not {unnamed[0]!r} alone")
        known = options_of(type(self))
        for name in given.keys() - known.keys():
            near = difflib.get_close_matches(name, known, n=1)
            guess = f"; did you mean {near[0]}?" if near else f"; its options are: {', '.join(known)}"
            raise TypeError(f"{type(self).__name__} has no option {name!r}{guess}")
        parsed = {}
        for name, (each, about) in known.items():
            value = given.get(name)
            if value is None:
                object.__setattr__(self, name, each.default)
                continue
            parsed[name] = _typed(name, value, str(each.type)) if about.parse is None else about.parse(value)
            object.__setattr__(self, name, parsed[name])
            if about.legal is not None:
                about.legal.check(name, parsed[name])
        object.__setattr__(self, "_given", tuple(parsed.items()))
        self.check()
        for name in parsed:
            _check_requirements(self, name, known[name])

    @property
    def given(self) -> dict[str, Any]:
        """What the caller set, by name, parsed.

        An option that is set and decides nothing is an error, even where its value is the default.
        """
        return dict(self._given)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={plain(value)!r}" for name, value in self._given)
        return f"{type(self).__name__}({shown})"

    def __reduce__(self) -> tuple[Any, ...]:
        # By texts: what they are parsed to holds functions.
        return _rebuilt, (type(self), {name: plain(value) for name, value in self._given})

    def __deepcopy__(self, memo: object) -> Self:
        return self  # it never changes

    @classmethod
    def of(cls, options: Self | None, given: Mapping[str, Any]) -> Self:
        """The options of a call that takes an object, the same keywords, or both: keywords go before the object's.

        Raises:
            InputError: as the class; or the object is another.
        """
        if options is not None and not isinstance(options, cls):
            raise InputError(
                f"options is {options!r}; it must be {cls.__name__}(...), or leave it out and give its fields by name"
            )
        return cls(**given) if options is None else options.changed(**given)

    def changed(self, **given: Any) -> Self:
        """These options with others set as well. None: as here.

        Raises:
            InputError: as the class.
        """
        set_here = {name: value for name, value in given.items() if value is not None}
        return type(self)(**{**self.given, **set_here}) if set_here else self

    def check(self) -> None:
        """Refuse what does not go together, before any work is done.

        Raises:
            InputError: some options contradict each other.
        """

    def to_dict(self) -> dict[str, Any]:
        """All options by name, ready for ``json.dumps``."""
        return {name: plain(getattr(self, name)) for name in options_of(type(self))}


def _check_requirements(options: Options, name: str, declared: tuple[Field[Any], Option]) -> None:
    """Refuse an option that is set and decides nothing beside the others."""
    each, about = declared
    value = getattr(options, name)
    if isinstance(value, bool) and value == each.default:  # a switch that was left alone
        return
    for required in about.requires:
        other = getattr(options, required.name)
        if other != required.value:
            message = required.message.format(flag=flag_of(each), other=repr(other), required=required.value)
            raise InputError(f"{name} is {plain(value)!r} ({flag_of(each)}), which {message}")


def documented(kind: _OptionsClass) -> _OptionsClass:
    """Append the options to the docstring of their class, from their metadata."""
    lines = [kind.__doc__ or "", "", "    Attributes:"]
    for name, (each, about) in options_of(kind).items():
        off = (about.flag or "").startswith("--no-")
        if off:
            default = " Default: True."
        elif about.default_text:
            default = f" Default: {about.default_text}."
        else:
            default = "" if each.default in (None, MISSING, ()) else f" Default: {each.default!r}."
        lines.append(f"        {name}: {'False: ' if off else ''}{about.help}{default}")
    kind.__doc__ = "\n".join(lines) + "\n"
    return kind
