"""Training of a `MelConversion`: both mels of recordings, as they are; no text. All else, of the synthesizer that it is
of, stays as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from synthesizer.config import EmotionConfig, RunConfig, SynthesizerConfig
from synthesizer.conversion import converted_frames, frame_step
from synthesizer.data.dataset import SynthesisData
from synthesizer.models.build import build_network
from synthesizer.training.losses import local_mean
from synthesizer.training.task import Embed, SynthesizerTask, Vocode, described, device_of
from utils import plots
from utils.audio.io import from_pcm16, resample
from utils.audio.mel import MelConfig, mel_spectrogram
from utils.config import from_dict, to_dict
from utils.data.manifest import Manifest, Utterance
from utils.errors import CloningError, MissingError
from utils.training.batches import to_device
from utils.training.distributed import masked_mean
from utils.training.sampling import rng
from utils.training.task import Validation
from utils.weights import checkpoint

N_VALIDATION = 64  # utterances
EDGE = 4  # frames at a cut, whose windows reach beyond it


class ConversionBatch(TypedDict):
    """Stretches of recordings; "made" frames at the rate of the mel that is learned."""

    mel: Tensor  # (B, M, F) of the synthesizer
    wanted: Tensor  # (B, made, channels)
    mask: Tensor  # (B, made, 1) which of these count


class ConversionTask(SynthesizerTask[ConversionBatch]):
    """On a set that holds its waveforms, of which the other mel is computed."""

    def __init__(
        self, manifest: Manifest, config: RunConfig, vocode: Vocode | None = None, embed: Embed | None = None
    ) -> None:
        if not config.conversion_of:
            raise CloningError("conversion_of is empty: set it to the weights of the synthesizer whose mels to convert")
        source = checkpoint.load_weights(config.conversion_of, self.kind)
        sizes = from_dict(SynthesizerConfig, source.config, "synthesizer")
        model = replace(sizes, conversion=config.model.conversion)
        super().__init__(manifest, replace(config, model=replace(model, emotion=EmotionConfig())), vocode)
        if not self.train.header.get("audio"):
            raise MissingError(f"{manifest.root}: holds no waveforms: make the set anew and keep them", "waveforms")
        self.source_mel, self.made_mel = from_dict(MelConfig, source.mel, "mel"), config.model.conversion.mel
        if different := self.source_mel.differences(from_dict(MelConfig, self.mel, "mel")):
            raise CloningError(
                f"{config.conversion_of}: its mel is not that of {manifest.root} ({different[0]}): preprocess again"
            )
        self.config, self.model_config = config, described(model)
        self.calibration = source.calibration
        self.extra = {name: source.extra.get(name) for name in self.extra} | {"voices_of": source.fingerprint}
        self.step_frames = frame_step(self.source_mel, self.made_mel)
        torch.manual_seed(config.training.seed)
        self.model = build_network(model, len(source.extra["text"]["symbols"]), self.source_mel.n_mels)
        self.model.load_state_dict(source.state, strict=False)
        self.model.requires_grad_(False)
        conversion = self.model.conversion
        assert conversion is not None
        # the first is what is saved, the second what learns
        self.modules: dict[str, nn.Module] = {"synthesizer": self.model, "conversion": conversion.requires_grad_(True)}

    def phases(self, step: int) -> list[str]:
        """The modules to update at this step."""
        return ["conversion"]

    def batch(self, step: int) -> ConversionBatch:
        """The whole batch of a step, over all processes."""
        draw, window = rng(self.config.training.seed, step, 2), self.config.data.window
        chosen = self.train.choose(step)
        starts = [int(draw.integers(max(1, u.frames - window + 1))) for u in chosen]
        return self._stretches(self.train, chosen, starts)

    def _stretches(self, data: SynthesisData, chosen: Sequence[Utterance], starts: Sequence[int]) -> ConversionBatch:
        """From `starts`, in frames, at most data.window of each utterance."""
        mels, wanted, masks = zip(
            *(self._stretch(data, u, s) for u, s in zip(chosen, starts, strict=True)), strict=True
        )
        return {
            "mel": pad_sequence(list(mels), batch_first=True, padding_value=data.floor).transpose(1, 2),
            "wanted": pad_sequence(list(wanted), batch_first=True),
            "mask": pad_sequence(list(masks), batch_first=True)[..., None],
        }

    def _stretch(self, data: SynthesisData, utterance: Utterance, start: int) -> tuple[Tensor, Tensor, Tensor]:
        """mel (F, M), wanted (made, channels), mask (made,) of an utterance from a frame on."""
        hop, rates = self.source_mel.hop_length, (self.source_mel.sample_rate, self.made_mel.sample_rate)
        stop = min(start + self.config.data.window, utterance.frames)
        mel = data.mel(utterance, start, stop)
        end = stop * hop if stop < utterance.frames else None  # a hop more than the frames, where there is one
        wav = from_pcm16(data.arrays.read(utterance, "wav", start * hop, end))
        count = converted_frames(len(mel), self.step_frames)
        wanted = mel_spectrogram(torch.from_numpy(resample(wav, *rates)), self.made_mel).t()[:count]
        known = torch.ones(len(wanted), dtype=torch.bool)
        known[: EDGE * (start > 0)] = False
        known[len(known) - EDGE * (stop < utterance.frames) :] = False
        return torch.from_numpy(mel), wanted, known

    def losses(
        self, modules: Mapping[str, nn.Module], batch: ConversionBatch, phase: str, step: int
    ) -> dict[str, Tensor]:
        """Distance of the mels that are made, in their units."""
        made = modules[phase](batch["mel"], self.step_frames).transpose(1, 2)
        wanted = batch["wanted"]
        return {"mel": masked_mean((made[:, : wanted.shape[1]].float() - wanted).abs(), batch["mask"])}

    def validate(self, modules: Mapping[str, nn.Module]) -> Validation:
        """The same in decibels on held-out utterances, and how much of the differences between neighboring channels of
        recordings the made mels have, 1 for all: less where they are smooth."""
        conversion, device = modules["conversion"], device_of(modules["conversion"])
        errors, contrasts = [], []
        for chosen in self.validation_batches(N_VALIDATION):
            batch = to_device(dict(self._stretches(self.held_out, chosen, [0] * len(chosen))), device)
            wanted, mask = batch["wanted"], batch["mask"]
            made = conversion(batch["mel"], self.step_frames).transpose(1, 2)[:, : wanted.shape[1]].float()
            errors += [float(local_mean((made - wanted).abs(), mask))] * len(chosen)
            steepness = [local_mean(mel.diff(dim=2).abs(), mask) for mel in (made, wanted)]
            contrasts += [float(steepness[0] / steepness[1])] * len(chosen)
            example = made[0, : int(mask[0].sum())].t().cpu().numpy()
        decibels = -self.made_mel.min_db / (2 * self.made_mel.max_abs)
        error = float(np.mean(errors)) * decibels
        audio = {}
        if self.vocode is not None:
            audio = {"sample": (self.vocode(example, to_dict(self.made_mel)), self.made_mel.sample_rate)}
        return Validation(
            error, {"mel_db": error, "contrast": float(np.mean(contrasts))}, self.calibration,
            {"mel": partial(plots.plot_mel, example)}, audio,
        )  # fmt: skip
