"""Training of Tacotron: reduction schedule, supervised attention, and validation by the health of its alignments."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from synthesizer.config import RunConfig
from synthesizer.health import GOOD, Health, health
from synthesizer.layers import ItemDropout
from synthesizer.loss import local_mean, tacotron_losses
from synthesizer.stopping import EachByItself, frame_limit
from synthesizer.tacotron import Tacotron
from synthesizer.train import SynthesizerTask, Vocode, to_device
from utils import plots
from utils.manifest import Utterance
from utils.sampling import rng
from utils.task import Validation

N_SPOKEN = 4  # validation utterances that are spoken freely


class TacotronTask(SynthesizerTask):
    """Tacotron. Its score for the best checkpoint: mel losses, plus how far its free alignments are from perfect."""

    def __init__(self, data_dir: str, config: RunConfig, vocode: Vocode | None = None) -> None:
        super().__init__(data_dir, config, vocode)
        torch.manual_seed(config.training.seed)
        model = Tacotron(config.model, self.n_symbols, self.mel["n_mels"])
        self.begin_flow(model.flow)
        self.modules = {"synthesizer": model}

    def batch(self, step: int) -> dict[str, Tensor]:
        draw = rng(self.run.training.seed, step, 2)
        return self.train.whole(self.train.choose(step), draw, self.run.reduction_at(step))

    def losses(
        self, modules: Mapping[str, nn.Module], batch: dict[str, Any], phase: str, step: int
    ) -> dict[str, Tensor]:
        reduction = self.run.reduction_at(step)
        self.modules["synthesizer"].set_reduction(reduction)  # a buffer: goes into the checkpoint
        led = self.train.has_durations and step <= self.run.led_steps
        return tacotron_losses(modules[phase](batch, led=led), batch, self.run.loss, reduction, step)

    def validate(self, modules: Mapping[str, nn.Module]) -> Validation:
        model: Tacotron = modules["synthesizer"]
        batches = self.validation_batches()
        sums: dict[str, float] = {}
        forced: list[Health] = []
        for chosen in batches:
            draw = rng(self.run.training.seed, 0, 3)  # the same stretches each time, as long as those of training
            batch = to_device(self.held_out.whole(chosen, draw, model.reduction), model.encoder_proj.weight.device)
            output = model(batch)
            values = tacotron_losses(output, batch, self.run.loss, model.reduction, 0, local_mean)
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

    def _speak(self, model: Tacotron, chosen: list[Utterance]) -> tuple[list[Health], np.ndarray, np.ndarray, float]:
        """Free running on some held-out texts: health of each, mel and attention of one, part that stopped by token."""
        device = model.encoder_proj.weight.device
        batch = to_device(self.held_out.common(chosen, None), device)
        lengths = batch["token_lengths"].tolist()
        dropout = ItemDropout(batch["seeds"], device)
        limits = [frame_limit(n, self.extra["text"]["symbol_set"]) for n in lengths]
        frame_seconds = self.mel["hop_length"] / self.mel["sample_rate"]
        stopper = EachByItself(lengths, limits, model.reduction, frame_seconds)
        memory = model.remember(batch["tokens"], batch["token_lengths"], batch["speaker"], dropout)
        output = model.generate(memory, dropout, stopper, -(-max(limits) // model.reduction))
        found = [
            output["attention"][i, : frames // model.reduction, :n]
            for i, (frames, n) in enumerate(zip(stopper.frames, lengths, strict=True))
        ]
        frames = torch.tensor(stopper.frames, device=device)
        spoken = model.spoken(memory, output["attention"], batch["speaker"], batch["seeds"].tolist())
        mel = model.post(output["mel"], frames, spoken)[0, :, : stopper.frames[0]]
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
