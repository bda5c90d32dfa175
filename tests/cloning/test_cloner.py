"""The chain: same seed, same samples; stages that do not fit are refused; references in all forms."""

from __future__ import annotations

import dataclasses
from typing import get_type_hints

import numpy as np
import pytest

import demo_cli
from cloning.cloner import VoiceCloner, speech_options
from synthesizer.speech import SpeechArguments, SpeechOptions
from tests.conftest import DATA, ROOT
from tests.support import tiny
from tests.support.tiny import save_tiny_models
from utils.audio.io import Waveform, read
from utils.audio.mel import SYNTHESIZER_MEL, SYNTHESIZER_MEL_22K
from utils.audio.watermark import mark
from utils.config import to_dict
from utils.errors import CloningError, MismatchError
from utils.voice import Voice
from utils.weights.checkpoint import Header, load_weights, save_weights
from web.work import explain

CLIP = ROOT / "samples" / "austen_0890.wav"
TEXT = "Hello there. {G UH D} morning!"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return save_tiny_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def cloner(models):
    return VoiceCloner.load(models, device="cpu")


def test_the_same_seed_gives_the_same_samples(cloner):
    first, again, other = (cloner.clone(CLIP, TEXT, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.audio.samples, again.audio.samples)
    assert not np.array_equal(first.audio.samples, other.audio.samples)


def test_several_texts_at_once_come_out_as_one_by_one(cloner):
    texts = ["Hello there. Who is it?", "No.", "See you all tomorrow, then."]
    many = cloner.clone_many(CLIP, texts, seed=3)
    assert len(many) == 3 and cloner.clone_many(CLIP, [], seed=3) == []
    for text, found in zip(texts, many, strict=True):
        alone = cloner.clone(CLIP, text, seed=3)
        assert [p.text for p in found.pieces] == [p.text for p in alone.pieces]
        assert found.audio.samples.shape == alone.audio.samples.shape
        np.testing.assert_allclose(found.mel, alone.mel, atol=1e-3)
        assert found.times == alone.times and found.notes == alone.notes and found.seed == alone.seed == 3
    shares = [c.seconds["synthesizer"] / c.mel.shape[1] for c in many]
    assert shares == pytest.approx([shares[0]] * 3) and all(c.seconds["vocoder"] > 0 for c in many)


def test_one_text_is_not_taken_for_a_list_of_its_letters(cloner, monkeypatch):
    monkeypatch.setattr(type(cloner), "_voice", lambda *_: pytest.fail("it is known before the reference is read"))
    voice = np.ones(cloner.encoder.embedding_size, np.float32)
    for speak in (
        lambda: cloner.clone_many(CLIP, "Hi"),
        lambda: cloner.synthesizer.speak_many("Hi", voice),
        lambda: cloner.synthesizer.synthesize("Hi", voice),
    ):
        with pytest.raises(TypeError, match="'Hi' is one text, a list of texts is wanted"):
            speak()
    for text, message in ((["Hi.", "Ho."], "not list; clone_many"), (None, "not NoneType"), (7, "not int")):
        with pytest.raises(TypeError, match=f"a text is a str, or a list of sentences, {message}"):
            cloner.clone(CLIP, text)
    for texts in (None, 7, {"a": 1}, (text for text in ["Hi."]), b"Hi."):
        with pytest.raises(TypeError, match=f"texts is of type {type(texts).__name__}; a list of texts is wanted"):
            cloner.clone_many(CLIP, texts)
    with pytest.raises(TypeError, match="a text is a str, or a list of sentences, not list"):
        cloner.clone(CLIP, [])


@pytest.mark.parametrize("text", [["Hi."], None, 7, b"Hi."])
def test_what_is_no_text_is_refused_by_all_ways_of_speaking(cloner, text):
    voice = cloner.embed_voice(CLIP)
    for speak in (cloner.clone, cloner.stream, cloner.follow):
        with pytest.raises(TypeError, match=f"a text is a str, or a list of sentences, not {type(text).__name__}"):
            speak(voice, text)


def test_a_stream_is_the_cloning_in_pieces(models):
    text = "Hello there. And good morning to you all! Goodbye."
    plain = VoiceCloner.load(models, device="cpu", watermark=False)
    whole = plain.clone(CLIP, text, seed=1, rate=0.8).audio.samples
    pieces = list(plain.stream(CLIP, text, seed=1, rate=0.8))
    assert len(pieces) > 1 and {piece.sample_rate for piece in pieces} == {16000}
    joined = np.concatenate([piece.samples for piece in pieces])
    np.testing.assert_allclose(joined, whole, rtol=0, atol=1e-3 * np.abs(whole).max())


def test_a_stream_begins_before_the_second_sentence_is_made(models, monkeypatch):
    cloner = VoiceCloner.load(models, device="cpu")
    made = []
    synthesize = type(cloner.synthesizer).synthesize

    def counted(self, texts, *args, **named):
        made.extend(texts)
        return synthesize(self, texts, *args, **named)

    monkeypatch.setattr(type(cloner.synthesizer), "synthesize", counted)
    stream = cloner.stream(CLIP, "Hello there, and good morning to you all! Goodbye.", seed=1, rate=0.5)
    next(stream)
    assert made == ["Hello there, and good morning to you all!"]
    list(stream)
    assert made[1:] == ["Goodbye."]


def test_speech_that_is_followed_adds_up_to_the_cloning(cloner):
    text = "Hello there. And good morning to you all! Goodbye \N{GRINNING FACE}."
    whole = cloner.clone(CLIP, text, seed=1, rate=0.8)
    speaking = cloner.follow(CLIP, text, seed=1, rate=0.8)
    with pytest.raises(CloningError, match="nothing has been said yet"):
        speaking.cloning()
    pieces = list(speaking)
    added = speaking.cloning()
    assert speaking.begun == 3 and sum(map(len, pieces)) == len(added.audio)
    np.testing.assert_allclose(added.audio.samples, whole.audio.samples, rtol=0, atol=2e-3 * whole.audio.peak)
    np.testing.assert_allclose(added.mel, whole.mel, rtol=0, atol=1e-3)
    assert added.notes == whole.notes and len(added.notes) > 0
    assert added.tags() == whole.tags() and added.similarity == pytest.approx(whole.similarity, abs=1e-3)
    assert list(added.seconds) == list(whole.seconds) and min(added.seconds.values()) > 0


def test_speech_can_be_left_in_the_middle(cloner):
    speaking = cloner.follow(CLIP, "Hello there, and good morning to you all! Goodbye.", seed=1, rate=0.5)
    first = next(speaking)
    part = speaking.cloning()
    assert speaking.begun == 1 and len(part.audio) == len(first) and [p.text[:5] for p in part.pieces] == ["Hello"]


def test_a_stream_is_marked(models):
    text = "Hello there, and good morning to all of you who came. Goodbye to all of you who came."
    loud = VoiceCloner.load(models, device="cpu")
    pieces = [piece.samples for piece in loud.stream(CLIP, text, seed=1, rate=0.5)]
    plain = VoiceCloner.load(models, device="cpu", watermark=False)
    unmarked = [piece.samples for piece in plain.stream(CLIP, text, seed=1, rate=0.5)]
    start = 0
    for with_mark, without in zip(pieces, unmarked, strict=True):
        np.testing.assert_array_equal(with_mark, mark(without, 16000, start))
        start += len(without)


def test_a_stream_refuses_at_once(cloner, models):
    with pytest.raises(CloningError, match="nothing that can be spoken"):
        cloner.stream(CLIP, " ")
    with pytest.raises(CloningError, match="rate is 9; it must be"):
        cloner.stream(CLIP, "Hello.", rate=9)
    with pytest.raises(CloningError, match="griffin-lim cannot stream"):
        VoiceCloner.load(models, vocoder="griffin-lim", device="cpu").stream(CLIP, "Hello.")


def test_a_seed_is_drawn_and_told_when_none_is_given(cloner):
    drawn = cloner.clone(CLIP, "Hello.")
    np.testing.assert_array_equal(drawn.audio.samples, cloner.clone(CLIP, "Hello.", seed=drawn.seed).audio.samples)


def test_a_cloning_says_how_it_came_about(cloner):
    heard = []
    cloning = cloner.clone(CLIP, TEXT, seed=1, progress=heard.append)
    assert heard == ["encoder", "synthesizer", "vocoder"] == list(cloning.seconds)
    assert len(cloning.audio) == (cloning.mel.shape[1] - 1) * SYNTHESIZER_MEL.hop_length
    assert -1 <= cloning.similarity <= 1
    report = cloning.report()
    assert report["seed"] == 1 and [s["stop_reason"] for s in report["sentences"]] == ["durations", "durations"]
    assert report["real_time_factor"] == pytest.approx(sum(cloning.seconds.values()) / cloning.audio.seconds, abs=1e-3)
    assert set(report["models"]) == {"encoder", "synthesizer", "vocoder"}


def test_a_reference_may_be_a_path_bytes_a_file_an_array_or_a_waveform(cloner):
    wav = read(CLIP)
    wanted = cloner.embed_reference(CLIP)
    assert np.linalg.norm(wanted) == pytest.approx(1, abs=1e-5)
    with CLIP.open("rb") as file:
        for source in (str(CLIP), CLIP.read_bytes(), file, wav.samples, wav):
            np.testing.assert_allclose(cloner.embed_reference(source), wanted, atol=1e-6)


def test_several_references_count_equally(cloner):
    clips = [CLIP, ROOT / "samples" / "austen_0870.wav"]
    one, two = (cloner.embed_reference(clip) for clip in clips)
    both = one + two
    np.testing.assert_allclose(cloner.embed_reference(clips), both / np.linalg.norm(both), atol=1e-5)


def test_a_saved_voice_says_what_its_recording_says(cloner, tmp_path):
    voice = cloner.embed_voice(CLIP)
    voice.save(tmp_path / "ann.safetensors")
    wanted = cloner.clone(CLIP, TEXT, seed=1)
    for reference in (voice, tmp_path / "ann.safetensors", [str(tmp_path / "ann.safetensors")]):
        cloning = cloner.clone(reference, TEXT, seed=1)
        np.testing.assert_array_equal(cloning.audio.samples, wanted.audio.samples)
        assert cloning.notes == wanted.notes and cloning.similarity == wanted.similarity
    assert voice.pitch_hz is not None and voice.seconds is not None and voice.level is not None


def test_a_voice_of_another_encoder_is_refused_and_frames_of_another_synthesizer_are_left_out(cloner, models):
    voice = cloner.embed_voice(CLIP)
    with pytest.raises(MismatchError, match="made by encoder feedbeef, this one is .* from its recordings") as error:
        cloner.clone(dataclasses.replace(voice, encoder="feedbeef"), TEXT)
    assert "\n" not in str(error.value)
    lenient = VoiceCloner.load(models, device="cpu", allow_mismatch=True)
    assert lenient.clone(dataclasses.replace(voice, encoder="feedbeef"), TEXT, seed=1).audio.seconds > 0
    facts = {"prompt": np.zeros((9, 7), np.float32), "pace": 1.9, "compensation": {"frames": np.ones(2, np.float32)}}
    found, clips = cloner._voice(dataclasses.replace(voice, **facts, synthesizer="feedbeef"))
    assert (
        found.prompt is None
        and found.pace is None
        and found.compensation is None
        and found.pitch == voice.pitch
        and clips == []
    )


def test_a_synthesizer_that_uses_facts_of_a_voice_gets_them_from_a_saved_one(tmp_path, monkeypatch):
    told = dataclasses.replace(tiny.TINY_PARALLEL, voice_statistics=True, prompt_tokens=4, prompt_width=8)
    cloner = VoiceCloner.load(save_tiny_models(tmp_path / "models", parallel=told), device="cpu")
    network, measured = cloner.synthesizer.network, []
    pace = network.pace
    monkeypatch.setattr(network, "pace", lambda mel: measured.append(pace(mel)) or measured[-1])
    voice = cloner.embed_voice(CLIP)
    seconds = cloner.synthesizer.mel.frame_seconds
    assert voice.pace == pytest.approx(np.log(np.exp(measured[0]) * seconds))  # of a phone, whatever the frames
    assert float(cloner.synthesizer.voice_input(voice).voice_statistics[0, 2]) == measured[0]
    assert voice.prompt is not None and voice.prompt.shape == (4, 8)
    assert voice.synthesizer == cloner.synthesizer.fingerprint and voice.phones_per_second is not None
    voice.save(tmp_path / "ann.safetensors")
    first, second = (cloner.clone(r, TEXT, seed=1).audio for r in (CLIP, tmp_path / "ann.safetensors"))
    np.testing.assert_array_equal(first.samples, second.samples)
    with pytest.raises(CloningError, match=r"its prompt is of shape \(9, 7\), not \(4, 8\): make it anew"):
        cloner.clone(dataclasses.replace(voice, prompt=np.zeros((9, 7), np.float32)), TEXT)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("missing.wav", "no such file: missing.wav"),
        (Waveform(np.zeros(16000, np.float32), 16000), "silence only"),
        (Waveform(read(CLIP).samples[:12000], 16000), r"found 0\.\d\d s .* at least 1\.00 s is wanted"),
        ([], "no reference clip given"),
        ([Voice(np.eye(1, 256)[0].astype(np.float32), "x"), CLIP], "a voice stands where recordings are wanted"),
    ],
)
def test_a_bad_reference_is_refused_in_one_line(cloner, reference, message):
    with pytest.raises(CloningError, match=message) as error:
        cloner.clone(reference, TEXT)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "  \n", "...", "🙂"])
