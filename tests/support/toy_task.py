"""A small task of two networks for tests of the training loop, and what they compare."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from utils.training.distributed import gather_rows, masked_mean
from utils.training.sampling import rng
from utils.training.task import Task, TrainingConfig, Validation
from utils.weights import checkpoint


class Toy(Task):
    """Regression with dropout and, as in GE2E, a loss that looks at the whole batch."""

    kind = "encoder"

    def __init__(self, dropout: float = 0.1, poison: int = -1) -> None:
        torch.manual_seed(0)
        self.modules = {
            "net": nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1)),
            "critic": nn.Linear(1, 1),
        }
        self.model_config = {"dropout": dropout}
        self.poison = poison

    def batch(self, step):
        x = torch.tensor(rng(7, step).normal(size=(8, 4)), dtype=torch.float32)
        x[0, 0] = torch.nan if step == self.poison else x[0, 0]
        return {"x": x, "mask": x[:, 1:2] > -0.5, "label": list("abcdefgh")}

    def losses(self, modules, batch, phase, step):
        rows = gather_rows(modules["net"](batch["x"]))
        target = gather_rows(batch["x"].sum(dim=1, keepdim=True))
        whole = (rows - rows.mean() - target).square().mean()
        own = modules["net"](batch["x"])
        masked = masked_mean((modules["critic"](own) - 1).square(), batch["mask"])
        return {"whole": whole, "masked": masked, "_seen": rows.mean()}

    def validate(self, modules):
        value = modules["net"](torch.ones(2, 4)).square().mean()
        return Validation(float(value), {"output": float(value)}, warnings=["a warning in words"])

    def names(self, step):
        return ["speaker-1/clip-1", "speaker-2/clip-9"]


def settings_for(steps: int = 12, **changes) -> TrainingConfig:
    base = {"steps": steps, "warmup_steps": 2, "final_learning_rate": 1e-3, "workers": 0}
    base |= {"log_every": 5, "validate_every": 6, "save_every": 5}
    return TrainingConfig(**{**base, **changes})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load_weights(folder / "last.safetensors").state


def assert_equal(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=0, msg=name)
