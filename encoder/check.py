"""Whether the recordings of a feature set are what an encoder wants."""

from __future__ import annotations

from encoder.config import EncoderConfig
from utils.data.manifest import Manifest
from utils.errors import CloningError


def check_set(manifest: Manifest, model: EncoderConfig, remedy: str) -> None:
    """CloningError, with a remedy, where the set's sample rate or level is not the model's; older sets name neither."""
    wanted = (model.mel.sample_rate, model.target_dbfs)
    held = (manifest.header.get("sample_rate", wanted[0]), manifest.header.get("target_dbfs", wanted[1]))
    if held != wanted:
        raise CloningError(
            f"{manifest.root}: holds recordings of {held[0]} Hz at {held[1]} dBFS, the encoder wants {wanted[0]} Hz at "
            f"{wanted[1]} dBFS: {remedy}"
        )
