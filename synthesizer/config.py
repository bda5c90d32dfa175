"""Settings of the synthesizer: what a preset in `configs/synthesizer/` may change.

`SynthesizerConfig` describes the network and goes into the checkpoint; `RunConfig` adds data and training settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from synthesizer.conversion import ConversionConfig
from utils.config import check_ranges, check_rising, from_dict
from utils.errors import CloningError
from utils.training.task import TrainingConfig


@dataclass(frozen=True)
class TacotronConfig:
    """Sizes of the published network; smaller ones are presets. Sizes are channels unless said otherwise."""

    REMOVED: ClassVar[dict[str, tuple[int, ...]]] = {"durations": (64,)}  # see SynthesizerConfig.upgraded

    embedding: int = 512
    encoder: int = 256
    decoder: int = 128  # attention GRU, and the space in which query and memory are compared
    lstm: int = 1024
    postnet: int = 512
    encoder_banks: int = 5  # widest convolution of the bank
    postnet_banks: int = 5
    highways: int = 4
    prenet: int = 256  # of the decoder
    max_reduction: int = 20  # mel frames that one decoder step can make at most; a non-attentive one makes so many
    dropout: float = 0.5  # of the prenets, always on
    zoneout: float = 0.1
    attention_filters: int = 32
    attention_kernel: int = 31
    # "masked": padding gets no attention and changes nothing. "published": energies of padding are multiplied by 0
    # before the softmax and convolutions and GRUs run over it, as in the published checkpoints.
    padding: Literal["masked", "published"] = "masked"
    norm: Literal["batch", "layer"] = "batch"  # layer: the same whatever else is in the batch, or in other processes
    own_frames: float = 0.0  # part of the items that a non-attentive one learns from frames which it has made itself

    def __post_init__(self) -> None:
        check_ranges(
            self, embedding=(1, 8192), encoder=(2, 8192), decoder=(1, 8192), lstm=(1, 16_384), postnet=(2, 8192),
            encoder_banks=(1, 64), postnet_banks=(1, 64), highways=(0, 64), prenet=(1, 8192), max_reduction=(1, 100),
            dropout=(0, 1), zoneout=(0, 1), attention_filters=(1, 1024), attention_kernel=(1, 511),
            own_frames=(0, 1),
        )  # fmt: skip
        if self.encoder % 2 or self.postnet % 2:
            raise ValueError(f"encoder {self.encoder} and postnet {self.postnet} must be even (two directions)")
        if not 0 <= self.dropout < 1 or not 0 <= self.zoneout < 1:
            raise ValueError(f"dropout {self.dropout} and zoneout {self.zoneout} must be in [0, 1)")
        if self.attention_kernel % 2 == 0:
            raise ValueError(f"attention_kernel {self.attention_kernel} must be odd")


@dataclass(frozen=True)
class FlowConfig:
    """A flow-matching network that draws a mel around a smooth one."""

    blocks: int = 0  # 0: there is none
    channels: int = 256
    kernel: int = 7  # frames
    expansion: int = 4
    sigma_min: float = 1e-4

    def __post_init__(self) -> None:
        check_ranges(self, blocks=(0, 128), channels=(1, 8192), kernel=(1, 255), expansion=(1, 32), sigma_min=(0, 1))
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} must be odd")


@dataclass(frozen=True)
class SamplingConfig:
    """How a flow draws at inference."""

    steps: int = 4  # of Euler: 8 measured no better
    temperature: float = 0.5  # of the noise: 1 as in training, lower is calmer
    guidance: float = 0.0  # classifier-free guidance scale (arXiv 2207.12598) of a parallel one; 0 disables it

    def __post_init__(self) -> None:
        check_ranges(self, steps=(1, 1000), temperature=(0, 100), guidance=(0, 100))


WITH_POSTNET = ("tacotron", "transformer")  # architectures whose flow stands in its place
# Where those settings were before they had a group of their own
_FORMER_SAMPLING = {
    "parallel": {"flow_steps": "steps", "temperature": "temperature", "guidance": "guidance"},
    "flow": {"steps": "steps", "temperature": "temperature"},
}


@dataclass(frozen=True)
class ParallelConfig:
    """A parallel synthesizer: all frames at once, from predicted durations, pitch and energy."""

    RENAMED: ClassVar[dict[str, str]] = {"voice": "voice_statistics"}

    channels: int = 256
    encoder_blocks: int = 4
    decoder_blocks: int = 4
    flow_blocks: int = 6
    flow_channels: int = 256
    kernel: int = 7  # tokens or frames
    expansion: int = 4
    dropout: float = 0.1
    predictor_dropout: float = 0.0  # of what durations and prosody are predicted from; the frames see all of it
    clauses: bool = False  # the predictor gets the mark that ends each clause, so that questions rise
    speaker_dropout: float = 0.0  # part of the items that are learned without a voice, for classifier-free guidance
    decoder: Literal["flow", "l1"] = "flow"  # l1: the mean mel, over-smooth but quick
    sigma_min: float = 1e-4
    voice_statistics: bool = False  # pitch and durations are relative to the voice's own pitch and pace (utils.voice)
    prompt_tokens: int = 0  # learned tokens over frames of the reference; 0: only its embedding is used
    prompt_width: int = 64  # numbers of a token
    prompt_dropout: float = 0.2  # part of the items that are learned without frames of a reference

    @property
    def flow(self) -> FlowConfig:
        """The sizes of its flow."""
        sizes = (self.flow_blocks, self.flow_channels, self.kernel, self.expansion)
        return FlowConfig(*sizes, self.sigma_min)

    def __post_init__(self) -> None:
        check_ranges(
            self, channels=(1, 8192), encoder_blocks=(0, 128), decoder_blocks=(0, 128), flow_blocks=(0, 128),
            flow_channels=(1, 8192), prompt_tokens=(0, 4096), prompt_width=(1, 8192),
            prompt_dropout=(0, 1), dropout=(0, 1), predictor_dropout=(0, 1), speaker_dropout=(0, 1),
        )  # fmt: skip
        _ = self.flow  # which refuses sizes that make no sense
        rates = (self.dropout, self.predictor_dropout, self.speaker_dropout, self.prompt_dropout)
        if not all(0 <= p < 1 for p in rates):
            names = "dropout, predictor_dropout, speaker_dropout and prompt_dropout"
            raise ValueError(f"{names} are {', '.join(map(str, rates))}; each must be in [0, 1)")


@dataclass(frozen=True)
class TransformerConfig:
    """An autoregressive Transformer. Sizes are channels unless said otherwise."""

    RENAMED: ClassVar[dict[str, str]] = {"reach": "max_attention_step"}

    width: int = 384
    heads: int = 8
    encoder_layers: int = 6
    decoder_layers: int = 6
    feedforward: int = 1536
    prenet: int = 256
    postnet: int = 256
    reduction: int = 3  # mel frames that one decoder step makes
    guided_heads: int = 2  # of each decoder layer, which learn where in the text the voice is
    dropout: float = 0.1
    prenet_dropout: float = 0.5  # always on, as in Tacotron 2: the last frame must not be copied
    max_attention_step: int = 4  # tokens forward that the attention may move in one step
    own_frames: float = 0.0  # part of the items that a non-attentive one learns from frames which it has made itself

    def __post_init__(self) -> None:
        check_ranges(
            self, width=(2, 8192), heads=(1, 256), encoder_layers=(1, 128), decoder_layers=(1, 128),
            feedforward=(1, 65_536), prenet=(1, 8192), postnet=(1, 8192), reduction=(1, 100), guided_heads=(1, 256),
            dropout=(0, 1), prenet_dropout=(0, 1), max_attention_step=(1, 1000), own_frames=(0, 1),
        )  # fmt: skip
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of twice the heads {self.heads}")
        if self.guided_heads > self.heads:
            raise ValueError(f"guided_heads is {self.guided_heads}; it must be 1 to heads, {self.heads}")
        if not 0 <= self.dropout < 1 or not 0 <= self.prenet_dropout < 1:
            raise ValueError(f"dropout {self.dropout} and prenet_dropout {self.prenet_dropout} must be in [0, 1)")


@dataclass(frozen=True)
class EmotionConfig:
    """The emotions of a network; without labels it has no emotion conditioning."""

    REMOVED: ClassVar[dict[str, tuple[bool, ...]]] = {"adapt": (False, True)}  # of training: see RunConfig.upgraded

    labels: tuple[str, ...] = ()
    size: int = 128  # of the embedding
    channels: int = 64  # of the network that finds it in a clip
    blocks: int = 3

    def __post_init__(self) -> None:
        check_ranges(self, size=(1, 8192), channels=(1, 8192), blocks=(1, 64))
        if len(self.labels) > 64 or len(set(self.labels)) < len(self.labels):
            raise ValueError(f"labels must be at most 64 different names, got {len(self.labels)}")


@dataclass(frozen=True)
class SynthesizerConfig:
    """What a checkpoint says of its network."""

    RENAMED: ClassVar[dict[str, str]] = {"model": "architecture"}

    @staticmethod
    def upgraded(data: Mapping[str, Any]) -> Mapping[str, Any]:
        """`data` with the settings of sampling in their group; older ones have them among the sizes of the network.

        Raises CloningError for a non-attentive Tacotron of before, which was another network by the same name.
        """
        if data.get("architecture") == "non_attentive_tacotron" and "durations" in (data.get("tacotron") or {}):
            raise CloningError("a non-attentive Tacotron of an earlier state is no longer read: train it anew")
        own = "flow" if data.get("architecture", data.get("model", "tacotron")) in WITH_POSTNET else "parallel"
        former: dict[str, Any] = {}
        for group, names in _FORMER_SAMPLING.items():
            if isinstance(found := data.get(group), Mapping) and names.keys() & found.keys():
                former |= {new: found[old] for old, new in names.items() if old in found and group == own}
                data = {**data, group: {name: value for name, value in found.items() if name not in names}}
        sampling = data.get("sampling", {})
        return {**data, "sampling": {**sampling, **former}} if former and isinstance(sampling, Mapping) else data

    # non_attentive_*: a parallel one whose smooth mel another makes (and whose text it reads, the transformer)
    architecture: Literal[
        "tacotron", "non_attentive_tacotron", "parallel", "transformer", "non_attentive_transformer"
    ] = "tacotron"
    speaker_size: int = 256  # numbers in a speaker embedding
    tacotron: TacotronConfig = field(default_factory=TacotronConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    emotion: EmotionConfig = field(default_factory=EmotionConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)  # in place of the postnet of tacotron or transformer
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    conversion: ConversionConfig = field(default_factory=ConversionConfig)  # of its mels to those of another front end

    def __post_init__(self) -> None:
        check_ranges(self, speaker_size=(1, 8192))
        sizes, guidance = self.parallel, self.sampling.guidance
        if guidance and (self.architecture in WITH_POSTNET or not sizes.speaker_dropout or sizes.decoder != "flow"):
            raise ValueError(
                f'sampling.guidance {guidance:g} needs the parallel architecture, decoder "flow" and training with '
                "speaker_dropout"
            )
        if self.architecture == "tacotron" and self.emotion.labels:
            raise ValueError("tacotron has no emotion conditioning: architecture must be another, or emotion.labels []")


@dataclass(frozen=True)
class DataConfig:
    """Which utterances, in batches of what."""

    RENAMED: ClassVar[dict[str, str]] = {
        "emotional": "emotional_repeats", "marks_withheld": "punctuation_dropout", "questions": "question_weight",
        "channel_db": "random_eq_db", "voices": "untranscribed_set",
    }  # fmt: skip

    batch_size: int = 16  # over all processes
    window: int = 240  # frames of each utterance that the parallel model decodes in a step
    crop: int = 0  # Tacotron: learn stretches of whole words of at most so many frames (needs durations); 0: all of it
    max_frames: int = 900  # longer utterances are left out
    min_frames: int = 40
    # mixed: the utterance's own or the speaker's mean, by chance. other: another utterance's or the mean, so that it
    # carries nothing of this one's emotion
    embedding: Literal["utterance", "speaker", "mixed", "other"] = "mixed"
    emotional_repeats: int = 1  # how often an utterance with an emotion other than neutral comes in a round
    punctuation_dropout: float = 0.3  # part of the items without punctuation, so that it stands for no voice
    hold_out: int = 2  # utterances of each training speaker with at least ten, for validation beside unseen speakers
    embedding_noise: float = 0.2  # norm of the noise on an embedding of norm 1, so that unseen voices fit
    bucket: int = 16  # batches that are sorted by length together
    balance: float = 0.0  # 0: each utterance once a round; 1: each speaker as often; between: in between
    question_weight: float = 1.0  # how often a question comes, against other utterances
    prompt_frames: tuple[int, int] = (160, 400)  # of another utterance of the speaker, shortest and longest
    random_eq_db: float = 0.0  # of a random microphone's curve, the same for window and prompt, so that it is copied
    replay: str = ""  # a set of other speakers: every other batch is of it, so that a fine-tuned network keeps them
    untranscribed_set: str = ""  # voices without texts, to be spoken with where the training sharpens (LossConfig)
    resident_gb: float = 4.0  # a set whose arrays take less is kept on the device whole

    def __post_init__(self) -> None:
        check_ranges(
            self, batch_size=(1, 100_000), window=(1, 100_000), crop=(0, 100_000), max_frames=(1, 10**6),
            min_frames=(0, 10**6), emotional_repeats=(1, 1000), punctuation_dropout=(0, 1), hold_out=(0, 10**6),
            embedding_noise=(0, 100), bucket=(1, 100_000), balance=(0, 1), question_weight=(0, 1000),
            prompt_frames=(1, 100_000), random_eq_db=(0, 20), resident_gb=(0, 10**6),
        )  # fmt: skip
        check_rising(self, "prompt_frames")


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses."""

    RENAMED: ClassVar[dict[str, str]] = {
        "listener": "frame_classifier", "said": "phone_classification", "features": "feature_matching",
        "voice": "voice_statistics",
    }  # fmt: skip

    duration: float = 1.0
    prosody: float = 0.5
    mean: float = 1.0  # L1 of the parallel model's mean mel
    flow: float = 1.0
    stop: float = 1.0
    stop_positive: float = 5.0  # weight of the few frames at the end against all others
    attention: float = 1.0  # at the first step
    attention_floor: float = 0.1  # of its weight that stays
    attention_steps: int = 20_000  # until only the floor is left
    emotion: float = 0.3  # of the network that finds an emotion in a clip
    frame_classifier: float = 0.5  # of the frame classifier, which finds phones and pace in a mel
    voice_statistics: float = 1.0  # of a voice's pitch and pace as predicted from its embedding
    text: float = 0.0  # of what a non-attentive transformer reads in a text against what the weights of flow_from do
    adversarial: float = 0.0  # sharpening, in mels drawn as at inference (all 0: none): by discriminators
    feature_matching: float = 2.0  # by their inner features, times `adversarial`
    speaker: float = 0.0  # by a speaker encoder on what a vocoder makes of the mel
    camplus: float = 0.0  # the same by CAM++ (`encoder.camplus`), against the prompt
    speaker_encoder: str = ""  # its weights; the default ones if empty
    speaker_vocoder: str = ""
    phone_classification: float = 0.0  # by the frame classifier, against the phones of the text
    sharpen_from: float = 0.5  # share of the training before which nothing is drawn
    guide_width: float = 0.3  # of the diagonal, where no durations are known (arXiv 1710.08969, sec. 4.1)

    def __post_init__(self) -> None:
        weight = (0, 1e6)
        check_ranges(
            self, duration=weight, prosody=weight, mean=weight, flow=weight, stop=weight, stop_positive=weight,
            attention=weight, attention_floor=(0, 1), attention_steps=(0, 10**9), emotion=weight,
            frame_classifier=weight, voice_statistics=weight, text=weight, adversarial=weight, feature_matching=weight,
            speaker=weight, camplus=weight, phone_classification=weight, sharpen_from=(0, 1), guide_width=(0.001, 10),
        )  # fmt: skip

    @property
    def sharpens(self) -> bool:
        """Whether drawn mels are judged."""
        return max(self.adversarial, self.speaker, self.camplus, self.phone_classification) > 0


