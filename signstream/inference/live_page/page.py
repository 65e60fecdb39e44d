"""The live page as HTML: what it has to know before it asks anything."""

from __future__ import annotations

from typing import NamedTuple

from signstream.inference.live_page.session import Readers
from signstream.inference.report.page import render_signing
from signstream.inference.report.player_data import parts_of
from signstream.skeleton import COCO_WHOLEBODY


class Names(NamedTuple):
    """What the page calls things; empty where there is none."""

    title: str  # who signs
    tokenizer: str = ""
    recogniser: str = ""
    text: str = ""
    records: str = ""  # where clips are kept
    note: str = ""  # what whoever looks has to know


def live_page(readers: Readers, kind: str, names: Names) -> str:
    """`kind` of source: demo, video or camera."""
    tokenizer = readers.tokenizer
    skeleton = COCO_WHOLEBODY if tokenizer is None else tokenizer.skeleton
    data = None if tokenizer is None else tokenizer.config.data
    told = None if tokenizer is None else tokenizer.model.told
    return render_signing(
        {
            "kind": kind,
            "title": names.title,
            "fps": readers.fps,
            "joints": skeleton.num_joints,
            "parts": parts_of(skeleton),
            "chunk_len": 0 if data is None else data.chunk_len,
            # frames from a movement to its reconstruction: a window of chunks, and what the front end looks ahead
            "delay": 0 if data is None else data.chunk_len * data.window + data.lookahead,
            "tells": None if told is None else skeleton.parts[told].name,
            "reads": {"tokens": names.tokenizer, "glosses": names.recogniser, "text": names.text},
            "records": names.records,
            "note": names.note,
        }
    )
