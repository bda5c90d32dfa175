"""Which command makes what an error says is missing: scripts add it, libraries know of no command line."""

from __future__ import annotations

from utils.errors import CloningError, MissingError

# `MissingError.what`: the command, or of a script's own flags those that help
REMEDIES = {
    "alignments": "synthesizer_preprocess.py --alignments FILES, or --align",
    "calibration": "python evaluate.py diarization --calibrate --corpus CORPORA",
    "encoder of the chain": "train_all.py --stages encoder ..., or --encoder FILE",
    "perturbed teacher": "encoder_preprocess.py --teacher CHECKPOINT --speeds FACTORS --formants FACTORS",
    "phone times of the chain": "train_all.py --alignments FILES, --align, or --stages",
    "symbols": "synthesizer_preprocess.py --symbols",
    "synthesizer with emotions": "demo_cli.py --synthesizer parallel, of saved_models/emotional",
    "teacher": "encoder_preprocess.py --teacher CHECKPOINT",
    "teacher-forced mels": "vocoder_preprocess.py --synthesizer FILE",
    "validation speakers": "encoder_preprocess.py --validation 0.5 and the same --out",
    "voice of the narrator": "demo_cli.py --voice NAME, or --reference CLIP",
    "waveforms": "synthesizer_preprocess.py CORPUS --encoder FILE --keep-audio --out ANOTHER_DIR",
}


def with_remedy(error: CloningError) -> str:
    """What a script says of an error: its line, and the command that makes what is missing."""
    remedy = REMEDIES.get(error.what) if isinstance(error, MissingError) else None
    return f"{error} (here: {remedy})" if remedy else str(error)
