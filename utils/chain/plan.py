"""From corpora and a time to steps: what is run, in which order, on what, for how long."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from utils.chain.config import KINDS, ChainConfig, StageConfig
from utils.data.corpora import scan
from utils.errors import CloningError, MissingError

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Sources:
    """What there is to learn from."""

    corpora: tuple[Path, ...]
    alignments: tuple[Path, ...] = ()
    texts: tuple[Path, ...] = ()
    noise: tuple[Path, ...] = ()
    speakers: int = 0

    @classmethod
    def found(cls, corpora: Sequence[Path], alignments: Sequence[Path] = (), texts: Sequence[Path] = ()) -> Sources:
        """`corpora`, and where nothing else is given what stands in them: alignments/*.jsonl[.gz], punctuated/*.tsv.

        Folders of noise are recognized by their names, as in a scan.
        """
        found = scan(*corpora)
        noises = sorted({path.parent for path, reason in found.not_understood if "no speech" in reason})
        return cls(
            tuple(corpora),
            tuple(alignments) or _below(corpora, "alignments/*.jsonl", "alignments/*.jsonl.gz"),
            tuple(texts) or _below(corpora, "punctuated/*.tsv"),
            tuple(noises),
            len({clip.speaker for clip in found.clips}),
        )


@dataclass(frozen=True)
class Choices:
    """What the command line says of a chain."""

    out: Path
    minutes: float  # of training in all
    stages: tuple[str, ...]
    device: str = "auto"
    jobs: int = 1
    encoder: Path | None = None  # where the chain does not train one
    teacher: Path | None = None
    align: bool = False
    set_aside: Path | None = None
    training: tuple[str, ...] = ()  # more flags for every train script


@dataclass(frozen=True)
class Step:
    """One command. `minutes`: of training, 0 for a preparation; `run`: the folder of a training."""

    name: str
    arguments: tuple[str, ...]  # the script first
    minutes: float = 0.0
    run: Path | None = None

    @property
    def command(self) -> list[str]:
        """To run it."""
        return [sys.executable, str(ROOT / self.arguments[0]), *self.arguments[1:]]

    def __str__(self) -> str:
        return " ".join(["python", *(f'"{a}"' if set(a) & set(" *?'\"") else a for a in self.arguments)])


@dataclass(frozen=True)
class Plan:
    """Lanes of steps, each lane in its order; several lanes run at the same time."""

    lanes: tuple[tuple[Step, ...], ...]
    weights: dict[str, Path] = field(default_factory=dict)  # stage -> the checkpoint that it will be

    @property
    def steps(self) -> list[Step]:
        """All steps, lane by lane."""
        return [step for lane in self.lanes for step in lane]


def make_plan(config: ChainConfig, sources: Sources, choices: Choices) -> Plan:
    """Raises CloningError: stages that are unknown or lack what they need."""
    if unknown := sorted(set(choices.stages) - set(KINDS)):
        raise CloningError(f"unknown stages {unknown}: choose from {list(KINDS)}")
    stages = [name for name in KINDS if name in choices.stages]
    speaking = [name for name in stages if KINDS[name] == "synthesizer"]
    if "encoder" not in stages and speaking and choices.encoder is None:
        raise MissingError(
            f"{speaking[0]} needs a speaker encoder: train one too, or choose one", "encoder of the chain"
        )
    if "synthesizer" in stages and not (sources.alignments or choices.align):
        raise MissingError(
            "the parallel synthesizer needs phone times, and no corpus has alignments/*.jsonl: choose files of them, "
            "have them made, or leave the synthesizer out",
            "phone times of the chain",
        )
    hearing = [name for name in stages if KINDS[name] != "vocoder"]
    vocoding = [name for name in stages if KINDS[name] == "vocoder"]
    lanes = [lane for lane in (hearing, vocoding) if lane] if config.parallel_lanes else [stages]
    weights = {
        name: choices.out / "runs" / name / f"{getattr(config, name).weights}.safetensors" for name in stages
    }  # fmt: skip
    maker = _Maker(config, sources, choices, weights)
    return Plan(tuple(tuple(maker.lane(lane)) for lane in lanes), weights)


@dataclass
class _Maker:
    config: ChainConfig
    sources: Sources
    choices: Choices
    weights: dict[str, Path]

    def lane(self, stages: Sequence[str]) -> list[Step]:
        """Each stage's preparation, where no stage before it had the same, and its training."""
        whole = sum(self.of(name).weight for name in stages)
        steps: list[Step] = []
        for name in stages:
            prepared = self.prepare(name)
            steps += [] if prepared in steps else [prepared]
            steps.append(self.train(name, self.choices.minutes * self.of(name).weight / whole))
        return steps

    def of(self, name: str) -> StageConfig:
        return getattr(self.config, name)

    def data(self, name: str) -> Path:
        return self.choices.out / "data" / KINDS[name]

    def prepare(self, name: str) -> Step:
        kind, sources, choices = KINDS[name], self.sources, self.choices
        flags = [*sources.corpora, "--out", self.data(name), "--jobs", choices.jobs]
        if choices.set_aside is not None:
            flags += ["--set-aside", choices.set_aside]
        if kind == "synthesizer":
            flags += ["--encoder", self.weights.get("encoder", choices.encoder)]
            flags += ["--alignments", *sources.alignments] if sources.alignments else []
            flags += ["--align"] if choices.align and not sources.alignments else []
            flags += ["--texts", *sources.texts] if sources.texts else []
        else:
            exclude = self.of(kind).exclude
            flags += ["--exclude", *exclude] if exclude else []
        if kind == "encoder":
            flags += ["--noise", *sources.noise] if sources.noise else []
            flags += ["--teacher", choices.teacher, *self.of(kind).teacher_flags] if choices.teacher else []
        return Step(f"{kind}: prepare", (f"{kind}_preprocess.py", *map(str, flags)))

    def train(self, name: str, minutes: float) -> Step:
        stage, choices, run = self.of(name), self.choices, self.choices.out / "runs" / name
        flags = [self.data(name), "--out", run, "--config", stage.config]
        flags += ["--minutes", f"{minutes:g}", "--device", choices.device, *choices.training]
        alone = name == "encoder" and choices.teacher is None
        settings = [*stage.settings, *(stage.no_teacher_settings if alone else ())]
        for setting in settings:
            for other, weights in self.weights.items():
                setting = setting.replace(f"{{{other}}}", str(weights))
            if not any(f"{{{other}}}" in setting for other in KINDS):
                flags += ["--set", setting]
        return Step(f"{name}: train", (f"{KINDS[name]}_train.py", *map(str, flags)), minutes, run)


def _below(corpora: Sequence[Path], *patterns: str) -> tuple[Path, ...]:
    """Files of these names in a corpus or one folder further down; a folder of such files may be a corpus itself."""
    folders = {pattern.split("/")[0] for pattern in patterns}
    own = [corpus.parent if corpus.name in folders else corpus for corpus in corpora]
    below = [sorted(path for path in corpus.iterdir() if path.is_dir()) for corpus in corpora]
    places = [place for corpus, others in zip(own, below, strict=True) for place in (corpus, *others)]
    return tuple(
        dict.fromkeys(path for place in places for pattern in patterns for path in sorted(place.glob(pattern)))
    )
