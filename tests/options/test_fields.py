"""Each option is declared once: what is made from its field, and what the classes refuse."""

from __future__ import annotations

import copy
import json
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import hybrid.options.ask
from hybrid import Engine
from hybrid.cli.app import make_app
from hybrid.cli.verbs import ask as ask_verb
from hybrid.demo import demo_video
from hybrid.errors import InputError
from hybrid.options.ask import AskOptions
from hybrid.options.engine import EngineOptions
from hybrid.options.field import Options, Range, documented, flag_of, names_requiring, option, options_of
from hybrid.options.index import IndexOptions, RunOptions
from hybrid.options.search import SearchOptions
from hybrid.options.write_keywords import CLASSES, FILE, keywords_source

QUESTION = "When can the green star be seen?"


@documented
@dataclass(frozen=True, slots=True, init=False)
class ToyOptions(AskOptions):
    """The options of a question, and one more: a field, and nothing else."""

    patience: int = option(7, "How patient the toy is.", legal=Range(1, 9))


@pytest.fixture(params=CLASSES, ids=lambda kind: str(kind.__name__))
def kind(request: pytest.FixtureRequest) -> type[Options]:
    chosen: type[Options] = request.param
    return chosen


def test_the_types_of_keywords_are_those_of_the_fields() -> None:
    assert FILE.read_text(encoding="utf-8") == keywords_source(), "run: python -m hybrid.options.write_keywords"


def test_every_option_is_described(kind: type[Options]) -> None:
    declared = options_of(kind)
    assert set(declared) == {each.name for each in fields(kind)} - {"_given"}
    flags = [flag for flag in (flag_of(each) for each, _ in declared.values()) if flag]
    assert len(flags) == len(set(flags))
    for name, (each, about) in declared.items():
        assert re.fullmatch(r"[A-Za-z].*\.", about.help), name
        assert f"{name}: " in str(kind.__doc__)
        assert all(required.name in declared for required in about.requires)
        if each.default is not None and about.legal is not None:
            about.legal.check(name, each.default)


def test_nothing_set_is_the_default(kind: type[Options]) -> None:
    plain = kind()
    assert plain == kind(**dict.fromkeys(options_of(kind)))
    assert plain.given == {}
    assert plain.changed() is plain
    assert pickle.loads(pickle.dumps(plain)) == plain


def test_an_unknown_option_is_answered_with_the_nearest(kind: type[Options]) -> None:
    name = next(iter(options_of(kind)))
    with pytest.raises(TypeError, match=rf"{kind.__name__} has no option '{name}x'; did you mean {name}\?"):
        kind(**{f"{name}x": 1})


def test_an_object_and_keywords_go_together() -> None:
    given = AskOptions(frames=3, select="aks:depth=3")
    assert AskOptions.of(given, {"frames": 5, "seed": None}) == AskOptions(frames=5, select="aks:depth=3")
    assert AskOptions.of(None, {"frames": 5}).given == {"frames": 5}
    assert given.to_dict()["select"] == "aks:depth=3"
    assert json.loads(json.dumps(given.to_dict()))["look_for"] == []
    assert EngineOptions(preset="tiny").changed(sampler="S").preset == "tiny"


