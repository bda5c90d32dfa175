"""The non-attentive Transformer: its steps are those of the training, and it begins with what there is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from synthesizer.config import (
    EmotionConfig,
    LossConfig,
    ParallelConfig,
    RunConfig,
    SynthesizerConfig,
    TransformerConfig,
)
from synthesizer.data.dataset import DataConfig, SynthesisData
from synthesizer.models.base import ModelInput, Recording
from synthesizer.models.non_attentive_transformer import NonAttentiveTransformer
from synthesizer.models.parallel import Parallel
from synthesizer.models.transformer import Transformer
from synthesizer.models.transformer_layers import SPAN
from synthesizer.train import build_task
from synthesizer.training.losses import local_mean, parallel_losses
from tests.support.emotion_set import make_emotional_set
from tests.support.synthesizer_set import MEL, SPEAKER_SIZE, VOICE
from utils.config import to_dict
from utils.data.corpora import EMOTIONS
from utils.data.manifest import read_manifest
from utils.training.sampling import rng
from utils.training.warm_start import begin_from
from utils.weights.checkpoint import Header, save_weights

SYMBOLS, MELS = 95, 20
SIZES = {"width": 16, "heads": 2, "encoder_layers": 2, "decoder_layers": 2, "feedforward": 24, "prenet": 12}
EMOTION = EmotionConfig(labels=EMOTIONS, channels=12)


def shape(architecture: str = "non_attentive_transformer", **changes) -> SynthesizerConfig:
    sizes = TransformerConfig(**{**SIZES, **changes})
    return SynthesizerConfig(
        architecture, SPEAKER_SIZE, parallel=ParallelConfig(**VOICE), transformer=sizes, emotion=EMOTION
    )


def network(**changes) -> NonAttentiveTransformer:
    torch.manual_seed(0)
    model = NonAttentiveTransformer(shape(**changes), SYMBOLS, MELS)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)  # what begins as zero counts too
        model.mel_mean.fill_(-1.5)
        model.mel_std.fill_(2.0)
    return model


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return make_emotional_set(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def data(root) -> SynthesisData:
    found = SynthesisData(read_manifest(root), DataConfig(batch_size=4, min_frames=1), "train", 1, EMOTIONS)
    found.prompted = True
    return found


def inputs(rows: slice = slice(None), size: int = 8) -> ModelInput:
    tokens = torch.randint(1, SYMBOLS, (2, 8), generator=torch.Generator().manual_seed(1))
    voices = torch.nn.functional.normalize(torch.arange(2.0 * SPEAKER_SIZE).view(2, -1), dim=1)
    lengths, marks = torch.tensor([8, 5]), torch.zeros(2, size, dtype=torch.long)
    return ModelInput(tokens[rows, :size], lengths[rows], marks[rows], voices[rows], [7, 8][rows])


def spoken(model: NonAttentiveTransformer, given: ModelInput, durations: torch.Tensor) -> list[torch.Tensor]:
    """Mels (M, f) with durations (B, N)."""
    with torch.inference_mode():
        conditioning = model.condition(given.speaker)
        encoding = model.encode(given.tokens, given.token_lengths, conditioning)
        mels, lengths = model.mels(encoding, durations, encoding.prosody, conditioning, given.seeds)
    return [mel[:, :n] for mel, n in zip(mels, lengths.tolist(), strict=True)]


@pytest.mark.parametrize("frames", [20, 2 * SPAN + 31])
@torch.inference_mode()
def test_step_by_step_is_all_at_once_over_its_own_frames(frames):
    """With a cache that forgets what is out of reach, and a last step that is not whole."""
    model = network(reduction=2).eval()
    hidden, vector, mask = torch.randn(2, frames, 24), torch.randn(2, 24), torch.ones(2, frames, 1, dtype=torch.bool)
    made = model.smooth_mel(hidden, vector, mask)
    torch.testing.assert_close(model.smooth_mel(hidden, vector, mask, made), made, atol=1e-4, rtol=1e-4)
    other = model.smooth_mel(hidden, vector, mask, made + 1)
    assert made.shape == (2, frames, MELS) and not torch.allclose(other, made, atol=0.01)


def test_a_batch_gives_what_its_items_give_alone():
    model = network().eval()
    durations = torch.tensor([[1, 2, 0, 4, 1, 3, 2, 3], [2, 1, 1, 3, 1, 0, 0, 0]])
    together = spoken(model, inputs(), durations)
    for row, size in enumerate((8, 5)):
        rows = slice(row, row + 1)
        (alone,) = spoken(model, inputs(rows, size), durations[rows, :size])
        torch.testing.assert_close(together[row], alone, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_no_token_is_passed_over_however_short():
    model, given = network().eval(), inputs(slice(1))
    conditioning = model.condition(given.speaker)
    encoding = model.encode(given.tokens, given.token_lengths, conditioning)
    index = torch.arange(8)[None]  # a frame for each token
    mask = torch.ones(1, 8, 1, dtype=torch.bool)
    smooth = [model.smooth_mel(hidden, conditioning.vector, mask) for hidden in frames_of(model, encoding, index, mask)]
    assert all(not torch.allclose(smooth[0], other, atol=1e-4) for other in smooth[1:])


def frames_of(model, encoding, index, mask):
    """Hidden frames of a text, and of the same with one token changed, for each."""
    conditioning = model.condition(inputs(slice(1)).speaker)
    for token in (None, *range(8)):
        hidden = encoding.hidden.clone()
        if token is not None:
            hidden[0, token] += 1
        yield model.frames(hidden, encoding.prosody, index, torch.zeros(1, 8, 3), conditioning, mask)


def test_teacher_forcing_follows_the_recording():
    model, given = network().eval(), inputs(slice(1))
    recorded = torch.randn(1, MELS, 16, generator=torch.Generator().manual_seed(2))
    prosody, durations = torch.zeros(1, 8, 3), torch.tensor([[1, 2, 0, 4, 1, 3, 2, 3]])
    with torch.inference_mode():
        made, other, later = (
            model.teacher_forced(given, Recording(mel, times, prosody), -4.0)
            for mel, times in (
                (recorded, durations),
                (recorded, durations.flip(1)),
                (torch.cat([recorded[:, :, :8], recorded[:, :, 8:] + 1], 2), durations),
            )
        )
    assert made.shape == recorded.shape
    assert not torch.allclose(made, other, atol=1e-3) and not torch.allclose(made, later, atol=1e-3)


def test_padding_of_a_training_batch_changes_no_loss(data):
    model = network().eval()
    batch = data.windows(data.choose(1), None, 24)
    pad = torch.nn.functional.pad
    longer = batch | {name: pad(batch[name], (0, 3)) for name in ("tokens", "durations", "marks", "silent")}
    longer["prosody"], longer["noise"] = pad(batch["prosody"], (0, 0, 0, 3)), pad(batch["noise"], (0, 0, 0, 5))
    longer["mel"] = pad(batch["mel"], (0, 5), value=-4.0)
    for training in (False, True):
        with torch.inference_mode():
            found = [parallel_losses(model.train(training)(b), b, LossConfig(), local_mean) for b in (batch, longer)]
        for name, value in found[0].items():
            if not training or name != "emotion_class":
                torch.testing.assert_close(value, found[1][name], msg=name, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("own_frames", [0.0, 1.0])
def test_gradient_reaches_every_parameter_and_a_batch_is_learned(data, own_frames):
    model = network(own_frames=own_frames, dropout=0.0, prenet_dropout=0.0).train()
    batch = data.windows(data.choose(1), rng(1), 24)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    values = []
    for step in range(60):
        losses = parallel_losses(model(batch), batch, LossConfig(), local_mean)
        values.append({name: float(value.detach()) for name, value in losses.items()})
        optimizer.zero_grad()
        sum(losses.values()).backward()
        if not step:
            idle = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
            assert {n.partition(".")[0] for n in idle} <= {"facts_predictor"}  # the set has no pitch
        optimizer.step()
    assert values[-1]["mean"] < 0.5 * values[0]["mean"] and values[-1]["duration"] < 0.2 * values[0]["duration"]


def test_it_begins_with_a_parallel_model_and_with_the_layers_of_a_transformer(root, tmp_path):
    saved = {}
    for kind in (Parallel, Transformer):
        name = kind.__name__.lower()
        torch.manual_seed(5)
        model = kind(shape(name, reduction=3), SYMBOLS, MELS)
        header = Header("synthesizer", to_dict(shape(name)), mel=MEL)
        save_weights(tmp_path / f"{name}.safetensors", header, model.state_dict())
        saved[name] = model.state_dict()
    config = RunConfig(
        shape(), DataConfig(batch_size=4, min_frames=1), LossConfig(text=1.0),
        flow_from=str(tmp_path / "parallel.safetensors"),
    )  # fmt: skip
    task = build_task(read_manifest(root), config)
    begin_from(tmp_path / "transformer.safetensors", task, task.modules["synthesizer"])
    found = task.modules["synthesizer"].state_dict()
    same = {name for name, value in saved["parallel"].items() if name in found and value.shape == found[name].shape}
    assert all(torch.equal(found[name], saved["parallel"][name]) for name in same)
    parts = {name.partition(".")[0] for name in same}
    assert parts == {name.partition(".")[0] for name in saved["parallel"]} - {"embedding", "encoder", "mean"}
    for there, here in (("encoder.1.up", "encoder.1.up"), ("decoder.0.own.query", "steps.0.own.query"), ("mel", "mel")):
        assert torch.equal(found[f"{here}.weight"], saved["transformer"][f"{there}.weight"])
    batch = task.batch(1)
    text = task.losses(task.modules, batch, "synthesizer", 1)["text"]
    text.backward()
    assert text > 0 and task.modules["synthesizer"].text_output.weight.grad.abs().sum() > 0
