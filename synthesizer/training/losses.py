"""Losses of the synthesizers: all masked, all the same however a batch is padded or divided among processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from synthesizer.batches import AutoregressiveBatch, ParallelBatch, TextBatch
from synthesizer.config import LossConfig
from synthesizer.models.autoregressive import AutoregressiveOutput
from synthesizer.models.emotion import EmotionOutput
from synthesizer.models.flow import FlowOutput
from synthesizer.models.frame_classifier import frame_class_losses
from synthesizer.models.parallel_output import ParallelOutput
from utils.masks import length_mask
from utils.training.distributed import masked_mean

Mean = Callable[[Tensor, Tensor], Tensor]  # of values where a mask is true

# Validation measures by these, so that runs with other weights are comparable.
UNWEIGHTED = LossConfig(
    duration=1.0, prosody=1.0, mean=1.0, flow=1.0, stop=1.0, attention=1.0, emotion=1.0, frame_classifier=1.0,
    voice_statistics=1.0,
)  # fmt: skip


def local_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where `mask` is true, in this process alone: validation runs in one process only."""
    mask = mask.expand_as(values).to(values.dtype)
    return (values * mask).sum() / mask.sum().clamp(min=1)


def parallel_losses(
    output: ParallelOutput, batch: ParallelBatch, config: LossConfig, mean: Mean = masked_mean
) -> dict[str, Tensor]:
    """The losses of the parallel network: duration and prosody over tokens, mean and flow over frames of the window."""
    tokens = length_mask(batch["token_lengths"], batch["tokens"].shape[1])
    if "paired" in batch:
        tokens = tokens & batch["paired"][:, None]
    durations = batch["durations"].float()
    timed = tokens[..., None] & (durations > 0)[..., None]
    wanted = torch.log1p(durations)
    mask = learned_mask(output.mask, batch)
    losses = {
        "duration": config.duration * mean((output.durations_log.float() - wanted).square(), tokens),
        "prosody": config.prosody * mean((output.prosody.float() - output.prosody_target).square(), timed),
        "mean": config.mean * mean((output.mean.float() - output.mel).abs(), mask),
    }
    if output.flow is not None:
        losses["flow"] = config.flow * flow_loss(output.flow, mean, mask)
    if output.voice_statistics is not None:
        known = batch["voice_statistics"].isfinite()
        voice_statistics = torch.where(known, batch["voice_statistics"], 0.0)
        error = F.smooth_l1_loss(output.voice_statistics.float(), voice_statistics, reduction="none", beta=0.1)
        losses["voice_statistics"] = config.voice_statistics * mean(error, known)
    if output.frame_classes is not None and (wanted_classes := output.frame_targets) is not None:
        target = wanted_classes.symbols, wanted_classes.durations, wanted_classes.silent
        values = frame_class_losses(output.frame_classes, *target)
        losses |= {name: config.frame_classifier * mean(value, output.mask[..., 0]) for name, value in values.items()}
    return losses | emotion_losses(output.emotion, batch, config, mean)


def ranked_probability_score(draws: Sequence[Tensor], target: Tensor, mask: Tensor) -> Tensor:
    """Mean continuous ranked probability score of draws (B, W, M), two or one, against a mel (B, W, M) -> ().

    With one, the L1 error. With two, half of their distance is taken off, so that the expected score is lowest for
    draws from the true distribution, not for the mean (Gneiting and Raftery 2007, doi 10.1198/016214506000001437,
    eq. 21): smooth and drawn mels can be compared. mask: where it counts, see `learned_mask`.
    """
    errors = torch.stack([(draw.float() - target).abs() for draw in draws]).mean(dim=0)
    return local_mean(errors - 0.5 * (draws[0].float() - draws[-1].float()).abs(), mask)


def learned_mask(mask: Tensor, batch: ParallelBatch) -> Tensor:
    """Where a mel is learned from: mask (B, W, 1) -> the same, or (B, W, M) where recordings lack channels."""
    if "paired" in batch:
        mask = mask & batch["paired"][:, None, None]
    return mask & batch["bands"][:, None]


def flow_loss(output: FlowOutput, mean: Mean, mask: Tensor | None = None) -> Tensor:
    """Squared error of the velocity (B, F, M) where `mask` (of the output by default) is true (arXiv 2210.02747)."""
    return mean((output.velocity.float() - output.target).square(), output.mask if mask is None else mask)


