"""What the door inference/live.py does: opens what reads, and who signs, and serves the page until Ctrl-C."""

from __future__ import annotations

import signal
import webbrowser
from argparse import Namespace
from pathlib import Path
from types import FrameType

from signstream.data.estimator import open_estimator
from signstream.errors import UserError
from signstream.inference.live_page.page import Names, live_page
from signstream.inference.live_page.recording import Recording
from signstream.inference.live_page.server import LiveServer
from signstream.inference.live_page.session import Readers, open_readers
from signstream.inference.live_page.show import Show
from signstream.inference.live_page.sources import Camera, Demo, Source, Video
from signstream.models.policies import POLICY

NOBODY = "none"
# Where the quickstarts leave their runs: these are taken if nothing is said and they are there.
USUAL_TOKENIZER, USUAL_TEXT = "checkpoints/quickstart", "checkpoints/prefix_lm_live_quickstart"
FOREIGN = (
    "The quickstart's language model knows the synthetic signer's signs alone: of a person its words mean nothing."
)


def live(args: Namespace) -> None:
    tokenizer, text = run_of(args.checkpoint, USUAL_TOKENIZER), run_of(args.lm, USUAL_TEXT)
    if tokenizer is None and args.lm is None:
        text = None
    readers = open_readers(tokenizer, args.recogniser, text, policy=args.policy or POLICY, device=args.device)
    recording = None if args.record is None else Recording(args.record, readers.tokenizer)
    source = open_source(args, readers)
    show = Show(source, readers, recording)
    try:
        title = {"demo": "a synthetic signer", "camera": "your camera", "video": getattr(args.video, "name", "")}
        reads = (tokenizer or "", args.recogniser or "", text or "")
        note = FOREIGN if text == USUAL_TEXT and source.kind != "demo" else ""
        names = Names(title[source.kind], *reads, records=str(args.record or ""), note=note)
        server = LiveServer(show, live_page(readers, source.kind, names), port=args.port)
        serve(server, names, browser=not args.no_browser)
    finally:
        for told in show.close():
            print(f"not kept: {told['lost']}" if "lost" in told else f"kept as {told['saved']}")
        source.close()


def run_of(given: str | None, usual: str) -> str | None:
    """The run that was named, or the usual one if there is one."""
    if given is None:
        return usual if any(Path(usual).glob("*/best.pt")) else None
    return None if given == NOBODY else given


def open_source(args: Namespace, readers: Readers) -> Source:
    if args.demo and args.video is not None:
        raise UserError("--demo and --video FILE are two signers: choose one")
    if args.demo:
        return Demo(readers.fps)
    estimator = open_estimator()
    return Camera(estimator) if args.video is None else Video(args.video, estimator)


def serve(server: LiveServer, names: Names, *, browser: bool) -> None:
    """Until Ctrl-C, or whoever started it ends it."""
    readers = {"--checkpoint": names.tokenizer, "--recogniser": names.recogniser, "--lm": names.text}
    for (option, reader), what in zip(readers.items(), ("tokens", "glosses", "text")):
        if not reader:
            print(f"no {what}: {option} names nobody who reads them")
    if names.note:
        print(names.note)
    print(f"{names.title}, live: {server.address}", flush=True)
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        if browser:
            webbrowser.open(server.address)
        server.serve_forever()
    except KeyboardInterrupt:
        print("ended")
    finally:
        signal.signal(signal.SIGTERM, before)
        server.server_close()


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
