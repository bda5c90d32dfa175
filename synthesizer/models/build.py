"""The networks, by the names of their architectures."""

from __future__ import annotations

from collections.abc import Mapping

from synthesizer.config import SynthesizerConfig
from synthesizer.models.base import AcousticModel
from synthesizer.models.mel_conversion import MelConversion
from synthesizer.models.non_attentive_transformer import NonAttentiveTransformer
from synthesizer.models.parallel import Parallel
from synthesizer.models.tacotron.network import Tacotron
from synthesizer.models.tacotron.non_attentive import NonAttentiveTacotron
from synthesizer.models.transformer import Transformer

NETWORKS: Mapping[str, type[Tacotron] | type[NonAttentiveTacotron] | type[Parallel] | type[Transformer]] = {
    "tacotron": Tacotron,
    "non_attentive_tacotron": NonAttentiveTacotron,
    "non_attentive_transformer": NonAttentiveTransformer,
    "parallel": Parallel,
    "transformer": Transformer,
}


def build_network(config: SynthesizerConfig, n_symbols: int, n_mels: int) -> AcousticModel:
    """A network with fresh weights."""
    network = NETWORKS[config.architecture](config, n_symbols, n_mels)
    if config.conversion.channels:
        network.conversion = MelConversion(config.conversion, n_mels)
    return network
