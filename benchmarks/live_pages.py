"""The live page in a browser, for who measures or pictures it.

with shown(source, readers, names=names, folder=folder, size=(1080, 800)) as browser: ...      # the source plays
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.browser import Browser
from signstream.inference.live_page.page import Names, live_page
from signstream.inference.live_page.server import LiveServer
from signstream.inference.live_page.session import Readers
from signstream.inference.live_page.show import Show
from signstream.inference.live_page.sources import Source


@contextmanager
def shown(
    source: Source, readers: Readers, *, names: Names, folder: Path, size: tuple[int, int], flags: tuple[str, ...] = ()
) -> Iterator[Browser]:
    server = LiveServer(Show(source, readers), live_page(readers, source.kind, names))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with Browser(folder, width=size[0], height=size[1], flags=flags) as browser:
            browser.open(server.address)
            while not browser.run("document.querySelector('.total')?.textContent"):
                time.sleep(0.1)
            yield browser
    finally:
        server.shutdown()
        server.server_close()
        source.close()
