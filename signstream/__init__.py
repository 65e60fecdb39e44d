"""SignStream: signing to tokens and back.

signstream.load(path)        a Tokenizer (inference/tokenizer.py)
signstream.recogniser(path)  a Recogniser (inference/recognition/recogniser.py)
signstream.translator(path)  a Translator (inference/translation/translator.py), of several paths their average
signstream.register          makes a class of your own known by a name (registry.py)
signstream.UserError         what is said to a user: ends a program with one line
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from signstream import cli
from signstream.errors import UserError
from signstream.registry import register

if TYPE_CHECKING:
    from signstream.inference.recognition.recogniser import Recogniser
    from signstream.inference.tokenizer import Tokenizer
    from signstream.inference.translation.translator import Translator


__all__ = ["UserError", "load", "recogniser", "register", "translator"]


def load(path: str | Path, device: str = "auto") -> Tokenizer:
    """A tokenizer from a checkpoint, a run's folder or an experiment's folder (its newest run)."""
    try:
        from signstream.inference.tokenizer import Tokenizer
    except ModuleNotFoundError as error:
        raise cli.lacking(error) from None
    return Tokenizer.load(path, device)


def recogniser(path: str | Path, device: str = "auto") -> Recogniser:
    """Likewise, signing to glosses."""
    try:
        from signstream.inference.recognition.recogniser import Recogniser
    except ModuleNotFoundError as error:
        raise cli.lacking(error) from None
    return Recogniser.load(path, device)


def translator(*paths: str | Path, device: str = "auto") -> Translator:
    """Likewise, signing to sentences; of several, the mean of their logits decides."""
    try:
        from signstream.inference.translation.translator import Translator
    except ModuleNotFoundError as error:
        raise cli.lacking(error) from None
    return Translator.load(*paths, device=device)
