"""Training of the Transformer synthesizer: led by durations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from synthesizer.config import RunConfig
from synthesizer.models.layers import ItemDropout
from synthesizer.models.transformer import Transformer
from synthesizer.training.autoregressive import Post, StepByStepTask
from synthesizer.training.losses import Mean, emotion_losses, tacotron_losses
from synthesizer.training.task import Vocode
from utils.errors import CloningError
from utils.training.distributed import masked_mean
from utils.training.sampling import rng


class TransformerTask(StepByStepTask):
    """The Transformer."""

    untimed = 1  # the end symbol

    def __init__(self, data_dir: str, config: RunConfig, vocode: Vocode | None = None) -> None:
        super().__init__(data_dir, config, vocode)
        if not self.train.has_durations:
            raise CloningError(
                f"{data_dir}: holds no durations, which lead the attention: run synthesizer_preprocess.py "
                "with alignments, or train --set model.model=tacotron"
            )
        torch.manual_seed(config.training.seed)
        model = Transformer(config.model, self.n_symbols, self.mel["n_mels"])
        self.begin_flow(model.flow)
        self.modules = {"synthesizer": model}

    def batch(self, step: int) -> dict[str, Tensor]:
        draw = rng(self.run.training.seed, step, 2)
        return self.train.whole(self.train.choose(step), draw, self.run.model.transformer.reduction)

    def losses(
        self, modules: Mapping[str, nn.Module], batch: dict[str, Any], phase: str, step: int
    ) -> dict[str, Tensor]:
        return self.all_losses(modules[phase](batch), batch, step, masked_mean)

    def all_losses(
        self, output: dict[str, Tensor], batch: dict[str, Tensor], step: int, mean: Mean
    ) -> dict[str, Tensor]:
        reduction = self.run.model.transformer.reduction
        losses = tacotron_losses(output, batch, self.run.loss, reduction, step, mean)
        return losses | emotion_losses(output, batch, self.run.loss, mean)

    def begin(self, model: Transformer, batch: dict[str, Tensor], dropout: ItemDropout) -> tuple[object, Post]:
        emotion = model.emotion.label(batch["emotion"]) if model.emotion is not None else None
        condition = model.condition(batch["speaker"], emotion)
        memory = model.remember(batch["tokens"], batch["token_lengths"], condition)
        return memory, lambda mel, lengths, spoken: model.post(mel, lengths, condition, spoken)
