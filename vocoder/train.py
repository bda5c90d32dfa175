"""Training of the vocoders as tasks of the common loop: waveform models (Vocos, HiFi-GAN) and WaveRNN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.adversarial import DiscriminatorOutput, adversarial_loss, discriminator_loss, feature_loss
from utils.audio.mel import MelConfig
from utils.config import to_dict
from utils.data.manifest import Manifest
from utils.errors import CloningError
from utils.training.sampling import rng
from utils.training.task import Task, Validation
from utils.weights.find import DEFAULT_MODELS, find_chosen
from vocoder.band import below
from vocoder.config import RunConfig
from vocoder.data import CropBatch, Crops, check_set, crop_mel, edge_frames, held_out
from vocoder.inference import Vocoder, WaveformVocoder
from vocoder.loss import mel_loss, mixture_loss, stft_loss
from vocoder.model import build_network
from vocoder.models.discriminators import Discriminators
from vocoder.models.source import Sourced
from vocoder.wavernn.generate import Generation, generate
from vocoder.wavernn.guide import emphasized, guide_inputs, with_phases_of
from vocoder.wavernn.network import WaveRNN
from vocoder.wavernn.pruning import Pruner
from vocoder.wavernn.quantize import encode_mu_law, label_to_float

VALIDATION_RESOLUTIONS = (256, 512, 1024, 2048)  # window lengths in samples
VALIDATION_PREEMPHASIS = 0.9


def build_task(manifest: Manifest, config: RunConfig) -> VocoderTask:
    """The task that a preset describes, on a set that vocoder_preprocess.py wrote."""
    check_set(manifest, config.model.mel, config.data.teacher_forced, config.model.sourced)
    torch.manual_seed(config.training.seed)  # the fresh weights
    return (WaveRNNTask if config.model.architecture == "wavernn" else WaveformTask)(manifest, config)


class VocoderTask(Task[CropBatch]):
    """What both families share: crops, held-out clips, the generator."""

    kind = "vocoder"
    scored_by = (
        "data.validation_*", "data.teacher_forced", "data.guide", "data.min_bandwidth", "data.crop_frames",
        "loss.within_band",
    )  # fmt: skip

    def __init__(self, manifest: Manifest, config: RunConfig) -> None:
        self.config, self.mel_config, self.guide = config, config.model.mel, read_guide(config)
        self.model_config, self.mel = to_dict(config.model), to_dict(config.model.mel)
        self.crops = Crops(
            manifest, self.mel_config, config.data, self.margin, config.training.seed, config.model.sourced
        )
        self.held_out = held_out(manifest, self.mel_config, config.data)
        self.modules: dict[str, nn.Module] = {"generator": build_network(config.model)}
        self.extra = {"teacher_forced": config.data.teacher_forced, "hours_of_audio": manifest.header.get("hours")}

    @property
    def margin(self) -> int:
        """Frames of waveform around a crop that its loss needs."""
        return edge_frames(self.mel_config)

    def batch(self, step: int) -> CropBatch:
        """The crops of a step, the place in a source's noise at which each begins, and their bands."""
        batch, seed, narrow = self.crops.batch(step), self.config.training.seed, self.config.data.narrow_hz
        size, device = len(batch["wav"]), batch["wav"].device
        start = rng(seed, step, 1).integers(2**31, size=size)
        batch["start"] = torch.from_numpy(start).to(device, non_blocking=True)
        if self.config.loss.within_band:
            batch["band"] = torch.from_numpy(self.crops.bands[self.crops.places(step)[0]]).to(device, non_blocking=True)
        if narrow:
            shown = np.where(rng(seed, step, 2).random(size) < 0.5, narrow, np.inf).astype(np.float32)
            batch["shown"] = torch.from_numpy(shown).to(device, non_blocking=True)
        return batch

    def resident(self, device: torch.device) -> bool:
        """Where half of a GPU's free memory holds the set."""
        if device.type != "cuda" or self.crops.bytes() > torch.cuda.mem_get_info(device)[0] // 2:
            return False
        self.crops.load(device)
        # all crops are of one length, so that the search for the fastest kernels, among the likeliest few, is done once
        torch.backends.cudnn.benchmark, torch.backends.cudnn.benchmark_limit = True, 4
        return True

    def names(self, step: int) -> list[str]:
        """Utterances in the batch of a step."""
        return [crop.utterance.id for crop in self.crops.at(step)]


