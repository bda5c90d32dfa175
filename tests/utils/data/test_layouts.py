"""Every known corpus is recognized for what it is."""

from __future__ import annotations

import pytest

from tests.support.corpora import make
from utils.data.corpora import EMOTIONS, scan
from utils.errors import CloningError


def test_librispeech(tmp_path):
    make(
        tmp_path,
        "LibriSpeech/test-clean/61/70968/61-70968-0000.flac",
        "LibriSpeech/test-clean/61/70968/61-70968-0001.flac",
        "LibriSpeech/test-clean/61/70968/61-70968.trans.txt=61-70968-0000 HE BEGAN A  PLEA\n",
        "LibriSpeech/SPEAKERS.TXT=61 | M | test-clean",
    )
    found = scan(tmp_path / "LibriSpeech")
    first, second = found.clips
    assert (first.id, first.speaker, first.text) == ("librispeech/61-70968-0000", "librispeech-61", "HE BEGAN A  PLEA")
    assert second.text is None and second.emotion is None
    assert first.path.is_absolute() and first.path.is_file()
    assert first.source == "test-clean/61/70968/61-70968-0000.flac"
    assert found.layouts == {"librispeech": 2} and found.not_understood == []


def test_libritts_shares_speakers_with_librispeech(tmp_path):
    stem = "LibriTTS/dev-clean/84/121123/84_121123_000007_000001"
    make(tmp_path, f"{stem}.wav", f"{stem}.normalized.txt=Mister Two.", f"{stem}.original.txt=Mr. 2.")
    stem = "LibriTTS/dev-clean/84/121123/84_121123_000008_000000"
    make(tmp_path, f"{stem}.wav", f"{stem}.original.txt=Mr. 3.", f"{stem}.normalized.txt=")
    make(tmp_path, "LibriSpeech/dev-clean/84/121123/84-121123-0000.flac")
    found = scan(tmp_path)
    assert {clip.speaker for clip in found.clips} == {"librispeech-84"}
    assert [clip.text for clip in found.clips] == [None, "Mister Two.", "Mr. 3."]
    assert found.layouts == {"librispeech": 1, "libritts": 2}


def test_vctk_takes_one_microphone(tmp_path):
    make(
        tmp_path,
        "VCTK/wav48_silence_trimmed/p225/p225_001_mic1.flac",
        "VCTK/wav48_silence_trimmed/p225/p225_001_mic2.flac",
        "VCTK/wav48_silence_trimmed/p280/p280_002_mic2.flac",  # where the first failed
        "VCTK/wav48_silence_trimmed/s5/s5_003_mic1.flac",
        "VCTK/txt/p225/p225_001.txt=Please call Stella.\n",
    )
    found = scan(tmp_path)
    assert [(c.id, c.speaker, c.text) for c in found.clips] == [
        ("vctk/p225_001", "vctk-p225", "Please call Stella."),
        ("vctk/p280_002", "vctk-p280", None),
        ("vctk/s5_003", "vctk-s5", None),
    ]
    assert found.clips[0].path.name == "p225_001_mic1.flac"
    assert [(p.name, r) for p, r in found.not_understood] == [
        ("p225_001_mic2.flac", "second microphone: p225_001_mic1.flac is taken")
    ]


def test_vctk_of_the_first_release(tmp_path):
    make(tmp_path, "VCTK-Corpus/wav48/p226/p226_001.wav", "VCTK-Corpus/txt/p226/p226_001.txt=Please.")
    assert scan(tmp_path).clips[0].text == "Please."


@pytest.mark.parametrize("base", ["vox1_dev_wav/wav", "vox2/dev/flac"])
def test_voxceleb(tmp_path, base):
    make(tmp_path, f"{base}/id10001/1zcIwhmdeo4/00001.wav", f"{base}/id10001/-_cIwhmdeo4/00001.wav")
    found = scan(tmp_path)
    assert {c.speaker for c in found.clips} == {"voxceleb-id10001"} and len(found.clips) == 2
    assert found.clips[1].id == "voxceleb/id10001/1zcIwhmdeo4/00001"


