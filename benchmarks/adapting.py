"""What `make_voice.py --adapt` gains: voices speak other sentences unadapted, and adapted to one clip of 10 to 20 s.

    python benchmarks/adapting.py --corpus CORPORA                     # the six set-aside readers
    python benchmarks/adapting.py --corpus CORPORA --voices NAMES      # others, to choose settings by

Judges are those of `evaluate.py chain` (requirements/eval.txt): way to the voice by both judges of similarity, word
errors by Whisper, DistillMOS; and the processor seconds that adapting took.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from pathlib import Path

import soundfile

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cloning.adapt import adapt  # noqa: E402
from evaluation.cache import Cache  # noqa: E402
from evaluation.commands.chain_tables import cells  # noqa: E402
from evaluation.lists.sentences import READERS, SentencePlan, load_plan  # noqa: E402
from evaluation.lists.voices import plan_of  # noqa: E402
from evaluation.measure import Numbers, Panel  # noqa: E402
from utils.data.corpora import Clip, scan  # noqa: E402
from utils.voice import Voice  # noqa: E402
from voice_cloner import VoiceCloner  # noqa: E402

SECONDS = (10.0, 20.0)  # of the clip that is learned from
SHOWN = ("way to the voice %", "by the 2nd judge %", "WER %", "DistillMOS", "similarity", "similarity, 2nd judge")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--voices", nargs="+", help="instead of the set-aside readers")
    parser.add_argument("--sentences", type=int, default=8, help="of each voice, at most (default: %(default)s)")
    parser.add_argument("--words", action="store_true", help="adapt with the words of the clip too, as a third row")
    parser.add_argument("--synthesizer", help="instead of the default one")
    parser.add_argument("--cache", type=Path, default=Path("out/adaptation"))
    args = parser.parse_args()

    cloner = VoiceCloner.load(synthesizer=args.synthesizer)
    plan = plan_of(args.corpus, args.voices) if args.voices else load_plan(args.corpus)
    panel = Panel.load(
        Cache(args.cache / "chain.jsonl"), judge=None, recognizer="whisper", spoken=[i.spoken for i in plan.items]
    )
    panel.enrol(plan)
    found: dict[str, list[Numbers]] = {}
    for speaker, clip in learned_from(args.corpus, plan).items():
        voices = {"unadapted": cloner.embed_voice(clip.path)}
        for name, texts in {"adapted": [None], **({"adapted, with words": [clip.text]} if args.words else {})}.items():
            started = time.process_time()
            voices[name] = adapt(cloner, clip.path, texts, seconds=3600, progress=print)
            print(f"{speaker}, {name}: {time.process_time() - started:.0f} s of processors", flush=True)
        for name, voice in voices.items():
            rows = judged(cloner, panel, plan, speaker, voice, args.sentences)
            found.setdefault(name, []).extend(rows)
            print(f"{speaker}, {name}: {line(rows)}", flush=True)
    for name, rows in found.items():
        print(f"all, {name}: {line(rows)}")


def learned_from(corpus: Path, plan: SentencePlan) -> dict[str, Clip]:
    """Of each voice a clip that the plan does not use."""
    used = {path for paths in plan.enrolment.values() for path in paths} | {i.real for i in plan.items if i.real}
    found: dict[str, Clip] = {}
    for clip in sorted(scan(corpus).clips, key=lambda clip: hashlib.sha256(clip.id.encode()).hexdigest()):
        wanted = plan.real.get(clip.speaker) and clip.speaker not in found and clip.text and clip.path not in used
        if wanted and SECONDS[0] <= soundfile.info(clip.path).duration <= SECONDS[1]:
            found[clip.speaker] = clip
    return {s: found[s] for s in plan.real if s in found and plan.groups.get(s, READERS) == READERS}


def judged(
    cloner: VoiceCloner, panel: Panel, plan: SentencePlan, speaker: str, voice: Voice, count: int
) -> list[Numbers]:
    """All measures of sentences that the voice's owner has read too."""
    rows = []
    for item in plan.real[speaker][:count]:
        audio = cloner.clone(voice, item.text, seed=0).audio
        rows.append(panel.measure(audio, item.spoken, speaker))
    return rows


def line(rows: list[Numbers]) -> str:
    """The means that count."""
    found = cells(rows)
    return ", ".join(f"{name} {found[name].text(3)}" for name in SHOWN)


if __name__ == "__main__":
    main()
