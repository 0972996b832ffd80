"""What every registry promises, run over all of them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from hybrid.cli.registry import VERBS
from hybrid.errors import InputError
from hybrid.export.registry import EXPORTERS
from hybrid.registry import Registry
from hybrid.scorers.registry import SCORERS
from hybrid.selectors.registry import SELECTORS

REGISTRIES: dict[str, Registry[Any]] = {
    "hybrid.selectors.registry:SELECTORS": SELECTORS,
    "hybrid.scorers.registry:SCORERS": SCORERS,
    "hybrid.cli.registry:VERBS": VERBS,
    "hybrid.export.registry:EXPORTERS": EXPORTERS,
}


@pytest.fixture(params=REGISTRIES)
def registry(request: pytest.FixtureRequest) -> Registry[Any]:
    return REGISTRIES[request.param]


def test_each_entry_is_registered_under_its_own_name(registry: Registry[Any]) -> None:
    assert tuple(entry.name for entry in registry) == registry.names
    assert len(registry) == len(set(registry.names)) > 0


def test_each_entry_is_alone_in_its_file(registry: Registry[Any]) -> None:
    modules = [sys.modules[entry_module] for entry_module in registry._modules.values() if registry.names]
    assert len({module.__file__ for module in modules}) == len(registry)


def test_an_unknown_name_is_answered_with_the_nearest_and_all_legal_ones(registry: Registry[Any]) -> None:
    name = registry.names[-1]
    legal = ", ".join(registry.names)
    for slip in (f"{name}x", name[:-1], name.upper()[:1] + name[1:]):
        with pytest.raises(InputError) as refused:
            registry.find(slip)
        assert str(refused.value) == f"there is no {registry.kind} {slip!r}; did you mean {name!r}? Legal are {legal}"
    for nothing in ("", "????"):
        with pytest.raises(InputError) as refused:
            registry.find(nothing)
        assert str(refused.value) == f"there is no {registry.kind} {nothing!r}; legal are {legal}"


def test_a_name_is_given_once(registry: Registry[Any]) -> None:
    with pytest.raises(InputError, match=f"there is a {registry.kind} '{registry.names[0]}' already"):
        registry.register(registry.names[0], "somewhere.else")


@pytest.mark.parametrize("name", REGISTRIES)
def test_names_are_listed_without_importing_an_entry(name: str) -> None:
    module, _, attribute = name.partition(":")
    program = (
        f"import sys; from {module} import {attribute} as registry; "
        "assert registry.names; sys.exit(','.join(set(registry._modules.values()) & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.stderr.strip() == ""
