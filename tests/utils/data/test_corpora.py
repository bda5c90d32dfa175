"""Laws of the scan: ids are unique and plain, nothing is lost in silence."""

from __future__ import annotations

import re

import numpy as np
import pytest
import soundfile

from tests.support.corpora import make
from tests.support.work import work_of
from utils.data.corpora import AUDIO, safe_name, scan
from utils.errors import CloningError


def test_recognised_wherever_the_scan_starts(tmp_path):
    make(tmp_path, "L/LibriSpeech/test-clean/61/70968/61-70968-0000.flac")
    places = ["", "L", "L/LibriSpeech", "L/LibriSpeech/test-clean", "L/LibriSpeech/test-clean/61"]
    assert {scan(tmp_path / place).clips[0].id for place in places} == {"librispeech/61-70968-0000"}


def test_plain_folder(tmp_path):
    make(
        tmp_path,
        "voices/alice/a.wav",
        "voices/alice/a.txt=Good  morning,\nAlice.\n",
        "voices/alice/deep/er/b.MP3",
        "voices/test/wavs/bob/c.flac",
        "voices/train/bob/c.flac",
        "voices/loose.wav",
        "voices/notes.md=not audio",
        "voices/alice/.hidden.wav",
    )
    found = scan(tmp_path / "voices")
    assert [(c.id, c.speaker, c.text) for c in found.clips] == [
        ("voices/alice/a", "voices-alice", "Good morning, Alice."),
        ("voices/alice/deep/er/b", "voices-alice", None),
        ("voices/test/wavs/bob/c", "voices-bob", None),
        ("voices/train/bob/c", "voices-bob", None),
    ]
    assert [(p.name, r[:33]) for p, r in found.not_understood] == [
        (".hidden.wav", "hidden, its name begins with a do"),
        ("loose.wav", "no folder that names the speaker;"),
    ]


def test_a_transcript_may_have_its_suffix_in_capitals(tmp_path):
    make(tmp_path, *(f"v/ann/{n}.WAV" for n in "abc"), "v/ann/a.TXT=one", "v/ann/b.Txt=two", "v/ann/c.LAB=three")
    assert [clip.text for clip in scan(tmp_path / "v").clips] == ["one", "two", "three"]


LISTS = {
    "LJSpeech's": "a 1|It's 2.|It's two.\nb.x|Say \"so\", she said.|\nc|Three.",
    "with folders and suffixes": 'wavs/a 1.wav|It\'s two.\r\n./wavs/b.x.wav|Say "so", she said.\r\nwavs\\c.wav|Three.',
    "with a header": 'file_name,by,text\na 1.wav,me,It\'s two.\nb.x.wav,me,"Say ""so"", she said."\nc.wav,me,Three.',
    "with commas": 'a 1,It\'s two.\nb.x,"Say ""so"", she said."\nc,Three.',
    "with bare commas": "\ufeffa 1.wav,It's two.\nb.x.wav,Say so, she said.\nc.wav,Three.\n",
    "with tabs": 'path\tsentence\na 1.wav\tIt\'s two.\nb.x.wav\tSay "so", she said.\nc.wav\tThree.\n',
}


@pytest.mark.parametrize("start", ["corpora", "corpora/jane", "corpora/jane/wavs"])
@pytest.mark.parametrize("rows", LISTS.values(), ids=LISTS)
def test_one_voice_with_a_list_of_texts(tmp_path, rows, start):
    make(tmp_path, *(f"corpora/jane/wavs/{name}.wav" for name in ("a 1", "b.x", "c")))
    make(tmp_path, "corpora/joe/wavs/c.wav", "corpora/joe/wavs/c.txt=Other.", f"corpora/jane/metadata.csv={rows}")
    found = scan(tmp_path / start)
    own = [clip for clip in found.clips if clip.speaker.endswith("-jane")]
    expected = ["It's two.", 'Say "so", she said.', "Three."]
    assert [clip.text.replace("Say so", 'Say "so"') for clip in own] == expected
    assert len(found.clips) == (4 if start == "corpora" else 3)
    assert found.not_understood == []


