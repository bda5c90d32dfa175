"""What the training loop needs to know of the synthesizers: their batches, losses and validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthesizer.config import RunConfig
from synthesizer.data import SynthesisData
from synthesizer.loss import local_mean, parallel_losses
from synthesizer.parallel import Parallel, upsampling, whole_durations
from utils import plots
from utils.config import to_dict
from utils.errors import CloningError
from utils.manifest import Utterance
from utils.training import Task, Validation, rng

N_VALIDATION = 32  # utterances, spread over the validation speakers


Vocode = Callable[[np.ndarray, dict[str, Any]], np.ndarray]  # mel (M, F), settings of the mel -> samples (T,)


def build_task(data_dir: str, config: RunConfig, vocode: Vocode | None = None) -> Task:
    """The task for `config.model.model`; `vocode` makes the audio samples in the logs.

    Raises CloningError when the set does not suit the model.
    """
    if config.model.model == "parallel":
        return ParallelTask(data_dir, config, vocode)
    from synthesizer.train_tacotron import TacotronTask

    return TacotronTask(data_dir, config, vocode)


class SynthesizerTask(Task):
    """What both have in common: the set, its held-out part, the header of the checkpoint."""

    kind = "synthesizer"

    def __init__(self, data_dir: str, config: RunConfig, vocode: Vocode | None = None) -> None:
        self.run, self.vocode = config, vocode
        self.train = SynthesisData(data_dir, config.data, "train", config.training.seed)
        self.held_out = SynthesisData(data_dir, config.data, "validation", config.training.seed)
        header = self.train.header
        self.config: dict[str, Any] = to_dict(config.model)
        self.mel = header["mel"]
        self.extra = {name: header.get(name) for name in ("text", "marks", "encoder", "level_dbfs")}
        self.n_symbols = len(header["text"]["symbols"])
        if config.model.speaker_size != (found := len(self.train.speaker(self.train.utterances[0]))):
            raise CloningError(
                f"the set's speaker embeddings have {found} numbers, the model wants {config.model.speaker_size}: "
                f"--set model.speaker_size={found}"
            )

    def sample(self, mel: np.ndarray) -> dict[str, tuple[np.ndarray, int]]:
        """mel (M, F) as sound for the logs, where the script has given a vocoder."""
        if self.vocode is None or mel.shape[1] < 2:  # in the first steps, durations of nothing can be predicted
            return {}
        return {"sample": (self.vocode(mel, self.mel), self.mel["sample_rate"])}

    def names(self, step: int) -> list[str]:
        return [u.id for u in self.train.choose(step)]

    def validation_batches(self) -> list[list[Any]]:
        """The same utterances each time, spread over the held-out speakers, in batches of like length."""
        utterances = self.held_out.utterances
        chosen = [utterances[i] for i in np.linspace(0, len(utterances) - 1, N_VALIDATION).astype(int)]
        chosen = sorted({u.id: u for u in chosen}.values(), key=lambda u: (u.frames, u.id))
        size = self.run.data.batch_size
        return [chosen[i : i + size] for i in range(0, len(chosen), size)]


class ParallelTask(SynthesizerTask):
    """The parallel synthesizer."""

    def __init__(self, data_dir: str, config: RunConfig, vocode: Vocode | None = None) -> None:
        super().__init__(data_dir, config, vocode)
        if not self.train.has_durations:
            raise CloningError(
                f"{data_dir}: holds no durations, which the parallel model learns from: run synthesizer_preprocess.py "
                "with --alignments, or train --set model.model=tacotron"
            )
        torch.manual_seed(config.training.seed)
        model = Parallel(config.model, self.n_symbols, self.mel["n_mels"])
        mean, std = self.train.mel_statistics()
        model.mel_mean.copy_(mean)
        model.mel_std.copy_(std)
        self.modules = {"synthesizer": model}

    def batch(self, step: int) -> dict[str, Tensor]:
        draw = rng(self.run.training.seed, step, 2)
        return self.train.windows(self.train.choose(step), draw, self.run.data.window)

    def losses(
        self, modules: Mapping[str, nn.Module], batch: dict[str, Any], phase: str, step: int
    ) -> dict[str, Tensor]:
        return parallel_losses(modules[phase](batch), batch, self.run.loss)

    def validate(self, modules: Mapping[str, nn.Module]) -> Validation:
        model: Parallel = modules["synthesizer"]
        sums: dict[str, float] = {}
        spoken = planned = 0.0
        batches = self.validation_batches()
        for chosen in batches:
            batch = to_device(self.held_out.windows(chosen, None, self.run.data.window), model.mel_mean.device)
            output = model(batch)
            values = parallel_losses(output, batch, self.run.loss, local_mean)
            spoken += float(batch["durations"].sum())
            planned += float((torch.expm1(output["durations_log"].float()) * (batch["durations"] > 0)).sum())
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(chosen)
        count = sum(map(len, batches))
        metrics = {name: value / count for name, value in sums.items()}
        mel, alignment = self._example(model, batches[0][0])
        pictures = {"mel": partial(plots.plot_mel, mel), "durations": partial(plots.plot_alignment, alignment)}
        score = sum(metrics.values())
        # a mean of log durations is too short by half its error's variance: inference multiplies by this
        metrics["tempo"] = spoken / max(planned, 1.0)
        return Validation(score=score, metrics=metrics, figures=pictures, audio=self.sample(mel))

    def _example(self, model: Parallel, utterance: Utterance) -> tuple[np.ndarray, np.ndarray]:
        """One held-out utterance as it would be spoken: mel (M, F) and alignment (F, N)."""
        batch = to_device(self.held_out.common([utterance], None), model.mel_mean.device)
        speaker = model.condition(batch["speaker"])
        encoding = model.encode(batch["tokens"], batch["token_lengths"], speaker)
        durations = whole_durations(torch.expm1(encoding.durations_log), batch["token_lengths"]).clamp(max=100)
        mel, _ = model.mels(encoding, durations, encoding.prosody, speaker, [0])
        index, _ = upsampling(durations)
        return mel[0].cpu().numpy(), F.one_hot(index[0], durations.shape[1]).float().cpu().numpy()


def to_device(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: value.to(device) for name, value in batch.items()}
