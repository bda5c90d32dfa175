"""What the files and arrays of a feature set are called; no torch, so that preprocessing starts fast."""

KIND = "encoder"
NOISE_SHARD = "noise.safetensors"  # recorded noise, where preprocessing was given some
ROOM_SHARD = "rooms.safetensors"  # impulse responses of simulated rooms, where preprocessing made some


def noise_name(index: int) -> str:
    """Name of a recording in the noise file."""
    return f"noise{index:05d}"


def room_name(index: int) -> str:
    """Name of an impulse response in the file of rooms."""
    return f"room{index:05d}"


def teacher_at(speed: float) -> str:
    """Name of the teacher's embedding of a clip played at this speed."""
    return f"teacher_at_{speed:g}"
