"""The networks, by the names of their architectures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from synthesizer.config import SynthesizerConfig
from synthesizer.models.base import AcousticModel
from synthesizer.models.decoding import FreeRun, PlannedRun
from synthesizer.models.parallel import Parallel
from synthesizer.models.tacotron.native import native_free_run, native_planned_run
from synthesizer.models.tacotron.network import Tacotron
from synthesizer.models.tacotron.non_attentive import NonAttentiveTacotron
from synthesizer.models.transformer import Transformer

NETWORKS: Mapping[str, type[Tacotron] | type[NonAttentiveTacotron] | type[Parallel] | type[Transformer]] = {
    "tacotron": Tacotron,
    "non_attentive_tacotron": NonAttentiveTacotron,
    "parallel": Parallel,
    "transformer": Transformer,
}
# Loops of decoder steps that are faster than the network's own, from a copy of its weights
FAST_DECODERS: Mapping[str, Callable[[Any], FreeRun | PlannedRun | None]] = {
    "tacotron": native_free_run,
    "non_attentive_tacotron": native_planned_run,
}


def build_network(config: SynthesizerConfig, n_symbols: int, n_mels: int) -> AcousticModel:
    """A network with fresh weights."""
    return NETWORKS[config.architecture](config, n_symbols, n_mels)


def fast_decoder(config: SynthesizerConfig, network: AcousticModel) -> FreeRun | PlannedRun | None:
    """A faster loop for a network whose weights change no more; None where there is none."""
    build = FAST_DECODERS.get(config.architecture)
    return None if build is None else build(network)
