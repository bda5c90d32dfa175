"""The published SV2TTS weights: fetched from the peer's model repository (MIT), checked, never shipped with ours."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from utils.errors import CloningError
from utils.files import atomic_path

REPOSITORY = "CorentinJ/SV2TTS"
REVISION = "main"  # the repository publishes no tags; size and sha256 below say whether a file is the expected one
SIZES = {"encoder.pt": 17_090_379, "synthesizer.pt": 370_554_559, "vocoder.pt": 53_845_290}  # bytes
SHA256 = {"encoder.pt": "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"}


def ensure_published(folder: Path) -> Path:
    """`folder` with the three published files in it, fetching those that are missing or not whole.

    Raises CloningError, which says what to download by hand and where to put it, when there is no network, or when a
    file is not the published one.
    """
    for name in SIZES:
        target = folder / name
        if not target.is_file() or target.stat().st_size != SIZES[name]:
            _fetch(name, target)
        if problem := _problem(name, target):
            raise CloningError(f"{target}: {problem}: delete it and try again")
    return folder


def _fetch(name: str, target: Path) -> None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        cached = hf_hub_download(REPOSITORY, name, revision=REVISION)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CloningError(
            f"cannot fetch {name} ({type(error).__name__}): download it from https://huggingface.co/{REPOSITORY} "
            f"on a machine with a network and put it at {target}"
        ) from error
    if problem := _problem(name, Path(cached)):
        raise CloningError(f"{REPOSITORY}/{name}: {problem}: not used")
    with atomic_path(target) as partial:
        shutil.copyfile(cached, partial)


def _problem(name: str, path: Path) -> str | None:
    if (size := path.stat().st_size) != SIZES[name]:
        return f"{size} bytes, the published file has {SIZES[name]}"
    if name in SHA256:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != SHA256[name]:
            return f"sha256 {digest[:12]}..., the published file has {SHA256[name][:12]}..."
    return None
