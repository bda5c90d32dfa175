"""Training of the non-attentive Tacotron: all steps at once, since the durations of recordings are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from synthesizer.batches import AutoregressiveBatch
from synthesizer.config import RunConfig
from synthesizer.models.durations import whole_durations
from synthesizer.models.tacotron.non_attentive import NonAttentiveTacotron
from synthesizer.training.losses import UNWEIGHTED, local_mean, non_attentive_losses
from synthesizer.training.task import (
    VALIDATION_SEED,
    Embed,
    SynthesizerTask,
    Vocode,
    add_frames,
    device_of,
    duration_scale,
    planned_pictures,
)
from utils.data.manifest import Manifest, Utterance
from utils.training.batches import to_device
from utils.training.distributed import masked_mean
from utils.training.sampling import rng
from utils.training.task import Validation

LONGEST = 100  # frames of a token in the example: durations of an untrained network mean nothing


class NonAttentiveTask(SynthesizerTask[AutoregressiveBatch]):
    """Its score for the best checkpoint: the unweighted losses on held-out utterances."""

    score_constants = {**SynthesizerTask.score_constants, "loss.duration": 1.0, "loss.flow": 1.0}
    begins_as = ("tacotron",)  # of which all but the attention fits

    def __init__(
        self, manifest: Manifest, config: RunConfig, vocode: Vocode | None = None, embed: Embed | None = None
    ) -> None:
        super().__init__(manifest, config, vocode, embed)
        torch.manual_seed(config.training.seed)
        self.model = NonAttentiveTacotron(config.model, self.n_symbols, self.mel["n_mels"])
        self.begin_flow(self.model.flow)
        self.modules = {"synthesizer": self.model}

    def batch(self, step: int) -> AutoregressiveBatch:
        """The whole batch of a step, over all processes."""
        draw = rng(self.config.training.seed, step, 2)
        return self.train.whole(self.train.choose(step), draw, self.model.reduction)

    def losses(
        self, modules: Mapping[str, nn.Module], batch: AutoregressiveBatch, phase: str, step: int
    ) -> dict[str, Tensor]:
        """The losses of a batch with teacher forcing."""
        return non_attentive_losses(modules[phase](batch), batch, self.config.loss, masked_mean)

    def validate(self, modules: Mapping[str, nn.Module]) -> Validation:
        """The unweighted losses on held-out utterances, one as it would be spoken, and the scale of durations."""
        model = cast(NonAttentiveTacotron, modules["synthesizer"])
        sums: dict[str, float] = {}
        frames: dict[str, list[Tensor]] = {}
        batches = self.validation_batches()
        for chosen in batches:
            batch = self._held_out(chosen, model)
            output = model(batch)
            for name, value in non_attentive_losses(output, batch, UNWEIGHTED, local_mean).items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(chosen)
            add_frames(frames, chosen, batch["durations"], output.durations_log)
        count = sum(map(len, batches))
        metrics = {name: value / count for name, value in sums.items()}
        mel, alignment = self._example(model, batches[0][0])
        pictures = planned_pictures(mel, alignment)
        calibration = {"duration_scale": duration_scale(frames)}  # a mean of log durations is too short
        return Validation(sum(metrics.values()), metrics, calibration, pictures, self.sample(mel))

    def _held_out(self, chosen: list[Utterance], model: NonAttentiveTacotron) -> AutoregressiveBatch:
        """Stretches of held-out utterances, the same each time, where the model is."""
        draw = rng(VALIDATION_SEED, 0, 3)
        batch = self.held_out.whole(chosen, draw, model.reduction)
        return cast(AutoregressiveBatch, to_device(dict(batch), device_of(model)))

    def _example(self, model: NonAttentiveTacotron, utterance: Utterance) -> tuple[np.ndarray, np.ndarray]:
        """One held-out utterance as it would be spoken: mel (M, F) and alignment (F, N)."""
        batch = cast(AutoregressiveBatch, to_device(dict(self.held_out.common([utterance], None)), device_of(model)))
        memory = model.encode(batch["tokens"], batch["token_lengths"], batch["speaker"])
        durations = whole_durations(torch.expm1(memory.durations_log), batch["token_lengths"]).clamp(max=LONGEST)
        mels, alignment, _ = model.spoken(memory, durations, batch["speaker"], [0])
        return mels[0].float().cpu().numpy(), alignment[0].float().cpu().numpy()
