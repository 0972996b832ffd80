"""``hybrid selectors``."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from hybrid.cli.app import app
from hybrid.scorers.registry import SCORERS
from hybrid.selectors.registry import SELECTORS


def test_every_selector_is_listed_with_what_it_needs() -> None:
    result = CliRunner().invoke(app, ["selectors", "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    lines = {line["name"]: line for line in map(json.loads, result.stdout.splitlines()) if "name" in line}
    assert tuple(lines) == SELECTORS.names
    assert lines["aks"]["needs"] == ["scores"]
    assert lines["aks"]["options"] == {"depth": 5, "threshold": 0.8, "least_std": -100.0}
    assert lines["mdp3"]["needs"] == ["embeddings", "query"]
    assert (lines["focus"]["draws"], lines["focus"]["seed"], lines["aks"]["seed"]) == (True, 42, None)
    assert lines["adard_key"]["partial"]
    assert lines["coverage"]["takes"] == ["similarities", "gens_scores"]


def test_the_kinds_of_scores_are_listed_with_what_they_need() -> None:
    result = CliRunner().invoke(app, ["selectors", "--json"], catch_exceptions=False)
    lines = {line["scores"]: line for line in map(json.loads, result.stdout.splitlines()) if "scores" in line}
    assert tuple(lines) == SCORERS.names
    assert lines["clip"]["checkpoint"] == "optional"
    assert lines["blip-itm"]["checkpoint"] == "needed"
    assert "BlipForImageTextRetrieval" in lines["blip-itm"]["needs"]
    assert set(lines["yes"]["options"]) == {"of"}


def test_people_get_a_table() -> None:
    result = CliRunner().invoke(app, ["selectors"], catch_exceptions=False)
    assert result.exit_code == 0
    for name in (*SELECTORS.names, *SCORERS.names):
        assert name in result.stdout
    assert "q_frame, focus" in result.stdout
    for option in ("depth=5", "threshold=0.8", "power=3.0", "seed=42", "faithful"):
        assert option in result.stdout
