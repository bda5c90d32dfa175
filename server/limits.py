"""What a server takes on at most."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds on what clients may ask for and on how long they may take."""

    characters: int = 4096  # of a text, as OpenAI has it
    waiting: int = 32  # requests that wait for their turn, beside the one at work
    seconds: float = 300.0  # from a request to the end of the work on it
    json_bytes: int = 2**18  # of a body
    upload_bytes: int = 25 * 2**20
    uploads: int = 4  # at a time
    body_seconds: float = 30.0  # in which a body must have come
    stall_seconds: float = 30.0  # in which a client must take CHUNK bytes
    unsent_bytes: int = 2**26  # that are kept for a client that takes its answer slowly
    audio_seconds: float = 3600.0  # of a recording to be diarized
    reference_seconds: float = 300.0  # of a recording of a voice
    references: int = 10  # of one voice, or speakers of a recording


CHUNK = 2**16  # bytes handed to the network at a time
