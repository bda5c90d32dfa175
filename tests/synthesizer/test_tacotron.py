"""Tacotron: equal to the recorded outputs, and its invariants."""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from synthesizer.config import SynthesizerConfig, TacotronConfig
from synthesizer.models.autoregressive import DecoderOutput
from synthesizer.models.layers import ItemDropout
from synthesizer.models.tacotron.network import Randomness, Tacotron
from synthesizer.models.tacotron.published import published_config, published_state
from utils.weights.checkpoint import load_weights
from utils.weights.networks import load_into


def no_dropout(x: Tensor, probability: float, lengths: Tensor | None = None) -> Tensor:
    return x


class Recorded:
    """Dropout with recorded keep-masks, in order."""

    def __init__(self, *masks: np.ndarray) -> None:
        self.masks = [torch.from_numpy(mask) for mask in masks]

    def __call__(self, x: Tensor, probability: float, lengths: Tensor | None = None) -> Tensor:
        return x * self.masks.pop(0) / (1 - probability)


class AllTogether:
    """How the published inference stops: when all items say so at the same step and more than 10 frames are made."""

    def __init__(self, reduction: int) -> None:
        self.frames, self.reduction = -reduction, reduction

    def __call__(self, stop: Tensor, attention: Tensor) -> bool:
        self.frames += self.reduction
        return bool((stop > 0.5).all()) and self.frames > 10


@pytest.fixture(scope="module")
def golden(data_dir):
    return np.load(data_dir / "tacotron_tiny.npz")


def load(path) -> Tacotron:
    checkpoint = load_weights(path, "synthesizer")
    config, n_symbols, n_mels = published_config(checkpoint.state)
    model = Tacotron(config, n_symbols, n_mels)
    load_into(model, checkpoint, published_state(checkpoint.state))
    return model.eval()


@pytest.fixture(scope="module")
def model(data_dir) -> Tacotron:
    return load(data_dir / "tacotron_tiny.pt")


def inputs(golden) -> dict[str, Tensor]:
    batch = {"tokens": torch.from_numpy(golden["chars"].astype(np.int64)), "mel": torch.from_numpy(golden["mel_in"])}
    batch |= {"token_lengths": torch.from_numpy(golden["lengths"]).long()}
    batch |= {"speaker": torch.from_numpy(golden["speaker"]), "mel_lengths": torch.full((3,), 30)}
    return batch


def close(found: Tensor, wanted: np.ndarray, tolerance: float = 1e-4) -> None:
    np.testing.assert_allclose(found.detach().numpy(), wanted, atol=tolerance, rtol=0)


def double(model: Tacotron, batch: dict[str, Tensor]) -> tuple[Tacotron, dict[str, Tensor]]:
    """In float64: a free run feeds rounding errors back, so in float32 it is the order of additions that is tested."""
    return copy.deepcopy(model).double(), {k: v.double() if v.is_floating_point() else v for k, v in batch.items()}


def run(
    model: Tacotron, batch: dict[str, Tensor], randomness: Randomness, reduction: int, max_steps: int
) -> tuple[DecoderOutput, Tensor]:
    """What it decodes, and the mel after the postnet."""
    model.set_reduction(reduction)
    try:
        with torch.inference_mode():
            memory = model.encode_text(batch["tokens"], batch["token_lengths"], batch["speaker"], randomness.encoder)
            output = model.free_run(memory, randomness.decoder, AllTogether(reduction), max_steps)
            lengths = torch.tensor([output.mel.shape[2]])
            return output, model.post(output.mel, lengths, memory.condition)
    finally:
        model.set_reduction(2)


def test_reduction_is_read_from_the_checkpoint(model):
    assert model.reduction == 2


def test_encoder(model, golden):
    batch = inputs(golden)
    prenet = model.encoder.pre_net(model.encoder.embedding(batch["tokens"]), no_dropout)
    close(prenet, golden["encoder_prenet"])
    memory = model.encode_text(batch["tokens"], batch["token_lengths"], batch["speaker"], no_dropout)
    close(memory.values, golden["encoder_seq"])
    close(model.encoder_proj(memory.values), golden["encoder_seq_proj"])


def test_teacher_forcing(model, golden):
    output = model(inputs(golden), Randomness(no_dropout, no_dropout))
    close(output.mel, golden["forward_eval/mel"])
    close(output.linear, golden["forward_eval/linear"])
    close(output.attention, golden["forward_eval/attention"], 5e-4)
    close(output.stop.sigmoid().repeat_interleave(2, dim=1), golden["forward_eval/stop"])


