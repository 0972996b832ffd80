"""Every selector against the golden numbers: what the authors' code (REF) or a restatement of it (PORT) gave.

The inputs are made here from their formulas; ``tests/data/selectors_golden.json`` holds the outputs.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid.selectors.candidates import Candidates
from hybrid.selectors.dig import dig_frames, dig_spans
from hybrid.selectors.f2c import f2c_peaks
from hybrid.selectors.focus import focus, focus_survey
from hybrid.selectors.mdp3 import mdp3
from hybrid.selectors.registry import select
from hybrid.selectors.tass import tass

DATA = Path(__file__).parent.parent / "data"
GOLDEN: dict[str, Any] = json.loads((DATA / "selectors_golden.json").read_text())

STEPS = np.arange(100)
INPUTS = {
    "perm": ((37 * STEPS) % 101) / 101,
    "smooth": np.round(0.5 + 0.35 * np.sin(STEPS / 7) + 0.15 * np.cos(STEPS / 2.3), 6),
}
SECONDS = STEPS.astype(np.float64)

RULES: dict[str, tuple[str, dict[str, float]]] = {
    "REF topk": ("top_k", {}),
    "REF stratified_argmax": ("stratified", {}),
    "REF AKS t1=0.8 depth=5": ("aks", {"threshold": 0.8, "depth": 5}),
    "REF AKS t1=0.2 depth=3": ("aks", {"threshold": 0.2, "depth": 3}),
    "REF AKS t1=0.8 depth=3": ("aks", {"threshold": 0.8, "depth": 3}),
    "REF BOLT power=-1": ("bolt", {"power": -1}),
    "REF BOLT power=2.5": ("bolt", {"power": 2.5}),
    "REF BOLT power=3": ("bolt", {"power": 3}),
    "PORT TSPO bin-max": ("bin_max", {}),
}
CASE = re.compile(rf"({'|'.join(map(re.escape, RULES))}) (perm|smooth) K=(\d+)")
SCORE_CASES = [key for key in GOLDEN if CASE.fullmatch(key)]
TASS_CASES = [key for key in GOLDEN if key.startswith("PORT TASS")]


@pytest.mark.parametrize("key", SCORE_CASES)
def test_rules_over_scores(key: str) -> None:
    match = CASE.fullmatch(key)
    assert match is not None
    name, options = RULES[match[1]]
    candidates = Candidates(seconds=SECONDS, scores=INPUTS[match[2]])
    assert select(name, candidates, int(match[3]), faithful=True, **options).tolist() == GOLDEN[key]


@pytest.mark.parametrize("key", TASS_CASES)
def test_tass(key: str) -> None:
    match = re.fullmatch(r"PORT TASS 1fps (\w+) K=(\d+) \(pick order\)", key)
    assert match is not None
    scores, frames = INPUTS[match[1]], int(match[2])
    assert tass(scores, SECONDS, frames).tolist() == GOLDEN[key]
    candidates = Candidates(seconds=SECONDS, scores=scores)
    assert select("tass", candidates, frames).tolist() == sorted(GOLDEN[key])


@pytest.mark.parametrize("name", INPUTS)
def test_dig(name: str) -> None:
    rewards = np.round(100 * INPUTS[name][:20])
    spans = dig_spans(rewards, np.arange(0, 1001, 50), faithful=True)
    assert [list(span) for span in spans] == GOLDEN[f"REF DIG rewards=round(100*{name}[:20]) boundaries=0,50..1000"]
    assert dig_frames(spans, 8).tolist() == GOLDEN[f"REF DIG frames {name} K=8"]


@pytest.mark.parametrize("name", INPUTS)
def test_f2c_peaks(name: str) -> None:
    assert f2c_peaks(INPUTS[name]).tolist() == GOLDEN[f"PORT F2C candidate peaks {name}"]


@pytest.mark.parametrize("name", INPUTS)
def test_focus(name: str) -> None:
    def similarity(frames: np.ndarray) -> np.ndarray:
        scores: np.ndarray = INPUTS[name][frames // 30]
        return scores

    expected = GOLDEN[f"REF FOCUS {name}[frame//30], 3000 frames 30fps, K=16, default_rng(0), gap 0"]
    chosen = focus(np.arange(3000) / 30, similarity, 16, gap_seconds=0, seed=0, faithful=True)
    assert chosen.tolist() == expected
    scored, arms, samples = GOLDEN[f"REF FOCUS {name}: budget used, arms"]
    survey = focus_survey(3000, 30.0, similarity, np.random.default_rng(0), faithful=True)
    assert (len(survey.rows), len(survey.arms)) == (scored, arms)
    assert [len(arm.rows) for arm in survey.arms] == samples


FOCUS_CASES: list[dict[str, Any]] = json.loads((DATA / "focus_golden.json").read_text())["cases"]


@pytest.mark.parametrize("case", FOCUS_CASES, ids=[f"{c['total_frames']} frames, K={c['frames']}" for c in FOCUS_CASES])
def test_focus_at_other_lengths_rates_and_gaps(case: dict[str, Any]) -> None:
    frame = np.arange(case["total_frames"])
    scores = np.round(0.5 + 0.35 * np.sin(frame / 97) + 0.15 * np.cos(frame / 13.7), 6)
    chosen = focus(frame / case["fps"], lambda rows: scores[rows], case["frames"], seed=case["seed"], faithful=True)
    assert chosen.tolist() == case["expected"]


def test_mdp3() -> None:
    i = np.arange(40)
    vectors = np.stack([np.cos(0.3 * i), np.sin(0.3 * i), np.cos(0.05 * i), np.sin(0.05 * i), np.full(40, 0.2)], axis=1)
    query = np.array([1, 0, 0.5, 0.5, 0.2])
    vectors, query = vectors / np.linalg.norm(vectors, axis=1, keepdims=True), query / np.linalg.norm(query)
    expected = GOLDEN["PORT MDP3 toy embeddings (n=40, see source), K=6, pick order"]
    assert mdp3(vectors, query, 6).tolist() == expected
    candidates = Candidates(seconds=np.arange(40.0), embeddings=vectors, query=query)
    assert select("mdp3", candidates, 6).tolist() == GOLDEN["same, sorted"]


def test_no_golden_number_is_left_out() -> None:
    elsewhere = [key for key in GOLDEN if re.search("DIG|F2C|FOCUS|MDP3|same, sorted", key)]
    assert sorted([*SCORE_CASES, *TASS_CASES, *elsewhere]) == sorted(GOLDEN)
    assert len(SCORE_CASES) == 38