def test_voxceleb_in_aac_is_read_and_what_nobody_decodes_is_listed_with_the_remedy(tmp_path):
    make(tmp_path, "dev/aac/id00012/21Uxsk56VDQ/00001.m4a", "dev/aac/id00012/21Uxsk56VDQ/00002.ape")
    found = scan(tmp_path)
    ((path, reason),) = found.not_understood
    assert [clip.path.name for clip in found.clips] == ["00001.m4a"]
    assert path.name == "00002.ape" and "ffmpeg -i 00002.ape 00002.flac" in reason


def test_common_voice_prefers_validated(tmp_path):
    client = "0123456789abcdef" * 8
    header = "client_id\tpath\tsentence\tup_votes\n"
    rows = f'{client}\tcommon_voice_en_1.mp3\tHe said "no.\t2\n'
    make(
        tmp_path,
        "cv/en/clips/common_voice_en_1.mp3",
        "cv/en/clips/common_voice_en_2.mp3",
        f"cv/en/validated.tsv={header}{rows}",
        f"cv/en/train.tsv={header}{client}\tcommon_voice_en_2.mp3\tOther.\t0\n",
    )
    found = scan(tmp_path)
    (clip,) = found.clips
    assert (clip.speaker, clip.text) == ("commonvoice-0123456789abcdef", 'He said "no.')
    assert [(p.name, r) for p, r in found.not_understood] == [("common_voice_en_2.mp3", "not in validated.tsv")]
    (tmp_path / "cv/en/validated.tsv").unlink()
    assert [c.text for c in scan(tmp_path).clips] == ["Other."]
    (tmp_path / "cv/en/train.tsv").unlink()
    with pytest.raises(CloningError, match="speaker is unknown"):
        scan(tmp_path)


@pytest.mark.parametrize(
    ("path", "speaker", "text", "emotion"),
    [
        ("AudioWAV/1001_DFA_ANG_XX.wav", "cremad-1001", "Don't forget a jacket.", "angry"),
        ("AudioWAV/1091_IEO_FEA_HI.wav", "cremad-1091", "It's eleven o'clock.", "fear"),
        ("AudioWAV/1040_ITH_SAD_X.wav", "cremad-1040", "I think I have a doctor's appointment.", "sad"),
        ("AudioWAV/1002_TIE_DIS_XX.wav", "cremad-1002", "That is exactly what happened.", None),
        ("Actor_01/03-01-01-01-01-01-01.wav", "ravdess-01", "Kids are talking by the door.", "neutral"),
        ("Actor_24/03-01-08-02-02-01-24.wav", "ravdess-24", "Dogs are sitting by the door.", "surprised"),
        ("Actor_02/03-01-02-01-01-01-02.wav", "ravdess-02", "Kids are talking by the door.", None),  # calm
        ("Actor_03/03-01-06-01-01-01-03.wav", "ravdess-03", "Kids are talking by the door.", "fear"),
        ("TESS/OAF_Fear/OAF_back_fear.wav", "tess-OAF", "Say the word back.", "fear"),
        ("TESS/YAF_pleasant_surprised/YAF_back_ps.wav", "tess-YAF", "Say the word back.", "surprised"),
        ("TESS/OAF_neutral/OA_bite_neutral.wav", "tess-OAF", "Say the word bite.", "neutral"),
        ("ESD/0011/Surprise/0011_001401.wav", "esd-0011", None, "surprised"),
        ("ESD/0011/Happy/train/0011_000701.wav", "esd-0011", None, "happy"),
        ("EmoV-DB/bea_Amused/amused_1-28_0001.wav", "emovdb-bea", None, None),
        ("EmoV-DB/sam/Angry/anger_1-28_0001.wav", "emovdb-sam", None, "angry"),
    ],
)
def test_emotions(tmp_path, path, speaker, text, emotion):
    make(tmp_path, path)
    (clip,) = scan(tmp_path).clips
    assert (clip.speaker, clip.text, clip.emotion) == (speaker, text, emotion)
    assert emotion is None or emotion in EMOTIONS


