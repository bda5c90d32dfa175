"""What the training loop needs to know of the synthesizers: their batches, losses and validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from synthesizer.batches import TextBatch
from synthesizer.config import CONVOLUTIONS, WITH_POSTNET, RunConfig, SynthesizerConfig
from synthesizer.data.dataset import SynthesisData
from synthesizer.models.build import NETWORKS
from synthesizer.models.emotion import EmotionOutput
from synthesizer.models.flow import FlowPostnet
from utils import plots
from utils.config import to_dict
from utils.data.manifest import Manifest, Utterance
from utils.errors import CloningError, MissingError
from utils.training.learner import freeze
from utils.training.sampling import by_chance
from utils.training.task import BatchT, Task
from utils.weights import checkpoint

VALIDATION_SEED = 0  # whatever the run's seed: runs that differ in it are compared by the same stretches and noise
N_VALIDATION = 32  # utterances that Tacotron speaks, which takes time; as many speakers as there are

Vocode = Callable[[np.ndarray, dict[str, Any]], np.ndarray]  # mel (M, F), settings of the mel -> samples (T,)


class SpeakerEmbeddings(NamedTuple):
    """Of what is heard in mels, of norm 1."""

    own: Tensor  # (B, D) by the encoder of the set
    camplus: Tensor | None = None  # (B, 192) by CAM++ (`encoder.camplus`), where it is a loss


Embed = Callable[[Tensor, Tensor], SpeakerEmbeddings]  # of mels (B, M, F), not normalized, lengths (B,), as they sound


def described(model: SynthesizerConfig) -> dict[str, Any]:
    """What checkpoints and states say of a model: what it has no part in is left out, so that older runs go on."""
    config = to_dict(model)
    if "transformer" not in model.architecture:
        del config["transformer"]
    if not model.emotion.labels:
        del config["emotion"]
    if model.architecture not in WITH_POSTNET or not model.flow.blocks:
        del config["flow"]
    if not model.conversion.channels:
        del config["conversion"]
    return config


class SynthesizerTask(Task[BatchT]):
    """What all have in common: the set, its held-out part, the header of the checkpoint."""

    kind = "synthesizer"
    scored_by = (
        "score", "loss.speaker_encoder", "loss.speaker_vocoder", "data.hold_out", "data.window", "data.crop",
        "data.embedding", "data.prompt_frames", "data.min_frames", "data.max_frames",
    )  # fmt: skip
    # named as the setting by which runs were measured before
    score_constants: dict[str, Any] = {"training.seed": VALIDATION_SEED}
    mel: dict[str, Any]

    def __init__(
        self, manifest: Manifest, config: RunConfig, vocode: Vocode | None = None, embed: Embed | None = None
    ) -> None:
        """vocode, embed: see `synthesizer.train.build_task`. Raises CloningError: the set does not suit the model."""
        self.config, self.vocode, self.embed = config, vocode, embed
        labels = config.model.emotion.labels
        self.train = SynthesisData(manifest, config.data, "train", config.training.seed, labels)
        self.held_out = SynthesisData(manifest, config.data, "validation", VALIDATION_SEED, labels)
        header, architecture = self.train.header, config.model.architecture
        if NETWORKS[architecture].needs_durations and not self.train.has_durations:
            raise MissingError(
                f"{manifest.root}: holds no durations, which the {architecture} synthesizer learns from: make the set "
                "with phone times, or set model.architecture to tacotron",
                "alignments",
            )
        self.model_config = described(config.model)
        self.mel = header["mel"]
        self.extra = {name: header.get(name) for name in ("text", "marks", "encoder", "level_dbfs")}
        self.n_symbols = len(header["text"]["symbols"])
        if config.model.speaker_size != (found := len(self.train.speaker(self.train.utterances[0]))):
            raise CloningError(
                f"the set's speaker embeddings have {found} numbers, the model wants {config.model.speaker_size}: "
                f"set model.speaker_size to {found}"
            )

    def begin_flow(self, flow: FlowPostnet | None) -> None:
        """As configured: like that of a parallel model, or fresh, with the statistics of this set."""
        if flow is None:
            return
        if self.config.flow_from:
            take_flow(flow, checkpoint.load_weights(self.config.flow_from, self.kind).state)
        else:
            mean, std = self.train.mel_statistics()
            flow.mel_mean.copy_(mean)
            flow.mel_std.copy_(std)

    def sample(self, mel: np.ndarray) -> dict[str, tuple[np.ndarray, int]]:
        """mel (M, F) as sound for the logs, where the script has given a vocoder."""
        if self.vocode is None or mel.shape[1] < 2:  # in the first steps, durations of nothing can be predicted
            return {}
        return {"sample": (self.vocode(mel, self.mel), self.mel["sample_rate"])}

    def names(self, step: int) -> list[str]:
        """Utterances in the batch of a step."""
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
        size = self.config.data.batch_size
        return [chosen[i : i + size] for i in range(0, len(chosen), size)]


def take_flow(flow: FlowPostnet, state: Mapping[str, Tensor]) -> None:
    """Begin as the flow of a parallel model's `state`, its blocks frozen: training changes how they are conditioned.

    Raises CloningError if its sizes are others.
    """
    theirs = {name.removeprefix("flow."): value for name, value in state.items() if name.startswith("flow.")}
    renamed = {"mel_mean": "mel_mean", "mel_std": "mel_std"}
    renamed |= {f"speaker.{name}": f"voice.{name}" for name in ("weight", "bias")}
    theirs |= {own: state[name] for name, own in renamed.items() if name in state}
    try:
        flow.load_state_dict({"hear.weight": flow.context_projection.weight, **theirs})
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise CloningError(f"flow_from: the flow of these weights does not fit model.flow: {reason}") from None
    freeze(flow, [f"stack.blocks.*.{part}" for part in CONVOLUTIONS])


def emotion_accuracy(output: EmotionOutput | None, batch: TextBatch) -> dict[str, Tensor]:
    """How often a clip's emotion is found; nothing for a network without emotions."""
    if output is None:
        return {}
    return {"emotion_accuracy": (output.logits.argmax(dim=1) == batch["emotion"]).float().mean()}


