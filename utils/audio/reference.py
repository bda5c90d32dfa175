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
    """The one way from a recording to what is embedded; every stage and preprocessing use it.

    target_dbfs: quieter audio is raised to this level. trim: cut silences out. min_seconds: of voice, of which less is
    refused; `name` is what the refusal calls the recording. Raises CloningError for that and for what `read` refuses.
    """
    wav = read(source, sample_rate=sample_rate, max_seconds=max_seconds)
    samples = normalize_volume(wav.samples, target_dbfs)
    if min_seconds is not None:
        samples = require_voice(samples, min_seconds, name, sample_rate=sample_rate, config=vad)
    elif trim:
        samples = trim_silence(samples, sample_rate, vad)
    return Waveform(samples, sample_rate, wav.notes)
