"""What the routes work with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import utils  # isort: skip # noqa: F401 (before torch: how its threads wait)
from cloning.cloner import VoiceCloner
from diarization.pipeline import Diarizer
from server.errors import ApiError
from server.limits import Limits
from utils.errors import CloningError
from utils.library import Library
from utils.voice import Voice


@dataclass(frozen=True)
class Server:
    """The models, the voices and the bounds. `aliases`: other names of voices, such as {"alloy": "lucy"}."""

    cloner: VoiceCloner
    library: Library
    limits: Limits = field(default_factory=Limits)
    token: str = ""
    aliases: Mapping[str, str] = field(default_factory=dict)
    diarizer: Diarizer | None = None
    prepare: Callable[[], Any] = lambda: None  # in the thread that works, first

    def voice(self, name: str) -> Voice:
        """A voice of the library. Raises ApiError: there is none of this name."""
        try:
            return self.library.load(self.aliases.get(name, name))
        except CloningError as error:
            raise ApiError(400, str(error), param="voice", code="voice_not_found") from error
