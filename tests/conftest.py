"""What all tests share: a place for real videos, small checkpoints, and no way out to a model hub."""

from __future__ import annotations

import os

# Before anything imports a model library: tests must not wait for a hub, and two OpenMP threads
# that spin while another process holds a core are ten times slower than ones that sleep.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Workers that run tests beside one another have one core each.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A machine may be slow or busy; no test is to fail for that.
settings.register_profile("random", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# Nor for an example that nobody asked for: a change is judged by the same examples as the one before it.
# New ones are looked for with: make tests ARGS=--hypothesis-profile=random
settings.register_profile("repeated", parent=settings.get_profile("random"), derandomize=True)
settings.load_profile("repeated")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The developers' folder with real videos, beside the checkout (``HYBRID_SHARED`` overrides it)."""
    folder = Path(os.environ.get("HYBRID_SHARED", REPOSITORY.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"the developers' data is not here ({folder}); set HYBRID_SHARED to the folder that holds data/")
    return folder


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is the same for all workers of a run (``pytest -n``)."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained open_clip checkpoint."""
    from hybrid.testing.untrained_clip import make_untrained_clip

    return make_untrained_clip(tmp_path_factory.mktemp("clip") / "tiny-clip")


@pytest.fixture(scope="session")
def gens_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained checkpoint of Qwen2.5-VL's architecture."""
    from hybrid.testing.untrained_gens import make_untrained_gens

    folder = tmp_path_factory.mktemp("gens") / "tiny-gens"
    make_untrained_gens(folder)
    return folder


@pytest.fixture(autouse=True)
def no_logged_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A test in which hybrid logged an error has failed, whatever it asserted."""
    yield
    errors = [r for r in caplog.records if r.levelno >= logging.ERROR and r.name.split(".")[0] in ("hybrid", "indexes")]
    assert not errors, f"logged: {[record.getMessage() for record in errors]}"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """GPU tests skip without a GPU, loudly; on a machine that must have one they fail."""
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if torch.cuda.is_available():
        return
    if os.environ.get("HYBRID_REQUIRE_CUDA") == "1":
        pytest.fail("HYBRID_REQUIRE_CUDA=1, but torch sees no CUDA device", pytrace=False)
    pytest.skip("needs a CUDA device; this machine has none")
