"""The non-attentive Tacotron and Transformer: their steps are those of the training; they begin with what there is."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

import synthesizer_train
from synthesizer.config import (
    EmotionConfig,
    LossConfig,
    ParallelConfig,
    RunConfig,
    SynthesizerConfig,
    TacotronConfig,
    TransformerConfig,
)
from synthesizer.data.dataset import DataConfig, SynthesisData
from synthesizer.models.autoregressive import previous_frames
from synthesizer.models.base import ModelInput, Recording
from synthesizer.models.build import NETWORKS
from synthesizer.models.layers import HashedDropout
from synthesizer.models.non_attentive import NonAttentive
from synthesizer.models.tacotron import native
from synthesizer.models.tacotron.native import NativePlannedDecoder
from synthesizer.models.transformer_layers import SPAN
from synthesizer.train import build_task
from synthesizer.training.losses import local_mean, parallel_losses
from tests.support.emotion_set import make_emotional_set
from tests.support.synthesizer_set import MEL, SPEAKER_SIZE, VOICE
from utils.config import from_dict, to_dict
from utils.data.corpora import EMOTIONS
from utils.data.manifest import read_manifest
from utils.errors import CloningError
from utils.training.sampling import rng
from utils.training.warm_start import begin_from
from utils.weights.checkpoint import Header, save_weights

SYMBOLS, MELS = 95, 20
TACOTRON = {"decoder": 18, "lstm": 38, "prenet": 20, "max_reduction": 2, "encoder": 12, "embedding": 14, "highways": 1}
TRANSFORMER = {"width": 16, "heads": 2, "encoder_layers": 2, "decoder_layers": 2, "feedforward": 24, "prenet": 12}
EMOTION = EmotionConfig(labels=EMOTIONS, channels=12)
MODELS = ["non_attentive_tacotron", "non_attentive_transformer"]
LONG = 2 * SPAN + 31  # frames


def shape(
    architecture: str, own_frames: float = 0.0, prenet_dropout: float = 0.5, emotion: EmotionConfig = EMOTION
) -> SynthesizerConfig:
    return SynthesizerConfig(
        architecture, SPEAKER_SIZE, parallel=ParallelConfig(**VOICE), emotion=emotion,
        tacotron=TacotronConfig(**TACOTRON, norm="layer", own_frames=own_frames, dropout=prenet_dropout),
        transformer=TransformerConfig(
            **TRANSFORMER, reduction=2, dropout=0.0, own_frames=own_frames, prenet_dropout=prenet_dropout
        ),
    )  # fmt: skip


def network(architecture: str, **changes) -> NonAttentive:
    torch.manual_seed(0)
    model = NETWORKS[architecture](shape(architecture, **changes), SYMBOLS, MELS)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)  # what begins as zero counts too
        model.mel_mean.fill_(-1.5)
        model.mel_std.fill_(2.0)
    return model


@pytest.fixture(scope="module", params=MODELS)
def model(request) -> NonAttentive:
    return network(request.param).eval()


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


def hidden_frames(frames: int = 16, items: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden frames, voices and their mask."""
    draw = torch.Generator().manual_seed(3)
    hidden, vector = torch.randn(items, frames, 24, generator=draw), torch.randn(items, 24, generator=draw)
    return hidden, vector, torch.ones(items, frames, 1, dtype=torch.bool)


def spoken(model: NonAttentive, given: ModelInput, durations: torch.Tensor) -> list[torch.Tensor]:
    """Mels (M, f) with durations (B, N)."""
    with torch.inference_mode():
        conditioning = model.condition(given.speaker)
        encoding = model.encode(given.tokens, given.token_lengths, conditioning)
        mels, lengths = model.mels(encoding, durations, encoding.prosody, conditioning, given.seeds)
    return [mel[:, :n] for mel, n in zip(mels, lengths.tolist(), strict=True)]


def padded(batch: dict, tokens: int = 3, frames: int = 5) -> dict:
    """A batch of windows with more padding."""
    pad = torch.nn.functional.pad
    longer = batch | {name: pad(batch[name], (0, tokens)) for name in ("tokens", "durations", "marks", "silent")}
    longer["prosody"], longer["noise"] = (
        pad(batch["prosody"], (0, 0, 0, tokens)),
        pad(batch["noise"], (0, 0, 0, frames)),
    )
    longer["mel"] = pad(batch["mel"], (0, frames), value=-4.0)
    return longer