def test_a_text_with_nothing_to_say_is_refused(cloner, text):
    with pytest.raises(CloningError, match="nothing that can be spoken"):
        cloner.clone(CLIP, text)


def test_rate_and_pause_change_the_duration(cloner):
    plain = cloner.clone(CLIP, TEXT, seed=1).audio.seconds
    assert cloner.clone(CLIP, TEXT, seed=1, rate=2).audio.seconds < 0.7 * plain
    assert cloner.clone(CLIP, TEXT, seed=1, pause=5).audio.seconds > plain
    with pytest.raises(CloningError, match="rate is .*; it must be 0.25 to 4"):
        cloner.clone(CLIP, TEXT, rate=9)


def test_stages_with_different_mels_are_refused(tmp_path, capsys):
    other = dataclasses.replace(SYNTHESIZER_MEL, fmax=8000.0)
    folder = save_tiny_models(tmp_path, vocoder_mel=other)
    with pytest.raises(MismatchError, match=r"\(fmax: 7600.0 != 8000.0\); allow_mismatch=True") as caught:
        VoiceCloner.load(folder, device="cpu")
    assert "'Allow stages that do not fit'" in explain(caught.value)
    request = ["--models", str(folder), "--reference", str(CLIP), "--text", "Hi.", "--output", str(tmp_path / "o.wav")]
    assert demo_cli.main(request) == 2 and "(here: --allow-mismatch)" in capsys.readouterr().err
    assert VoiceCloner.load(folder, device="cpu", allow_mismatch=True)


