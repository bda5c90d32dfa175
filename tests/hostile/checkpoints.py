"""Checkpoints that lie, break or run code: made by hand, one a kind of fault, and by chance from whole ones."""

from __future__ import annotations

import io
import itertools
import json
import os
import pickle
import random
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from tests.conftest import DATA
from tests.support.tiny import save_tiny_models

STAGES = ("encoder", "synthesizer", "vocoder")
OTHERS = ("tacotron", "non_attentive_tacotron", "transformer", "non_attentive_transformer")  # synthesizers
MARKS = {"encoder": "lstm.weight_ih_l0", "vocoder": "upsample.resnet.conv_in.weight"}
NUMBERS = (0, -1, 10**9, 10**18, 1.5, "x", None, [], {}, True)


def use(path: str) -> None:
    """What all scripts do with a file of weights: load it as what it says it is, or as each stage, and run it once."""
    from encoder.inference import SpeakerEncoder
    from synthesizer.inference import Synthesizer
    from synthesizer.speech import SpeechOptions
    from utils.weights.checkpoint import load_weights, read_header
    from vocoder.inference import Vocoder

    read_header(path)
    kind = load_weights(path).kind
    voice = np.full(256, 1 / 16, np.float32)
    if kind == "encoder":
        SpeakerEncoder.load(path).embed(np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32))
    elif kind == "synthesizer":
        synthesizer = Synthesizer.load(path)
        options = SpeechOptions(seed=0, attempts=1)
        synthesizer.speak("Hello.", np.resize(voice, synthesizer.speaker_size), options)
    else:
        vocoder = Vocoder.load(path)
        vocoder.vocode(np.zeros((vocoder.mel.n_mels, 4), np.float32), seed=0)


def whole(folder: Path) -> dict[str, Path]:
    """Checkpoints of every kind as they should be, tiny."""
    for model in ("parallel", *OTHERS):
        save_tiny_models(folder / model, model)
    ours = {stage: folder / "parallel" / f"{stage}.safetensors" for stage in STAGES}
    others = {model: folder / model / "synthesizer.safetensors" for model in OTHERS}
    names = ("encoder_tiny", "encoder_tiny_legacy", "tacotron_tiny", "wavernn_tiny", "wavernn_tiny_bare")
    return ours | others | {name: DATA / f"{name}.pt" for name in names}


