"""What judges the mels that a flow draws in its few steps, so that they come out as sharp and as like as real ones.

A mel that is drawn in two steps is a mean of mels: smooth. Discriminators over mels (as in RapFlow-TTS,
arXiv 2506.16741) make it sharp; a network that finds the speaker embedding in a mel makes it alike (DMOSpeech,
arXiv 2410.11097), also for voices that have no text; a listener holds it to its words.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from synthesizer.batches import ParallelBatch
from synthesizer.config import LossConfig
from synthesizer.models.layers import ConvStack
from synthesizer.models.listener import FrameClasses, Listener
from synthesizer.models.parallel import ParallelOutput

SLOPE = 0.1


class Judges(nn.Module):
    """Everything that judges mels (B, F, M), normalized; none of it is needed to speak."""

    def __init__(self, n_mels: int, speaker_size: int, channels: int = 32, scales: int = 2) -> None:
        super().__init__()
        self.speaker = MelSpeaker(n_mels, speaker_size)
        self.discriminators = nn.ModuleList(MelDiscriminator(channels) for _ in range(scales))

    def embed(self, mel: Tensor, mask: Tensor) -> Tensor:
        """mel (B, F, M), mask (B, F, 1) -> speaker embeddings (B, D) of norm 1"""
        return self.speaker(mel, mask)

    def judge(self, mel: Tensor, mean: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """mel and the smooth mel of the same text (B, F, M) -> scores and inner features of all discriminators."""
        x = torch.stack([mel, mean], dim=1)
        scores, features = [], []
        for discriminator in self.discriminators:
            *inner, score = discriminator(x)
            scores.append(score)
            features += inner
            x = F.avg_pool2d(x, (2, 1))
        return scores, features


class MelSpeaker(nn.Module):
    """The speaker embedding that an encoder would find: mel (B, F, M), mask (B, F, 1) -> (B, D) of norm 1."""

    def __init__(self, n_mels: int, speaker_size: int, channels: int = 256, blocks: int = 4) -> None:
        super().__init__()
        self.enter = nn.Linear(n_mels, channels)
        self.stack = ConvStack(blocks, channels, 1, 7, 2)
        self.weigh = nn.Linear(channels, channels)
        self.leave = nn.Linear(2 * channels, speaker_size)

    def forward(self, mel: Tensor, mask: Tensor) -> Tensor:
        """mel (B, F, M), mask (B, F, 1) -> (B, D)"""
        hidden = self.stack(self.enter(mel) * mask, mel.new_ones(len(mel), 1), mask)
        weight = self.weigh(hidden).float().masked_fill(~mask, -torch.inf).softmax(dim=1)
        mean = (hidden * weight).sum(dim=1)
        spread = ((hidden.float() - mean[:, None]).square() * weight).sum(dim=1).clamp(min=1e-5).sqrt()
        return F.normalize(self.leave(torch.cat([mean, spread], dim=1)).float(), dim=1)


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


def frozen(module: Listener, mel: Tensor, mask: Tensor) -> FrameClasses:
    """What `module` finds in mel (B, F, M), mask (B, F, 1), without learning from it; the mel does."""
    state = {name: value.detach() for name, value in (*module.named_parameters(), *module.named_buffers())}
    return functional_call(module, state, (mel, mask))


def speaker_loss(judges: Judges, mel: Tensor, mask: Tensor, batch: ParallelBatch) -> dict[str, Tensor]:
    """What the network that finds a speaker minimizes: mel (B, F, M) of recordings, mask (B, F, 1).

    The speaker embedding of a real mel is that of its whole utterance, `embed` (B, D) of the batch.
    """
    unlike = 1 - (judges.embed(mel, mask) * batch["embed"]).sum(dim=1)
    return {"judge_speaker": (unlike[batch["paired"]] if "paired" in batch else unlike).mean()}


def judges_losses(judges: Judges, output: ParallelOutput, batch: ParallelBatch) -> dict[str, Tensor]:
    """What the judges minimize; output without gradient. Least squares for the discriminators (arXiv 1611.04076)."""
    losses = speaker_loss(judges, output.mel, output.mask, batch)
    if output.drawn is not None:
        real, _ = judges.judge(output.mel, output.mean)
        made, _ = judges.judge(output.drawn, output.mean)
        parts = [
            weighted((1 - r.float()).square(), examples(batch)) + m.float().square().mean()
            for r, m in zip(real, made, strict=True)
        ]
        losses["judge_real"] = torch.stack(parts).mean()
    return losses


def examples(batch: ParallelBatch) -> Tensor:
    """1 for items whose recording shows what a mel should be, (B,): of this voice and text, and of full band."""
    return (batch["paired"] & batch["bands"].all(dim=1)).float()


def weighted(values: Tensor, weights: Tensor) -> Tensor:
    """Mean of values (B, ...) over items weighted by (B,)."""
    return (values.flatten(1).mean(dim=1) * weights).sum() / weights.sum().clamp(min=1)


def sharpening_losses(
    listener: Listener, judges: Judges, output: ParallelOutput, batch: ParallelBatch, config: LossConfig
) -> dict[str, Tensor]:
    """The losses of a drawn mel."""
    assert output.drawn is not None and output.frame_targets is not None
    drawn, mean, mask = output.drawn, output.mean.detach(), output.mask
    scores, features = judges.judge(drawn, mean)
    losses = {"adversarial": torch.stack([(1 - s.float()).square().mean() for s in scores]).mean()}
    with torch.no_grad():
        _, wanted = judges.judge(output.mel, output.mean)
    shown = examples(batch)
    parts = [weighted((f.float() - w.float()).abs(), shown) for f, w in zip(features, wanted, strict=True)]
    losses["features"] = config.features * torch.stack(parts).mean()
    like = judges.embed(drawn, mask)
    losses["speaker"] = config.speaker * (1 - (like * batch["embed"]).sum(dim=1)).mean()
    found = frozen(listener, drawn, mask)
    entropy = F.cross_entropy(found.symbols.transpose(1, 2), output.frame_targets.symbols, reduction="none")
    inside = mask[..., 0].float()
    losses["said"] = config.said * (entropy * inside).sum() / inside.sum()
    return {name: config.adversarial * value for name, value in losses.items()}
