"""A run of given minutes: its schedules follow the time used, whatever a step takes; what it says of itself."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

from tests.support.toy_task import Toy, assert_equal, settings_for, weights
from utils.config import SettingsParser
from utils.errors import CloningError
from utils.training import flags as training_flags
from utils.training.clock import Clock
from utils.training.loop import Run, train
from utils.training.profiling import UNMEASURED, profile
from utils.training.task import Task, TrainingConfig, Validation
from utils.weights import checkpoint

pytestmark = pytest.mark.slow


class Timed(Task):
    """A network that learns for a made-up time: each step and each validation moves the clock."""

    kind = "encoder"

    def __init__(self, monkeypatch, step: float = 1.0, validation: float = 0.0, stop_after: int = 10**9) -> None:
        torch.manual_seed(0)
        self.modules = {"net": nn.Linear(4, 1)}
        self.model_config = {}
        self.now, self.step_seconds, self.validation_seconds, self.stop_after = 0.0, step, validation, stop_after
        self.seen, self.validated = [], []
        monkeypatch.setattr("utils.training.clock.monotonic", lambda: self.now)

    def batch(self, step):
        if step > self.stop_after:
            raise SystemExit  # killed
        return {"x": torch.ones(2, 4), "position": torch.full((2,), float(self.position))}

    def losses(self, modules, batch, phase, step):
        self.now += self.step_seconds
        self.seen.append((step, self.progress, self.position))
        return {"loss": modules["net"](batch["x"]).square().mean()}

    def validate(self, modules):
        self.now += self.validation_seconds
        self.validated.append(self.position)
        return Validation(1.0)


def budget(minutes: float, **changes) -> TrainingConfig:
    base = {"minutes": minutes, "warmup_steps": 10, "final_learning_rate": 1e-5, "learning_rate": 1e-3}
    return settings_for(100, **{**base, "log_every": 1, "validate_every": 25, "save_every": 10, **changes})


def rates(folder):
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(row["hours"] * 60, row["learning_rate"]) for row in rows if row["group"] == "train"]


@pytest.mark.parametrize("seconds", [0.25, 1.0, 7.0])
def test_a_run_takes_its_minutes_and_ends_annealed_however_fast_it_is(tmp_path, monkeypatch, seconds):
    task = Timed(monkeypatch, step=seconds)
    train(task, budget(2), tmp_path, device="cpu")
    assert 120 <= task.now < 120 + seconds
    assert len(task.seen) == math.ceil(120 / seconds)
    for step, progress, position in task.seen:
        assert progress == pytest.approx((step - 1) * seconds / 120) and position == pytest.approx(100 * progress)
    steps = TrainingConfig(steps=100, warmup_steps=10, learning_rate=1e-3, final_learning_rate=1e-5)
    for minutes, rate in rates(tmp_path):
        assert rate == pytest.approx(steps.learning_rate_at(minutes / 2 * 100), abs=2e-5)  # hours are rounded
    assert len(task.validated) == 4, "at each quarter of the time"


def test_the_end_leaves_time_for_what_comes_last(tmp_path, monkeypatch):
    task = Timed(monkeypatch, validation=9.0)
    train(task, budget(2), tmp_path, device="cpu")
    assert 119 <= task.now <= 121
    assert task.seen[-1][1] > 0.98, "the schedules end when the last validation begins"
    assert checkpoint.load_weights(tmp_path / "last.safetensors").step == task.seen[-1][0]


def test_validations_take_a_tenth_of_the_time_at_most(tmp_path, monkeypatch):
    task = Timed(monkeypatch, validation=5.0)
    train(task, budget(2, validate_every=1), tmp_path, device="cpu")
    assert 2 <= len(task.validated) <= 4


def test_a_run_that_was_killed_goes_on_with_the_time_that_is_left(tmp_path, monkeypatch):
    killed = Timed(monkeypatch, stop_after=70)
    with pytest.raises(SystemExit):
        train(killed, budget(2), tmp_path, device="cpu")
    state = checkpoint.load_training_state(tmp_path / "state.pt")
    assert state["seconds"] == pytest.approx(state["step"]) and 58 <= state["step"] <= 70
    again = Timed(monkeypatch)
    train(again, budget(2), tmp_path, device="cpu")
    assert again.seen[0][:2] == (state["step"] + 1, pytest.approx(state["step"] / 120))
    assert again.now == pytest.approx(120 - state["step"], abs=1)
    finished = Timed(monkeypatch)
    train(finished, budget(2), tmp_path, device="cpu")
    assert not finished.seen, "the time is used up"


def test_the_moving_average_reaches_as_far_back_in_time(tmp_path, monkeypatch):
    """Half as many steps, each twice as long: each moves the average as two would."""
    for seconds in (0.5, 1.0):
        task = Timed(monkeypatch, step=seconds)
        run = Run(task, budget(2, ema_decay=0.9), tmp_path, "cpu")
        run.prepare()
        average = run.learner.average
        average.position = 50.0
        for value in average.weights.values():
            value.zero_()
        average.advance(50.0 + seconds, 10**6)
        moved = average.weights["weight"] / task.modules["net"].state_dict()["weight"]
        torch.testing.assert_close(moved, torch.full_like(moved, 1 - 0.9**seconds), rtol=1e-4, atol=0)
        run.close()


def test_loader_processes_see_the_share_of_time_that_is_over(tmp_path, monkeypatch):
    class Watch(Timed):
        def losses(self, modules, batch, phase, step):
            assert float(batch["position"][0]) <= self.position
            self.largest = max(getattr(self, "largest", 0.0), float(batch["position"][0]))
            return super().losses(modules, batch, phase, step)

    task = Watch(monkeypatch)
    train(task, budget(1, workers=1), tmp_path, device="cpu")
    assert task.largest > 80


def test_in_steps_all_stays_a_matter_of_steps():
    clock = Clock(settings_for(12))
    assert [clock.position(step) for step in (1, 12)] == [1, 12] and clock.over(12) and not clock.over(11)
    assert clock.progress(3) == 0.25
    clock = Clock(TrainingConfig(minutes=1), seconds=30.0)
    assert clock.progress(10**9) == 0.5


class Resident(Toy):
    """Has its data where the network is."""

    def resident(self, device):
        self.made = 0
        return True

    def batch(self, step):
        self.made += 1
        return super().batch(step)


def test_a_task_that_holds_its_data_on_the_device_makes_its_batches_itself(tmp_path):
    task = Resident()
    train(task, settings_for(6, workers=2), tmp_path / "resident", device="cpu")
    assert task.made == 6, "in this process, no more than are learned from"
    train(Toy(), settings_for(6), tmp_path / "loaded", device="cpu")
    assert_equal(weights(tmp_path / "resident"), weights(tmp_path / "loaded"))


def as_on_a_gpu(task, config, folder):
    """The loop that never waits for its device, here on a CPU."""
    run = Run(task, config, folder, "cpu")
    run.learner.checks_late = True
    run.prepare()
    run.loop()
    run.close()


def test_losses_that_are_read_late_change_nothing(tmp_path):
    as_on_a_gpu(Toy(), settings_for(12, ema_decay=0.9), tmp_path / "late")
    train(Toy(), settings_for(12, ema_decay=0.9), tmp_path / "at_once", device="cpu")
    assert_equal(weights(tmp_path / "late"), weights(tmp_path / "at_once"))
    kept = [
        [
            {k: v for k, v in json.loads(line).items() if k not in ("steps_per_second", "waiting_for_data", "hours")}
            for line in (tmp_path / name / "log.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        for name in ("late", "at_once")
    ]
    assert kept[0] == kept[1]


@pytest.mark.parametrize("every", ["log_every", "save_every", "validate_every"])
def test_what_is_not_finite_is_found_before_anything_is_written(tmp_path, every):
    often = {"log_every": 100, "save_every": 100, "validate_every": 100, every: 4}
    with pytest.raises(CloningError, match=r"step 7: not finite: .*whole = nan.*speaker-1/clip-1"):
        as_on_a_gpu(Toy(poison=7), settings_for(12, **often), tmp_path)
    for name in ("state.pt", "last.safetensors", "best.safetensors"):
        if (tmp_path / name).is_file():
            content = torch.load(tmp_path / name) if name == "state.pt" else checkpoint.load_weights(tmp_path / name)
            assert (content["step"] if name == "state.pt" else content.step) == 4


def test_a_run_tells_its_whole_configuration_and_what_it_ran_with(tmp_path):
    whole = {"data": {"speakers": 3}, "loss": {"weight": 0.5}}
    train(Toy(), settings_for(2), tmp_path, device="cpu", settings=whole)
    written = json.loads((tmp_path / "settings.json").read_text(encoding="utf-8"))
    header = checkpoint.read_header(tmp_path / "last.safetensors")["extra"]["run"]
    assert header["environment"] == written.pop("environment") and header["settings"] == written
    assert written["data"] == {"speakers": 3} and written["loss"] == {"weight": 0.5}
    assert written["training"]["steps"] == 2 and written["model"] == {"dropout": 0.1}
    assert {"commit", "python", "packages", "machine", "threads", "device"} == header["environment"].keys()
    assert header["environment"]["packages"]["torch"] == torch.__version__


def test_a_profile_says_how_fast_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = profile(Toy(), settings_for(400), 3, device="cpu")
    assert "3 steps in" in lines[0] and "steps/s" in lines[0] and "items/s" in lines[0]
    assert lines[1].startswith("waiting for data ")
    assert not list(tmp_path.iterdir())
    with pytest.raises(CloningError, match="profile of 0 steps"):
        profile(Toy(), settings_for(4), 0)
    with pytest.raises(CloningError, match=f"ended after 4 steps: give it more than {UNMEASURED}"):
        profile(Toy(), settings_for(4), 3, device="cpu")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--minutes", "8"], ["training.minutes=8.0"]),
        (["--hours", "0.5"], ["training.minutes=30.0"]),
        (["--steps", "7"], ["training.steps=7", "training.minutes=0"]),
    ],
)
def test_flags_give_a_run_its_length(flags, expected):

    parser = SettingsParser()
    training_flags.add_arguments(parser, "encoder", "small")
    assert training_flags.settings_of(parser.parse_args(["data", "--out", "run", *flags])) == expected
    with pytest.raises(SystemExit):
        parser.parse_args(["data", "--out", "run", "--steps", "7", "--minutes", "1"])
    with pytest.raises(CloningError, match="above 0"):
        training_flags.settings_of(parser.parse_args(["data", "--out", "run", "--minutes", "-1"]))
