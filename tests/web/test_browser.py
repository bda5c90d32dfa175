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

pytestmark = pytest.mark.slow

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


def drawn(page) -> None:
    """Wait until the server has drawn the page: what is pressed before may belong to the page of before."""
    page.locator("[data-test-script-state=notRunning]").wait_for()


def downloaded(page, suffix: str):
    """The newest take as a file of this suffix; a press that the page of before has swallowed is repeated."""
    page.get_by_role("button", name="Download", exact=True).wait_for()
    for _ in range(PATIENCE // 20):
        drawn(page)
        try:
            with page.expect_download(timeout=20_000) as download:
                page.get_by_role("button", name="Download", exact=True).click()
        except sync_api.TimeoutError:
            continue
        if download.value.suggested_filename.endswith(suffix):
            return download.value
    raise AssertionError(f"no download of {suffix} in {PATIENCE} s")


def test_one_click_through(address, browser_page, tmp_path):
    page, elsewhere, complaints = browser_page, [], []
    page.on("request", lambda r: elsewhere.append(r.url) if not r.url.startswith((address, "data:", "blob:")) else None)
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.goto(address)
    page.get_by_role("button", name="Fill in a sample text").click()
    page.get_by_text("The quick brown fox").wait_for()
    drawn(page)
    page.get_by_role("button", name="Clone", exact=True).click()
    download = downloaded(page, ".wav")
    assert download.suggested_filename == "austen_0870_the-quick-brown-fox-jumps-over.wav"
    with soundfile.SoundFile(io.BytesIO(download.path().read_bytes())) as wav:
        assert wav.samplerate == 16000 and 1 < wav.frames / wav.samplerate < 8 and "synthetic" in wav.comment
        assert watermark.detect(wav.read(), wav.samplerate).found
    sample, take = page.get_by_label("The sample austen_0870"), page.get_by_label("Take in the voice austen_0870")
    assert sample.evaluate(SECONDS) > 5 and take.evaluate(SECONDS) == pytest.approx(wav.frames / 16000, abs=0.01)
    assert "Done" in page.get_by_role("status").first.inner_text()
    page.locator("summary", has_text="Pictures").click()
    page.get_by_role("img", name="Both recordings").wait_for()
    page.screenshot(path=str(tmp_path / "page.png"))
    assert not elsewhere and not complaints, (elsewhere, complaints)


def test_speech_is_heard_while_it_is_made_and_its_words_light_up(address, browser_page):
    page = browser_page
    page.add_init_script(HEARD)
    page.goto(f"{address}/?text={'The+kettle+is+on.+' * 12}&seed=1")
    page.get_by_role("button", name="Clone", exact=True).click()
    page.wait_for_function("window.heard.length > 0")
    page.get_by_role("button", name="Download", exact=True).wait_for()
    heard = page.evaluate("window.heard")
    assert all(state == "running" for *_, state in heard)
    ends = [start + seconds for start, seconds, _ in heard]  # one after the other, nothing twice
    assert all(start >= end - 1e-3 for (start, *_), end in zip(heard[1:], ends, strict=False))
    take = page.get_by_label("Take in the voice austen_0870")
    page.wait_for_function(GOES_ON)
    take.evaluate("player => { player.pause(); player.currentTime = player.duration / 2; player.play() }")
    page.locator(".words .said").wait_for()


def test_a_script_by_the_keyboard_and_one_of_its_lines_anew_as_mp3(address, browser_page):
    page = browser_page
    page.add_init_script(HEARD)
    page.goto(address)
    page.get_by_role("switch", name="A script of several voices").press("Space")
    page.get_by_text("Voices: ").wait_for()
    page.get_by_role("button", name="Fill in a sample text").press("Enter")
    page.get_by_text("[pause 0.8]").wait_for()
    drawn(page)
    page.get_by_role("button", name="Clone", exact=True).press("Enter")
    page.wait_for_function("window.heard.length > 0")
    page.get_by_role("button", name="Make it anew").wait_for()
    drawn(page)
    page.get_by_role("button", name="Make it anew").press("Enter")
    page.get_by_text("made anew: line 1").wait_for()
    page.get_by_role("combobox", name="Format").click()
    page.get_by_role("option", name="MP3").click()
    page.wait_for_url("**format=mp3**")
    download = downloaded(page, ".mp3")
    assert download.suggested_filename.endswith("_good-morning-is-the-kettle-on.mp3")
    with soundfile.SoundFile(io.BytesIO(download.path().read_bytes())) as file:
        assert "synthetic" in file.comment and watermark.detect(file.read(), file.samplerate).found
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_can_be_read_at_any_width_in_both_themes(address, width, scheme, tmp_path):
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 1200}, color_scheme=scheme)
        page.set_default_timeout(PATIENCE * 1000)
        page.goto(f"{address}/?text=Guten+Morgen!+Das+Brot+ist+noch+warm.")
        page.get_by_text("This looks like German").wait_for()
        page.get_by_text("Clone only voices").wait_for()
        page.screenshot(path=str(tmp_path / f"{scheme}{width}.png"), full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert page.evaluate(FAINT) == []
        levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(h => +h.tagName[1])")
        assert levels[0] == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
        browser.close()


def test_who_speaks_when_is_shown_and_played(address, browser_page, tmp_path):
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
    page.get_by_text(
        "Not taken: me.m4a is damaged, truncated or no audio: it cannot be decoded; copy it again"
    ).wait_for()
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

# [start, seconds, state of the context] of each piece of sound that the page plays by itself
HEARD = """window.heard = [];
const create = AudioContext.prototype.createBufferSource;
AudioContext.prototype.createBufferSource = function () {
    const source = create.call(this), start = source.start.bind(source);
    window.live = this;
    source.start = (at) => { window.heard.push([at, source.buffer.duration, this.state]); start(at); };
    return source;
}"""
# the player of the whole plays, unless a slow machine had all of it heard before it was there
GOES_ON = """() => {
    const [start, seconds] = window.heard.at(-1);
    return [...document.querySelectorAll("audio")].some((p) => !p.paused && p.currentTime > 0)
        || window.live.currentTime >= start + seconds;
}"""
# visible texts whose contrast with what lies behind them is below 4.5 to 1: [text, ratio]
FAINT = """(() => {
    const parse = (color) => {
        const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number);
        return color.startsWith("color(srgb") ? [r * 255, g * 255, b * 255, a] : [r, g, b, a];
    };
    const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3]));
    const luminance = (color) => {
        const [r, g, b] = color.map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        if (!element) return [255, 255, 255];
        const own = parse(getComputedStyle(element).backgroundColor);
        return own[3] === 1 ? own.slice(0, 3) : over(own, behind(element.parentElement));
    };
    const faint = [];
    const walker = document.createTreeWalker(document.querySelector("[data-testid=stMain]"), NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
        if (!text || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
        if (element.closest("script, style, [disabled], [aria-hidden=true], [data-testid=stIconMaterial]")) continue;
        const ground = behind(element), color = parse(getComputedStyle(element).color);
        for (let e = element; e; e = e.parentElement) color[3] *= +getComputedStyle(e).opacity;
        const ink = over(color, ground);
        const [low, high] = [luminance(ink), luminance(ground)].sort((a, b) => a - b);
        const ratio = (high + 0.05) / (low + 0.05);
        if (ratio < 4.5) faint.push([text.slice(0, 40), Math.round(ratio * 100) / 100]);
    }
    return faint;
})()"""
