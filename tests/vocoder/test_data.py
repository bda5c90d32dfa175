"""Crops: a pure function of (seed, step), aligned with their mel, all of the set within a round."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.vocoder_set import HOP, make_set, voice
from utils.audio.mel import SYNTHESIZER_MEL, MelConfig, mel_spectrogram, preemphasis
from utils.data.manifest import Arrays, read_manifest
from utils.errors import CloningError
from vocoder.config import DataConfig
from vocoder.data import Crop, Crops, _usable, check_set, crop_mel, edge_frames, held_out, read_pitch, read_wav
from vocoder.preprocess import BAND_HZ, bandwidth
from vocoder.train import inputs_and_target
from vocoder.wavernn.quantize import encode_mu_law, label_to_float

ODD_MEL = MelConfig(n_fft=514, win_length=400, hop_length=120, n_mels=20, power=1.0, scale="db", preemphasis=0.5)
CONFIG = DataConfig(batch_size=3, crop_frames=10, validation_items=4, validation_seconds=0.5)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("set"))


def crops_of(manifest, config=CONFIG, mel=SYNTHESIZER_MEL, seed=1, extra=0):
    return Crops(manifest, mel, config, edge_frames(mel) + extra, seed)


def test_batch_depends_on_seed_and_step_alone(manifest):
    first, second = crops_of(manifest), crops_of(read_manifest(manifest.root, "vocoder"))
    later = [first.batch(step)["wav"] for step in (5, 1, 90)]
    for wav, step in zip(later, (5, 1, 90), strict=True):
        assert torch.equal(wav, second.batch(step)["wav"])
    assert not torch.equal(first.batch(5)["wav"], first.batch(6)["wav"])
    assert not torch.equal(first.batch(5)["wav"], crops_of(manifest, seed=2).batch(5)["wav"])


@pytest.mark.parametrize("mel", [SYNTHESIZER_MEL, ODD_MEL])
def test_crops_are_stretches_of_the_utterance_with_its_mel(manifest, mel):
    """What the mel of the whole utterance has at those frames, at the edges of the crop and of the utterance too."""
    crops, arrays = crops_of(manifest, mel=mel), Arrays(manifest.root)
    for utterance in manifest.split("train")[:2]:
        whole = torch.from_numpy(arrays.read(utterance, "wav").astype(np.float32) / 32767)
        # zeros follow the end, so the one sample that pre-emphasis leaks past it is heard
        expected = mel_spectrogram(torch.nn.functional.pad(whole, (0, 1000)), mel)
        for start in (0, 7, whole.numel() // mel.hop_length - CONFIG.crop_frames):
            wav = read_wav(arrays, Crop(utterance, start), CONFIG.crop_frames, crops.margin, mel)
            got, target = inputs_and_target({"wav": torch.from_numpy(wav)[None]}, mel)
            stop = start + CONFIG.crop_frames
            torch.testing.assert_close(got[0], expected[:, start : stop + 1], atol=2e-3, rtol=0)
            assert torch.equal(target[0], whole[start * mel.hop_length : stop * mel.hop_length])


def test_crop_mel_drops_what_saw_the_edges():
    wav = torch.randn(2, 20 * HOP)
    assert crop_mel(wav, SYNTHESIZER_MEL).shape == (2, 80, 17)
    louder = wav.clone()
    louder[:, 8 * HOP : 12 * HOP] *= 2
    same = crop_mel(wav, SYNTHESIZER_MEL)[:, :, :4] == crop_mel(louder, SYNTHESIZER_MEL)[:, :, :4]
    assert same.all()  # frame i is centered on sample (i + 2) * hop and hears two hops to each side


def test_every_stretch_comes_once_in_a_round_and_long_recordings_count_by_length(manifest):
    crops = crops_of(manifest)
    n = len(crops)
    assert n == sum(max(1, int(u.seconds / 0.125)) for u in crops.utterances) and len(crops.utterances) == 6
    seen = [crop.utterance.id for step in range(1, n + 1) for crop in crops.at(step)]  # three rounds
    expected = {u.id: 3 * int(u.seconds / 0.125) for u in crops.utterances}
    assert {id: seen.count(id) for id in expected} == expected


def test_crops_stay_inside_and_reach_both_ends(manifest):
    crops = crops_of(manifest)
    starts = {u.id: [] for u in crops.utterances}
    for step in range(1, 200):
        for crop in crops.at(step):
            starts[crop.utterance.id].append(crop.start)
            assert 0 <= crop.start <= crop.utterance.frames - 1 - CONFIG.crop_frames
    for utterance in crops.utterances:
        assert min(starts[utterance.id]) == 0
        assert max(starts[utterance.id]) >= utterance.frames - 1 - CONFIG.crop_frames - CONFIG.crop_frames // 2


def test_gain_is_at_random_and_within_bounds(manifest):
    crops = crops_of(manifest, DataConfig(batch_size=3, crop_frames=10, min_gain_db=-12.0))
    gains = np.array([crop.gain for step in range(1, 60) for crop in crops.at(step)])
    assert gains.min() >= 10 ** (-12 / 20) and gains.max() <= 1 and gains.std() > 0.1
    assert all(crop.gain == 1 for crop in crops_of(manifest).at(3))


def test_teacher_forced_mels_come_with_their_waveform(tmp_path):
    ramp = np.arange(200, dtype=np.float32)[:, None] / 64 + np.linspace(0, 0.5, 80, dtype=np.float32)
    manifest = make_set(tmp_path, mel=ramp.astype(np.float16))
    config = DataConfig(batch_size=4, crop_frames=10, teacher_forced=True, min_gain_db=-12.0)
    for extra in (0, 2):  # WaveRNN reads `pad` frames more on each side
        crops = crops_of(manifest, config, extra=extra)
        batch, chosen = crops.batch(3), crops.at(3)
        assert batch["mel"].shape == (4, 80, 11 + 2 * extra)
        for mel, crop in zip(batch["mel"], chosen, strict=True):
            assert crop.gain == 1
            frames = mel[0, extra : extra + 11]
            expected = torch.arange(crop.start, crop.start + 11) / 64
            torch.testing.assert_close(frames, expected, atol=2e-3, rtol=0)
    with pytest.raises(CloningError, match="without teacher-forced mels.*: preprocess with a synthesizer"):
        crops_of(make_set(tmp_path / "plain"), config)


@pytest.mark.parametrize("extra", [0, 2])
def test_a_set_held_on_the_device_gives_the_same_batches(tmp_path, extra):
    ramp = np.random.default_rng(0).uniform(-4, 4, (200, 80)).astype(np.float16)
    manifest = make_set(tmp_path, mel=ramp)
    for forced in (False, True):
        config = DataConfig(batch_size=8, crop_frames=10, teacher_forced=forced, min_gain_db=-12.0)
        cut, held = (
            Crops(manifest, SYNTHESIZER_MEL, config, edge_frames(SYNTHESIZER_MEL) + extra, 1, pitch=True)
            for _ in range(2)
        )
        held.load(torch.device("cpu"))
        for step in range(1, 12):
            expected, got = cut.batch(step), held.batch(step)
            assert set(got) == set(expected) == {"wav", "pitch", *(["mel"] if forced else [])}
            for name, value in expected.items():
                torch.testing.assert_close(got[name], value, atol=1e-6, rtol=1e-6)
        tensors = (held.resident.wav, held.resident.pitch, *([held.resident.mels] if forced else []))
        assert held.bytes() == sum(tensor.nbytes for tensor in tensors)


def test_pitch_of_a_crop_is_that_of_the_utterance(manifest):
    crops = Crops(manifest, SYNTHESIZER_MEL, CONFIG, edge_frames(SYNTHESIZER_MEL), 1, pitch=True)
    for step in range(1, 30):
        for pitch, crop in zip(crops.batch(step)["pitch"], crops.at(step), strict=True):
            whole = Arrays(manifest.root).read(crop.utterance, "pitch")
            assert np.array_equal(pitch.numpy(), whole[crop.start : crop.start + 11].astype(np.float32))
            assert np.count_nonzero(pitch)
    past_the_end = read_pitch(crops.arrays, Crop(crops.utterances[0], crops.utterances[0].frames - 3), 10)
    assert past_the_end.shape == (11,) and not past_the_end[3:].any()


def test_narrow_speech_is_left_out(tmp_path):
    manifest = make_set(tmp_path)
    for utterance in manifest.utterances:
        utterance.extra["bandwidth"] = 5750 if utterance.id.endswith("0") else 7000
    kept = crops_of(manifest, DataConfig(crop_frames=10, min_bandwidth=7000.0)).utterances
    assert [u.id for u in kept] == ["made-a/1", "made-a/2", "made-b/1", "made-b/2"]
    with pytest.raises(CloningError, match="all 6 train utterances are narrower than .* 7500 Hz.* to 7000"):
        crops_of(manifest, DataConfig(crop_frames=10, min_bandwidth=7500.0))


@pytest.mark.parametrize("limit", [3000, 5500, 7000])
def test_bandwidth_is_where_the_speech_ends(limit):
    rng = np.random.default_rng(limit)
    spectrum = np.fft.rfft(rng.standard_normal(32000) * (1 + np.sin(np.arange(32000) / 2500)))
    hz = np.fft.rfftfreq(32000, 1 / 16000)
    falling = spectrum * 10 ** (-np.minimum(hz, 6000) / 6000 * 40 / 20)  # as speech does, by 40 dB
    hiss = 1e-4 * rng.standard_normal(32000)
    wide = np.fft.irfft(falling) + hiss
    narrow = np.fft.irfft(falling * (hz < limit)) + hiss
    assert bandwidth(wide.astype(np.float32), 16000) == 8000
    assert limit <= bandwidth(narrow.astype(np.float32), 16000) <= limit + 2 * BAND_HZ


def test_held_out_clips_are_of_held_out_speakers_and_always_the_same(manifest):
    clips = held_out(manifest, SYNTHESIZER_MEL, CONFIG)
    assert [len(c.wav) for c in clips] == [8000, 8000, 4800]
    again = held_out(manifest, SYNTHESIZER_MEL, CONFIG)
    assert all(np.array_equal(a.wav, b.wav) for a, b in zip(clips, again, strict=True))
    whole = Arrays(manifest.root).read(manifest.split("validation")[0], "wav") / 32767
    np.testing.assert_allclose(clips[0].wav, whole[4000:12000], atol=1e-6)
    mel, wav = clips[0].tensors(SYNTHESIZER_MEL)
    assert mel.shape == (1, 80, 41) and wav.shape == (1, 8000)


def test_refuses_what_it_cannot_use(manifest, tmp_path):
    with pytest.raises(
        CloningError, match="all 6 train .* shorter than a crop of 12.51 s: set data.crop_frames to 127"
    ):
        crops_of(manifest, DataConfig(crop_frames=1000))
    assert len(crops_of(manifest, DataConfig(crop_frames=127)).utterances) == 2
    lonely = make_set(tmp_path)
    for utterance in lonely.utterances:
        object.__setattr__(utterance, "split", "train")
    (aside,) = (u.id for u in _usable(lonely, "validation", SYNTHESIZER_MEL, CONFIG))
    learned = {u.id for u in crops_of(lonely).utterances}
    assert len(held_out(lonely, SYNTHESIZER_MEL, CONFIG)) == 1 and aside not in learned and len(learned) == 8
    with pytest.raises(CloningError, match="audio at 16000 Hz, the model wants 22050"):
        check_set(manifest, MelConfig(sample_rate=22050))
    del manifest.header["pitch"]
    check_set(manifest, SYNTHESIZER_MEL)
    with pytest.raises(CloningError, match="made before pitch was stored: preprocess again"):
        check_set(manifest, SYNTHESIZER_MEL, pitch=True)
    with pytest.raises(ValueError, match="min_gain_db is 1.0; it must be -100 to 0"):
        DataConfig(min_gain_db=1.0)


def test_recorded_training_items(shared_golden):
    """Labels and frames of the published data set, from the recorded mels' clips."""
    import soundfile

    recorded = np.load(shared_golden / "train_data.npz")
    offsets = recorded["collate/offsets"]
    for row, clip in enumerate(("1320", "3575", "6829")):
        labels = recorded[f"{clip}/quant"]
        start = (int(offsets[row]) + 2) * HOP
        x = label_to_float(torch.from_numpy(labels[start : start + 1000].astype(np.int64)), 512)
        np.testing.assert_allclose(x, recorded["collate/x"][row], atol=1e-6)
        assert np.array_equal(labels[start + 1 : start + 1001], recorded["collate/y"][row])
    raw, rate = soundfile.read(shared_golden / "clips" / "1320.wav", dtype="float32")
    assert rate == 16000
    emphasized = preemphasis(torch.from_numpy(raw) * (0.9 / np.abs(raw).max()), 0.97).clamp(-1, 1)
    labels = encode_mu_law(emphasized, 512).numpy()
    # the recorded item was trimmed of silence first, by whole windows of the VAD: find where it lies in the clip
    probe = recorded["1320/quant"][20000:20400]
    windows = np.lib.stride_tricks.sliding_window_view(labels, 400)[20000:30000:80]
    differing = np.abs(windows - probe)
    assert (differing.max(axis=1) <= 1).sum() == 1 and differing.sum(axis=1).min() <= 1


def test_voices_differ():
    assert np.abs(voice(0.2, 1)).max() == pytest.approx(0.9) and not np.array_equal(voice(0.2, 1), voice(0.2, 2))
