"""Pruning: the schedule, the masks, and that what has gone stays away through steps, averages and interruptions."""

from __future__ import annotations

import json

import pytest
import torch

import vocoder_train
from tests.support.vocoder_set import make_set
from utils.config import load_config
from utils.data.manifest import read_manifest
from utils.errors import CloningError
from utils.weights.checkpoint import load_weights
from vocoder.config import PruningConfig, RunConfig
from vocoder.train import build_task
from vocoder.wavernn.pruning import block_magnitudes, pruned_columns, smallest_blocks_out

SETTINGS = ["pruning.sparsity=0.75", "pruning.start=1", "pruning.stop=5", "pruning.every=2", "training.ema_decay=0.5"]
SETTINGS += ["training.steps=7", "training.save_every=2", "training.validate_every=7", "training.learning_rate=0.01"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("set")
    make_set(root)
    return root


def run(data, out, *more: str) -> int:
    settings = [part for setting in (*SETTINGS, *more) for part in ("--set", setting)]
    arguments = [data, "--out", out, "--config", "debug_wavernn", *settings, "--device", "cpu", "--threads", 1]
    return vocoder_train.main([str(a) for a in arguments])


def test_sparsity_grows_along_a_cubic_to_its_goal():
    config = PruningConfig(sparsity=0.9, start=10, stop=110, every=30)
    assert [step for step in range(200) if config.due(step)] == [40, 70, 100, 110]  # the last one always
    assert config.sparsity_at(10) == config.sparsity_at(3) == 0
    assert config.sparsity_at(60) == pytest.approx(0.9 * (1 - 0.5**3))
    assert config.sparsity_at(110) == config.sparsity_at(500) == pytest.approx(0.9)


def test_with_a_budget_of_time_it_grows_with_the_share_that_is_used(data):
    config = PruningConfig(sparsity=0.9, start=10, stop=110, every=30)
    assert [config.reached(p) for p in (0, 39.9, 40, 99, 100, 109.9, 110, 1e6)] == [10, 10, 40, 70, 100, 100, 110, 110]
    settings = [*SETTINGS, "training.minutes=1"]
    task = build_task(read_manifest(data, "vocoder"), load_config(RunConfig, "vocoder", "debug_wavernn", settings))
    task.pruner.read(task.modules["generator"])
    for position, sparsity in ((2.9, 0.0), (4.2, 0.75 * (1 - 0.5**3)), (70.0, 0.75)):  # steps 3 and 5 are passed over
        task.position = position
        task.constrain(task.modules["generator"].state_dict(), 10**6)
        assert task.pruner.sparsity == pytest.approx(sparsity, abs=0.02)


def test_the_smallest_blocks_go_whole():
    torch.manual_seed(0)
    weight = torch.randn(12, 5)
    mask = smallest_blocks_out(weight, 4, 0.6)
    blocks = mask.view(3, 4, 5)
    assert torch.equal(blocks.amin(dim=1), blocks.amax(dim=1))  # a block is all there or all gone
    sums, kept = block_magnitudes(weight, 4), blocks[:, 0].bool()
    assert int((~kept).sum()) == 9 and sums[kept].min() > sums[~kept].max()
    assert torch.equal(sums[1, 2], weight[4:8, 2].abs().sum())


def zero_blocks(state, block: int = 16) -> dict[str, torch.Tensor]:
    sizes = load_config(RunConfig, "vocoder", "debug_wavernn").model.wavernn
    return {
        name: block_magnitudes(state[name][:, :columns], block) == 0 for name, columns in pruned_columns(sizes).items()
    }


@pytest.mark.slow
def test_what_has_gone_stays_away_and_the_log_tells(data, tmp_path):
    assert run(data, tmp_path, "training.steps=4") == 0
    middle = zero_blocks(load_weights(tmp_path / "last.safetensors").state)  # the moving average
    assert run(data, tmp_path) == 0
    for name, gone in zero_blocks(load_weights(tmp_path / "last.safetensors").state).items():
        before = middle[name]
        assert gone.float().mean() == pytest.approx(0.75, abs=0.5 / gone.numel()), name
        assert 0 < before.float().mean() < 0.75 and gone[before].all(), name
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    sparsity = [row["sparsity"] for row in rows if row["group"] == "train"]
    assert sparsity == sorted(sparsity) and sparsity[0] == 0 and sparsity[-1] == pytest.approx(0.75, abs=0.01)


@pytest.mark.slow
def test_a_run_that_was_killed_takes_up_its_masks(data, tmp_path, monkeypatch):
    assert run(data, tmp_path / "whole") == 0
    make = vocoder_train.build_task

    def dying(config, manifest):
        task = make(config, manifest)
        losses = task.losses

        def until_seven(modules, batch, phase, step):
            if step == 7:  # saved after step 6, when nothing more is pruned
                raise KeyboardInterrupt
            return losses(modules, batch, phase, step)

        task.losses = until_seven
        return task

    with monkeypatch.context() as patch:
        patch.setattr(vocoder_train, "build_task", dying)
        assert run(data, tmp_path / "parts") == 130
    assert load_weights(tmp_path / "parts" / "last.safetensors").step == 6
    assert run(data, tmp_path / "parts") == 0
    whole, parts = (load_weights(tmp_path / name / "last.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole.state[name], parts.state[name]) for name in whole.state)


def test_pruned_weights_have_no_gradient_and_names_are_the_published_ones(data):
    dense = build_task(read_manifest(data), load_config(RunConfig, "vocoder", "debug_wavernn"))
    task = build_task(read_manifest(data), load_config(RunConfig, "vocoder", "debug_wavernn", SETTINGS))
    model = task.modules["generator"]
    assert list(model.state_dict()) == list(dense.modules["generator"].state_dict())
    with torch.no_grad():
        model.rnn1.weight_hh_l0[:16, 3] = 0  # as a checkpoint of a pruned model has it
    batch = task.batch(1)
    task.begin_step(batch)
    losses = task.losses(task.modules, batch, "generator", 1)
    losses["nll"].backward()
    gradient = model.rnn1.weight_hh_l0.grad
    assert gradient[:16, 3].eq(0).all() and gradient[16:, 3].ne(0).any() and gradient[:16, 2].ne(0).any()
    assert losses["_sparsity"] == pytest.approx(1 / sum(g.numel() for g in zero_blocks(model.state_dict()).values()))


@pytest.mark.parametrize(
    ("preset", "settings", "said"),
    [
        ("debug_wavernn", ["pruning.sparsity=1.0"], r"sparsity 1 must lie in \[0, 1\)"),
        ("debug_wavernn", ["pruning.sparsity=0.5", "pruning.start=9", "pruning.stop=9"], "must lie before stop"),
        ("debug_wavernn", ["pruning.sparsity=0.5", "pruning.block=12"], "pruning.block 12 must divide rnn_size 16"),
        ("debug", ["pruning.sparsity=0.5"], "pruning is for architecture 'wavernn', not 'vocos'"),
    ],
)
def test_settings_that_cannot_be_are_one_line(preset, settings, said):
    with pytest.raises(CloningError, match=said):
        load_config(RunConfig, "vocoder", preset, settings)