def test_an_option_that_is_set_to_its_default_still_has_to_decide_something() -> None:
    assert AskOptions(min_score=4) == AskOptions()
    with pytest.raises(InputError, match=r"min_score is 4 \(--min-score\), which is for GenS"):
        AskOptions(min_score=4, fine=False)
    assert AskOptions(fine=False, features=True).fine is False
    with pytest.raises(InputError, match=r"context_seconds is 2\.0 \(--context\), which decides nothing .*'segments'"):
        AskOptions(context_seconds=2.0, window_mode="segments")
    assert names_requiring(AskOptions, "window_mode") == {"segments", "context_seconds"}
    assert names_requiring(AskOptions, "fine") >= {"window", "window_mode", "min_score", "features"}


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (AskOptions, {"window": 0}, "window is 0; it must be at least 1 frame"),
        (AskOptions, {"window": "many"}, "window is 'many'; it must be a whole number of frames"),
        (AskOptions, {"min_score": 6}, "min_score is 6; it must be 1 to 5"),
        (AskOptions, {"gap_seconds": float("nan")}, "gap_seconds is nan"),
        (AskOptions, {"context_seconds": float("inf"), "window_mode": "context"}, "context_seconds is inf"),
        (AskOptions, {"window_mode": "segment"}, "did you mean 'segments'"),
        (EngineOptions, {"decoder": "pyaf"}, "did you mean 'pyav'"),
        (EngineOptions, {"dtype": "bfloat"}, "did you mean 'bfloat16'"),
        (EngineOptions, {"loading": "5bit"}, "loading is '5bit'"),
        (RunOptions, {"workers": -1}, "workers is -1; it must be 0 or more"),
        (IndexOptions, {"lock_seconds": -1.0}, "lock_seconds is -1"),
        (SearchOptions, {"since": "yesterday"}, "write it like"),
        (SearchOptions, {"ask": AskOptions(frames=3)}, "frames is 3, .* fine is 0"),
    ],
)
def test_illegal_values(kind: type[Options], given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        kind(**given)


def test_a_new_option_is_one_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "patience: How patient the toy is. Default: 7." in str(ToyOptions.__doc__)
    assert "    patience: int | None\n" in keywords_source([ToyOptions])
    with Engine.open(tmp_path / "archive", preset="tiny", device="cpu") as engine:
        recorded = engine.configuration(demo_video(), ToyOptions(frames=3, patience=2, fine=False))
    assert recorded["options"]["patience"] == 2
    with pytest.raises(InputError, match="patience is 0; it must be 1 to 9"):
        ToyOptions(patience=0)

    # On the command line: the verb's annotation is the only line that names the class.
    monkeypatch.setitem(ask_verb.ask.__annotations__, "options", ToyOptions)
    app, out = make_app(), tmp_path / "answers.jsonl"
    assert "--patience <int>" in CliRunner().invoke(app, ["ask", "--help"]).stdout
    command = ["ask", str(demo_video()), QUESTION, "--archive", str(tmp_path / "archive"), "--preset", "tiny"]
    run = CliRunner().invoke(app, [*command, "--no-fine", "--patience", "3", "--out", str(out), "--device", "cpu"])
    assert run.exit_code == 0, run.output
    assert json.loads(out.read_text().splitlines()[0])["configuration"]["options"]["patience"] == 3


def test_a_selector_and_a_scorer_are_parsed_once_a_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    for name in ("parse_selector", "parse_scorer"):
        real = getattr(hybrid.options.ask, name)
        monkeypatch.setattr(hybrid.options.ask, name, lambda text, real=real: parsed.append(text) or real(text))
    for path in Path(hybrid.options.ask.__file__).parents[1].joinpath("engine").rglob("*.py"):
        assert not re.search(r"\bparse_(selector|scorer)\b", path.read_text(encoding="utf-8")), path
    with Engine.open(tmp_path / "archive", preset="tiny", device="cpu") as engine:
        answer = engine.ask(demo_video(), QUESTION, frames=3, fine=False, select="aks:depth=3", scores="clip")
    assert answer.stages[-1].details["options"]["depth"] == 3
    assert parsed == ["aks:depth=3", "clip"]


@pytest.mark.parametrize(
    "options",
    [
        AskOptions(select="aks:depth=3"),
        AskOptions(select="focus:seed=4", scores="blip-itm:checkpoint"),
        AskOptions(frames=3, window_mode="context", context_seconds=2),
        SearchOptions(top=3, fine=2, ask={"frames": 3}),
        EngineOptions(preset="tiny", decoder="pyav", encoder="local-dir:folder"),
    ],
)
def test_options_travel_and_show_themselves(options: Options) -> None:
    """To another process, into a copy, and as text that makes the same ones."""
    assert pickle.loads(pickle.dumps(options)) == options
    assert copy.deepcopy(options) == options
    assert eval(repr(options)) == options
    options.given.clear()
    assert options.given
    assert type(options)(**options.given) == options


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: AskOptions(fine="no"), "fine is 'no'; it must be True or False"),
        (lambda: AskOptions(min_score=3.5), "min_score is 3.5; it must be a whole number"),
        (lambda: AskOptions(gap_seconds=True), "gap_seconds is True; it must be a number"),
        (lambda: AskOptions(gap_seconds=float("inf")), "0 or more seconds, and finite"),
        (lambda: AskOptions(window="context"), "the mode is window_mode='context'"),
        (lambda: AskOptions(window=1.5), "window is 1.5; it must be a whole number of frames"),
        (lambda: AskOptions(select=3), "select is 3; it must be a selector's text"),
        (lambda: AskOptions(scores=["clip"]), "scores is .*; it must be a text"),
        (lambda: SearchOptions(since=5), "since is 5; it must be a date"),
        (lambda: SearchOptions(fine=1, ask=SearchOptions()), "it must be AskOptions"),
        (lambda: EngineOptions(encoder=5), "a model is named by a text or a path"),
        (lambda: AskOptions.of({"frames": 3}, {}), "it must be AskOptions"),
    ],
)
def test_a_value_of_another_type_is_refused_at_once(make: Callable[[], Options], says: str) -> None:
    with pytest.raises(InputError, match=says):
        make()


def test_one_path_is_not_taken_for_letters() -> None:
    assert SearchOptions(videos="/a/b.mp4").videos == ("/a/b.mp4",)
    assert SearchOptions(under=Path("/a")).under == ("/a",)


def test_numbers_of_numpy_become_plain_ones() -> None:
    options = AskOptions(frames=np.int64(3), window=np.int32(8), gap_seconds=np.float32(1))
    assert json.dumps(options.to_dict())
    with pytest.raises(TypeError, match="AskOptions takes its options by name"):
        AskOptions(8)  # type: ignore[call-arg]
