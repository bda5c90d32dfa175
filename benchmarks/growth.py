"""A long run: how much memory a process holds after many different texts, and what they cost.

    python benchmarks/growth.py [--texts 500] [--every 10] [--stream] [--models default]
    LRU_CACHE_CAPACITY=1024 ONEDNN_PRIMITIVE_CACHE_CAPACITY=1024 python benchmarks/growth.py     # without our bound

The texts are the same every time, of one to forty words. The level is what is resident (Linux). "Most" is
the largest so far, which what a text takes for a moment counts in.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
WORDS = (
    "the river a garden old seven quiet people walked over under and morning light never carried letters "
    "toward station winter because music some window together answer small"
).split()


def texts(count: int) -> list[str]:
    """Sentences of other lengths and words, the same every time."""
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 40))).capitalize() + "." for _ in range(count)]


def resident() -> float:
    """MiB that this process holds now."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize() / 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--stream", action="store_true", help="VoiceCloner.stream in place of clone")
    parser.add_argument("--models", default=ROOT / "saved_models" / "default", type=Path)
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    args = parser.parse_args()

    import torch

    from voice_cloner import VoiceCloner  # before torch

    if args.threads:
        torch.set_num_threads(args.threads)
    cloner = VoiceCloner.load(args.models)
    reference = ROOT / "samples" / "austen_0870.wav"
    print("| texts | resident MiB | most MiB | processor s |\n|---|---|---|---|")
    seconds = 0.0
    for number, text in enumerate(texts(args.texts), 1):
        began = time.process_time()
        if args.stream:
            for _ in cloner.stream(reference, text, seed=number):
                pass
        else:
            cloner.clone(reference, text, seed=number)
        seconds += time.process_time() - began
        if number % args.every == 0:
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"| {number} | {resident():.0f} | {most:.0f} | {seconds:.1f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
