"""The mark of cloned speech: found after what files suffer, never where it is not, and hardly there for the ear."""

from __future__ import annotations

import argparse
import hashlib
import json

import numpy as np
import pytest
import soundfile

import demo_cli
import evaluate
from evaluation.commands import watermark as benchmark
from evaluation.judges.naturalness import Missing
from evaluation.lists.sentences import Item, SentencePlan
from tests.conftest import ROOT
from tests.support.tiny import save_tiny_models
from utils.audio import watermark
from utils.audio.io import Waveform, read, resample, write
from utils.audio.watermark import detect, mark
from utils.errors import CloningError
from utils.version import VERSION
from utils.weights.find import DEFAULT_MODELS
from voice_cloner import VoiceCloner

pytestmark = pytest.mark.slow

CLIPS = sorted((ROOT / "samples").glob("*.wav"))
CLIP = next(path for path in CLIPS if path.stem == "austen_0890")


@pytest.fixture(scope="module")
def clone() -> Waveform:
    """A sentence of the default chain, marked as everybody's are."""
    if not (DEFAULT_MODELS / "synthesizer.safetensors").is_file():
        pytest.skip("no default weights here")
    cloner = VoiceCloner.load(device="cpu")
    cloning = cloner.clone(CLIP, "The quick brown fox jumps over the lazy dog, and runs away.", seed=1)
    assert cloning.watermark and cloning.report()["watermark"]
    return cloning.audio


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return read(CLIP).samples


def spectrum_db(samples: np.ndarray, low: float, high: float) -> float:
    power = np.abs(np.fft.rfft(samples)) ** 2
    frequencies = np.fft.rfftfreq(len(samples), 1 / 16000)
    return 10 * np.log10(power[(frequencies >= low) & (frequencies < high)].sum())


@pytest.mark.parametrize("name", benchmark.ATTACKS)
def test_the_mark_of_a_clone_outlives(name, clone):
    stored = Waveform(benchmark.stored(clone.samples), clone.sample_rate)
    damaged = benchmark.attack(name, stored, seed=0)
    assert detect(damaged.samples, damaged.sample_rate).found


@pytest.mark.parametrize("name", benchmark.ATTACKS)
@pytest.mark.parametrize("path", [p for p in CLIPS if soundfile.info(p).duration > 3], ids=lambda path: path.stem)
def test_the_mark_of_a_recording_outlives(name, path):
    wav = read(path)
    damaged = benchmark.attack(name, Waveform(mark(wav.samples, wav.sample_rate), wav.sample_rate), seed=0)
    assert detect(damaged.samples, damaged.sample_rate).found


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_any_rate_is_marked_and_read(rate, speech):
    marked = mark(resample(speech, 16000, rate), rate)
    assert detect(marked, rate).found
    assert detect(resample(marked, rate, 16000), 16000).found


def test_nothing_is_found_where_nothing_is():
    noise = np.random.default_rng(0).standard_normal(5 * 16000).astype(np.float32)
    tone = np.sin(np.arange(5 * 16000) / 7)
    periodic = np.tile(noise[: watermark.PERIOD], 20)
    for samples in [np.zeros(32000), 0.1 * noise, tone, periodic, *(read(path).samples for path in CLIPS)]:
        result = detect(samples, 16000)
        assert not result.found and result.chance > 1e-3 and np.isfinite(result.score)


def test_the_chance_of_a_score_is_no_less_often_than_stated():
    """Hoeffding's bound must hold: scores of chance p or less may come in a share p of recordings at most."""
    noise = np.random.default_rng(1).standard_normal((60, 20000))
    chances = np.array([detect(samples, 16000).chance for samples in noise])
    for limit in (0.02, 0.1, 0.5):
        assert (chances <= limit).mean() <= limit + 2 * np.sqrt(limit * (1 - limit) / 60)


def test_the_threshold_keeps_the_stated_rate_whatever_the_length():
    short, long = (detect(np.zeros(n * 16000), 16000) for n in (2, 60))
    assert short.threshold < long.threshold
    for result, stretches in ((short, 1), (long, 29)):
        assert len(result.scores) == stretches
        tests = 2 * watermark.PERIOD * (stretches + (stretches > 1))  # and the whole, where that is another
        assert tests * np.exp(-(result.threshold**2) / 2) == pytest.approx(watermark.FALSE_ALARM)


