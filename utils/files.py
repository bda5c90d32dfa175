"""Files of the user: paths as people write them; written whole or not at all; never over what is read."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from utils.errors import CloningError

FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)
# what safetensors and torch say in place of an OSError
_SAID_OF_FULL = re.compile(
    r"os error (?:28|122|27|112)\b|No space left|quota exceeded|File too large"
    r"|PytorchStreamWriter failed|file write failed|unexpected pos \d+ vs \d+"
)


def user_path(path: str | os.PathLike) -> Path:
    """A path in which `~` is the home folder. Unlike `Path.expanduser`, leaves the `~` of nobody's home as it is."""
    return Path(os.path.expanduser(path))


def require_checkout(folder: Path) -> None:
    """Raises CloningError where a folder of the checkout is not there: the toolkit was installed without it."""
    if not folder.is_dir():
        raise CloningError(f"{folder}: no such folder: the toolkit runs from a checkout: pip install -e . in it")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it becomes `path` if the block ends well and is removed if not.

    Makes missing folders. Raises CloningError for what cannot be written.
    """
    path = user_path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(3)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.chmod(partial, 0o666 & ~_umask())  # some writers make private files; a user's output should not be one
        os.replace(partial, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    except (SafetensorError, RuntimeError) as error:
        if not _SAID_OF_FULL.search(str(error)):
            raise
        raise cannot_write(path, OSError(errno.ENOSPC, "the file could not be written whole")) from error
    finally:
        _remove(partial)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically. Raises CloningError for what cannot be written."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def cannot_write(path: str | os.PathLike, error: OSError) -> CloningError:
    """The line for a file that could not be written; of a full disk, with what is free on it."""
    if error.errno in FULL:
        return CloningError(f"cannot write {path}: {error.strerror} ({_free(Path(path))} free); make room there")
    why = error.strerror or error
    if isinstance(error, FileExistsError | NotADirectoryError):
        why = "its folder is a file"
    return CloningError(f"cannot write {path}: {why}; choose another place")


def require_folder(path: Path, name: str) -> None:
    """Raises CloningError, which calls it by `name`, unless `path` is a folder or can become one. Makes nothing."""
    there = next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))
    if not there.is_dir():
        raise CloningError(f"{name} {path}: {there} is no folder; choose another place")
    if not os.access(there, os.W_OK):
        raise CloningError(f"{name} {path}: nothing may be written in {there}; choose another place")


def require_file(path: str | os.PathLike) -> None:
    """Raises CloningError where there is nothing at `path`, before any work."""
    if not os.path.exists(user_path(path)):
        raise CloningError(f"no such file: {path}")


def require_apart(read: Iterable[str | os.PathLike], written: Iterable[str | os.PathLike]) -> None:
    """Raises CloningError where an output is a folder, one of the files that are read, or another output.

    Links and other spellings of a file are that file.
    """
    sources = [user_path(path) for path in read]
    outputs: list[Path] = []
    for path in map(user_path, written):
        if path.is_dir():
            raise CloningError(f"{path} is a folder: give a file's name")
        if any(_same(path, source) for source in sources):
            raise CloningError(f"{path} is read, and would be lost if it were written to: give another name")
        if any(_same(path, other) for other in outputs):
            raise CloningError(f"{path} would be written twice: give every output a name of its own")
        outputs.append(path)


def _same(a: Path, b: Path) -> bool:
    try:
        return os.path.samefile(a, b)
    except OSError:  # one of them is not there yet
        return os.path.normcase(os.path.realpath(a)) == os.path.normcase(os.path.realpath(b))


def _free(path: Path) -> str:
    """Free space on the disk of `path`, as people read it."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return f"{shutil.disk_usage(path).free / 2**20:.1f} MiB"


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # not made, because its folder could not be
        pass


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def in_package(package: str, name: str) -> Path | None:
    """A data file of an installed package, none of whose code is run; None where there is no such file."""
    found = importlib.util.find_spec(package)
    folders = [Path(folder) for folder in found.submodule_search_locations or ()] if found else []
    return next((path for folder in folders if (path := folder / name).is_file()), None)


def read_text(path: Path, name: str) -> str:
    """A text of the user's, a byte order mark left out. CloningError, which calls it by `name`: it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise CloningError(f"{name}: no such file") from error
    except OSError as error:
        raise CloningError(f"{name}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CloningError(f"{name}: not UTF-8 at byte {error.start}; save it as UTF-8 text") from error