def test_ravdess_songs_are_not_speech(tmp_path):
    make(tmp_path, "Actor_01/03-01-01-01-01-01-01.wav", "Actor_01/03-02-01-01-01-01-01.wav")
    found = scan(tmp_path)
    assert len(found.clips) == 1 and found.not_understood[0][1] == "sung, not spoken"


def test_esd_transcripts_in_any_of_its_encodings(tmp_path):
    rows = "0012_000351\tThe nine the eggs, I keep.\tAngry\n"
    make(tmp_path, "ESD/0012/Angry/0012_000351.wav")
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "latin-1"):
        (tmp_path / "ESD/0012/0012.txt").write_bytes(rows.replace("keep", "kéep").encode(encoding))
        assert scan(tmp_path).clips[0].text == "The nine the eggs, I kéep."


def test_speechocean_both_layouts(tmp_path):
    make(
        tmp_path,
        "a/speechocean762/WAVE/SPEAKER0001/000010011.WAV",
        "a/speechocean762/train/text=000010011\tWE CALL IT BEAR\n",
        "b/speechocean762/WAVE/0003/000030012.opus",
        "b/speechocean762/WAVE/0003/000030012.txt=THE GOOD NEWS\n",
    )
    assert [(c.id, c.speaker, c.text) for c in scan(tmp_path).clips] == [
        ("speechocean762/000010011", "speechocean762-0001", "WE CALL IT BEAR"),
        ("speechocean762/000030012", "speechocean762-0003", "THE GOOD NEWS"),
    ]


def test_an4_both_layouts(tmp_path):
    make(
        tmp_path,
        "a/an4/wav/an4_clstk/fash/an251-fash-b.sph",
        "a/an4/etc/an4_train.transcription=<s> YES </s> (an251-fash-b)\n",
        "b/an4/an4_flmm2/cen8-flmm2-b.opus",
        "b/an4/an4_flmm2/cen8-flmm2-b.txt=MARCH THIRD",
    )
    assert [(c.speaker, c.text) for c in scan(tmp_path).clips] == [("an4-fash", "YES"), ("an4-flmm2", "MARCH THIRD")]


def test_speech_commands_both_layouts(tmp_path):
    make(
        tmp_path,
        "a/yes/004ae714_nohash_0.wav",
        "a/no/004ae714_nohash_0.wav",
        "a/_background_noise_/running_tap.wav",
        "b/gsc_0132a06d/words.opus",
    )
    found = scan(tmp_path)
    assert [(c.id, c.speaker, c.text) for c in found.clips] == [
        ("speech_commands/0132a06d/words", "speech_commands-0132a06d", None),
        ("speech_commands/no/004ae714_nohash_0", "speech_commands-004ae714", "no"),
        ("speech_commands/yes/004ae714_nohash_0", "speech_commands-004ae714", "yes"),
    ]
    assert [p.name for p, _ in found.not_understood] == ["running_tap.wav"]


def test_ljspeech(tmp_path):
    rows = "LJ001-0001|No. 2|Number two\nLJ001-0002|a | bar\nLJ001-0003|Only the raw.|\n"
    make(tmp_path, *(f"LJSpeech-1.1/wavs/LJ001-000{n}.wav" for n in (1, 3, 4)), f"LJSpeech-1.1/metadata.csv={rows}")
    clips = scan(tmp_path).clips
    assert [(c.id, c.text) for c in clips] == [
        ("ljspeech/LJ001-0001", "Number two"),
        ("ljspeech/LJ001-0003", "Only the raw."),
        ("ljspeech/LJ001-0004", None),
    ]
    assert {c.speaker for c in clips} == {"ljspeech-lj"}
