"""Finds the clips of every corpus below a folder; what is not understood is listed, never silently lost."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from utils.data.corpora.layouts import File, Layout, ParsedPath, describe_labels, recognize
from utils.data.corpora.metadata import LISTINGS, Listing
from utils.data.corpora.transcripts import LARGEST_TABLE, Transcripts
from utils.errors import CloningError, printable

# what utils.audio reads
LEADS_OUT = "a link that leads out of the corpus"
AUDIO = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .m4a .mp4 .aac .3gp .webm .mkv .wma .amr .aif .aiff .aifc .au .snd .caf "
    ".sph .nist .w64 .rf64".split()
)
_EXACT = frozenset(".wav .flac .aif .aiff .aifc .au .caf .w64 .rf64".split())  # taken before what was compressed
# sound that it does not read, and archives somebody forgot to unpack
_UNREADABLE = frozenset(".raw .pcm .ape .wv .shn".split())
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
# folders of a plain corpus that are no speakers
_NO_SPEAKER = frozenset(
    "train training dev development test testing valid validation eval evaluation wav wavs audio audios flac mp3 data "
    "clips recordings speakers speech voices corpus".split()
)
_NO_SPEECH = re.compile(r"(?:.*[_-])?(?:noises?|musan|music|rirs?|background)(?:[_-].*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Clip:
    """One audio file of one speaker."""

    id: str  # "<corpus>/<name>", unique in a scan, made of [A-Za-z0-9._-] and "/"
    speaker: str  # "<corpus>-<name>"; the parts of LibriSpeech and LibriTTS share one name
    path: Path  # absolute
    text: str | None = None  # as the corpus has it
    emotion: str | None = None  # one of EMOTIONS
    corpus: str = ""
    source: str = ""  # `path` relative to the folder that was scanned, with "/"
    speed: float = 1.0  # to be played so many times as fast, by another `speaker` then
    copies: tuple[tuple[Path, str], ...] = ()  # `path` and `source` of other recordings of the same

    def readings(self) -> Iterator[Clip]:
        """The clip, then itself from each copy of its recording, for where it cannot be read."""
        yield self
        for path, source in self.copies:
            yield replace(self, path=path, source=source)


@dataclass(frozen=True)
class Scan:
    """What a scan found: clips in the order of their ids, how many of each layout, and what was left out, with why."""

    clips: list[Clip] = field(repr=False)
    layouts: dict[str, int]
    not_understood: list[tuple[Path, str]] = field(repr=False)

    def report(self, examples: int = 3) -> str:
        """Counts of each corpus, how its emotions are read, why files were left out with a few examples: as lines."""
        speakers: dict[str, set[str]] = {}
        for clip in self.clips:
            speakers.setdefault(clip.corpus, set()).add(clip.speaker)
        lines = [f"{name}: {n} clips, {len(speakers[name])} speakers" for name, n in self.layouts.items()]
        lines += [f"{name}: emotions {labels}" for name in self.layouts if (labels := describe_labels(name))]
        reasons: dict[str, list[Path]] = {}
        for path, reason in self.not_understood:
            reasons.setdefault(reason.partition(":")[0], []).append(path)
        for reason, paths in reasons.items():
            shown = ", ".join(str(p) for p in paths[:examples]) + (", ..." if len(paths) > examples else "")
            lines.append(f"not taken: {len(paths)} files, {reason}: {shown}")
        return "\n".join(printable(line) for line in lines)


def scan(*roots: str | Path, follow_links: bool = False) -> Scan:
    """Recognize the corpora in `roots` and list their clips.

    A folder of no known layout is read as `speaker/**/<audio>` with `.txt` beside; its first folder names the speaker
    (folders such as `train` or `wavs` are passed over). Hidden folders and recordings are left out; so are links that
    lead out of `roots`, to recordings, folders or texts, unless `follow_links`. Raises CloningError for a folder that
    is missing and when no speech is found.
    """
    places = []
    for root in roots:
        path = Path(root).expanduser()
        if not path.is_dir():
            raise CloningError(f"{path}: no such corpus folder")
        places.append(path.resolve())
    collector = _Collector(places, follow_links)
    for place in places:
        collector.add(place)
    collector.left_out += collector.transcripts.left_out.items()
    if not collector.clips:
        hint = "; first: {}: {}".format(*collector.left_out[0]) if collector.left_out else ""
        where = ", ".join(str(r) for r in roots)
        raise CloningError(f"{where}: no speech found, {len(collector.left_out)} files not understood{hint}")
    clips = sorted(collector.clips.values(), key=lambda clip: clip.id)
    return Scan(clips, dict(sorted(Counter(c.corpus for c in clips).items())), sorted(collector.left_out))


def safe_name(name: str) -> str:
    """`name` in [A-Za-z0-9._-]; a name that had to change gets a digest, so that two names never become one."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", plain).strip(".")
    if plain == name:
        return name
    return f"{plain or 'x'}-{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:6]}"


