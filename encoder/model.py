"""From settings or a checkpoint to a network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from encoder.config import EncoderConfig, LstmConfig
from encoder.lstm import LstmEncoder
from encoder.network import EncoderNetwork
from encoder.transformer import TransformerEncoder
from utils.config import from_dict
from utils.errors import CloningError
from utils.weights.checkpoint import Checkpoint
from utils.weights.networks import rebuild

PROTOTYPES = "prototypes"  # of the training speakers, for the angular margin; no part of an embedding
NETWORKS: Mapping[str, type[LstmEncoder] | type[TransformerEncoder]] = {  # by the names of their architectures
    "lstm": LstmEncoder,
    "transformer": TransformerEncoder,
}


def build_network(config: EncoderConfig) -> EncoderNetwork:
    """A network with fresh weights."""
    return NETWORKS[config.architecture](config)


def published_config(checkpoint: Checkpoint) -> EncoderConfig:
    """The sizes of a published checkpoint, read off the shapes of its tensors."""
    layers = sum(name.startswith("lstm.weight_hh_l") for name in checkpoint.state)
    try:
        gates, n_mels = checkpoint.state["lstm.weight_ih_l0"].shape
        published = EncoderConfig(architecture="lstm", embedding_size=checkpoint.state["linear.bias"].numel())
        return dataclasses.replace(
            published,
            lstm=LstmConfig(gates // 4, layers),
            mel=dataclasses.replace(published.mel, n_mels=n_mels),
            partials=dataclasses.replace(published.partials, pad=True),
        )
    except (KeyError, ValueError) as error:
        raise CloningError(f"{checkpoint.path}: not an encoder of the published layout: {error}") from error


def load_network(checkpoint: Checkpoint) -> tuple[EncoderNetwork, EncoderConfig]:
    """The network of a checkpoint, in eval mode, and its settings; CloningError when the tensors do not fit."""
    published = checkpoint.published
    config = published_config(checkpoint) if published else from_dict(EncoderConfig, checkpoint.config)
    state = {name: value for name, value in checkpoint.state.items() if name != PROTOTYPES}
    return rebuild(lambda: build_network(config), checkpoint, state).eval(), config
