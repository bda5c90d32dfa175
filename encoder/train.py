"""What the training loop has to know about the speaker encoder."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from encoder.check import check_set
from encoder.config import RunConfig
from encoder.data import SpeakerBatch, TrainingBatches, ValidationCrops, validation_crops
from encoder.loss import (
    additive_margin,
    ge2e_softmax,
    scale_gradient,
    similarity_matrix,
)
from encoder.model import PROTOTYPES, build_network
from encoder.names import KIND, OWN, perturbation_name
from encoder.perturbation import formant_shift, perturbed_mel
from encoder.teach import TeacherEmbeddings, read_teacher_embeddings
from encoder.verification import batch_error_rate, pairwise_error_rate
from utils.audio.mel import mel_spectrogram
from utils.config import to_dict
from utils.data.manifest import Manifest
from utils.errors import CloningError, MissingError
from utils.training.distributed import gather_rows, world_size
from utils.training.task import Task, Validation

log = logging.getLogger(__name__)


def build_task(manifest: Manifest, config: RunConfig) -> EncoderTask:
    """The task that a preset describes, on a set that encoder_preprocess.py wrote.

    Raises CloningError: the set has another sample rate or level than the model.
    """
    check_set(manifest, config.model, "set model.mel.sample_rate and model.target_dbfs to those of the set")
    speakers = len({utterance.speaker for utterance in manifest.split("train")})
    if 1 < speakers < config.data.speakers:  # a preset is for large sets
        log.warning("%d training speakers: a batch has all of them, not %d", speakers, config.data.speakers)
        config = replace(config, data=replace(config.data, speakers=speakers))
    return EncoderTask(manifest, config)


class EncoderTask(Task[SpeakerBatch]):
    """Learn embeddings from speakers (GE2E, angular margin), from a teacher (distillation), or from both."""

    kind = KIND
    scored_by = ("data.validation_*",)

    def __init__(self, manifest: Manifest, config: RunConfig) -> None:
        teacher = read_teacher_embeddings(manifest.root) if config.loss.distill_weight else None
        _require_teacher(manifest, config, teacher)
        self.config, self.loss = config, config.loss
        self.batches = TrainingBatches(manifest, config, teacher)
        self.crops = [validation_crops(manifest, config, s, teacher) for s in config.data.validation_seconds]
        torch.manual_seed(config.training.seed)
        network = build_network(config.model)
        if self.loss.aam_weight:
            network.register_parameter(PROTOTYPES, nn.Parameter(self.batches.prototypes()))
        self.modules = {"encoder": network}
        self.model_config, self.mel = to_dict(config.model), to_dict(config.model.mel)
        self.extra: dict[str, Any] = {
            "loss": to_dict(config.loss),
            "speakers": len(self.batches.speakers),
            "training_only": [PROTOTYPES],
            "teacher": None,
        }
        if teacher is not None:
            self.extra["teacher"] = {"fingerprint": teacher.fingerprint, "voices": list(teacher.embeddings)}

    def __getstate__(self) -> dict[str, Any]:
        # Loader processes only make batches: they get neither weights nor validation crops
        return {**self.__dict__, "modules": {}, "crops": []}

    def resident(self, device: torch.device) -> bool:
        """Whether all recordings fit on the device, where they now are, and batches are made."""
        if device.type != "cuda" or 2 * self.batches.bytes_needed > torch.cuda.mem_get_info(device)[0]:
            return False
        self.batches.move(device)
        return True

    def batch(self, step: int) -> SpeakerBatch:
        """As `TrainingBatches.batch`."""
        return self.batches.batch(step, self.progress)

    def names(self, step: int) -> list[str]:
        """Utterances in the batch of a step."""
        return self.batches.names(step)

    def losses(self, modules: Mapping[str, nn.Module], batch: SpeakerBatch, phase: str, step: int) -> dict[str, Tensor]:
        """Weighted losses; `_eer` of the batch, where GE2E is on, is only logged."""
        data = self.config.data
        if data.batch_size % world_size():
            raise CloningError(
                f"a batch of {data.speakers} x {data.utterances} cannot be shared by {world_size()} processes: "
                "set data.speakers so that it is a multiple"
            )
        network = modules[phase]
        embeddings = network(self._inputs(batch)).float()
        with torch.autocast(embeddings.device.type, enabled=False):
            return self._weigh(getattr(network, "module", network), embeddings, batch)

    def _weigh(self, network: Any, embeddings: Tensor, batch: SpeakerBatch) -> dict[str, Tensor]:
        data, loss = self.config.data, self.loss
        weight, bias = scale_gradient(network.similarity_weight), scale_gradient(network.similarity_bias)
        values: dict[str, Tensor] = {}
        if loss.distill_weight:
            target = batch["target"]
            distance = (1 - (embeddings * target).sum(dim=1)) * target.any(dim=1)  # some speeds: no target
            # Divided by the share that is expected, not found: so that processes agree
            share = max(self.batches.target_share, 1e-3)
            values["distill"] = loss.distill_weight * distance.mean() / share
        if loss.ge2e_weight:
            every = gather_rows(embeddings).unflatten(0, (data.speakers, data.utterances))
            value, eer = ge2e_loss(every, weight, bias)
            values["ge2e"] = loss.ge2e_weight * value
            values["_eer"] = torch.tensor(eer)
        if loss.aam_weight:
            margin = self._margin(self.progress)
            value = additive_margin(embeddings, network.prototypes, batch["speaker"], margin, loss.aam_scale)
            values["aam"] = loss.aam_weight * value
        if not loss.ge2e_weight:
            # Several processes wait for the gradient of every parameter, so these two get one: zero
            first = next(iter(values))
            values[first] = values[first] + 0 * (weight + bias).sum()
        return values

    def _margin(self, progress: float) -> float:
        loss = self.loss
        if loss.aam_final_margin and progress >= 1 - self.config.data.final_share:
            return loss.aam_final_margin
        return loss.aam_margin * (min(1.0, progress / loss.aam_rise) if loss.aam_rise else 1.0)

    def _inputs(self, batch: SpeakerBatch) -> Tensor:
        """Mel (B, M, F) of the rows in their voices, with its masked regions."""
        config, moves = self.config.model.mel, None
        if any(formants != 1 for _, formants in self.batches.perturbations):
            device = batch["wav"].device
            own = [formant_shift(formants, config, device) for _, formants in self.batches.perturbations]
            moves = torch.stack(own)[batch["perturbation"]]
        mel = perturbed_mel(batch["wav"], config, moves)
        return apply_masks(mel, batch["mask"]) if self.config.augment.mask else mel

    # -- validation ----------------------------------------------------------------------------------------------------

    def validate(self, modules: Mapping[str, nn.Module]) -> Validation:
        """EER over pairs of fixed crops of held-out speakers; the score is its mean over the crop lengths.

        Pairs from two recordings alone where some speakers have several. `eer_<corpus>`: within a corpus, where nothing
        but the voice tells speakers apart; `spread`: how far apart one speaker's crops are, as a share of how far
        apart those of two speakers are.
        """
        network = modules["encoder"]
        metrics: dict[str, float] = {}
        warnings: list[str] = []
        embedded = [self._embed(network, crops) for crops in self.crops]
        for crops, embeddings in zip(self.crops, embedded, strict=True):
            measured = measure(embeddings, crops)
            metrics |= {f"{name}_{crops.seconds:g}s": value for name, value in measured.items()}
            if crops.target is not None:
                target = self.batches.centered(crops.target)
                metrics[f"teacher_cosine_{crops.seconds:g}s"] = float((embeddings * target).sum(axis=1).mean())
            mean = embeddings.mean(axis=0)
            if float(mean @ mean) > 0.98 and measured["eer"] > 0.3:
                warnings.append("all embeddings are nearly the same: if it does not pass, lower training.learning_rate")
        score = float(np.mean([metrics[f"eer_{crops.seconds:g}s"] for crops in self.crops]))
        metrics["eer"] = score
        longest = self.crops[-1]
        shown = longest.speakers < 12
        return Validation(
            score,
            metrics,
            figures={"similarity": lambda: _heat_map(embedded[-1][shown], longest.speakers[shown], longest.names)},
            warnings=warnings,
        )

    def _embed(self, network: nn.Module, crops: ValidationCrops) -> np.ndarray:
        device = next(network.parameters()).device
        config = self.config.model.mel
        rows = []
        for start in range(0, len(crops.wav), 64):
            wav = torch.from_numpy(crops.wav[start : start + 64]).to(device)
            lengths = 1 + torch.from_numpy(crops.lengths[start : start + 64]).to(device) // config.hop_length
            rows.append(network(mel_spectrogram(wav, config), lengths).float().cpu().numpy())
        return np.concatenate(rows)


def ge2e_loss(embeddings: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, float]:
    """GE2E softmax loss of a batch (I, U, D), and its EER."""
    similarity = similarity_matrix(embeddings, weight, bias)
    return ge2e_softmax(similarity), batch_error_rate(similarity)


def measure(embeddings: np.ndarray, crops: ValidationCrops) -> dict[str, float]:
    """EER over all pairs of crops and within each corpus, and the spread: embeddings (N, D) of length 1."""
    several = len(np.unique(crops.recordings)) > len(crops.names)  # someone has several recordings
    recordings = crops.recordings if several else None
    found = {"eer": pairwise_error_rate(embeddings, crops.speakers, recordings)}
    corpora = np.array([name.partition("-")[0] for name in crops.names])[crops.speakers]
    for corpus in np.unique(corpora) if several else ():
        rows = corpora == corpus
        speakers, own = crops.speakers[rows], crops.recordings[rows]
        if len(np.unique(own)) > len(np.unique(speakers)) > 1:
            found[f"eer_{corpus}"] = pairwise_error_rate(embeddings[rows], speakers, own)
    distance, same = 1 - embeddings @ embeddings.T, crops.speakers[:, None] == crops.speakers
    apart = crops.recordings[:, None] != crops.recordings if several else ~np.eye(len(same), dtype=bool)
    found["spread"] = float(distance[same & apart].mean() / max(float(distance[~same].mean()), 1e-9))
    return found


def apply_masks(mel: Tensor, bounds: Tensor) -> Tensor:
    """mel (B, M, F), bounds (B, 4) of channels and frames -> the band and the stretch at the row's geometric mean."""
    channel = torch.arange(mel.size(1), device=mel.device)
    frame = torch.arange(mel.size(2), device=mel.device)
    band = (channel >= bounds[:, 0:1]) & (channel < bounds[:, 1:2])
    stretch = (frame >= bounds[:, 2:3]) & (frame < bounds[:, 3:4])
    level = mel.clamp(min=1e-6).log().mean(dim=(1, 2), keepdim=True).exp()
    return torch.where(band[:, :, None] | stretch[:, None, :], level, mel)


