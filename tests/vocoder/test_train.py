"""Training through the scripts: every family runs, an interrupted run equals a whole one, one batch can be learned."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import soundfile
import torch

import vocoder_preprocess
import vocoder_train
from tests.support.vocoder_set import make_set, voice
from utils.audio.mel import SYNTHESIZER_MEL, mel_spectrogram, preemphasis
from utils.config import load_config
from utils.data.manifest import Arrays, read_manifest
from utils.errors import CloningError
from utils.training import loop as training
from utils.weights.checkpoint import load_training_state, load_weights, save_training_state
from utils.weights.find import DEFAULT_MODELS
from vocoder.config import DataConfig, RunConfig
from vocoder.data import crop_mel, edge_frames
from vocoder.inference import Vocoder
from vocoder.models.waveform import WaveformOutput
from vocoder.preprocess import Preprocessor
from vocoder.train import build_task, inputs_and_target
from vocoder.wavernn.guide import emphasized
from vocoder.wavernn.quantize import decode_mu_law, encode_mu_law, label_to_float

pytestmark = pytest.mark.slow

PRESETS = ["debug", "debug_source_filter", "debug_wavernn", "debug_wavernn_guided", "debug_hifigan"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("set")
    make_set(root)
    return root


def run(*arguments) -> int:
    return vocoder_train.main([str(a) for a in (*arguments, "--device", "cpu", "--threads", 1)])


@pytest.mark.parametrize("preset", PRESETS)
def test_killed_and_resumed_equals_uninterrupted(data, tmp_path, preset, monkeypatch):
    assert run(data, "--out", tmp_path / "whole", "--config", preset) == 0
    # the second run is killed after its third step; its last saved step is the second
    built = vocoder_train.build_task

    def dying(manifest, config):
        task = built(manifest, config)
        losses = task.losses

        def until_four(modules, batch, phase, step):
            if step == 4:
                raise KeyboardInterrupt
            return losses(modules, batch, phase, step)

        task.losses = until_four
        return task

    with monkeypatch.context() as patch:
        patch.setattr(vocoder_train, "build_task", dying)
        assert run(data, "--out", tmp_path / "parts", "--config", preset) == 130
    assert load_weights(tmp_path / "parts" / "last.safetensors").step == 2
    assert run(data, "--out", tmp_path / "parts", "--config", preset) == 0
    whole, parts = (load_weights(tmp_path / name / "last.safetensors") for name in ("whole", "parts"))
    assert whole.step == parts.step == 4
    assert all(torch.equal(whole.state[name], parts.state[name]) for name in whole.state)
    rows = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert {"train", "validation"} <= {row["group"] for row in rows}
    vocoder = Vocoder.load(tmp_path / "parts" / "best.safetensors")
    assert len(vocoder.vocode(np.zeros((80, 4)), seed=0)) == 600


@pytest.mark.parametrize("preset", PRESETS)
def test_one_batch_can_be_learned(data, preset):
    run_settings = load_config(RunConfig, "vocoder", preset, ["discriminator.start=1000000"])
    task = build_task(read_manifest(data), run_settings)
    model, batch = task.modules["generator"], task.batch(1)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-2)
    totals = []
    for _ in range(14):
        total = sum(task.losses({"generator": model}, batch, "generator", 1).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.9 * totals[0]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_batch_spread_over_two_processes_has_the_same_loss(data, preset):
    settings = ["data.batch_size=4", "discriminator.start=0"]
    task = build_task(read_manifest(data), load_config(RunConfig, "vocoder", preset, settings))
    for module in task.modules.values():
        module.eval()  # WaveRNN's batch norms see their own half, as published
    batch = task.batch(1)
    for phase in task.phases(1):
        whole = task.losses(task.modules, batch, phase, 1)
        halves = [task.losses(task.modules, task.shard(batch, rank, 2), phase, 1) for rank in (0, 1)]
        for name, value in whole.items():
            mean = (halves[0][name] + halves[1][name]) / 2
            torch.testing.assert_close(mean, value, rtol=1e-4, atol=1e-6)


def test_discriminators_join_at_their_step_and_only_then_scores_count(data):
    task = build_task(read_manifest(data), load_config(RunConfig, "vocoder", "debug"))
    assert list(task.modules) == ["generator", "discriminator"]  # the first is what is saved
    batch = task.batch(1)
    task.position = 2
    assert task.phases(2) == ["generator"]
    assert set(task.losses(task.modules, batch, "generator", 2)) == {"stft", "mel"}
    with torch.inference_mode():
        before = task.validate(task.modules)
    task.position = 3
    assert task.phases(3) == ["discriminator", "generator"]
    assert set(task.losses(task.modules, batch, "generator", 3)) == {"stft", "mel", "adversarial", "feature_matching"}
    assert set(task.losses(task.modules, batch, "discriminator", 3)) == {"discriminator"}
    with torch.inference_mode():
        result = task.validate(task.modules)
    assert before.score == result.score and not before.eligible and result.eligible
    assert set(result.metrics) == {"stft_distance", "mel_distance_db"} and len(result.audio) == 2
    assert len(task.names(1)) == 2


def test_the_score_is_the_same_whatever_the_loss_is(data):
    """Of the same weights, so that variants of an ablation can be compared."""

    def score(*settings: str) -> float:
        task = build_task(read_manifest(data), load_config(RunConfig, "vocoder", "debug", settings))
        with torch.inference_mode():
            return task.validate(task.modules).score

    others = ("loss.resolutions=[512]", "loss.stft_preemphasis=0", "loss.mel=9", "loss.stft=0.1")
    assert score() == score(*others) != score("data.validation_seconds=0.3")


def test_an_adversarial_run_repeats_a_validation_with_the_same_score(data, tmp_path):
    arguments = (data, "--out", tmp_path, "--config", "debug")
    assert run(*arguments) == 0
    state = load_training_state(tmp_path / "state.pt")
    save_training_state(tmp_path / "state.pt", {**state, "best": math.inf, "unvalidated": True})
    (tmp_path / "best.safetensors").unlink()
    assert run(*arguments) == 0
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    first, again = (row["score"] for row in rows if row["group"] == "validation" and row["step"] == 4)
    assert first == again
    assert load_weights(tmp_path / "best.safetensors").step == 4  # the discriminators take part


def test_with_a_budget_of_time_discriminators_join_at_their_share_of_it(data):
    settings = ["training.minutes=1"]
    task = build_task(read_manifest(data), load_config(RunConfig, "vocoder", "debug", settings))
    task.position = 1.9  # of four steps' worth, with discriminators from the second on
    assert task.phases(70) == ["generator"]
    task.position = 2.1
    assert task.phases(1) == ["discriminator", "generator"]


def test_wavernn_learns_the_next_label_from_the_frames_around_it(data):
    """The crop's loss is that of the published arrangement cut from the whole utterance."""
    task = build_task(read_manifest(data), load_config(RunConfig, "vocoder", "debug_wavernn"))
    model = task.modules["generator"].eval()
    for parameter in model.parameters():
        parameter.data *= 3  # a fresh network hardly listens
    crops = task.crops.at(2)
    got = task.losses(task.modules, task.batch(2), "generator", 2)["nll"]
    losses = []
    for crop in crops:
        wav = torch.from_numpy(Arrays(data).read(crop.utterance, "wav").astype(np.float32) / 32767)
        wav = torch.nn.functional.pad(wav, (1000, 1000))  # five frames of silence around it
        start, labels = crop.start + 5, encode_mu_law(preemphasis(wav, 0.97).clamp(-1, 1), 512)
        mel = mel_spectrogram(wav, SYNTHESIZER_MEL)[None, :, start - 2 : start + 5 + 2] / 4
        heard = labels[start * 200 : start * 200 + 1001][None]
        logits = model(label_to_float(heard[:, :-1], 512), mel)
        losses.append(torch.nn.functional.cross_entropy(logits.transpose(1, 2), heard[:, 1:]))
    torch.testing.assert_close(got, torch.stack(losses).mean(), rtol=1e-4, atol=1e-5)


