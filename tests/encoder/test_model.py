"""Laws of both encoder networks: padding changes nothing, length 1, published tensors fit."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from encoder.config import EncoderConfig, LossConfig, LstmConfig, RunConfig, TransformerConfig
from encoder.model import build_network, load_network
from utils.audio.mel import MelConfig
from utils.config import from_dict, load_config, to_dict
from utils.errors import CloningError
from utils.weights.checkpoint import Header, load_weights, save_weights

SMALL_TRANSFORMER = TransformerConfig(width=24, blocks=2, heads=3, feedforward=20, pooled=16, block_kernel=3)
ODD_MEL = MelConfig(n_mels=20)
CONFIGS = {
    "lstm": EncoderConfig("lstm", 16, lstm=LstmConfig(12, 2)),
    "lstm, log": EncoderConfig("lstm", 16, lstm=LstmConfig(12, 2, "log")),
    "lstm, 20 channels": EncoderConfig("lstm", 10, ODD_MEL, lstm=LstmConfig(12, 1)),
    "attentive": EncoderConfig("transformer", 16, transformer=SMALL_TRANSFORMER),
    "mean, 20 channels": EncoderConfig(
        "transformer",
        10,
        ODD_MEL,
        transformer=dataclasses.replace(SMALL_TRANSFORMER, pooling="mean", block_kernel=0, normalize="channel"),
    ),
}


def make(name: str) -> tuple[torch.nn.Module, EncoderConfig]:
    torch.manual_seed(0)
    return build_network(CONFIGS[name]).eval(), CONFIGS[name]


@pytest.fixture(params=CONFIGS)
def network(request):
    return make(request.param)


def test_padding_changes_nothing(network):
    model, config = network
    mel = torch.rand(3, config.mel.n_mels, 61)
    lengths = torch.tensor([61, 30, 7])
    together = model(mel, lengths)
    for row, length in enumerate(lengths):
        torch.testing.assert_close(together[row], model(mel[row : row + 1, :, :length])[0], atol=1e-5, rtol=0)
    mel[1, :, 30:] = 1e3
    torch.testing.assert_close(model(mel, lengths)[1], together[1], atol=1e-5, rtol=0)


def test_embeddings_have_length_one_and_depend_on_the_voice(network):
    model, config = network
    embeddings = model(torch.rand(4, config.mel.n_mels, 50))
    assert embeddings.shape == (4, config.embedding_size)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(4), atol=1e-3, rtol=0)
    assert (embeddings[0] - embeddings[1]).abs().max() > 1e-5


def test_gradient_reaches_every_parameter(network):
    model, config = network
    model.train()
    embeddings = model(torch.rand(6, config.mel.n_mels, 50))
    ((embeddings * torch.randn_like(embeddings)).sum() + model.similarity_weight + model.similarity_bias).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []


def test_training_and_inference_attention_agree():
    model, _ = make("attentive")
    mel, lengths = torch.rand(2, 40, 50), torch.tensor([50, 33])
    torch.testing.assert_close(model.train()(mel, lengths), model.eval()(mel, lengths), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["attentive", "lstm, log"])
def test_level_does_not_matter_on_a_log_scale(name):
    model, _ = make(name)
    mel = torch.rand(1, 40, 50) + 0.1
    torch.testing.assert_close(model(mel), model(mel * 7), atol=1e-5, rtol=0)


def test_level_matters_where_it_is_not_taken_away():
    mel = torch.rand(1, 40, 50) + 0.1
    model = make("lstm")[0]
    assert (model(mel) - model(mel * 7)).abs().max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["lstm", "attentive"])
def test_one_batch_can_be_learned_by_heart(architecture):
    model, config = make(architecture)
    model.train()
    if architecture == "lstm":
        model.linear.bias.data.fill_(0.3)  # of 16 ReLUs half would sleep from the start
    mel = torch.rand(6, config.mel.n_mels, 30) * torch.rand(6, config.mel.n_mels, 1) * 3
    target = torch.nn.functional.normalize(torch.rand(6, config.embedding_size) ** 2, dim=1)
    constant = 1 - target.mean(dim=0).norm()  # the best that a network blind to its input can do
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(200):
        loss = 1 - (model(mel) * target).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1 * constant


@pytest.mark.parametrize("file", ["encoder_tiny.pt", "encoder_tiny_legacy.pt"])
def test_published_checkpoint_gives_the_recorded_embeddings(data_dir, file):
    model, config = load_network(load_weights(data_dir / file, "encoder"))
    recorded = np.load(data_dir / "ge2e.npz")
    assert (config.lstm, config.embedding_size) == (LstmConfig(24, 3), 16)
    mel = torch.from_numpy(recorded["tiny/x"]).transpose(1, 2)
    np.testing.assert_allclose(model(mel).detach(), recorded["tiny/embeds"], atol=1e-5)


def test_names_and_shapes_are_the_published_ones(data_dir):
    tensors = json.loads((data_dir / "state_dicts.json").read_text(encoding="utf-8"))["encoder"]["model_state"]
    ours = {name: list(value.shape) for name, value in build_network(EncoderConfig()).state_dict().items()}
    assert {name: shape for name, shape, _ in tensors} == ours


def test_checkpoint_rebuilds_the_network(tmp_path, network):
    model, config = network
    model.register_parameter("prototypes", torch.nn.Parameter(torch.rand(5, config.embedding_size)))
    path = tmp_path / "e.safetensors"
    save_weights(path, Header("encoder", to_dict(config), mel=to_dict(config.mel), step=1), model.state_dict())
    again, found = load_network(load_weights(path))
    assert found == config
    mel = torch.rand(2, config.mel.n_mels, 40)
    assert torch.equal(again(mel), model(mel))


def test_checkpoint_that_does_not_fit_is_refused(tmp_path, data_dir):
    model, config = make("lstm")
    path = tmp_path / "e.safetensors"
    wrong = dataclasses.replace(config, embedding_size=7)
    save_weights(path, Header("encoder", to_dict(wrong), step=1), model.state_dict())
    with pytest.raises(CloningError, match=r"linear\.bias is \[16\] in the file, \[7\]"):
        load_network(load_weights(path))


@pytest.mark.parametrize("preset", ["small", "gpu", "lstm", "published", "debug"])
def test_presets_can_be_read(preset):
    settings = load_config(RunConfig, "encoder", preset)
    build_network(settings.model)
    assert from_dict(RunConfig, to_dict(settings)) == settings


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("model.transformer.width=33", "width 33"),
        ("model.transformer.stem_kernel=4", "must be odd"),
        ("model.transformer.dropout=1.0", "dropout"),
        ("model.partials.overlap=1.0", "overlap"),
        ("model.architecture=gru", "gru"),
        ("data.min_seconds=5", "min_seconds"),
        ("data.utterances=1", "at least 2"),
        ("data.speakers=1", "speakers is 1; it must be 2 to"),
        ("loss.ge2e_weight=0", "no loss left"),
        ("loss.aam_weight=-1", "it must be 0 to"),
        ("loss.speaker_share=2", "speaker_share"),
        ("loss.margin=2", "unknown settings"),
    ],
)
def test_nonsense_settings_are_refused(assignment, message):
    with pytest.raises(CloningError, match=message):
        load_config(RunConfig, "encoder", None, [assignment])


def test_a_loss_weight_alone_is_enough():
    assert LossConfig(distill_weight=0, ge2e_weight=0, aam_weight=1).aam_weight == 1
