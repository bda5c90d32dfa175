"""The network that a VocoderConfig describes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vocoder.config import VocoderConfig
from vocoder.models.hifigan import GuidedHifiGan, HifiGan
from vocoder.models.source_filter import SourceFilter
from vocoder.models.vocos import Vocos
from vocoder.models.waveform import WaveformModel
from vocoder.wavernn.network import WaveRNN


def _hifigan(config: VocoderConfig) -> WaveformModel:
    if config.hifigan.guided:
        return GuidedHifiGan(config.hifigan, config.source_filter, config.mel)
    return HifiGan(config.hifigan, config.mel.n_mels)


NETWORKS: Mapping[str, Callable[[VocoderConfig], WaveformModel | WaveRNN]] = {  # by the names of their architectures
    "vocos": lambda config: Vocos(config.vocos, config.mel.n_mels, config.mel.hop_length),
    "source_filter": lambda config: SourceFilter(config.source_filter, config.mel),
    "hifigan": _hifigan,
    "wavernn": lambda config: WaveRNN(config.wavernn, config.mel.n_mels),
}


def build_network(config: VocoderConfig) -> WaveformModel | WaveRNN:
    """A fresh network; `vocoder.wavernn.generate` drives a WaveRNN."""
    return NETWORKS[config.architecture](config)
