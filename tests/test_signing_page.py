"""The page of who signs now, in a browser: skeletons move, tokens run and text grows, whoever signs."""

import json
import re
import time
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.browser import FAKE_CAMERA, Browser
from browsing import NARROW, acting, browser, data_of, digest, visit
from live_models import WINDOW, restored
from live_shows import Follows, serving
from signstream.inference.live_page.page import Names, live_page
from signstream.inference.live_page.recording import Recording
from signstream.inference.live_page.session import Readers
from signstream.inference.live_page.show import Show
from signstream.inference.live_page.sources import Camera, Demo, Video
from signstream.inference.live_text import LiveText
from signstream.io import video_files
from test_export import Tiny, make_tiny
from test_live_session import Signs

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")
pytestmark = [pytest.mark.usefixtures("one_thread"), browser]


def test_the_page_asks_its_own_server_alone_and_runs_only_its_own_script():
    page = live_page(Readers(), "camera", Names('</script><b>"somebody"'))
    shell = page.replace(data_of(page), "")
    assert set(re.findall(r"\w+://[^\s\"'`)]*", shell)) == {"http://www.w3.org/2000/svg"}
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    script = shell.split("<script>")[1].split("</script>")[0]
    assert f"script-src '{digest(script)}'" in policy and policy.endswith("; connect-src 'self'")
    assert page.count("</script") == 2 and "innerHTML" not in script and "{{" not in shell


LOOK = """
const secondHalf = () => {
  const [canvas, half] = [$(".stage"), $(".stage").width / 2];
  const image = canvas.getContext("2d").getImageData(half, 0, half, canvas.height);
  return image.data.filter((x, i) => i % 4 === 3 && x > 0).length;
};
const until = async (done, ms = 8000) => { for (let t = 0; t < ms && !done(); t += 50) await wait(50); };
const said = () => $(".said-now")?.textContent ?? "";
const cells = () => $$(".running .cell").length;
await until(() => cells() > 6 && painted() > 500);
out.title = document.title; out.paper = getComputedStyle(document.body).backgroundColor;
const before = picture(); await wait(400); out.moved = picture() !== before;
out.cells = cells(); out.painted = painted(); out.names = $(".names").innerText;
out.reconstructed = secondHalf();
"""

NOTE = "for (let t = 0; t < 100 && !$('.note').textContent; t++) await wait(50); out.note = $('.note').textContent;"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def readers(tiny) -> Readers:
    made = restored(like=tiny.tokenizer.vocabulary, window=replace(WINDOW, entries=80, positions=400))
    made = made._replace(kept=made.kept._replace(tokenizer=tiny.tokenizer.digest))
    return Readers(tiny.tokenizer, None, LiveText(made, "agree:1", tiny.tokenizer))


def seen(source, readers, folder, script, *, width=1200, flags=(), record=None) -> dict:
    """What the script finds in the page, in `out`."""
    recording = None if record is None else Recording(record, readers.tokenizer)
    show = Show(source, readers, recording)
    names = [name if reader else "" for name, reader in zip(("a run", "a recogniser", "an lm"), readers)]
    page = live_page(readers, source.kind, Names("somebody", *names, str(record or "")))
    with serving(show, acting(page, script)) as server:
        found = visit(server.address, folder, width=width, flags=flags)
    return found


GROWS = """
await until(() => said().length > 30);
out.said = said().length; await wait(900); out.grew = said().length > out.said || $$(".captions .past").length > 0;
out.total = $(".total").textContent; out.stages = $$(".stages dt").map((one) => one.textContent);
out.absent = $(".readers").textContent;
press(" "); await until(() => button("Start")); await wait(900);
const still = picture(); await wait(400); out.still = picture() === still; out.reader = talking();
press(" "); await until(() => button("Pause")); await until(() => picture() !== still); out.again = picture() !== still;
const box = $(".toggle input"); box.click(); await drawn(); box.click();
$(".controls input").click(); await drawn(); out.overlaid = $(".names").innerText;
"""
TALKING = "const talking = () => button('Pause') !== undefined;"


def test_the_demo_moves_and_its_text_grows(readers, tmp_path):
    found = seen(Demo(readers.fps), readers, tmp_path, TALKING + LOOK + GROWS)
    assert found["problems"] == [] and found["moved"] and found["cells"] > 6 and found["painted"] > 500
    assert found["reconstructed"] > 200 and "Reconstruction, 0.5 s later" in found["names"]
    assert found["title"] == "somebody – SignStream, live"
    assert found["said"] > 30 and found["grew"] and found["total"].endswith(" ms")
    assert {"waiting", "tokens", "text", "reconstruction"} <= set(found["stages"])
    assert "none: no glosses" in found["absent"] and "an lm" in found["absent"]
    assert found["still"] and not found["reader"] and found["again"] and "pale band" in found["overlaid"]


