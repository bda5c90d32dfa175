"""The network that a VocoderConfig describes."""

from __future__ import annotations

from torch import nn

from vocoder.config import VocoderConfig
from vocoder.models.hifigan import HifiGan, SourcedHifiGan
from vocoder.models.source_filter import SourceFilter
from vocoder.models.vocos import Vocos
from vocoder.wavernn.network import WaveRNN


def build_network(config: VocoderConfig) -> nn.Module:
    """A fresh network: WaveRNN is driven by `vocoder.wavernn.generate`, the others map mels (B, M, F) to waveforms."""
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
