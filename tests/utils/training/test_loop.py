"""The loop: resumed = uninterrupted, two processes = one, non-finite losses named."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import get_worker_info

from encoder.config import RunConfig as EncoderRun
from encoder.train import EncoderTask
from synthesizer.config import RunConfig as SynthesizerRun
from synthesizer.training.task import SynthesizerTask
from tests.support.launching import launch_two
from tests.support.toy_task import Toy, assert_equal, settings_for, weights
from utils.config import to_dict
from utils.errors import CloningError
from utils.training.log import flat
from utils.training.loop import train
from utils.training.task import TrainingConfig, Validation
from utils.weights import checkpoint
from vocoder.config import RunConfig as VocoderRun
from vocoder.train import VocoderTask

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path, ema):
    train(Toy(), settings_for(12, ema_decay=ema), tmp_path / "whole", device="cpu")
    train(Toy(), settings_for(7, ema_decay=ema), tmp_path / "parts", device="cpu")
    train(Toy(), settings_for(12, ema_decay=ema), tmp_path / "parts", device="cpu")
    assert_equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_loader_processes_change_nothing(tmp_path):
    train(Toy(), settings_for(6), tmp_path / "inline", device="cpu")
    train(Toy(), settings_for(6, workers=2), tmp_path / "workers", device="cpu")
    assert_equal(weights(tmp_path / "inline"), weights(tmp_path / "workers"))


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_killed_run_keeps_its_last_step_and_goes_on(tmp_path):
    class Killed(Toy):
        def batch(self, step):
            if step == 9:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().batch(step)

    train(Killed(), settings_for(12), tmp_path / "killed", device="cpu")
    state = checkpoint.load_training_state(tmp_path / "killed" / "state.pt")
    assert state["step"] == 9, "a polite kill saves the step in progress"
    train(Toy(), settings_for(12), tmp_path / "killed", device="cpu")
    train(Toy(), settings_for(12), tmp_path / "whole", device="cpu")
    assert_equal(weights(tmp_path / "whole"), weights(tmp_path / "killed"))


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_signal_to_the_whole_group_spares_the_loaders_until_the_step_is_saved(tmp_path):
    script = (
        "import os, subprocess\nimport tests.support.toy_task as t\nfrom utils.training.loop import train\n"
        "class Killed(t.Toy):\n"
        "    def losses(self, modules, batch, phase, step):\n"
        "        if step == 4 and phase == 'net':\n"
        "            subprocess.run(['kill', '-TERM', '--', f'-{os.getpgrp()}'], start_new_session=True)\n"
        "        return super().losses(modules, batch, phase, step)\n"
        f"train(Killed(), t.settings_for(400, workers=2), r'{tmp_path}', device='cpu')\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=600, start_new_session=True)
    assert checkpoint.load_training_state(tmp_path / "state.pt")["step"] == 4


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_loaders_leave_signals_to_the_training_process(tmp_path):
    class Deaf(Toy):
        def batch(self, step):
            if get_worker_info():
                assert signal.getsignal(signal.SIGINT) == signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
            return super().batch(step)

    train(Deaf(), settings_for(2, workers=1), tmp_path, device="cpu")


class Starved(Toy):
    """Its loader is killed as the system does when memory runs out."""

    def batch(self, step):
        if step == 9 and get_worker_info():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(step)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_killed_loader_is_one_line_and_the_run_goes_on(tmp_path):
    with pytest.raises(CloningError, match=r"^a process that prepares [^\n]*fewer training.workers \(now 1\)[^\n]*$"):
        train(Starved(), settings_for(12, workers=1, save_every=1), tmp_path / "starved", device="cpu")
    assert 0 < checkpoint.load_training_state(tmp_path / "starved" / "state.pt")["step"] < 9
    train(Toy(), settings_for(12), tmp_path / "starved", device="cpu")
    train(Toy(), settings_for(12), tmp_path / "whole", device="cpu")
    assert_equal(weights(tmp_path / "whole"), weights(tmp_path / "starved"))


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_the_signal_of_a_dead_loader_may_come_after_its_batch_broke_off(tmp_path, monkeypatch):
    def says_which(signum, frame):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    def broken(self, workers, device):
        yield self[0]
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.setattr("utils.training.loop.Batches.loaded", broken)
    former = signal.signal(signal.SIGALRM, says_which)
    try:
        with pytest.raises(CloningError, match="a process that prepares batches died"):
            train(Toy(), settings_for(12, workers=1), tmp_path, device="cpu")
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def test_an_error_of_the_loader_itself_stays_what_it_is(tmp_path):
    class Broken(Toy):
        def batch(self, step):
            raise RuntimeError("a fault of ours")

    with pytest.raises(RuntimeError, match="a fault of ours"):
        train(Broken(), settings_for(2), tmp_path, device="cpu")


def test_a_run_killed_without_warning_goes_on_from_its_last_save(tmp_path):
    class Killed(Toy):
        def batch(self, step):
            if step == 9:
                raise SystemExit  # nothing is saved on the way out
            return super().batch(step)

    with pytest.raises(SystemExit):
        train(Killed(), settings_for(12), tmp_path / "killed", device="cpu")
    assert checkpoint.load_training_state(tmp_path / "killed" / "state.pt")["step"] == 5
    train(Toy(), settings_for(12), tmp_path / "killed", device="cpu")
    train(Toy(), settings_for(12), tmp_path / "whole", device="cpu")
    assert_equal(weights(tmp_path / "whole"), weights(tmp_path / "killed"))


def test_two_processes_equal_one_with_the_same_total_batch(tmp_path):
    """And no thread of the process group outlives the training: one that does aborts the process now and then."""
    train(Toy(dropout=0.0), settings_for(6), tmp_path / "one", device="cpu")
    body = (
        "import os\nimport tests.support.toy_task as t\nfrom utils.training.loop import train\n"
        "train(t.Toy(dropout=0.0), t.settings_for(6), sys.argv[1], device='cpu')\n"
        "threads = Path('/proc/self/task')  # of Linux alone\n"
        "names = [(thread / 'comm').read_text().strip() for thread in threads.glob('*')]\n"
        "assert not [name for name in names if 'gloo' in name or 'store' in name], names\n"
    )
    launch_two(tmp_path, body, tmp_path / "two")
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-4, atol=1e-5, msg=name)


def test_a_loss_that_is_not_finite_is_named_and_stops_the_run(tmp_path):
    with pytest.raises(CloningError, match=r"step 3: not finite: whole = nan.*speaker-1/clip-1.*learning_rate"):
        train(Toy(poison=3), settings_for(6, save_every=1), tmp_path, device="cpu")
    assert checkpoint.load_training_state(tmp_path / "state.pt")["step"] == 2


def test_another_model_in_the_same_folder_is_refused(tmp_path):
    train(Toy(), settings_for(2), tmp_path, device="cpu")
    with pytest.raises(CloningError, match="another model .*dropout"):
        train(Toy(dropout=0.3), settings_for(4), tmp_path, device="cpu")


class Weighted(Toy):
    """Its scores depend on the weights of its losses."""

    scored_by = ("loss.*",)


def test_settings_that_change_are_told_and_those_before_are_kept(tmp_path, caplog):
    def learn(steps: int, weight: float) -> None:
        loss = {"weight": weight}
        train(Weighted(), settings_for(steps, workers=0), tmp_path, device="cpu", settings={"loss": loss})

    def recorded(name: str) -> float:
        return json.loads((tmp_path / name).read_text())["loss"]["weight"]

    caplog.set_level("INFO")
    learn(6, 1.0)
    learn(6, 2.0)  # at its end: nothing is learned with these
    assert recorded("settings.json") == 1 and "ended at step 6: for more, raise training.steps" in caplog.text
    learn(8, 2.0)
    assert recorded("settings.json") == 2 and recorded("settings_until_0000006.json") == 1
    assert "settings changed at step 6: loss.weight 1.0 -> 2.0" in caplog.text
    best = checkpoint.load_weights(tmp_path / "best.safetensors")
    assert best.step == 8  # its score is worse than that of step 6, which is of another kind
    learn(10, 2.0)  # longer, else the same
    assert len(list(tmp_path.glob("settings*.json"))) == 2
    before = (tmp_path / "state.pt").read_bytes()
    learn(12, 3.0)
    (tmp_path / "state.pt").write_bytes(before)  # as if the run had been killed before it saved
    learn(12, 4.0)
    assert recorded("settings.json") == 4 and recorded("settings_until_0000010.json") == 2  # nothing is left of 3
    assert len(list(tmp_path.glob("settings*.json"))) == 3


class Measured(Weighted):
    """Its scores are what the test says."""

    scored_by = (*Weighted.scored_by, "data.validation_*")
    score = 1.0

    def validate(self, modules):
        return Validation(self.score)


@pytest.mark.parametrize("older", [False, True])
def test_a_best_score_is_forgotten_where_scores_are_measured_otherwise(tmp_path, older):
    def learn(steps: int, score: float, **settings) -> int:
        task = Measured()
        task.score = score
        train(task, settings_for(steps), tmp_path, device="cpu", settings={"loss": {"weight": 1}, **settings})
        return checkpoint.load_weights(tmp_path / "best.safetensors").step

    assert learn(6, 1.0, data={"validation_seconds": (1, 2), "size": 3}) == 6
    if older:  # a run of before wrote no such thing, but its settings
        state = checkpoint.load_training_state(tmp_path / "state.pt")
        del state["ruler"]
        checkpoint.save_training_state(tmp_path / "state.pt", state)
    assert learn(8, 2.0, data={"validation_seconds": (1, 2), "size": 4}) == 6  # of the same kind, and worse
    before = (tmp_path / "state.pt").read_bytes()
    assert learn(10, 3.0, data={"validation_seconds": (1, 3), "size": 4}) == 10
    (tmp_path / "state.pt").write_bytes(before)  # as if killed before it saved: its settings are the new ones
    assert learn(12, 4.0, data={"validation_seconds": (1, 3), "size": 4}) == 12
    assert learn(14, 5.0, data={"validation_seconds": (1, 3), "size": 4}) == 12


@pytest.mark.parametrize(
    "task, config", [(EncoderTask, EncoderRun), (SynthesizerTask, SynthesizerRun), (VocoderTask, VocoderRun)]
)
def test_what_a_stage_is_scored_by_are_settings_of_it(task, config):
    settings = flat(json.loads(json.dumps(to_dict(config()))))
    for rule in task.scored_by:
        assert fnmatch.filter(settings, rule)
        assert not any("batch_size" in name or name.startswith("training.") for name in fnmatch.filter(settings, rule))


@pytest.mark.parametrize("older", [False, True])
def test_a_best_score_lasts_as_long_as_the_constants_by_which_it_was_measured(tmp_path, older):
    def learn(steps: int, score: float, constants: dict, weight: float) -> int:
        task = Measured()
        task.scored_by, task.score_constants, task.score = (), constants, score
        train(task, settings_for(steps), tmp_path, device="cpu", settings={"loss": {"size": [1, 2], "weight": weight}})
        return checkpoint.load_weights(tmp_path / "best.safetensors").step

    assert learn(6, 1.0, {} if older else {"loss.size": (1, 2)}, 1.0) == 6
    if older:  # a run that was measured by its settings, of which the one that matters is a constant now
        state = checkpoint.load_training_state(tmp_path / "state.pt")
        state["ruler"] = {"loss.size": [1, 2], "loss.weight": 1.0}
        checkpoint.save_training_state(tmp_path / "state.pt", state)
    assert learn(8, 2.0, {"loss.size": (1, 2)}, 1.0) == 6
    assert learn(10, 3.0, {"loss.size": (1, 2)}, 5.0) == 6  # a weight is no ruler
    if older:  # a state that did not keep a setting which has become part of the ruler
        state = checkpoint.load_training_state(tmp_path / "state.pt")
        checkpoint.save_training_state(tmp_path / "state.pt", {**state, "ruler": {"loss.flow": 1.0}})
        assert learn(11, 3.0, {"loss.size": (1, 2)}, 5.0) == 6
    assert learn(12, 4.0, {"loss.size": (1, 3)}, 5.0) == 12
    assert learn(14, 5.0, {"loss.size": (1, 3), "terms": ("mel",)}, 5.0) == 14


def test_patience_begins_anew_where_scores_are_measured_otherwise(tmp_path):
    how = settings_for(30, validate_every=2, patience=2)

    def last_step(weight: float) -> int:
        train(Measured(), how, tmp_path, device="cpu", settings={"loss": {"weight": weight}})
        return checkpoint.load_training_state(tmp_path / "state.pt")["step"]

    assert (last_step(1.0), last_step(1.0), last_step(2.0), last_step(2.0)) == (6, 6, 12, 12)


def test_a_repeated_validation_finds_the_set_where_it_belongs(tmp_path):
    class Moved(Toy):
        there = False

        def resident(self, device):
            self.there = True
            return False

        def validate(self, modules):
            assert self.there
            return super().validate(modules)

    train(Moved(), settings_for(6, workers=0), tmp_path, device="cpu")
    state = checkpoint.load_training_state(tmp_path / "state.pt")
    checkpoint.save_training_state(tmp_path / "state.pt", {**state, "unvalidated": True})
    train(Moved(), settings_for(6, workers=0), tmp_path, device="cpu")
    assert len(scores(tmp_path)) == 2


def test_a_run_that_patience_ended_stays_as_it_is(tmp_path):
    class Worse(Toy):
        scores = iter(range(99))

        def validate(self, modules):
            return Validation(float(next(self.scores)))

    how = settings_for(30, validate_every=2, patience=3, workers=0)
    train(Worse(), how, tmp_path, device="cpu")
    before = (tmp_path / "state.pt").read_bytes()
    train(Worse(), how, tmp_path, device="cpu")
    assert (tmp_path / "state.pt").read_bytes() == before
    train(Worse(), replace(how, patience=4), tmp_path, device="cpu")  # more of it goes on
    assert (tmp_path / "state.pt").read_bytes() != before


def test_starting_from_a_checkpoint_copies_what_fits(tmp_path):
    train(Toy(), settings_for(6), tmp_path / "first", device="cpu")
    task = Toy()
    train(task, settings_for(1, learning_rate=1e-12, final_learning_rate=1e-12), tmp_path / "second", device="cpu",
          start_from=tmp_path / "first" / "last.safetensors")  # fmt: skip
    for name, value in weights(tmp_path / "first").items():
        torch.testing.assert_close(weights(tmp_path / "second")[name], value, rtol=0, atol=1e-9)


def test_weights_of_another_architecture_are_refused_by_both_names(tmp_path):
    train(Toy(), settings_for(1), tmp_path / "first", device="cpu")
    source, task = tmp_path / "first" / "last.safetensors", Toy()
    task.model_config = {**task.model_config, "architecture": "transformer"}
    train(task, settings_for(1), tmp_path / "second", device="cpu", start_from=source)  # it names none
    task = Toy()
    task.model_config = {**task.model_config, "architecture": "lstm"}
    with pytest.raises(CloningError, match=r"last.safetensors: its architecture is transformer, .* this run is lstm: "):
        train(task, settings_for(1), tmp_path / "third", device="cpu",
              start_from=tmp_path / "second" / "last.safetensors")  # fmt: skip
    task.model_config.pop("architecture")
    task.modules["net"] = nn.Linear(5, 2)
    with pytest.raises(CloningError, match="none of its matrices fits"):
        train(task, settings_for(1), tmp_path / "third", device="cpu", start_from=source)


def scores(folder: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(row["step"], row["score"]) for row in rows if row["group"] == "validation"]


def test_without_a_terminal_a_line_says_how_far_it_is(tmp_path, capsys, caplog):
    train(Toy(), settings_for(6), tmp_path / "first", device="cpu")
    assert re.search(
        r"^step 5 of 6: whole [\d.e-]+, .*; [\d.e+]+ steps/s, about 0 min left$", capsys.readouterr().out, re.M
    )
    caplog.set_level("INFO")
    task = Toy()
    task.modules["net"].append(nn.Linear(1, 1))
    train(task, settings_for(1, precision="auto"), tmp_path / "second", device="cpu",
          start_from=tmp_path / "first" / "last.safetensors")  # fmt: skip
    first, second = [record.getMessage() for record in caplog.records][:2]
    assert re.fullmatch(r"training to step 1 on CPU, \d+ threads, in (bf16|fp32) \(auto: the CPU has .*\)", first)
    assert second.endswith("4 of 6 tensors are taken over; these keep fresh values: 4.bias, 4.weight")


def test_logs_hold_losses_scores_and_speed(tmp_path):
    best = train(Toy(), settings_for(12), tmp_path, device="cpu")
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {"whole", "masked", "seen", "gradient_norm/net", "steps_per_second"} <= rows[0].keys()
    validated = scores(tmp_path)
    assert len(validated) == 2
    best_score = min(score for _, score in validated)
    assert checkpoint.load_weights(best).metrics["score"] == pytest.approx(best_score, abs=1e-6)


def test_patience_ends_a_run_that_no_longer_improves(tmp_path):
    class Worse(Toy):
        def validate(self, modules):
            self.turn = getattr(self, "turn", 0) + 1
            return Validation(float(self.turn))

    train(Worse(), settings_for(30, validate_every=2, patience=3), tmp_path, device="cpu")
    assert checkpoint.load_weights(tmp_path / "last.safetensors").step == 8


def test_only_the_module_of_the_phase_gets_gradients(tmp_path):
    class Watch(Toy):
        def losses(self, modules, batch, phase, step):
            for name, module in modules.items():
                assert all(p.requires_grad == (name == phase) for p in module.parameters())
            return super().losses(modules, batch, phase, step)

    train(Watch(), settings_for(2), tmp_path, device="cpu")


def test_settings_refuse_nonsense():
    with pytest.raises(ValueError, match="steps is 0; it must be 1 to"):
        TrainingConfig(steps=0)
    with pytest.raises(ValueError, match="log_every"):
        TrainingConfig(log_every=0)


def test_learning_rate_warms_up_and_comes_down():
    config = TrainingConfig(steps=100, warmup_steps=10, learning_rate=1.0, final_learning_rate=0.1)
    rates = [config.learning_rate_at(step) for step in range(1, 101)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == 1.0 and rates[-1] == pytest.approx(0.1)
    assert rates[9:] == sorted(rates[9:], reverse=True)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("where", ["validate", "losses"])
def test_a_signal_ends_a_validation_which_is_made_good_when_the_run_goes_on(tmp_path, where):
    class Scheduled(Toy):
        def validate(self, modules):  # as those of stages whose losses begin at some place of the run
            found = super().validate(modules)
            return replace(found, score=found.score + 100 * self.position + self.progress)

    class Stopped(Scheduled):
        def losses(self, modules, batch, phase, step):
            if (where, step, phase) == ("losses", 6, "net"):
                os.kill(os.getpid(), signal.SIGTERM)
            return super().losses(modules, batch, phase, step)

        def validate(self, modules):
            assert where == "validate"
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
            raise AssertionError("goes on")

    began, how = time.monotonic(), {"ema_decay": 0.9, "workers": 0}
    train(Stopped(), settings_for(12, **how), tmp_path / "stopped", device="cpu")
    assert time.monotonic() - began < 50
    assert checkpoint.load_training_state(tmp_path / "stopped" / "state.pt")["step"] == 6
    train(Scheduled(), settings_for(12, **how), tmp_path / "stopped", device="cpu")
    train(Scheduled(), settings_for(12, **how), tmp_path / "whole", device="cpu")
    assert_equal(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))
    assert scores(tmp_path / "whole") == scores(tmp_path / "stopped")
    ends = [checkpoint.load_training_state(tmp_path / name / "state.pt") for name in ("whole", "stopped")]
    assert ends[0]["best"] == ends[1]["best"] and ends[0]["since_best"] == ends[1]["since_best"]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_second_interrupt_ends_at_once(tmp_path):
    class Impatient(Toy):
        def losses(self, modules, batch, phase, step):
            os.kill(os.getpid(), signal.SIGINT)
            return super().losses(modules, batch, phase, step)

    with pytest.raises(KeyboardInterrupt):
        train(Impatient(), settings_for(4), tmp_path, device="cpu")