@pytest.mark.slow
def test_on_a_phone_in_the_dark(readers, tmp_path):
    dark = ("--blink-settings=preferredColorScheme=0",)
    script = LOOK + "out.width = document.documentElement.scrollWidth <= innerWidth;" + NARROW
    found = seen(Demo(readers.fps), readers, tmp_path, script, width=500, flags=dark)
    assert found["problems"] == [] and found["width"] and found["beyond"] == [] and found["moved"]
    assert found["paper"] == "rgb(20, 24, 27)"


@pytest.mark.slow
def test_without_anybody_who_reads_there_is_the_skeleton_and_the_page_says_so(tmp_path):
    script = LOOK.replace("cells() > 6 && ", "")
    found = seen(Demo(30), Readers(), tmp_path, script)
    assert found["problems"] == [] and found["moved"] and found["cells"] == 0
    assert "Reconstruction" not in found["names"] and "no recogniser, no language model" in found["text"]
    assert "none: no tokens, no reconstruction, no text" in found["text"]


@pytest.mark.slow
def test_glosses_stand_there_as_they_are_said(tmp_path):
    script = (
        LOOK.replace("cells() > 6", "$$('.signs [data-tip]').length > 2") + "out.sure = $('.signs span').dataset.tip;"
    )
    found = seen(Demo(25), Readers(recogniser=Signs()), tmp_path, script)
    assert found["problems"] == [] and found["moved"] and found["sure"] == "50.0 % sure"
    assert "none: no tokens" in found["text"] and "a recogniser" in found["text"]


KEEPS = """
await until(() => painted() > 500);
out.before = button("Record") !== undefined;
press("r"); await until(() => $(".record.on")); out.on = $(".record.on") !== null;
await wait(800); press("r"); await until(() => $(".note").textContent); out.note = $(".note").textContent;
"""


@pytest.mark.slow
def test_a_clip_is_kept_by_the_button_alone(readers, tmp_path):
    found = seen(Demo(readers.fps), readers, tmp_path, LOOK + KEEPS, record=tmp_path / "kept")
    assert found["problems"] == [] and found["before"] and found["on"] and found["note"].startswith("Kept as live_")
    (name,) = json.loads((tmp_path / "kept" / "annotations.json").read_text())
    assert found["note"] == f"Kept as {name}."


