"""What judges the mels that a flow draws in its few steps, so that they come out as sharp and as alike as real ones.

A mel that is drawn in two steps is a mean of mels: smooth. Discriminators over mels (as in RapFlow-TTS,
arXiv 2506.16741) make it sharp. The speaker encoder, which hears it through the vocoder, makes it alike (speaker
consistency, YourTTS, arXiv 2112.02418, sec. 2.2), also for voices that have no text: both stay as they are, since a
network that learns from real mels alone is soon fooled. A frame classifier holds it to its words (DMOSpeech, arXiv
2410.11097).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from synthesizer.batches import ParallelBatch
from synthesizer.config import LossConfig
from synthesizer.models.frame_classifier import FrameClasses, FrameClassifier
from synthesizer.models.parallel import Parallel, ParallelOutput
from synthesizer.training.task import Embed

SLOPE = 0.1


class Discriminators(nn.Module):
    """Tell drawn mels (B, F, M), normalized, from real ones, at several time scales; not needed to speak."""

    def __init__(self, channels: int = 32, scales: int = 2) -> None:
        super().__init__()
        self.scales = nn.ModuleList(MelDiscriminator(channels) for _ in range(scales))

    def forward(self, mel: Tensor, mean: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """mel and the smooth mel of the same text (B, F, M) -> scores and inner features of all scales."""
        x = torch.stack([mel, mean], dim=1)
        scores, features = [], []
        for discriminator in self.scales:
            *inner, score = discriminator(x)
            scores.append(score)
            features += inner
            x = F.avg_pool2d(x, (2, 1))
        return scores, features


class MelDiscriminator(nn.Module):
    """(B, 2, F, M) -> inner features and, last, scores of patches."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = [2, channels, channels * 2, channels * 3, channels * 4]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, (3, 5), (1, 2), (1, 2))) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.layers.append(weight_norm(nn.Conv2d(widths[-1], widths[-1], (5, 3), 1, (2, 1))))
        self.score = weight_norm(nn.Conv2d(widths[-1], 1, 3, 1, 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 2, F, M) -> (B, C, F', M') of each layer, the scores (B, 1, F', M') last"""
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
            features.append(x)
        return [*features, self.score(x)]


def frozen(module: FrameClassifier, mel: Tensor, mask: Tensor) -> FrameClasses:
    """What `module` finds in mel (B, F, M), mask (B, F, 1), without learning from it; the mel does."""
    state = {name: value.detach() for name, value in (*module.named_parameters(), *module.named_buffers())}
    return functional_call(module, state, (mel, mask))


def discriminator_loss(discriminators: Discriminators, output: ParallelOutput, batch: ParallelBatch) -> Tensor:
    """What the discriminators minimize; output without gradient. Least squares (arXiv 1611.04076)."""
    assert output.drawn is not None
    real, _ = discriminators(output.mel, output.mean)
    made, _ = discriminators(output.drawn, output.mean)
    parts = [
        weighted((1 - r.float()).square(), examples(batch)) + m.float().square().mean()
        for r, m in zip(real, made, strict=True)
    ]
    return torch.stack(parts).mean()


def examples(batch: ParallelBatch) -> Tensor:
    """1 for items whose recording shows what a mel should be, (B,): of this voice and text, and of full band."""
    return (batch["paired"] & batch["bands"].all(dim=1)).float()


def weighted(values: Tensor, weights: Tensor) -> Tensor:
    """Mean of values (B, ...) over items weighted by (B,)."""
    return (values.flatten(1).mean(dim=1) * weights).sum() / weights.sum().clamp(min=1)


def adversarial_losses(
    discriminators: Discriminators, output: ParallelOutput, batch: ParallelBatch, config: LossConfig
) -> dict[str, Tensor]:
    """What the discriminators say of a drawn mel, and how far their features are from the recording's."""
    assert output.drawn is not None
    mean = output.mean.detach()
    scores, features = discriminators(output.drawn, mean)
    with torch.no_grad():
        _, wanted = discriminators(output.mel, mean)
    shown = examples(batch)
    parts = [weighted((f.float() - w.float()).abs(), shown) for f, w in zip(features, wanted, strict=True)]
    return {
        "adversarial": config.adversarial * torch.stack([(1 - s.float()).square().mean() for s in scores]).mean(),
        "feature_matching": config.adversarial * config.feature_matching * torch.stack(parts).mean(),
    }


def phone_loss(classifier: FrameClassifier, output: ParallelOutput) -> Tensor:
    """Cross-entropy of the phones that the classifier finds in the frames of a drawn mel."""
    assert output.drawn is not None and output.frame_targets is not None
    found = frozen(classifier, output.drawn, output.mask)
    entropy = F.cross_entropy(found.symbols.transpose(1, 2), output.frame_targets.symbols, reduction="none")
    inside = output.mask[..., 0].float()
    return (entropy * inside).sum() / inside.sum()


def speaker_distance(
    embed: Embed, output: ParallelOutput, batch: ParallelBatch, model: Parallel, silence: float
) -> Tensor:
    """1 - cosine of the speaker embedding heard in a drawn mel to the one wanted, mean of the batch.

    silence: the value of a mel in which there is nothing.
    """
    assert output.drawn is not None
    mel = torch.where(output.mask, model.denormalized(output.drawn), silence)
    heard = embed(mel.float().transpose(1, 2), batch["window_lengths"])
    return (1 - (heard * batch["embed"]).sum(dim=1)).mean()