def _require_teacher(manifest: Manifest, config: RunConfig, teacher: TeacherEmbeddings | None) -> None:
    augment, loss = config.augment, config.loss
    unheard = [other for other in augment.perturbations if teacher is None or other not in teacher.embeddings]
    if augment.speed and unheard and not loss.ge2e_weight + loss.aam_weight:
        raise MissingError(
            f"augment.speed makes new voices, but nothing learns from that of {perturbation_name(unheard[0])}: "
            "let the teacher embed these voices too, or set augment.speed to 0",
            "perturbed teacher",
        )
    if not loss.distill_weight:
        return
    if teacher is None:
        raise MissingError(
            f"{manifest.root}: no teacher's embeddings in this set, loss.distill_weight is "
            f"{config.loss.distill_weight:g}: let a teacher embed the set, or set the weight to 0",
            "teacher",
        )
    if missing := {u.id for u in manifest.utterances} - set(teacher.ids):
        raise MissingError(
            f"{manifest.root}: {len(missing)} utterances have no embedding of the teacher, such as {min(missing)}: "
            "let it embed the set again",
            "teacher",
        )
    size = teacher.embeddings[OWN].shape[1]
    if size != config.model.embedding_size:
        raise CloningError(
            f"the teacher's embeddings have {size} dimensions, the model's "
            f"{config.model.embedding_size}: set model.embedding_size to {size}"
        )


def _heat_map(embeddings: np.ndarray, speakers: np.ndarray, names: list[str]) -> Any:
    from encoder.plots import plot_similarity

    return plot_similarity(embeddings, [names[s] for s in speakers], title="held-out speakers: cosine of crops")
