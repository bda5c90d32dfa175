"""Where checkpoints lie: one of a folder by its stage, one by name, or all that there are of a stage."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from utils.config import CONFIGS
from utils.errors import CloningError
from utils.files import require_checkout, user_path
from utils.weights.checkpoint import SAVED_MODELS, read_header

STAGES = ("encoder", "synthesizer", "vocoder")
SUFFIXES = (".safetensors", ".pt")
GRIFFIN_LIM = "griffin-lim"  # the vocoder without weights
DEFAULT_MODELS = SAVED_MODELS / "default"
EMOTIONAL_MODELS = SAVED_MODELS / "emotional"  # synthesizers by name; not for commercial use


def models_folder(name: str | Path) -> Path:
    """A folder of checkpoints: by its name in saved_models, where there is one, else by its path."""
    inside = SAVED_MODELS / name
    return inside if len(Path(name).parts) == 1 and inside.is_dir() else user_path(name)


def find_stage(folder: Path, stage: str) -> Path | None:
    """`<folder>/<stage>.safetensors` or, in the published layout, `.pt`; else the only file in it that holds a `stage`.

    For a folder without an encoder, of ours the one that its synthesizer was trained with. None where there is nothing.
    """
    if found := next((path for suffix in SUFFIXES if (path := folder / f"{stage}{suffix}").is_file()), None):
        return found
    own = checkpoints(stage, [folder]) if folder.is_dir() else []
    if len(own) == 1:
        return own[0]
    if stage != "encoder" or own or not (synthesizer := find_stage(folder, "synthesizer")):
        return None
    wanted = kept_header(synthesizer).get("extra", {}).get("encoder")
    return with_fingerprint(stage, filter(Path.is_dir, [DEFAULT_MODELS]), wanted) if wanted else None


def find_chosen(folder: Path, stage: str, choice: str | Path | None) -> Path:
    """The folder's `stage`; or, by `choice`, a file, or weights of that name in the folder, with emotions, or ours.

    Raises CloningError where the folder holds none, and for a name that no weights have.
    """
    if choice is None:
        if found := find_stage(folder, stage):
            return found
        if folder == DEFAULT_MODELS:
            require_checkout(folder)
        raise CloningError(
            f"{folder}: no {stage}{' or '.join(SUFFIXES)} in it: choose another folder of models, or a file as {stage}"
        )
    if not Path(choice).is_file():
        for place in (folder, EMOTIONAL_MODELS, DEFAULT_MODELS):
            if (path := place / f"{choice}.safetensors").is_file():
                return path
        if str(choice) == Path(choice).stem and choice != GRIFFIN_LIM:  # a name, no path
            raise _unknown(folder, stage, str(choice))
    return Path(choice)


def checkpoints(stage: str, folders: Iterable[Path]) -> list[Path]:
    """All files in `folders` that hold a `stage`, whatever they are called, in order of their names."""
    files = [path for folder in folders for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES]
    return [path for path in files if kind_of(path) == stage]


def with_fingerprint(stage: str, folders: Iterable[Path], fingerprint: str) -> Path | None:
    """The checkpoint in `folders` that holds a `stage` of these weights."""
    for path in (path for folder in folders for path in sorted(folder.iterdir()) if path.suffix == SUFFIXES[0]):
        header = kept_header(path)
        if (header.get("kind"), header.get("fingerprint")) == (stage, fingerprint):
            return path
    return None


def kept_header(path: Path) -> dict[str, Any]:
    """`read_header`, {} for a damaged file."""
    try:
        return read_header(path)
    except CloningError:
        return {}


def emotions_of(path: str | Path) -> tuple[str, ...]:
    """The emotions of a synthesizer; () for one without, and for a damaged file."""
    try:
        return tuple(map(str, kept_header(Path(path)).get("config", {}).get("emotion", {}).get("labels", ())))
    except (AttributeError, TypeError):
        return ()


def kind_of(path: Path) -> str:
    """The stage of a checkpoint: as it says itself, else (published, damaged) as its name begins; "" for neither."""
    by_name = next((stage for stage in STAGES if path.stem.startswith(stage)), "")
    return str(kept_header(path).get("kind", by_name))


def _unknown(folder: Path, stage: str, name: str) -> CloningError:
    folders = [place for place in (folder, EMOTIONAL_MODELS, DEFAULT_MODELS) if place.is_dir()]
    names = {path.stem for path in checkpoints(stage, folders) if path.suffix == SUFFIXES[0]}
    names |= {GRIFFIN_LIM} if stage == "vocoder" else set()
    remedy = f"choose one of {', '.join(sorted(names))}, or give a file"
    if (CONFIGS / stage / f"{name}.toml").is_file():
        remedy += f", such as the best.safetensors that {stage}_train.py --config {name} makes"
    return CloningError(f"{stage} {name}: no such checkpoint, and no weights of that name here: {remedy}")