def test_what_a_list_of_texts_lacks_is_said_by_line(tmp_path):
    rows = "a|One.\nb|\n\nz|Never recorded.\na|Again.\nno separator\ny|Nor this.\n"
    make(tmp_path, *(f"jane/wavs/{name}.wav" for name in "abc"), f"jane/metadata.csv={rows}")
    found = scan(tmp_path / "jane")
    assert [(clip.id, clip.text) for clip in found.clips] == [
        ("jane/wavs/a", "One."),
        ("jane/wavs/b", None),
        ("jane/wavs/c", None),
    ]
    assert {(path.name, reason) for path, reason in found.not_understood} == {
        ("metadata.csv:2,6", "a name without a text"),
        ("metadata.csv:5", "a name that stood there before"),
        ("metadata.csv:4,7", "no recording of that name"),
    }
    assert f"{tmp_path / 'jane' / 'metadata.csv:4,7'}" in found.report()


def test_a_table_about_something_else_is_no_list_of_texts(tmp_path):
    make(tmp_path, "v/ann/a.wav", "v/ann/a.txt=One.", "v/metadata.tsv=speaker\tsex\nann\tf\nben\tm\n")
    found = scan(tmp_path / "v")
    assert [clip.text for clip in found.clips] == ["One."] and found.not_understood == []


def test_several_corpora_in_one_folder(tmp_path):
    make(
        tmp_path,
        "LibriSpeech/test-clean/61/70968/61-70968-0000.flac",
        "mine/alice/a.wav",
        "mine/bob/a.wav",
        "noise/rain/a.wav",
        "esc/Rain/4-177250-A.ogg",
        "ami/dev00.flac",
        "ami/dev.rttm=SPEAKER",
        "backup.tar.gz=",
    )
    found = scan(tmp_path)
    assert {c.speaker for c in found.clips} == {"librispeech-61", "mine-alice", "mine-bob"}
    reasons = {path.relative_to(tmp_path).as_posix(): reason for path, reason in found.not_understood}
    assert reasons.keys() == {"noise/rain/a.wav", "esc/Rain/4-177250-A.ogg", "ami/dev00.flac", "backup.tar.gz"}
    assert "several speakers" in reasons["ami/dev00.flac"] and "no speech" in reasons["noise/rain/a.wav"]
    report = found.report()
    assert "mine: 2 clips, 2 speakers" in report and "dev00.flac" in report


def test_a_stray_file_in_a_known_folder_is_listed(tmp_path):
    make(tmp_path, "L/61/70968/61-70968-0000.flac", "L/61/70968/take two.flac")
    ((path, reason),) = scan(tmp_path).not_understood
    assert path.name == "take two.flac" and "not named like" in reason


def test_the_same_utterance_in_two_parts_is_taken_once_with_its_text(tmp_path):
    make(
        tmp_path,
        "A-untranscribed/61/70968/61-70968-0000.flac",
        "LibriSpeech/61/70968/61-70968-0000.flac",
        "LibriSpeech/61/70968/61-70968.trans.txt=61-70968-0000 YES\n",
        "Z-untranscribed/61/70968/61-70968-0000.flac",
    )
    found = scan(tmp_path)
    (clip,) = found.clips
    assert clip.text == "YES"
    assert [p.relative_to(tmp_path).parts[0] for p, _ in found.not_understood] == ["A-untranscribed", "Z-untranscribed"]


def test_ids_are_plain_and_never_merge(tmp_path):
    names = ["José", "Jose", "张三", "李四", "a b", "a_b", "a;b", "b..", "x.y"]
    make(tmp_path, *(f"my voices/{name}/1.wav" for name in names), "my voices/Jose/1.flac")
    found = scan(tmp_path / "my voices")
    assert len({c.speaker for c in found.clips}) == len(names) == len(found.clips)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)+", c.id) and ".." not in c.id for c in found.clips)
    assert len(found.not_understood) == 1  # 1.wav beside 1.flac
    assert safe_name("p225_001-x.y") == "p225_001-x.y"


