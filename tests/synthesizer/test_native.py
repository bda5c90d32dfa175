"""Tacotron's native decoder: it computes what torch does, and torch does it where there is no compiler."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from synthesizer.config import SynthesizerConfig, TacotronConfig
from synthesizer.inference import Synthesizer
from synthesizer.models.decoding import DecoderOutput
from synthesizer.models.layers import ItemDropout
from synthesizer.models.tacotron import native as kernel
from synthesizer.models.tacotron.native import NativeDecoder
from synthesizer.models.tacotron.network import Tacotron
from synthesizer.speech import SpeechOptions
from synthesizer.text.processor import TextProcessor
from utils.native import build

# no size is a multiple of 16
ODD = {"encoder": 12, "decoder": 18, "lstm": 38, "prenet": 20, "attention_filters": 5, "attention_kernel": 7}
EVEN = {"encoder": 28, "decoder": 32, "lstm": 128, "prenet": 16}
CAPABILITIES = {"AVX2": 1, "AVX512": 2}  # torch's names for what processors can do
# the least of them, compiler flags that leave out everything better
VARIANTS = {
    "plain C": (0, ("-DPLAIN", "-O1")),
    "AVX2": (1, ("-march=x86-64-v3", "-O1")),
    "AVX-512": (2, ("-march=x86-64-v4", "-O1")),
}
STEPS = 60


@pytest.fixture(scope="module", autouse=True)
def compiler():
    if kernel.library() is None:
        pytest.skip("no C compiler")


def tacotron(**sizes) -> Tacotron:
    torch.manual_seed(2)
    defaults = {
        "embedding": 8,
        "postnet": 16,
        "encoder_banks": 2,
        "postnet_banks": 2,
        "highways": 1,
        "max_reduction": 6,
    }
    config = SynthesizerConfig("tacotron", speaker_size=4, tacotron=TacotronConfig(**defaults | sizes))
    model = Tacotron(config, 9, 21).eval().requires_grad_(False)
    for parameter in model.decoder.parameters():
        parameter += 0.1 * torch.randn_like(parameter)  # biases count too
    model.decoder.attn_net.v.weight *= 4  # attention is no mean
    model.set_reduction(3)
    return model


class Steps:
    """Stops after some."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.told: list[tuple[Tensor, Tensor]] = []

    def __call__(self, stop: Tensor, attention: Tensor) -> bool:
        self.told.append((stop.clone(), attention.clone()))
        self.left -= 1
        return self.left == 0


@torch.inference_mode()
def both(model: Tacotron, items: int = 1, max_forward: int = 0, tuning=None) -> tuple[DecoderOutput, DecoderOutput]:
    """What torch and the native decoder make of the same memory, seeds and number of steps."""
    lengths = torch.tensor([11, 4, 7, 9, 11, 5, 3][:items])
    tokens = torch.randint(1, 9, (items, 11), generator=torch.Generator().manual_seed(1))
    memory = model.encode_text(tokens, lengths, torch.rand(items, 4), ItemDropout([8] * items))
    native = NativeDecoder(model.decoder, model.reduction, kernel.library(tuning))
    found = []
    for run in (model.free_run, native.free_run):
        stopper = Steps(STEPS)
        output = run(memory, ItemDropout(range(items)), stopper, STEPS + 5, max_forward)
        torch.testing.assert_close(torch.stack([s for s, _ in stopper.told], 1), output.stop)
        torch.testing.assert_close(torch.stack([a for _, a in stopper.told], 1), output.attention)
        found.append(output)
    return found[0], found[1]


def close(torch_does: DecoderOutput, native: DecoderOutput) -> None:
    assert torch_does.mel.abs().max() > 1 and torch_does.attention.max() > 0.3
    for name, wanted in torch_does._asdict().items():
        torch.testing.assert_close(
            getattr(native, name), wanted, atol=2e-3, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("items", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("sizes", [ODD, EVEN], ids=["odd sizes", "even sizes"])
@pytest.mark.parametrize("padding", ["masked", "published"])
def test_it_generates_what_torch_generates(items, sizes, padding):
    close(*both(tacotron(**sizes, padding=padding), items))


@pytest.mark.parametrize("padding", ["masked", "published"])
def test_attention_moves_forward_by_so_many_tokens_at_most(padding):
    torch_does, native = both(tacotron(**ODD, padding=padding), 3, max_forward=2)
    close(torch_does, native)
    assert (native.attention.argmax(dim=2).diff(dim=1) >= 0).all()


def test_padding_gets_no_attention_at_all():
    _, native = both(tacotron(**ODD), 2)
    assert native.attention[1, :, 4:].eq(0).all() and native.attention[1, :, :4].gt(0).all()


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_generates_the_same(name):
    least, tuning = VARIANTS[name]
    if CAPABILITIES.get(torch.backends.cpu.get_cpu_capability(), 0) < least:
        pytest.skip(f"this processor has no {name}")
    close(*both(tacotron(**ODD), 3, tuning=tuning))


def test_dropout_is_that_of_every_single_step():
    model = tacotron(**ODD)
    native = NativeDecoder(model.decoder, 3, kernel.library())
    blocks, single = native._masks(ItemDropout([5, 6]), 2), ItemDropout([5, 6])
    ones = torch.ones(2, ODD["prenet"])
    for _ in range(2 * kernel.DRAWN + 1):
        layers = torch.stack([single(ones, model.config.dropout), single(ones, model.config.dropout)], dim=1)
        torch.testing.assert_close(next(blocks), layers, atol=0, rtol=0)


@torch.inference_mode()
def spoken(synthesizer: Synthesizer) -> tuple[Tensor, bool]:
    mel = synthesizer.synthesize(["A bell."], torch.ones(4).numpy(), SpeechOptions(seed=3))[0].mel
    return torch.from_numpy(mel), synthesizer.network.native_free_run is not None


def make() -> Synthesizer:
    torch.manual_seed(0)
    text = TextProcessor("characters")
    config = tacotron(**ODD, padding="masked").config
    whole = SynthesizerConfig("tacotron", speaker_size=4, tacotron=config)
    return Synthesizer(Tacotron(whole, len(text), 80), whole, text)


def test_a_synthesizer_uses_it_and_does_without_where_there_is_no_compiler(monkeypatch, caplog):
    natively, used = spoken(make())
    assert used
    monkeypatch.setattr(build, "COMPILERS", ("no-such-compiler",))
    kernel.library.cache_clear()
    build.library.cache_clear()
    with caplog.at_level(logging.WARNING):
        in_torch, used = spoken(make())
    kernel.library.cache_clear()
    assert not used and "in torch" in caplog.text
    torch.testing.assert_close(natively, in_torch, atol=1e-3, rtol=0)
