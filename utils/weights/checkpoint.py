"""Weights on disk: the only module that calls torch.save, torch.load or safetensors for weights.

Ours: one `.safetensors` file whose header explains it (kind, format, the project's version, config, mel, step, metrics,
fingerprint). Matrices may be stored as whole numbers of 8 bits, `name`, and what one of them is worth in each row,
`name#scale` (format 2).
Published: the `.pt` files of the SV2TTS repositories, read with `weights_only=True`, so nothing in them can run.
Training state (optimizer, step) lies beside the weights in a file that loads with `weights_only=True` too.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from utils.errors import CloningError
from utils.files import atomic_path
from utils.version import VERSION
from utils.weights.untrusted import (
    DTYPES,
    PICKLE_BYTES,
    check_numbers,
    check_safetensors,
    check_tensors,
    check_torch_file,
    is_safetensors,
    parse_header,
    shown,
)

FORMAT = 2
SCALE = "#scale"
SAVED_MODELS = Path(__file__).resolve().parents[2] / "saved_models"
_LONGEST_CHAIN = 4  # of files that each hold only what differs from the next
# One tensor that only this kind of published checkpoint has.
_PUBLISHED_MARKS = {
    "encoder": "lstm.weight_ih_l0",
    "synthesizer": "decoder.mel_proj.weight",
    "vocoder": "upsample.resnet.conv_in.weight",
}


@dataclass(frozen=True)
class Header:
    """What a file of weights says of them."""

    kind: str  # "encoder", "synthesizer", "vocoder", "voice"
    config: dict[str, Any]
    mel: dict[str, Any] | None = None
    step: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)  # what inference multiplies predictions by
    extra: dict[str, Any] = field(default_factory=dict)  # for one stage alone: the encoder that a synthesizer goes with


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Header):
    """A file of weights: `state` maps names to float32 (or integer) CPU tensors."""

    state: dict[str, Tensor] = field(repr=False)
    fingerprint: str
    published: bool  # a `.pt` of the SV2TTS layout: config, mel and extra are empty, the stage infers them
    path: Path
    version: str = ""  # of the project that wrote it; "" before checkpoints said so


def save_weights(
    path: str | Path,
    header: Header,
    state: Mapping[str, Tensor],
    *,
    dtype: Literal["float32", "float16", "int8"] = "float32",
    base: Checkpoint | None = None,
) -> str:
    """Write one `.safetensors` file atomically; returns the fingerprint of what will be read from it.

    `dtype`: what floating point is stored as; int8 is for matrices, whose rows are scaled each, the rest is float16.
    With `base`, only what differs from that checkpoint (in float16) is stored, and where it lies from here: in the same
    folder, or in one that is called saved_models. Raises CloningError for another place.
    """
    path = Path(path)
    kept = {name: tensor.detach().cpu() for name, tensor in state.items() if not _held(base, name, tensor)}
    packed = _pack(kept) if dtype == "int8" else {}
    state = {**state, **_unpack(packed)}
    plain = {name: _stored(tensor, dtype != "float32") for name, tensor in kept.items() if name not in packed}
    training_only = header.extra.get("training_only", ())  # an export is without, and stays what it was called
    mark = fingerprint({name: tensor for name, tensor in state.items() if name not in training_only})
    entries: dict[str, Any] = {
        "kind": header.kind,
        "format": 2 if packed else 1,
        "version": VERSION,
        "config": header.config,
        "mel": header.mel,
        "step": header.step,
        "metrics": header.metrics,
        "calibration": header.calibration,
        "extra": header.extra,
        "fingerprint": mark,
    }
    if base is not None:
        _check_place(path, base.path)
        place = os.path.relpath(base.path.resolve(), path.resolve().parent)
        entries["base"] = {"path": Path(place).as_posix(), "fingerprint": base.fingerprint}
        entries["base"]["unused"] = sorted(base.state.keys() - state.keys())  # where it is another kind of network
    with atomic_path(path) as partial:
        save_file({**plain, **packed}, partial, metadata={name: json.dumps(value) for name, value in entries.items()})
    return mark


def load_weights(path: str | Path, kind: str | None = None) -> Checkpoint:
    """Read ours or a published checkpoint; told apart by content, not by name.

    Raises CloningError: missing, not a checkpoint, cut off, of another kind, of a newer format, a pickle that wants to
    run code, or one that claims more than it holds (`utils.weights.untrusted`).
    """
    path = Path(path)
    if not path.is_file():
        raise CloningError(f"{path}: no such checkpoint")
    try:
        checkpoint = _load_ours(path) if is_safetensors(path) else _load_published(path)
    except OSError as error:
        raise CloningError(f"{path}: cannot be read: {error.strerror or error}") from error
    check_numbers(path, checkpoint.state)
    if kind is not None and checkpoint.kind != kind:
        raise CloningError(
            f"{path}: expected a checkpoint of kind {kind!r}, found {checkpoint.kind!r}: give another file"
        )
    return checkpoint


def read_header(path: str | Path) -> dict[str, Any]:
    """What a file of ours says of itself (kind, config, fingerprint, ...), its tensors left alone.

    {} for any other file, such as a published `.pt`. Raises CloningError: missing, damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise CloningError(f"{path}: no such checkpoint")
    try:
        if not is_safetensors(path):
            return {}
        check_safetensors(path)
        with safe_open(path, framework="pt") as file:
            return parse_header(path, file.metadata() or {})
    except SafetensorError as error:
        raise CloningError(f"{path}: damaged or cut off: {error}: copy or export it again") from error
    except OSError as error:
        raise CloningError(f"{path}: cannot be read: {error.strerror or error}") from error


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


