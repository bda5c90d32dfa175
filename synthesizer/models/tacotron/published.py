"""The layout of published Tacotron checkpoints: their sizes, read off their tensors."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from synthesizer.config import SynthesizerConfig, TacotronConfig
from utils.errors import CloningError


def published_config(state: Mapping[str, Tensor], dropout: float = 0.5) -> tuple[SynthesizerConfig, int, int]:
    """Sizes of a published state_dict, read off its tensors: settings, number of symbols, number of mel channels.

    Raises CloningError where it lacks some, or they are of another layout.
    """
    try:
        n_symbols, embedding = state["encoder.embedding.weight"].shape
        lstm, n_mels = state["decoder.res_rnn1.weight_hh"].shape[1], state["post_proj.weight"].shape[0]
        encoder = state["encoder.pre_net.fc2.weight"].shape[0]
        sizes = TacotronConfig(
            embedding=embedding,
            encoder=encoder,
            decoder=state["decoder.attn_net.W.weight"].shape[0],
            lstm=lstm,
            postnet=state["post_proj.weight"].shape[1],
            encoder_banks=_count(state, "encoder.cbhg.conv1d_bank"),
            postnet_banks=_count(state, "postnet.conv1d_bank"),
            highways=_count(state, "postnet.highways"),
            prenet=state["decoder.prenet.fc1.weight"].shape[0],
            max_reduction=state["decoder.mel_proj.weight"].shape[0] // n_mels,
            dropout=dropout,
            attention_filters=state["decoder.attn_net.conv.weight"].shape[0],
            attention_kernel=state["decoder.attn_net.conv.weight"].shape[2],
            padding="published",
        )
        memory = state["encoder_proj.weight"].shape[1]
        return SynthesizerConfig("tacotron", speaker_size=memory - encoder, tacotron=sizes), n_symbols, n_mels
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise CloningError(f"not a Tacotron of the published layout: {error}") from error


def published_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published state_dict without what is not part of the network (training step, trimming threshold)."""
    return {name: value for name, value in state.items() if name not in ("step", "stop_threshold")}


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({name[len(prefix) + 1 :].split(".")[0] for name in state if name.startswith(f"{prefix}.")})
