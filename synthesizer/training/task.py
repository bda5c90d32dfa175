"""What the training loop needs to know of the synthesizers: their batches, losses and validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from synthesizer.config import RunConfig, SynthesizerConfig
from synthesizer.data.dataset import SynthesisData, by_chance
from synthesizer.models.flow import FlowPostnet
from utils.config import to_dict
from utils.data.manifest import Utterance
from utils.errors import CloningError
from utils.training.task import Task
from utils.weights import checkpoint

N_VALIDATION = 32  # utterances that Tacotron speaks, which takes time; as many speakers as there are


Vocode = Callable[[np.ndarray, dict[str, Any]], np.ndarray]  # mel (M, F), settings of the mel -> samples (T,)


def described(model: SynthesizerConfig) -> dict[str, Any]:
    """What checkpoints and states say of a model: what it has no part in is left out, so that older runs go on."""
    config = to_dict(model)
    if model.model != "transformer":
        del config["transformer"]
    if not model.emotion.labels:
        del config["emotion"]
    if model.model == "parallel" or not model.flow.blocks:
        del config["flow"]
    return config


class SynthesizerTask(Task):
    """What both have in common: the set, its held-out part, the header of the checkpoint."""

    kind = "synthesizer"

    def __init__(self, data_dir: str, config: RunConfig, vocode: Vocode | None = None) -> None:
        self.run, self.vocode = config, vocode
        settings = (config.training.seed, config.model.emotion.labels)
        self.train = SynthesisData(data_dir, config.data, "train", *settings)
        self.held_out = SynthesisData(data_dir, config.data, "validation", *settings)
        header = self.train.header
        self.config: dict[str, Any] = described(config.model)
        self.mel = header["mel"]
        self.extra = {name: header.get(name) for name in ("text", "marks", "encoder", "level_dbfs")}
        self.n_symbols = len(header["text"]["symbols"])
        if config.model.speaker_size != (found := len(self.train.speaker(self.train.utterances[0]))):
            raise CloningError(
                f"the set's speaker embeddings have {found} numbers, the model wants {config.model.speaker_size}: "
                f"--set model.speaker_size={found}"
            )

    def begin_flow(self, flow: FlowPostnet | None) -> None:
        """As configured: like that of a parallel model, or fresh, with the statistics of this set."""
        if flow is None:
            return
        if self.run.flow_from:
            flow.take(checkpoint.load_weights(self.run.flow_from, self.kind).state)
        else:
            flow.mel_mean, flow.mel_std = self.train.mel_statistics()

    def sample(self, mel: np.ndarray) -> dict[str, tuple[np.ndarray, int]]:
        """mel (M, F) as sound for the logs, where the script has given a vocoder."""
        if self.vocode is None or mel.shape[1] < 2:  # in the first steps, durations of nothing can be predicted
            return {}
        return {"sample": (self.vocode(mel, self.mel), self.mel["sample_rate"])}

    def names(self, step: int) -> list[str]:
        return [u.id for u in self.train.choose(step)]

    def validation_batches(self, count: int = N_VALIDATION) -> list[list[Any]]:
        """The same utterances each time, one of each speaker before a second of any, in batches of like length."""
        of_speaker: dict[str, dict[str, Utterance]] = {}
        for utterance in self.held_out.utterances:
            of_speaker.setdefault(utterance.speaker, {})[utterance.id] = utterance
        turns = [
            (turn, speaker, found[name])
            for speaker, found in of_speaker.items()
            for turn, name in enumerate(by_chance(found))
        ]
        chosen = [u for _, _, u in sorted(turns, key=lambda item: item[:2])[:count]]
        chosen.sort(key=lambda u: (u.frames, u.id))
        size = self.run.data.batch_size
        return [chosen[i : i + size] for i in range(0, len(chosen), size)]


def emotion_accuracy(output: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """How often a clip's emotion is found; nothing for a model without emotions."""
    if "emotion_logits" not in output:
        return {}
    return {"emotion_accuracy": (output["emotion_logits"].argmax(dim=1) == batch["emotion"]).float().mean()}


def to_device(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: value.to(device) for name, value in batch.items()}
