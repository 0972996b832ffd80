"""What keeps a training of the tiny models from going wrong unseen: plans, logs, files, numbers that are none."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed

from bench.world.things import SEEN_THINGS, Thing
from bench.world.training import vision as train_vision
from bench.world.training.bank import Bank, bank_of
from bench.world.training.checkpointing import (
    Means,
    Progress,
    Run,
    TrainingFailedError,
    save_whole,
    stop_unless_finite,
)
from bench.world.training.gens import Plan, agree_on_steps, train
from bench.world.training.pictures import NOT_LABELLED, stream_pictures
from bench.world.training.windows import Lesson, draw_window
from hybrid.errors import InputError
from tests.forked import fork_server

PLAN = {"steps": 100, "peak": 1e-3}


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_run_goes_on_with_its_own_plan_only(tmp_path: Path) -> None:
    Run(tmp_path, "clip", plan=PLAN).save({"step": 40}, now=True)
    state = Run(tmp_path, "clip", plan=dict(PLAN)).resume()
    assert state is not None
    assert state["step"] == 40
    other = {**PLAN, "peak": 2e-3}
    with pytest.raises(InputError, match=r"another plan, at step 40: peak was 0.001 and is 0.002.*--replan"):
        Run(tmp_path, "clip", plan=other).resume()
    assert not (tmp_path / "clip.jsonl").exists()
    assert Run(tmp_path, "clip", plan=other, replan=True, logs=False).resume() is not None
    assert not (tmp_path / "clip.jsonl").exists()
    assert Run(tmp_path, "clip", plan=other, replan=True).resume() is not None
    assert lines(tmp_path, "clip")[0]["replanned"] == {"peak": [0.001, 0.002]}


def test_a_state_that_does_not_say_its_plan_is_not_taken_for_granted(tmp_path: Path) -> None:
    torch.save({"step": 7, "seconds": 1.0}, tmp_path / "clip.pt")
    with pytest.raises(InputError, match="it does not say which"):
        Run(tmp_path, "clip", plan=PLAN).resume()


def test_a_write_that_is_interrupted_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "bank.pt"
    save_whole({"features": torch.ones(3)}, place)

    def interrupted(state: Any, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            save_whole({"features": torch.zeros(3)}, place)
    assert torch.load(place, weights_only=True)["features"].tolist() == [1, 1, 1]


def test_means_are_over_the_steps_that_there_were() -> None:
    means = Means()
    for value in (1.0, 2.0, 6.0):
        means.add(text=torch.tensor(value), pointing=torch.tensor(10 * value))
    assert means.take() == {"text": 3.0, "pointing": 30.0}
    means.add(text=torch.tensor(5.0))
    assert means.take() == {"text": 5.0}
    assert means.take() == {}


@pytest.mark.parametrize(("loss", "gradient"), [(float("nan"), 1.0), (1.0, float("inf"))])
def test_what_is_no_number_stops_the_training(loss: float, gradient: float) -> None:
    stop_unless_finite(3, loss=torch.tensor(1.0), gradient=torch.tensor(1.0), peak=0.1)
    with pytest.raises(TrainingFailedError, match=r"of step 4 is (nan|inf).*--peak, now 0.1"):
        stop_unless_finite(3, loss=torch.tensor(loss), gradient=torch.tensor(gradient), peak=0.1)


def begin(folder: Path, state: dict[str, Any] | None = None) -> tuple[torch.nn.Linear, Progress]:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=7.0, momentum=0.5)
    run = Run(folder, "line", plan=PLAN, logs=False)
    parameters = list(model.parameters())
    return model, Progress(run, state, optimizer, {"model": model}, parameters, steps=4, peak=1.0, warm_up=2)


def test_a_step_goes_down_the_clipped_gradient_at_the_rate_of_its_step(tmp_path: Path) -> None:
    model, progress = begin(tmp_path)
    progress.take(0, 100 * model.weight.sum())
    # A gradient of 100 is clipped to 1; the rate is half of its peak, of a warm-up of two steps.
    assert model.weight.item() == pytest.approx(-0.5, abs=1e-4)
    progress.take(1, 0.2 * model.weight.sum())
    # The momentum keeps half of the last step; the gradients of two steps are not added up.
    assert model.weight.item() == pytest.approx(-0.5 - 1.0 * (0.2 + 0.5), abs=1e-4)


def test_the_gradients_of_all_processes_are_shared_before_they_are_clipped(tmp_path: Path) -> None:
    model, progress = begin(tmp_path)

    def share() -> None:
        assert model.weight.grad is not None
        model.weight.grad.fill_(-3.0)

    progress.take(0, model.weight.sum(), share=share)
    assert model.weight.item() == pytest.approx(0.5, abs=1e-4)


def test_a_loss_that_is_no_number_spoils_no_weight(tmp_path: Path) -> None:
    model, progress = begin(tmp_path)
    with pytest.raises(TrainingFailedError, match="of step 1 is nan"):
        progress.take(0, model.weight.sum() * torch.nan)
    assert model.weight.item() == 0


def test_a_training_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path) -> None:
    straight, progress = begin(tmp_path / "straight")
    for step in range(progress.first, 4):
        progress.take(step, straight.weight.sum())
    stopped, progress = begin(tmp_path / "stopped")
    for step in range(2):
        progress.take(step, stopped.weight.sum())
    saved = {"model": stopped.state_dict(), "optimizer": progress._optimizer.state_dict(), "step": 2}
    torch.save(saved, tmp_path / "state.pt")
    resumed, progress = begin(tmp_path / "stopped", torch.load(tmp_path / "state.pt", weights_only=True))
    assert progress.first == 2
    for step in range(progress.first, 4):
        progress.take(step, resumed.weight.sum())
    assert resumed.weight.item() == straight.weight.item()
    assert progress.save(3)
    state = Run(tmp_path / "stopped", "line", plan=PLAN).resume()
    assert state is not None
    assert state["step"] == 4


def test_what_happens_every_few_steps_happens_after_the_last_too(tmp_path: Path) -> None:
    _, progress = begin(tmp_path)
    assert [progress.due(step, 3) for step in range(4)] == [False, False, True, True]


def test_the_vision_training_stops_with_its_last_good_state_and_logs_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Checking on thousands of pictures is not what is tested.
    monkeypatch.setattr(train_vision, "check_pictures", lambda seed: ([], []))
    monkeypatch.setattr(train_vision, "exact_share", lambda *_: 0.0)
    monkeypatch.setattr(train_vision, "stream_pictures", partial(stream_pictures, workers=0))
    train_vision.train(tmp_path, steps=2, batch=8, peak=1e-3, seed=3)
    (logged,) = [line for line in lines(tmp_path, "vision") if "loss" in line]
    # Four readers that know nothing: log 9 + log 7, twice, is 8.3; divided by a hundred it would be 0.08.
    assert logged["step"] == 2
    assert 4 < logged["loss"] < 20
    before = torch.load(tmp_path / "vision.pt", weights_only=True)
    with pytest.raises(InputError, match="steps was 2 and is 6"):
        train_vision.train(tmp_path, steps=6, batch=8, peak=1e30, seed=3)
    with pytest.raises(TrainingFailedError, match="--peak, now 1e"):
        train_vision.train(tmp_path, steps=6, batch=8, peak=1e38, seed=3, replan=True)
    after = torch.load(tmp_path / "vision.pt", weights_only=True)
    assert after["step"] == before["step"]
    assert all(value.isfinite().all() for value in after["tower"].values())


def test_pictures_without_names_teach_nothing() -> None:
    heads = train_vision.Heads(4)
    read = heads(torch.randn(3, 4))
    nameless = torch.full((3, 4), NOT_LABELLED)
    assert train_vision.label_loss(read, nameless).item() == 0.0
    half = nameless.clone()
    half[0, 0] = 2
    expected = torch.nn.functional.cross_entropy(read[0][:1], half[:1, 0])
    assert train_vision.label_loss(read, half).item() == pytest.approx(expected.item(), rel=1e-5)


def small_bank(*shown: tuple[Thing, ...]) -> Bank:
    by_things = {things: (number,) for number, things in enumerate(shown)}
    return bank_of(torch.zeros(len(shown), 12, 4), torch.zeros(1, 4), by_things)


def test_a_bank_that_is_too_small_is_an_error_and_no_endless_loop() -> None:
    one, two, three, four = SEEN_THINGS[:4]
    lesson = Lesson((6, 6), 2, {"object": 1.0})
    with pytest.raises(InputError, match=r"10000 tries.*bank of 1.*draw a larger bank"):
        draw_window(np.random.default_rng(1), small_bank((one, two)), lesson, frames=6, questions=1)
    always = Lesson((6, 6), 2, {"object": 1.0}, things=(4, 4), unanswerable=1.0)
    bank = small_bank((one, two), (three, four))
    with pytest.raises(InputError, match="shows all that the bank knows"):
        draw_window(np.random.default_rng(1), bank, always, frames=12, questions=1)


def _agree(rank: int, meeting: str, told: Any) -> None:
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    told.put((rank, agree_on_steps(100 + rank, processes=2)))
    distributed.barrier()
    distributed.destroy_process_group()


def test_processes_that_measured_differently_take_the_same_number_of_steps(tmp_path: Path) -> None:
    context = fork_server()
    told = context.SimpleQueue()
    arguments = f"file://{tmp_path / 'meeting'}", told
    processes = [context.Process(target=_agree, args=(rank, *arguments)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert sorted(told.get() for _ in range(2)) == [(0, 100), (1, 100)]
    assert agree_on_steps(7, processes=1) == 7


def gens_plan(folder: Path, vision: Path, **changed: Any) -> Plan:
    values: dict[str, Any] = {
        "steps": 4,
        "minutes": None,
        "peak": 1e-3,
        "seed": 1,
        "scenes": 40,
        "processes": 1,
        "workers": 0,
        "device": "cpu",
        "precision": "float32",
        "larger": 1.0,
        "start": None,
        "skip": 0.0,
        "init_method": "",
    }
    return Plan(folder=folder, vision=vision, **{**values, **changed})


def test_another_plan_for_gens_is_refused_before_frames_are_drawn(tmp_path: Path) -> None:
    vision = tmp_path / "vision.pt"
    tower = train_vision.make_model(train_vision.make_tokenizer()).model.visual
    heads = train_vision.Heads(tower.config.out_hidden_size)
    torch.save({"tower": tower.state_dict(), "heads": heads.state_dict()}, vision)
    plan = gens_plan(tmp_path / "gens", vision)
    Run(plan.folder, "gens", plan=plan.deciding()).save({"step": 2, "steps": 4}, now=True)
    with pytest.raises(InputError, match=r"at step 2: scenes was 40 and is 50"):
        train(0, gens_plan(tmp_path / "gens", vision, scenes=50))
    assert not list(plan.folder.glob("bank-*"))
    with pytest.raises(InputError, match=r"--vision is .*nothing\.pt.*training.vision"):
        gens_plan(tmp_path / "gens", tmp_path / "nothing.pt").deciding()
