"""What trainings of the step-by-step synthesizers share: validation by how healthily they speak on their own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from synthesizer.models.alignment_quality import GOOD, Health, health
from synthesizer.models.flow import Spoken
from synthesizer.models.layers import ItemDropout
from synthesizer.models.stopping import EachByItself, frame_limit
from synthesizer.training.losses import Mean, local_mean
from synthesizer.training.task import SynthesizerTask, emotion_accuracy, to_device
from utils import plots
from utils.data.manifest import Utterance
from utils.training.sampling import rng
from utils.training.task import Validation

N_SPOKEN = 4  # validation utterances that are spoken freely
Post = Callable[[Tensor, Tensor, Spoken], Tensor]  # the postnet: mel (B, M, F), lengths (B,) -> (B, M, F)


class StepByStepTask(SynthesizerTask):
    """Its score for the best checkpoint: mel losses, plus how far its free alignments are from perfect."""

    untimed = 0  # symbols at the end of a text that take no time

    @abstractmethod
    def all_losses(
        self, output: dict[str, Tensor], batch: dict[str, Tensor], step: int, mean: Mean
    ) -> dict[str, Tensor]:
        """Of what the model makes of a batch, with teacher forcing."""

    @abstractmethod
    def begin(self, model: nn.Module, batch: dict[str, Tensor], dropout: ItemDropout) -> tuple[Any, Post]:
        """The memory that the model speaks a batch from, and its postnet for it."""

    def validate(self, modules: Mapping[str, nn.Module]) -> Validation:
        model = modules["synthesizer"]
        device = next(model.parameters()).device
        batches = self.validation_batches()
        sums: dict[str, float] = {}
        forced: list[Health] = []
        for chosen in batches:
            draw = rng(self.run.training.seed, 0, 3)  # the same stretches each time, as long as those of training
            batch = to_device(self.held_out.whole(chosen, draw, model.reduction), device)
            output = model(batch)
            values = self.all_losses(output, batch, 0, local_mean) | emotion_accuracy(output, batch)
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(chosen)
            steps = -(-batch["mel_lengths"] // model.reduction)
            forced += [
                health(a[:s, :n]) for a, s, n in zip(output["attention"], steps, batch["token_lengths"], strict=True)
            ]
        count = sum(map(len, batches))
        metrics = {name: value / count for name, value in sums.items()}
        metrics["health_forced"] = sum(h.number for h in forced) / count
        spoken, mel, picture, stopped = self._speak(model, batches[0][:N_SPOKEN])
        metrics |= {
            "health": sum(h.number for h in spoken) / len(spoken),
            "coverage": sum(h.coverage for h in spoken) / len(spoken),
            "focus": sum(h.focus for h in spoken) / len(spoken),
            "skips": sum(h.skips for h in spoken) / len(spoken),
            "stopped_by_token": stopped,
        }
        score = metrics["mel"] + metrics["flow" if "flow" in metrics else "linear"] + 1 - metrics["health"]
        pictures = {"mel": partial(plots.plot_mel, mel), "alignment": partial(plots.plot_alignment, picture)}
        return Validation(score, metrics, pictures, self.sample(mel), alignment_warnings(metrics))

    def _speak(self, model: nn.Module, chosen: list[Utterance]) -> tuple[list[Health], np.ndarray, np.ndarray, float]:
        """Free running on some held-out texts: health of each, mel and attention of one, part that stopped by token."""
        device = next(model.parameters()).device
        batch = to_device(self.held_out.common(chosen, None), device)
        lengths = (batch["token_lengths"] - self.untimed).tolist()
        dropout = ItemDropout(batch["seeds"], device)
        symbols = self.extra["text"]["symbol_set"]  # no more than thrice the recording, whatever its transcript says
        limits = [min(frame_limit(n, symbols), 3 * u.frames) for n, u in zip(lengths, chosen, strict=True)]
        frame_seconds = self.mel["hop_length"] / self.mel["sample_rate"]
        stopper = EachByItself(lengths, limits, model.reduction, frame_seconds)
        memory, post = self.begin(model, batch, dropout)
        output = model.generate(memory, dropout, stopper, -(-max(limits) // model.reduction))
        found = [
            output["attention"][i, : frames // model.reduction, :n]
            for i, (frames, n) in enumerate(zip(stopper.frames, lengths, strict=True))
        ]
        seeds = batch["seeds"].tolist()
        spoken = Spoken.of(output["attention"], memory.values, model.reduction, batch["speaker"], seeds)
        mel = post(output["mel"], torch.tensor(stopper.frames, device=device), spoken)[0, :, : stopper.frames[0]]
        by_token = sum(reason == "token" for reason in stopper.reasons) / len(found)
        shown = mel.float().cpu().numpy(), found[0].float().cpu().numpy()
        return [health(attention) for attention in found], *shown, by_token


def alignment_warnings(metrics: Mapping[str, float]) -> list[str]:
    """What the numbers say in words, when the attention does not do what it should."""
    if metrics["health"] >= GOOD:
        return []
    numbers = f"alignment health {metrics['health']:.2f}, below {GOOD}"
    if metrics["health_forced"] < GOOD:
        return [
            f"the attention does not align yet ({numbers}; with teacher forcing {metrics['health_forced']:.2f}): "
            "speech will be babble; expected in the first thousands of steps, later preprocess with --alignments, use "
            "phonemes, a higher reduction, or cleaner recordings"
        ]
    return [f"the attention aligns on real speech but not yet on its own ({numbers}): words may be skipped or repeated"]
