"""Weights on disk: the only module that calls torch.save, torch.load or safetensors for weights.

Ours: one `.safetensors` file whose header explains it (kind, format, config, mel, step, metrics, fingerprint). Matrices
may be stored as whole numbers of 8 bits, `name`, and what one of them is worth in each row, `name#scale` (format 2).
Published: the `.pt` files of the SV2TTS repositories, read with `weights_only=True`, so nothing in them can run.
Training state (optimizer, step) lies beside the weights in a file that loads with `weights_only=True` too.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from utils.errors import CloningError
from utils.files import atomic_path

FORMAT = 2
SCALE = "#scale"
KINDS = ("encoder", "synthesizer", "vocoder")
# One tensor that only this kind of published checkpoint has.
_PUBLISHED_MARKS = {
    "encoder": "lstm.weight_ih_l0",
    "synthesizer": "decoder.mel_proj.weight",
    "vocoder": "upsample.resnet.conv_in.weight",
}


@dataclass(frozen=True)
class Checkpoint:
    """What a weights file says: `state` maps names to float32 (or integer) CPU tensors."""

    kind: str
    state: dict[str, Tensor] = field(repr=False)
    config: dict[str, Any]
    mel: dict[str, Any] | None
    step: int
    metrics: dict[str, Any]
    extra: dict[str, Any]  # what one stage alone cares about, such as the encoder that a synthesizer was trained on
    fingerprint: str
    published: bool  # a `.pt` of the SV2TTS layout: config, mel and extra are empty, the stage infers them
    path: Path


def save_weights(
    path: str | Path,
    *,
    kind: str,
    state: Mapping[str, Tensor],
    config: dict[str, Any],
    mel: dict[str, Any] | None,
    step: int,
    metrics: dict[str, Any] | None = None,
    extra: dict[str, Any] | None = None,
    dtype: Literal["float32", "float16", "int8"] = "float32",
    base: Checkpoint | None = None,
) -> str:
    """Write one `.safetensors` file atomically; returns the fingerprint of what will be read from it.

    `dtype`: what floating point is stored as; int8 is for matrices, whose rows are scaled each, the rest is float16.
    With `base`, only what differs from that checkpoint (in float16) is stored, and where it lies from here.
    """
    path = Path(path)
    kept = {name: tensor.detach().cpu() for name, tensor in state.items() if not _held(base, name, tensor)}
    packed = _pack(kept) if dtype == "int8" else {}
    state = {**state, **_unpack(packed)}
    plain = {name: _stored(tensor, dtype != "float32") for name, tensor in kept.items() if name not in packed}
    header = {
        "kind": kind,
        "format": 2 if packed else 1,
        "config": config,
        "mel": mel,
        "step": step,
        "metrics": metrics or {},
        "extra": extra or {},
        "fingerprint": fingerprint(state),
    }
    if base is not None:
        place = os.path.relpath(base.path.resolve(), path.resolve().parent)
        header["base"] = {"path": Path(place).as_posix(), "fingerprint": base.fingerprint}
        header["base"]["unused"] = sorted(base.state.keys() - state.keys())  # where it is another kind of network
    with atomic_path(path) as partial:
        save_file({**plain, **packed}, partial, metadata={name: json.dumps(value) for name, value in header.items()})
    return header["fingerprint"]


def load_weights(path: str | Path, kind: str | None = None) -> Checkpoint:
    """Read ours or a published checkpoint; told apart by content, not by name.

    Raises CloningError: missing, not a checkpoint, cut off, of another kind, of a newer format, or a pickle that
    wants to run code.
    """
    path = Path(path)
    if not path.is_file():
        raise CloningError(f"{path}: no such checkpoint")
    checkpoint = _load_ours(path) if _looks_like_safetensors(path) else _load_published(path)
    if kind is not None and checkpoint.kind != kind:
        raise CloningError(f"{path}: expected a checkpoint of kind {kind!r}, found {checkpoint.kind!r}")
    return checkpoint


def read_header(path: str | Path) -> dict[str, Any]:
    """What a file of ours says of itself (kind, config, fingerprint, ...), its tensors left alone.

    {} for any other file, such as a published `.pt`. Raises CloningError: missing, damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise CloningError(f"{path}: no such checkpoint")
    if not _looks_like_safetensors(path):
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        return {name: json.loads(value) for name, value in metadata.items()} if "kind" in metadata else {}
    except (SafetensorError, json.JSONDecodeError) as error:
        raise CloningError(f"{path}: damaged or cut off: {error}") from error


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """Names a set of weights by content: 16 hex digits, the same whether stored in float32 or float16."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu()
        if tensor.is_floating_point():
            tensor = tensor.half()
        digest.update(f"{name}{list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


class Unfilled(TorchFunctionMode):
    """Networks built in this context draw no first values: for those that `load_into` fills."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.__name__ in ("uniform_", "normal_", "kaiming_uniform_"):
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def load_into(module: torch.nn.Module, checkpoint: Checkpoint, state: Mapping[str, Tensor] | None = None) -> None:
    """Fill `module` strictly; a mismatch is one line that names the tensors and both shapes."""
    state = checkpoint.state if state is None else state
    wanted = module.state_dict()
    problems = [f"{name} is missing" for name in wanted.keys() - state.keys()]
    problems += [f"{name} is unknown" for name in state.keys() - wanted.keys()]
    problems += [
        f"{name} is {list(state[name].shape)} in the file, {list(wanted[name].shape)} in the model"
        for name in wanted.keys() & state.keys()
        if wanted[name].shape != state[name].shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CloningError(f"{checkpoint.path}: does not fit this model: {'; '.join(sorted(problems)[:3])}{more}")
    module.load_state_dict(dict(state))


def warm_start(module: torch.nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Copy the tensors whose name and shape match; return the names in `module` that keep their own values."""
    own = module.state_dict()
    matching = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    module.load_state_dict(matching, strict=False)
    return sorted(own.keys() - matching.keys())


def save_training_state(path: str | Path, state: dict[str, Any]) -> None:
    """Write optimizer state and position atomically; only tensors and plain Python values are allowed in it."""
    with atomic_path(path) as partial:
        torch.save(state, partial)


def load_training_state(path: str | Path) -> dict[str, Any]:
    """Read what `save_training_state` wrote; CloningError when it is damaged or wants to run code."""
    return _torch_load(Path(path))


def _pack(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole numbers and scales of the matrices among `state`: at most half a scale away from what they were."""
    packed = {}
    for name, tensor in state.items():
        if tensor.is_floating_point() and tensor.ndim > 1:
            scale = tensor.flatten(1).abs().amax(dim=1).float().clamp_min(1e-12) / 127
            packed[name] = (tensor.float() / _by_row(scale, tensor)).round().to(torch.int8).contiguous()
            packed[name + SCALE] = scale
    return packed


def _unpack(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `_pack` was given, nearly; other tensors as they are."""
    return {
        name: tensor.float() * _by_row(state[name + SCALE], tensor) if name + SCALE in state else tensor
        for name, tensor in state.items()
        if not name.endswith(SCALE)
    }


def _by_row(scale: Tensor, tensor: Tensor) -> Tensor:
    return scale.view(-1, *[1] * (tensor.ndim - 1))


def _stored(tensor: Tensor, half: bool) -> Tensor:
    # clone: safetensors refuses tensors that share memory (tied weights)
    return (tensor.half() if half and tensor.is_floating_point() else tensor).contiguous().clone()


def _looks_like_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(9)[8:9] == b"{"


def _load_ours(path: Path) -> Checkpoint:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # others' files carry metadata too, which need not be JSON: {"format": "pt"}
            header = {name: json.loads(value) for name, value in metadata.items()} if "kind" in metadata else {}
            state = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, json.JSONDecodeError) as error:
        raise CloningError(f"{path}: damaged or cut off: {error}") from error
    if "kind" not in header or "format" not in header:
        raise CloningError(
            f"{path}: a safetensors file without our header (kind, format): not a checkpoint of this project"
        )
    if header["format"] > FORMAT:
        raise CloningError(f"{path}: format {header['format']}, this version reads up to {FORMAT}: update the project")
    state = {name: t.float() if t.is_floating_point() else t for name, t in _unpack(state).items()}
    return Checkpoint(
        kind=header["kind"],
        state={**_base_state(path, header["base"]), **state} if "base" in header else state,
        config=header.get("config", {}),
        mel=header.get("mel"),
        step=header.get("step", 0),
        metrics=header.get("metrics", {}),
        extra=header.get("extra", {}),
        fingerprint=header.get("fingerprint", ""),
        published=False,
        path=path,
    )


def _held(base: Checkpoint | None, name: str, tensor: Tensor) -> bool:
    """Whether `base` holds the same tensor, as float16."""
    own = None if base is None else base.state.get(name)
    return own is not None and own.shape == tensor.shape and torch.equal(own.half(), tensor.detach().cpu().half())


def _base_state(path: Path, base: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors that a file of differences leaves to another; CloningError when that one is gone or has changed."""
    found = path.parent / base["path"]
    if not found.is_file():
        raise CloningError(f"{path}: holds only what differs from {found}, which is missing: put it back")
    checkpoint = _load_ours(found)
    if checkpoint.fingerprint != base["fingerprint"]:
        raise CloningError(
            f"{path}: holds only what differs from weights {base['fingerprint']}, but {found} is now "
            f"{checkpoint.fingerprint}: train and export it again, or put the former back"
        )
    unused = set(base.get("unused", ()))
    return {name: value for name, value in checkpoint.state.items() if name not in unused}


def _load_published(path: Path) -> Checkpoint:
    content = _torch_load(path)
    # `model_state` beside optimizer and step, or (older vocoders) a bare state_dict
    state = content.get("model_state", content) if isinstance(content, dict) else {}
    plain = isinstance(state, dict) and all(isinstance(t, Tensor) for t in state.values())
    kinds = [kind for kind, mark in _PUBLISHED_MARKS.items() if plain and mark in state]
    if not kinds:
        raise CloningError(f"{path}: not a checkpoint of this project nor of the SV2TTS layout")
    step = content.get("step", state.get("step", 0))
    return Checkpoint(
        kind=kinds[0],
        state={name: t.detach() for name, t in state.items()},
        config={},
        mel=None,
        step=int(step.item() if isinstance(step, Tensor) else step),
        metrics={},
        extra={},
        fingerprint=fingerprint(state),
        published=True,
        path=path,
    )


def _torch_load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CloningError(f"{path}: no such file") from error
    except pickle.UnpicklingError as error:
        # torch gives the same advice for a damaged file and a dangerous one; only the latter names a global
        if re.search("unsupported (global|class)|not an allowed global", str(error), re.IGNORECASE):
            raise CloningError(f"{path}: refused: it is not plain weights (its pickle asks to run code)") from error
        raise CloningError(f"{path}: damaged or not a checkpoint: not a pickle of plain weights") from error
    except (RuntimeError, OSError, EOFError, ValueError, LookupError, AttributeError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CloningError(f"{path}: damaged or not a checkpoint: {reason}") from error
