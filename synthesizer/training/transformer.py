"""Training of the Transformer synthesizer: attention is supervised by durations."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from synthesizer.batches import AutoregressiveBatch
from synthesizer.config import RunConfig
from synthesizer.models.transformer import Transformer
from synthesizer.training.autoregressive import AutoregressiveTask
from synthesizer.training.task import Embed, Vocode
from utils.data.manifest import Manifest
from utils.training.distributed import masked_mean
from utils.training.sampling import rng


class TransformerTask(AutoregressiveTask):
    """The Transformer."""

    def __init__(
        self, manifest: Manifest, config: RunConfig, vocode: Vocode | None = None, embed: Embed | None = None
    ) -> None:
        super().__init__(manifest, config, vocode, embed)
        torch.manual_seed(config.training.seed)
        model = Transformer(config.model, self.n_symbols, self.mel["n_mels"])
        self.begin_flow(model.flow)
        self.modules = {"synthesizer": model}

    def batch(self, step: int) -> AutoregressiveBatch:
        """The whole batch of a step, over all processes."""
        draw = rng(self.config.training.seed, step, 2)
        return self.train.whole(self.train.choose(step), draw, self.config.model.transformer.reduction)

    def losses(
        self, modules: Mapping[str, nn.Module], batch: AutoregressiveBatch, phase: str, step: int
    ) -> dict[str, Tensor]:
        """The losses of a batch with teacher forcing."""
        return self.all_losses(modules[phase](batch), batch, self.config.loss, self.position, masked_mean)