@pytest.mark.parametrize("frames", [20, LONG])
@torch.inference_mode()
def test_step_by_step_is_all_at_once_over_its_own_frames(model, frames):
    """Over more frames than a cache keeps, and with a last step that is not whole."""
    given = hidden_frames(frames)
    made = model.smooth_mel(*given)
    torch.testing.assert_close(model.smooth_mel(*given, made), made, atol=1e-4, rtol=1e-4)
    other = model.smooth_mel(*given, made + 1)
    assert made.shape == (2, frames, MELS) and not torch.allclose(other, made, atol=0.01)


@torch.inference_mode()
def test_a_step_of_the_smooth_mel_knows_the_voice(model):
    hidden, vector, mask = hidden_frames()
    made, other = model.smooth_mel(hidden, vector, mask), model.smooth_mel(hidden, vector + 1, mask)
    assert not torch.allclose(made, other, atol=1e-3)


@pytest.mark.parametrize("items", [1, 2, 5])
@torch.inference_mode()
def test_native_code_makes_what_torch_makes(items):
    if native.library() is None:
        pytest.skip("no C compiler")
    decoder = network("non_attentive_tacotron").steps
    seen = torch.randn(items, 30, 24, generator=torch.Generator().manual_seed(4))
    in_torch = decoder.free_run(seen)
    natively = NativePlannedDecoder(decoder, native.library()).free_run(seen)
    assert in_torch.abs().max() > 0.3
    torch.testing.assert_close(natively, in_torch, atol=2e-3, rtol=1e-3)


@torch.inference_mode()
def test_a_copy_of_a_network_with_a_native_decoder_speaks_too():
    """As a voice with weights of its own needs it."""
    if native.library() is None:
        pytest.skip("no C compiler")
    model, given = network("non_attentive_tacotron").eval(), hidden_frames()
    in_torch = model.smooth_mel(*given)
    model.use_native_decoder()
    assert model.native_free_run is not None
    for speaking in (model, copy.deepcopy(model)):
        torch.testing.assert_close(speaking.smooth_mel(*given), in_torch, atol=5e-3, rtol=1e-2)


