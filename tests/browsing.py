"""Pages in a real browser, led by a script that is put into them; skipped where there is no Chromium."""

import base64
import hashlib
import json
import os
import re
import signal
import subprocess
import threading

import pytest

from benchmarks.browser import FLAGS, NAMES, chromium

CHROMIUM = chromium()
browser = pytest.mark.skipif(CHROMIUM is None, reason=f"no Chromium here: none of {', '.join(NAMES)} is on the PATH")
NASTY = (
    '</script><script>window.hacked=1</script><img src=x onerror=hacked=2> "it\'s" & 你好 🙂 \u2028 {{script}} \ud800'
)
WATCH = """
const problems = [];
addEventListener("error", (event) => problems.push(event.message));
const blocked = (event) => problems.push(`policy: ${event.violatedDirective} ${event.blockedURI}`);
addEventListener("securitypolicyviolation", blocked);
console.error = (...all) => problems.push(all.join(" "));
"""
TOOLS = """
const $ = (query) => document.querySelector(query), $$ = (query) => [...document.querySelectorAll(query)];
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const drawn = async () => { for (let i = 0; i < 4; i++) await new Promise(requestAnimationFrame); };
const picture = () => $(".stage").toDataURL();
const painted = () => {
  const canvas = $(".stage");
  const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return image.data.filter((x, i) => i % 4 === 3 && x > 0).length;
};
const frame = () => +$(".scrub").value;
const press = (key, more = {}) =>
  document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, ...more }));
const rows = (id) => $$(`${id} tbody tr`).map((row) => [...row.children].map((cell) => cell.textContent));
const choose = (select, value) => { $(select).value = value; $(select).dispatchEvent(new Event("change")); };
const button = (text) => $$("button").find((b) => b.textContent === text);
(async () => {
  const out = { problems };
  await drawn();
  try { ACT } catch (error) { problems.push(`the test's script: ${error.stack}`); }
  const all = JSON.stringify({ ...out, text: $("main").innerText, hacked: window.hacked ?? null });
  const escaped = (c) => "\\\\u" + c.charCodeAt(0).toString(16).padStart(4, "0");
  console.log("RESULT" + all.replace(/[^ -~]/g, escaped) + "END");
})();
"""
NARROW = """  // the browser's windows are 500 wide at least, which gets a phone's style
document.body.style.width = "380px"; await drawn();
const right = (e) => e.getBoundingClientRect().right;
const outside = $$("main *").filter((e) => !e.closest(".scroll, svg, .band") && right(e) > 381);
out.beyond = outside.map((e) => `${e.tagName} ${e.className}`);
out.long = $$(".long").filter((e) => e.offsetWidth).length;
"""


def digest(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def browse(page: str, folder, script: str = "", *, width: int = 1200, flags: tuple[str, ...] = ()) -> dict:
    """What a script finds in the page in a real browser."""
    path = folder / "page.html"
    path.write_text(acting(page, script), encoding="utf-8")
    return visit(path.as_uri(), folder, width=width, flags=flags)


def acting(page: str, script: str) -> str:
    """The page with the test's two scripts, which its policy must let in: by their hashes, as its own."""
    act = TOOLS.replace("ACT", script)
    page = page.replace("script-src '", f"script-src '{digest(WATCH)}' '{digest(act)}' '", 1)
    return page.replace("<title>", f"<script>{WATCH}</script><title>", 1).replace(
        "</body>", f"<script>{act}</script></body>"
    )


def visit(address: str, folder, *, width: int = 1200, flags: tuple[str, ...] = ()) -> dict:
    """What an acting page says, in real time: a virtual clock outruns the frames in which things are laid out."""
    sized = (f"--window-size={width},1000", f"--user-data-dir={folder / 'profile'}")
    command = [CHROMIUM, *FLAGS, "--enable-logging=stderr", *flags, *sized, address]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace", start_new_session=True
    )
    end = threading.Timer(30, os.killpg, (process.pid, signal.SIGKILL))
    end.start()
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"RESULT(\{.*\})END", line):
                return json.loads(found[1])
    finally:
        end.cancel()
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    raise AssertionError("the browser said nothing:\n" + "".join(lines[-30:]))


def data_of(page: str) -> str:
    return re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1]
