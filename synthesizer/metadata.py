"""What a synthesizer's checkpoint says beside its network."""

from __future__ import annotations

from dataclasses import dataclass

from synthesizer.calibration import ProsodyCalibration, calibration_of
from utils.audio.mel import SYNTHESIZER_MEL, MelConfig
from utils.config import from_dict
from utils.weights.checkpoint import Checkpoint


@dataclass(frozen=True)
class SynthesizerMetadata:
    """Of one of our checkpoints; the defaults are those of a published one."""

    mel: MelConfig = SYNTHESIZER_MEL  # that the network works with
    marks: str = "all"  # "pauses": learned from alignments, where only the place of a pause is known
    encoder_fingerprint: str = ""
    fingerprint: str = ""
    voices_of: str = ""  # fingerprint of the synthesizer whose mels are converted
    name: str = "tacotron"
    calibration: ProsodyCalibration = ProsodyCalibration()

    @classmethod
    def of(cls, checkpoint: Checkpoint, name: str) -> SynthesizerMetadata:
        """name: the architecture. Raises CloningError for a mel that makes no sense."""
        return cls(
            mel=from_dict(MelConfig, checkpoint.mel, "mel"),
            marks="pauses" if checkpoint.extra.get("marks") == "pauses" else "all",
            encoder_fingerprint=str(checkpoint.extra.get("encoder") or ""),
            fingerprint=checkpoint.fingerprint,
            voices_of=str(checkpoint.extra.get("voices_of") or ""),
            name=name,
            calibration=calibration_of(checkpoint),
        )
