"""One signer shown to one reader: what the page asks for, without HTTP.

    show = Show(source, readers, recording)
    reader = show.begin()["reader"]                  # refused while somebody else reads
    show.step(reader, picture, seconds)              # what has become known; for the page, as plain values for JSON
    show.record(reader, on=True)                     # the clip that begins now is kept
    show.end(reader)                                 # what is left of the clip
    show.close()                                     # for good

A Refused says an HTTP status and a line. One step runs at a time: a second one is refused, not queued.
"""

from __future__ import annotations

import base64
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from signstream.config import Poses
from signstream.errors import UserError, refusal
from signstream.inference.live_page.recording import Kept, Recording
from signstream.inference.live_page.session import Decoded, News, Readers, Session
from signstream.inference.live_page.sources import Box, Look, Source
from signstream.inference.live_text import Event
from signstream.inference.report.live.player import kept_of
from signstream.inference.report.player_data import packed

STALE = 8.0  # seconds without a step: the reader is gone
LAST_WAIT = 20.0  # seconds that an end waits for a step that still runs


class Refused(Exception):
    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class Captions:
    """What stands there of a clip's text, so that one sees what each event takes back."""

    def __init__(self) -> None:
        self.committed = self.thought = ""

    def after(self, event: Event) -> dict[str, Any]:
        shown = self.committed + self.thought
        self.committed, self.thought = self.committed + event.committed, event.thought
        apart = any("\u3040" <= character <= "\u9fff" for character in shown)  # no blanks between words
        kept = kept_of(shown, self.committed + self.thought, apart=apart)
        return {"added": event.committed, "thought": event.thought, "kept": kept, "taken": shown[kept:]}