def test_a_batch_gives_what_its_items_give_alone(model):
    durations = torch.tensor([[1, 2, 0, 4, 1, 3, 2, 3], [2, 1, 1, 3, 1, 0, 0, 0]])
    together = spoken(model, inputs(), durations)
    for row, size in enumerate((8, 5)):
        rows = slice(row, row + 1)
        (alone,) = spoken(model, inputs(rows, size), durations[rows, :size])
        torch.testing.assert_close(together[row], alone, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_no_token_is_passed_over_however_short(model):
    given = inputs(slice(1))
    conditioning = model.condition(given.speaker)
    encoding = model.encode(given.tokens, given.token_lengths, conditioning)
    index, mask = torch.arange(8)[None], torch.ones(1, 8, 1, dtype=torch.bool)  # a frame for each token
    made = []
    for token in (None, *range(8)):  # as it is, and with each changed
        hidden = encoding.hidden.clone()
        if token is not None:
            hidden[0, token] += 1
        frames = model.frames(hidden, encoding.prosody, index, torch.zeros(1, 8, 3), conditioning, mask)
        made.append(model.smooth_mel(frames, conditioning.vector, mask))
    assert all(not torch.allclose(made[0], other, atol=1e-4) for other in made[1:])


def test_teacher_forcing_follows_the_recording(model):
    given = inputs(slice(1))
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


@pytest.mark.parametrize("architecture", MODELS)
@pytest.mark.parametrize(("own_frames", "passes"), [(0.0, 1), (1.0, 2), (0.25, 2)])
@torch.inference_mode()
def test_in_training_so_many_items_hear_frames_that_the_network_has_made(architecture, own_frames, passes, monkeypatch):
    """As `own_frames` says; each of these hears what all at once is made of the recording."""
    items = 64
    model = network(architecture, own_frames=own_frames, prenet_dropout=0.0).train()
    given, recorded = (
        hidden_frames(items=items),
        torch.randn(items, 16, MELS, generator=torch.Generator().manual_seed(5)),
    )
    at_once, heard, made = model.steps_at_once, [], []

    def noted(seen, frames, dropout):
        heard.append(frames)
        made.append(at_once(seen, frames, dropout))
        return made[-1]

    monkeypatch.setattr(model, "steps_at_once", noted)
    model.smooth_mel(*given, recorded, HashedDropout(torch.arange(items)))
    real = previous_frames(model.denormalized(recorded).transpose(1, 2), 2)
    torch.testing.assert_close(heard[0], real)
    own = previous_frames(made[0].transpose(1, 2), 2)
    of_own, of_real = ((heard[-1] == frames).all(dim=2).all(dim=1) for frames in (own, real))
    assert len(heard) == passes and (of_own ^ of_real).all()
    assert abs(float(of_own.float().mean()) - own_frames) < 0.15
    heard.clear()
    model.smooth_mel(*given, recorded)  # teacher forcing that is no training
    torch.testing.assert_close(heard, [real])


@pytest.mark.parametrize("architecture", MODELS)
@torch.inference_mode()
def test_both_layers_of_the_prenet_drop_in_training_alone(architecture):
    model = network(architecture).train()
    given, recorded = hidden_frames(), torch.randn(2, 16, MELS, generator=torch.Generator().manual_seed(5))
    seeds, drops = torch.tensor([1, 2]), []

    class Noted(HashedDropout):
        def __call__(self, x, probability, lengths=None):
            drops.append((tuple(x.shape), probability))
            return super().__call__(x, probability, lengths)

    plain = model.smooth_mel(*given, recorded)
    dropped = model.smooth_mel(*given, recorded, Noted(seeds))
    width = {"non_attentive_tacotron": 20, "non_attentive_transformer": 12}[architecture]
    assert drops == [((2, 8, width), 0.5)] * 2
    assert not torch.allclose(dropped, plain, atol=1e-3)
    other = model.smooth_mel(*given, recorded, HashedDropout(seeds + 5))
    assert not torch.allclose(dropped, other, atol=1e-3)


@pytest.mark.parametrize("architecture", MODELS)
def test_padding_of_a_training_batch_changes_no_loss(architecture, data):
    model = network(architecture).eval()
    batch = data.windows(data.choose(1), None, 24)
    longer = padded(batch)
    for training in (False, True):
        with torch.inference_mode():
            found = [parallel_losses(model.train(training)(b), b, LossConfig(), local_mean) for b in (batch, longer)]
        for name, value in found[0].items():
            if not training or name != "emotion_class":
                torch.testing.assert_close(value, found[1][name], msg=name, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("architecture", MODELS)
@pytest.mark.parametrize("own_frames", [0.0, 1.0])
def test_gradient_reaches_every_parameter_and_a_batch_is_learned(architecture, data, own_frames):
    model = network(architecture, own_frames=own_frames, prenet_dropout=0.0).train()
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


def saved(folder: Path, architecture: str, emotion: EmotionConfig = EMOTION) -> dict[str, torch.Tensor]:
    """What is written to `folder` as the weights of a network with other values than any that is trained."""
    torch.manual_seed(5)
    state = NETWORKS[architecture](shape(architecture, emotion=emotion), SYMBOLS, MELS).state_dict()
    state = {name: value + 0.1 if value.is_floating_point() else value for name, value in state.items()}
    header = Header("synthesizer", to_dict(shape(architecture, emotion=emotion)), mel=MEL)
    save_weights(folder / f"{architecture}.safetensors", header, state)
    return state


def settings(folder: Path, architecture: str) -> RunConfig:
    return RunConfig(
        shape(architecture), DataConfig(batch_size=4, min_frames=1),
        LossConfig(text=float(architecture == "non_attentive_transformer")),
        flow_from=str(folder / "parallel.safetensors"),
    )  # fmt: skip


# What a network takes of the one with attention, by the names of their parts; of a Tacotron's decoder its attention and
# what reads from it do not fit
TAKEN = {
    "non_attentive_tacotron": {
        "decoder.prenet.": "steps.prenet.", "decoder.attn_rnn.weight_hh": "steps.attn_rnn.weight_hh",
        "decoder.res_rnn1.": "steps.res_rnn1.", "decoder.res_rnn2.": "steps.res_rnn2.",
        "decoder.mel_proj.": "steps.mel_proj.",
    },
    "non_attentive_transformer": {
        name: name.replace("decoder", "steps").replace("steps_norm", "step_norm")
        for name in ("embedding.", "encoder.", "encoder_norm.", "prenet.", "hear.", "decoder_norm.", "mel.")
    } | {f"decoder.{layer}.{part}.": f"steps.{layer}.{part}." for layer in (0, 1)
         for part in ("self_norm", "own", "last_norm", "up", "down")},
}  # fmt: skip


@pytest.mark.parametrize("architecture", MODELS)
def test_it_begins_with_a_parallel_model_and_with_the_layers_of_the_one_with_attention(architecture, root, tmp_path):
    other = architecture.removeprefix("non_attentive_")
    parallel = saved(tmp_path, "parallel")
    attentive = saved(tmp_path, other, EMOTION if other == "transformer" else EmotionConfig())
    task = build_task(read_manifest(root), settings(tmp_path, architecture))
    begin_from(tmp_path / f"{other}.safetensors", task, task.modules["synthesizer"])
    found = task.modules["synthesizer"].state_dict()
    taken = {here + name.removeprefix(there): value for name, value in attentive.items()
             for there, here in TAKEN[architecture].items() if name.startswith(there)}  # fmt: skip
    for there in TAKEN[architecture]:
        assert any(name.startswith(there) for name in attentive), there
    own = ("mean", "embedding", "encoder") if other == "transformer" else ("mean",)
    rest = {name: value for name, value in parallel.items() if name.partition(".")[0] not in own}
    for name, value in (rest | taken).items():
        assert torch.equal(found[name], value), name


def test_a_transformer_learns_the_text_from_the_parallel_model_whatever_the_padding(root, tmp_path):
    saved(tmp_path, "parallel")
    task = build_task(read_manifest(root), settings(tmp_path, "non_attentive_transformer"))
    model, batch = task.modules["synthesizer"].eval(), task.batch(1)
    text = task.losses(task.modules, batch, "synthesizer", 1)["text"]
    text.backward()
    assert text > 0 and model.text_output.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in task.teacher.parameters())
    longer = padded(batch)
    torch.testing.assert_close(task.losses(task.modules, longer, "synthesizer", 1)["text"], text)
    with torch.no_grad():  # of the same voices: where both read the same, nothing is left
        vector, mask = model(batch).vector, (torch.arange(batch["tokens"].shape[1]) < batch["token_lengths"][:, None])
        wanted = task.teacher.read_text(batch["tokens"], vector, mask[..., None])
        assert float(task.taught(model(batch)._replace(text=wanted), batch)["text"]) == 0


def test_a_text_loss_needs_weights_to_learn_from(root, tmp_path, capsys):
    command = [str(root), "--out", str(tmp_path / "out"), "--config", "debug", "--device", "cpu", "--steps", "1"]
    told = {
        "parallel": "only a non-attentive transformer",
        "non_attentive_tacotron": "only a non-attentive transformer",
        "non_attentive_transformer": "give flow_from=WEIGHTS",
    }
    for architecture, wanted in told.items():
        given = [f"model.architecture={architecture}", f"model.speaker_size={SPEAKER_SIZE}", "loss.text=1"]
        assert synthesizer_train.main([*command, "--set", *given]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and wanted in lines[0]


def test_what_is_no_longer_read_is_said_in_a_line():
    config = to_dict(shape("non_attentive_tacotron"))
    config["tacotron"]["durations"] = 64  # of what predicted durations: its weights were of another network
    with pytest.raises(CloningError, match="of an earlier state") as error:
        from_dict(SynthesizerConfig, config)
    assert "\n" not in str(error.value)
    assert from_dict(SynthesizerConfig, {**config, "architecture": "non_attentive_transformer"}).transformer.width == 16
