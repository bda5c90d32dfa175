"""What the files and arrays of a feature set are called; no torch, so that preprocessing starts fast."""

KIND = "encoder"
NOISE_SHARD = "noise.safetensors"  # recorded noise, where preprocessing was given some
ROOM_SHARD = "rooms.safetensors"  # impulse responses of simulated rooms, where preprocessing made some
TEACHER_FILE = "teacher.safetensors"  # a teacher's embeddings of all utterances, an array a voice

# Of a speaker's voice: its speed, and a factor of the formants alone; (1, 1) is the speaker as recorded
Perturbation = tuple[float, float]
OWN: Perturbation = (1.0, 1.0)


def noise_name(index: int) -> str:
    """Name of a recording in the noise file."""
    return f"noise{index:05d}"


def room_name(index: int) -> str:
    """Name of an impulse response in the file of rooms."""
    return f"room{index:05d}"


def perturbations_of(speeds: tuple[float, ...], formants: tuple[float, ...]) -> list[Perturbation]:
    """The voices that one speaker makes: its own, then one a speed, then one a factor of the formants."""
    return [OWN, *((speed, 1.0) for speed in speeds), *((1.0, factor) for factor in formants)]


def perturbation_name(voice: Perturbation) -> str:
    """Name of the array of the teacher's embeddings of everybody in this voice."""
    return f"speed {voice[0]:g}, formants {voice[1]:g}"