def test_a_guided_wavernn_learns_what_the_guide_lacks_with_its_phases(data):
    task = build_task(read_manifest(data), load_config(RunConfig, "vocoder", "debug_wavernn_guided"))
    seen = {}

    class Ear(torch.nn.Module):
        def forward(self, x, mel, guide):
            seen.update(x=x, mel=mel, guide=guide)
            return torch.zeros(*x.shape, 512)

    batch, sizes = task.batch(1), task.config.model.wavernn
    task.losses({"generator": Ear()}, batch, "generator", 1)
    edge, margin = edge_frames(task.mel_config), task.margin
    mel = crop_mel(batch["wav"], task.mel_config)
    target, guide = task._guided(batch["wav"], mel, edge, batch["start"])
    torch.testing.assert_close(seen["mel"], mel[:, :, margin - edge - 2 : margin - edge + 7] / 4)
    first, steps = margin * 200, 5 * 200
    left = emphasized(target, sizes) - emphasized(guide, sizes)
    of_x = decode_mu_law(seen["x"], 512)
    assert (of_x - left[:, first : first + steps]).abs().max() < 0.02  # a step of the loudest labels
    # the sample that row i predicts, i + 1, is tap 2 of 8
    taps = seen["guide"].unfold(1, 8, 1)[:, :-1]
    torch.testing.assert_close(
        decode_mu_law(taps[:, :, 2], 512), emphasized(guide, sizes)[:, first + 1 : first + steps + 1], atol=1e-5, rtol=0
    )


