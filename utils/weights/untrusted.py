"""Looks at files of weights before anything in them is allocated, so that one who lies costs neither memory nor time.

What a file may claim is bounded by what it holds: no compressed parts, no tensor larger than the file, a description of
bounded size. All refusals are one line (CloningError).
"""

from __future__ import annotations

import io
import json
import math
import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from utils.errors import CloningError

KINDS = ("encoder", "synthesizer", "vocoder", "voice")
HEADER_BYTES = 2 * 2**20  # of a safetensors file; the largest of ours has 20 kB
PICKLE_BYTES = 2**20  # of the plain values beside the tensors; the published synthesizer has 100 kB
DIRECTORY_BYTES = 2**20  # of a zip file's table of contents
DTYPES = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"}
_TORCH_DTYPES = {
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
}  # fmt: skip
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # torch.serialization.MAGIC_NUMBER: the first value in a file before torch 1.6
_STORAGES = "Double Float Half BFloat16 Long Int Short Char Byte Bool".split()
# All that a pickle of plain weights needs. torch allows more (sparse, quantized and meta tensors, `bytearray(n)`), some
# of which allocate what they are told to.
_GLOBALS = {
    "collections.OrderedDict", "collections.Counter", "torch.Size", "torch.device",
    "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor", "torch._utils._rebuild_parameter",
    *(f"torch.{name}Storage" for name in _STORAGES), *(f"torch.cuda.{name}Storage" for name in _STORAGES),
}  # fmt: skip
_HEADER_TYPES: dict[str, tuple[type, ...]] = {
    "kind": (str,), "format": (int,), "version": (str,), "config": (dict,), "mel": (dict, type(None)), "step": (int,),
    "metrics": (dict,), "calibration": (dict,), "extra": (dict,), "fingerprint": (str,), "base": (dict,),
}  # fmt: skip
_BASE_TYPES: dict[str, type] = {"path": str, "fingerprint": str, "unused": list}


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors does: eight bytes of length, then JSON."""
    with path.open("rb") as file:
        return file.read(9)[8:9] == b"{"


def check_safetensors(path: Path) -> None:
    """Raises CloningError when the description at the front is longer than allowed, or than the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if 8 + length > size:
        raise CloningError(f"{path}: damaged or cut off: a header of {length} bytes in a file of {size}: copy it again")
    if length > HEADER_BYTES:
        raise CloningError(f"{path}: a header of {length} bytes, at most {HEADER_BYTES} are read: not a checkpoint")


