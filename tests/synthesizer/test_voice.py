"""What a parallel synthesizer is told of a voice beside its embedding, and how its flow is sharpened: invariants."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import synthesizer_preprocess
from encoder.camplus import CamPlus
from synthesizer.config import (
    DataConfig,
    EmotionConfig,
    LossConfig,
    ParallelConfig,
    RunConfig,
    SamplingConfig,
    SynthesizerConfig,
)
from synthesizer.data.dataset import SynthesisData
from synthesizer.data.store import BatchVoices, Store, Voices, bands, plausible, statistics_of
from synthesizer.models.base import GenerationSettings, ModelInput, Recording
from synthesizer.models.frame_classifier import FrameClassifier
from synthesizer.models.layers import HashedDropout
from synthesizer.models.parallel import Parallel
from synthesizer.models.prompt import Prompt
from synthesizer.text.processor import TextProcessor
from synthesizer.training.losses import local_mean, parallel_losses
from synthesizer.training.parallel import ParallelTask, pitch_scale
from synthesizer.training.sharpening import (
    MelDiscriminators,
    mel_adversarial_losses,
    mel_discriminator_loss,
    phone_loss,
    speaker_distances,
)
from tests.conftest import SAMPLES
from tests.support.camplus import made_camplus
from tests.support.synthesizer_set import SIZES, SPEAKER_SIZE, VOICE, hear, make_set
from tests.support.tiny import save_tiny_models
from utils.audio.mel import SYNTHESIZER_MEL
from utils.data.manifest import read_manifest
from utils.errors import CloningError
from utils.masks import length_mask
from utils.training.sampling import rng
from utils.voice import pitch_statistics
from utils.weights.find import DEFAULT_MODELS

pytestmark = pytest.mark.slow


def told(guidance: float = 0.0, emotions: tuple[str, ...] = (), **changes) -> Parallel:
    torch.manual_seed(0)
    config = ParallelConfig(**{**VOICE, **changes})
    sampling, emotion = SamplingConfig(guidance=guidance), EmotionConfig(labels=emotions)
    sizes = SynthesizerConfig("parallel", SPEAKER_SIZE, parallel=config, sampling=sampling, emotion=emotion)
    return Parallel(sizes, 97, 20)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> SynthesisData:
    root = make_set(tmp_path_factory.mktemp("set"))
    return SynthesisData(read_manifest(root), DataConfig(batch_size=4, min_frames=1, embedding="other"), "train", 1)


def test_a_store_of_the_whole_set_gives_the_batches_of_one_that_holds_only_what_they_need(data):
    whole = Store(data, data.utterances)
    for step in (1, 2):
        chosen = data.choose(step)
        draws = data.draws(chosen, rng(3, step), 20)
        ours, theirs = whole.batch(chosen, draws), data.gathered(chosen, draws)
        assert ours.keys() == theirs.keys()
        for name in ours:
            torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=0, equal_nan=True)


def test_the_prompt_is_another_utterance_of_the_same_speaker(data):
    for step in range(1, 5):
        chosen = data.choose(step)
        for utterance, prompt in zip(chosen, data.draws(chosen, rng(step), 20).prompts, strict=True):
            assert prompt.speaker == utterance.speaker and prompt.id != utterance.id


@pytest.mark.parametrize(
    "sizes, embedding, wanted", [(SIZES, "mixed", False), (SIZES, "other", True), (VOICE, "mixed", True)]
)
def test_other_utterances_are_read_only_where_they_are_heard(data, sizes, embedding, wanted):
    config = RunConfig(
        model=SynthesizerConfig("parallel", SPEAKER_SIZE, parallel=ParallelConfig(**sizes)),
        data=DataConfig(batch_size=4, min_frames=1, embedding=embedding),
    )
    task = ParallelTask(data.manifest, config)
    prompts = task.train.draws(task.train.choose(1), rng(1), 20).prompts
    assert all((prompt is not None) == wanted for prompt in prompts)


def test_speakers_come_as_often_as_they_are_balanced(data):
    seconds = {u.speaker: 0.0 for u in data.utterances}
    for u in data.utterances:
        seconds[u.speaker] += u.seconds
    balanced = SynthesisData(data.manifest, DataConfig(batch_size=4, min_frames=1, balance=1.0), "train", 1)
    shares = dict.fromkeys(seconds, 0.0)
    for u, share in zip(balanced.utterances, balanced._shares, strict=True):
        shares[u.speaker] += share
    counts = {s: sum(u.speaker == s for u in data.utterances) / max(seconds[s], 20.0) for s in seconds}
    assert shares == pytest.approx({s: c / sum(counts.values()) for s, c in counts.items()})


def test_facts_of_a_voice_by_hand():
    silent = np.array([True, False, False])
    track = np.concatenate([np.zeros(5), np.linspace(0.4, 0.6, 21)])
    found = statistics_of(track, np.array([0, 1, 2, 1, 2, 1, 0]), np.array([4, 6, 4, 5, 5, 5, 0]), silent)
    np.testing.assert_allclose(found, [0.5, 0.08, np.log(5)], rtol=1e-6)
    assert np.isnan(statistics_of(track[:10], np.array([1]), np.array([9]), silent)).all()
    assert pitch_statistics(np.zeros(100)) is None


def test_what_is_told_of_a_voice_can_be_divided_by():
    told_of = plausible(torch.tensor([[0.1, -0.01, 1.9], [torch.nan] * 3]))
    assert told_of[0].tolist() == pytest.approx([0.1, 0.08, 1.9]) and told_of[1].isnan().all()


def test_a_low_pass_is_seen_in_the_mel():
    mel = rng(1).normal(0, 0.5, (200, 80))
    assert bands(mel) == 80
    mel[:, 73:] = rng(2).normal(-2.5, 0.2, (200, 7))
    assert bands(mel) == 73


def test_hashed_dropout_depends_on_seed_call_and_place_alone():
    x = torch.ones(3, 50, 40)
    dropout = HashedDropout(torch.tensor([1, 2, 2**31 - 1]))
    first, second = dropout(x, 0.3), dropout(x, 0.3)
    assert not torch.equal(first, second)
    for kept in (first, second):
        assert kept.count_nonzero() / kept.numel() == pytest.approx(0.7, abs=5 * (0.21 / 6000) ** 0.5)
        assert kept.unique().tolist() == [0.0, pytest.approx(1 / 0.7)]
    alone = HashedDropout(torch.tensor([2]))
    torch.testing.assert_close(alone(x[1:2, :20], 0.3), first[1:2, :20], rtol=0, atol=0)  # padding changes nothing
    assert not torch.equal(first[0], first[1])


def test_padding_of_a_reference_changes_nothing():
    model = told().eval()
    torch.nn.init.normal_(model.text_prompt.output.weight)
    torch.nn.init.normal_(model.prompt_voice.weight)
    voice = torch.nn.functional.normalize(torch.rand(1, SPEAKER_SIZE))
    mel, known = torch.randn(1, 20, 30), torch.tensor([[0.1, 0.3, 1.8]])
    padded = torch.cat([mel, torch.randn(1, 20, 9)], dim=2)
    one = model.condition(voice, None, known, *model.read_prompt(mel, torch.tensor([30])))
    two = model.condition(voice, None, known, *model.read_prompt(padded, torch.tensor([30])))
    torch.testing.assert_close(one.vector, two.vector)
    torch.testing.assert_close(one.tokens, two.tokens)
    none = model.condition(voice, None, known, *model.read_prompt(padded, torch.tensor([0])))
    bare = model.condition(voice, None, known)
    torch.testing.assert_close(none.vector, bare.vector)
    tokens, lengths = torch.randint(1, 90, (1, 8)), torch.tensor([8])
    torch.testing.assert_close(model.encode(tokens, lengths, none).hidden, model.encode(tokens, lengths, bare).hidden)


def test_the_pitch_follows_the_voice_and_the_pace_too():
    model = told().eval()
    voice = torch.nn.functional.normalize(torch.rand(1, SPEAKER_SIZE))
    tokens, lengths = torch.randint(1, 90, (1, 8)), torch.tensor([8])

    def encode(*known: float):
        who = model.condition(voice, None, torch.tensor([known], dtype=torch.float32))
        return model.encode(tokens, lengths, who._replace(vector=torch.ones_like(who.vector)))

    low, high = encode(-0.5, 0.25, 1.9), encode(0.5, 0.25, 1.9)
    torch.testing.assert_close(high.prosody[..., 1] - low.prosody[..., 1], torch.ones(1, 8))
    torch.testing.assert_close(high.relative, low.relative)
    slow = encode(-0.5, 0.25, 1.9 + np.log(1.2))
    frames, longer = (torch.expm1(e.durations_log).clamp(min=0) for e in (low, slow))
    torch.testing.assert_close(longer, 1.2 * frames)


@pytest.mark.parametrize("guidance", [0.0, 0.7])
def test_what_inference_plans_is_forced_into_the_same_mel(guidance):
    """Forced with the durations and the prosody of `generate`, the same voice gives the same mel."""
    network = told(guidance=guidance, speaker_dropout=0.1).eval()
    for layer in (network.statistics_projection, network.prompt_voice):
        torch.nn.init.normal_(layer.weight)
    with torch.no_grad():
        network.predictor.output.bias[3] = 100  # all is voiced, as `filled` takes it
    tokens, speaker = torch.arange(5, 15)[None], torch.nn.functional.normalize(torch.ones(1, SPEAKER_SIZE))
    prompt = torch.randn(1, network.config.prompt_tokens, network.config.prompt_width)
    known, marks = torch.tensor([[0.4, 0.3, 1.5]]), torch.zeros_like(tokens)
    inputs = ModelInput(tokens, torch.tensor([10]), marks, speaker, [3], None, known, prompt)
    mel_config = replace(SYNTHESIZER_MEL, n_mels=20)
    with torch.inference_mode():
        (made,) = network.generate(inputs, GenerationSettings(mel_config, TextProcessor("phonemes").table))
        conditioning = network.condition(speaker, None, inputs.voice_statistics, prompt)
        planned = network.scaled(network.encode(tokens, inputs.token_lengths, conditioning), conditioning, 1)
        recording = Recording(made.mel[None], made.alignment.sum(dim=0)[None], planned)
        forced = network.teacher_forced(inputs, recording, -mel_config.max_abs)[0]
        elsewhere = network.teacher_forced(
            replace(inputs, voice_statistics=None, prompt=None), recording, -mel_config.max_abs
        )[0]
    limited = forced.clamp(-mel_config.max_abs, mel_config.max_abs)
    torch.testing.assert_close(limited, made.mel, rtol=0, atol=1e-3)
    assert (forced - elsewhere).abs().max() > 0.1


def test_pitch_against_the_voice_and_back():
    model, spoken = told(), torch.rand(2, 5, 3) + 0.1
    who = model.condition(torch.rand(2, SPEAKER_SIZE), None, torch.tensor([[0.1, 0.3, 1.8], [-0.6, 0.2, 2.0]]))
    torch.testing.assert_close(model._absolute(model._relative(spoken, who), who), spoken)
    spoken[0, 2, 2] = 0  # unvoiced
    assert float(model.filled(spoken, who)[0, 2, 1]) == pytest.approx(0.1)


@pytest.mark.parametrize("emotions", [(), ("neutral", "happy")])
@pytest.mark.parametrize("scale", [1, 1.3])
def test_livelier_pitch_goes_further_from_its_median_which_is_the_voices_own_but_for_emotions(scale, emotions):
    model = told(emotions=emotions).eval()
    own = [0.1, -0.6]
    who = model.condition(torch.rand(2, SPEAKER_SIZE), None, torch.tensor([[own[0], 0.3, 1.8], [own[1], 0.2, 2.0]]))
    encoding = model.encode(torch.randint(1, 90, (2, 8)), torch.tensor([8, 8]), who)
    scaled = model.scaled(encoding, who, scale)
    frames = torch.expm1(encoding.durations_log).clamp(min=0)
    assert (encoding.prosody[..., 2] > 0).any()
    for row in range(2):  # the rest is further from the median
        voiced = encoding.prosody[row, :, 2] > 0
        if not voiced.any():
            continue
        order = sorted(zip(encoding.prosody[row, voiced, 1].tolist(), frames[row, voiced].tolist(), strict=True))
        median = next(
            p for i, (p, _) in enumerate(order) if sum(f for _, f in order[: i + 1]) >= frames[row, voiced].sum() / 2
        )
        away = encoding.prosody[row, :, 1] - median
        wanted = (median if emotions else own[row]) + scale * away
        torch.testing.assert_close(scaled[row, :, 1], wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scaled[..., ::2], encoding.prosody[..., ::2])


def test_the_scale_of_the_pitch_gives_the_spread_back():
    spoken = torch.randn(500)
    assert pitch_scale(spoken, spoken / 3 + 7) == pytest.approx(3, rel=1e-4)
    assert pitch_scale(spoken, torch.zeros(500)) == pitch_scale(spoken[:0], spoken[:0]) == 1


def test_what_is_not_known_of_a_voice_is_guessed():
    model = told()
    voice = torch.rand(2, SPEAKER_SIZE)
    who = model.condition(voice, None, torch.tensor([[0.1, torch.nan, 1.8], [torch.nan] * 3]))
    torch.testing.assert_close(who.voice_statistics[1], who.predicted[1])
    torch.testing.assert_close(who.voice_statistics[0, 1], who.predicted[0, 1])
    assert who.voice_statistics[0, 0] == pytest.approx(0.1)


def test_a_pace_is_what_its_density_says():
    listener = FrameClassifier(20, 50)
    listener.forward = lambda mel, mask: (  # five frames a phone, in the first half
        type("Heard", (), {"density": torch.full((1, 40), 0.2), "speech": (torch.arange(40) < 20)[None] * 40.0 - 20})
    )
    assert float(listener.pace(torch.zeros(1, 40, 20), torch.ones(1, 40, 1))) == pytest.approx(np.log(5), rel=1e-5)


def test_losses_leave_out_what_a_recording_lacks(data):
    model = told(speaker_dropout=0.0, dropout=0.0, prompt_dropout=0.0).train()
    batch = data.windows(data.choose(1), rng(1), 20)
    output = model(batch)
    batch["bands"][:, 12:] = False
    before = parallel_losses(output, batch, LossConfig(), local_mean)
    output.mean[..., 12:] += 5
    output.flow.velocity[..., 12:] += 5
    after = parallel_losses(output, batch, LossConfig(), local_mean)
    for name in ("mean", "flow"):
        torch.testing.assert_close(before[name], after[name])


def test_sharpening_reaches_every_parameter_and_spares_what_judges(data):
    model, discriminators = told().train(), MelDiscriminators(channels=4)
    batch = data.windows(data.choose(1), rng(1), 20)
    batch["draw"] = batch["noise"]
    batch["paired"] = torch.tensor([True, True, False, False])
    output = model(batch)
    discriminators.requires_grad_(False)
    losses = mel_adversarial_losses(discriminators, output, batch, LossConfig(adversarial=1.0))
    losses |= {
        "phone_classification": phone_loss(model.frame_classifier, output),
    }
    losses |= speaker_distances(hear, output, batch, model, data.floor)
    sum(losses.values()).backward()
    assert all(p.grad is None for p in model.frame_classifier.parameters())  # its words are not bent to what is heard
    for name, parameter in model.flow.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    discriminators.requires_grad_(True)
    output = output._replace(drawn=output.drawn.detach(), mean=output.mean.detach())
    mel_discriminator_loss(discriminators, output, batch).backward()
    for name, parameter in discriminators.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("architecture", ["source_filter", "vocos"])
def test_the_speaker_is_heard_in_a_mel_as_it_sounds(data, data_dir, tmp_path, architecture):
    from encoder.inference import SpeakerEncoder
    from synthesizer_train import MelSpeakerEncoder
    from utils.audio.mel import SYNTHESIZER_MEL, mel_spectrogram
    from vocoder.inference import Vocoder

    encoder, vocoder = data_dir / "encoder_tiny.pt", DEFAULT_MODELS / "vocoder.safetensors"
    if architecture == "vocos":
        vocoder = save_tiny_models(tmp_path) / "vocoder.safetensors"
    assert Vocoder.load(vocoder).name == architecture
    ours = SpeakerEncoder.load(encoder)
    loss = LossConfig(speaker=1.0, speaker_encoder=str(encoder), speaker_vocoder=str(vocoder))
    heard = MelSpeakerEncoder(loss, ours.fingerprint)
    wav = torch.randn(2, 12000, generator=torch.Generator().manual_seed(0)) * 0.1
    mel = mel_spectrogram(wav, SYNTHESIZER_MEL).requires_grad_()
    found = heard(mel, torch.tensor([61, 41])).own
    sound = Vocoder.load(vocoder).vocode(mel[0].detach()).samples
    expected = ours.network(mel_spectrogram(torch.from_numpy(sound)[None], ours.config.mel))
    torch.testing.assert_close(found[:1], expected, rtol=1e-3, atol=1e-4)
    found[1, 0].backward()
    assert mel.grad[1, :, :41].abs().sum() > 0 and not mel.grad[0].any()
    assert not any(p.requires_grad for p in heard.parameters())
    with pytest.raises(CloningError, match="the set has embeddings of 0123"):
        MelSpeakerEncoder(loss, "0123")
    samples = LossConfig(speaker=1.0, speaker_encoder=str(encoder), speaker_vocoder=str(data_dir / "wavernn_tiny.pt"))
    with pytest.raises(CloningError, match="differentiable"):
        MelSpeakerEncoder(samples, ours.fingerprint)


def test_a_second_encoder_compares_with_the_prompt(data, data_dir, monkeypatch):
    from encoder.inference import SpeakerEncoder
    from synthesizer_train import MelSpeakerEncoder

    monkeypatch.setattr(CamPlus, "load", made_camplus)
    loss = LossConfig(camplus=2.0, speaker_encoder=str(data_dir / "encoder_tiny.pt"))
    heard = MelSpeakerEncoder(loss, SpeakerEncoder.load(loss.speaker_encoder).fingerprint)
    mel = torch.randn(2, 80, 60, generator=torch.Generator().manual_seed(0)).requires_grad_()
    batch = {"window_lengths": torch.tensor([60, 41]), "prompt": mel.detach(), "embed": torch.zeros(2, 16)}
    drawn = SimpleNamespace(drawn=mel.transpose(1, 2), mask=length_mask(batch["window_lengths"], 60)[..., None])
    model = SimpleNamespace(denormalized=lambda mel: mel)

    def distances(lengths: list[int]) -> dict[str, torch.Tensor]:
        return speaker_distances(heard, drawn, batch | {"prompt_lengths": torch.tensor(lengths)}, model, -4.0)

    for lengths in ([60, 41], [0, 41]):  # the prompt itself; one that has none is left out
        assert distances(lengths)["camplus"].item() == pytest.approx(0, abs=1e-5)
    assert set(distances([0, 0])) == {"speaker"}
    batch["prompt"] = mel.detach().roll(1, dims=0)
    other = distances([60, 41])["camplus"]
    assert other.item() > 1e-3
    other.backward()
    assert mel.grad[0].any() and mel.grad[1, :, :41].any() and not mel.grad[1, :, 41:].any()
    assert LossConfig(camplus=2.0).sharpens


def test_a_training_that_sharpens_begins_late_and_speaks_with_other_voices(data):
    config = RunConfig(
        model=SynthesizerConfig("parallel", SPEAKER_SIZE, parallel=ParallelConfig(**VOICE)),
        data=DataConfig(batch_size=4, min_frames=1, embedding="other", window=20),
        loss=LossConfig(adversarial=1.0, speaker=1.0, phone_classification=0.3, sharpen_from=0.5),
    )
    with pytest.raises(CloningError, match="loss.speaker, .* need a speaker encoder"):
        ParallelTask(data.manifest, config)
    task = ParallelTask(data.manifest, config, embed=hear)
    task.progress = 0.4
    plain = task.batch(1)
    assert "draw" not in plain and task.sharpening() == 0
    task.progress = 0.9
    batch = task.batch(1)
    assert task.sharpening() == 1 and batch["paired"].tolist() == [True, True, False, False]
    torch.testing.assert_close(batch["speaker"][:2], plain["speaker"][:2])
    torch.testing.assert_close(batch["speaker"][2:], plain["speaker"][2:].roll(1, dims=0))
    for module in task.modules.values():
        module.train()
    assert task.phases(1) == ["discriminators", "synthesizer"]
    for phase in task.phases(1):
        losses = task.losses(task.modules, batch, phase, 1)
        assert all(torch.isfinite(v) for v in losses.values())
    assert {"adversarial", "feature_matching", "speaker", "phone_classification"} < set(losses)
    by_phones = replace(config, loss=replace(config.loss, adversarial=0.0, speaker=0.0))
    other = ParallelTask(data.manifest, by_phones, embed=hear)  # the distance is measured, and no loss
    other.progress = 0.9
    assert "speaker" not in other.losses(other.modules, batch, "synthesizer", 1)
    with torch.inference_mode():
        assert "speaker_distance" in other.validate(other.modules).metrics
    with torch.inference_mode():
        for module in task.modules.values():
            module.eval()
        late = task.validate(task.modules)
        task.progress = 0.4
        early = task.validate(task.modules)
        assert early.score == pytest.approx(late.score, rel=1e-5) and late.eligible and not early.eligible


def test_voices_without_texts_are_spoken_with(data, tmp_path, data_dir, capsys):
    for name, speaker in (("austen_0870", "ann"), ("austen_0890", "ann"), ("goforward", "ben")):
        folder = tmp_path / "corpus" / speaker
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(SAMPLES / f"{name}.wav", folder)
    arguments = ["--voices", "--out", tmp_path / "voices", "--encoder", data_dir / "encoder_tiny.pt", "--jobs", 1]
    arguments += ["--validation", 0, tmp_path / "corpus"]
    assert synthesizer_preprocess.main([str(a) for a in arguments]) == 0
    assert "3 utterances (3 train) of 2 speakers" in capsys.readouterr().out
    voices = Voices(tmp_path / "voices")
    own = BatchVoices(
        speaker=torch.zeros(4, voices.embed.shape[1]),
        voice_statistics=torch.zeros(4, 3),
        prompt=torch.zeros(4, 80, 50),
        prompt_lengths=torch.zeros(4, dtype=torch.long),
        embed=torch.zeros(4, voices.embed.shape[1]),
    )
    mixed = voices.mixed_in(own, np.array([1, 3]), rng(1))
    for value, before in zip(mixed, own, strict=True):
        assert torch.equal(value[[0, 2]], before[[0, 2]])
        assert all(row.ne(0).any() for row in value[[1, 3]])
    torch.testing.assert_close(mixed.embed[[1, 3]].norm(dim=1), torch.ones(2))
    wrong = RunConfig(
        model=SynthesizerConfig("parallel", SPEAKER_SIZE, parallel=ParallelConfig(**VOICE)),
        data=DataConfig(batch_size=4, min_frames=1, untranscribed_set=str(tmp_path / "voices")),
        loss=LossConfig(adversarial=1.0),
    )
    with pytest.raises(CloningError, match="preprocess both with the same encoder"):
        ParallelTask(data.manifest, wrong)


def test_tokens_of_a_prompt_are_as_configured():
    assert Prompt(20, 16, 5, 8)(torch.randn(2, 30, 20), torch.ones(2, 30, 1, dtype=torch.bool)).shape == (2, 5, 8)


def test_a_random_microphone_is_the_same_for_window_and_prompt(data):
    told_of = SynthesisData(data.manifest, DataConfig(batch_size=8, min_frames=1, random_eq_db=3.0), "train")
    told_of.prompted = True
    chosen, width = told_of.choose(1), 20
    draws = told_of.draws(chosen, rng(1), width)
    assert told_of.draws(chosen, None, width).channels is None  # validation hears recordings as they are
    through, plain = (told_of.gathered(chosen, d) for d in (draws, replace(draws, channels=None)))
    floor, changed = told_of.floor, 0
    for row in range(len(chosen)):
        curves = []
        for name in ("mel", "prompt"):
            before, after = plain[name][row], through[name][row]
            inside = (before > floor) & (after.abs() < -floor)
            torch.testing.assert_close(after[before <= floor], before[before <= floor])
            moved = torch.where(inside, after - before, torch.nan)
            curves.append(moved.nanmean(dim=1))
            torch.testing.assert_close(moved[inside], curves[-1][:, None].expand_as(moved)[inside], rtol=0, atol=1e-4)
        both = curves[0].isfinite() & curves[1].isfinite()
        torch.testing.assert_close(curves[0][both], curves[1][both], rtol=0, atol=1e-4)
        changed += int(curves[0].nan_to_num().abs().max() > 1e-3)
    assert 0 < changed < len(chosen)


def test_a_stored_set_holds_prompts_of_emotions_that_are_not_learned(tmp_path):
    root = make_set(tmp_path, emotions=["neutral", "calm"])
    learned = SynthesisData(read_manifest(root), DataConfig(batch_size=4, min_frames=1), "train", emotions=["neutral"])
    learned.prompted = True
    store = Store(learned, learned.read)
    for step in range(1, 9):
        chosen = learned.choose(step)
        draws = learned.draws(chosen, rng(step), 20)
        for name, value in learned.gathered(chosen, draws).items():
            torch.testing.assert_close(value, store.batch(chosen, draws)[name], rtol=0, atol=0, equal_nan=True)
