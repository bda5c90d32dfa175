"""The README, docs/ and the presets' page: flags and links exist, and the first command speaks, with these weights."""

from __future__ import annotations

import contextlib
import fnmatch
import importlib
import io
import re
import shlex
import subprocess
from functools import lru_cache
from pathlib import Path

import pytest
import soundfile

import demo_cli
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "configs" / "README.md"]
ALL = "\n".join([README, *(page.read_text(encoding="utf-8") for page in PAGES)])
BLOCK = r"```sh\n(.*?)```"
BLOCKS = "\n".join(re.findall(BLOCK, ALL, flags=re.DOTALL))
IN_LINES = re.findall(r"`(?:python )?(\w+\.py)( [^`]*)`", re.sub(BLOCK, "", ALL, flags=re.DOTALL))
COMMANDS = re.findall(r"(?:^|\s)python (\w+\.py|-m utils[.\w]+)([^\n#|]*)", BLOCKS) + IN_LINES


@lru_cache
def help_of(script: str, *subcommand: str) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit):
        importlib.import_module(script.removeprefix("-m ").removesuffix(".py")).main([*subcommand, "--help"])
    return said.getvalue()


@pytest.mark.parametrize(("script", "arguments"), sorted(set(COMMANDS)))
def test_every_flag_in_the_readme_exists(script, arguments):
    words = shlex.split(arguments)
    text = help_of(script, *words[:1]) if script == "evaluate.py" else help_of(script)
    for flag in (word for word in words if word.startswith("--")):
        assert re.search(rf"{flag}\b", text), f"{script} has no {flag}"


def test_the_tree_has_every_room_and_no_other():
    tree = README.partition("## The tree")[2].partition("###")[0]
    named = {
        name.rstrip("/")
        for cell in re.findall(r"^\| (`.*?`) \|", tree, flags=re.MULTILINE)
        for name in cell[1:-1].split("`, `")
    }
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    top = {name.partition("/")[0] for name in tracked.stdout.split("\0") if name}
    rooms = {name for name in top if (ROOT / name).is_dir() and not name.startswith(".")} | {
        name for name in top if name.endswith(".py")
    }
    assert [name for name in rooms if not any(fnmatch.fnmatch(name, pattern) for pattern in named)] == []
    assert [pattern for pattern in named if not fnmatch.filter(top, pattern)] == []


def test_the_walk_names_functions_of_its_files():
    walk = README.partition("### One clip")[2].partition("## ")[0]
    rows = re.findall(r"^\| `([\w/]+\.py)` \| (.*?) \|", walk, flags=re.MULTILINE)
    assert len(rows) == 5
    for path, what in rows:
        assert re.search(rf"def {re.search('`([a-z_]+)`', what)[1]}\b", (ROOT / path).read_text(encoding="utf-8")), path


CARDS = ("default", "emotional", "emotional_22k")


def test_the_front_page_stays_short():
    assert len(README.splitlines()) <= 180


@pytest.mark.parametrize("folder", ["", "docs", "configs", *(f"saved_models/{name}" for name in CARDS), "samples"])
def test_links_lead_somewhere(folder):
    pages = list((ROOT / folder).glob("*.md"))
    assert pages
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for path, heading in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
            target = page.parent / path if path else page
            assert target.exists(), f"{page.name}: {path}"
            headings = re.findall(r"^#+ (.*)", target.read_text(encoding="utf-8"), re.MULTILINE) if heading else []
            assert not heading or heading in {h.lower().replace(" ", "-") for h in headings}, f"{page.name}: {heading}"


def test_the_readme_names_commands_at_all():
    assert len(COMMANDS) > 40 and len(IN_LINES) > 5 and "make demo" in BLOCKS and "make test" in BLOCKS


def test_the_first_command_speaks(tmp_path):
    if not (ROOT / "saved_models" / "default" / "synthesizer.safetensors").is_file():
        pytest.skip("no default weights here")
    line = next(line for line in BLOCKS.splitlines() if "demo_cli.py --reference samples/" in line)
    words = shlex.split(line)
    arguments = [str(ROOT / w) if w.startswith("samples/") else w.replace("out/", f"{tmp_path}/", 1) for w in words[2:]]
    assert demo_cli.main(arguments) == 0
    samples, rate = soundfile.read(tmp_path / "demo.wav")
    assert rate == 16000 and 1.5 < len(samples) / rate < 6 and abs(samples).max() > 0.05
    assert (tmp_path / "demo.png").is_file()


MAKES = ("--out", "--output", "--report", "--pack")  # flags of what a command writes


def paths_of(words: list[str]) -> tuple[list[str], list[str]]:
    """The paths that a command reads, and those that it writes; words in capitals stand for the user's own."""
    written = {i for i, word in enumerate(words) if i and words[i - 1] in MAKES}
    if "utils.weights.export" in words:
        written.add(len(words) - 1)
    values = [word.partition("=")[2] if "=" in word and not word.startswith("-") else word for word in words]
    known = re.compile(r"(runs|data|saved_models|samples|configs|alignments)/")
    read = [word for i, word in enumerate(values) if i not in written and known.match(word)]
    return read, [words[i] for i in written]


def missing_paths(commands: list[str], made: set[str]) -> list[str]:
    """Paths that a command reads, and that are neither here nor made before; what it makes is added to `made`."""
    missing = []
    for command in commands:
        read, written = paths_of(shlex.split(command, comments=True))
        for path in read:
            parents = {path, *map(str, Path(path).parents)}
            if not (ROOT / path).exists() and not parents & made:
                missing.append(f"{path}: {command}")
        made |= set(written)
    return missing


def commands_in(text: str) -> list[str]:
    command = r"^ *((?:\w+=\S+ )*(?:python|torchrun|accelerate) [^\n]+)"
    return re.findall(command, re.sub(r"\\+\n", " ", text), re.MULTILINE)


def test_paths_in_commands_are_here_or_made_before():
    made: set[str] = set()
    assert missing_paths(commands_in(BLOCKS), made) == []
    helps = [(path.name, commands_in(path.read_text(encoding="utf-8"))) for path in sorted(ROOT.glob("*.py"))]
    assert sum(len(commands) for _, commands in helps) > 5
    for _, commands in helps:  # each may go on from those of the README and from its own
        assert missing_paths(commands, set(made)) == []