def save_training_state(path: str | Path, state: dict[str, Any]) -> None:
    """Write optimizer state and position atomically; only tensors and plain Python values are allowed in it."""
    with atomic_path(path) as partial:
        torch.save(state, partial)


def load_training_state(path: str | Path) -> dict[str, Any]:
    """Read what `save_training_state` wrote; CloningError when it is damaged or wants to run code."""
    return _torch_load(Path(path), 16 * PICKLE_BYTES)


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
        name: _scaled(tensor, state[name + SCALE]) if name + SCALE in state else tensor
        for name, tensor in state.items()
        if not name.endswith(SCALE)
    }


def _scaled(tensor: Tensor, scale: Tensor) -> Tensor:
    return tensor.float() * _by_row(scale, tensor)


def _by_row(scale: Tensor, tensor: Tensor) -> Tensor:
    return scale.view(-1, *[1] * (tensor.ndim - 1))


def _stored(tensor: Tensor, half: bool) -> Tensor:
    # clone: safetensors refuses tensors that share memory (tied weights)
    return (tensor.half() if half and tensor.is_floating_point() else tensor).contiguous().clone()


def _load_ours(path: Path, chain: int = 1) -> Checkpoint:
    check_safetensors(path)
    try:
        with safe_open(path, framework="pt") as file:
            header = parse_header(path, file.metadata() or {})
            if "kind" not in header or "format" not in header:
                raise CloningError(
                    f"{path}: a safetensors file without our header (kind, format): not a checkpoint of this project"
                )
            if not 1 <= header["format"] <= FORMAT:
                raise CloningError(
                    f"{path}: format {shown(header['format'])}, this version reads up to {FORMAT}: update the project"
                )
            state = _read_state(path, file)
    except SafetensorError as error:
        raise CloningError(f"{path}: damaged or cut off: {error}: copy or export it again") from error
    return Checkpoint(
        kind=header["kind"],
        state={**_base_state(path, header["base"], chain), **state} if header.get("base") else state,
        config=header.get("config", {}),
        mel=header.get("mel"),
        step=header.get("step", 0),
        metrics=header.get("metrics", {}),
        calibration=header.get("calibration", {}),
        extra=header.get("extra", {}),
        fingerprint=header.get("fingerprint", ""),
        published=False,
        path=path,
        version=header.get("version", ""),
    )


def _read_state(path: Path, file: Any) -> dict[str, Tensor]:
    """All tensors of an open safetensors file, one at a time, in float32 where they are no whole numbers."""
    state = {}
    names = set(file.keys())
    for name in sorted(names):
        part = file.get_slice(name)
        if part.get_dtype() not in DTYPES:
            raise CloningError(f"{path}: {shown(name)} is stored as {part.get_dtype()}: no plain weights")
        scale = file.get_slice(name + SCALE) if name + SCALE in names else None
        if scale is not None and (scale.get_dtype() != "F32" or scale.get_shape() != part.get_shape()[:1]):
            raise CloningError(
                f"{path}: damaged: {shown(name)} of shape {part.get_shape()} has scales of shape {scale.get_shape()}"
            )
        if not name.endswith(SCALE):
            tensor = file.get_tensor(name)
            tensor = tensor if scale is None else _scaled(tensor, file.get_tensor(name + SCALE))
            state[name] = tensor.float() if tensor.is_floating_point() else tensor
    return state


