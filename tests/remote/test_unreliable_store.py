"""An object store that refuses, cuts off or delays a share of the requests, and one that is away for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hybrid.engine import Engine
from hybrid.engine.batch.run import index_here
from hybrid.errors import ArchiveUnreachableError
from hybrid.options.engine import EngineOptions
from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive
from indexes.open_archive import open_archive
from indexes.remote import patience
from indexes.remote.patience import FIRST_ANSWER_SECONDS, PATIENCE_SECONDS, Patience
from tests.demo_clip import write_many_clips
from tests.engine.test_run import Listener
from tests.engine.test_search import ColourEncoder
from tests.indexes.archive_samples import some_index, video_id
from tests.remote.conftest import Machine
from tests.remote.unreliable_proxy import Faults, UnreliableProxy

FIFTHS = {
    "answers 503": Faults(unavailable=0.2),
    "does it and answers 503": Faults(late=0.2),
    "cuts connections": Faults(cut=0.2),
}


@pytest.fixture
def proxy(s3_endpoint: str, uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[UnreliableProxy]:
    """Between this process and the server; faultless at first."""
    with UnreliableProxy(s3_endpoint) as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL", made.address)
        yield made


@pytest.mark.parametrize("faults", FIFTHS.values(), ids=FIFTHS.keys())
def test_a_fifth_of_the_requests_fails(proxy: UnreliableProxy, uri: str, machine: Machine, faults: Faults) -> None:
    proxy.faults = faults
    with open_archive(uri, backend="lancedb") as archive:
        for number in (1, 2):
            archive.commit(video_id(number), NewIndex(**some_index(number)))
        archive.remove(video_id(2))
    assert proxy.failed > 10
    proxy.faults = Faults()
    machine("two")
    with open_archive(uri) as archive:
        assert [archive.verify(m.video_id).video_id for m in archive.manifests()] == [video_id(1)]
        assert [key.video_id for key in archive.store.keys()] == [video_id(1)]  # noqa: SIM118
        assert not [name for name, _ in archive.stored_files() if name.startswith("pending/")]


def test_a_run_with_a_fifth_of_503_answers_ends(proxy: UnreliableProxy, uri: str, tmp_path: Path) -> None:
    clips = sorted(write_many_clips(tmp_path / "clips", 3).iterdir())
    proxy.faults = Faults(unavailable=0.2)
    began = time.monotonic()
    with Engine(open_archive(uri, backend="lancedb"), EngineOptions(device="cpu"), encoder=ColourEncoder()) as engine:
        summary = index_here(engine, clips, Listener())
    assert [outcome.status for outcome in summary.outcomes] == ["done"] * 3
    assert proxy.failed > 10
    assert time.monotonic() - began < 60


def test_a_slow_store(proxy: UnreliableProxy, uri: str) -> None:
    proxy.faults = Faults(delay_seconds=0.05)
    with open_archive(uri, backend="lancedb") as archive:
        archive.commit(video_id(1), NewIndex(**some_index(1)))
        archive.verify(video_id(1))


ACTIONS: dict[str, Callable[[Archive], object]] = {
    "search": lambda archive: archive.search(video_id(1), some_index(1)["vectors"][0], 3),
    "list": lambda archive: list(archive.manifests()),
    "commit": lambda archive: archive.commit(video_id(2), NewIndex(**some_index(2))),
}


def test_an_outage_of_some_seconds_is_waited_for(proxy: UnreliableProxy, uri: str) -> None:
    with open_archive(uri, backend="lancedb") as archive:
        archive.commit(video_id(1), NewIndex(**some_index(1)))
        for name in ("search", "commit"):
            proxy.faults = Faults(unavailable=1.0)
            back = threading.Timer(3.0, lambda: setattr(proxy, "faults", Faults()))
            back.start()
            began = time.monotonic()
            ACTIONS[name](archive)
            back.join()
            assert 2.5 < time.monotonic() - began < PATIENCE_SECONDS, name
        archive.verify(video_id(2))


def test_an_outage_that_does_not_end_is_an_error_in_bounded_time(
    proxy: UnreliableProxy, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_archive(uri, backend="lancedb") as archive:
        archive.commit(video_id(1), NewIndex(**some_index(1)))
        monkeypatch.setattr(patience, "PATIENCE_SECONDS", 1.0)
        for name, faults in {
            "search": Faults(cut=1.0),
            "list": Faults(cut=1.0),
            "commit": Faults(unavailable=1.0),
        }.items():
            proxy.faults = Faults()
            archive.refresh()  # it answers
            proxy.faults = faults
            began = time.monotonic()
            with pytest.raises(ArchiveUnreachableError, match=uri):
                ACTIONS[name](archive)
            # Each step of cleaning up fails at the first try of its own.
            assert time.monotonic() - began < 20, name
        proxy.faults = Faults()
        archive.verify(video_id(1))
        archive.commit(video_id(2), NewIndex(**some_index(2)))


def test_patience_ends_whatever_is_answered_meanwhile() -> None:
    now = 0.0

    def wait(seconds: float) -> None:
        nonlocal now
        now += seconds

    def silent() -> None:
        wait(1.0)
        raise ArchiveUnreachableError("no answer")

    asked = Patience(clock=lambda: now, sleep=wait)
    with pytest.raises(ArchiveUnreachableError):
        asked.ask(silent)
    assert FIRST_ANSWER_SECONDS <= now <= FIRST_ANSWER_SECONDS + 2
    asked.ask(lambda: None)

    def silent_to_this_one() -> None:
        asked.ask(lambda: None)
        silent()

    for action in (silent, silent_to_this_one):
        began = now
        with pytest.raises(ArchiveUnreachableError):
            asked.ask(action)
        assert PATIENCE_SECONDS <= now - began <= PATIENCE_SECONDS + 6
    began = now
    asked.ask(lambda: None)
    with pytest.raises(ArchiveUnreachableError):
        asked.ask(silent)
    ended = now
    with pytest.raises(ArchiveUnreachableError):
        asked.ask(silent)
    assert now - ended == 1.0  # what follows does not wait again
