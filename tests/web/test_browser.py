"""The page in a real browser: opened, filled in, cloned with, listened to, downloaded from; nothing leaves home."""

from __future__ import annotations

import io
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
import soundfile

from tests.conftest import ROOT
from utils.audio import watermark

pytest.importorskip("streamlit", reason="the page is optional: pip install -r requirements/app.txt")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 600  # s; a busy machine is no failure


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A server with the default weights, started as the README says."""
    if CHROMIUM is None:
        pytest.skip("no chromium here (Debian: apt install chromium)")
    if not (ROOT / "saved_models" / "default" / "synthesizer.safetensors").is_file():
        pytest.skip("no default weights here")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (tmp_path_factory.mktemp("server") / "log").open("w+")
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    server = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(f"http://localhost:{port}/_stcore/health", server)
        yield f"http://localhost:{port}"
    finally:
        server.terminate()
        server.wait(PATIENCE)
        log.seek(0)
        print(log.read())


def wait_for(url: str, server: subprocess.Popen) -> None:
    for _ in range(PATIENCE):
        assert server.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(1)
    raise TimeoutError(url)


@pytest.fixture
def browser_page():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1900})
        page.set_default_timeout(PATIENCE * 1000)
        yield page
        browser.close()


def test_one_click_through(address, browser_page, tmp_path):
    page, elsewhere, complaints = browser_page, [], []
    page.on("request", lambda r: elsewhere.append(r.url) if not r.url.startswith((address, "data:", "blob:")) else None)
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.goto(address)
    page.get_by_role("button", name="Fill in a sample text").click()
    page.get_by_text("The quick brown fox").wait_for()
    page.get_by_role("button", name="Clone", exact=True).click()
    page.get_by_role("heading", name="Reference", exact=True).wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    with soundfile.SoundFile(io.BytesIO(download.value.path().read_bytes())) as wav:
        assert wav.samplerate == 16000 and 1 < wav.frames / wav.samplerate < 8 and "synthetic" in wav.comment
        assert watermark.detect(wav.read(), wav.samplerate).found
    players = page.locator("audio")
    players.nth(2).wait_for()
    lengths = [players.nth(i).evaluate(SECONDS) for i in range(3)]
    assert lengths[0] == lengths[1] > 5 and lengths[2] == pytest.approx(wav.frames / 16000, abs=0.01)
    page.get_by_role("img").nth(1).wait_for()
    page.screenshot(path=str(tmp_path / "page.png"))
    assert not elsewhere and not complaints, (elsewhere, complaints)


def test_who_speaks_when_is_shown_and_played(address, browser_page, tmp_path):
    pytest.importorskip("sklearn")
    if not (ROOT / "saved_models" / "default" / "diarization.json").is_file():
        pytest.skip("no calibration of the default encoder for diarization")
    page = browser_page
    page.goto(address)
    page.get_by_role("tab", name="Who speaks when").click()
    page.get_by_role("button", name="Find out").click()
    page.get_by_role("button", name="Turns (RTTM)").wait_for()
    player = page.frame_locator("iframe").locator("audio")
    assert player.evaluate(SECONDS) > 12
    page.screenshot(path=str(tmp_path / "speakers.png"))


def test_a_damaged_m4a_is_a_line(address, browser_page):
    page = browser_page
    page.goto(address)
    page.get_by_text("A file", exact=True).first.click()
    bad = {"name": "me.m4a", "mimeType": "audio/mp4", "buffer": b"\0\0\0\x20ftypM4A " + bytes(64)}
    shown = page.get_by_test_id("stFileUploader").filter(visible=True)  # the other tab has one too
    shown.locator("input[type=file]").set_input_files(bad)
    page.get_by_text("me.m4a is damaged, truncated or no audio: it cannot be decoded; copy it again").wait_for()
    assert "Traceback" not in page.content()


def test_the_server_answers_this_machine_only(address):
    port = int(address.rsplit(":", 1)[1])
    other = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), port, socket.AF_INET)} - {"127.0.0.1"}
    if all(ip.startswith("127.") for ip in other):
        pytest.skip("this machine has no address but its own")
    for ip in other:
        with pytest.raises(OSError), socket.create_connection((ip, port), timeout=5):
            pass


# resolves once the browser knows how long the clip is: it fetched and decoded it
SECONDS = """player => new Promise(done => {
    if (player.readyState > 0) return done(player.duration)
    player.onloadedmetadata = () => done(player.duration)
})"""