@pytest.mark.parametrize(("name", "reduction", "frames"), [("r2", 2, 2000), ("r1", 1, 24), ("r5", 5, 40)])
def test_free_running(model, golden, name, reduction, frames):
    exact, batch = double(model, inputs(golden))
    output, linear = run(exact, batch, Randomness(no_dropout, no_dropout), reduction, frames // reduction)
    close(output.mel, golden[f"generate_{name}/mel"])
    close(linear, golden[f"generate_{name}/linear"])
    close(output.attention, golden[f"generate_{name}/attention"], 5e-4)
    close(output.stop, golden[f"generate_{name}/stop"])


def test_free_running_of_one_without_padding(model, golden):
    batch = {name: value[:1] for name, value in inputs(golden).items()}
    batch["tokens"] = batch["tokens"][:, : batch["token_lengths"][0]]
    _, linear = run(model, batch, Randomness(no_dropout, no_dropout), 2, 1000)
    close(linear, golden["generate_one/linear"])


def test_free_running_with_recorded_dropout(model, golden):
    masks = {name: golden[f"generate_masked/{name}"] for name in ("enc_mask1", "enc_mask2", "dec_mask1", "dec_mask2")}
    decoder = [mask for pair in zip(masks["dec_mask1"], masks["dec_mask2"], strict=True) for mask in pair]
    randomness = Randomness(Recorded(masks["enc_mask1"], masks["enc_mask2"]), Recorded(*decoder))
    output, linear = run(model, inputs(golden), randomness, 2, 8)
    close(output.mel, golden["generate_masked/mel"])
    close(linear, golden["generate_masked/linear"])
    close(output.attention, golden["generate_masked/attention"], 5e-4)


def test_a_training_step(data_dir, golden):
    model, batch = double(load(data_dir / "tacotron_tiny.pt").train(), inputs(golden))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    decoder = [golden[f"train/dec_mask{i}"].transpose(1, 0, 2) for i in (1, 2)]
    randomness = Randomness(
        Recorded(golden["train/enc_mask1"], golden["train/enc_mask2"]),
        Recorded(*decoder),
        torch.from_numpy(golden["train/zoneout_masks"]).bool(),
    )
    output = model(batch, randomness)
    stop = output.stop.sigmoid().repeat_interleave(2, dim=1)
    close(output.mel, golden["train/mel"])
    close(output.linear, golden["train/linear"])
    close(output.attention, golden["train/attention"], 5e-4)
    close(stop, golden["train/stop"])
    mel = batch["mel"]
    losses = [
        F.mse_loss(output.mel, mel) + F.l1_loss(output.mel, mel),
        F.mse_loss(output.linear, mel),
        F.binary_cross_entropy(stop, torch.from_numpy(golden["train/stop_target"]).double()),
    ]
    np.testing.assert_allclose([float(x.detach()) for x in losses], golden["train/losses"], rtol=1e-4)
    sum(losses).backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    np.testing.assert_allclose(float(norm), golden["train/grad_norm"], rtol=1e-4)
    for name, parameter in model.named_parameters():
        wanted = golden[f"train/grad_clipped/{name}"]
        close(parameter.grad, wanted, 1e-4 * max(1e-3, np.abs(wanted).max()))
    optimizer.step()
    for key in (k for k in golden.files if k.startswith("train/after_adam/")):
        name = key.removeprefix("train/after_adam/")
        large = np.abs(golden[f"train/grad_clipped/{name}"]) > 1e-6
        close(model.state_dict()[name][torch.from_numpy(large)], golden[key][large])
    for key in (k for k in golden.files if k.startswith("train/buffer/")):
        close(model.state_dict()[key.removeprefix("train/buffer/")], golden[key])


# -- invariants of our own variant -------------------------------------------------------------------------------------

SMALL = TacotronConfig(
    embedding=12, encoder=8, decoder=6, lstm=10, postnet=8, prenet=7, max_reduction=5, attention_kernel=5, highways=1
)


def small(norm: str = "layer", **changes) -> Tacotron:
    torch.manual_seed(0)
    values = {**SMALL.__dict__, "norm": norm, **changes}
    return Tacotron(SynthesizerConfig("tacotron", speaker_size=4, tacotron=TacotronConfig(**values)), 9, 20)


def toy_batch(reduction: int) -> dict[str, Tensor]:
    torch.manual_seed(1)
    frames = 12 * reduction
    return {
        "tokens": torch.randint(1, 9, (2, 7)),
        "token_lengths": torch.tensor([7, 4]),
        "speaker": F.normalize(torch.randn(2, 4)),
        "mel": torch.randn(2, 20, frames),
        "mel_lengths": torch.tensor([frames, frames // 2]),
        "seeds": torch.tensor([3, 4]),
    }


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("reduction", [1, 3])
def test_padding_changes_nothing(norm, reduction):
    model = small(norm).eval()
    model.set_reduction(reduction)
    batch = toy_batch(reduction)
    together = model(batch)
    alone = {name: value[1:] for name, value in batch.items()}
    alone["tokens"], alone["mel"] = alone["tokens"][:, :4], alone["mel"][:, :, : 6 * reduction]
    single = model(alone)
    steps = 6
    torch.testing.assert_close(together.mel[1:, :, : steps * reduction], single.mel)
    torch.testing.assert_close(together.linear[1:, :, : steps * reduction], single.linear)
    torch.testing.assert_close(together.attention[1:, :steps, :4], single.attention)
    assert together.attention[1:, :, 4:].eq(0).all()


def test_batch_statistics_ignore_padding():
    one, two = small("batch").train(), small("batch").train()
    batch = toy_batch(1)
    one(batch)
    longer = dict(batch)
    longer["tokens"] = F.pad(batch["tokens"], (0, 5))
    two(longer)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, two.state_dict()[name], msg=name)


def test_a_batch_is_the_sum_of_its_items_in_training_too():
    model = small("layer").train()
    batch = toy_batch(2)
    model.set_reduction(2)
    both = model(batch).linear
    second = model({name: value[1:] for name, value in batch.items()}).linear
    torch.testing.assert_close(both[1:, :, :12], second[:, :, :12])


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_gradient_reaches_every_parameter(norm):
    model = small(norm, max_reduction=2).train()
    model.set_reduction(2)
    output = model(toy_batch(2))
    (output.mel.square().mean() + output.linear.square().mean() + output.stop.square().mean()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_teacher_forcing_with_its_own_output_is_free_running():
    model = small().eval()
    model.set_reduction(2)
    batch = toy_batch(2)

    class Never:
        def __call__(self, stop: Tensor, attention: Tensor) -> bool:
            return False

    with torch.inference_mode():
        memory = model.encode_text(batch["tokens"], batch["token_lengths"], batch["speaker"], no_dropout)
        free = model.free_run(memory, no_dropout, Never(), 6)
        forced = model(
            batch | {"mel": free.mel, "mel_lengths": torch.tensor([12, 12])}, Randomness(no_dropout, no_dropout)
        )
    torch.testing.assert_close(forced.mel, free.mel)
    torch.testing.assert_close(forced.attention, free.attention)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_a_forced_alignment_is_step_by_step_with_the_given_attention_behind_each_step(norm):
    model = small(norm).eval()
    model.set_reduction(2)
    batch = toy_batch(2)
    batch["targets"] = torch.tensor([[0, 0, 1, 2, 2, 3, 4, 5, 6, 6, 6, -1], [0, 1, 1, 2, 3, 3, -1, -1, -1, -1, -1, -1]])
    forced = model(batch, Randomness(no_dropout, no_dropout), forced_alignment=True)
    decoder = model.decoder
    memory = model.encode_text(batch["tokens"], batch["token_lengths"], batch["speaker"], no_dropout)
    given = F.one_hot(torch.where(batch["targets"] < 0, torch.tensor([[6], [3]]), batch["targets"]), 7).float()
    before = F.pad(batch["mel"][:, :, 1::2], (1, 0)).transpose(1, 2)
    state, outputs, attentions = decoder.start(memory), [], []
    for step in range(12):
        output, attention, state = decoder.step(memory, state, decoder.prenet(before[:, step], no_dropout))
        context = torch.bmm(given[:, step : step + 1], memory.values).squeeze(1)
        state = state._replace(context=context, cumulative=given[:, : step + 1].sum(dim=1))
        outputs.append(output)
        attentions.append(attention)
    frames, stop = decoder.project(torch.stack(outputs, 1), decoder.mel_weight(2))
    torch.testing.assert_close(forced.attention, torch.stack(attentions, 1))
    torch.testing.assert_close(forced.mel, frames.transpose(1, 2).flatten(2))
    torch.testing.assert_close(forced.stop, stop)


def test_item_dropout_depends_on_the_items_seed_alone():
    x, lengths = torch.ones(3, 5, 4), torch.tensor([5, 3, 4])
    together = ItemDropout([1, 2, 3])(x, 0.5, lengths)
    for row, seed in enumerate((1, 2, 3)):
        alone = ItemDropout([seed])(x[row : row + 1, : lengths[row]], 0.5, lengths[row : row + 1])
        torch.testing.assert_close(together[row : row + 1, : lengths[row]], alone)
    for a, b in pairwise(together):
        assert not torch.equal(a, b)


def test_a_reduction_that_the_model_has_not_is_refused():
    with pytest.raises(ValueError, match="must be 1 to 5"):
        small().set_reduction(6)
