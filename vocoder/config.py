"""Settings of the vocoders: what rebuilds a model, and what a training run adds to it.

A preset in `configs/vocoder/` is a `RunConfig`; a checkpoint carries its `VocoderConfig`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from utils.audio.mel import SYNTHESIZER_MEL, MelConfig
from utils.config import check_ranges
from utils.training.task import TrainingConfig


@dataclass(frozen=True)
class VocosConfig:
    """Frame-rate vocoder (Vocos, arXiv 2306.00814): ConvNeXt blocks, then an inverse STFT at the mel's hop."""

    dim: int = 256
    hidden: int = 768  # of the two pointwise layers of a block
    blocks: int = 8
    kernel: int = 7  # frames, odd
    n_fft: int = 800  # samples of a synthesis window, at least two hops

    def __post_init__(self) -> None:
        check_ranges(
            self, dim=(1, 8192), hidden=(1, 65_536), blocks=(1, 128), kernel=(1, 255), n_fft=(2, 16_384)
        )  # fmt: skip
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} must be odd")
        if self.n_fft % 2:
            raise ValueError(f"n_fft {self.n_fft} must be even")


@dataclass(frozen=True)
class SourceFilterConfig(VocosConfig):
    """The same network as the filter of a source, pulses and noise, which it makes from the pitch that it finds."""

    RENAMED: ClassVar[dict[str, str]] = {"mel_base": "mel_envelope", "free": "residual_spectrum"}

    pitch_dim: int = 128  # of the blocks that find the pitch; twice that in their inner layers
    pitch_blocks: int = 2
    lowest_hz: float = 60.0
    octaves: float = 3.5
    bins_per_octave: int = 48
    mel_envelope: bool = False  # gains are relative to the envelope that the mel shows
    residual_spectrum: bool = False  # a third spectrum beside those of pulses and noise
    subframes: int = 1  # spectra to a frame of the mel, where its hop is too long for one

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(
            self, pitch_dim=(1, 8192), pitch_blocks=(1, 128), lowest_hz=(10, 1000), octaves=(0.1, 10),
            bins_per_octave=(1, 1000), subframes=(1, 64),
        )  # fmt: skip
        if round(self.octaves * self.bins_per_octave) < 1:
            raise ValueError(f"octaves {self.octaves:g} of {self.bins_per_octave} bins are less than one bin")


@dataclass(frozen=True)
class WaveRNNConfig:
    """Sample-rate recurrent vocoder (arXiv 1802.08435 in the published SV2TTS arrangement)."""

    rnn_size: int = 512
    fc_size: int = 512
    bits: int = 9
    pad: int = 2  # mel frames of context on each side of the mel resnet
    upsample: tuple[int, ...] = (5, 5, 8)  # multiply to the hop
    compute_size: int = 128
    res_out_size: int = 128  # split into four parts, one a layer
    res_blocks: int = 10
    mode: Literal["raw", "mol"] = "raw"  # labels by softmax, or a mixture of ten logistics, as in some published files
    preemphasis: float = 0.97  # of the modelled waveform
    mel_scale: float = 0.25  # the network sees mel * mel_scale: [-4, 4] -> [-1, 1]
    guide_taps: int = 0  # samples of another vocoder's waveform that it reads, around the one to predict; 0: no guide
    temperature: float = 1.0  # of the draws: logits are divided by it

    def __post_init__(self) -> None:
        check_ranges(
            self, rnn_size=(1, 8192), fc_size=(1, 8192), bits=(2, 15), pad=(1, 64), upsample=(1, 1024),
            compute_size=(1, 8192), res_out_size=(4, 8192), res_blocks=(0, 128), preemphasis=(0, 1),
            mel_scale=(1e-6, 1e3), guide_taps=(0, 256),
            temperature=(0.05, 10),
        )  # fmt: skip
        if self.res_out_size % 4:
            raise ValueError(f"res_out_size {self.res_out_size} must be a multiple of 4")
        if not 0 <= self.preemphasis < 1:
            raise ValueError(f"preemphasis {self.preemphasis} must lie in [0, 1)")
        if self.guide_taps % 4:
            raise ValueError(f"guide_taps {self.guide_taps} must be a multiple of 4")
        if self.guide_taps and self.mode != "raw":
            raise ValueError(f"guide_taps are for mode 'raw', not {self.mode!r}")

    @property
    def outputs(self) -> int:
        """Numbers that the last layer gives a sample."""
        return 2**self.bits if self.mode == "raw" else 30


