"""Training of the parallel synthesizer: on alignments, and at the end, if so set, through what its flow draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthesizer.batches import ParallelBatch
from synthesizer.config import RunConfig
from synthesizer.data.dataset import SynthesisData
from synthesizer.data.store import BatchVoices, Store, Voices
from synthesizer.models.durations import upsampling, whole_durations
from synthesizer.models.flow import normal_noise
from synthesizer.models.parallel import Parallel
from synthesizer.models.parallel_output import ParallelOutput
from synthesizer.training.losses import (
    UNWEIGHTED,
    learned_mask,
    local_mean,
    parallel_losses,
    ranked_probability_score,
)
from synthesizer.training.sharpening import (
    MelDiscriminators,
    frozen,
    mel_adversarial_losses,
    mel_discriminator_loss,
    phone_loss,
    speaker_distances,
)
from synthesizer.training.task import (
    Embed,
    SynthesizerTask,
    Vocode,
    add_frames,
    device_of,
    duration_scale,
    emotion_accuracy,
    planned_pictures,
)
from utils.data.manifest import Manifest, Utterance, read_manifest
from utils.errors import CloningError
from utils.training.batches import to_device
from utils.training.sampling import rng
from utils.training.task import Validation

N_PREDICTED = 96  # utterances that the parallel model is compared with
FROM_OUTSIDE = 0.6  # of the exchanged voices, where there is a set of voices without texts
RAMP = 0.05  # share of the training in which the weight of what judges drawn mels grows


class ParallelTask(SynthesizerTask[ParallelBatch]):
    """The parallel synthesizer."""

    network: type[Parallel] = Parallel

    def __init__(
        self, manifest: Manifest, config: RunConfig, vocode: Vocode | None = None, embed: Embed | None = None
    ) -> None:
        super().__init__(manifest, config, vocode, embed if config.scores_speech else None)
        torch.manual_seed(config.training.seed)
        model = self.model = self.network(config.model, self.n_symbols, self.mel["n_mels"])
        mean, std = self.train.mel_statistics()
        model.mel_mean.copy_(mean)
        model.mel_std.copy_(std)
        self.modules: dict[str, nn.Module] = {"synthesizer": model}
        conditioned = model.uses_voice_statistics or model.prompt is not None
        prompted = conditioned or config.data.embedding == "other"
        self.train.prompted = self.held_out.prompted = prompted
        if (config.loss.speaker or config.loss.camplus or config.score == "speech") and self.embed is None:
            raise CloningError(
                'loss.speaker, loss.camplus and score "speech" need a speaker encoder: pass `embed`, or set '
                'loss.speaker=0, loss.camplus=0 and score="losses"'
            )
        if config.scores_speech and (model.frame_classifier is None or model.flow is None):
            raise CloningError(
                'sharpening (loss.adversarial, speaker, camplus, phone_classification) and score="speech" need a flow '
                'and a frame classifier: set model.parallel.voice_statistics=true and model.parallel.decoder="flow", '
                'or the losses to 0 and score="losses"'
            )
        if config.loss.adversarial:
            self.modules["discriminators"] = MelDiscriminators()
        drawn = ("speaker_distance", "phone_error") if self.embed is not None else ("phone_error",)
        terms = ("duration", "prosody", *(drawn if config.scores_speech else ("mel",)))
        self.score_constants = {**self.score_constants, "score_terms": terms}  # their weights are 1
        self.sets = {"train": self.train}
        if config.data.replay:
            other, labels = read_manifest(config.data.replay, self.kind), config.model.emotion.labels
            replay = self.sets["replay"] = SynthesisData(other, config.data, "train", config.training.seed, labels)
            replay.prompted = prompted
            self._check_replay(replay)
        self.stores: dict[str, Store] = {}  # `sets` whole on the device, where they fit
        voices = config.data.untranscribed_set
        self.voices = Voices(voices) if config.loss.sharpens and voices else None
        if self.voices is not None and self.voices.encoder != (ours := self.train.header.get("encoder")):
            raise CloningError(
                f"{voices}: embeddings of encoder {self.voices.encoder}, {manifest.root} has those of "
                f"{ours}: preprocess both with the same encoder"
            )

    def _check_replay(self, replay: SynthesisData) -> None:
        """Raises CloningError for a set that was made in another way than the one that is learned."""
        for name in ("mel", "text", "encoder", "durations", "clauses", "level_dbfs"):
            if (theirs := replay.header.get(name)) != (ours := self.train.header.get(name)):
                raise CloningError(
                    f"data.replay: {self.config.data.replay} was preprocessed with another {name} ({theirs}, not "
                    f"{ours}): preprocess both with the same settings and encoder"
                )

    def resident(self, device: torch.device) -> bool:
        """Take the whole set into the device's memory if it fits, and it is a GPU's."""
        if isinstance(self.embed, nn.Module):
            self.embed.to(device)  # not in the first validation, whose inference mode would cling to the weights
        gigabytes = sum(part.frames.sum() for part in self.sets.values()) * self.mel["n_mels"] * 2 / 2**30
        if device.type != "cuda" or gigabytes > self.config.data.resident_gb:
            return False
        self.stores = {name: Store(part, part.read, device) for name, part in self.sets.items()}
        if self.voices is not None:
            self.voices.to(device)
        return True

    def sharpening(self) -> float:
        """The weight, 0 .. 1, of what judges drawn mels at this place in the training."""
        if not self.config.loss.sharpens:
            return 0.0
        return float(np.clip((self.progress - self.config.loss.sharpen_from) / RAMP, 0, 1))

    def phases(self, step: int) -> list[str]:
        """The modules to update at this step, in order."""
        adversarial = self.sharpening() and self.config.loss.adversarial
        return ["discriminators", "synthesizer"] if adversarial else ["synthesizer"]

    def batch(self, step: int) -> ParallelBatch:
        """The whole batch of a step, over all processes."""
        draw = rng(self.config.training.seed, step, 2)
        name, chosen = self._chosen(step)
        part, store = self.sets[name], self.stores.get(name)
        draws = part.draws(chosen, draw, self.config.data.window)
        if self.sharpening():
            draws = replace(draws, channels=None)  # drawn mels are judged by embeddings of the recordings
        batch = store.batch(chosen, draws) if store is not None else part.gathered(chosen, draws)
        if self.sharpening():
            self._exchange(batch, draw)
            generator = torch.Generator(batch["noise"].device).manual_seed(draws.seed + 1)
            batch["draw"] = torch.randn(batch["noise"].shape, generator=generator, device=batch["noise"].device)
        elif not self.config.loss.flow:
            del batch["noise"], batch["time"]  # no flow, of which nothing would be learned
        return batch

    def _chosen(self, step: int) -> tuple[str, list[Utterance]]:
        """The set of a step by name, and its utterances: with a replayed set, every other step is of that."""
        names = list(self.sets)
        name, number = names[(step - 1) % len(names)], (step - 1) // len(names) + 1
        return name, self.sets[name].choose(number)

    def names(self, step: int) -> list[str]:
        """Utterances in the batch of a step."""
        return [u.id for u in self._chosen(step)[1]]

    def _exchange(self, batch: ParallelBatch, draw: np.random.Generator) -> None:
        """Let every other item be spoken by somebody else, who never said it: by the last items' voices, or others'."""
        half = len(batch["seeds"]) // 2
        own = BatchVoices(
            batch["speaker"], batch["voice_statistics"], batch["prompt"], batch["prompt_lengths"], batch["embed"]
        )
        new = BatchVoices(*(value[half:].roll(1, dims=0) for value in own))
        if self.voices is not None:
            places = draw.random(half) < FROM_OUTSIDE
            new = self.voices.mixed_in(new, np.flatnonzero(places), draw)
        old, prosody = own.voice_statistics[half:], batch["prosody"].clone()
        given = new.voice_statistics
        pitch = (prosody[half:, :, 1] - old[:, :1]) * (given[:, 1:2] / old[:, 1:2]) + given[:, :1]
        known = pitch.isfinite() & (prosody[half:, :, 2] > 0)
        prosody[half:, :, 1] = torch.where(known, pitch, prosody[half:, :, 1])
        mixed = BatchVoices(*(torch.cat([a[:half], b]) for a, b in zip(own, new, strict=True)))
        batch["speaker"], batch["voice_statistics"], batch["prompt"], batch["prompt_lengths"], batch["embed"] = mixed
        batch["prosody"] = prosody
        batch["paired"] = torch.arange(len(batch["seeds"]), device=old.device) < half

    def losses(
        self, modules: Mapping[str, nn.Module], batch: ParallelBatch, phase: str, step: int
    ) -> dict[str, Tensor]:
        """The losses of the discriminators, or of the synthesizer."""
        if phase == "discriminators":
            with torch.no_grad():
                output = self.model(batch)
            return {"discriminators": mel_discriminator_loss(cast(MelDiscriminators, modules[phase]), output, batch)}
        output = modules["synthesizer"](batch)
        losses = parallel_losses(output, batch, self.config.loss) | self.taught(output, batch)
        if output.drawn is not None:
            judged = self._judged(modules, output, batch)
            losses |= {name: self.sharpening() * value for name, value in judged.items()}
        return losses

    def taught(self, output: ParallelOutput, batch: ParallelBatch) -> dict[str, Tensor]:
        """Losses against another network."""
        return {}

    def _judged(
        self, modules: Mapping[str, nn.Module], output: ParallelOutput, batch: ParallelBatch
    ) -> dict[str, Tensor]:
        """The losses of a drawn mel that are asked for."""
        config, losses = self.config.loss, {}
        if config.adversarial:
            losses = mel_adversarial_losses(cast(MelDiscriminators, modules["discriminators"]), output, batch, config)
        if (config.speaker or config.camplus) and self.embed is not None:
            found = speaker_distances(self.embed, output, batch, self.model, self.train.floor)
            losses |= {name: getattr(config, name) * distance for name, distance in found.items()}
        if config.phone_classification and (classifier := self.model.frame_classifier) is not None:
            losses["phone_classification"] = config.phone_classification * phone_loss(classifier, output)
        return losses

    def validate(self, modules: Mapping[str, nn.Module]) -> Validation:
        """The unweighted losses on held-out utterances, one of them as it would be spoken, and the scale of durations.

        score = duration + prosody + mel (`_mel_score`), or, where drawn mels are scored, what these are worth.
        """
        model = cast(Parallel, modules["synthesizer"])
        sums: dict[str, float] = {}
        frames: dict[str, list[Tensor]] = {}
        pitches: list[tuple[Tensor, Tensor]] = []  # of voiced tokens, as spoken and as predicted
        batches = self.validation_batches(N_PREDICTED)
        for chosen in batches:
            batch = self._held_out(chosen, model)
            if model.flow is not None:
                batch["draw"] = batch["noise"]
            output = model(batch)
            values = parallel_losses(output, batch, UNWEIGHTED, local_mean) | emotion_accuracy(output.emotion, batch)
            values["mel"] = self._mel_score(model, output, batch)
            if self.config.scores_speech:
                values |= self._drawn(model, output, batch)
            spoken = (batch["prosody"][..., 2] > 0) & (batch["durations"] > 0)
            pitches.append((output.prosody_target[..., 1][spoken], output.prosody[..., 1][spoken].float()))
            add_frames(frames, chosen, batch["durations"], output.durations_log)
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(chosen)
        count = sum(map(len, batches))
        metrics = {name: value / count for name, value in sums.items()}
        mel, alignment = self._example(model, batches[0][0])
        pictures = planned_pictures(mel, alignment)
        score = sum(metrics[name] for name in self.score_constants["score_terms"])
        # a mean of log durations is too short by half its error's variance: inference multiplies by this
        scale = pitch_scale(*map(torch.cat, zip(*pitches, strict=True)))
        calibration = {"duration_scale": duration_scale(frames), "pitch_scale": scale}
        waits = self.config.loss.sharpens and self.sharpening() < 1  # scores of mels that are not sharp yet
        return Validation(score, metrics, calibration, pictures, self.sample(mel), eligible=not waits)

    def _held_out(self, chosen: list[Utterance], model: Parallel) -> ParallelBatch:
        """The batch of held-out utterances, where the model is."""
        batch = self.held_out.windows(chosen, None, self.config.data.window)
        return cast(ParallelBatch, to_device(dict(batch), device_of(model)))

    def _drawn(self, model: Parallel, output: ParallelOutput, batch: ParallelBatch) -> dict[str, Tensor]:
        """The share of drawn frames that the classifier takes for another phone, and the distance to the voice."""
        assert output.drawn is not None and output.frame_targets is not None and model.frame_classifier is not None
        found = frozen(model.frame_classifier, output.drawn, output.mask).symbols.argmax(dim=-1)
        wrong = (found != output.frame_targets.symbols).float()
        values = {"phone_error": local_mean(wrong, output.mask[..., 0])}
        if self.embed is not None:
            distances = speaker_distances(self.embed, output, batch, model, self.train.floor)
            values |= {f"{name}_distance": distance for name, distance in distances.items()}
        return values

    def _mel_score(self, model: Parallel, output: ParallelOutput, batch: ParallelBatch) -> Tensor:
        """How far mels as spoken, with the recording's durations and prosody, are from recordings; normalized units."""
        mask = learned_mask(output.mask, batch)
        if output.drawn is None:
            return ranked_probability_score([output.mean], output.mel, mask)
        others = [torch.Generator().manual_seed(seed + 1) for seed in batch["seeds"].tolist()]
        noise = normal_noise(batch["window_lengths"], batch["noise"], others)
        second = model(cast(ParallelBatch, {**batch, "draw": noise})).drawn
        assert second is not None
        return ranked_probability_score([output.drawn, second], output.mel, mask)

    def _example(self, model: Parallel, utterance: Utterance) -> tuple[np.ndarray, np.ndarray]:
        """One held-out utterance as it would be spoken: mel (M, F) and alignment (F, N)."""
        batch = self._held_out([utterance], model)
        emotion = model.emotion.label(batch["emotion"]) if model.emotion is not None else None
        prompt = model.read_prompt(batch["prompt"], batch["prompt_lengths"])
        conditioning = model.condition(batch["speaker"], emotion, batch["voice_statistics"], *prompt)
        encoding = model.encode(batch["tokens"], batch["token_lengths"], conditioning, marks=batch["marks"])
        durations = whole_durations(torch.expm1(encoding.durations_log), batch["token_lengths"]).clamp(max=100)
        mel, _ = model.mels(encoding, durations, encoding.prosody, conditioning, [0])
        index, _ = upsampling(durations)
        return mel[0].cpu().numpy(), F.one_hot(index[0], durations.shape[1]).float().cpu().numpy()


def pitch_scale(spoken: Tensor, predicted: Tensor) -> float:
    """By how much predicted pitch (N,) is flatter than spoken pitch (N,): the ratio of their quartiles' distances."""
    if not len(spoken):
        return 1.0
    quartiles = torch.tensor([0.25, 0.75], device=spoken.device)
    wide, narrow = (torch.diff(values.float().quantile(quartiles)).item() for values in (spoken, predicted))
    return wide / narrow if narrow > 1e-3 else 1.0
