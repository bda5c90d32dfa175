"""Metrics against cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from encoder.verification import equal_error_rate
from evaluation.metrics import scores as metrics
from evaluation.metrics import signals
from evaluation.metrics.alignment import alignment_errors, combine

RATE = 16_000


def test_equal_error_rate_of_perfect_reversed_and_mixed_scores():
    targets = np.array([True, True, False, False])
    assert equal_error_rate(np.array([0.9, 0.8, 0.2, 0.1]), targets) == 0
    assert equal_error_rate(np.array([0.1, 0.2, 0.8, 0.9]), targets) == 1
    # one of two impostors above one of two targets: at any threshold between them both rates are a half
    assert equal_error_rate(np.array([0.9, 0.3, 0.6, 0.1]), targets) == pytest.approx(0.5)


def test_equal_error_rate_lies_on_the_line_between_two_thresholds():
    # alarms 0 -> 1 while misses stay 1/3: they meet where alarms are 1/3
    scores, targets = np.array([0.9, 0.8, 0.5, 0.1]), np.array([True, True, False, True])
    assert equal_error_rate(scores, targets) == pytest.approx(1 / 3)


def test_equal_scores_fall_together():
    assert equal_error_rate(np.full(6, 0.5), np.array([True, False] * 3)) == pytest.approx(0.5)


def test_detection_cost_is_relative_to_always_saying_no():
    targets = np.array([True, True, False, False])
    assert metrics.min_dcf(np.array([0.9, 0.8, 0.2, 0.1]), targets) == 0
    # one target of two below an impostor: accept only the best: misses 1/2, no alarm -> 0.01 * 0.5 / 0.01
    assert metrics.min_dcf(np.array([0.9, 0.3, 0.6, 0.1]), targets) == pytest.approx(0.5)
    assert metrics.min_dcf(np.array([0.1, 0.2, 0.8, 0.9]), targets) == pytest.approx(1.0)
    # a false alarm in three costs far more than a miss in two where targets are rare
    targets = np.array([True, True, False, False, False])
    assert metrics.min_dcf(np.array([0.9, 0.3, 0.6, 0.1, 0.05]), targets) == pytest.approx(0.5)


def test_verification_intervals_hold_their_value_and_are_repeatable():
    generator = np.random.default_rng(1)
    speaker = np.repeat(np.arange(12), 5)
    rows, columns = np.triu_indices(len(speaker), 1)
    targets = speaker[rows] == speaker[columns]
    scores = generator.normal(size=len(rows)) + 1.5 * targets
    speakers = np.stack([speaker[rows], speaker[columns]], axis=1)
    error, cost = metrics.verification_intervals(scores, targets, speakers, resamples=50)
    assert error.value == equal_error_rate(scores, targets)
    assert error.low < error.value < error.high
    assert cost.low <= cost.value <= cost.high
    assert metrics.verification_intervals(scores, targets, speakers, resamples=50) == (error, cost)


def test_speakers_drawn_once_each_give_the_plain_rate(monkeypatch):
    class EverySpeakerOnce:
        def integers(self, n, size):
            return np.arange(n)

    monkeypatch.setattr(np.random, "default_rng", lambda seed: EverySpeakerOnce())
    scores, targets = np.array([0.9, 0.3, 0.6, 0.1, 0.3]), np.array([True, True, False, False, False])
    speakers = np.array([[0, 0], [1, 1], [0, 1], [0, 1], [0, 1]])
    error, cost = metrics.verification_intervals(scores, targets, speakers, resamples=3)
    assert error.low == pytest.approx(error.value) == pytest.approx(error.high)
    assert cost.low == pytest.approx(cost.value) == pytest.approx(cost.high)


def test_a_speaker_drawn_twice_weighs_double_and_one_not_drawn_nothing(monkeypatch):
    class FirstTwiceThirdNever:
        def integers(self, n, size):
            return np.array([0, 0, 1])

    monkeypatch.setattr(np.random, "default_rng", lambda seed: FirstTwiceThirdNever())
    speakers = np.array([[1, 2], [0, 0], [0, 1], [1, 1], [2, 2], [0, 2]])
    scores, targets = np.array([0.95, 0.9, 0.6, 0.3, 0.2, 0.05]), np.array([False, True, False, True, True, False])
    # what counts: target 0.9 twice, impostor 0.6, target 0.3 once: a third is missed before the first alarm
    error, cost = metrics.verification_intervals(scores, targets, speakers, resamples=3)
    assert error.low == pytest.approx(1 / 3) == error.high
    assert cost.low == pytest.approx(1 / 3) == cost.high


def test_bootstrap_leaves_out_what_is_missing_and_says_when_it_cannot_tell():
    assert metrics.bootstrap([2.0, None, 2.0, np.nan]) == (2.0, 2.0, 2.0)
    one = metrics.bootstrap([3.0])
    assert one.value == 3.0 and np.isnan(one.low)
    assert np.isnan(metrics.bootstrap([]).value) and np.isnan(metrics.bootstrap([None]).value)


def test_bootstrap_interval_of_a_mean_is_near_the_normal_one():
    values = np.random.default_rng(2).normal(size=400)
    interval = metrics.bootstrap(values)
    half = 1.96 * values.std() / 20
    assert interval.high - interval.value == pytest.approx(half, rel=0.15)
    assert interval.value - interval.low == pytest.approx(half, rel=0.15)


def test_pooled_rate_weighs_sentences_by_their_words():
    assert metrics.pooled_rate(np.array([[1.0, 1.0], [0.0, 9.0]])) == pytest.approx(0.1)


def test_word_errors():
    pytest.importorskip("jiwer", reason="requirements/eval.txt is not installed")
    assert metrics.word_errors("the cat sat", "the cat sat") == (0, 3, 0, 11)
    errors = metrics.word_errors("the cat sat", "the bat sat down")
    assert (errors.word_edits, errors.words) == (2, 3)  # one substituted, one inserted
    assert (errors.character_edits, errors.characters) == (6, 11)  # c -> b, " down"
    assert metrics.word_errors("a b", "").word_edits == 2
    assert metrics.word_errors("", "oh no").word_edits == 2


def test_a_diagonal_alignment_is_complete():
    errors = alignment_errors(np.repeat(np.eye(6), 4, axis=0))
    assert errors == (1.0, 0, 0, False, 0)


def test_a_skip_a_repeat_and_an_early_stop_are_seen():
    path = [0, 1, 2, 7, 8, 9]  # 3..6 left out
    errors = alignment_errors(np.eye(10)[path])
    assert (errors.skips, errors.repeats, errors.early_stop) == (4, 0, False)
    assert errors.coverage == pytest.approx(0.6)
    errors = alignment_errors(np.eye(10)[[0, 1, 2, 3, 1, 2, 3]])  # back by two
    assert (errors.repeats, errors.early_stop) == (1, True)
    assert alignment_errors(np.eye(10)[[0, 1, 2, 1, 2, 3]]).repeats == 0  # one back is a wobble


def test_a_token_is_left_out_by_steps_of_four_and_more_from_the_first_frame_on():
    assert alignment_errors(np.eye(10)[[0, 3, 6, 9]]).skips == 0
    assert alignment_errors(np.eye(10)[[0, 4, 7, 9]]).skips == 3
    assert alignment_errors(np.eye(10)[[5, 6, 7, 8, 9]]).skips == 4


def test_a_glance_does_not_cover_and_the_last_token_but_one_is_the_end():
    glance = np.array([[0.9, 0.1, 0.0], [0.7, 0.3, 0.0], [0.0, 0.0, 1.0]])
    assert alignment_errors(glance).coverage == pytest.approx(2 / 3)
    assert not alignment_errors(np.eye(5)[[0, 1, 2, 3]]).early_stop
    assert alignment_errors(np.eye(5)[[0, 1, 2, 2]]).early_stop


def test_tokens_that_take_no_time_are_not_missed():
    spoken = np.array([True, True, False, True, False, False])
    walk = np.eye(6)[[0, 1, 3]]  # straight over the boundary, and no frame for the two ends
    assert alignment_errors(walk, spoken) == (1.0, 0, 0, False, 0)
    assert alignment_errors(walk).coverage == 0.5
    assert alignment_errors(walk).early_stop


def test_overrun_counts_frames_spent_at_the_end():
    steady = np.eye(6)[[0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]]
    assert alignment_errors(steady).overrun == 0
    assert alignment_errors(np.concatenate([steady, np.eye(6)[[5] * 10]])).overrun == 10


def test_no_frames_cover_nothing():
    assert alignment_errors(np.zeros((0, 5))) == (0.0, 5, 0, True, 0)
    qualityy = alignment_errors(np.eye(5))
    both = combine([qualityy, alignment_errors(np.zeros((0, 5)))])
    assert (both.coverage, both.skips, both.early_stop) == (0.5, 5, True)


def tone(frequency: float, seconds: float = 1.0) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * sum(np.sin(2 * np.pi * k * frequency * time) / k for k in range(1, 6))).astype(np.float32)


def test_stft_distance_is_zero_for_the_same_and_known_for_a_gain():
    speech = np.random.default_rng(0).normal(size=RATE).astype(np.float32)
    assert signals.stft_distance(speech, speech) == 0
    # half the amplitude: convergence 1/2, log difference ln 2, at every resolution
    assert signals.stft_distance(speech, speech / 2) == pytest.approx(0.5 + np.log(2), abs=1e-3)
    assert signals.stft_distance(speech[:100], speech[:90]) < 2  # shorter than a window


def test_mel_distance_over_the_shorter():
    assert signals.mel_distance(np.zeros((4, 9)), np.full((4, 7), 1.5)) == 1.5


def test_aligned_distance_ignores_timing_but_not_content():
    real = np.eye(5)[:, [0, 0, 1, 2, 2, 3, 4]]
    assert signals.aligned_mel_distance(real, np.eye(5)[:, [0, 1, 1, 1, 2, 3, 3, 4, 4]]) == 0
    assert signals.aligned_mel_distance(real, np.eye(5)[:, [4, 3, 2, 1, 0]]) > 0.1


def test_pitch_of_a_tone_and_error_of_a_semitone():
    low, high = (signals.pitch(tone(f), RATE) for f in (200.0, 200.0 * 2 ** (1 / 12)))
    median, spread = signals.pitch_statistics(low)
    assert median == pytest.approx(200, rel=0.01) and spread < 0.3
    error = signals.pitch_error(low, high)
    assert error.rmse_cents == pytest.approx(100, abs=15)
    assert error.voicing_error < 0.1
    assert signals.pitch_error(low, low) == (0.0, 0.0)


def test_pitch_of_silence_is_no_number():
    silent = signals.Pitch(np.full(5, np.nan), np.zeros(5, bool))
    assert np.isnan(signals.pitch_statistics(silent)).all()
    error = signals.pitch_error(silent, signals.Pitch(np.full(5, 100.0), np.array([True, False] * 2 + [False])))
    assert np.isnan(error.rmse_cents) and error.voicing_error == pytest.approx(0.4)


def test_longest_pause_is_inside_and_silence_has_none():
    silence = np.zeros(RATE // 2, np.float32)
    quiet = signals.quiet_frames(np.concatenate([silence, tone(150), silence, tone(150), silence]), RATE)
    assert signals.longest_pause(quiet) == pytest.approx(0.5, abs=0.02)
    assert signals.speech_seconds(quiet) == pytest.approx(2.5, abs=0.03)
    hum = 0.3 * 10 ** (-60 / 20) * np.ones(RATE // 2, np.float32)  # as quiet as a room
    noisy = signals.quiet_frames(np.concatenate([tone(150), hum, tone(150)]), RATE)
    assert signals.longest_pause(noisy) == pytest.approx(0.5, abs=0.02)
    by_hand = np.array([1, 1, 1, 0, 1, 1, 0, 0, 1, 0, 1, 1, 1], bool)
    assert signals.longest_pause(by_hand) == pytest.approx(0.02) and signals.speech_seconds(by_hand) == pytest.approx(
        0.07
    )
    nothing = signals.quiet_frames(np.zeros(RATE, np.float32), RATE)
    assert signals.longest_pause(nothing) == 0 and signals.speech_seconds(nothing) == 0
    assert len(signals.quiet_frames(np.zeros(3, np.float32), RATE)) == 0
