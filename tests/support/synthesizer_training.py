"""What tests of several synthesizers do with a training: kill it and let it go on, learn one batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from synthesizer.batches import AutoregressiveBatch
from synthesizer.config import LossConfig
from synthesizer.models.autoregressive import AutoregressiveModel
from synthesizer.training.losses import autoregressive_losses, local_mean
from synthesizer.training.task import SynthesizerTask
from utils.weights.checkpoint import Checkpoint, load_weights


def whole_and_resumed(
    train: Callable[[Path], int], task: type[SynthesizerTask], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Checkpoint:
    """The last weights of a run, which are those of one that was killed in step 6 and went on, bit for bit.

    train: runs the script into a folder, `whole` or `parts` in `folder`, and returns its exit code.
    """
    assert train(folder / "whole") == 0
    losses = task.losses

    def killed(self, modules, batch, phase, step):
        if step == 6:
            raise RuntimeError("killed")
        return losses(self, modules, batch, phase, step)

    monkeypatch.setattr(task, "losses", killed)
    with pytest.raises(RuntimeError, match="killed"):
        train(folder / "parts")
    monkeypatch.undo()
    assert train(folder / "parts") == 0
    whole, parts = (load_weights(folder / name / "last.safetensors") for name in ("whole", "parts"))
    assert whole.step == parts.step == 8
    for name, value in whole.state.items():
        assert torch.equal(value, parts.state[name]), name
    return whole


def learn_by_heart(
    model: AutoregressiveModel, batch: AutoregressiveBatch, steps: int, falling: tuple[str, ...]
) -> float:
    """Train on one batch: the losses `falling` halve at least. Returns how often the attention is at its target."""
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    values = []
    for _ in range(steps):
        losses = autoregressive_losses(model(batch), batch, LossConfig(), 2, 0, local_mean)
        values.append({name: float(value.detach()) for name, value in losses.items()})
        optimizer.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    for name in falling:
        assert values[-1][name] < 0.5 * values[0][name], name
    with torch.no_grad():
        attention = model.eval()(batch).attention
    known = batch["targets"] >= 0
    return float((attention.argmax(dim=2) == batch["targets"])[known].float().mean())
