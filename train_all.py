"""Train a whole chain from recordings in the time that you give it: prepare, train, export, measure, write a card."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from utils.chain import finish
from utils.chain.config import DEFAULT_STAGES, ENOUGH_SPEAKERS, KINDS, ChainConfig
from utils.chain.plan import Choices, Plan, Sources, make_plan
from utils.chain.run import run
from utils.config import SettingsParser, list_presets, load_config
from utils.data.packing import pack, unpack
from utils.data.selection import SET_ASIDE, read_set_aside
from utils.device import pick_device
from utils.errors import CloningError
from utils.files import user_path
from utils.scripts import add_threads, exit_code, positive, positive_number
from utils.weights.find import DEFAULT_MODELS, find_stage

EPILOG = """
examples:
  python train_all.py corpora --out runs/chain --hours 3
  python train_all.py corpora/VCTK corpora/LibriTTS --out runs/all --hours 8 --stages synthesizer vocoder hifigan
  python train_all.py pack corpora --out parts --part-mb 40        # archives for a machine without a network; there:
  python train_all.py parts/*.tar.gz --out runs/chain --minutes 8 --device cuda --piece-mb 15

The same command goes on where it was stopped. The time is that of the trainings; preparing and measuring come on top.
Phone times (alignments/*.jsonl.gz), texts (punctuated/*.tsv) and noises in a corpus are found by themselves.
"""


def build_parser() -> SettingsParser:
    """The arguments of this script."""
    parser = SettingsParser(
        description=__doc__, epilog=EPILOG + list_presets("chain"), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    about = "folders of corpora, or the parts that `train_all.py pack` made"
    parser.add_argument("corpora", nargs="+", type=user_path, metavar="CORPUS", help=about)
    parser.add_argument("--out", type=user_path, required=True, metavar="DIR", help="sets, runs, models, card, logs")
    time = parser.add_mutually_exclusive_group()
    time.add_argument("--hours", type=float, help="how long the trainings take in all")
    time.add_argument("--minutes", type=float, help="the same in minutes")
    about = f"what to train, of {', '.join(KINDS)} (default: the first three; with few speakers, our encoder serves)"
    parser.add_argument("--stages", nargs="+", choices=list(KINDS), metavar="STAGE", help=about)
    about = "a preset of those below, or a .toml file (default: by the device)"
    parser.add_argument("--config", help=about)
    parser.add_settings("change settings of the chain, such as vocoder.weight=2")
    about = "auto: a GPU where there is one (default)"
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help=about)
    about = "number format of the trainings, in place of their presets'"
    parser.add_argument("--precision", choices=["auto", "no", "bf16", "fp16"], help=about)
    about = "processes that prepare (default: cores)"
    parser.add_argument("--jobs", type=positive, default=os.cpu_count() or 1, metavar="N", help=about)
    add_threads(parser, "CPU threads of each training (default: all cores)")
    about = "phone times (default: alignments/*.jsonl[.gz] in a corpus)"
    parser.add_argument("--alignments", type=user_path, nargs="+", default=[], metavar="FILE", help=about)
    about = "make the phone times (English; needs requirements/align.txt)"
    parser.add_argument("--align", action="store_true", help=about)
    about = "better texts by id (default: punctuated/*.tsv in a corpus)"
    parser.add_argument("--texts", type=user_path, nargs="+", default=[], metavar="FILE", help=about)
    about = "speaker encoder, where none is trained (default: ours)"
    parser.add_argument("--encoder", type=user_path, metavar="CHECKPOINT", help=about)
    about = "an encoder that teaches the new one (default: ours; none: without)"
    parser.add_argument("--teacher", metavar="CHECKPOINT", help=about)
    about = "speakers that nothing learns from, one a line (default: evaluation/lists/set_aside.txt)"
    parser.add_argument("--set-aside", type=user_path, default=SET_ASIDE, metavar="FILE", help=about)
    parser.add_argument("--no-evaluation", action="store_true", help="do not measure the chain at the end")
    about = "write models, card and logs into OUT/pieces too, in files of at most N MiB"
    parser.add_argument("--piece-mb", type=positive_number, metavar="N", help=about)
    parser.add_argument("--dry-run", action="store_true", help="print the plan and end")
    return parser


def build_pack_parser() -> argparse.ArgumentParser:
    """The arguments of `train_all.py pack`."""
    parser = argparse.ArgumentParser(prog="train_all.py pack", description="Pack corpora into archives to carry.")
    parser.add_argument("corpora", nargs="+", type=user_path, metavar="CORPUS", help="folders of corpora")
    parser.add_argument("--out", type=user_path, required=True, metavar="DIR", help="where the parts go")
    parser.add_argument(
        "--part-mb", type=positive_number, default=40, metavar="N", help="largest part in MiB (default: 40)"
    )
    about = "speakers that are not packed, one a line (default: evaluation/lists/set_aside.txt)"
    parser.add_argument("--set-aside", type=user_path, default=SET_ASIDE, metavar="FILE", help=about)
    about = "more speakers that do; * and ? are wildcards, such as 'ravdess-*'"
    parser.add_argument("--exclude", nargs="+", default=[], metavar="SPEAKER", help=about)
    return parser


def pack_corpora(args: argparse.Namespace) -> None:
    """Write the archives of `train_all.py pack` and list them. Raises CloningError as `pack`."""
    aside = read_set_aside(args.set_aside)
    size = int(args.part_mb * 2**20)
    for part in pack(args.corpora, args.out, size, set_aside=aside, exclude=args.exclude):
        print(f"{part}: {part.stat().st_size / 2**20:.1f} MiB")


def train(args: argparse.Namespace, command: Sequence[str]) -> None:
    """Print the plan and carry it out. Raises CloningError: a step that cannot run or fails."""
    pick_device(args.device)  # refused here rather than after the first stage's preprocessing
    sources, choices, config = settings_of(args)
    plan = make_plan(config, sources, choices)
    show(plan, sources, choices)
    if args.dry_run:
        return
    run(plan, args.out)
    models = args.out / "models"
    made = finish.export_weights(plan, models, choices.encoder)
    measured = "Not measured."
    if not args.no_evaluation and {"encoder", "synthesizer", "vocoder"} <= made.keys():
        print("measuring: evaluate.py chain, on speakers that were held out", flush=True)
        measured = finish.evaluate(models, sources.corpora[0], args.out)
    print(f"card: {finish.write_card(plan, made, args.out, command, args.device, measured)}")
    if args.piece_mb:
        (args.out / "pieces").mkdir(exist_ok=True)
        for piece in finish.in_pieces(args.out, args.out / "pieces", int(args.piece_mb * 2**20)):
            print(f"piece: {piece}")
    print(f'speak with it: python demo_cli.py --models {models} --reference FILE.wav --text "Hello there."')


def settings_of(args: argparse.Namespace) -> tuple[Sources, Choices, ChainConfig]:
    """What the flags say, with everything looked up that they leave open."""
    minutes = 60 * args.hours if args.hours is not None else args.minutes
    if minutes is None or not 0 < minutes < float("inf"):
        raise CloningError("say how long to train, with --hours or --minutes above 0")
    parts = [path for path in args.corpora if path.name.endswith(".tar.gz")]
    folders = tuple(path for path in args.corpora if path not in parts)
    if parts:
        print(f"unpacking {len(parts)} parts into {args.out / 'corpora'}", flush=True)
        folders += tuple(unpack(parts, args.out / "corpora"))
    ours = find_stage(DEFAULT_MODELS, "encoder")
    teacher = Path(args.teacher) if args.teacher else ours
    preset = args.config or ("gpu" if args.device != "cpu" and finish.torch.cuda.is_available() else "cpu")
    flags = ["--precision", args.precision] if args.precision else []
    flags += ["--threads", str(args.threads)] if args.threads else []
    sources = Sources.found(folders, args.alignments, args.texts)
    stages = tuple(args.stages or DEFAULT_STAGES)
    if not args.stages and sources.speakers < ENOUGH_SPEAKERS and (args.encoder or ours):
        stages = tuple(stage for stage in DEFAULT_STAGES if stage != "encoder")
        print(f"{sources.speakers} speakers are too few for an encoder of their own (--stages encoder ... trains one)")
    choices = Choices(
        args.out, minutes, stages, args.device, args.jobs, align=args.align, training=tuple(flags),
        encoder=None if "encoder" in stages else args.encoder or ours,
        teacher=None if args.teacher == "none" or "encoder" not in stages else teacher,
        set_aside=None if args.set_aside == SET_ASIDE else args.set_aside,
    )  # fmt: skip
    return sources, choices, load_config(ChainConfig, "chain", preset, args.settings)


def show(plan: Plan, sources: Sources, choices: Choices) -> None:
    """The plan: what is learned from, and every command."""
    print(f"{choices.minutes:g} minutes of training on {choices.device}, into {choices.out}")
    for name in ("corpora", "alignments", "texts", "noise"):
        if paths := getattr(sources, name):
            print(f"  {name}: {', '.join(map(str, paths))}")
    for number, lane in enumerate(plan.lanes, 1):
        print("one after the other:" if len(plan.lanes) == 1 else f"at the same time, {number}:")
        for step in lane:
            time = f" ({step.minutes:.3g} min)" if step.minutes else ""
            print(f"  {step.name}{time}: {step}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run this script; returns its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv[:1] == ["pack"]:
        return exit_code(lambda: pack_corpora(build_pack_parser().parse_args(argv[1:])))
    args = build_parser().parse_args(argv)
    return exit_code(lambda: train(args, ["python", "train_all.py", *map(shlex.quote, argv)]))


if __name__ == "__main__":
    sys.exit(main())