def test_an_encoder_that_the_synthesizer_does_not_know_is_refused(models, tmp_path):
    other = save_tiny_models(tmp_path / "other", embedding_size=64)
    with pytest.raises(CloningError, match="the encoder gives 64 numbers, the synthesizer wants 256"):
        VoiceCloner.load(models, encoder=other / "encoder.safetensors", device="cpu")
    with pytest.raises(CloningError, match=r"trained with encoder [0-9a-f]{16}, this one is [0-9a-f]{16}"):
        VoiceCloner.load(models, synthesizer=DATA / "tacotron_tiny.pt", device="cpu")


def assert_speaks(cloner: VoiceCloner) -> None:
    """Audio as long as its mel, and the same again with the same seed, another with another."""
    one, again, other = (cloner.clone(CLIP, "Hi.", seed=seed) for seed in (3, 3, 4))
    assert len(one.audio) == (one.mel.shape[1] - 1) * SYNTHESIZER_MEL.hop_length > 0
    np.testing.assert_array_equal(one.audio.samples, again.audio.samples)
    assert not np.array_equal(one.audio.samples, other.audio.samples)


def test_published_layouts_make_a_chain(models):
    cloner = VoiceCloner.load(
        models, synthesizer=DATA / "tacotron_tiny.pt", vocoder=DATA / "wavernn_tiny.pt", device="cpu",
        allow_mismatch=True,
    )  # fmt: skip
    assert_speaks(cloner)


