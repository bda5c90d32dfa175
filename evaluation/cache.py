"""Results already measured, so that an interrupted evaluation continues: JSON lines, appended at once."""

from __future__ import annotations

import base64
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from utils.audio.io import Waveform, read

log = logging.getLogger(__name__)


class Cache:
    """Results by key. A key must name everything that the result depends on: item, model fingerprint, judge."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, Any] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                self._take(line)
            if self._known and not path.read_bytes().endswith(b"\n"):
                self._append("")  # a killed run left half a line: do not write onto it

    def get(self, key: str) -> Any | None:
        """The value of a key, or None."""
        return self._known.get(key)

    def put(self, key: str, value: Any) -> Any:
        """Remember a JSON value; returns it as it will be read again (NaN becomes None)."""
        value = plain(value)
        self._append(json.dumps([key, value], ensure_ascii=False))
        self._known[key] = value
        return value

    def get_array(self, key: str) -> np.ndarray | None:
        """The array of a key as float32, or None."""
        value = self.get(key)
        if value is None:
            return None
        return np.frombuffer(base64.b64decode(value["float16"]), np.float16).reshape(value["shape"]).astype(np.float32)

    def put_array(self, key: str, array: np.ndarray) -> np.ndarray:
        """Remember a small float array in half precision; returns what `get_array` would."""
        half = np.ascontiguousarray(array, dtype=np.float16)
        self.put(key, {"float16": base64.b64encode(half.tobytes()).decode(), "shape": list(half.shape)})
        return half.astype(np.float32)

    def _append(self, line: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _take(self, line: str) -> None:
        try:
            key, value = json.loads(line)
        except ValueError:
            if line:
                log.warning("%s: a cut-off line is measured again", self.path)
            return
        self._known[key] = value


class AudioCache:
    """Synthesized audio by name, as FLAC; what is judged is always what was read from here, so runs agree."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, name: str) -> Waveform | None:
        """The audio of a name, or None."""
        path = self.folder / f"{name}.flac"
        return read(path, sample_rate=None) if path.is_file() else None

    def put(self, name: str, waveform: Waveform) -> Waveform:
        """Keep audio; returns it as it will be read again."""
        from utils.audio.io import write

        write(self.folder / f"{name}.flac", waveform)
        return read(self.folder / f"{name}.flac", sample_rate=None)


def plain(value: Any) -> Any:
    """JSON values only: numpy numbers become Python's, NaN and infinities None, tuples lists."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value
