"""What judges the mels that a flow draws in its few steps, so that they come out as sharp and as alike as real ones.

A mel that is drawn in two steps is a mean of mels: smooth. Discriminators over mels (as in RapFlow-TTS,
arXiv 2506.16741) make it sharp. The speaker encoder, which embeds what the vocoder makes of it, makes it alike (speaker
consistency, YourTTS, arXiv 2112.02418, sec. 2.2), and so does CAM++, an encoder of others, also for voices that have no
text. They stay as they are, since a network that learns from real mels alone is soon fooled. A frame classifier holds
it to its words (DMOSpeech, arXiv 2410.11097).
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
from synthesizer.models.parallel import Parallel
from synthesizer.models.parallel_output import ParallelOutput
from synthesizer.training.task import Embed
from utils.adversarial import DiscriminatorOutput, adversarial_loss, discriminator_loss, feature_loss
from utils.masks import length_mask

SLOPE = 0.1
OBJECTIVE = "least_squares"


class MelDiscriminators(nn.Module):
    """Tell drawn mels (B, F, M), normalized, from real ones, at several time scales; not needed to speak."""

    def __init__(self, channels: int = 32, scales: int = 2) -> None:
        super().__init__()
        self.scales = nn.ModuleList(MelDiscriminator(channels) for _ in range(scales))

    def forward(self, mel: Tensor, mean: Tensor) -> DiscriminatorOutput:
        """mel and the smooth mel of the same text (B, F, M) -> scores and inner features of all scales."""
        x = torch.stack([mel, mean], dim=1)
        output = DiscriminatorOutput([], [])
        for discriminator in self.scales:
            *inner, score = discriminator(x)
            output.scores.append(score)
            output.features.append(inner)
            x = F.avg_pool2d(x, (2, 1))
        return output


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


def mel_discriminator_loss(discriminators: MelDiscriminators, output: ParallelOutput, batch: ParallelBatch) -> Tensor:
    """What the discriminators minimize -> (); output without gradient."""
    assert output.drawn is not None
    real = discriminators(output.mel, output.mean)
    made = discriminators(output.drawn, output.mean)
    return discriminator_loss(real.scores, made.scores, OBJECTIVE, examples(batch))


def examples(batch: ParallelBatch) -> Tensor:
    """1 for items whose recording shows what a mel should be, (B,): of this voice and text, and of full band."""
    return (batch["paired"] & batch["bands"].all(dim=1)).float()


def mel_adversarial_losses(
    discriminators: MelDiscriminators, output: ParallelOutput, batch: ParallelBatch, config: LossConfig
) -> dict[str, Tensor]:
    """What the discriminators say of a drawn mel, and how far their features are from the recording's; () each."""
    assert output.drawn is not None
    mean = output.mean.detach()
    made = discriminators(output.drawn, mean)
    with torch.no_grad():
        real = discriminators(output.mel, mean)
    features = feature_loss(real.features, made.features, examples(batch))
    return {
        "adversarial": config.adversarial * adversarial_loss(made.scores, OBJECTIVE),
        "feature_matching": config.adversarial * config.feature_matching * features,
    }


def phone_loss(classifier: FrameClassifier, output: ParallelOutput) -> Tensor:
    """Cross-entropy of the phones that the classifier finds in the frames of a drawn mel."""
    assert output.drawn is not None and output.frame_targets is not None
    found = frozen(classifier, output.drawn, output.mask)
    entropy = F.cross_entropy(found.symbols.transpose(1, 2), output.frame_targets.symbols, reduction="none")
    inside = output.mask[..., 0].float()
    return (entropy * inside).sum() / inside.sum()


def speaker_distances(
    embed: Embed, output: ParallelOutput, batch: ParallelBatch, model: Parallel, silence: float
) -> dict[str, Tensor]:
    """1 - cosine of the speaker embedding of a drawn mel and the one wanted, mean of the batch, by each encoder.

    CAM++ wants what it hears in the prompt, through the same vocoder. silence: the value of a mel in which there is
    nothing.
    """
    assert output.drawn is not None
    mel = torch.where(output.mask, model.denormalized(output.drawn), silence)
    found = embed(mel.float().transpose(1, 2), batch["window_lengths"])
    distances = {"speaker": (1 - (found.own * batch["embed"]).sum(dim=1)).mean()}
    there = batch["prompt_lengths"] > 0
    if found.camplus is not None and there.any():
        lengths, prompt = batch["prompt_lengths"][there], batch["prompt"][there].float()
        with torch.no_grad():
            mask = length_mask(lengths, prompt.shape[2])[:, None]
            wanted = embed(torch.where(mask, prompt, silence), lengths).camplus
        assert wanted is not None
        distances["camplus"] = (1 - (found.camplus[there] * wanted).sum(dim=1)).mean()
    return distances
