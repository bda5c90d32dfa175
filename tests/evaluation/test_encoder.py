"""The page of `evaluate.py encoder`: what can be listened to."""

from __future__ import annotations

import numpy as np

import evaluate
from evaluation.commands.encoder import HARDEST, hardest, score
from evaluation.lists.trials import TrialList
from tests.support.tiny import save_tiny_models
from utils.audio.io import Waveform, write


def test_the_hardest_pairs_are_those_of_which_the_cosine_is_wrong(tmp_path):
    stems = [("a1", "ann"), ("a2", "ann"), ("a3", "ann"), ("b1", "ben"), ("b2", "ben")]
    trials = TrialList("toy", "", True, "all", tuple((stem, who, stem) for stem, who in stems))
    angles = np.radians([0, 10, 80, 90, 100])  # a3 is near ben
    places = {stem: write(tmp_path / f"{stem}.wav", Waveform(np.full(16000 * 9, 0.1 * i), 16000))
              for i, (stem, _) in enumerate(stems)}  # fmt: skip
    players = hardest(trials, {"toy": score(trials, np.stack([np.cos(angles), np.sin(angles)], axis=1))}, places)
    labels = [label for label, _ in players.rows]
    assert len(labels) == 2 * HARDEST and "one person, cosine 0.17 (a1 and a3)" in labels[0]
    assert "two people, cosine 0.98 (a3 and b1)" in labels[HARDEST]
    assert all(list(sounds) == ["one", "other"] for _, sounds in players.rows)
    assert {sound.seconds for _, sounds in players.rows for sound in sounds.values()} == {6.0}


def test_the_page_of_bundled_clips_has_players(tmp_path):
    models = save_tiny_models(tmp_path / "models")
    assert evaluate.main(["encoder", "--models", str(models), "--report", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "encoder.html").read_text(encoding="utf-8")
    assert page.count("<audio") >= 4 and "one person, cosine" in page and "two people, cosine" in page