def add_frames(
    frames: dict[str, list[Tensor]], chosen: Sequence[Utterance], durations: Tensor, durations_log: Tensor
) -> None:
    """Add the utterances of a batch to `frames`, as `duration_scale` has it.

    durations (B, N) in frames, and as predicted, durations_log (B, N) of 1 + frames; tokens of no frames do not count.
    """
    planned = torch.expm1(durations_log.float()).clamp(min=0) * (durations > 0)
    for utterance, real, made in zip(chosen, durations.sum(dim=1), planned.sum(dim=1), strict=True):
        frames.setdefault(utterance.speaker, []).append(torch.stack([real, made]))


def duration_scale(frames: Mapping[str, Sequence[Tensor]]) -> float:
    """By how much made speech is too short: the geometric mean over speakers of spoken by made frames.

    frames: of each speaker, pairs (2,) of the frames of an utterance as spoken and as made. 1 where there are none.
    """
    if not frames:
        return 1.0
    ratios = [torch.stack(tuple(pairs)).sum(dim=0).clamp(min=1.0).double() for pairs in frames.values()]
    return float(torch.stack([(real / made).log() for real, made in ratios]).mean().exp())


def planned_pictures(mel: np.ndarray, alignment: np.ndarray) -> dict[str, Callable[[], Any]]:
    """How an utterance with planned durations looks: mel (M, F), alignment (F, N)."""
    return {"mel": partial(plots.plot_mel, mel), "durations": partial(plots.plot_alignment, alignment)}


def device_of(module: nn.Module) -> torch.device:
    """Where a module's weights lie."""
    return next(module.parameters()).device
