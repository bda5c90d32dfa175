"""Training of Tacotron: reduction schedule, and attention that is supervised, or given at first."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from synthesizer.batches import AutoregressiveBatch
from synthesizer.config import RunConfig
from synthesizer.models.tacotron.network import Tacotron
from synthesizer.training.autoregressive import AutoregressiveTask
from synthesizer.training.task import Embed, Vocode
from utils.data.manifest import Manifest
from utils.training.distributed import masked_mean
from utils.training.sampling import rng


class TacotronTask(AutoregressiveTask):
    """Tacotron."""

    def __init__(
        self, manifest: Manifest, config: RunConfig, vocode: Vocode | None = None, embed: Embed | None = None
    ) -> None:
        super().__init__(manifest, config, vocode, embed)
        torch.manual_seed(config.training.seed)
        self.model = Tacotron(config.model, self.n_symbols, self.mel["n_mels"])
        self.begin_flow(self.model.flow)
        self.modules = {"synthesizer": self.model}

    def batch(self, step: int) -> AutoregressiveBatch:
        """The whole batch of a step, over all processes, and the reduction that it was made for."""
        draw = rng(self.config.training.seed, step, 2)
        reduction = self.config.reduction_at(self.position)
        batch = self.train.whole(self.train.choose(step), draw, reduction)
        batch["reduction"] = reduction
        return batch

    def begin_step(self, batch: AutoregressiveBatch) -> None:
        """Make as many frames a step as the batch is made for; a buffer: goes into the checkpoint."""
        self.model.set_reduction(batch["reduction"])

    def losses(
        self, modules: Mapping[str, nn.Module], batch: AutoregressiveBatch, phase: str, step: int
    ) -> dict[str, Tensor]:
        """The losses of a batch with teacher forcing, at first with a forced alignment too."""
        forced = self.train.has_durations and self.position <= self.config.forced_alignment_steps
        return self.all_losses(
            modules[phase](batch, forced_alignment=forced), batch, self.config.loss, self.position, masked_mean
        )