class WaveformTask(VocoderTask):
    """Mel in, waveform out: spectral losses, and from a step on adversarial ones too."""

    # named as the settings by which runs were measured before
    score_constants = {
        "loss.resolutions": VALIDATION_RESOLUTIONS, "loss.stft_preemphasis": VALIDATION_PREEMPHASIS,
    }  # fmt: skip

    def __init__(self, manifest: Manifest, config: RunConfig) -> None:
        super().__init__(manifest, config)
        if self.guide is not None:  # a part of the network from here on
            self.modules["generator"].load_state_dict(self.guide.model.state_dict(), strict=False)
        if config.discriminator.start is not None:
            self.modules["discriminator"] = Discriminators(config.discriminator)

    @property
    def adversarial(self) -> bool:
        """Whether the discriminators take part at this place of the training."""
        start = self.config.discriminator.start
        return start is not None and self.position > start

    def phases(self, step: int) -> list[str]:
        """The modules whose losses a step minimizes, in this order."""
        return ["discriminator", "generator"] if self.adversarial else ["generator"]

    def losses(self, modules: Mapping[str, nn.Module], batch: CropBatch, phase: str, step: int) -> dict[str, Tensor]:
        """The weighted losses of a phase, () each."""
        weights, objective = self.config.loss, self.config.discriminator.objective
        mel, target = inputs_and_target(batch, self.mel_config)
        with torch.no_grad() if phase == "discriminator" else nullcontext():
            output = modules["generator"](mel, batch["start"])
        made = output.wav.float()
        if "band" in batch:
            made, target = (below(wav, batch["band"], self.mel_config.sample_rate) for wav in (made, target))
        if phase == "discriminator":
            of_real, of_made = discriminate(modules["discriminator"], target, made)
            return {"discriminator": discriminator_loss(of_real.scores, of_made.scores, objective)}
        losses: dict[str, Tensor] = {}
        if output.pitch_logits is not None and weights.pitch:
            network = self.modules["generator"]
            assert isinstance(network, Sourced)
            losses["pitch"] = weights.pitch * network.pitch_finder.loss(output.pitch_logits, batch["pitch"])
        if weights.stft:
            losses["stft"] = weights.stft * stft_loss(made, target, weights.resolutions, weights.stft_preemphasis)
        if weights.mel:
            losses["mel"] = weights.mel * mel_loss(made, target, self.mel_config)
        if self.adversarial:
            of_real, of_made = discriminate(modules["discriminator"], target, made)
            losses["adversarial"] = weights.adversarial * adversarial_loss(of_made.scores, objective)
            losses["feature_matching"] = weights.feature_matching * feature_loss(of_real.features, of_made.features)
        return losses

    def validate(self, modules: Mapping[str, nn.Module]) -> Validation:
        """score = distance of spectra (as `stft_loss`) + 0.1 * distance of mels in dB, whatever the loss is"""
        device = next(modules["generator"].parameters()).device
        to_db = -self.mel_config.min_db / (2 * self.mel_config.max_abs) if self.mel_config.scale == "db" else 1.0
        spectra, mels, audio = 0.0, 0.0, {}
        for i, item in enumerate(self.held_out):
            mel, target = item.tensors(self.mel_config, device)
            made = modules["generator"](mel).wav.float()
            if self.config.loss.within_band:
                band = torch.tensor([item.band], device=device)
                made, target = (below(wav, band, self.mel_config.sample_rate) for wav in (made, target))
            spectra += float(stft_loss(made, target, VALIDATION_RESOLUTIONS, VALIDATION_PREEMPHASIS))
            mels += to_db * float(mel_loss(made, target, self.mel_config))
            if i < 2:
                audio[f"held_out_{i}"] = (made[0].clamp(-1, 1).cpu().numpy(), self.mel_config.sample_rate)
        spectra, mels = spectra / len(self.held_out), mels / len(self.held_out)
        waits = self.config.discriminator.start is not None and not self.adversarial
        metrics = {"stft_distance": spectra, "mel_distance_db": mels}
        return Validation(spectra + 0.1 * mels, metrics, audio=audio, eligible=not waits)


