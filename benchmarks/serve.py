"""Many clients at once at a server (serve.py): errors, throughput, first sound, memory.

    python benchmarks/serve.py [--clients 32] [--seconds 120] [--waiting 24] [--threads 1]

Starts a server, measures the first sound when it is idle, then lets clients ask for sentences one after the other; a
429 is obeyed. Beside it: the same sentences in one process by VoiceCloner.stream, before and after.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import utils  # isort: skip # noqa: E402, F401 (before torch: how its threads wait)
import torch  # noqa: E402

from evaluation.lists.sentences import sentences  # noqa: E402
from utils.library import Library  # noqa: E402
from utils.scripts import exit_code  # noqa: E402
from voice_cloner import VoiceCloner  # noqa: E402

VOICE = "lucy"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=32, help="at once")
    parser.add_argument("--seconds", type=float, default=120.0, help="for which they ask")
    parser.add_argument("--waiting", type=int, default=24, help="requests that the server lets wait")
    parser.add_argument("--threads", type=int, default=1, help="of torch, in the server and in the one process")
    args = parser.parse_args(argv)
    return exit_code(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Print what was measured."""
    texts = [item["text"] for item in sentences()["read"]]
    alone = [in_one_process(texts, args.threads, args.seconds / 4)]
    command = [sys.executable, "serve.py", "--port", "0", "--max-waiting", str(args.waiting)]
    with tempfile.TemporaryDirectory() as folder:
        command += ["--threads", str(args.threads), "--voices", folder]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            threading.Thread(target=process.stdout.read, daemon=True).start()  # its log
            idle = [first_sound(url, text) for text in texts[:10]]
            print(f"first sound when idle: median {np.median(idle):.3f} s, worst {max(idle):.3f} s")
            loaded(url, texts, args, psutil.Process(process.pid))
        finally:
            process.terminate()
            print(f"exit code {process.wait(60)}")
    alone.append(in_one_process(texts, args.threads, args.seconds / 4))
    print(f"one process: {alone[0]:.1f} and {alone[1]:.1f} s of speech a second")


def first_sound(url: str, text: str) -> float:
    """Seconds until the first bytes of sound."""
    started = time.perf_counter()
    asked = {"model": "m", "voice": VOICE, "input": text, "response_format": "pcm"}
    with httpx.stream("POST", f"{url}/audio/speech", json=asked, timeout=60) as answer:
        chunks = answer.iter_raw()
        next(chunks)
        first = time.perf_counter() - started
        for _ in chunks:
            pass
    return first


def loaded(url: str, texts: list[str], args: argparse.Namespace, server: psutil.Process) -> None:
    """All clients at once: statuses, seconds of speech a second, memory at the start, in the middle and at the end."""
    statuses: Counter[str] = Counter()
    spoken = [0.0] * args.clients
    end = time.monotonic() + args.seconds

    def client(number: int) -> None:
        index = number
        with httpx.Client(timeout=120) as http:
            while time.monotonic() < end:
                asked = {"model": "m", "voice": VOICE, "input": texts[index % len(texts)], "response_format": "pcm"}
                try:
                    answer = http.post(f"{url}/audio/speech", json=asked)
                except httpx.HTTPError as error:
                    statuses[type(error).__name__] += 1
                    continue
                statuses[str(answer.status_code)] += 1
                if answer.status_code == 429:
                    time.sleep(float(answer.headers["Retry-After"]))
                elif answer.status_code == 200:
                    spoken[number] += len(answer.content) / 2 / 24_000
                    index += args.clients

    started, memory = time.monotonic(), [server.memory_info().rss]
    threads = [threading.Thread(target=client, args=(number,)) for number in range(args.clients)]
    for thread in threads:
        thread.start()
    for part in (1, 2):
        time.sleep(max(0.0, started + args.seconds * part / 2 - time.monotonic()))
        memory.append(server.memory_info().rss)
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - started
    print(
        f"{args.clients} clients, {seconds:.0f} s: {dict(statuses)}; {sum(spoken) / seconds:.1f} s of speech a second"
    )
    print("memory at the start, in the middle, at the end: " + ", ".join(f"{rss / 2**20:.0f} MiB" for rss in memory))


def in_one_process(texts: list[str], threads: int, seconds: float) -> float:
    """Seconds of speech that VoiceCloner.stream makes in a second."""
    torch.set_num_threads(threads)
    cloner, voice = VoiceCloner.load(), Library().load(VOICE)
    list(cloner.stream(voice, "Hello.", seed=0))
    started, spoken, index = time.perf_counter(), 0.0, 0
    while (taken := time.perf_counter() - started) < seconds:
        spoken += sum(piece.seconds for piece in cloner.stream(voice, texts[index % len(texts)], seed=1))
        index += 1
    return spoken / taken


if __name__ == "__main__":
    sys.exit(main())
