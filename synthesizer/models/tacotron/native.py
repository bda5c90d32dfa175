"""`NativeDecoder` and `NativePlannedDecoder`: the free running of both decoders, one call of native code a step.

A step of the published network reads 18 million weights, so they are kept in 16 bits: whole numbers, and a scale for
each row. What they multiply stays float32.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from synthesizer.models.decoding import DecoderOutput
from synthesizer.models.stopping import Stopper
from synthesizer.models.tacotron.attention import TacotronMemory
from synthesizer.models.tacotron.cbhg import Dropout
from synthesizer.models.tacotron.decoder import Decoder, DecoderCells, PlannedDecoder
from utils.native import build

log = logging.getLogger(__name__)
SOURCE = Path(__file__).with_name("decoder.c")
BLOCK = 16  # rows
DRAWN = 32  # steps whose dropout is drawn at once
_POINTER, _INT = ctypes.c_void_p, ctypes.c_int32
_MATRICES = ["fc1", "fc2", "attend_context", "attend_prenet", "attend_query", "query", "in_context", "in_query"]
_MATRICES += ["lstm1_in", "lstm1", "lstm2_in", "lstm2", "mel", "stop_hidden", "stop_context"]


class _Matrix(ctypes.Structure):
    _fields_ = [("blocks", _INT), ("cols", _INT), ("weights", _POINTER), ("scale", _POINTER), ("bias", _POINTER)]


class _Model(ctypes.Structure):
    _fields_ = [
        (name, _INT) for name in ("mels", "prenet", "attention", "memory", "lstm", "reduction", "kernel", "published")
    ]
    _fields_ += [(name, _Matrix) for name in _MATRICES]
    _fields_ += [("v", _POINTER)]


class _Job(ctypes.Structure):
    _fields_ = [("items", _INT), ("tokens", _INT)]
    _fields_ += [
        (name, _POINTER) for name in ("values", "keys", "location", "mask", "open", "seen", "dropout", "state")
    ]
    _fields_ += [(name, _POINTER) for name in ("frames", "weights", "stop")]


@lru_cache
def library(tuning: tuple[str, ...] | None = None) -> ctypes.CDLL | None:
    """None, and a warning, where there is no compiler. `tuning`: its flags in place of those for this processor."""
    try:
        loaded = build.library(SOURCE, tuning)
    except build.NoCompiler as error:
        log.warning("Tacotron runs in torch, several times slower than native code: %s", error)
        return None
    if (loaded.model_size(), loaded.job_size()) != (ctypes.sizeof(_Model), ctypes.sizeof(_Job)):
        raise RuntimeError("native.py and decoder.c disagree about Model or Job")
    return loaded


class _Cells:
    """The weights that both decoders have, on a CPU and in float32, as the kernel reads them."""

    def __init__(self, decoder: DecoderCells, reduction: int, loaded: ctypes.CDLL) -> None:
        self.library = loaded
        self._kept: list[Tensor] = []  # what the structure points to
        gru, size = decoder.attn_rnn, decoder.res_rnn1.hidden_size
        memory = decoder.rnn_input.in_features - gru.hidden_size
        m = self.model = _Model(
            mels=decoder.n_mels,
            prenet=decoder.prenet.fc1.out_features,
            attention=gru.hidden_size,
            memory=memory,
            lstm=size,
            reduction=reduction,
            kernel=1,
        )
        m.fc1, m.fc2 = (self._matrix(layer.weight, layer.bias) for layer in (decoder.prenet.fc1, decoder.prenet.fc2))
        m.attend_context = self._matrix(gru.weight_ih[:, :memory], gru.bias_ih)
        m.attend_prenet = self._matrix(gru.weight_ih[:, memory:])
        m.attend_query = self._matrix(gru.weight_hh, gru.bias_hh)
        m.in_context = self._matrix(decoder.rnn_input.weight[:, :memory], decoder.rnn_input.bias)
        m.in_query = self._matrix(decoder.rnn_input.weight[:, memory:])
        for name in ("lstm1", "lstm2"):
            cell = decoder.res_rnn1 if name == "lstm1" else decoder.res_rnn2
            setattr(m, f"{name}_in", self._matrix(cell.weight_ih, cell.bias_ih + cell.bias_hh))
            setattr(m, name, self._matrix(cell.weight_hh))
        m.mel = self._matrix(decoder.mel_weight(reduction))

    def _start(self, job: _Job) -> Tensor:
        """The state before the first step of a job."""
        return torch.zeros(self.library.state_size(ctypes.byref(self.model), ctypes.byref(job)))

    def _step(self, job: _Job, state: Tensor) -> None:
        job.state = state.data_ptr()
        self.library.step(ctypes.byref(self.model), ctypes.byref(job))

    def _matrix(self, weight: Tensor, bias: Tensor | None = None) -> _Matrix:
        rows, cols = (_up(n) for n in weight.shape)
        weight = F.pad(weight.detach(), (0, cols - weight.shape[1], 0, rows - weight.shape[0]))
        scale = weight.abs().amax(dim=1).clamp(min=1e-20) / 32767
        rounded = (weight / scale[:, None]).round_().to(torch.int16)
        blocks = rounded.view(rows // BLOCK, BLOCK, cols).transpose(1, 2)
        matrix = _Matrix(blocks=rows // BLOCK, cols=cols, weights=self._keep(blocks), scale=self._keep(scale))
        if bias is not None:
            matrix.bias = self._keep(_wide(bias.detach()))
        return matrix

    def _keep(self, tensor: Tensor) -> int:
        self._kept.append(tensor.contiguous())
        return self._kept[-1].data_ptr()


class NativeDecoder(_Cells):
    """A decoder with its attention."""

    def __init__(self, decoder: Decoder, reduction: int, loaded: ctypes.CDLL) -> None:
        super().__init__(decoder, reduction, loaded)
        net, size, m = decoder.attn_net, decoder.res_rnn1.hidden_size, self.model
        self.probability = decoder.prenet.probability
        m.kernel, m.published = net.conv.kernel_size[0], net.published
        m.query = self._matrix(net.W.weight)  # its bias is part of the memory's keys
        m.stop_hidden = self._matrix(decoder.stop_proj.weight[:, :size], decoder.stop_proj.bias)
        m.stop_context = self._matrix(decoder.stop_proj.weight[:, size:])
        m.v = self._keep(_wide(net.v.weight[0]))

    def free_run(
        self, memory: TacotronMemory, dropout: Dropout, stopper: Stopper, max_steps: int, max_forward: int = 0
    ) -> DecoderOutput:
        """As `Tacotron.free_run`, to whose result it is close."""
        items, tokens = memory.mask.shape
        m, published = self.model, bool(self.model.published)
        mels = torch.empty(max_steps, items, m.mels * m.reduction)
        attention, logits = torch.empty(max_steps, items, tokens), torch.empty(max_steps, items)
        allowed = torch.ones_like(memory.mask) if published else memory.mask
        values, keys, location = _wide(memory.values), _wide(memory.keys), _wide(memory.location)
        mask = memory.mask.float()
        job = _Job(items=items, tokens=tokens)
        job.values, job.keys, job.location, job.mask = (t.data_ptr() for t in (values, keys, location, mask))
        state = self._start(job)
        index, place = torch.arange(tokens), torch.zeros(items, dtype=torch.int64)
        masks = self._masks(dropout, items)
        for step in range(max_steps):
            ahead = index - place[:, None]
            allowed_now = allowed & (ahead >= 0) & (ahead <= max_forward) if max_forward else allowed
            drawn = next(masks)
            job.open, job.dropout = allowed_now.data_ptr(), drawn.data_ptr()
            job.frames, job.weights = mels[step].data_ptr(), attention[step].data_ptr()
            job.stop = logits[step].data_ptr()
            self._step(job, state)
            place = attention[step].argmax(dim=1) if max_forward else place
            if stopper(logits[step].sigmoid(), attention[step]):
                break
        count = step + 1
        frames = mels[:count].view(count, items, m.mels, m.reduction).permute(1, 2, 0, 3).flatten(2)
        return DecoderOutput(frames, attention[:count].transpose(0, 1), logits[:count].t().sigmoid())

    def _masks(self, dropout: Dropout, items: int) -> Iterator[Tensor]:
        """For each step what the two layers of the prenet are multiplied by: (B, 2, P)"""
        ones = torch.ones(items, 2 * DRAWN, self.model.prenet)
        while True:
            drawn = dropout(ones, self.probability, None).view(items, DRAWN, 2, -1)
            yield from drawn.transpose(0, 1).contiguous()


class NativePlannedDecoder(_Cells):
    """A decoder that is told what each step sees of the text."""

    def __init__(self, decoder: PlannedDecoder, loaded: ctypes.CDLL) -> None:
        super().__init__(decoder, decoder.max_reduction, loaded)

    def __deepcopy__(self, memo: object) -> NativePlannedDecoder:
        """Itself: an adapted network is a copy in which the decoder is the same, and nothing of this one changes."""
        return self

    def free_run(self, seen: Tensor) -> Tensor:
        """As `PlannedDecoder.free_run`, to whose result it is close: seen (B, S, E) -> mel (B, M, F)"""
        items, steps = seen.shape[:2]
        m = self.model
        mels = torch.empty(steps, items, m.mels * m.reduction)
        seen = _wide(seen.transpose(0, 1))
        kept = torch.ones(items, 2, m.prenet)
        job = _Job(items=items, dropout=kept.data_ptr())
        state = self._start(job)
        for step in range(steps):
            job.seen, job.frames = seen[step].data_ptr(), mels[step].data_ptr()
            self._step(job, state)
        return mels.view(steps, items, m.mels, m.reduction).permute(1, 2, 0, 3).flatten(2)


def library_for(decoder: DecoderCells) -> ctypes.CDLL | None:
    """None without a compiler, or for a decoder that is not on a CPU in float32."""
    weight = decoder.mel_proj.weight
    return library() if weight.device.type == "cpu" and weight.dtype == torch.float32 else None


def _up(n: int) -> int:
    return -(-n // BLOCK) * BLOCK


def _wide(tensor: Tensor) -> Tensor:
    """The last axis filled up with zeros to whole blocks."""
    return F.pad(tensor.detach(), (0, _up(tensor.shape[-1]) - tensor.shape[-1])).contiguous()