def test_griffin_lim_reads_the_mel_of_any_synthesizer(models, tmp_path):
    weights = load_weights(models / "synthesizer.safetensors")
    wide = tmp_path / "wide.safetensors"
    save_weights(
        wide,
        Header("synthesizer", weights.config, mel=to_dict(SYNTHESIZER_MEL_22K), extra=weights.extra),
        weights.state,
    )
    cloner = VoiceCloner.load(models, synthesizer=wide, vocoder="griffin-lim", device="cpu")
    assert cloner.clone(CLIP, "Hi.", seed=3).audio.sample_rate == 22050


def test_griffin_lim_needs_no_weights(models):
    assert_speaks(VoiceCloner.load(models, vocoder="griffin-lim", device="cpu"))


def test_tacotron_speaks_characters(tmp_path):
    cloning = VoiceCloner.load(save_tiny_models(tmp_path, model="tacotron"), device="cpu").clone(CLIP, "Hi.", seed=3)
    assert set(cloning.stop_reasons) <= {"token", "alignment", "limit"} and len(cloning.audio) > 0


def test_a_missing_model_says_what_was_looked_for(tmp_path):
    with pytest.raises(CloningError, match=r"no encoder.safetensors or .pt in it"):
        VoiceCloner.load(tmp_path, device="cpu")


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(CloningError, match="choose auto, cpu, cuda or mps"):
        VoiceCloner.load(device="tpu")


def test_how_to_speak_is_said_by_the_fields_of_the_options(cloner):
    options = speech_options(rate=2.0, pitch=3.0, seed=7)
    assert (options.rate, options.pitch, options.seed, options.pause) == (2.0, 3.0, 7, 1.0)
    assert get_type_hints(SpeechArguments) == get_type_hints(SpeechOptions)
    assert speech_options().seed is not None
    with pytest.raises(CloningError, match="exclude each other"):
        speech_options(emotion="happy", emotion_reference=CLIP)
    for speak in (cloner.clone, cloner.stream, cloner.follow):
        with pytest.raises(CloningError, match="pitch is 13; it must be -12 to 12"):
            speak(CLIP, "One.", pitch=13)
        with pytest.raises(TypeError, match="no option speed; there are rate, pause, .*emotion_reference"):
            speak(CLIP, "One.", speed=2.0)
