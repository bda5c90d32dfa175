"""A voice that is adapted and kept from the page, with tiny models."""

from __future__ import annotations

import dataclasses
import threading

import pytest

pytest.importorskip("streamlit", reason="the page is optional: pip install -r requirements/app.txt")

from cloning import adapt as adapting
from cloning.adapt import Rating
from synthesizer.models.parallel import Parallel
from tests.support.tiny import TINY_PARALLEL, save_tiny_models
from tests.web.driver import CLIP, PATIENCE, agree, lines, press, results, upload
from utils.library import Library
from web import voice_input

TOLD = dataclasses.replace(TINY_PARALLEL, voice_statistics=True, prompt_tokens=4, prompt_width=8)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """With a synthesizer that finds phones."""
    folder = tmp_path_factory.mktemp("saved_models")
    save_tiny_models(folder / "default", parallel=TOLD)
    return folder


@pytest.fixture
def library(monkeypatch, tmp_path) -> Library:
    found = Library(tmp_path / "voices", shipped=None)
    monkeypatch.setattr(voice_input, "Library", lambda: found)
    return found


@pytest.fixture
def learning(monkeypatch):
    """An untrained classifier is sure of nothing; what is learned is heard as better each time."""
    monkeypatch.setattr("synthesizer.aligned_clip.SURE", 0.0)
    monkeypatch.setattr(adapting, "STEPS", (4, 4))
    heard = iter(Rating(0.5 + 0.1 * number, 0.1) for number in range(9))
    monkeypatch.setattr(adapting, "rate_voice", lambda cloner, voice: next(heard))


def ready(page, name="Ann"):
    """A recording whose speaker agrees, a name, and the wish to adapt."""
    agree(upload(page, CLIP.read_bytes()))
    next(box for box in page.text_input if box.label == "Name").set_value(name)
    next(box for box in page.checkbox if box.label.startswith("Adapt")).check().run()
    return page


def keep(page):
    next(button for button in page.button if button.label == "Keep").click().run()
    return page


def finished(page):
    assert page.session_state["adapting"].wait(PATIENCE)
    assert not page.run().exception
    return page


def test_a_voice_is_learned_kept_and_spoken_with(page, library, learning):
    assert any("these weights alone: Transformer (default), Parallel (default)" in c.value for c in ready(page).caption)
    finished(keep(page))
    voice = library.load("Ann")
    assert voice.adapted and voice.consent == voice_input.AGREES and not page.error
    assert any("Kept as" in done.value for done in page.success)
    assert any("Kept\\: step 4" in caption.value for caption in page.caption)
    page.radio(key="source").set_value(voice_input.LIBRARY).run()
    assert results(press(page))[0].voice == "Ann" and not page.error
    assert any("Kept as" in done.value for done in page.success)  # still told


def test_it_is_stopped_with_what_was_learned(page, library, learning, monkeypatch):
    second, go_on = threading.Event(), threading.Event()
    learn = adapting.Adaptation.learn

    def slowly(self):
        if self.step == 1:
            second.set()
            assert go_on.wait(PATIENCE)
        return learn(self)

    monkeypatch.setattr(adapting.Adaptation, "learn", slowly)
    keep(ready(page))
    assert second.wait(PATIENCE)
    page.run()
    assert "step 1 of 4" in page.session_state["adapting"].progress
    assert next(button for button in page.button if button.label == "Keep").disabled
    page.button(key="stop_adapting").click().run()
    go_on.set()
    finished(page)
    assert page.session_state["adapting"].step == 2 and library.load("Ann").adapted
    assert any("Step 2 of 4" in caption.value for caption in page.caption)


def test_a_name_that_is_taken_or_none_is_a_line_before_any_work(page, library, learning):
    keep(ready(page, "../Ann"))
    assert "cannot be a voice's name" in lines(page) and "adapting" not in page.session_state
    next(box for box in page.text_input if box.label == "Name").set_value("Ann").run()
    finished(keep(page))
    page.run()
    assert "There is a voice Ann already: choose another name." in lines(keep(page)) and "--" not in lines(page)


def test_words_that_are_needed_are_asked_for_and_missing_ones_are_a_line(page, library, monkeypatch):
    monkeypatch.setattr(voice_input, "needs_transcripts", lambda cloner: True)
    monkeypatch.setattr(Parallel, "frame_symbols", lambda self, mel: None)  # as of one without a classifier
    ready(page)
    (box,) = [area for area in page.text_area if area.label.startswith("What is said in")]
    assert box.help == "Required."
    finished(keep(page))
    assert "give the words of each clip" in lines(page) and library.names() == []


def test_what_is_said_reaches_the_learning(page, library, monkeypatch):
    asked = []
    monkeypatch.setattr("web.adapting.adapt", lambda cloner, waves, texts, **how: asked.append((len(waves), texts)))
    ready(page)
    next(area for area in page.text_area if area.label.startswith("What is said in")).set_value(" Hello. ").run()
    finished(keep(page))
    assert asked == [(1, ["Hello."])]