def test_a_guide_must_be_another_kind_of_vocoder_for_the_same_mel(data, tmp_path, capsys):
    assert run(data, "--out", tmp_path / "a", "--config", "debug_wavernn", "--steps", 2) == 0
    wavernn = tmp_path / "a" / "best.safetensors"
    guided = [data, "--config", "debug_wavernn_guided"]
    assert run(*guided, "--out", tmp_path / "b", "--set", f"data.guide={wavernn}") == 2
    assert "best.safetensors: is a wavernn; only a frame-rate vocoder guides" in capsys.readouterr().err
    assert run(data, "--out", tmp_path / "c", "--config", "debug", "--steps", 2, "--set", "model.mel.fmin=60") == 0
    assert run(*guided, "--out", tmp_path / "b", "--set", f"data.guide={tmp_path / 'c' / 'last.safetensors'}") == 2
    assert "reads another mel than this model: " in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_a_guided_hifigan_begins_as_its_guide_and_leaves_it_as_it_is(data, tmp_path):
    settings = ["training.steps=40", "training.learning_rate=1e-3", "training.warmup_steps=10", "data.crop_frames=24",
                "discriminator.start=1000", "training.validate_every=40"]  # fmt: skip
    config = load_config(RunConfig, "vocoder", "hifigan_guided", settings)
    task = build_task(read_manifest(data), config)
    guide = Vocoder.load(DEFAULT_MODELS / "vocoder.safetensors")
    mel = task.held_out[0].tensors(task.mel_config)[0]
    with torch.inference_mode():
        assert torch.equal(task.modules["generator"].eval()(mel).wav, guide.model(mel).wav)
        before = task.validate(task.modules).score
    assert run(data, "--out", tmp_path / "run", "--config", "hifigan_guided", "--set", *settings) == 0
    learned = load_weights(tmp_path / "run" / "last.safetensors")
    assert all(torch.equal(learned.state[name], value) for name, value in guide.model.state_dict().items())
    task.modules["generator"].load_state_dict(learned.state)
    with torch.inference_mode():
        assert task.validate(task.modules).score < before