def emotion_losses(
    output: EmotionOutput | None, batch: TextBatch, config: LossConfig, mean: Mean = masked_mean
) -> dict[str, Tensor]:
    """Losses of a clip's embedding against its label; what has no label does not count.

    Nothing for a network without emotions.
    """
    if output is None:
        return {}
    labels = batch["emotion"]
    known = labels >= 0
    wrong = F.cross_entropy(output.logits.float(), labels.clamp(min=0), reduction="none")
    apart = (output.clip.float() - output.table.detach().float()).square().mean(dim=1)
    return {
        "emotion_class": config.emotion * mean(wrong, known),
        "emotion_agreement": config.emotion * mean(apart, known),
    }


def attention_weight(config: LossConfig, position: float) -> float:
    """The weight of the attention's loss at a position in the training: falls in a straight line to a floor."""
    left = max(0.0, 1 - position / config.attention_steps) if config.attention_steps else 0.0
    return config.attention * max(config.attention_floor, left)


def supervised_attention(attention: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """-log of the weight on the token that is spoken: attention (B, S, N), targets (B, S), -1 where not known.

    Returns the values (B, S) and which of them count.
    """
    weight = attention.gather(2, targets.clamp(min=0)[..., None]).squeeze(2)
    return -torch.log(weight.float().clamp(min=1e-5)), targets >= 0


def diagonal_penalty(steps: Tensor, tokens: Tensor, shape: tuple[int, int], width: float) -> Tensor:
    """1 - exp(-(n/N - s/S)^2 / 2 width^2): what attention off the diagonal costs (arXiv 1710.08969, sec. 4.1).

    steps, tokens (B,): lengths; shape (S, N) -> (B, S, N)
    """
    s = torch.arange(shape[0], device=steps.device)[None, :, None] / steps[:, None, None]
    n = torch.arange(shape[1], device=steps.device)[None, None, :] / tokens[:, None, None]
    return 1 - torch.exp(-((n - s) ** 2) / (2 * width**2))


def autoregressive_losses(
    output: AutoregressiveOutput,
    batch: AutoregressiveBatch,
    config: LossConfig,
    reduction: int,
    position: float,
    mean: Mean = masked_mean,
) -> dict[str, Tensor]:
    """Mel and what the postnet makes of it (L1 and L2, or of a flow), stop, attention, emotions.

    The stop target is 1 from the step that holds the last frame on; steps after it do not count.
    """
    mel, lengths = batch["mel"], batch["mel_lengths"]
    frames = length_mask(lengths + reduction - 1, mel.shape[2])[:, None, :]
    steps = torch.div(lengths + reduction - 1, reduction, rounding_mode="floor")
    size = output.stop.shape[1]
    stop_mask = length_mask(steps, size)
    target = (torch.arange(size, device=mel.device) >= steps[:, None] - 1).float()
    stop = F.binary_cross_entropy_with_logits(
        output.stop.float(), target, pos_weight=mel.new_tensor(config.stop_positive), reduction="none"
    )
    losses = {"stop": config.stop * mean(stop, stop_mask)}
    for name, made in (("mel", output.mel), ("linear", output.linear)):
        if made is not None:
            error = made.float() - mel
            losses[name] = mean(error.square() + error.abs(), frames)
    if output.flow is not None:
        losses["flow"] = config.flow * flow_loss(output.flow, mean)
    attention = attention_loss(output.attention, batch, steps, config, mean)
    losses["attention"] = attention_weight(config, position) * attention
    return losses | emotion_losses(output.emotion, batch, config, mean)


def attention_loss(
    attention: Tensor, batch: AutoregressiveBatch, steps: Tensor, config: LossConfig, mean: Mean = masked_mean
) -> Tensor:
    """The loss of attention (B, S, N), steps (B,): supervised where it is known what is spoken, else a pull to the
    diagonal."""
    values, known = supervised_attention(attention, batch["targets"])
    supervised = mean(values, known)
    penalty = diagonal_penalty(
        steps, batch["token_lengths"], (attention.shape[1], attention.shape[2]), config.guide_width
    )
    unknown = length_mask(steps, attention.shape[1]) & ~(batch["targets"] >= 0).any(dim=1, keepdim=True)
    return supervised + mean((penalty * attention.float()).sum(dim=2), unknown)
