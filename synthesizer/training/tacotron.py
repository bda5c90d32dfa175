"""Training of Tacotron: reduction schedule, and attention that is supervised, or given at first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from synthesizer.config import RunConfig
from synthesizer.models.layers import ItemDropout
from synthesizer.models.tacotron.network import Tacotron
from synthesizer.training.autoregressive import Post, StepByStepTask
from synthesizer.training.losses import Mean, tacotron_losses
from synthesizer.training.task import Vocode
from utils.training.distributed import masked_mean
from utils.training.sampling import rng


class TacotronTask(StepByStepTask):
    """Tacotron."""

    def __init__(self, data_dir: str, config: RunConfig, vocode: Vocode | None = None) -> None:
        super().__init__(data_dir, config, vocode)
        torch.manual_seed(config.training.seed)
        model = Tacotron(config.model, self.n_symbols, self.mel["n_mels"])
        self.begin_flow(model.flow)
        self.modules = {"synthesizer": model}

    def reached(self, step: int) -> float:
        """What settings in steps are compared with: with a budget of time, the share of it that is used."""
        return self.position if self.run.training.minutes else step

    def batch(self, step: int) -> dict[str, Tensor]:
        draw = rng(self.run.training.seed, step, 2)
        reduction = self.run.reduction_at(self.reached(step))
        return self.train.whole(self.train.choose(step), draw, reduction) | {"reduction": reduction}

    def losses(
        self, modules: Mapping[str, nn.Module], batch: dict[str, Any], phase: str, step: int
    ) -> dict[str, Tensor]:
        self.modules["synthesizer"].set_reduction(batch["reduction"])  # a buffer: goes into the checkpoint
        led = self.train.has_durations and self.reached(step) <= self.run.led_steps
        return self.all_losses(modules[phase](batch, led=led), batch, step, masked_mean)

    def all_losses(
        self, output: dict[str, Tensor], batch: dict[str, Tensor], step: int, mean: Mean
    ) -> dict[str, Tensor]:
        return tacotron_losses(output, batch, self.run.loss, self.modules["synthesizer"].reduction, step, mean)

    def begin(self, model: Tacotron, batch: dict[str, Tensor], dropout: ItemDropout) -> tuple[object, Post]:
        return model.remember(batch["tokens"], batch["token_lengths"], batch["speaker"], dropout), model.post
