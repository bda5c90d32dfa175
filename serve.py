"""Serve the chain over HTTP, as OpenAI's clients speak it: speech, voices, diarization."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import signal
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from utils.errors import CloningError, missing_package
from utils.files import user_path
from utils.remedies import with_remedy
from utils.scripts import add_device, add_threads, add_voices, exit_code, log_warnings, use_threads

EXAMPLE = """example: python serve.py --alias alloy=lucy
  curl http://127.0.0.1:8000/v1/audio/speech -H "Content-Type: application/json" \\
    -d '{"model": "any", "voice": "lucy", "input": "Hello there.", "response_format": "wav"}' --output hello.wav"""
SHORTEST_TOKEN = 16
PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\nOne model is in memory; requests are answered in order, each while it is made.",
        epilog=f"{EXAMPLE}\nClone only voices whose owners agree: the README says what this must not be used for.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s")
    parser.add_argument(
        "--token-file",
        type=user_path,
        metavar="FILE",
        help="a file with the token that clients must send; needed for any address but this machine's own",
    )
    parser.add_argument(
        "--models", default="default", metavar="DIR", help="folder of checkpoints, or its name in saved_models"
    )
    add_voices(parser)
    parser.add_argument(
        "--alias",
        action="append",
        default=[],
        metavar="NAME=VOICE",
        help="another name of a voice, for programs that know OpenAI's only: alloy=lucy; may be repeated",
    )
    parser.add_argument("--max-characters", type=int, default=4096, metavar="N", help="of a text (default: 4096)")
    parser.add_argument(
        "--max-waiting", type=int, default=32, metavar="N", help="requests that may wait; more get 429 (default: 32)"
    )
    parser.add_argument("--timeout", type=float, default=300, metavar="S", help="of a request (default: 300 s)")
    add_device(parser)
    add_threads(parser)
    parser.add_argument("--quiet", action="store_true", help="log errors only")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code: 0 after SIGTERM, when what was accepted has been answered."""
    args = build_parser().parse_args(argv)
    log_warnings(args.quiet)
    return exit_code(lambda: run(args))


def run(args: argparse.Namespace) -> int:
    """Load, listen, answer. Raises CloningError."""
    for package in PACKAGES:
        if find_spec(package) is None:
            raise missing_package(package.replace("_", "-"), "serve.py", "requirements/serve.txt")
    _check(args)
    token = _token(args)
    import uvicorn

    from server.app import create_app
    from server.listening import Protocol, listen

    sock = listen(args.host, args.port)  # before the models are loaded: the address may be taken
    app = create_app(_server(args, token))
    if not args.quiet:
        host = f"[{args.host}]" if ":" in args.host else args.host
        print(f"http://{host}:{sock.getsockname()[1]}/v1", flush=True)
    config = uvicorn.Config(
        app, http=Protocol, ws="none", log_level="error" if args.quiet else "info", server_header=False,
        timeout_graceful_shutdown=round(args.timeout) + 1,
    )  # fmt: skip
    try:
        uvicorn.Server(config).run(sockets=[sock])
    except SystemExit as ended:
        if ended.code != 128 + signal.SIGTERM:
            raise
    return 0


def _check(args: argparse.Namespace) -> None:
    bounds = {
        "--port": (args.port, 0, 65_535),
        "--max-characters": (args.max_characters, 1, 1_000_000),
        "--max-waiting": (args.max_waiting, 1, 10_000),
        "--timeout": (args.timeout, 1, 86_400),
    }
    for flag, (value, low, high) in bounds.items():
        if not low <= value <= high:
            raise CloningError(f"{flag} is {value}; it must be {low} to {high}")


def _token(args: argparse.Namespace) -> str:
    if args.token_file is None:
        if not _is_local(args.host):
            raise CloningError(
                f"--host {args.host}: others can reach this address: give a --token-file with a token of at least "
                f"{SHORTEST_TOKEN} characters (python -c 'import secrets; print(secrets.token_urlsafe())')"
            )
        return ""
    try:
        token = args.token_file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not ASCII text"
        raise CloningError(f"--token-file {args.token_file}: cannot be read: {why}") from error
    if len(token) < SHORTEST_TOKEN or not token.isprintable() or " " in token:
        raise CloningError(
            f"--token-file {args.token_file}: a token is one word of at least {SHORTEST_TOKEN} characters, "
            f"this one has {len(token)}"
        )
    return token


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _server(args: argparse.Namespace, token: str) -> Any:

    from diarization.pipeline import Diarizer
    from server.limits import Limits
    from server.state import Server
    from utils.library import Library
    from utils.weights.find import models_folder
    from voice_cloner import VoiceCloner

    models = models_folder(args.models)
    library, aliases = Library(args.voices), {}
    for item in args.alias:
        name, _, voice = item.partition("=")
        if not name or not voice:
            raise CloningError(f"--alias {item}: NAME=VOICE is wanted, as in alloy=lucy")
        library.path(voice)
        aliases[name] = voice
    cloner = VoiceCloner.load(models, device=args.device)
    use_threads(args.threads)  # what the diarizer is loaded with
    try:
        diarizer = Diarizer.load(models, device=cloner.encoder.device.type)
    except CloningError as error:
        logging.warning("/v1/diarize is off: %s", with_remedy(error))
        diarizer = None
    limits = Limits(characters=args.max_characters, waiting=args.max_waiting, seconds=args.timeout)

    def prepare() -> None:
        use_threads(args.threads)
        if names := library.names():  # so that the first request waits for nothing
            try:
                list(cloner.stream(library.load(names[0]), "Hello.", seed=0))
            except CloningError as error:
                logging.warning("%s", error)

    return Server(cloner, library, limits, token, aliases, diarizer, prepare)


if __name__ == "__main__":
    sys.exit(main())