class WaveRNNTask(VocoderTask):
    """Cross entropy (or the mixture's likelihood) of the next sample, as published; pruned on the way if so set.

    With a guide, the network hears what another vocoder makes of the mel, and learns the recording with its phases.
    """

    def __init__(self, manifest: Manifest, config: RunConfig) -> None:
        super().__init__(manifest, config)
        model = self.modules["generator"]
        assert isinstance(model, WaveRNN)
        start_ordered(model)
        if self.guide is not None:
            self.extra["guide"] = self.guide.fingerprint
        self.pruner = Pruner(config.pruning, config.model.wavernn, model) if config.pruning.sparsity else None

    @property
    def margin(self) -> int:
        """Frames of waveform around a crop that its loss needs."""
        behind = 0 if self.guide is None else self.guide.model.lookahead + 1
        return edge_frames(self.mel_config) + max(self.config.model.wavernn.pad, behind)

    def losses(self, modules: Mapping[str, nn.Module], batch: CropBatch, phase: str, step: int) -> dict[str, Tensor]:
        """The weighted losses of a phase, () each."""
        mel = batch["mel"] if "mel" in batch else crop_mel(batch["wav"], self.mel_config)
        edge, margin, frames = edge_frames(self.mel_config), self.margin, self.config.data.crop_frames
        wav, guide = self._guided(batch["wav"], mel, edge, batch["start"])
        pad, hop = self.config.model.wavernn.pad, self.mel_config.hop_length
        inner = mel[:, :, margin - edge - pad : margin - edge + frames + pad]
        losses = {"nll": self._likelihood(modules["generator"], wav, guide, inner, margin * hop, frames * hop)}
        return losses if self.pruner is None else {**losses, "_sparsity": torch.tensor(self.pruner.sparsity)}

    def begin_step(self, batch: CropBatch) -> None:
        """Take up the masks of the weights as they are, the first time."""
        if self.pruner is not None:
            self.pruner.read(self.modules["generator"])

    def constrain(self, weights: Mapping[str, Tensor], step: int) -> None:
        """Prune `weights` in place, as the schedule has it."""
        if self.pruner is not None:
            self.pruner.constrain(weights, self.config.pruning.reached(self.position))

    def _guided(self, wav: Tensor, mel: Tensor, edge: int, start: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """wav (B, T), mel (B, M, F) from frame `edge` of it on -> what is learned, and the guide (B, T) of it."""
        if self.guide is None:
            return wav, None
        made, before = guide_of(self.guide, mel, start), edge * self.mel_config.hop_length
        guide = F.pad(made, (before, wav.size(1) - before - made.size(1)))
        return with_phases_of(guide, wav), guide

    def _likelihood(
        self, model: nn.Module, wav: Tensor, guide: Tensor | None, mel: Tensor, start: int, length: int
    ) -> Tensor:
        """Negative log likelihood a sample; `mel` begins `pad` frames before sample `start` of `wav` and `guide`.

        The published models learn sample i + 1 from the conditioning of sample i; kept, so that weights exchange.
        """
        sizes = self.config.model.wavernn
        levels = 2 ** (sizes.bits if sizes.mode == "raw" else 16)
        target = emphasized(wav, sizes)
        if guide is not None:
            guide = emphasized(guide, sizes)
            target = (target - guide).clamp(-1, 1)
        target = target[:, start : start + length + 1]
        if sizes.mode == "mol":
            logits = model(target[:, :-1], mel * sizes.mel_scale)
            return mixture_loss(logits.float(), target[:, 1:], levels)
        labels = encode_mu_law(target, levels)
        inputs = [label_to_float(labels[:, :-1], levels), mel * sizes.mel_scale]
        if guide is not None:
            inputs.append(guide_inputs(guide, sizes)[:, start : start + length + sizes.guide_taps])
        logits = model(*inputs)
        return F.cross_entropy(logits.float().transpose(1, 2), labels[:, 1:])

    def validate(self, modules: Mapping[str, nn.Module]) -> Validation:
        """score = negative log likelihood on held-out speakers, in nats a sample"""
        model, sizes = modules["generator"], self.config.model.wavernn
        assert isinstance(model, WaveRNN)
        device, hop = next(model.parameters()).device, self.mel_config.hop_length
        total = 0.0
        for item in self.held_out:
            mel, target = item.tensors(self.mel_config, device)  # F = whole hops + 1: one pays for the last sample
            length = (mel.size(2) - 1 - 2 * sizes.pad) * hop
            target, guide = self._guided(target, mel, 0)
            total += float(self._likelihood(model, target, guide, mel[:, :, :-1], sizes.pad * hop, length))
        sample = self.held_out[0].tensors(self.mel_config, device)[0][:, :, :80]
        how = Generation(folded=sample.size(2) * hop > Generation.target)
        guide = None if self.guide is None else guide_of(self.guide, sample)[0]
        audio = generate(model, sample[0], seed=self.config.training.seed, how=how, guide=guide).clip(-1, 1)
        return Validation(total / len(self.held_out), audio={"held_out_0": (audio, self.mel_config.sample_rate)})


def read_guide(config: RunConfig) -> WaveformVocoder | None:
    """The vocoder that guides the network, if one does. Raises CloningError for one that does not fit."""
    model = config.model
    if not {"wavernn": model.wavernn.guide_taps, "hifigan": model.hifigan.guided}.get(model.architecture):
        return None
    path = find_chosen(DEFAULT_MODELS, "vocoder", config.data.guide or None)
    guide = Vocoder.load(path)
    if not isinstance(guide, WaveformVocoder):
        raise CloningError(f"data.guide {path}: is a {guide.name}; only a frame-rate vocoder guides")
    if different := guide.mel.differences(model.mel):
        raise CloningError(f"data.guide {path}: reads another mel than this model: {', '.join(different)}")
    part = ("source_filter", model.source_filter)
    if model.architecture == "hifigan" and (guide.name, guide.config.source_filter) != part:
        raise CloningError(f"data.guide {path}: is no source-filter of the sizes that model.source_filter has")
    return guide


def guide_of(guide: WaveformVocoder, mel: Tensor, start: Tensor | None = None) -> Tensor:
    """The waveform (B, (F - 1) * hop) that a guide makes of mel (B, M, F); start (B,) as `WaveformModel` has it."""
    with torch.no_grad():
        return guide.model.to(mel.device)(mel, start).wav.float()


def inputs_and_target(batch: CropBatch, config: MelConfig) -> tuple[Tensor, Tensor]:
    """Batch of `Crops` with a margin of `edge_frames` -> mel (B, M, F) and its waveform (B, (F - 1) * hop)."""
    wav, edge = batch["wav"], edge_frames(config) * config.hop_length
    heard = below(wav, batch["shown"], config.sample_rate) if "shown" in batch else wav
    mel = batch["mel"] if "mel" in batch else crop_mel(heard, config)
    return mel, wav[:, edge:-edge]


def discriminate(
    discriminators: nn.Module, real: Tensor, made: Tensor
) -> tuple[DiscriminatorOutput, DiscriminatorOutput]:
    """What discriminators make of real and made waveforms (B, T), in one pass: distributed training allows one."""
    both = discriminators(torch.cat([real, made]))
    n = real.size(0)
    return (
        DiscriminatorOutput([s[:n] for s in both.scores], [[f[:n] for f in fs] for fs in both.features]),
        DiscriminatorOutput([s[n:] for s in both.scores], [[f[n:] for f in fs] for fs in both.features]),
    )


@torch.no_grad()
def start_ordered(model: WaveRNN, sample_scale: float = 40.0, waves: int = 17) -> None:
    """Initial weights by which labels have an order; a model without them needs hundreds of steps to learn that.

    The sample before, and the samples of a guide, weigh enough among their 100 fellow inputs to tell levels apart, and
    logits of neighboring labels begin alike: rows of the last layer are sums of slow cosines over the labels.
    """
    model.I.weight[:, 0] *= sample_scale
    model.I.weight[:, model.I.in_features - model.config.guide_taps :] *= sample_scale / 4
    if model.config.mode == "raw":
        frequencies = torch.arange(waves)
        basis = torch.cos(math.pi * torch.linspace(0, 1, model.config.outputs)[:, None] * frequencies)
        rows = basis @ (torch.randn(waves, model.config.fc_size) / (1 + frequencies[:, None] / 4))
        model.fc3.weight.copy_(rows / rows.std() * 0.1)
