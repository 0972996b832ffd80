"""The table of moment recall, to the printed digit, from the published selections."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.accuracy import moments
from bench.accuracy.moments import METHODS, Case, groups, load_cases, measure, measure_by_moments
from bench.metrics.bootstrap import Estimate

# micro (macro) recall in % within 1/2/5 s, in the order of METHODS.
TABLE = {
    "all": (
        "63.2/70.5/77.7 (71.0/77.6/83.2)",
        "63.2/69.3/76.3 (70.1/75.9/81.4)",
        "41.0/56.5/80.5 (42.5/57.8/80.4)",
        "55.3/62.5/70.6 (62.9/70.0/77.0)",
        "32.9/40.7/61.8 (35.2/42.4/63.1)",
    ),
    "group 600": (
        "62.1/73.3/84.1 (73.0/82.5/89.6)",
        "61.8/70.5/80.6 (71.1/79.5/86.6)",
        "37.4/68.4/100.0 (36.6/68.5/100.0)",
        "48.8/60.6/74.1 (58.6/69.9/81.2)",
        "21.4/38.3/81.0 (21.5/37.9/81.1)",
    ),
    "group 3600": (
        "44.2/51.8/60.5 (51.9/59.8/67.6)",
        "43.5/51.1/59.8 (50.2/57.8/65.8)",
        "11.1/23.2/55.2 (10.8/22.8/53.7)",
        "36.5/42.9/51.4 (43.8/51.0/59.1)",
        "4.2/8.9/26.1 (4.5/8.8/26.3)",
    ),
    "candidates > 64": (
        "51.8/60.9/70.5 (60.8/69.4/76.9)",
        "51.3/59.3/68.6 (59.0/67.0/74.5)",
        "22.3/42.4/74.2 (21.7/42.1/73.2)",
        "41.7/50.4/61.0 (50.1/59.0/68.5)",
        "11.5/21.4/49.4 (11.6/21.1/49.4)",
    ),
}
SHORT_MICRO = {
    "group 15": ("98.7/100.0/100.0", "100.0/100.0/100.0", "98.7/100.0/100.0", "98.7/100.0/100.0", "98.7/100.0/100.0"),
    "group 60": ("98.3/100.0/100.0", "100.0/100.0/100.0", "98.6/100.0/100.0", "95.8/99.3/100.0", "99.0/100.0/100.0"),
}
SIZES = {"all": 1337, "group 15": 189, "group 60": 172, "group 600": 412, "group 3600": 564, "candidates > 64": 976}


@pytest.fixture(scope="module")
def cases(shared_data: Path) -> list[Case]:
    return load_cases(shared_data / "longvideobench")


def percent(estimates: dict[str, Estimate]) -> str:
    return "/".join(f"{100 * estimate.value:.1f}" for estimate in estimates.values())


def test_the_table(cases: list[Case]) -> None:
    parts = groups(cases)
    assert {name: len(part) for name, part in parts.items()} == SIZES
    for name, row in TABLE.items():
        measured = [measure(parts[name], method, resamples=2) for method in METHODS]
        assert tuple(f"{percent(m['micro'])} ({percent(m['macro'])})" for m in measured) == row
    for name, row in SHORT_MICRO.items():
        assert tuple(percent(measure(parts[name], method, resamples=2)["micro"]) for method in METHODS) == row


def test_there_are_as_many_moments_and_videos(cases: list[Case]) -> None:
    assert sum(len(case.question.moments_seconds) for case in cases) == 2395
    assert len({case.question.video for case in cases}) == 753


@pytest.mark.parametrize(
    ("method", "one", "two", "hit_two", "three", "hit_three"),
    [
        ("AKS-64", "75.9/83.8/87.5", "57.3/65.3/74.3", "47.7", "27.8/39.5/54.2", "11.2"),
        ("TSPO-64", "72.7/80.6/85.4", None, None, None, "11.2"),
        ("uniform-64", "22.6/44.9/75.2", None, "21.2", "23.9/43.9/78.5", "15.6"),
    ],
)
def test_by_number_of_moments(
    cases: list[Case],
    method: str,
    one: str,
    two: str | None,
    hit_two: str | None,
    three: str | None,
    hit_three: str,
) -> None:
    rows = measure_by_moments(cases, method, resamples=2)
    sizes = [rows[name]["recall@1"].questions for name in ("1", "2", "3+")]
    assert sizes == [439, 377, 160]
    printed = {name: percent({k: e for k, e in row.items() if k.startswith("recall")}) for name, row in rows.items()}
    hits = {name: f"{100 * row['all-hit@2'].value:.1f}" for name, row in rows.items()}
    expected = [(one, printed["1"]), (two, printed["2"]), (three, printed["3+"])]
    expected += [(hit_two, hits["2"]), (hit_three, hits["3+"])]
    for wanted, found in expected:
        assert wanted in (None, found)


def test_the_benchmark_ends_with_one_line_of_json(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "moments.json"
    moments.main(["--data", str(shared_data / "longvideobench"), "--resamples", "20", "--out", str(out)])
    printed = capsys.readouterr().out.splitlines()
    document = json.loads(printed[-1])
    assert document == json.loads(out.read_text())
    assert document["recall"]["all"]["AKS-64"]["micro"]["1"]["questions"] == 1337
    assert any(line.startswith("candidates > 64: AKS-64 - uniform-64 @1 s: +29.5") for line in printed)