@dataclass(frozen=True)
class HifiGanConfig:
    """HiFi-GAN's generator (arXiv 2010.05646, table 4); the defaults are V1 at a hop of 200."""

    REMOVED: ClassVar[dict[str, tuple[int, ...]]] = {
        "source": (False,), "source_blocks": (0,), "source_dim": (96,), "source_phase": (False,),
    }  # fmt: skip

    channels: int = 512
    upsample_rates: tuple[int, ...] = (5, 5, 4, 2)
    upsample_kernels: tuple[int, ...] = (11, 11, 8, 4)
    resblock_kernels: tuple[int, ...] = (3, 7, 11)
    resblock_dilations: tuple[int, ...] = (1, 3, 5)
    guided: bool = False  # it hears the waveform that a source-filter inside it makes of the mel, and adds to it

    def __post_init__(self) -> None:
        check_ranges(
            self, channels=(1, 16_384), upsample_rates=(1, 1024), upsample_kernels=(1, 2048), resblock_kernels=(1, 255),
            resblock_dilations=(1, 1024),
        )  # fmt: skip
        if len(self.upsample_rates) != len(self.upsample_kernels):
            raise ValueError(
                f"upsample_rates {self.upsample_rates} and upsample_kernels {self.upsample_kernels} must pair up"
            )
        for rate, kernel in zip(self.upsample_rates, self.upsample_kernels, strict=True):
            if kernel < rate or (kernel - rate) % 2:
                raise ValueError(f"upsample kernel {kernel} must be its rate {rate} plus an even number")
        if self.channels % 2 ** len(self.upsample_rates):
            raise ValueError(f"channels {self.channels} must halve {len(self.upsample_rates)} times")
        if any(kernel % 2 == 0 for kernel in self.resblock_kernels):
            raise ValueError(f"resblock_kernels {self.resblock_kernels} must be odd")


