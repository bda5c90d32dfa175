"""The weights that a visitor chose, and the cloner that is made of them once for all visitors."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from cloning.cloner import VoiceCloner
from web import weights

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Chain:
    """Paths of the three stages, and what the page calls them."""

    encoder: str
    synthesizer: str
    vocoder: str
    allow_mismatch: bool = False
    name: str = ""

    @classmethod
    def default(cls) -> Chain:
        """The chain of the weights that stand first."""
        return cls(weights.default("encoder"), weights.default("synthesizer"), weights.default("vocoder"))

    @property
    def noncommercial(self) -> bool:
        """Whether any of the weights may not be used commercially."""
        return any(weights.noncommercial(path) for path in (self.encoder, self.synthesizer, self.vocoder))

    @property
    def flags(self) -> dict[str, str]:
        """Flag of demo_cli.py -> value, of the stages that are not the default ones."""
        chosen = {"encoder": self.encoder, "synthesizer": self.synthesizer, "vocoder": self.vocoder}
        return {stage: _short(path) for stage, path in chosen.items() if path != weights.default(stage)}


def load(chain: Chain) -> VoiceCloner:
    """Loaded once, until a file changes. Raises CloningError as `VoiceCloner.load`."""
    paths = (chain.encoder, chain.synthesizer, chain.vocoder)
    return _cached(*paths, chain.allow_mismatch, tuple(weights.stamp(path) for path in paths))


@st.cache_resource(max_entries=4, show_spinner="Loading the models ...")
def _cached(encoder: str, synthesizer: str, vocoder: str, allow: bool, stamps: tuple[float, ...]) -> VoiceCloner:
    cloner = VoiceCloner.load(encoder=encoder, synthesizer=synthesizer, vocoder=vocoder, allow_mismatch=allow)
    gc.freeze()  # Streamlit collects garbage after each run: with all that torch brings, 0.1 s each time
    return cloner


def _short(path: str) -> str:
    own = Path(path)
    return own.relative_to(ROOT).as_posix() if own.is_relative_to(ROOT) else path