def test_equally_named_plain_folders_do_not_mix_speakers(tmp_path):
    make(tmp_path, "x/voices/alice/1.wav", "y/voices/alice/2.wav")
    found = scan(tmp_path / "x/voices", tmp_path / "y/voices")
    assert len(found.clips) == 1 and "rename one" in found.not_understood[0][1]


def test_order_does_not_depend_on_the_file_system(tmp_path):
    paths = [f"voices/{name}/{n}.wav" for name in "cab" for n in (3, 1, 2)]
    make(tmp_path / "one", *paths)
    make(tmp_path / "two", *reversed(paths))
    ids = [[c.id for c in scan(tmp_path / place / "voices").clips] for place in ("one", "two")]
    assert ids[0] == ids[1] == sorted(ids[0])


def test_links_are_followed_but_not_in_circles(tmp_path):
    make(tmp_path, "real/alice/1.wav", "voices/bob/1.wav")
    try:
        (tmp_path / "voices/alice").symlink_to(tmp_path / "real/alice", target_is_directory=True)
        (tmp_path / "voices/bob/loop").symlink_to(tmp_path / "voices", target_is_directory=True)
    except OSError:
        pytest.skip("no symbolic links here")
    found = scan(tmp_path / "voices", follow_links=True)
    assert {c.speaker for c in found.clips} == {"voices-alice", "voices-bob"}
    assert [r for _, r in found.not_understood] == ["a link to a folder above it"]


def test_missing_and_empty_folders_are_one_line_errors(tmp_path):
    with pytest.raises(CloningError, match="no such corpus folder"):
        scan(tmp_path / "nowhere")
    make(tmp_path, "a.zip=", "readme.txt=hello")
    with pytest.raises(CloningError) as caught:
        scan(tmp_path)
    assert re.search(r"no speech found, 1 files not understood; first: .*a\.zip: an archive[^\n]*$", str(caught.value))


def test_audio_formats_are_those_that_soundfile_reads(tmp_path):
    written = {f".{name.lower()}": name for name in "WAV FLAC OGG MP3 AIFF AU CAF W64 RF64".split()} | {".sph": "NIST"}
    for suffix, container in written.items():
        path = tmp_path / f"voices/alice/x{suffix[1:]}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros(1600, np.float32), 16000, format=container)
        assert soundfile.info(path).frames > 0 and suffix in AUDIO
    assert len(scan(tmp_path).clips) == len(written)


def test_work_grows_with_the_number_of_files_only(tmp_path):
    """Four times the files are about four times the work, not sixteen."""

    def work(speakers: int) -> int:
        root = tmp_path / str(speakers) / "L"
        for speaker in range(speakers):
            folder = root / f"{speaker}" / "7"
            folder.mkdir(parents=True)
            for n in range(20):
                (folder / f"{speaker}-7-{n:04d}.flac").touch()
        assert len(scan(root).clips) == 20 * speakers  # what is imported or kept by the first scan is no part of it
        return work_of(lambda: scan(root))

    small, large = work(20), work(80)
    assert large < 4.5 * small


def test_of_several_recordings_of_an_utterance_one_is_taken_and_the_others_are_kept_in_mind(tmp_path):
    make(tmp_path, *(f"voices/ann/a.{suffix}" for suffix in ("mp3", "wav", "m4a")))
    found = scan(tmp_path / "voices")
    (clip,) = found.clips
    assert clip.path.name == "a.wav" and sorted(path.name for path, _ in clip.copies) == ["a.m4a", "a.mp3"]
    assert [reading.source for reading in clip.readings()] == ["ann/a.wav", "ann/a.m4a", "ann/a.mp3"]
    assert all("taken from elsewhere" in reason for _, reason in found.not_understood)
    assert len(found.not_understood) == 2