def parse_header(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Our fields of a safetensors header, each of the right type; {} where it is not ours. Raises CloningError."""
    if "kind" not in metadata:
        return {}  # others' files carry metadata too, which need not be JSON: {"format": "pt"}
    try:
        header = {name: json.loads(value) for name, value in metadata.items()}
    except (ValueError, RecursionError) as error:
        raise CloningError(f"{path}: damaged or cut off: {error}") from error
    for name, types in _HEADER_TYPES.items():
        if name in header and (not isinstance(header[name], types) or isinstance(header[name], bool)):
            wanted = " or ".join("null" if t is type(None) else t.__name__ for t in types)
            raise CloningError(f"{path}: damaged: its {name} must be {wanted}, found {shown(header[name])}")
    if header["kind"] not in KINDS:
        raise CloningError(f"{path}: of kind {shown(header['kind'])}; kinds are {', '.join(KINDS)}")
    if not 0 <= header.get("step", 0) < 2**63:
        raise CloningError(f"{path}: damaged: its step is {shown(header['step'])}")
    if base := header.get("base"):
        base = {"unused": []} | base
        right = all(isinstance(base.get(name), kind) for name, kind in _BASE_TYPES.items())
        if not right or not all(isinstance(name, str) for name in base["unused"]):
            raise CloningError(f"{path}: damaged: its base must have a path, a fingerprint and a list `unused`")
    return header


def check_torch_file(path: Path, pickle_bytes: int = PICKLE_BYTES) -> None:
    """Raises CloningError when a file is not of `torch.save`, or asks for more than plain tensors and values.

    Both of torch's formats: a zip file whose parts are stored as they are, and (before torch 1.6) pickles in a row.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":
            _check_zip(path, file, size, pickle_bytes)
            return
        file.seek(0)
        front = io.BytesIO(file.read(2 * pickle_bytes))
    if not any(op.name.startswith("LONG") and value == _LEGACY_MAGIC for op, value in _first_operations(front)):
        raise CloningError(f"{path}: damaged or not a checkpoint: {size} bytes, neither safetensors nor torch's")
    for _ in range(5):  # magic number, version, machine, values, names of the tensors' storages
        _check_pickle(path, front)


def check_tensors(path: Path, state: Mapping[str, Tensor]) -> None:
    """Raises CloningError when tensors of a torch file are no plain numbers, or more than the file can hold.

    A tensor may repeat a few stored numbers (`expand`) without end, and tensors may share them: twice the file's size
    is the limit of all together.
    """
    total, size = 0, path.stat().st_size
    for name, tensor in state.items():
        if tensor.layout is not torch.strided or tensor.dtype not in _TORCH_DTYPES or tensor.device.type != "cpu":
            kind = f"{tensor.dtype}, {tensor.layout}, {tensor.device}"
            raise CloningError(f"{path}: {shown(name)} is a tensor of another kind ({kind}): no plain weights")
        total += tensor.numel() * tensor.element_size()
    if total > 2 * size:
        raise CloningError(f"{path}: refused: its tensors claim {total} bytes, the file has {size}")


def check_numbers(path: Path, state: Mapping[str, Tensor]) -> None:
    """Raises CloningError when a weight is not finite."""
    for name, tensor in state.items():
        if tensor.is_floating_point() and tensor.numel():
            low, high = (float(bound) for bound in tensor.aminmax())
            if not (math.isfinite(low) and math.isfinite(high)):
                raise CloningError(f"{path}: damaged: {shown(name)} holds numbers that are not finite")


def shown(value: Any) -> str:
    """A value from a file, short enough for a message."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _check_zip(path: Path, file: BinaryIO, size: int, pickle_bytes: int) -> None:
    file.seek(max(0, size - 65_600))  # the end record, behind which a comment of 64 kB may stand
    end = file.read()
    place = end.rfind(b"PK\x05\x06")
    if place < 0 or len(end) < place + 22:
        raise CloningError(f"{path}: damaged or cut off: a zip file without its end")
    listed = int.from_bytes(end[place + 12 : place + 16], "little")
    if DIRECTORY_BYTES < listed < 2**32 - 1 or (listed == 2**32 - 1 and size < 2**32):
        raise CloningError(f"{path}: refused: its table of contents has {listed} bytes, at most {DIRECTORY_BYTES}")
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
                raise CloningError(f"{path}: refused: a compressed zip file; torch.save writes none")
            if (total := sum(entry.file_size for entry in entries)) > size:
                raise CloningError(f"{path}: refused: its parts claim {total} bytes, the file has {size}")
            pickles = [entry for entry in entries if entry.filename.endswith(".pkl")]
            if not any(entry.filename.endswith("data.pkl") for entry in pickles):
                raise CloningError(f"{path}: not a checkpoint: a zip file without the values of torch.save")
            for entry in pickles:
                if entry.file_size > pickle_bytes:
                    raise CloningError(f"{path}: refused: {entry.file_size} bytes of values, at most {pickle_bytes}")
                _check_pickle(path, io.BytesIO(archive.read(entry)))
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, EOFError) as error:
        raise CloningError(f"{path}: damaged or cut off: {error}") from error


def _check_pickle(path: Path, file: io.BytesIO) -> None:
    """One pickle: asks for nothing but `_GLOBALS`."""
    try:
        for operation, argument, _ in pickletools.genops(file):
            if operation.name == "GLOBAL" and (name := str(argument).replace(" ", ".")) not in _GLOBALS:
                raise CloningError(f"{path}: refused: it is not plain weights (its pickle asks for {shown(name)})")
            if operation.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"):
                raise CloningError(f"{path}: refused: it is not plain weights (its pickle asks to run code)")
            if operation.name == "PROTO" and argument != 2:
                raise CloningError(f"{path}: refused: a pickle of protocol {argument}; torch.save writes protocol 2")
    except (ValueError, LookupError, OverflowError) as error:
        raise CloningError(f"{path}: damaged or not a checkpoint: {error}") from error


def _first_operations(file: io.BytesIO) -> list[tuple[pickletools.OpcodeInfo, Any]]:
    """PROTO, the first value and STOP; leaves the file at its beginning."""
    found = []
    try:
        for operation, argument, _ in pickletools.genops(file):
            found.append((operation, argument))
            if len(found) == 2:
                break
    except (ValueError, LookupError, OverflowError):
        found = []
    file.seek(0)
    return found
