"""Speech as an encoder receives it: mono at its rate, raised to a common volume, silences cut out."""

from __future__ import annotations

from utils.audio.io import SAMPLE_RATE, Source, Waveform, normalize_volume, read
from utils.audio.vad import DEFAULT, VadConfig, require_voice, trim_silence


def prepare_reference(
    source: Source,
    *,
    target_dbfs: float = -30.0,
    sample_rate: int = SAMPLE_RATE,
    max_seconds: float = 3600.0,
    trim: bool = True,
    min_seconds: float | None = None,
    name: str = "the reference",
    vad: VadConfig = DEFAULT,
) -> Waveform:
    """The one way from a recording to what is embedded: `read`, then `raise_and_trim`, whose arguments it takes.

    Raises CloningError for what either refuses.
    """
    wav = read(source, sample_rate=sample_rate, max_seconds=max_seconds)
    return raise_and_trim(wav, target_dbfs, trim=trim, min_seconds=min_seconds, name=name, vad=vad)


def raise_and_trim(
    wav: Waveform,
    target_dbfs: float = -30.0,
    *,
    trim: bool = True,
    min_seconds: float | None = None,
    name: str = "the reference",
    vad: VadConfig = DEFAULT,
) -> Waveform:
    """Raise quiet audio to `target_dbfs` and cut silences out (`trim`).

    min_seconds: of voice, of which less is refused with a CloningError; `name` is what it calls the recording.
    """
    samples = normalize_volume(wav.samples, target_dbfs)
    if min_seconds is not None:
        samples = require_voice(samples, min_seconds, name, sample_rate=wav.sample_rate, config=vad)
    elif trim:
        samples = trim_silence(samples, wav.sample_rate, vad)
    return Waveform(samples, wav.sample_rate, wav.notes)
