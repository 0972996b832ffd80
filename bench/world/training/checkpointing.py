"""What the training scripts share: where a run stands, its log, and how its rate changes."""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hybrid.errors import HybridError, InputError

__all__ = ["Means", "Progress", "Run", "TrainingFailedError", "save_whole", "stop_unless_finite"]


class TrainingFailedError(HybridError):
    """A training cannot go on: what it computes is no number any more."""


def learning_rate(step: int, *, steps: int, peak: float, warm_up: int) -> float:
    """Up in a line, then down along a cosine to a hundredth of the peak."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    done = min(1.0, (step - warm_up) / max(1, steps - warm_up))
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def save_whole(state: Mapping[str, Any], path: Path) -> None:
    """Write a state with ``torch.save`` such that a kill leaves what was there before, or all of it."""
    unfinished = path.with_suffix(".unfinished")
    torch.save(dict(state), unfinished)
    unfinished.replace(path)


def stop_unless_finite(step: int, *, loss: Tensor, gradient: Tensor, peak: float) -> None:
    """Call before the optimizer's step, so that no weight is spoilt and the state that was saved stays good.

    Args:
        step: that is being taken, from 0.
        loss: of its batch.
        gradient: its norm, before it was clipped; of all processes, where several share the work.
        peak: of the learning rate, for the message.

    Raises:
        TrainingFailedError: one of the two is infinite or not a number.
    """
    values = {"loss": float(loss.detach()), "norm of the gradient": float(gradient)}
    for name, value in values.items():
        if not math.isfinite(value):
            raise TrainingFailedError(
                f"the {name} of step {step + 1} is {value}, and the training stops; the state that was saved last is "
                f"good, and the same command goes on from it; if it comes here again, begin a new folder with "
                f"a lower rate (--peak, now {peak:g})"
            )


class Means:
    """Means of losses over the steps since they were last taken, however many those were."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps: dict[str, int] = defaultdict(int)

    def add(self, **losses: Tensor) -> None:
        """One step's losses; they stay on their device until they are taken."""
        for name, loss in losses.items():
            self._sums[name] = self._sums[name] + loss.detach() if name in self._sums else loss.detach().clone()
            self._steps[name] += 1

    def take(self) -> dict[str, float]:
        """The mean of each, to four digits; the next ones begin anew."""
        means = {name: round(float(total) / self._steps[name], 4) for name, total in self._sums.items()}
        self._sums.clear()
        self._steps.clear()
        return means


class Progress:
    """The optimizer's steps of a run: resumed, with a learning rate that follows the step, and saved.

    Args:
        run: the folder with the run's state.
        state: that the run goes on from (:meth:`Run.resume`); None at its beginning.
        optimizer: of all weights that change.
        modules: whose state is saved, by name.
        parameters: all weights that change.
        steps: of the whole training.
        peak: of the learning rate.
        warm_up: steps until the peak.

    Attributes:
        first: the step to go on with.
    """

    def __init__(
        self,
        run: Run,
        state: Mapping[str, Any] | None,
        optimizer: torch.optim.Optimizer,
        modules: Mapping[str, nn.Module],
        parameters: Sequence[nn.Parameter],
        *,
        steps: int,
        peak: float,
        warm_up: int = 200,
    ) -> None:
        self._run, self._optimizer, self._modules, self._parameters = run, optimizer, modules, parameters
        self._steps, self._peak, self._warm_up = steps, peak, warm_up
        self.first = 0
        if state is not None:
            for name, module in modules.items():
                module.load_state_dict(state[name])
            optimizer.load_state_dict(state["optimizer"])
            self.first = int(state["step"])

    def take(self, step: int, loss: Tensor, *, share: Callable[[], None] | None = None) -> None:
        """Take a step down the gradient of a loss.

        Args:
            step: from 0.
            loss: of its batch.
            share: makes the gradients those of all processes.

        Raises:
            TrainingFailedError: the loss or its gradient is infinite or not a number.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(step, steps=self._steps, peak=self._peak, warm_up=self._warm_up)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if share is not None:
            share()
        gradient = nn.utils.clip_grad_norm_(self._parameters, 1.0)
        stop_unless_finite(step, loss=loss, gradient=gradient, peak=self._peak)
        self._optimizer.step()

    def due(self, step: int, every: int) -> bool:
        """Whether something that happens every so many steps, and at the end, happens after this one."""
        return (step + 1) % every == 0 or step + 1 == self._steps

    def save(self, step: int, **more: Any) -> bool:
        """Write the state after a step, if it is time to; returns whether it was."""
        states = {name: module.state_dict() for name, module in self._modules.items()}
        state = {**states, "optimizer": self._optimizer.state_dict(), "step": step + 1, **more}
        return self._run.save(state, now=step + 1 == self._steps)


class Run:
    """A folder that holds a run's state, replaced as a whole, and its log, one JSON object per line.

    Args:
        folder: made if it is not there.
        name: of the files.
        plan: what decides the result, as plain values; a run goes on with the plan that it began with.
        replan: go on with another plan all the same; the log says so.
        logs: False in all processes of a run but one, which else would say everything many times.
        every_seconds: how often the state is written.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        plan: Mapping[str, Any],
        replan: bool = False,
        logs: bool = True,
        every_seconds: float = 60.0,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._state = folder / f"{name}.pt"
        self._log = folder / f"{name}.jsonl"
        self._plan = dict(plan)
        self._replan = replan
        self._logs = logs
        self._every = every_seconds
        self._saved = self._started = time.monotonic()
        self._before = 0.0

    @property
    def seconds(self) -> float:
        """Time that the run has taken, earlier parts included."""
        return self._before + time.monotonic() - self._started

    def resume(self) -> dict[str, Any] | None:
        """The state that was written last, or None at the beginning.

        Raises:
            InputError: the run began with another plan, and ``replan`` is off.
        """
        if not self._state.is_file():
            return None
        state: dict[str, Any] = torch.load(self._state, map_location="cpu", weights_only=True)
        self._check_plan(state.get("plan"), int(state["step"]))
        self._before = float(state["seconds"])
        self._started = time.monotonic()
        return state

    def _check_plan(self, began: Mapping[str, Any] | None, step: int) -> None:
        known = began or {}
        changed = {
            key: (known.get(key), self._plan.get(key))
            for key in sorted({*known, *self._plan})
            if known.get(key) != self._plan.get(key)
        }
        if not changed:
            return
        if self._replan:
            self.log(step=step, replanned={key: list(values) for key, values in changed.items()})
            return
        differences = ", ".join(f"{key} was {before!r} and is {now!r}" for key, (before, now) in changed.items())
        raise InputError(
            f"{self._state} is the state of a run with another plan, at step {step}: "
            f"{differences if began is not None else 'it does not say which'}; repeat the command that it began with, "
            "name another folder (--out), or add --replan to go on with the new plan"
        )

    def save(self, state: Mapping[str, Any], *, now: bool = False) -> bool:
        """Write the state, if it is time to, such that a kill leaves the old one or the new one.

        Returns:
            Whether it was time.
        """
        if not now and time.monotonic() - self._saved < self._every:
            return False
        save_whole({**state, "plan": self._plan, "seconds": self.seconds}, self._state)
        self._saved = time.monotonic()
        return True

    def log(self, **values: Any) -> None:
        """Add a line to the log and print it."""
        if not self._logs:
            return
        line = json.dumps({**values, "seconds": round(self.seconds, 1)})
        with self._log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)
