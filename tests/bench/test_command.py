"""What the commands of the benchmarks have in common."""

from argparse import Namespace

import pytest

from bench.command import check_counts, make_parser, run_command
from hybrid.errors import InputError


@pytest.mark.parametrize("value", [1, 2, 0.5 + 0.5, None, [], [1, None, 3]])
def test_counts_of_at_least_one_pass(value: object) -> None:
    check_counts(Namespace(per_kind=value), "per_kind")


@pytest.mark.parametrize(("value", "number"), [(0, "0"), (-1, "-1"), (0.5, "0.5"), ([4, 0], "0")])
def test_a_count_below_one_is_refused_under_its_options_name(value: object, number: str) -> None:
    with pytest.raises(InputError, match=f"^--per-kind is {number}; it must be at least 1$"):
        check_counts(Namespace(videos=1, per_kind=value), "videos", "per_kind")


def test_a_parser_is_described_by_the_first_line() -> None:
    parser = make_parser("What it measures.\n\nMore of it.")
    assert parser.description == "What it measures."
    assert parser.parse_args([]).out is None
    assert not hasattr(make_parser(None, out=False).parse_args([]), "out")


def test_an_error_of_the_project_ends_a_command_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.command.settle_process", lambda: None)

    def refuse() -> None:
        raise InputError("frames is 0")

    with pytest.raises(SystemExit, match=r": frames is 0$"):
        run_command(refuse)
    with pytest.raises(SystemExit) as stopped:
        run_command(lambda: 3)
    assert stopped.value.code == 3