@dataclass
class _Folder:
    path: Path
    names: list[str]  # of its files, sorted


class _Collector:
    """Gathers clips over several roots."""

    def __init__(self, roots: list[Path], follow_links: bool) -> None:
        self.clips: dict[str, Clip] = {}
        self.left_out: list[tuple[Path, str]] = []
        self.transcripts = Transcripts(self._leads_out)
        self._roots, self._follow_links = roots, follow_links
        self._followed: set[Path] = set()  # folders that links led to
        self._plain_corpora: dict[str, Path] = {}
        self._listings: dict[Path, Listing] = {}  # by their own path
        self._listing_of: dict[Path, Listing | None] = {}  # by the folder of the recordings
        self._root = Path()

    def add(self, root: Path) -> None:
        self._root = root
        known: set[Path] = set()  # folders with something recognized in or below them
        strange: list[tuple[File, bool]] = []  # audio of no known layout; with a diarization beside it?
        layout: Layout | None = None
        for folder in self._walk(root):
            siblings = frozenset(folder.names)
            meeting = any(name.lower().endswith(".rttm") for name in folder.names)
            for name in folder.names:
                path = folder.path / name
                if not self._is_audio(path):
                    continue
                file = File(path, siblings, self.transcripts)
                recognized = recognize(file, layout)
                if recognized is None:
                    strange.append((file, meeting))
                    continue
                layout, found = recognized
                self._take(path, layout.corpus, found)
                place = folder.path
                while place not in known and place != root.parent:
                    known.add(place)
                    place = place.parent
        for file, meeting in strange:
            reason = "recorded meeting, several speakers in one file (.rttm beside it)" if meeting else None
            self._take(file.path, "", reason or self._plain(file, known))
        for listing in {found.path: found for found in self._listing_of.values() if found}.values():
            self.left_out += listing.faults()
        self._listing_of.clear()

    def _is_audio(self, path: Path) -> bool:
        suffix = path.suffix.lower()
        if suffix in _UNREADABLE:
            remedy = f"ffmpeg -i {path.name} {path.stem}.flac"
            self.left_out.append((path, f"{suffix} cannot be read here; convert it: {remedy}"))
        elif path.name.lower().endswith(_ARCHIVES):
            self.left_out.append((path, "an archive, unpack it first"))
        return suffix in AUDIO

    def _take(self, path: Path, corpus: str, found: ParsedPath | str) -> None:
        if isinstance(found, str):
            self.left_out.append((path, found))
            return
        corpus = found.corpus or corpus
        id = "/".join(safe_name(part) for part in (corpus, *found.name.split("/")))
        # one reader of LibriVox has the same number in LibriSpeech and LibriTTS
        family = "librispeech" if corpus == "libritts" else corpus
        speaker = f"{safe_name(family)}-{safe_name(found.speaker)}"
        clip = Clip(id, speaker, path, found.text, found.emotion, corpus, path.relative_to(self._root).as_posix())
        other = self.clips.get(id)
        if other is not None:
            clip, other = sorted((other, clip), key=lambda c: (c.text is None, c.path.suffix.lower() not in _EXACT))
            self.left_out.append((other.path, f"the same utterance is taken from elsewhere: {clip.path}"))
            clip = replace(clip, copies=(*clip.copies, (other.path, other.source), *other.copies))
        self.clips[id] = clip

    def _plain(self, file: File, known: set[Path]) -> ParsedPath | str:
        """Read an audio file of no known layout as `corpus/speaker/**/file`."""
        folder = file.path.parent
        if folder in known:
            return "not named like the other files in its folder"
        # the corpus: the highest folder in which nothing is recognized
        line = [folder, *folder.parents]
        corpus = next(place for place in reversed(line[: line.index(self._root) + 1]) if place not in known)
        parts = file.path.relative_to(corpus).with_suffix("").parts
        if any(_NO_SPEECH.fullmatch(part) for part in (corpus.name, *parts[:-1])):
            return "noise or music by the name of its folder, no speech"
        speaker = next((part for part in parts[:-1] if part.lower() not in _NO_SPEAKER), None)
        listing = self._listing(file)
        if speaker is None and listing is not None:
            corpus = listing.path.parent
            speaker = corpus.name
        if speaker is None:
            return "no folder that names the speaker; put it in one, corpus/speaker/file"
        if self._plain_corpora.setdefault(corpus.name, corpus) != corpus:
            return f"two corpus folders are called {corpus.name!r}; rename one"
        listed = None if listing is None else listing.text(file.path)
        return ParsedPath("/".join(parts), speaker, file.text_beside(".txt", ".lab") or listed, corpus=corpus.name)

    def _listing(self, file: File) -> Listing | None:
        """The list of texts nearest upwards, as far as the folder above the scan's root, that names files beside."""
        folder = file.path.parent
        if folder not in self._listing_of:
            line = [folder, *folder.parents]
            places = (place / name for place in line[: line.index(self._root) + 2] for name in LISTINGS)
            path = next(filter(Path.is_file, places), None)
            if path is not None and path not in self._listings:
                self._listings[path] = Listing(path, self.transcripts.read(path, LARGEST_TABLE), AUDIO)
            listing = self._listings[path] if path is not None else None
            named = listing is not None and any(listing.names(folder / name) for name in file.siblings)
            self._listing_of[folder] = listing if named else None
        return self._listing_of[folder]

    def _walk(self, root: Path) -> Iterator[_Folder]:
        """Folders below `root` with their files, in sorted order; links lead neither out nor in circles."""
        waiting = [root]
        while waiting:
            path = waiting.pop()
            folders: list[str] = []
            names: list[str] = []
            try:
                with os.scandir(path) as entries:
                    for entry in entries:
                        found = self._look(Path(entry.path), entry)
                        if found is not None:
                            (folders if found == "folder" else names).append(entry.name)
            except OSError as error:
                self.left_out.append((path, f"this folder cannot be read: {error.strerror}"))
                continue
            waiting.extend(path / name for name in sorted(folders, reverse=True))
            if names:
                yield _Folder(path, sorted(names))

    def _look(self, path: Path, entry: os.DirEntry[str]) -> Literal["folder", "file"] | None:
        """What an entry of a folder is; None for one that is left out, which is listed where it might hold speech."""
        sound = path.suffix.lower() in AUDIO
        try:
            folder, regular = entry.is_dir(), entry.is_file()
            reason = self._why_not_followed(path, folder) if entry.is_symlink() else None
        except (OSError, RuntimeError):  # a link to itself
            folder, regular, reason = False, False, "a link that leads nowhere"
        if reason is None and entry.name.startswith("."):
            if not (folder or sound):
                return None
            reason = "hidden, its name begins with a dot: rename it to have it read"
        if reason is None and not folder and not regular:
            reason = "no regular file"
        if reason is not None:
            self.left_out.append((path, reason))
            return None
        if folder and sound:
            self.left_out.append((path, "a folder with the name of a recording; what is in it is read"))
        return "folder" if folder else "file"

    def _why_not_followed(self, link: Path, folder: bool) -> str | None:
        target = link.resolve(strict=True)
        if reason := self._leads_out(link):
            return reason
        if folder and link.parent.resolve().is_relative_to(target):
            return "a link to a folder above it"
        if folder and target in self._followed:
            return "a link to a folder that another link leads to"
        if folder:
            self._followed.add(target)
        return None

    def _leads_out(self, path: Path) -> str | None:
        """Why a file or folder of a corpus is not to be read, where a link in its path leads out of all corpora."""
        if self._follow_links or (target := path.resolve()) == path:
            return None
        if any(target.is_relative_to(root) for root in self._roots):
            return None
        return LEADS_OUT