def _held(base: Checkpoint | None, name: str, tensor: Tensor) -> bool:
    """Whether `base` holds the same tensor, as float16."""
    own = None if base is None else base.state.get(name)
    return own is not None and own.shape == tensor.shape and torch.equal(own.half(), tensor.detach().cpu().half())


def _base_state(path: Path, base: dict[str, Any], chain: int) -> dict[str, Tensor]:
    """The tensors that a file of differences leaves to another; CloningError when that one is gone or has changed."""
    found = path.parent / base["path"]
    _check_place(path, found)
    if not found.is_file():
        raise CloningError(f"{path}: holds only what differs from {found}, which is missing: put it back")
    if chain == _LONGEST_CHAIN:
        raise CloningError(f"{path}: its base has a base, and so on, {_LONGEST_CHAIN} times: export it without a base")
    checkpoint = _load_ours(found, chain + 1)
    if checkpoint.fingerprint != base["fingerprint"]:
        raise CloningError(
            f"{path}: holds only what differs from weights {shown(base['fingerprint'])}, but {found} is now "
            f"{checkpoint.fingerprint}: train and export it again, or put the former back"
        )
    unused = set(base.get("unused", ()))
    return {name: value for name, value in checkpoint.state.items() if name not in unused}


def _check_place(path: Path, base: Path) -> None:
    """A base lies in the folder of `path`, or in a folder saved_models: another's file may not name any file here."""
    folder = path.resolve().parent
    places = [folder, SAVED_MODELS, *(place for place in folder.parents if place.name == SAVED_MODELS.name)]
    try:
        inside = any(base.resolve().is_relative_to(place) for place in places)
    except (OSError, ValueError, RuntimeError):  # no path at all, or links in a circle
        inside = False
    if not inside:
        raise CloningError(
            f"{path}: its base {shown(str(base))} must lie in the same folder or in {SAVED_MODELS.name}: move it there"
        )


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.pt` file, by name, whatever network they are of. Raises CloningError as `load_weights`."""
    return {name: value for name, value in _torch_load(path, PICKLE_BYTES).items() if isinstance(value, Tensor)}


def _load_published(path: Path) -> Checkpoint:
    content = _torch_load(path, PICKLE_BYTES)
    # `model_state` beside optimizer and step, or (older vocoders) a bare state_dict
    state = content.get("model_state", content) if isinstance(content, dict) else {}
    plain = isinstance(state, dict) and all(isinstance(n, str) and isinstance(t, Tensor) for n, t in state.items())
    kinds = [kind for kind, mark in _PUBLISHED_MARKS.items() if plain and mark in state]
    if not kinds:
        raise CloningError(f"{path}: not a checkpoint of this project nor of the SV2TTS layout")
    step = content.get("step", state.get("step", 0))
    if isinstance(step, Tensor) and step.numel() == 1:
        step = step.item()
    if not isinstance(step, int | float) or not 0 <= step < 2**63:
        raise CloningError(f"{path}: damaged: its step is {shown(step)}")
    check_tensors(path, state)
    return Checkpoint(
        kind=kinds[0],
        state={name: t.detach() for name, t in state.items()},
        config={},
        mel=None,
        step=int(step),
        metrics={},
        extra={},
        fingerprint=fingerprint(state),
        published=True,
        path=path,
    )


def _torch_load(path: Path, pickle_bytes: int) -> Any:
    try:
        check_torch_file(path, pickle_bytes)
        with path.open("rb") as file:  # not its path: torch goes by the name's end, and may take it for safetensors
            return torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CloningError(f"{path}: no such file") from error
    except pickle.UnpicklingError as error:
        raise CloningError(f"{path}: damaged or not a checkpoint: not a pickle of plain weights") from error
    except (RuntimeError, OSError, EOFError, ValueError, LookupError, AttributeError, TypeError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CloningError(f"{path}: damaged or not a checkpoint: {reason}") from error