def test_the_mark_is_faint_in_its_band_and_follows_the_level(speech):
    noise = mark(speech, 16000) - speech
    distance = 10 * np.log10(np.mean(speech**2) / np.mean(noise**2))
    assert 31 < distance < 37
    inside = spectrum_db(noise, 250, 3550)
    assert spectrum_db(noise, 0, 200) < inside - 25 and spectrum_db(noise, 3700, 8000) < inside - 25
    np.testing.assert_allclose(mark(speech / 4, 16000), mark(speech, 16000) / 4, atol=1e-6)
    assert not mark(np.zeros(20000, np.float32), 16000).any()


def test_it_fades_soon_after_the_speech_and_is_not_there_before():
    burst = np.zeros(32000)
    burst[16000:17600] = np.random.default_rng(0).standard_normal(1600)
    noise = mark(burst, 16000)
    loudest = np.abs(noise[16000:17600] - burst[16000:17600]).max()
    assert not noise[: 16000 - 1024].any()
    assert np.abs(noise[17600 + 8192 :]).max() < loudest / 8  # 3 dB in each 32 ms


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [0, 1, 100, 1024, 16001])
def test_length_and_type_stay(dtype, length):
    samples = np.random.default_rng(0).standard_normal(length).astype(dtype)
    before = samples.copy()
    for rate in (16000, 22050):
        marked = mark(samples, rate)
        assert marked.shape == samples.shape and marked.dtype == dtype and np.isfinite(marked).all()
    np.testing.assert_array_equal(samples, before)


def test_the_same_samples_get_the_same_mark_and_the_chips_never_change(speech):
    np.testing.assert_array_equal(mark(speech, 16000), mark(speech, 16000))
    chips = watermark._chips()
    assert set(chips) == {-1.0, 1.0} and abs(chips.mean()) < 0.05
    digest = hashlib.sha256(np.packbits(chips > 0).tobytes()).hexdigest()
    assert digest[:16] == "591674abc38e4cb9", "files that were marked before would not be known again"


def test_pieces_of_a_stream_share_one_mark(speech):
    size = 5000
    starts = range(0, len(speech), size)
    pieces = [mark(speech[start : start + size], 16000, start) for start in starts]
    whole, joined = (detect(x, 16000).score for x in (mark(speech, 16000), np.concatenate(pieces)))
    assert joined > 0.8 * whole
    apart = np.concatenate([mark(speech[start : start + size], 16000) for start in starts])
    assert detect(apart, 16000).score < joined / 2
    np.testing.assert_allclose(
        mark(speech, 16000, watermark.PERIOD + 77), mark(speech, 16000, 77), atol=1e-7
    )  # the carrier repeats


def test_a_marked_sentence_inside_a_long_recording_is_found_and_located(speech):
    recording = np.concatenate([read(path).samples for path in CLIPS] * 2)
    where = 20 * 16000 + 123
    assert len(recording) > 30 * 16000
    recording[where : where + 4 * 16000] = mark(speech[: 4 * 16000], 16000)[: 4 * 16000]
    result = detect(recording, 16000)
    assert result.found
    at = np.argmax(result.scores) * watermark.STRIDE_SECONDS
    assert 16 < at < 24


def test_too_short_to_tell_is_said(speech):
    with pytest.raises(CloningError, match=r"0\.50 s are too short.*at least 1 s"):
        detect(speech[:8000], 16000)
    with pytest.raises(CloningError, match="too short"):
        detect(np.zeros(0), 16000)


@pytest.fixture
def files(tmp_path, speech) -> dict[str, str]:
    """A marked file, an unmarked one, a short one, by name."""
    tags = {"comment": "synthetic speech; seed 5"}
    write(tmp_path / "marked.wav", Waveform(mark(speech, 16000), 16000), metadata=tags)
    write(tmp_path / "plain.wav", Waveform(speech, 16000))
    write(tmp_path / "short.wav", Waveform(speech[:8000], 16000))
    return {path.stem: str(path) for path in tmp_path.glob("*.wav")}