def film(path, frames=60, width=320, height=240):
    """A bright bar that wanders over a dark picture, as uncompressed video."""
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F30:1 Ip A1:1 C420jpeg\n".encode())
        for number in range(frames):
            light = np.full((height, width), 16, np.uint8)
            light[:, 40 + 4 * number : 56 + 4 * number] = 235
            file.write(b"FRAME\n" + light.tobytes() + np.full(height * width // 2, 128, np.uint8).tobytes())
    return path


CAMERA = """
await until(() => $(".stages .estimator"), 4000);
await until(() => said().length > 30); const first = said().length; // more than that nothing was said yet
await until(() => said().length > first); out.grew = first > 30 && said().length > first;
out.stages = $$(".stages dt").map((one) => one.textContent);
const pictured = picture(); $$(".controls input").at(-1).click(); await drawn(); out.bare = painted();
"""


def test_a_camera_moves_the_skeleton_over_its_picture_and_the_text_grows(readers, tmp_path):
    flags = (*FAKE_CAMERA, f"--use-file-for-fake-video-capture={film(tmp_path / 'bar.y4m')}")
    estimator = Follows()
    found = seen(Camera(estimator), readers, tmp_path, LOOK + CAMERA, flags=flags)
    assert found["problems"] == [] and found["moved"] and found["painted"] > 50000 > found["bare"] > 500
    assert estimator.seen > 10 and {"picture", "keypoints", "tokens"} <= set(found["stages"]) and found["cells"] > 6
    assert found["grew"]


@pytest.mark.slow
def test_without_a_camera_the_page_says_what_to_do(readers, tmp_path):
    script = (
        "for (let t = 0; t < 100 && !$('.note').textContent; t++) await wait(50); out.note = $('.note').textContent;"
    )
    found = seen(Camera(Follows()), readers, tmp_path, script, flags=("--deny-permission-prompts",))
    assert found["problems"] == [] and "camera" in found["note"] and "press Start" in found["note"]


@pytest.mark.slow
def test_a_video_is_shown_with_its_pictures_until_it_is_over(readers, tmp_path, monkeypatch):
    bars = [np.zeros((48, 64, 3), np.uint8) for _ in range(60)]
    for number, bar in enumerate(bars):
        bar[:, number : number + 4] = 255
    made = [video_files.Picture(number / 20, bar) for number, bar in enumerate(bars)]
    monkeypatch.setattr("signstream.inference.live_page.sources.pictures", lambda _: iter(made))
    script = LOOK + "await until(() => $('.note').textContent); out.note = $('.note').textContent;"
    found = seen(Video(tmp_path / "bars.mp4", Follows()), readers, tmp_path, script)
    assert found["problems"] == [] and found["moved"] and found["painted"] > 50000
    assert found["note"] == "The video is over: Start plays it again."


def test_a_second_page_is_told_that_another_is_open(tmp_path):
    show = Show(Demo(30), Readers())
    show.begin()
    page = live_page(Readers(), "demo", Names("somebody"))
    with serving(show, acting(page, NOTE)) as server:
        found = visit(server.address, tmp_path)
    assert found["note"].startswith("Another page shows this signer already") and found["problems"] == []


def eventually(holds, seconds=8.0):
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    assert holds()


def test_a_tab_that_closes_ends_the_work(tmp_path):
    show = Show(Demo(30), Readers())
    page = live_page(Readers(), "demo", Names("somebody", note="His words mean nothing."))
    with serving(show, page) as server, Browser(tmp_path, width=800, height=600) as tab:
        tab.open(server.address)
        eventually(lambda: show.session.clip is not None)
        assert tab.run("document.querySelector('.warning').textContent") == "His words mean nothing."
        tab.open("about:blank")
        eventually(lambda: show.reader is None and show.session.clip is None)


def test_a_page_that_was_forgotten_begins_anew_and_goes_on(tmp_path):
    show = Show(Demo(30), Readers())
    page = acting(live_page(Readers(), "demo", Names("somebody")), "")
    with serving(show, page) as server, Browser(tmp_path, width=800, height=600) as tab:
        tab.open(server.address)
        eventually(lambda: show.session.clip is not None)
        old = show.session
        show.reader = None
        past = "$$('.captions .past').length"
        eventually(lambda: show.session is not old and tab.run(past) == 1 and show.session.clip is not None)
        assert show.session.clips == 1


def test_who_stopped_at_a_fault_can_start_again_at_once(tmp_path, monkeypatch):
    show = Show(Demo(30), Readers())
    page = acting(live_page(Readers(), "demo", Names("somebody")), "")
    with serving(show, page) as server, Browser(tmp_path, width=800, height=600) as tab:
        tab.open(server.address)
        eventually(lambda: show.session.clip is not None)
        with monkeypatch.context() as broken:
            broken.setattr(show.source, "look", lambda *_: [][1])
            eventually(lambda: "a fault of the program" in tab.run("$('.note').textContent").lower())
        tab.run("press(' ')")
        eventually(lambda: show.session.clip is not None)


HOOK = """
const real = navigator.mediaDevices?.getUserMedia.bind(navigator.mediaDevices);
if (real) navigator.mediaDevices.getUserMedia = async (wanted) => (window.stream = await real(wanted));
"""


@pytest.mark.slow
def test_a_camera_that_goes_is_looked_for_and_a_new_clip_begins(tmp_path):
    flags = (*FAKE_CAMERA, f"--use-file-for-fake-video-capture={film(tmp_path / 'bar.y4m')}")
    estimator = Follows()
    show = Show(Camera(estimator), Readers())
    page = live_page(Readers(), "camera", Names("somebody"))
    with serving(show, page) as server, Browser(tmp_path, width=800, height=600, flags=flags) as tab:
        tab.ask("Page.enable")
        tab.ask("Page.addScriptToEvaluateOnNewDocument", source=HOOK)
        tab.open(server.address)
        eventually(lambda: estimator.seen > 5)
        tab.run("for (const t of stream.getTracks()) { t.stop(); t.dispatchEvent(new Event('ended')); }")
        eventually(lambda: "camera is gone" in tab.run("document.querySelector('.note').textContent"))
        eventually(lambda: show.session.clips == 2)
        assert tab.run("document.querySelector('.note').textContent") == "" and estimator.resets == 2
