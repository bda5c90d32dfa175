"""`python -m utils.doctor`: it is content with a whole installation, and names what is missing with its remedy."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import namedtuple

import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tests.conftest import ROOT
from tests.support.tiny import save_tiny_models
from utils import doctor


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A whole installation: one package asked for, one extra list, three tiny models."""
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/core.txt").write_text("# needed\nnumpy>=1.20  # arrays\n", encoding="utf-8")
    (tmp_path / "requirements/more.txt").write_text("# More: of it\n-r core.txt\npytest\n", encoding="utf-8")
    save_tiny_models(tmp_path / "saved_models" / "default")
    monkeypatch.setattr(doctor, "KERNEL", "print('plain C')")
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    return tmp_path


def bad(root) -> list[doctor.Finding]:
    return [finding for finding in doctor.examine(root) if finding.state != doctor.OK]


def test_a_whole_installation_is_ready(root, capsys):
    assert [finding.name for finding in bad(root) if finding.name != "kernel"] == []  # there may be no compiler
    assert doctor.main([]) == 0
    out = capsys.readouterr().out
    assert out.rstrip().endswith("ready to clone") and len(out.splitlines()) < 40
    for word in ("Python", "torch", "libsndfile", "mp3", "parallel synthesizer", "requirements/more.txt", "GiB free"):
        assert word in out


def test_it_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "utils.doctor", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "what is missing" in done.stdout


def test_the_fingerprints_are_those_of_the_weights(root):
    from utils.weights.checkpoint import load_weights

    lines = "\n".join(str(finding) for finding in doctor.weights(root))
    for stage in doctor.STAGES:
        assert load_weights(root / "saved_models" / "default" / f"{stage}.safetensors").fingerprint in lines


def test_an_installation_without_its_checkout_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    assert doctor.main([]) == 2
    line = (
        f"error: {tmp_path / 'requirements'}: no such folder: the toolkit runs from a checkout: pip install -e . in it"
    )
    assert capsys.readouterr().err.splitlines() == [line]


def test_what_evaluation_alone_needs_is_no_fault():
    needed = doctor.requirements(ROOT / doctor.CORE)
    assert not [line for line in needed if line.startswith(("librosa", "umap-learn"))]
    assert doctor.CORE not in {word for finding in doctor.extras(ROOT) for word in finding.what.split()}


def test_a_missing_package_and_an_old_one(root, capsys):
    (root / "requirements/core.txt").write_text("no-such-package-here>=1\nnumpy>=999\n", encoding="utf-8")
    first, second = bad(root)[:2]
    assert first.state == second.state == doctor.WRONG and first.remedy.endswith("pip install -r requirements.txt")
    assert first.what == "no-such-package-here is missing" and second.what.endswith("wanted >=999")
    assert doctor.main([]) == 1 and "2 to mend" in capsys.readouterr().out


def test_a_missing_extra_does_not_count(root, capsys):
    (root / "requirements/more.txt").write_text("# More: of it\nno-such-package-here\n", encoding="utf-8")
    finding = bad(root)[-1]
    assert finding.state == doctor.OPTIONAL and "requirements/more.txt (More)" in finding.what
    assert finding.remedy == "python -m pip install -r requirements/more.txt"
    assert doctor.main([]) == 0


def test_an_old_python(root, monkeypatch):
    monkeypatch.setattr(doctor, "PYTHON", (99, 1))
    assert "Python 99.1 or newer" in doctor.python().remedy and doctor.main([]) == 1


@pytest.mark.parametrize(
    ("module", "check"), [("torch", doctor.torch_build), ("soundfile", doctor.codecs), ("av", doctor.codecs)]
)
def test_a_package_that_cannot_be_imported(monkeypatch, module, check):
    monkeypatch.setitem(sys.modules, module, None)
    finding = check()
    assert finding.state == doctor.WRONG and "cannot be imported" in finding.what and "pip install" in finding.remedy


def test_no_compiler(root, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    finding = doctor.kernel(root)
    assert finding.state == doctor.OPTIONAL and "apt install gcc" in finding.remedy and doctor.main([]) == 0


def test_a_compiler_that_fails(root, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(doctor, "KERNEL", "raise RuntimeError('cc fails: no such flag')")
    finding = doctor.kernel(root)
    assert finding.state == doctor.OPTIONAL and "cc fails: no such flag" in finding.what


def test_the_kernel_that_is_asked_for_is_the_vocoders(monkeypatch):
    if not any(map(shutil.which, doctor.COMPILERS)):
        pytest.skip("no C compiler here")
    finding = doctor.kernel(ROOT)
    assert finding.state == doctor.OK and "native code (" in finding.what


def test_a_libsndfile_without_mp3(monkeypatch):
    import soundfile

    monkeypatch.setattr(soundfile, "available_formats", lambda: {"WAV": "", "FLAC": "", "OGG": ""})
    finding = doctor.codecs()
    assert finding.state == doctor.WRONG and "cannot read MP3" in finding.what and "libsndfile 1.1" in finding.remedy


def test_a_stage_without_weights(root):
    (root / "saved_models" / "default" / "vocoder.safetensors").unlink()
    (finding,) = (f for f in bad(root) if f.name == "weights")
    assert finding.what == "saved_models/default has no vocoder" and "git checkout" in finding.remedy


def test_damaged_weights(root, capsys):
    path = root / "saved_models" / "default" / "encoder.safetensors"
    path.write_bytes(path.read_bytes()[:300])
    (finding,) = (f for f in bad(root) if f.name == "weights")
    assert "damaged or cut off" in finding.what and doctor.main([]) == 1


def test_weights_that_were_changed_behind_their_header(root):
    path = root / "saved_models" / "default" / "encoder.safetensors"
    with safe_open(path, framework="numpy") as file:
        header = file.metadata()
    tensors = load_file(path)
    name = next(name for name, tensor in tensors.items() if tensor.dtype.kind == "f")
    save_file({**tensors, name: tensors[name] + 1}, path, metadata=header)
    (finding,) = (f for f in bad(root) if f.name == "weights")
    assert finding.state == doctor.WRONG and "is not what was saved" in finding.what


def test_a_full_disk(root, monkeypatch):
    usage = namedtuple("usage", "free")(10 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert doctor.disk(root).state == doctor.WRONG and doctor.main([]) == 1