CONDITIONING_ONLY = "conditioning_only"  # as training.frozen
CONVOLUTIONS = ("depthwise", "up", "down")  # of a block, beside what conditions it


def conditioning_only(network: ParallelConfig) -> list[str]:
    """What training.frozen="conditioning_only" freezes, so that training only changes how a network is conditioned."""
    stacks = ["encoder", "decoder", *(["flow.stack"] if network.decoder == "flow" else [])]
    parts = ["embedding", *(f"{stack}.blocks.*.{part}" for stack in stacks for part in CONVOLUTIONS)]
    parts += ["facts_predictor", "frame_classifier"] if network.voice_statistics else []
    return parts + (["prompt", "text_prompt", "frame_prompt", "prompt_voice"] if network.prompt_tokens else [])


@dataclass(frozen=True)
class RunConfig:
    """A preset of `synthesizer_train.py`."""

    RENAMED: ClassVar[dict[str, str]] = {"led_steps": "forced_alignment_steps"}

    @staticmethod
    def upgraded(data: Mapping[str, Any]) -> Mapping[str, Any]:
        """`data` with training.frozen="conditioning_only" spelled out; older runs say model.emotion.adapt for it.

        Raises CloningError for another network than the parallel one.
        """
        model, training = (data.get(name) or {} for name in ("model", "training"))
        if not isinstance(model, Mapping) or not isinstance(training, Mapping):
            return data
        emotion, frozen = model.get("emotion"), training.get("frozen", ())
        former = emotion if isinstance(emotion, Mapping) and emotion.get("adapt") else None
        if frozen != CONDITIONING_ONLY and former is None:
            return data
        if former is None and model.get("architecture", model.get("model")) != "parallel":
            raise CloningError(f'training.frozen {CONDITIONING_ONLY!r} is for model.architecture "parallel"')
        parts = conditioning_only(from_dict(ParallelConfig, model.get("parallel", {})))
        if former is not None:
            emotion = {name: value for name, value in former.items() if name != "adapt"}
            model, parts = {**model, "emotion": emotion}, [*(() if frozen == CONDITIONING_ONLY else frozen), *parts]
        return {**data, "model": model, "training": {**training, "frozen": parts}}

    model: SynthesizerConfig = field(default_factory=SynthesizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    # (reduction factor, until this step); the last one stays. Tacotron only.
    reduction: tuple[tuple[int, int], ...] = ((2, 1_000_000),)
    # What picks the best weights: the losses on held-out utterances, or how much what the parallel model draws is like
    # the voice (our encoder) and understood (the frame classifier), with durations and pitch.
    score: Literal["losses", "speech"] = "losses"
    # weights of a parallel model whose flow a new one begins as; a non-attentive network takes all that fits
    flow_from: str = ""
    conversion_of: str = ""  # weights of the synthesizer whose mels model.conversion learns to convert
    # until which Tacotron's attention is given by the durations, in sets that have them
    forced_alignment_steps: int = 0

    @property
    def scores_speech(self) -> bool:
        """Whether validation draws mels and measures them, which a training that sharpens does too."""
        return self.score == "speech" or self.loss.sharpens

    def reduction_at(self, step: float) -> int:
        """Mel frames that one decoder step makes at training step `step`."""
        return next((r for r, until in self.reduction if step <= until), self.reduction[-1][0])

    def __post_init__(self) -> None:
        parallel = self.model.architecture not in WITH_POSTNET
        if self.flow_from and (self.model.architecture == "parallel" or not (parallel or self.model.flow.blocks)):
            raise ValueError(
                f"flow_from is {self.flow_from!r}, but only a tacotron or transformer with model.flow.blocks takes one"
            )
        if self.loss.text and self.model.architecture != "non_attentive_transformer":
            raise ValueError(f"loss.text is {self.loss.text:g}, but only a non-attentive transformer learns by it")
        if not parallel and (self.score == "speech" or self.data.replay):
            raise ValueError('score "speech" and data.replay are for the parallel architecture')
        check_ranges(self, forced_alignment_steps=(0, 10**9))
        highest = self.model.tacotron.max_reduction
        if not self.reduction or any(not 1 <= r <= highest for r, _ in self.reduction):
            raise ValueError(f"reduction needs factors between 1 and max_reduction {highest}, got {self.reduction}")
