"""The weights that the page offers: every checkpoint in the folders below `saved_models/`."""

from __future__ import annotations

import re
from pathlib import Path

from utils.audio.mel import SYNTHESIZER_MEL, MelConfig
from utils.config import from_dict
from utils.errors import CloningError
from utils.weights.checkpoint import SAVED_MODELS, read_header
from utils.weights.find import DEFAULT_MODELS, GRIFFIN_LIM, SUFFIXES, checkpoints, emotions_of, kept_header

PUBLISHED = {"encoder": "lstm", "synthesizer": "tacotron", "vocoder": "wavernn"}
NAMES = {
    "lstm": "LSTM",
    "transformer": "Transformer",
    "non_attentive_tacotron": "Non-Attentive Tacotron",
    "non_attentive_transformer": "Non-Attentive Transformer",
    "wavernn": "WaveRNN",
    "hifigan": "HiFi-GAN",
    "vocos": "Vocos",
    "source_filter": "Source-filter",
}


def find(stage: str) -> dict[str, str]:
    """Checkpoints of `stage`: what the page calls them -> their paths; those of the folder `default` come first.

    Files of ours say what they are; others belong to the stage that their name begins with.
    Raises CloningError when there is none.
    """
    paths = checkpoints(stage, filter(Path.is_dir, SAVED_MODELS.glob("*")))
    paths.sort(
        key=lambda path: (path.parent.name != DEFAULT_MODELS.name, path.parent.name, path.stem != stage, path.stem)
    )
    found = {label(path, stage): str(path) for path in paths}
    if not found:
        raise CloningError(
            f"{SAVED_MODELS}: no {stage} in any folder below: put {stage}{SUFFIXES[0]} into {DEFAULT_MODELS.name}/"
        )
    if stage == "vocoder":
        found["Griffin-Lim (no weights)"] = GRIFFIN_LIM
    return found


def default(stage: str) -> str:
    """The path of the checkpoint that stands first."""
    return next(iter(find(stage).values()))


def label(path: Path, stage: str) -> str:
    """`Transformer (default)`, `LSTM (default/encoder_lstm)`: the kind of network and where it lies."""
    place = path.parent.name if path.stem == stage else f"{path.parent.name}/{path.stem}"
    try:
        config = read_header(path).get("config", {})
    except CloningError:
        return f"damaged file ({place})"
    network = config.get("architecture") or config.get("model") or PUBLISHED[stage]
    return f"{NAMES.get(network, network.capitalize())} ({place})"


def noncommercial(path: str) -> bool:
    """Whether the heading of the model card beside the weights says that they are not for commercial use."""
    try:
        heading = Path(path).with_name("MODEL_CARD.md").read_text(encoding="utf-8").lstrip().partition("\n")[0]
    except OSError:
        return False
    return bool(re.search(r"non-?commercial|not for commercial", heading, re.IGNORECASE))


def with_emotions(found: dict[str, str]) -> str | None:
    """The name of the first synthesizer of `find` that knows emotions: a parallel one where there is one."""
    able = [name for name, path in found.items() if emotions_of(path)]
    return next((name for name in able if name.startswith("Parallel")), able[0] if able else None)


def fitting(vocoders: dict[str, str], chosen: str, synthesizer: str) -> str:
    """The name of the chosen vocoder of `find`, where it reads the mels that the synthesizer at a path makes; else of
    another that does: of the same folder where there is one."""
    wanted = _mel(synthesizer)
    able = [name for name, path in vocoders.items() if path == GRIFFIN_LIM or _mel(path) == wanted]
    near = [name for name in able if Path(vocoders[name]).parent == Path(synthesizer).parent]
    return chosen if chosen in able else [*near, *able][0]


def _mel(path: str) -> MelConfig:
    """What a synthesizer makes, or a vocoder reads; a file that does not say it is of the published mel."""
    header = kept_header(Path(path))
    conversion = header.get("config", {}).get("conversion") or {}
    found = conversion.get("mel") if conversion.get("channels") else header.get("mel")
    return from_dict(MelConfig, found, "mel") if found else SYNTHESIZER_MEL


def stamp(path: str) -> float:
    """Changes when the file does, so that a cache does not serve replaced weights."""
    return 0.0 if path == GRIFFIN_LIM else Path(path).stat().st_mtime
