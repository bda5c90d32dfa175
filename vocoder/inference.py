"""One interface for all vocoders: `Vocoder.load(path)`, then `vocode(mel)`.

vocoder = Vocoder.load("saved_models/default/vocoder.safetensors")   # or a published vocoder.pt, or "griffin-lim"
wav = vocoder.vocode(mel)                                            # (M, F) -> Waveform of (F - 1) * hop samples
for samples in vocoder.stream(mels): ...                             # the same, while the mels still come
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from utils.audio.io import Waveform
from utils.audio.mel import SYNTHESIZER_MEL, MelConfig
from utils.config import from_dict
from utils.errors import CloningError
from utils.seeds import require_seed
from utils.weights.checkpoint import Checkpoint, load_weights, read_header
from utils.weights.find import DEFAULT_MODELS, GRIFFIN_LIM, with_fingerprint
from utils.weights.networks import rebuild
from utils.weights.untrusted import shown
from vocoder.config import VocoderConfig
from vocoder.model import build_network
from vocoder.models.griffin_lim import GriffinLimConfig, mel_to_waveform
from vocoder.models.hifigan import remove_weight_norm
from vocoder.models.source import Sourced
from vocoder.models.waveform import WaveformModel
from vocoder.streaming import Render, StreamedSource, StreamedWaveRNN, stream
from vocoder.wavernn.generate import Generation, generate
from vocoder.wavernn.network import WaveRNN
from vocoder.wavernn.published import published_config, published_state

Progress = Callable[[int, int], None]  # steps done, steps in all


class Vocoder(ABC):
    """Mel in, waveform out. `mel`: what it reads; `name`: the kind of network; `fingerprint`: of its weights."""

    def __init__(self, name: str, mel: MelConfig, fingerprint: str, device: str | torch.device) -> None:
        self.name, self.mel, self.fingerprint = name, mel, fingerprint
        self.device = torch.device(device)

    @staticmethod
    def load(
        path: str | Path,
        device: str | torch.device = "cpu",
        *,
        generation: Generation | None = None,
        mel: MelConfig = SYNTHESIZER_MEL,
    ) -> Vocoder:
        """A checkpoint of ours, a published `vocoder.pt`, or "griffin-lim", which needs no weights and reads any `mel`.

        `generation` says how a WaveRNN runs (folds and their overlap). Raises CloningError: no file, damaged, of
        another stage.
        """
        if str(path) == GRIFFIN_LIM:
            return GriffinLimVocoder(mel, device=device)
        checkpoint = load_weights(path, "vocoder")
        config = _config_of(checkpoint)
        model = rebuild(lambda: build_network(config), checkpoint, published_state(checkpoint.state))
        model.to(device).eval().requires_grad_(False)
        if isinstance(model, WaveRNN):
            guide = _guide_of(checkpoint, device) if config.wavernn.guide_taps else None
            return WaveRNNVocoder(model, config, checkpoint.fingerprint, device, generation or Generation(), guide)
        if config.architecture == "hifigan":
            remove_weight_norm(model)
        return WaveformVocoder(model, config, checkpoint.fingerprint, device)

    @property
    def streams(self) -> bool:
        """Whether `stream` is possible."""
        return True

    @torch.inference_mode()
    def vocode(
        self, mel: np.ndarray | Tensor, *, seed: int | None = None, progress: Progress | None = None
    ) -> Waveform:
        """mel (M, F) in the units of `self.mel` -> waveform of (F - 1) * hop samples (of one hop where F is 1).

        `seed` decides what is drawn at random, if anything is; `progress(done, total)` is called now and then by
        vocoders that take long. Raises CloningError for a mel of another shape or with values that are not finite, and
        for a seed that `require_seed` refuses.
        """
        require_seed(seed)
        frames = self._checked(mel)
        if frames.size(1) == 1:
            frames = frames.expand(-1, 2)
        samples = self._render(frames.contiguous(), secrets.randbelow(2**31) if seed is None else seed, progress)
        if not np.isfinite(samples).all():
            raise CloningError(f"{self.name} makes samples that are not finite: its weights are damaged, take others")
        return Waveform(samples, self.mel.sample_rate)

    def stream(self, mels: Iterable[np.ndarray | Tensor], *, seed: int | None = None) -> Iterator[np.ndarray]:
        """Pieces of a mel (M, f), f any, as they come -> pieces of its waveform (t,) float32, as early as may be.

        Joined, they are what `vocode` makes of the whole mel (of a WaveRNN: in one stream, unfolded; of one with a
        guide, alike: rounding of the guide moves single draws, and what is drawn after them). Raises CloningError for
        what `vocode` refuses, for no frames at all, and, at once, where a vocoder cannot stream.
        """
        require_seed(seed)
        lookahead, render = self._streamed(secrets.randbelow(2**31) if seed is None else seed)
        return self._pieces(mels, lookahead, render)

    @torch.inference_mode()
    def _pieces(self, mels: Iterable[np.ndarray | Tensor], lookahead: int, render: Render) -> Iterator[np.ndarray]:
        yield from stream((self._checked(mel, least=0) for mel in mels), lookahead, render)

    @abstractmethod
    def _streamed(self, seed: int) -> tuple[int, Render]:
        """`lookahead` and `render` for `vocoder.streaming.stream`, of one utterance; CloningError: not possible."""

    @abstractmethod
    def _render(self, mel: Tensor, seed: int, progress: Progress | None) -> np.ndarray:
        """mel (M, F), F >= 2, on the device -> ((F - 1) * hop,) float32"""

    def _checked(self, mel: np.ndarray | Tensor, least: int = 1) -> Tensor:
        frames = torch.as_tensor(mel).detach().to(self.device, torch.float32)
        if frames.ndim != 2 or frames.size(0) != self.mel.n_mels or frames.size(1) < least:
            raise CloningError(
                f"a mel of shape {tuple(frames.shape)}: {self.name} wants ({self.mel.n_mels}, F), F at least {least}"
            )
        if bad := int((~torch.isfinite(frames)).any(dim=0).sum()):
            raise CloningError(
                f"the mel holds values that are not finite in {bad} of {frames.size(1)} frames: look at the synthesizer"
            )
        # nothing was trained on levels that the mel cannot take, but a synthesizer may overshoot
        return frames.clamp(-self.mel.max_abs, self.mel.max_abs) if self.mel.scale == "db" else frames


class WaveformVocoder(Vocoder):
    """A network that makes the whole waveform in one pass: Vocos, SourceFilter, HiFi-GAN."""

    def __init__(
        self, model: WaveformModel, config: VocoderConfig, fingerprint: str, device: str | torch.device
    ) -> None:
        super().__init__(config.architecture, config.mel, fingerprint, device)
        self.model, self.config = model, config

    def _render(self, mel: Tensor, seed: int, progress: Progress | None) -> np.ndarray:
        return self.model(mel[None]).wav[0].float().cpu().numpy()

    def _streamed(self, seed: int) -> tuple[int, Render]:
        if isinstance(self.model, Sourced):
            running = StreamedSource(self.model)
            return running.lookahead, running.render
        hop = self.mel.hop_length

        def render(mel: Tensor, first: int, count: int) -> np.ndarray:
            return self._render(mel, seed, None)[first * hop : (first + count) * hop]

        return self.model.lookahead, render


class WaveRNNVocoder(Vocoder):
    """A network that makes one sample after the other; `guide` is the vocoder whose waveform it reads, if any."""

    def __init__(
        self,
        model: WaveRNN,
        config: VocoderConfig,
        fingerprint: str,
        device: str | torch.device,
        generation: Generation,
        guide: WaveformVocoder | None = None,
    ) -> None:
        super().__init__(config.architecture, config.mel, fingerprint, device)
        self.model, self.generation, self.guide = model, generation, guide

    @property
    def streams(self) -> bool:
        """Not as published, where the end fades out."""
        return not self.generation.published

    def _render(self, mel: Tensor, seed: int, progress: Progress | None) -> np.ndarray:
        guide = None if self.guide is None else self.guide.model(mel[None]).wav[0]
        return generate(self.model, mel, seed=seed, how=self.generation, progress=progress, guide=guide)

    def _streamed(self, seed: int) -> tuple[int, Render]:
        if self.generation.published:
            raise CloningError("a WaveRNN cannot stream as published, where the end fades out: leave `published` out")
        guide = None if self.guide is None else self.guide._streamed(seed)
        running = StreamedWaveRNN(self.model, seed, self.generation, guide)
        return running.lookahead, running.render


class GriffinLimVocoder(Vocoder):
    """No network: phases found by iteration."""

    def __init__(self, mel: MelConfig, how: GriffinLimConfig | None = None, device: str | torch.device = "cpu") -> None:
        super().__init__(GRIFFIN_LIM, mel, "", device)
        self.how = how or GriffinLimConfig()

    @property
    def streams(self) -> bool:
        """Never: phases depend on the whole mel."""
        return False

    def _render(self, mel: Tensor, seed: int, progress: Progress | None) -> np.ndarray:
        return mel_to_waveform(mel, self.mel, self.how, seed).float().cpu().numpy()

    def _streamed(self, seed: int) -> tuple[int, Render]:
        raise CloningError("griffin-lim cannot stream: its phases depend on the whole mel; take a trained vocoder")


def _guide_of(checkpoint: Checkpoint, device: str | torch.device) -> WaveformVocoder:
    """The vocoder that guides a WaveRNN: of the fingerprint that it names, beside it or among those that ship."""
    wanted = str(checkpoint.extra.get("guide"))
    path = with_fingerprint("vocoder", [checkpoint.path.parent, DEFAULT_MODELS], wanted)
    if path is None:
        raise CloningError(
            f"{checkpoint.path}: reads vocoder {shown(wanted)}, which lies neither beside it nor in {DEFAULT_MODELS}: "
            "put its file there"
        )
    if read_header(path)["config"].get("architecture") == "wavernn":
        raise CloningError(f"{checkpoint.path}: reads {path}, a WaveRNN, which cannot guide another: train it again")
    vocoder = Vocoder.load(path, device)
    assert isinstance(vocoder, WaveformVocoder)
    return vocoder


def _config_of(checkpoint: Checkpoint) -> VocoderConfig:
    """Raises CloningError where this version cannot build the network."""
    if checkpoint.published:
        return _published_config(checkpoint)
    try:
        return from_dict(VocoderConfig, checkpoint.config)
    except CloningError as error:
        raise CloningError(f"{checkpoint.path}: {error}: train it again") from error


def _published_config(checkpoint: Checkpoint) -> VocoderConfig:
    """Sizes from the tensors; the mel is the published synthesizer's."""
    sizes, n_mels = published_config(checkpoint.state)
    if n_mels != SYNTHESIZER_MEL.n_mels:
        raise CloningError(f"{checkpoint.path}: reads {n_mels} mel channels, published models {SYNTHESIZER_MEL.n_mels}")
    try:
        return VocoderConfig(architecture="wavernn", wavernn=sizes)
    except ValueError as error:
        raise CloningError(f"{checkpoint.path}: {error}") from error
