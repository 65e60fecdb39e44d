"""Sentences to train a text model on, and how a refusal is tested."""

from collections.abc import Callable

import pytest

from signstream.errors import UserError

SENTENCES = [
    "Der Regen zieht heute nach Norden ab.",
    "Morgen wird es im Süden kühl, im Norden mild.",
    "Auf den Bergen liegt etwas Schnee",
    "Mild und grün: später Nebel am Fluss!",
]
GERMAN = {"source": "de_DE", "target": "de_DE"}


def said_in_one_line(make: Callable[[], object], match: str) -> None:
    with pytest.raises(UserError, match=match) as said:
        make()
    assert "\n" not in str(said.value) and len(str(said.value)) < 1000