class Show:
    def __init__(
        self,
        source: Source,
        readers: Readers,
        recording: Recording | None = None,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source, self.readers, self.recording, self.now = source, readers, recording, now
        self.lock = threading.Lock()
        self.reader: str | None = None
        self.heard = 0.0  # when the reader last asked, or was last answered
        self.leaving: str | None = None  # a reader who has said that he goes
        self._fresh()

    def _fresh(self) -> None:
        self.session = Session(self.readers)
        self.captions = Captions()
        self.look: Look | None = None  # the latest
        self.wanted = False  # whether the next clip is to be kept
        self.kept: Kept | None = None

    # -- what the page asks for

    def begin(self) -> dict[str, Any]:
        with self._alone(LAST_WAIT):
            if self.reader not in (None, self.leaving) and self.now() - self.heard < STALE:
                raise Refused(409, "another page shows this signer already: close it, or pause it there")
            self._leave()
            self.source.begin()
            self.reader, self.heard = secrets.token_urlsafe(16), self.now()
            return {"reader": self.reader}

    def step(self, reader: str, picture: bytes = b"", seconds: float = 0.0) -> dict[str, Any]:
        with self._alone(), self._ours(reader):
            began = time.perf_counter()
            told = [part for look in self.source.look(picture, seconds) for part in self._see(look)]
            spent = 1000 * (time.perf_counter() - began)
            return {"news": told, "spent": spent, "over": self.source.over, "kept": self._kept_seconds()}

    def record(self, reader: str, on: bool) -> dict[str, Any]:
        """The clip that goes on is over with it, so that what is kept is a whole clip."""
        with self._alone(), self._ours(reader):
            if self.recording is None:
                raise Refused(403, "nothing is recorded here: start with --record DIR")
            told = self._end()
            self.wanted = on
            return {"news": told, "kept": self._kept_seconds()}

    def end(self, reader: str) -> dict[str, Any]:
        self.leaving = reader  # so that who begins while a step still runs need not wait for this
        with self._alone(LAST_WAIT), self._ours(reader):
            self.reader = None
            return {"news": self._end()}

    # -- what the program does by itself

    def expire(self) -> None:
        """Ends the work for a reader who has gone without a word. Nobody else is ever held up by the look."""
        if self._silent() and self.lock.acquire(blocking=False):
            try:
                if self._silent():
                    self._leave()
            finally:
                self.lock.release()

    def close(self) -> list[dict[str, Any]]:
        """Waits for a step that still runs; no other one will. News of the clip that was being kept, if one was."""
        self.lock.acquire(timeout=LAST_WAIT)
        return self._leave()

    # -- how it is done

    def _silent(self) -> bool:
        return self.reader is not None and self.now() - self.heard > STALE

    def _leave(self) -> list[dict[str, Any]]:
        """Nobody reads any more: a clip that is being kept is over with it, the rest is forgotten."""
        self.reader = None
        try:
            return self._end() if self.kept is not None else []
        finally:
            self._fresh()

    @contextmanager
    def _alone(self, wait: float = 0.0) -> Iterator[None]:
        if not self.lock.acquire(timeout=wait) if wait else not self.lock.acquire(blocking=False):
            raise Refused(429, "one step is under way: ask again when it is answered")
        try:
            yield
        except UserError as error:
            raise Refused(422, str(error)) from None
        finally:
            self.lock.release()

    @contextmanager
    def _ours(self, reader: str) -> Iterator[None]:
        if self.reader is None or not secrets.compare_digest(reader.encode(), self.reader.encode()):
            raise Refused(410, "this page no longer shows the signer: start it again")
        self.heard = self.now()
        try:
            yield
        except UserError:
            raise
        except Exception:
            self._fresh()  # whatever was being read is spoilt
            raise
        finally:
            self.heard = self.now()  # however long that took

    def _see(self, look: Look) -> list[dict[str, Any]]:
        if self.wanted and self.session.clip is None:
            self.wanted, self.kept = False, Kept(look.size, self.readers.fps)
        *ended, news = self.session.see(look.seconds, look.frame)
        told = [self._told(each, None) for each in ended]
        self.look = look
        told.append(self._told(news, look))
        if look.last or (self.kept is not None and self.kept.full):
            told += self._end()
        return told

    def _end(self) -> list[dict[str, Any]]:
        return [self._told(news, None) for news in self.session.end()]

    def _kept_seconds(self) -> float | None:
        """Of the clip that is being kept."""
        if self.kept is None:
            return 0.0 if self.wanted else None
        return len(self.kept.frames) / self.kept.fps

    def _told(self, news: News, look: Look | None) -> dict[str, Any]:
        """For the page; what is kept is kept."""
        assert self.look is not None, "news come of looks"
        box = self.look.box
        told: dict[str, Any] = {"clip": news.clip, "first": news.first, "count": len(news.frames), "box": box}
        told["frames"] = packed(sure(np.stack(news.frames)), box) if news.frames else ""
        told["chunks"] = [self._chunk(decoded, box) for decoded in news.decoded]
        told["glosses"] = [{"gloss": sign.gloss, "confidence": sign.confidence} for sign in news.glosses]
        told["said"] = [self.captions.after(event) for event in news.said]
        told["spent"] = news.spent
        if look is not None:
            told |= _of_look(look)
            told["spent"] = look.spent | news.spent
        if self.kept is not None:
            self.kept.add(news)
        if news.over:
            told |= {"over": True, **self._written()}
            self.captions = Captions()
        return told

    def _written(self) -> dict[str, str | None]:
        """The name of the clip that was being kept, if one was, or why it is lost."""
        kept, self.kept = self.kept, None
        if kept is None or not kept.frames or self.recording is None:
            return {"saved": None}
        try:
            return {"saved": self.recording.write(kept)}
        except OSError as error:
            return {"saved": None, "lost": f"{self.recording.root}: {refusal(error)}"}
        except UserError as error:
            return {"saved": None, "lost": str(error)}

    def _chunk(self, decoded: Decoded, box: Box) -> dict[str, Any]:
        tokenizer = self.readers.tokenizer
        assert tokenizer is not None
        chunk = decoded.chunk
        levels = dict(zip(tokenizer.parts, tokenizer.levels))
        return {
            "t": chunk.t,
            "codes": {tag: codes[: levels[tag]] for tag, codes in zip(tokenizer.parts, chunk.codes.tolist())},
            "held": dict(zip(tokenizer.parts, chunk.held)),
            "again": packed(decoded.poses.numpy(), box),
            "waited": decoded.waited,
        }


def sure(frames: np.ndarray) -> np.ndarray:
    """[n, J, 3], without the joints that no reader takes for seen."""
    return np.where(frames[..., 2:] > Poses.min_score, frames, 0)


def _of_look(look: Look) -> dict[str, Any]:
    told: dict[str, Any] = {"signed": look.signed}
    if look.measured:
        told["points"] = packed(sure(look.frame[None]), look.box)
    if look.picture:
        told["picture"] = "data:image/jpeg;base64," + base64.b64encode(look.picture).decode()
    return told
