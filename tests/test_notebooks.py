"""The notebooks run from top to bottom, and are kept without outputs."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("place", NOTEBOOKS, ids=lambda place: place.stem)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
def test_a_notebook_runs(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    traitlets_config = pytest.importorskip("traitlets.config")
    kernelspec = tmp_path / "kernels" / "this-python"
    kernelspec.mkdir(parents=True)
    # The kernel must be this very interpreter, whatever kernels the machine has.
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernelspec / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "test", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("HYBRID_CACHE", str(tmp_path / "cache"))
    notebook = nbformat.read(place, as_version=4)
    # Ports that were free when they were chosen need not be when the kernel listens on them; names of sockets are its
    # own. They must be short.
    with tempfile.TemporaryDirectory(prefix="kernel-") as sockets:
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", sockets)
        options = traitlets_config.Config({"KernelManager": {"transport": "ipc"}})
        client = nbclient.NotebookClient(
            notebook, timeout=280, startup_timeout=280, kernel_name="this-python", config=options
        )
        client.execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in shown)


@pytest.mark.parametrize("place", NOTEBOOKS, ids=lambda place: place.stem)
def test_a_notebook_is_kept_without_outputs(place: Path) -> None:
    cells = json.loads(place.read_text())["cells"]
    assert all(not cell.get("outputs") for cell in cells)
