"""Takes on the page: compared, kept, downloaded, and made again by a command."""

from __future__ import annotations

import io
import shlex
import zipfile

import numpy as np
import pytest
import soundfile

from tests.conftest import ROOT
from tests.web.driver import PATIENCE, lines, press, results

pytest.importorskip("streamlit", reason="the page is optional: pip install -r requirements/app.txt")

from streamlit.testing.v1 import AppTest

import demo_cli
from web import takes, work

pytestmark = pytest.mark.slow


def test_a_take_that_was_made_of_other_things_says_so(page):
    press(page)
    assert not [info for info in page.info if "older" in info.value]
    page.text_area(key="text").set_value("Another text.").run()
    page.selectbox(key="sample").set_value("goforward").run()
    assert any("the text and voice changed" in info.value for info in page.info)


def test_takes_are_listed_compared_deleted_and_zipped(page):
    for text in ("Hello there.", "Good morning to you."):
        press(page, text)
    second, first = results(page)
    page.button(key=f"compare-{first.id}").click().run()
    rows = takes.differences(second, first)
    assert ("Text", "Good morning to you.", "Hello there.") in rows and len(page.table) >= 2
    with zipfile.ZipFile(io.BytesIO(takes.zipped(results(page)))) as file:
        assert file.namelist() == ["001_austen_0870_hello-there.wav", "002_austen_0870_good-morning-to-you.wav",
                                   "takes.csv"]  # fmt: skip
        assert file.read("001_austen_0870_hello-there.wav") == first.bytes
    page.button(key=f"delete-{second.id}").click().run()
    assert results(page) == [first]


def test_takes_outlive_the_page_only_where_that_is_ticked(page, monkeypatch, tmp_path):
    monkeypatch.setattr(takes, "FOLDER", tmp_path / "takes")
    press(page)
    assert not (tmp_path / "takes").exists()
    page.checkbox(key="keep").check().run()
    press(page, "Hello \N{SNOWMAN} again.")
    again = AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE)
    again.query_params["keep"] = "true"
    again.run()
    assert not again.exception and [t.text for t in results(again)] == [t.text for t in results(page)]
    assert [t.bytes for t in results(again)] == [t.bytes for t in results(page)]
    damaged = tmp_path / "takes" / "zz.json"
    damaged.write_text('{"kind": "take of the voice cloning page", "text": 5}', encoding="utf-8")
    damaged.with_suffix(".wav").write_bytes(b"")
    assert len(takes.kept()) == 2
    again.button(key=f"delete-{results(again)[0].id}").click().run()
    assert len(list((tmp_path / "takes").glob("2*"))) == 2


def test_a_folder_that_cannot_be_written_to_costs_no_take(page, monkeypatch, tmp_path):
    (tmp_path / "takes").write_bytes(b"a file, no folder")
    monkeypatch.setattr(takes, "FOLDER", tmp_path / "takes")
    press(page)
    page.checkbox(key="keep").check().run()
    assert not page.exception and "cannot be kept" in lines(page) and len(results(page)) == 1
    assert len(results(press(page, "Again."))) == 2 and not page.exception


def test_the_command_and_the_lines_of_python_make_the_same_again(page, models, monkeypatch, tmp_path):
    page.slider(key="rate").set_value(0.8)
    (take,) = results(press(page, 'It\'s $5 "here".\nYes.'))
    monkeypatch.chdir(tmp_path)
    _, script, *flags = shlex.split(takes.command(take))
    flags[flags.index("--reference") + 1] = str(ROOT / "samples" / "austen_0870.wav")
    assert script == "demo_cli.py"
    assert demo_cli.main([*flags, "--models", str(models / "default"), "--device", "cpu", "--quiet"]) == 0
    first = soundfile.read(tmp_path / "out" / take.file_name)[0]
    lines = takes.python(take).replace("load(", f"load({str(models / 'default')!r}, device='cpu'")
    monkeypatch.chdir(ROOT)
    exec(lines.replace("write('out/", f"write('{tmp_path.as_posix()}/out/py_"), {})
    second = soundfile.read(tmp_path / "out" / f"py_{take.file_name}")[0]
    ours = soundfile.read(io.BytesIO(take.bytes))[0]
    np.testing.assert_allclose(first, ours, rtol=0, atol=2e-3)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("suffix", work.FORMATS)
def test_a_take_is_downloaded_in_every_format_with_its_tags(page, suffix):
    press(page)
    newest = results(page)[0]
    box = page.selectbox(key=f"format-player-{newest.id}")
    assert box.label == "Format"
    box.set_value(suffix).run()
    assert page.query_params.get("format", "wav") in (suffix, [suffix])
    again, name = work.converted(newest.bytes, suffix), newest.file_as(suffix)
    with soundfile.SoundFile(io.BytesIO(again)) as file:
        assert "synthetic speech" in file.comment and abs(file.frames / file.samplerate - newest.seconds) < 0.1
    assert name.endswith(f".{suffix}") and name in takes.command(newest, suffix)
    with zipfile.ZipFile(io.BytesIO(takes.zipped(results(page), suffix))) as zipped:
        assert zipped.namelist()[0] == f"001_{name}"
