"""Imports torchaudio: beside a CPU-only torch its Linux wheel, linked with CUDA, does not load by itself."""

from __future__ import annotations

import importlib
import logging
import sys
import types
from contextlib import ExitStack

from utils.errors import missing_package

log = logging.getLogger(__name__)
_EXTENSION = "torchaudio._extension"


def import_torchaudio() -> types.ModuleType:
    """The module torchaudio, without its compiled parts where those do not load.

    What is written in Python (transforms, functional, SpecAugment, resampling) works either way; forced
    alignment does not, and `torchaudio.load` and `save` are not for use here: `utils.audio.io` reads and writes.
    Raises CloningError if torchaudio is not installed.
    """
    try:
        return importlib.import_module("torchaudio")
    except ModuleNotFoundError as error:
        raise missing_package("torchaudio", "this", "requirements.txt") from error
    except (OSError, ImportError) as error:  # a CUDA library that is not there, or symbols of another torch
        log.debug("torchaudio goes without its compiled parts: %s", error)
    for name in [n for n in sys.modules if n == "torchaudio" or n.startswith("torchaudio.")]:
        del sys.modules[name]  # what the failed import left half done
    with ExitStack() as undo:
        sys.modules[_EXTENSION] = _stub()
        undo.callback(sys.modules.pop, _EXTENSION, None)
        module = importlib.import_module("torchaudio")
        undo.pop_all()
    return module


def _stub() -> types.ModuleType:
    stub = types.ModuleType(_EXTENSION)
    vars(stub).update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False, _IS_ALIGN_AVAILABLE=False, fail_if_no_align=lambda function: function
    )
    return stub