@pytest.mark.parametrize("more", [["data.guide={vocos}"], ["model.source_filter.residual_spectrum=false"]])
def test_a_guide_that_cannot_be_a_part_of_the_network_is_refused(data, tmp_path, capsys, more):
    assert run(data, "--out", tmp_path / "vocos", "--config", "debug", "--steps", 2) == 0
    more = [m.format(vocos=tmp_path / "vocos" / "last.safetensors") for m in more]
    assert run(data, "--out", tmp_path / "a", "--config", "hifigan_guided", "--steps", 2, "--set", *more) == 2
    assert "is no source-filter of the sizes that model.source_filter has" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


class Said(torch.nn.Module):
    """A generator that says what it is told."""

    def __init__(self, wav: torch.Tensor) -> None:
        super().__init__()
        self.wav = torch.nn.Parameter(wav)

    def forward(self, mel: torch.Tensor, start: torch.Tensor | None = None) -> WaveformOutput:
        return WaveformOutput(self.wav)


def test_no_loss_and_no_discriminator_hears_what_lies_above_a_clips_band(data):
    manifest = read_manifest(data)
    for utterance in manifest.utterances:
        utterance.extra["bandwidth"] = 3000.0 if utterance.speaker == "a" else 6000.0
    settings, heard = ["discriminator.start=0", "data.batch_size=4"], {True: [], False: []}
    for within in (True, False):
        config = load_config(RunConfig, "vocoder", "debug", [*settings, f"loss.within_band={str(within).lower()}"])
        task = build_task(manifest, config)
        task.position = 1
        batch = task.batch(1)
        target = inputs_and_target(batch, task.mel_config)[1]
        said, bands = 0.7 * target, torch.from_numpy(task.crops.bands[task.crops.places(1)[0]])
        assert set(bands.tolist()) == {3000.0, 6000.0} and ("band" in batch) == within
        tone = 0.1 * torch.sin(2 * math.pi * (bands[:, None] + 700) * torch.arange(said.size(1)) / 16000)
        tone = tone * torch.hann_window(said.size(1))  # without an end that is heard
        for phase in ("generator", "discriminator"):
            plain, with_tone = (
                task.losses(task.modules | {"generator": Said(wav)}, batch, phase, 1) for wav in (said, said + tone)
            )
            heard[within] += [abs(plain[name] - with_tone[name]).item() for name in plain]
        heard[within].append(abs(score_with_tone(task, 0.1) - score_with_tone(task, 0.0)))
    assert len(heard[True]) == 6 and all(a < 0.02 * b for a, b in zip(heard[True], heard[False], strict=True)), heard


def score_with_tone(task, height: float) -> float:
    """The score of a generator that says the recording and a tone of 7.5 kHz."""
    items = iter([item.tensors(task.mel_config)[1] for item in task.held_out])

    def say(mel, start=None):
        wav = next(items)
        tone = torch.sin(2 * math.pi * 7500 * torch.arange(wav.size(1)) / 16000) * torch.hann_window(wav.size(1))
        return WaveformOutput(0.7 * wav + height * tone)

    generator = Said(torch.zeros(1))
    generator.forward = say
    with torch.inference_mode():
        return task.validate({"generator": generator}).score


