"""Training of the synthesizers that go step by step: validation is by how well they align on their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from synthesizer.batches import AutoregressiveBatch
from synthesizer.config import LossConfig
from synthesizer.models.alignment_quality import GOOD, AlignmentQuality, alignment_quality
from synthesizer.models.autoregressive import AutoregressiveModel, AutoregressiveOutput
from synthesizer.models.base import ModelInput
from synthesizer.models.layers import ItemDropout
from synthesizer.models.stopping import StoppingCriteria, frame_limit
from synthesizer.training.losses import UNWEIGHTED, Mean, autoregressive_losses, local_mean
from synthesizer.training.task import VALIDATION_SEED, SynthesizerTask, device_of, duration_scale, emotion_accuracy
from utils import plots
from utils.data.manifest import Utterance
from utils.training.batches import to_device
from utils.training.sampling import rng
from utils.training.task import Validation

N_SPOKEN = 4  # validation utterances that are spoken freely


class FreeRunResult(NamedTuple):
    """What came of held-out texts that were spoken without teacher forcing."""

    qualities: list[AlignmentQuality]  # of each
    mel: np.ndarray  # (M, F), of the first
    attention: np.ndarray  # (S, N), of the first
    stopped_by_token: float  # part that ended by the stop token
    duration_scale: float  # by how much these are too short


class AutoregressiveTask(SynthesizerTask[AutoregressiveBatch]):
    """Its score for the best checkpoint: mel losses, plus how far its free alignments are from perfect."""

    score_constants = {**SynthesizerTask.score_constants, "loss.flow": 1.0}

    def all_losses(
        self, output: AutoregressiveOutput, batch: AutoregressiveBatch, config: LossConfig, position: float, mean: Mean
    ) -> dict[str, Tensor]:
        """Losses of what the network makes of a batch, with teacher forcing, at a position in the training (`Task`)."""
        reduction = cast(AutoregressiveModel, self.modules["synthesizer"]).reduction
        return autoregressive_losses(output, batch, config, reduction, position, mean)

    def validate(self, modules: Mapping[str, nn.Module]) -> Validation:
        """The losses on held-out utterances, and some of them spoken freely."""
        model = cast(AutoregressiveModel, modules["synthesizer"])
        batches = self.validation_batches()
        sums: dict[str, float] = {}
        forced: list[AlignmentQuality] = []
        for chosen in batches:
            draw = rng(VALIDATION_SEED, 0, 3)  # the same stretches each time, as long as those of training
            held_out = self.held_out.whole(chosen, draw, model.reduction)
            batch = cast(AutoregressiveBatch, to_device(dict(held_out), device_of(model)))
            output = model(batch)
            values = self.all_losses(output, batch, UNWEIGHTED, 0, local_mean) | emotion_accuracy(output.emotion, batch)
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(chosen)
            steps = model.steps_of(batch["mel_lengths"])
            forced += [
                alignment_quality(a[:s, :n])
                for a, s, n in zip(output.attention, steps, batch["token_lengths"], strict=True)
            ]
        count = sum(map(len, batches))
        metrics = {name: value / count for name, value in sums.items()}
        metrics["alignment_quality_forced"] = sum(q.score for q in forced) / count
        free = self._speak(model, batches[len(batches) // 2][:N_SPOKEN])
        metrics |= {
            "alignment_quality": sum(q.score for q in free.qualities) / len(free.qualities),
            "coverage": sum(q.coverage for q in free.qualities) / len(free.qualities),
            "focus": sum(q.focus for q in free.qualities) / len(free.qualities),
            "skips": sum(q.skips for q in free.qualities) / len(free.qualities),
            "stopped_by_token": free.stopped_by_token,
        }
        score = metrics["mel"] + metrics["flow" if "flow" in metrics else "linear"] + 1 - metrics["alignment_quality"]
        calibration = {"duration_scale": free.duration_scale}
        pictures: dict[str, Callable[[], Any]] = {
            "mel": partial(plots.plot_mel, free.mel),
            "alignment": partial(plots.plot_alignment, free.attention),
        }
        return Validation(score, metrics, calibration, pictures, self.sample(free.mel), alignment_warnings(metrics))

    def _speak(self, model: AutoregressiveModel, chosen: list[Utterance]) -> FreeRunResult:
        """Held-out texts without teacher forcing."""
        device = device_of(model)
        inputs = self._input(model, chosen)
        lengths = [n - model.untimed_symbols for n in inputs.token_lengths.tolist()]
        symbols = self.extra["text"]["symbol_set"]  # no more than thrice the recording, whatever its transcript says
        limits = [min(frame_limit(n, symbols), 3 * u.frames) for n, u in zip(lengths, chosen, strict=True)]
        frame_seconds = self.mel["hop_length"] / self.mel["sample_rate"]
        stopper = StoppingCriteria(lengths, limits, model.reduction, frame_seconds)
        dropout = ItemDropout(inputs.seeds, device)
        memory = model.encode(inputs, dropout)
        output = model.free_run(memory, dropout, stopper, -(-max(limits) // model.reduction))
        found = [
            output.attention[i, : frames // model.reduction, :n]
            for i, (frames, n) in enumerate(zip(stopper.frames, lengths, strict=True))
        ]
        conditioning = model.conditioning(output.attention, memory, inputs.speaker, inputs.seeds)
        ends = torch.tensor(stopper.frames, device=device)
        mel = model.post(output.mel, ends, memory.condition, conditioning)[0, :, : stopper.frames[0]]
        lasting: dict[str, list[Tensor]] = {}
        for utterance, frames, reason in zip(chosen, stopper.frames, stopper.reasons, strict=True):
            if reason == "token":
                lasting.setdefault(utterance.speaker, []).append(torch.tensor([utterance.frames, frames]))
        by_token = sum(map(len, lasting.values())) / len(found)
        return FreeRunResult(
            qualities=[alignment_quality(attention) for attention in found],
            mel=mel.float().cpu().numpy(),
            attention=found[0].float().cpu().numpy(),
            stopped_by_token=by_token,
            duration_scale=duration_scale(lasting),
        )

    def _input(self, model: AutoregressiveModel, chosen: list[Utterance]) -> ModelInput:
        """Held-out texts with the voices and emotions that they were spoken with."""
        batch = to_device(dict(self.held_out.common(chosen, None)), device_of(model))
        emotion = model.emotion.label(batch["emotion"]) if model.emotion is not None else None
        tokens, speaker = batch["tokens"], batch["speaker"]
        marks, seeds = torch.zeros_like(tokens), batch["seeds"].tolist()
        return ModelInput(tokens, batch["token_lengths"], marks, speaker, seeds, emotion)


def alignment_warnings(metrics: Mapping[str, float]) -> list[str]:
    """What the numbers say in words, when the attention does not do what it should."""
    if metrics["alignment_quality"] >= GOOD:
        return []
    numbers = f"alignment quality {metrics['alignment_quality']:.2f}, below {GOOD}"
    forced = metrics["alignment_quality_forced"]
    if forced < GOOD:
        return [
            f"the attention does not align yet ({numbers}; with teacher forcing {forced:.2f}): "
            "speech will be babble; expected in the first thousands of steps, later preprocess with alignments, use "
            "phonemes, a higher reduction, or cleaner recordings"
        ]
    return [f"the attention aligns on real speech but not yet on its own ({numbers}): words may be skipped or repeated"]
