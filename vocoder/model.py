"""The network that a VocoderConfig describes."""

from __future__ import annotations

from torch import Tensor, nn

from vocoder.config import VocoderConfig
from vocoder.models.hifigan import HifiGan, SourcedHifiGan
from vocoder.models.source import Sourced, SourcedOutput
from vocoder.models.source_filter import SourceFilter
from vocoder.models.vocos import Vocos
from vocoder.wavernn.network import WaveRNN

WaveformNetwork = Vocos | HifiGan | Sourced  # mel (B, M, F) to waveform in one pass


def build_network(config: VocoderConfig) -> WaveformNetwork | WaveRNN:
    """A fresh network: WaveRNN is driven by `vocoder.wavernn.generate`, the others by `generated`."""
    mel = config.mel
    if config.architecture == "vocos":
        return Vocos(config.vocos, mel.n_mels, mel.hop_length)
    if config.architecture == "source_filter":
        return SourceFilter(config.source_filter, mel)
    if config.architecture == "hifigan":
        if config.hifigan.source:
            return SourcedHifiGan(config.hifigan, config.source_filter, mel)
        return HifiGan(config.hifigan, mel.n_mels)
    return WaveRNN(config.wavernn, mel.n_mels)


def generated(network: nn.Module, mel: Tensor, start: Tensor | None = None) -> SourcedOutput:
    """What a `WaveformNetwork` (or its distributed wrapper) makes of mel (B, M, F): waveform (B, (F - 1) * hop).

    `start` (B,): as `Sourced.forward` has it; a network without a source takes none. Its output has no pitch.
    """
    output = network(mel) if start is None else network(mel, start)
    return output if isinstance(output, SourcedOutput) else SourcedOutput(output, None)