@pytest.mark.parametrize(
    ("names", "code"),
    [(["marked"], 0), (["plain"], 1), (["marked", "plain"], 1), (["marked", "marked"], 0), (["marked", "short"], 2)],
)
def test_evaluate_answers_by_its_exit_code(names, code, files, tmp_path, capsys):
    assert evaluate.main(["watermark", *(files[name] for name in names), "--report", str(tmp_path / "r")]) == code
    out = capsys.readouterr().out
    assert "| yes |" in out or "marked" not in names
    assert "| no |" in out or "plain" not in names
    assert ("too short" in out) == ("short" in names)
    if "marked" in names:
        details = json.loads((tmp_path / "r" / "watermark.json").read_text(encoding="utf-8"))["details"]
        assert details[files["marked"]]["found"] and details[files["marked"]]["comment"].endswith("seed 5")
        assert details[files["marked"]]["chance"] < 1e-6
    assert "<img" in (tmp_path / "r" / "watermark.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "message"), [("short", "too short"), ("missing", "no such file")])
def test_a_file_that_tells_nothing_is_one_line_and_exit_code_2(name, message, files, tmp_path, capsys):
    path = files.get(name, str(tmp_path / "missing.wav"))
    assert evaluate.main(["watermark", path, "--report", str(tmp_path / "r")]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and err.count(path) == 1


def test_tags_are_read_and_decoders_say_nothing_of_their_own(speech, tmp_path, capfd):
    """libmpg123 writes to the terminal of recordings whose header speaks of a part of them."""
    paths = []
    for suffix in ("wav", "flac", "ogg", "opus", "mp3"):
        path = write(tmp_path / f"one.{suffix}", Waveform(speech, 16000), metadata={"comment": "seed 5"})
        paths.append(path)
    twice = tmp_path / "twice.mp3"
    twice.write_bytes(path.with_suffix(".mp3").read_bytes() * 2)
    report = benchmark.check(argparse.Namespace(files=[*paths, twice]))
    assert not report.missing and [seen["comment"] for seen in report.details.values()] == ["seed 5"] * 6
    assert capfd.readouterr() == ("", "")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return str(save_tiny_models(tmp_path_factory.mktemp("models")))


@pytest.mark.parametrize("flags", [[], ["--no-watermark"]])
def test_the_command_line_marks_unless_told_not_to(flags, models, tmp_path):
    output = tmp_path / "o.wav"
    words = ["--models", models, "--device", "cpu", "--reference", str(CLIP), "--seed", "5", "--quiet"]
    text = "This sentence has to be as long as it is, or else there is nothing that anybody could tell from it. " * 4
    assert demo_cli.main([*words, "--text", text, "--output", str(output), *flags]) == 0
    wav = read(output)
    assert wav.seconds > 1.5 and detect(wav.samples, wav.sample_rate).found == (not flags)
    with soundfile.SoundFile(output) as file:
        comment = file.comment
    cloner = VoiceCloner.load(models, device="cpu")
    stages = [f"{name} {which}" for name, which in cloner.describe().items()]
    assert comment.split("; ") == [
        "synthetic speech",
        f"voice cloning toolkit {VERSION}",
        "seed 5",
        *stages,
        "no watermark" if flags else "watermarked",
    ]
    assert all(stage.fingerprint in comment for stage in (cloner.encoder, cloner.synthesizer, cloner.vocoder))


def test_the_mark_changes_nothing_but_itself(models):
    with_mark, without = (VoiceCloner.load(models, device="cpu", watermark=flag) for flag in (True, False))
    marked, plain = (cloner.clone(CLIP, "Hello there.", seed=3).audio for cloner in (with_mark, without))
    np.testing.assert_array_equal(marked.samples, mark(plain.samples, plain.sample_rate))
    np.testing.assert_array_equal(marked.samples, with_mark.clone(CLIP, "Hello there.", seed=3).audio.samples)


def test_clips_that_are_too_short_to_measure_on_are_said(models, tmp_path, capsys):
    assert evaluate.main(["watermark", "--models", models, "--limit", "2", "--report", str(tmp_path / "r")]) == 2
    assert "no clone of 3 s or more" in capsys.readouterr().err


def test_the_benchmark_runs_on_the_bundled_clips(models, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "attempt", lambda name, judge: Missing(name, "not asked in this test"))
    text = "This sentence has to be as long as it is, or else there is nothing that anybody could tell from it. " * 4
    items = [Item(f"{k}", "austen", "sentence", text, text, CLIP) for k in range(2)]
    monkeypatch.setattr(benchmark, "load_plan", lambda corpus: SentencePlan(items, {}, []))
    report = tmp_path / "r"
    words = ["watermark", "--models", models, "--limit", "3", "--report", str(report)]
    assert evaluate.main(words) == 0
    content = json.loads((report / "watermark.json").read_text(encoding="utf-8"))
    marked, real = content["tables"]
    assert set(marked["rows"]) == set(benchmark.ATTACKS)
    assert marked["rows"]["as it is"]["clips"]["value"] == 3
    assert marked["rows"]["as it is"]["found %"]["value"] == marked["rows"]["MP3, 64 kbit/s"]["found %"]["value"] == 100
    assert real["rows"]["whole"]["found"]["value"] == 0
    assert [line["name"] for line in content["missing"]] == ["DistillMOS"]
