"""The parts of the training loop, each alone: learner, checkpoints, validation, progress, signals."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.support.toy_task import Toy, assert_equal, settings_for
from utils.errors import CloningError
from utils.training.checkpoints import Checkpoints, RunState
from utils.training.clock import Clock
from utils.training.device import close_accelerator, open_accelerator
from utils.training.learner import Learner
from utils.training.log import RunLog
from utils.training.progress import ProgressBar
from utils.training.signals import Interrupted, StopSignals
from utils.training.task import Validation
from utils.training.validation import Validator
from utils.weights import checkpoint


@contextmanager
def learner_of(task: Toy, **settings) -> Iterator[Learner]:
    accelerator = open_accelerator("cpu", "no")
    learner = Learner(task, settings_for(**settings), accelerator)
    learner.prepare()
    yield learner
    learner.close()
    close_accelerator(accelerator)


def test_a_step_depends_on_batch_step_and_weights_alone():
    first, second = Toy(), Toy()
    with learner_of(first) as learner:
        learner.step(first.batch(1), 1, 1.0)
    with learner_of(second) as learner:
        torch.rand(9)  # whatever was drawn before
        learner.step(second.batch(1), 1, 1.0)
    assert_equal(first.modules["net"].state_dict(), second.modules["net"].state_dict())


def test_totals_are_sums_since_they_were_last_taken():
    task = Toy()
    with learner_of(task) as learner:
        for step in (1, 2, 3):
            learner.step(task.batch(step), step, step)
        three = learner.take_totals()
        learner.step(task.batch(4), 4, 4.0)
        one = learner.take_totals()
        assert learner.take_totals() == {}
    assert {"whole", "masked", "seen", "gradient_norm/net", "gradient_norm/critic"} == three.keys() == one.keys()
    assert three["whole"] > one["whole"] > 0


def test_evaluating_shows_the_average_and_gives_the_weights_back():
    task = Toy()
    with learner_of(task, ema_decay=0.9) as learner:
        for step in (1, 2, 3):
            learner.step(task.batch(step), step, step)
        own = {name: value.clone() for name, value in task.modules["net"].state_dict().items()}
        with pytest.raises(Interrupted), learner.evaluating() as modules:
            assert not modules["net"].training and torch.is_inference_mode_enabled()
            assert_equal(modules["net"].state_dict(), learner.average.weights)
            raise Interrupted
        assert_equal(task.modules["net"].state_dict(), own)
        with pytest.raises(AssertionError):
            assert_equal(own, learner.weights())  # what is saved is the average


def test_what_was_saved_is_restored_whole(tmp_path):
    task, state, clock = Toy(), RunState(step=3, best=0.5, since_best=2, unvalidated=True), Clock(settings_for(12))
    clock.seconds = 7.0
    with learner_of(task, ema_decay=0.9) as learner:
        learner.step(task.batch(3), 3, 3.0)
        Checkpoints(tmp_path, task, {"settings": {}}).save(learner, state, clock)
        saved = learner.state_dict()
    again, found, clock = Toy(), RunState(), Clock(settings_for(12))
    with learner_of(again, ema_decay=0.9) as learner:
        assert not Checkpoints(tmp_path / "empty", again, {}).restore(learner, found, clock)
        assert found == RunState()
        assert Checkpoints(tmp_path, again, {}).restore(learner, found, clock)
        assert found == state and clock.seconds == 7.0
        for name in task.modules:
            assert_equal(learner.state_dict()["modules"][name], saved["modules"][name])
            for number, moments in saved["optimizers"][name]["state"].items():
                assert_equal(learner.state_dict()["optimizers"][name]["state"][number], moments)
        assert_equal(learner.state_dict()["ema"], saved["ema"])


class Scored(Toy):
    """Validates to given scores, one after the other; the first `early` of them are not eligible."""

    def __init__(self, *scores: float, early: int = 0) -> None:
        super().__init__()
        self.scores = iter(Validation(score, eligible=i >= early) for i, score in enumerate(scores))

    def validate(self, modules):
        return next(self.scores)


def validator_of(task: Toy, learner: Learner, out: Path) -> Validator:
    progress = ProgressBar(Clock(settings_for(12)), RunLog(out))
    progress.tell = lambda text: None
    return Validator(task, learner, Checkpoints(out, task, {}), progress, StopSignals())


def test_the_best_weights_are_those_of_the_lowest_score(tmp_path):
    task, state = Scored(0.5, 0.7, 0.7, 0.2, float("nan")), RunState()
    with learner_of(task) as learner:
        validator, counts = validator_of(task, learner, tmp_path), []
        for state.step in (1, 2, 3, 4):
            validator.validate(state, 0.0)
            counts.append((state.since_best, state.best, checkpoint.load_weights(tmp_path / "best.safetensors").step))
        assert counts == [(0, 0.5, 1), (1, 0.5, 1), (2, 0.5, 1), (0, 0.2, 4)]
        with pytest.raises(CloningError, match="step 4: the validation score is nan"):
            validator.validate(state, 0.0)


def test_a_validation_that_is_not_eligible_is_never_the_best(tmp_path):
    task, state = Scored(0.5, 0.3, 0.7, early=2), RunState()
    with learner_of(task) as learner:
        validator, best = validator_of(task, learner, tmp_path), tmp_path / "best.safetensors"
        for state.step in (1, 2):
            validator.validate(state, 0.0)
            assert not best.exists() and (state.since_best, state.best) == (0, float("inf"))
            assert validator.checkpoints.best_or_last().name == "last.safetensors"
        state.step = 3
        validator.validate(state, 0.0)
        assert (state.since_best, state.best, checkpoint.load_weights(best).step) == (0, 0.7, 3)


def test_an_interrupted_validation_counts_for_nothing(tmp_path):
    task, state = Scored(0.5, 0.7), RunState(since_best=3, best=0.6)
    with learner_of(task) as learner:
        validator = validator_of(task, learner, tmp_path)
        validator.stop.requested = True
        validator.validate(state, 0.0)
        assert state == RunState(since_best=3, best=0.6, unvalidated=True)
        validator.stop.requested = False
        validator.validate(state, 0.0)
        assert state == RunState(since_best=0, best=0.5)
    assert not (tmp_path / "state.pt").is_file()


def test_a_row_has_means_since_the_last_one(tmp_path, capsys):
    progress = ProgressBar(Clock(settings_for(12)), RunLog(tmp_path))
    with progress.started(4):
        with progress.waiting():
            pass
        assert progress.waited > 0
        progress.report(6, {"loss": 3.0})
        assert progress.waited == 0
        progress.report(10, {"loss": 8.0})
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["step"], row["loss"], row["group"]) for row in rows] == [(6, 1.5, "train"), (10, 2.0, "train")]
    assert "step 10 of 12: loss 2; " in capsys.readouterr().out


def test_other_processes_show_nothing(capsys):
    progress = ProgressBar(Clock(settings_for(12)), None)
    with progress.started(0):
        progress.advance(2)
        progress.report(2, {"loss": 3.0})
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_first_signal_is_noted_and_a_second_one_interrupts():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        with pytest.raises(Interrupted), stop.interruptible():
            raise AssertionError("is not begun")
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_signal_ends_what_can_be_repeated():
    with StopSignals() as stop:
        with pytest.raises(Interrupted), stop.interruptible():
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("goes on")
        assert stop.requested


@pytest.mark.parametrize("device", ["tpu", "cuda"])
def test_a_device_that_is_not_there_is_refused(device):
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(CloningError, match=f"device '?{device}"):
        open_accelerator(device, "no")


def test_a_frozen_part_is_not_trained_where_modules_take_turns():
    task = Toy()
    first = task.modules["net"][0].weight.clone()
    with learner_of(task, frozen=("0",)) as learner:
        for step in (1, 2):
            learner.step(task.batch(step), step, step)
    assert torch.equal(first, task.modules["net"][0].weight) and not torch.equal(
        first[:1], task.modules["net"][3].weight
    )
    with learner_of(Toy(), frozen=("*.weight",)) as learner:
        assert {n.split(".")[1] for n, p in learner.first.named_parameters() if p.requires_grad} == {"bias"}
    with pytest.raises(CloningError, match=r"training.frozen has 'text', which is no part of the network: 0, 3"):
        learner_of(Toy(), frozen=("text",)).__enter__()
