"""The comparison of selectors on several moments: its simulated scores, and that it counts what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.accuracy.coverage import (
    CONDITIONS,
    METHODS,
    OURS,
    Condition,
    _print,
    main,
    methods_for,
    moment_group,
    run_methods,
    score_cases,
)
from bench.accuracy.coverage_cases import WINDOW, Case, Length, make_cases, noisy_similarities, simulated_gens
from hybrid.clip.registry import load_encoder
from hybrid.errors import InputError
from hybrid.presets import PRESETS


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    folder: Path = tmp_path_factory.mktemp("embeddings")
    encoder = load_encoder(PRESETS["tiny"].encoder, device="cpu")
    length = Length(60.0, 8, 1)
    made = list(make_cases("validation", length, encoder, folder, per_kind=2))
    again = list(make_cases("validation", length, encoder, folder, per_kind=2))  # from what was kept
    assert all((one.embeddings == other.embeddings).all() for one, other in zip(made, again, strict=True))
    return made


def test_cases_know_their_moments(cases: list[Case]) -> None:
    assert {moment_group(case) for case in cases} >= {"1", "2"}
    for case in cases:
        every = np.arange(len(case.scenes))
        assert case.recall(every) == 1.0
        assert case.recall(np.zeros(0, dtype=np.int64)) == 0.0
        answering = np.flatnonzero(case.truth == 5)
        assert case.recall(answering) == 1.0
        start, end = case.moments[0]
        assert case.recall(answering[(answering >= start) & (answering < end)]) == pytest.approx(1 / len(case.moments))


def test_a_gens_without_errors_says_the_truth(cases: list[Case]) -> None:
    for case in cases:
        scores = simulated_gens(case, case.similarities, 0.0, np.random.default_rng(0))
        assert (scores == case.truth).all()


def test_errors_come_at_their_rate_and_only_where_it_reads(cases: list[Case]) -> None:
    rng = np.random.default_rng(0)
    missed, relevant = 0, 0
    for _ in range(200):
        for case in cases:
            scores = simulated_gens(case, case.similarities, 0.3, rng)
            assert ((scores >= 0) & (scores <= 5)).all()
            for scene in np.unique(case.scenes[case.truth > 0]):
                inside = case.scenes == scene
                relevant += 1
                missed += not scores[inside].any()
    # A missed scene can still be named as a neighbour's edge, so that a little less than the rate shows.
    assert 0.22 < missed / relevant < 0.32
    vectors = np.eye(900, 2, dtype=np.float32)
    long = Case("v", 900.0, "object", ((0.0, 5.0),), np.arange(900) // 5, np.full(900, 5), vectors, vectors[0])
    assert np.count_nonzero(simulated_gens(long, np.arange(900.0), 0.0, rng)) == WINDOW


def test_noise_is_shared_by_the_frames_of_a_scene(cases: list[Case]) -> None:
    case = cases[0]
    rng = np.random.default_rng(0)
    errors = np.array([noisy_similarities(case, 1.0, rng) - case.similarities for _ in range(400)])
    spread = case.similarities.std()
    assert errors.std() / spread == pytest.approx(np.sqrt(1.25), rel=0.05)
    same = case.scenes == case.scenes[0]
    within = np.corrcoef(errors[:, same].T)[0, 1:]
    across = np.corrcoef(errors[:, ~same].T[:20], errors[:, 0])[-1, :-1]
    assert within.min() > 0.6
    assert np.abs(across).max() < 0.3


def test_every_method_is_run_on_every_question(cases: list[Case]) -> None:
    for condition in (*CONDITIONS, Condition(0.0, 0.0)):
        methods = methods_for(condition)
        assert ("mdp3" in methods) == (condition.noise == 0)  # it would look past the noise
        outcomes = run_methods(score_cases(cases, condition), methods, 8)
        assert {len(outcome.recalls) for outcome in outcomes.values()} == {len(cases)}
    exact = outcomes[OURS].recalls  # of a GenS without errors
    assert min(exact) == 1.0
    assert np.mean(outcomes["uniform"].recalls) < 1.0


def test_the_table_holds_the_p_values_of_rivals(capsys: pytest.CaptureFixture[str]) -> None:
    assert {"tass clip", "tass both", "coverage clip", "mdp3"} <= METHODS.keys()
    figures = {"median_milliseconds": 0.5, "3+ moments": {"recall": [0.9, 0.8, 1.0], "all_hit": [0.8, 0.7, 0.9]}}
    versus = {"tass clip": {"3+ moments": {"all_hit": [0.067, 0.011, 0.119, 0.046]}}}
    _print("title", {"methods": {OURS: figures, "tass clip": figures}, "coverage_minus": versus})
    ours, tass = capsys.readouterr().out.splitlines()[-2:]
    assert "+6.7 [1.1, 11.9], p 0.0460" in tass
    assert " p " not in ours


@pytest.mark.parametrize("wrong", [("--budget", "0"), ("--per-kind", "0"), ("--videos", "1", "0", "1")])
def test_what_cannot_be_run_is_said_before_any_work(tmp_path: Path, wrong: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="is 0; it must be at least 1"):
        main(["--folder", str(tmp_path / "embeddings"), *wrong])
    assert list(tmp_path.iterdir()) == []