def taken_apart(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Header (JSON text a field) and tensors of one of ours."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}


# -- by hand -----------------------------------------------------------------------------------------------------------


def cases(folder: Path, every: int = 1) -> Iterator[tuple[str, Path]]:
    """(kind of fault, file) for each, or for one in `every` of the many kinds; the files are made in `folder`."""
    good = whole(folder / "whole")
    for kind, make in (
        ("cut", _cut), ("header", _headers), ("config", _configs), ("tensors", _tensors), ("base", _bases),
        ("pickle", _pickles), ("zip", _zips), ("published", _published),
    ):  # fmt: skip
        place = folder / kind
        place.mkdir(parents=True)
        step = every if kind in ("config", "header", "tensors") else 1
        for number, content in enumerate(itertools.islice(make(good, place), 0, None, step)):
            path = content if isinstance(content, Path) else place / f"{number:03d}.safetensors"
            if isinstance(content, bytes):
                path.write_bytes(content)
            yield kind, path


def _cut(good: dict[str, Path], folder: Path) -> Iterator[bytes]:
    ours = good["encoder"].read_bytes()
    yield from (ours[:size] for size in range(12))
    yield from (bytes(size) for size in (1, 8, 9, 100))
    for content in (ours, good["encoder_tiny"].read_bytes(), good["encoder_tiny_legacy"].read_bytes()):
        yield from (content[: int(len(content) * part)] for part in (0.01, 0.3, 0.5, 0.9, 0.999))
    yield from (struct.pack("<Q", size) + b'{"a": 1}' for size in (0, 8, 9, 2**31, 2**63, 2**64 - 1))
    yield struct.pack("<Q", 3 * 2**20) + b"{" + b" " * (3 * 2**20 - 2) + b"}"


def _headers(good: dict[str, Path], folder: Path) -> Iterator[bytes]:
    nested = "[" * 100_000 + "]" * 100_000
    for stage in STAGES:
        header, state = taken_apart(good[stage])
        for name in (*header, "base"):
            for value in ("x", None, [], {}, 3, -1, 1.5, True, [[]], 10**30, {"path": 3}):
                yield _safetensors({**header, name: json.dumps(value)}, state)
            for text in (nested, "[" * 900 + "]" * 900, "NaN", "1e999", "9" * 5000, "", "{", '"\\ud800"', "[0," * 9999):
                yield _safetensors({**header, name: text}, state)
            if name in ("config", "extra", "kind", "format", "mel"):
                yield _safetensors({n: v for n, v in header.items() if n != name}, state)


def _configs(good: dict[str, Path], folder: Path) -> Iterator[bytes]:
    for stage in (*STAGES, *OTHERS):
        header, state = taken_apart(good[stage])
        for field in ("config", "mel", "extra"):
            values = json.loads(header[field])
            for number, place in enumerate(_places(values)):
                for value in NUMBERS[number % 4 :: 4]:  # a few each, so that all meet all kinds of places
                    changed = json.loads(header[field])
                    _put(changed, place, value)
                    yield _safetensors({**header, field: json.dumps(changed)}, state)
            yield _safetensors({**header, field: json.dumps({**values, "unknown\n": 1})}, state)


def _places(value: Any, place: tuple = ()) -> Iterator[tuple]:
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield (*place, key)
        yield from _places(inner, (*place, key))


def _put(value: Any, place: tuple, new: Any) -> None:
    for key in place[:-1]:
        value = value[key]
    value[place[-1]] = new


def _tensors(good: dict[str, Path], folder: Path) -> Iterator[bytes]:
    for stage in (*STAGES, *OTHERS):
        header, state = taken_apart(good[stage])
        matrix = next(name for name, tensor in state.items() if tensor.ndim == 2)
        for value in (float("nan"), float("inf"), 1e38, -1e38):
            yield _safetensors(header, {**state, matrix: torch.full_like(state[matrix], value)})
            yield _safetensors(header, {name: torch.full_like(tensor, value) if tensor.is_floating_point() else tensor
                                        for name, tensor in state.items()})  # fmt: skip
        for tensor in (torch.zeros(0), torch.zeros(()), torch.zeros(3, 0), torch.zeros(2, 2, 2), torch.zeros(7),
                       torch.zeros(2, 3, dtype=torch.complex64), torch.zeros(4, dtype=torch.float8_e4m3fn),
                       torch.zeros(4, dtype=torch.uint16), torch.zeros(4, dtype=torch.bool)):  # fmt: skip
            yield _safetensors(header, {**state, matrix: tensor})
            yield _safetensors(header, {**state, f"{matrix}#scale": tensor})
            yield _safetensors(header, {**state, "new\nline": tensor})
        yield _safetensors(header, {name: tensor for name, tensor in state.items() if name != matrix})
        yield _safetensors(header, {matrix: state[matrix]})
        whole_numbers = state[matrix].to(torch.int8)
        for scale in (torch.zeros(0), torch.ones(1), torch.ones(len(whole_numbers), 1), torch.ones(999)):
            yield _safetensors(header, {**state, matrix: whole_numbers, f"{matrix}#scale": scale})
        scale = torch.full((len(whole_numbers),), float("nan"))
        yield _safetensors(header, {**state, matrix: whole_numbers, f"{matrix}#scale": scale})
    for shape, stop in (([2**40, 2**40], 8), ([10**12], 8), ([-1], 8), ([2], 10**12), ([0, 10**18], 0)):
        header = {"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, stop]}}
        header |= {"__metadata__": {"kind": '"encoder"', "format": "1", "config": "{}"}}
        text = json.dumps(header).encode()
        yield struct.pack("<Q", len(text)) + text + bytes(8)


def _bases(good: dict[str, Path], folder: Path) -> Iterator[bytes | Path]:
    header, state = taken_apart(good["encoder"])
    few = dict(list(state.items())[:2])
    mark = json.loads(header["fingerprint"])
    places = ["self.safetensors", "../../../../../../etc/passwd", "/etc/passwd", "..", ".", "", "\x00", "/dev/zero",
              "x" * 5000, "../config/000.safetensors", str(good["encoder"]), "missing.safetensors", "~/x"]  # fmt: skip
    for place in places:
        yield _safetensors({**header, "base": json.dumps({"path": place, "fingerprint": mark})}, few)
    own = folder / "self.safetensors"
    base = {"path": own.name, "fingerprint": mark}
    save_file(few, own, metadata={**header, "base": json.dumps(base)})
    yield own
    for number in range(9):  # a ring
        base = {"path": f"ring{(number + 1) % 9}.safetensors", "fingerprint": mark}
        save_file(few, folder / f"ring{number}.safetensors", metadata={**header, "base": json.dumps(base)})
    yield folder / "ring0.safetensors"
    loop = folder / "loop.safetensors"
    if os.name == "posix":
        loop.symlink_to(loop.name)
        yield loop
        base = {"path": loop.name, "fingerprint": mark}
        yield _safetensors({**header, "base": json.dumps(base)}, few)


def _safetensors(header: dict[str, str], state: dict[str, torch.Tensor]) -> bytes:
    from safetensors.torch import save

    return save({name: tensor.contiguous() for name, tensor in state.items()}, metadata=header)


class _Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, call: Callable, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple:
        return self.call, self.arguments


def _saved(content: Any, zipped: bool = True, mark: str | None = "encoder") -> bytes:
    """What torch.save makes of `content`, beside what makes a published checkpoint of it."""
    file = io.BytesIO()
    if mark:
        content = {"model_state": {MARKS[mark]: torch.zeros(8, 3), "x": content}, "step": 1}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def _pickles(good: dict[str, Path], folder: Path) -> Iterator[bytes]:
    trap = str(folder / "trap")
    code = f"__import__('os').mkdir({trap!r})"
    for call in (_Runs(os.mkdir, trap), _Runs(os.system, f"mkdir {trap}"), _Runs(eval, code)):
        yield from (_saved(call, zipped) for zipped in (True, False))
        yield from (pickle.dumps(call, protocol) for protocol in range(6))
        yield from (pickle.dumps({"model_state": call}, protocol) for protocol in (0, 2, 4))
    for size in (10**6, 10**9, 10**12, 2**62):
        for function in (bytearray, torch.FloatTensor, torch.UntypedStorage, torch.Size):
            argument = [size] if function is torch.Size else size
            yield from (_saved(_Runs(function, argument), zipped) for zipped in (True, False))
    yield from (pickle.dumps(value, protocol) for value in ({"a": 1}, [1], "x", None, 3) for protocol in range(6))
    yield from (b"\x80\x02" + body for body in (b"", b".", b"]" * 500_000, b"(" * 10**6, b"K\x01\x85" * 300_000 + b"."))
    yield b"\x80\x02X\xff\xff\xff\xff"
    yield b"\x80\x02r\xff\xff\xff\xffN."
    yield b"\x80\x04\x8e" + b"\xff" * 8


def _zips(good: dict[str, Path], folder: Path) -> Iterator[bytes]:
    values = pickle.dumps({"model_state": {}}, 2)
    parts = {"a/data.pkl": values, "a/version": b"3\n", "a/data/0": bytes(64)}
    for squeezed in parts:  # a part that is small in the file and large outside
        yield _zip({**parts, squeezed: bytes(200 * 2**20)}, zipfile.ZIP_DEFLATED)
    yield _zip({**parts, "a/data.pkl": b"\x80\x02" + b"}" * 100 * 2**20}, zipfile.ZIP_BZIP2)
    yield _zip({**parts, "a/data.pkl": b"\x80\x02" + b"}" * 3 * 2**20 + b"."})
    yield _zip({})
    yield _zip({"a": b"x"})
    yield _zip({"data.pkl": values})
    yield _zip({**parts, **{f"a/{n}": b"" for n in range(30_000)}})
    yield _zip(parts)[:-1]
    yield _zip(parts) + bytes(100_000)
    stored = _zip({**parts, "a/data/0": bytes(4)})
    yield stored.replace(struct.pack("<I", 4), struct.pack("<I", 2**32 - 2))  # sizes that the file does not have
    yield b"PK\x03\x04" + bytes(200)
    yield b"PK\x05\x06" + bytes(18)


def _zip(parts: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


def _published(good: dict[str, Path], folder: Path) -> Iterator[bytes]:
    small = torch.zeros(1)
    odd = {
        "expanded": small.expand(10**6, 10**4), "meta": torch.empty(10**6, 10**6, device="meta"),
        "sparse": torch.eye(3).to_sparse(), "csr": torch.eye(3).to_sparse_csr(),
        "quantized": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        "complex": torch.zeros(3, dtype=torch.complex64), "nan": torch.full((3,), torch.nan), "empty": torch.zeros(0),
        "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "parameter": torch.nn.Parameter(small),
        "strided": torch.arange(99.0).as_strided((9, 9), (1, 1)), "text": "x", "list": [1], "none": None,
    }  # fmt: skip
    for value in odd.values():
        for zipped in (True, False):
            try:
                yield _saved(value, zipped)
            except (RuntimeError, NotImplementedError, AttributeError):  # what torch itself cannot write
                continue
    for stage, name in (("encoder", "encoder_tiny"), ("synthesizer", "tacotron_tiny"), ("vocoder", "wavernn_tiny")):
        content = torch.load(good[name], weights_only=True)
        state = content["model_state"]
        names = list(state)
        for step in ("x", None, [], -1, 1e300, float("nan"), torch.zeros(3), torch.tensor(float("nan"))):
            yield _saved({**content, "step": step}, mark=None)
        for key in (3, None, b"x", ("a",)):
            yield _saved({"model_state": OrderedDict([*state.items(), (key, small)])}, mark=None)
        for kept in (names[:1], names[:-1], names[1:], names[::2], [MARKS.get(stage, "decoder.mel_proj.weight")]):
            yield _saved({"model_state": {name: state[name] for name in kept}}, mark=None)
        for changed in names[:: max(1, len(names) // 12)]:
            other = torch.full_like(state[changed], 9)
            for value in (small.expand(10**6, 10**4), torch.zeros(0), torch.zeros(()), other):
                yield _saved({"model_state": {**state, changed: value}}, mark=None)
        large = {name: torch.full_like(t, 1e38) if t.is_floating_point() else t for name, t in state.items()}
        yield _saved({"model_state": large}, mark=None)
    view = torch.zeros(200_000)  # many tensors that share one storage
    yield _saved({"model_state": {MARKS["encoder"]: view, **{str(n): view for n in range(2000)}}}, mark=None)


# -- by chance ---------------------------------------------------------------------------------------------------------


def mutations(folder: Path, count: int, seed: int = 0) -> Iterator[Path]:
    """Whole checkpoints with bytes changed, left out, doubled or put in: mostly in what describes the tensors."""
    draw = random.Random(seed)
    sources = [path.read_bytes() for path in whole(folder / "whole").values()]
    words = [b"[", b"{", b'"', b"-1", b"1e999", b"null", bytes(8), b"\xff" * 8, b"F64", b"c__builtin__\neval\n"]
    for number in range(count):
        content = bytearray(draw.choice(sources))
        end = min(len(content), 9000) if draw.random() < 0.6 else len(content)
        start = 0 if draw.random() < 0.6 else max(0, len(content) - 3000)
        for _ in range(draw.choice((1, 1, 2, 5, 30))):
            place = draw.randrange(min(start, end - 1), end)
            match draw.randrange(5):
                case 0:
                    content[place : place + 1] = bytes([draw.randrange(256)])
                case 1:
                    del content[place : place + draw.choice((1, 8, 100))]
                case 2:
                    content[place:place] = draw.choice(words)
                case 3:
                    content[place : place + 8] = struct.pack("<Q", draw.choice((0, 1, 2**31, 2**62, len(content))))
                case _:
                    content[place:place] = content[place : place + draw.choice((1, 8, 500))]
            end = min(end, len(content))
        path = folder / f"{number:05d}.safetensors"
        path.write_bytes(content)
        yield path
