"""The network that a VocoderConfig describes."""

from __future__ import annotations

from vocoder.config import VocoderConfig
from vocoder.models.hifigan import HifiGan, SourcedHifiGan
from vocoder.models.source_filter import SourceFilter
from vocoder.models.vocos import Vocos
from vocoder.models.waveform import WaveformModel
from vocoder.wavernn.network import WaveRNN


def build_network(config: VocoderConfig) -> WaveformModel | WaveRNN:
    """A fresh network; `vocoder.wavernn.generate` drives a WaveRNN."""
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
