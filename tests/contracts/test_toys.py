"""Adding a selector or a scorer takes one file and one line: two worked examples, used through the public face.

The files are written to a package of the test's own, so that their line is a call of ``register``; within the project
it is a line of ``hybrid/selectors/registry.py`` or ``hybrid/scorers/registry.py``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from hybrid import Engine
from hybrid.cli.app import app
from hybrid.demo import demo_video
from hybrid.errors import InputError
from hybrid.frames.registry import open_source
from hybrid.scorers.registry import SCORERS
from hybrid.selectors.registry import SELECTORS
from hybrid.values import Sampling
from tests.contracts.conftest import Toy

QUESTION = "When can the green star be seen?"

SELECTOR_FILE = '''
    """Latest: the last frames of the video."""

    import numpy as np

    from hybrid.selectors.selector import Selector


    def latest(seconds, frames, *, step: int = 1):
        return np.arange(len(seconds))[::-step][:frames]


    SELECTOR = Selector(latest, summary="the last frames", source="an example")
'''

SCORER_FILE = '''
    """Brightness: how bright a frame is, whatever the question."""

    import numpy as np

    from hybrid.scorers.interface import ScorerKind, checked


    class Brightness:
        device = "cpu"

        def __init__(self, loading):
            self.name = loading.name
            self.identity = {"scorer": "brightness", "channel": loading.checkpoint}
            self._channel = "rgb".index(loading.checkpoint)

        def score(self, frames, questions):
            means = [frame[..., self._channel].mean() for frame in checked(frames, questions)]
            return np.tile(np.array(means, dtype=np.float64), (len(questions), 1))


    SCORER = ScorerKind(
        name="brightness", load=Brightness, summary="how bright a frame is", needs="r, g or b", source="an example"
    )
'''


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toys") / "archive"
    Engine.open(folder, preset="tiny", device="cpu").index(demo_video())
    return folder


def hybrid(archive: Path, *arguments: str) -> Result:
    return CliRunner().invoke(
        app,
        ["ask", str(demo_video()), QUESTION, "--archive", str(archive), "--preset", "tiny", "--no-fine", *arguments],
    )


def test_adding_a_selector_takes_one_file_and_one_line(toy: Toy, archive: Path) -> None:
    toy(SELECTORS, "latest", SELECTOR_FILE)
    engine = Engine.open(archive, preset="tiny", device="cpu")
    everything = engine.ask(demo_video(), QUESTION, frames=10_000, fine=False, select="uniform")
    last = [frame.ordinal for frame in everything.frames][-1]
    answer = engine.ask(demo_video(), QUESTION, frames=3, fine=False, select="latest:step=2")
    assert [frame.ordinal for frame in answer.frames] == [last - 4, last - 2, last]
    assert answer.stages[-1].details["options"] == {"step": 2}

    run = hybrid(archive, "--frames", "3", "--select", "latest:step=2", "--json")
    assert run.exit_code == 0, run.output
    assert [frame["ordinal"] for frame in json.loads(run.stdout)["frames"]] == [last - 4, last - 2, last]
    listed = CliRunner().invoke(app, ["selectors", "--json"]).stdout
    assert '"name": "latest"' in listed
    with pytest.raises(InputError, match=r"latest has no option 'steps'; its options are: step=1"):
        engine.ask(demo_video(), QUESTION, frames=3, fine=False, select="latest:steps=2")
    with pytest.raises(InputError, match=r"there is no selector 'lates'; did you mean 'latest'\?"):
        engine.ask(demo_video(), QUESTION, frames=3, fine=False, select="lates")


def test_adding_a_scorer_takes_one_file_and_one_line(toy: Toy, archive: Path) -> None:
    toy(SCORERS, "brightness", SCORER_FILE)
    with open_source(demo_video(), Sampling()) as source:
        batches = list(source.read())
    red = np.concatenate([batch.rgb[..., 0].mean(axis=(1, 2)) for batch in batches])
    ordinals = np.concatenate([batch.ordinals for batch in batches])
    best = sorted(ordinals[np.argsort(-red, kind="stable")[:3]].tolist())

    engine = Engine.open(archive, preset="tiny", device="cpu")
    answer = engine.ask(demo_video(), QUESTION, frames=3, fine=False, select="top_k", scores="brightness:r")
    assert [frame.ordinal for frame in answer.frames] == best
    stage = next(stage for stage in answer.stages if stage.name == "scores")
    assert (stage.ran, stage.model) == (True, "brightness:r")

    run = hybrid(archive, "--frames", "3", "--select", "top_k", "--scores", "brightness:r", "--json")
    assert run.exit_code == 0, run.output
    assert [frame["ordinal"] for frame in json.loads(run.stdout)["frames"]] == best
    assert '"scores": "brightness"' in CliRunner().invoke(app, ["selectors", "--json"]).stdout
    refused = hybrid(archive, "--select", "top_k", "--scores", "bright:r")
    assert isinstance(refused.exception, InputError)
    assert "there is no scorer 'bright'; did you mean 'brightness'?" in str(refused.exception)