def test_half_of_the_mels_show_a_narrow_band_and_the_recordings_stay_wide(data):
    config = load_config(RunConfig, "vocoder", "debug", ["data.narrow_hz=3000", "data.batch_size=16"])
    task = build_task(read_manifest(data), config)
    plain = build_task(read_manifest(data), load_config(RunConfig, "vocoder", "debug", ["data.batch_size=16"]))
    batch, other = task.batch(7), plain.batch(7)
    mel, target = inputs_and_target(batch, task.mel_config)
    whole, wanted = inputs_and_target(other, task.mel_config)
    assert torch.equal(target, wanted)
    narrow = batch["shown"] == 3000
    assert 3 <= narrow.sum() <= 13 and torch.equal(task.batch(7)["shown"], batch["shown"])
    assert not torch.equal(task.batch(8)["shown"], batch["shown"])
    torch.testing.assert_close(mel[~narrow], whole[~narrow], atol=1e-4, rtol=0)
    hissed = whole[narrow][:, 60:].mean()  # above 4 kHz
    assert mel[narrow][:, 60:].mean() < hissed - 0.5
    torch.testing.assert_close(mel[narrow][:, 2:30], whole[narrow][:, 2:30], atol=0.05, rtol=0)


@pytest.mark.parametrize(
    "preset, settings, message",
    [
        ("debug_wavernn", ["loss.within_band=true"], "not for architecture 'wavernn'"),
        ("debug_wavernn", ["data.narrow_hz=5000"], "not for architecture 'wavernn'"),
        ("debug", ["data.narrow_hz=5000", "data.teacher_forced=true"], "data.narrow_hz is for mels of recordings"),
    ],
)
def test_bands_are_for_waveforms_and_mels_of_recordings(preset, settings, message):
    with pytest.raises(CloningError, match=message):
        load_config(RunConfig, "vocoder", preset, settings)


@pytest.mark.parametrize("preset", ["debug", "debug_wavernn", "debug_wavernn_guided"])
def test_teacher_forced_mels_take_the_place_of_the_real_ones(tmp_path, preset):
    manifest = make_set(tmp_path, mel=np.zeros((200, 80), np.float32))
    settings = ["data.teacher_forced=true", "discriminator.start=1000000"]
    task = build_task(manifest, load_config(RunConfig, "vocoder", preset, settings))
    batch = task.batch(1)
    (first,) = [v for n, v in task.losses(task.modules, batch, "generator", 1).items() if n != "stft"]
    batch["mel"] = batch["mel"] + 1
    (second,) = [v for n, v in task.losses(task.modules, batch, "generator", 1).items() if n != "stft"]
    assert first.isfinite() and first.item() != second.item() and task.extra["teacher_forced"]


def test_presets_are_whole(data):
    from utils.config import CONFIGS

    presets = sorted(path.stem for path in (CONFIGS / "vocoder").glob("*.toml"))
    assert {"published", "wavernn_small", "vocos", "hifigan_v1", "hifigan_v2", "hifigan_22k", *PRESETS} <= set(presets)
    for preset in presets:
        load_config(RunConfig, "vocoder", preset)
    published = load_config(RunConfig, "vocoder", "published")
    assert published.data.batch_size * published.data.crop_frames * published.model.mel.hop_length == 100 * 1000
    assert published.training.learning_rate_at(1) == published.training.learning_rate_at(400000) == 1e-4


def test_settings_that_contradict_each_other_are_one_line(data, capsys):
    assert run(data, "--out", data / "run", "--config", "debug_wavernn", "--set", "data.crop_frames=3") == 2
    assert "data.crop_frames 3 must be at least 4" in capsys.readouterr().err
    assert run(data / "nowhere", "--out", data / "run") == 2
    with pytest.raises(CloningError, match="unknown settings"):
        load_config(RunConfig, "vocoder", "vocos", ["data.batch=3"])


