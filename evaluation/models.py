"""The models to compare: a column for each `--models` folder, and extra ones by path."""

from __future__ import annotations

import argparse
import hashlib
import platform
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cloning.cloner import VoiceCloner
from utils.errors import CloningError
from utils.files import require_checkout
from utils.weights.find import DEFAULT_MODELS, GRIFFIN_LIM, checkpoints, find_chosen, find_stage


def chain_digest(cloner: VoiceCloner) -> str:
    """Of the weights of all stages, and of what their files say of inference: how the flow samples, measured scales of
    durations and pitch, a WaveRNN's temperature. Changed code makes no other digest: give its report another folder.
    """
    synthesizer = cloner.synthesizer
    carried = (synthesizer.config, synthesizer.metadata.calibration, getattr(cloner.vocoder, "generation", None))
    return hashlib.sha256("/".join(map(str, (*cloner.describe().values(), *carried))).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Column:
    """One model under test and the name of its column."""

    name: str
    path: Path


def encoder_columns(folders: list[Path], extra: list[Path], *, chosen: bool = False) -> list[Column]:
    """Every encoder of each folder, whatever its file is called, then those given by path; CloningError for none.

    `chosen`: of each folder only the encoder that cloning and diarization take.
    """
    columns = []
    for folder in _folders(folders):
        for path in checkpoints("encoder", [folder]):
            if chosen and path.stem != "encoder":
                continue
            columns.append(Column(folder.name if path.stem == "encoder" else f"{folder.name}/{path.stem}", path))
    columns += [Column(f"{path.parent.name}/{path.stem}", path) for path in extra]
    if not columns:
        where = ", ".join(map(str, _folders(folders)))
        raise CloningError(f"no encoder in {where}: give a folder of checkpoints, or an encoder")
    return unique(columns)


def vocoder_columns(folders: list[Path], extra: list[Path]) -> list[Column]:
    """Every vocoder of each folder, whatever its file is called, those given by path or name, and Griffin-Lim."""
    columns = []
    for folder in _folders(folders):
        columns += [Column(f"{folder.name}/{path.stem}", path) for path in checkpoints("vocoder", [folder])]
    for choice in extra:
        if str(choice) == GRIFFIN_LIM:
            continue
        path = find_chosen(_folders(folders)[0], "vocoder", choice)
        if not path.is_file():
            raise CloningError(f"{path}: no such vocoder; give a checkpoint")
        columns.append(Column(f"{path.parent.name}/{path.stem}", path))
    columns = list({column.path.resolve(): column for column in columns}.values())
    return unique([*columns, Column(GRIFFIN_LIM, Path(GRIFFIN_LIM))])


def chain_columns(folders: list[Path]) -> list[Column]:
    """Folders that hold at least a synthesizer; CloningError when there is none."""
    columns = [column for column in folder_columns(folders) if find_stage(column.path, "synthesizer")]
    if not columns:
        raise CloningError(f"no synthesizer in {', '.join(map(str, _folders(folders)))}: give a folder of checkpoints")
    return columns


def folder_columns(folders: list[Path]) -> list[Column]:
    """One column a folder, whatever is in it."""
    return unique([Column(folder.name, folder) for folder in _folders(folders)])


def unique(columns: list[Column]) -> list[Column]:
    """Columns of the same name get a number."""
    seen: dict[str, int] = {}
    result = []
    for column in columns:
        seen[column.name] = seen.get(column.name, 0) + 1
        count = seen[column.name]
        result.append(column if count == 1 else Column(f"{column.name} ({count})", column.path))
    return result


def facts_of(args: argparse.Namespace, columns: list[Column]) -> dict[str, Any]:
    """What is needed to repeat the evaluation."""
    import torch

    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "corpus": args.corpus.name if args.corpus else "bundled samples",
        "columns": ", ".join(column.name for column in columns),
        "quick": args.quick,
        "limit": args.limit or "none",
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {platform.system()}",
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
    }


def _folders(folders: list[Path]) -> list[Path]:
    if not folders:
        require_checkout(DEFAULT_MODELS)
    folders = folders or [DEFAULT_MODELS]
    for folder in folders:
        if not folder.is_dir():
            raise CloningError(f"{folder}: no such folder of models")
    return folders
