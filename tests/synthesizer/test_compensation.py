"""What a network gets wrong of a voice: measured where it says what was recorded, made good near by."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.fft
import torch

from synthesizer.aligned_clip import AlignedClip, clip_without_words, recorded
from synthesizer.inference import Synthesizer
from synthesizer.models.compensation import (
    CEPSTRA,
    MAP_PART,
    MEAN_PRIOR_FRAMES,
    PRIOR_FRAMES,
    WIDTH,
    Compensation,
    cepstral_basis,
)
from synthesizer.speech import SpeechOptions
from synthesizer.voice_description import (
    ABOVE_NOISE,
    COMPENSATED_CLIPS,
    LOUDNESS,
    NO_SPEECH,
    NOISE_FLOOR,
    PROMPT_SECONDS,
    compensation_of,
    first_clips,
)
from tests.conftest import SAMPLES
from tests.support.tiny import TINY_PARALLEL, save_tiny_models
from utils.audio.io import Waveform, read
from utils.errors import CloningError
from utils.voice import Voice

TOLD = dataclasses.replace(TINY_PARALLEL, voice_statistics=True, prompt_tokens=4, prompt_width=8)
M = 80


@pytest.fixture(scope="module")
def synthesizer(tmp_path_factory) -> Synthesizer:
    return Synthesizer.load(save_tiny_models(tmp_path_factory.mktemp("m"), parallel=TOLD) / "synthesizer.safetensors")


@pytest.fixture(scope="module")
def wav() -> Waveform:
    return read(SAMPLES / "austen_0890.wav")


@pytest.fixture(scope="module")
def voice(synthesizer, wav) -> Voice:
    found = synthesizer.describe_voice(Voice(np.eye(256, dtype=np.float32)[0]), [wav])
    return dataclasses.replace(found, compensation=None)


@pytest.fixture(scope="module")
def clip(synthesizer, wav) -> AlignedClip:
    found = clip_without_words(synthesizer.network, synthesizer.text.table, recorded(wav, synthesizer.mel))
    return dataclasses.replace(found, aligned=np.ones_like(found.aligned))  # of an untrained network


@pytest.fixture(scope="module")
def said(synthesizer, voice, clip) -> np.ndarray:
    """What the network makes of the clip, (F, M)."""
    network, inputs = synthesizer.network, synthesizer.voice_input(voice)
    with torch.no_grad():
        who = network.condition(inputs.speaker, inputs.emotion, inputs.voice_statistics, inputs.prompt)
        return network.denormalized(network.spoken_again(*clip.tensors(torch.device("cpu")), who)[1])[0].numpy()


def measured(synthesizer, voice, *clips: AlignedClip) -> Compensation | None:
    with torch.no_grad():
        return compensation_of(synthesizer.network, synthesizer.voice_input(voice), clips)


def some(count: int = 3) -> Compensation:
    numbers = torch.Generator().manual_seed(1)
    centers, differences = torch.randn(2, count, M, generator=numbers)
    return Compensation.without_map(centers, differences, torch.tensor([400.0, 20.0, 5.0])[:count])


def with_peaks(clip: AlignedClip, mel: np.ndarray) -> AlignedClip:
    """Recorded as `mel`, and now and then far louder, in frames that do not count: so that each channel has speech."""
    loud = np.arange(len(mel)) % 8 == 0
    return dataclasses.replace(clip, mel=mel + np.float32(4) * loud[:, None], aligned=~loud)


def test_each_frame_gets_the_weighted_mean_of_the_differences():
    wrong, mel = some(), torch.randn(2, M, 7, generator=torch.Generator().manual_seed(2))
    made = wrong.applied(mel)
    mean = sum(n * d for n, d in zip(wrong.frames, wrong.differences, strict=True))
    mean = mean / (wrong.frames.sum() + MEAN_PRIOR_FRAMES)
    for item in range(2):
        for frame in range(7):
            x, above, below = mel[item, :, frame], PRIOR_FRAMES * mean, PRIOR_FRAMES
            for center, difference, frames in zip(*wrong[:3], strict=True):
                weight = frames * torch.exp(-((x - center) ** 2).mean() / (2 * WIDTH**2))
                above, below = above + weight * difference, below + weight
            torch.testing.assert_close(made[item, :, frame], x + above / below)


def test_near_a_center_its_own_difference_counts():
    wrong = some()
    wrong = wrong._replace(frames=torch.tensor([1e6, 1e6, 1e6]))
    torch.testing.assert_close(
        wrong.applied(wrong.centers.T[None])[0].T, wrong.centers + wrong.differences, rtol=0, atol=0.1
    )


def frames_of(seed: int, count: int = 5000) -> torch.Tensor:
    """Random mels (F, M) whose cepstra depend on each other."""
    numbers = torch.Generator().manual_seed(seed)
    mixed = torch.randn(M, M, generator=numbers, dtype=torch.float64) / M**0.5
    return torch.randn(count, M, generator=numbers, dtype=torch.float64) @ mixed + 1


def mapped(generated: torch.Tensor, recorded: torch.Tensor) -> torch.Tensor:
    """`generated` (F, M) with the map alone, the differences being 0."""
    no = Compensation.without_map(torch.zeros(1, M), torch.zeros(1, M), torch.ones(1))
    return no.mapping(generated, recorded, torch.ones(len(generated))).applied(generated.float().T[None])[0].T


def test_cepstra_are_those_of_the_orthonormal_cosine_transform():
    mel = frames_of(1, count=3)
    wanted = scipy.fft.dct(mel.numpy(), axis=1, norm="ortho")[:, :CEPSTRA]
    np.testing.assert_allclose((mel @ cepstral_basis(M).T).numpy(), wanted, atol=1e-9)


def test_the_map_gives_the_power_and_the_covariance_of_what_was_recorded(monkeypatch):
    monkeypatch.setattr("synthesizer.models.compensation.MAP_PART", 1.0)
    monkeypatch.setattr("synthesizer.models.compensation.MAP_PRIOR_FRAMES", 0.0)
    generated, recorded = frames_of(1), frames_of(2)
    made, basis = mapped(generated, recorded).double(), cepstral_basis(M)
    powers = [(10 ** (1.25 * mels)).mean(dim=0) for mels in (made, recorded)]  # 12.5 dB a unit
    torch.testing.assert_close(*powers, rtol=1e-3, atol=0)
    torch.testing.assert_close(torch.cov((made @ basis.T).T), torch.cov((recorded @ basis.T).T), rtol=1e-3, atol=1e-3)
    others = torch.eye(M, dtype=torch.float64) - basis.T @ basis  # of the higher cepstra only the mean moves
    change = (made - generated - (made - generated).mean(dim=0)) @ others
    torch.testing.assert_close(change, torch.zeros_like(change), rtol=0, atol=1e-4)


def test_a_linear_difference_is_found_whole_and_mended_by_its_part(monkeypatch):
    generated, basis = frames_of(1), cepstral_basis(M)
    stretch = torch.diag(torch.linspace(0.5, 2, CEPSTRA, dtype=torch.float64))
    change = basis.T @ (stretch - torch.eye(CEPSTRA, dtype=torch.float64)) @ basis
    recorded = generated + (generated - generated.mean(dim=0)) @ change + 0.3
    no, equal = some(), torch.ones(len(generated))
    half = no.mapping(generated, recorded, equal).matrix
    monkeypatch.setattr("synthesizer.models.compensation.MAP_PART", 1.0)
    torch.testing.assert_close(no.mapping(generated, recorded, equal).matrix, half / MAP_PART)
    assert float((mapped(generated, recorded) - recorded).abs().max()) > 0.01  # the prior keeps some
    monkeypatch.setattr("synthesizer.models.compensation.MAP_PRIOR_FRAMES", 0.0)
    torch.testing.assert_close(mapped(generated, recorded).double(), recorded, rtol=0, atol=1e-3)


def test_the_map_of_what_was_recorded_as_generated_or_of_one_frame_changes_little():
    generated = frames_of(1, count=50)
    torch.testing.assert_close(mapped(generated, generated).double(), generated, rtol=0, atol=1e-5)
    one = Compensation.without_map(torch.zeros(1, M), torch.zeros(1, M), torch.ones(1))
    found = one.mapping(generated[:1], generated[1:2], torch.ones(1))
    assert float(found.matrix.abs().max()) < 1e-6 and torch.isfinite(found.offset).all()


def test_a_weight_stands_for_as_many_frames():
    generated, recorded, no = frames_of(1, count=60), frames_of(2, count=60), some()
    times = torch.arange(60) % 3
    twice = no.mapping(*(frames.repeat_interleave(times, dim=0) for frames in (generated, recorded)), torch.ones(60))
    torch.testing.assert_close(no.mapping(generated, recorded, times.float()).matrix, twice.matrix)


def test_loud_frames_count_for_more(synthesizer, voice, clip, said):
    louder = np.where(np.arange(len(said)) % 2, 2.0, -1.0).astype(np.float32)[:, None]
    symbols = np.repeat(clip.tokens, clip.durations)
    found = measured(synthesizer, voice, with_peaks(clip, said + louder))
    aligned = np.arange(len(said)) % 8 != 0
    weights = np.exp(LOUDNESS * (said + louder).mean(axis=1)) * aligned
    for symbol, difference in zip(np.unique(symbols[aligned]), found.differences, strict=True):
        of_it = weights * (symbols == symbol)
        expected = (of_it[:, None] * louder).sum() / of_it.sum()
        torch.testing.assert_close(difference, torch.full_like(difference, float(expected)), rtol=0, atol=1e-3)


def test_a_voice_of_before_has_no_map():
    arrays = {name: values for name, values in some().arrays().items() if name not in ("offset", "matrix")}
    mel = torch.randn(1, M, 7, generator=torch.Generator().manual_seed(2))
    before, now = (Compensation.of(a, M, torch.device("cpu")).applied(mel) for a in (arrays, some().arrays()))
    torch.testing.assert_close(before, now, rtol=0, atol=0)


def test_the_map_is_of_what_the_differences_leave(synthesizer, voice, clip):
    clip = dataclasses.replace(clip, mel=clip.mel / 2)  # so that nothing is cut off at the limits of a mel
    found = measured(synthesizer, voice, clip)
    assert found.matrix.abs().max() > 1e-3
    own = dataclasses.replace(voice, compensation=found._replace(**_no_map()).arrays())
    drawn = synthesizer.teacher_forced(clip.tokens, clip.mel.T, own, durations=clip.durations, prosody=clip.prosody).T
    difference = clip.mel - drawn
    noise = clip.mel < np.percentile(clip.mel, NOISE_FLOOR, axis=0) + ABOVE_NOISE
    difference[noise] = np.minimum(difference[noise], 0)
    difference[:, noise.mean(axis=0) > NO_SPEECH] = 0
    weights = torch.from_numpy(np.exp(LOUDNESS * clip.mel.mean(axis=1)))
    weights = weights / weights.mean()
    wanted = found.mapping(torch.from_numpy(drawn), torch.from_numpy(drawn + difference), weights)
    torch.testing.assert_close(found.matrix, wanted.matrix, rtol=0, atol=0.02)  # differences kept in 16 bits


def _no_map() -> dict[str, torch.Tensor]:
    return {"offset": torch.zeros(M), "matrix": torch.zeros(CEPSTRA, CEPSTRA)}


def test_what_is_said_as_recorded_stays(synthesizer, voice, clip, said):
    found = measured(synthesizer, voice, dataclasses.replace(clip, mel=said))
    assert found is not None and float(found.differences.abs().max()) < 1e-5
    assert int(found.frames.sum()) == len(clip.mel) and len(found.frames) == len(set(clip.tokens[clip.durations > 0]))


def test_what_was_recorded_softer_is_made_softer_and_noise_is_not_added(synthesizer, voice, clip, said):
    quieter = measured(synthesizer, voice, with_peaks(clip, said - 0.5))
    torch.testing.assert_close(quieter.differences, torch.full_like(quieter.differences, -0.5))
    steps = np.where(np.arange(len(said)) % 2, ABOVE_NOISE + 0.5, 0.0).astype(np.float32)[:, None]
    noisy = np.broadcast_to(said.max(axis=0) + 0.1 + steps, said.shape).copy()  # its soft frames may be noise
    louder = measured(synthesizer, voice, dataclasses.replace(clip, mel=noisy))
    alone = measured(synthesizer, voice, dataclasses.replace(clip, mel=noisy, aligned=steps[:, 0] == 0))
    assert (louder.differences > 0).any() and not alone.differences.any()


def test_a_channel_that_was_not_recorded_stays_as_it_is(synthesizer, voice, clip, said):
    telephone = with_peaks(clip, said - 0.5)
    telephone.mel[:, 60:] = -4.0
    found = measured(synthesizer, voice, telephone)
    torch.testing.assert_close(found.differences[:, :60], torch.full_like(found.differences[:, :60], -0.5))
    assert not found.differences[:, 60:].any()


def test_frames_whose_symbol_is_not_known_do_not_count(synthesizer, voice, clip):
    half = dataclasses.replace(clip, aligned=np.arange(len(clip.mel)) >= len(clip.mel) // 2)
    _, counts = np.unique(np.repeat(clip.tokens, clip.durations)[half.aligned], return_counts=True)
    np.testing.assert_array_equal(measured(synthesizer, voice, half).frames, counts)
    unknown = dataclasses.replace(clip, aligned=np.zeros_like(clip.aligned))
    assert measured(synthesizer, voice, unknown) is None
    both = measured(synthesizer, voice, clip, half)
    assert int(both.frames.sum()) == len(clip.mel) + counts.sum()


def test_what_is_measured_is_added_to_all_that_is_said(synthesizer, voice, clip):
    own = dataclasses.replace(voice, compensation=measured(synthesizer, voice, clip).arrays())
    plain, made = (synthesizer.synthesize(["One two.", "Three."], v, SpeechOptions(seed=1)) for v in (voice, own))
    for before, after in zip(plain, made, strict=True):
        wanted = measured(synthesizer, voice, clip).applied(torch.from_numpy(before.mel)[None])[0]
        np.testing.assert_allclose(after.mel, wanted.clamp(-4, 4), atol=0.01)  # kept in 16 bits
        assert np.abs(after.mel - before.mel).max() > 0.1
    given = (clip.tokens, clip.mel.T)
    forced = [
        synthesizer.teacher_forced(*given, v, durations=clip.durations, prosody=clip.prosody) for v in (voice, own)
    ]
    assert np.abs(forced[0] - forced[1]).max() > 0.1


def test_a_voice_is_described_with_it(synthesizer, voice, wav, monkeypatch):
    assert synthesizer.describe_voice(voice, [wav]).compensation is None  # an untrained classifier is sure of nothing
    monkeypatch.setattr("synthesizer.aligned_clip.SURE", 0.0)
    again, both = synthesizer.describe_voice(voice, [wav]), synthesizer.describe_voice(voice, [wav, wav])
    wanted = first_clips(synthesizer.network, synthesizer.text.table, synthesizer.mel, [recorded(wav, synthesizer.mel)])
    for name, values in measured(synthesizer, again, *wanted).arrays().items():
        np.testing.assert_array_equal(again.compensation[name], values)
    np.testing.assert_array_equal(both.compensation["frames"], 2 * again.compensation["frames"])


def test_a_few_seconds_of_a_few_clips_are_enough(synthesizer, wav):
    long = Waveform(np.tile(wav.samples, 4), wav.sample_rate)
    found = [recorded(long, synthesizer.mel)] * (COMPENSATED_CLIPS + 1)
    clips = first_clips(synthesizer.network, synthesizer.text.table, synthesizer.mel, found)
    assert [len(c.mel) for c in clips] == [round(PROMPT_SECONDS / synthesizer.mel.frame_seconds)] * COMPENSATED_CLIPS


def test_a_saved_voice_speaks_as_it_did(synthesizer, voice, clip, tmp_path):
    own = dataclasses.replace(voice, compensation=measured(synthesizer, voice, clip).arrays())
    own.save(tmp_path / "own.safetensors")
    options, again = SpeechOptions(seed=1), Voice.load(tmp_path / "own.safetensors")
    said, said_again = (synthesizer.synthesize(["One two."], who, options)[0].mel for who in (own, again))
    np.testing.assert_array_equal(said, said_again)
    assert (said != synthesizer.synthesize(["One two."], voice, options)[0].mel).any()


@pytest.mark.parametrize("damage", ["missing", "channels", "count", "frames", "none", "map", "half a map"])
def test_a_damaged_compensation_is_refused(synthesizer, voice, damage):
    arrays = some().arrays()
    if damage == "missing":
        del arrays["centers"]
    elif damage == "channels":
        arrays["differences"] = arrays["differences"][:, 1:]
    elif damage == "count":
        arrays["centers"] = arrays["centers"][1:]
    elif damage == "frames":
        arrays["frames"] = -arrays["frames"]
    elif damage == "map":
        arrays["matrix"] = arrays["matrix"][1:]
    elif damage == "half a map":
        del arrays["offset"]
    else:
        arrays = {name: values[:0] for name, values in arrays.items()}
    with pytest.raises(CloningError, match="the voice is damaged: its compensation") as caught:
        synthesizer.synthesize(["One."], dataclasses.replace(voice, compensation=arrays))
    assert "\n" not in str(caught.value)