def test_preprocessing_skips_the_corrupt_and_goes_on(tmp_path, capsys):
    corpus = tmp_path / "corpus"
    for speaker in "pqrs":
        folder = corpus / f"speaker_{speaker}"
        folder.mkdir(parents=True)
        soundfile.write(folder / "one.wav", 0.2 * voice(0.8, ord(speaker)), 16000)
        soundfile.write(folder / "two.flac", np.repeat(voice(0.7, ord(speaker) + 1), 2), 32000)
    (corpus / "speaker_p" / "broken.wav").write_bytes(b"RIFF not a wave")
    soundfile.write(corpus / "speaker_q" / "silence.wav", np.zeros(16000), 16000)
    soundfile.write(corpus / "speaker_q" / "short.wav", voice(0.1, 1), 16000)
    arguments = [str(corpus), "--out", str(tmp_path / "set"), "--jobs", "1", "--validation", "0.3"]
    assert vocoder_preprocess.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "broken.wav" in printed and "silence only" in printed and "too short" in printed
    manifest = read_manifest(tmp_path / "set", "vocoder")
    assert len(manifest.utterances) == 8 and sum(manifest.header["skipped"].values()) == 3
    assert {u.split for u in manifest.utterances} == {"train", "validation"}
    for utterance in manifest.utterances:
        wav = Arrays(manifest.root).read(utterance, "wav")
        assert wav.dtype == np.int16 and np.abs(wav).max() == pytest.approx(0.9 * 32767, rel=0.03)
        assert utterance.frames == 1 + len(wav) // 200
    written = (tmp_path / "set" / "manifest.jsonl").read_bytes()
    assert vocoder_preprocess.main(arguments) == 0  # nothing left to do
    assert (tmp_path / "set" / "manifest.jsonl").read_bytes() == written
    task = build_task(manifest, load_config(RunConfig, "vocoder", "debug"))
    assert isinstance(task.crops.config, DataConfig) and len(task.batch(1)["wav"]) == 2


def test_teacher_forced_mels_must_fit_their_waveform():
    from utils.data.corpora import Clip

    clip = Clip("c/x", "c-x", path=None)
    samples = voice(0.6, 1)
    fitting = Preprocessor(teacher_forced=lambda clip: (samples, np.zeros((49, 80), np.float32)))
    utterance, arrays = fitting(clip)
    assert arrays["mel"].shape == (49, 80) and arrays["mel"].dtype == np.float16 and utterance.extra["teacher_forced"]
    assert fitting.header()["teacher_forced"]
    with pytest.raises(CloningError, match=r"does not fit the audio.*\(50, 80\), expected \(49, 80\)"):
        Preprocessor(teacher_forced=lambda clip: (samples, np.zeros((50, 80), np.float32)))(clip)


def test_training_module_is_the_common_one():
    assert issubclass(type(load_config(RunConfig, "vocoder", "vocos").training), training.TrainingConfig)


@pytest.mark.parametrize("mode", ["raw", "mol"])
def test_a_fresh_wavernn_takes_labels_for_ordered(data, mode):
    settings = [f"model.wavernn.mode={mode}"]
    model = build_task(read_manifest(data), load_config(RunConfig, "vocoder", "debug_wavernn", settings)).modules[
        "generator"
    ]
    rest = model.I.weight[:, 1:].abs().max()
    assert model.I.weight[:, 0].abs().max() > 10 * rest
    rows = model.fc3.weight
    towards_neighbor, apart = (rows[1:] - rows[:-1]).norm(dim=1), rows.norm(dim=1)
    assert (towards_neighbor.max() < 0.2 * apart.mean()) == (mode == "raw")


def test_a_run_from_before_a_setting_was_invented_goes_on_but_a_changed_one_does_not(data, tmp_path, capsys):
    arguments = (data, "--out", tmp_path / "run", "--config", "debug")
    assert run(*arguments, "--steps", 2) == 0
    path = tmp_path / "run" / "state.pt"
    state = load_training_state(path)
    del state["model"]["source_filter"], state["model"]["vocos"]["kernel"]
    save_training_state(path, state)
    assert run(*arguments) == 0 and load_weights(tmp_path / "run" / "last.safetensors").step == 4
    capsys.readouterr()
    assert run(*arguments, "--steps", 6, "--set", "model.vocos.kernel=5") == 2
    assert "holds a run of another model (vocos.kernel 7 -> 5): choose" in capsys.readouterr().err
