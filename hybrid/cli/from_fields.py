"""The command line, made from the fields of options classes.

A verb is a function. A parameter that is annotated with an options class stands for one option of the command line a
field; one with another dataclass, whose fields are annotated as typer wants them, for these; any other is typer's own.

    def ask(sources: Sources, options: AskOptions, engine: Given[EngineOptions], as_json: JsonOption = False) -> None:
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin, get_type_hints

import typer

from hybrid.options.field import Choice, Option, Options, flag_of, options_of

__all__ = ["Fields", "FromRegistry", "Given", "command"]

OptionsT = TypeVar("OptionsT", bound=Options)
_TYPES: dict[str, Any] = {"int": int, "float": float, "bool": bool, "tuple[str, ...]": list[str]}


@dataclass(frozen=True, slots=True)
class Fields:
    """In ``Annotated[AskOptions, Fields(...)]``: which fields the verb has options for; by default all.

    Attributes:
        only: these, in this order.
        without: all but these.
        before_help: comes before the help of each, such as the condition on which it decides anything.
    """

    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    before_help: str = ""


@dataclass(frozen=True, slots=True)
class Given(Generic[OptionsT]):
    """Options that are set but not read yet: for a verb that refuses some of them before it opens a file they name.

    Attributes:
        kind: the options class.
        values: what is set, by name.
    """

    kind: type[OptionsT]
    values: Mapping[str, Any]

    def read(self) -> OptionsT:
        """The options.

        Raises:
            InputError: as the class.
        """
        return self.kind(**self.values)


@dataclass(frozen=True, slots=True)
class Flag:
    """One option of the command line.

    Attributes:
        parameter: as typer reads it.
        keywords: from its value, and what the other options set, to keywords.
        last: whether it has to be read after the others.
    """

    parameter: inspect.Parameter
    keywords: Callable[[Any, Mapping[str, Any]], Mapping[str, Any]]
    last: bool = False


@dataclass(frozen=True, slots=True)
class FromRegistry:
    """In ``Annotated[dict[str, Path], FromRegistry(flags)]``: an option that takes a path for each entry of a registry.

    Attributes:
        flags: gives the name, the flag and the help of each entry.
    """

    flags: Callable[[], Mapping[str, tuple[str, str]]]

    def options(self) -> list[Flag]:
        """The options of the entries that are registered now."""
        return [
            Flag(
                _parameter(f"entry_{name}", Annotated[Path | None, typer.Option(flag, help=text)], None),
                lambda path, _, name=name: {} if path is None else {name: path},  # type: ignore[misc]
            )
            for name, (flag, text) in self.flags().items()
        ]


def command(run: Callable[..., None]) -> Callable[..., None]:
    """The function as typer reads it: one parameter an option."""
    hints = get_type_hints(run, include_extras=True)
    single, groups = [], {}
    order: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(run).parameters.items():
        hint = hints[name]
        made = _group(hint)
        if made is None:
            single.append(name)
            order.append(parameter.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY))
        else:
            groups[name] = made
            order += [flag.parameter for flag in made[1]]

    def called(**values: Any) -> None:
        arguments: dict[str, Any] = {name: values[name] for name in single}
        for name, (make, flags) in groups.items():
            given: dict[str, Any] = {}
            for flag in sorted(flags, key=lambda flag: flag.last):
                given.update(flag.keywords(values[flag.parameter.name], given))
            arguments[name] = make(**given)
        run(**arguments)

    called.__doc__ = run.__doc__
    called.__name__ = run.__name__
    called.__annotations__ = {each.name: each.annotation for each in order}
    called.__signature__ = inspect.Signature(order)  # type: ignore[attr-defined]
    return called


def _group(hint: Any) -> tuple[Callable[..., Any], list[Flag]] | None:
    """What a parameter's type is made from, and its options; None if it is one parameter of typer's own."""
    chosen = Fields()
    if get_origin(hint) is Annotated:
        hint, *facts = get_args(hint)
        for fact in facts:
            if isinstance(fact, FromRegistry):
                return dict, fact.options()
            chosen = fact if isinstance(fact, Fields) else chosen
    kind, make = hint, hint
    if get_origin(hint) is Given:
        (kind,) = get_args(hint)
        make = _given(kind)
    if not is_dataclass(kind):
        return None
    assert isinstance(kind, type)
    if not issubclass(kind, Options):
        return kind, _plain_flags(kind)
    declared = options_of(kind)
    names = [name for name in chosen.only or declared if name not in chosen.without]
    shown = [declared[name] for name in names if flag_of(declared[name][0])]
    return make, [_flag(each, about, chosen.before_help) for each, about in shown]


def _given(kind: type[OptionsT]) -> Callable[..., Given[OptionsT]]:
    return lambda **values: Given(kind, values)


def _plain_flags(kind: type[Any]) -> list[Flag]:
    """The options of a dataclass whose fields are annotated as typer wants them."""
    hints = get_type_hints(kind, include_extras=True)
    return [
        Flag(_parameter(each.name, hints[each.name], each.default), lambda value, _, name=each.name: {name: value})  # type: ignore[misc]
        for each in fields(kind)
    ]


def _flag(each: Field[Any], about: Option, before_help: str) -> Flag:
    """One option of an options class."""
    switch = str(each.type).startswith("bool")
    kind = about.text_type or _TYPES.get(str(each.type).removesuffix(" | None"), str)
    metavar = None
    if isinstance(about.legal, Choice) and about.keywords_of_text is None:
        metavar = f"<{'|'.join(about.legal.values)}>"
    shown = about.default_text or ("" if switch or each.default in (None, ()) else _number(each.default))
    help_text = f"{before_help}{about.help[0].lower()}{about.help[1:]}" if before_help else about.help
    text = f"{help_text}  [default: {shown}]" if shown else help_text
    info = typer.Option(
        flag_of(each), help=text, metavar=metavar, show_default=False, rich_help_panel=about.panel or None
    )
    plain = switch and each.default is not None
    parameter = _parameter(
        f"option_{each.name}", Annotated[kind if plain else kind | None, info], False if plain else None
    )

    def keywords(value: Any, given: Mapping[str, Any]) -> Mapping[str, Any]:
        if value is None or value == [] or (plain and not value):
            return {}
        if about.keywords_of_text is not None:
            return about.keywords_of_text(value, given)
        return {each.name: not each.default if plain else value}

    return Flag(parameter, keywords, last=about.keywords_of_text is not None)


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    default = inspect.Parameter.empty if default is MISSING else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
