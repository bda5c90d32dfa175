"""Training of the Transformer synthesizer: led by durations, and validated by how healthily it speaks on its own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from synthesizer.config import RunConfig
from synthesizer.health import Health, health
from synthesizer.layers import ItemDropout
from synthesizer.loss import emotion_losses, local_mean, tacotron_losses
from synthesizer.stopping import EachByItself, frame_limit
from synthesizer.train import SynthesizerTask, Vocode, emotion_accuracy, to_device
from synthesizer.train_tacotron import N_SPOKEN, alignment_warnings
from synthesizer.transformer import Transformer
from utils import plots
from utils.distributed import masked_mean
from utils.errors import CloningError
from utils.manifest import Utterance
from utils.sampling import rng
from utils.task import Validation


class TransformerTask(SynthesizerTask):
    """The Transformer. Its score: mel losses, plus how far its own alignments are from perfect."""

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
        return self._losses(modules[phase](batch), batch, step, masked_mean)

    def _losses(self, output: dict[str, Tensor], batch: dict[str, Tensor], step: int, mean: Any) -> dict[str, Tensor]:
        reduction = self.run.model.transformer.reduction
        losses = tacotron_losses(output, batch, self.run.loss, reduction, step, mean)
        return losses | emotion_losses(output, batch, self.run.loss, mean)

    def validate(self, modules: Mapping[str, nn.Module]) -> Validation:
        model: Transformer = modules["synthesizer"]
        batches = self.validation_batches()
        sums: dict[str, float] = {}
        forced: list[Health] = []
        for chosen in batches:
            draw = rng(self.run.training.seed, 0, 3)  # the same stretches each time, as long as those of training
            batch = to_device(self.held_out.whole(chosen, draw, model.reduction), model.mel.weight.device)
            output = model(batch)
            values = self._losses(output, batch, 0, local_mean) | emotion_accuracy(output, batch)
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
            "stopped_by_token": stopped,
        }
        score = metrics["mel"] + metrics["flow" if "flow" in metrics else "linear"] + 1 - metrics["health"]
        pictures = {"mel": partial(plots.plot_mel, mel), "alignment": partial(plots.plot_alignment, picture)}
        return Validation(score, metrics, pictures, self.sample(mel), alignment_warnings(metrics))

    def _speak(self, model: Transformer, chosen: list[Utterance]) -> tuple[list[Health], np.ndarray, np.ndarray, float]:
        """Free running on some held-out texts: health of each, mel and attention of one, part that stopped by token."""
        device = model.mel.weight.device
        batch = to_device(self.held_out.common(chosen, None), device)
        lengths = (batch["token_lengths"] - 1).tolist()  # the end symbol takes no time
        emotion = model.emotion.label(batch["emotion"]) if model.emotion is not None else None
        condition = model.condition(batch["speaker"], emotion)
        limits = [frame_limit(n, self.extra["text"]["symbol_set"]) for n in lengths]
        frame_seconds = self.mel["hop_length"] / self.mel["sample_rate"]
        stopper = EachByItself(lengths, limits, model.reduction, frame_seconds)
        memory = model.remember(batch["tokens"], batch["token_lengths"], condition)
        dropout = ItemDropout(batch["seeds"], device)
        output = model.generate(memory, dropout, stopper, -(-max(limits) // model.reduction))
        found = [
            output["attention"][i, : frames // model.reduction, :n]
            for i, (frames, n) in enumerate(zip(stopper.frames, lengths, strict=True))
        ]
        frames = torch.tensor(stopper.frames, device=device)
        spoken = model.spoken(memory, output["attention"], batch["speaker"], batch["seeds"].tolist())
        mel = model.post(output["mel"], frames, condition, spoken)[0, :, : stopper.frames[0]]
        by_token = sum(reason == "token" for reason in stopper.reasons) / len(found)
        shown = mel.float().cpu().numpy(), found[0].float().cpu().numpy()
        return [health(attention) for attention in found], *shown, by_token