@dataclass(frozen=True)
class VocoderConfig:
    """Everything that rebuilds a model: which network, its sizes, the mel it reads."""

    architecture: Literal["vocos", "source_filter", "wavernn", "hifigan"] = "vocos"
    mel: MelConfig = SYNTHESIZER_MEL
    vocos: VocosConfig = VocosConfig()
    source_filter: SourceFilterConfig = SourceFilterConfig()
    wavernn: WaveRNNConfig = WaveRNNConfig()
    hifigan: HifiGanConfig = HifiGanConfig()

    @property
    def sourced(self) -> bool:
        """Whether the network gets pulses and noise, and finds their pitch."""
        return self.architecture == "source_filter" or (self.architecture == "hifigan" and self.hifigan.guided)

    def __post_init__(self) -> None:
        hop, parts = self.mel.hop_length, self.source_filter.subframes
        if self.sourced and hop % parts:
            raise ValueError(f"source_filter.subframes {parts} must divide the mel's hop {hop}")
        for name, sizes, step in (
            ("vocos", self.vocos, hop), ("source_filter", self.source_filter, hop // parts),
        ):  # fmt: skip
            used = self.sourced if name == "source_filter" else self.architecture == name
            if used and sizes.n_fft < 2 * step:
                raise ValueError(f"{name}.n_fft {sizes.n_fft} must be at least two hops ({2 * step})")
        if self.source_filter.mel_envelope and self.mel.scale != "db":
            raise ValueError(f"source_filter.mel_envelope needs a mel in dB, not {self.mel.scale!r}")
        rates = {"wavernn": self.wavernn.upsample, "hifigan": self.hifigan.upsample_rates}.get(self.architecture)
        if rates and math.prod(rates) != hop:
            made = math.prod(rates)
            raise ValueError(f"upsampling by {list(rates)} makes {made} samples a frame, but the mel's hop is {hop}")


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The discriminators of the adversarial phase; none before `start`."""

    start: int | None = None  # step at which they join; none: never
    multi_period: bool = True  # arXiv 2010.05646, 2.3
    multi_scale: bool = False  # the same
    multi_resolution: bool = True  # arXiv 2106.07889, 2.2
    channels: int = 16  # a multiple of 4
    growth: int = 2  # of the channels from layer to layer of a multi-period discriminator
    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    scales: int = 3
    resolutions: tuple[int, ...] = (512, 1024, 2048)  # window lengths in samples
    objective: Literal["hinge", "least_squares"] = "hinge"

    def __post_init__(self) -> None:
        check_ranges(
            self, start=(0, 10**9), channels=(4, 4096), growth=(1, 16), periods=(1, 1000), scales=(1, 16),
            resolutions=(16, 16_384),
        )  # fmt: skip
        if self.channels % 4:
            raise ValueError(f"channels {self.channels} must be a multiple of 4")
        if self.start is not None and not (self.multi_period or self.multi_scale or self.multi_resolution):
            raise ValueError("no discriminator is switched on: set multi_period, multi_scale or multi_resolution")


@dataclass(frozen=True)
class PruningConfig:
    """Gradual pruning of a WaveRNN's recurrent part; `sparsity` 0: none."""

    sparsity: float = 0.0  # part of the blocks that is zero in the end
    start: int = 0  # step before the first pruning
    stop: int = 1000  # step of the last one
    every: int = 20  # steps between
    block: int = 16  # rows that go together, in one column

    def __post_init__(self) -> None:
        check_ranges(self, sparsity=(0, 1), start=(0, 10**9), stop=(0, 10**9), every=(1, 10**9), block=(1, 8192))
        if self.sparsity == 1:
            raise ValueError(f"sparsity {self.sparsity:g} must lie in [0, 1)")
        if self.start >= self.stop:
            raise ValueError(f"start {self.start} must lie before stop {self.stop}")

    def due(self, step: int) -> bool:
        """Whether blocks go at this step."""
        return self.start < step <= self.stop and ((step - self.start) % self.every == 0 or step == self.stop)

    def reached(self, position: float) -> int:
        """The last step up to `position` at which blocks go; `start` before the first."""
        if position >= self.stop:
            return self.stop
        return self.start + int(max(0.0, position - self.start) // self.every) * self.every

    def sparsity_at(self, step: int) -> float:
        """The cubic from 0 at `start` to `sparsity` at `stop` (arXiv 1710.01878, eq. 1)."""
        left = 1 - min(max((step - self.start) / (self.stop - self.start), 0.0), 1.0)
        return self.sparsity * (1 - left**3)


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms; one of 0 switches its term off."""

    REMOVED: ClassVar[dict[str, tuple[float, ...]]] = {"phase": (0.0,)}

    stft: float = 1.0
    mel: float = 5.0
    pitch: float = 1.0  # of the frames' pitch, for a model that finds it
    adversarial: float = 1.0
    feature_matching: float = 2.0
    resolutions: tuple[int, ...] = (256, 512, 1024, 2048)  # window lengths in samples, hop a quarter
    stft_preemphasis: float = 0.9  # applied before the STFT term, so that treble counts
    within_band: bool = False  # losses and discriminators hear nothing above the band that the set says a clip has

    def __post_init__(self) -> None:
        check_ranges(
            self, stft=(0, 1e6), mel=(0, 1e6), pitch=(0, 1e6), adversarial=(0, 1e6),
            feature_matching=(0, 1e6), resolutions=(16, 16_384), stft_preemphasis=(0, 1),
        )  # fmt: skip


@dataclass(frozen=True)
class DataConfig:
    """What one step sees."""

    batch_size: int = 16  # crops
    crop_frames: int = 64  # 0.8 s at a hop of 12.5 ms
    min_bandwidth: float = 0.0  # Hz; utterances of narrower speech, such as low-passed MP3s, are left out
    min_gain_db: float = 0.0  # crops are played at a random level between this and 0 dB
    narrow_hz: float = 0.0  # half of the crops, by chance, show in their mel what lies below this alone; 0: none do
    teacher_forced: bool = False  # mels that a synthesizer predicted, where the set holds them
    guide: str = ""  # vocoder that a WaveRNN with guide_taps reads, and that becomes part of a guided HiFi-GAN: a file
    # or a name; none: the one that ships
    validation_items: int = 16
    validation_seconds: float = 3.0

    def __post_init__(self) -> None:
        check_ranges(
            self, batch_size=(1, 100_000), crop_frames=(1, 100_000), min_gain_db=(-100, 0),  # above 0, crops would clip
            min_bandwidth=(0, 192_000), narrow_hz=(0, 192_000), validation_items=(1, 100_000),
            validation_seconds=(0.01, 600),
        )  # fmt: skip


@dataclass(frozen=True)
class RunConfig:
    """A preset: the model, what it is trained on and against, and how."""

    model: VocoderConfig = VocoderConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    pruning: PruningConfig = PruningConfig()
    training: TrainingConfig = TrainingConfig()

    def __post_init__(self) -> None:
        sizes, block = self.model.wavernn, self.pruning.block
        recurrent = self.model.architecture == "wavernn"
        if recurrent and self.data.crop_frames < 2 * sizes.pad:
            frames = self.data.crop_frames
            raise ValueError(f"data.crop_frames {frames} must be at least {2 * sizes.pad} for this WaveRNN")
        mel, least = self.model.mel, 2 * sizes.pad + 1 if recurrent else 2  # frames
        if int(self.data.validation_seconds * mel.sample_rate) < least * mel.hop_length:
            raise ValueError(
                f"data.validation_seconds is {self.data.validation_seconds:g}; this model needs {least} frames, "
                f"{least * mel.frame_seconds:g} s"
            )
        if recurrent and (self.loss.within_band or self.data.narrow_hz):
            raise ValueError("loss.within_band and data.narrow_hz are not for architecture 'wavernn'")
        if self.data.teacher_forced and self.data.narrow_hz:
            raise ValueError("data.narrow_hz is for mels of recordings: set it or data.teacher_forced, not both")
        if self.pruning.sparsity and not recurrent:
            raise ValueError(f"pruning is for architecture 'wavernn', not {self.model.architecture!r}")
        if self.pruning.sparsity and any(n % block for n in (sizes.rnn_size, sizes.fc_size, sizes.outputs)):
            raise ValueError(
                f"pruning.block {block} must divide rnn_size {sizes.rnn_size}, fc_size {sizes.fc_size} and the "
                f"{sizes.outputs} outputs"
            )
