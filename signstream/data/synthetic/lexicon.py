"""The signs of the synthetic signer: handshapes, places, orientations, movements, and what is made of them.

    lexicon(count) -> {gloss: Sign}

The language is the same for every seed: data sets made with two seeds share their signs. Lengths are in shoulder
widths, with the origin between the shoulders, x to the picture's right, y down, z away from the camera; everything is
written for a right-handed signer's right hand and mirrored for the other one. Angles are in degrees in the tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from signstream.errors import UserError

LANGUAGE_SEED = 1866
FINGER_CODES = {  # knuckle and middle joint, flexion in degrees
    "s": (4, 6),
    "f": (82, 98),
    "h": (12, 92),
    "b": (76, 8),
    "c": (34, 48),
    "p": (52, 52),
    "k": (42, 6),
    "t": (88, 40),
}
THUMB_CODES = {  # out of the palm's line, across, bend
    "o": (62, 4, 0),
    "a": (18, 12, 4),
    "x": (8, 48, 42),
    "p": (26, 58, 16),
    "r": (38, 30, 10),
}
SPREAD = np.array([11.0, 2.0, -6.0, -14.0])  # index to little finger
HANDSHAPES = {  # thumb, index to little finger, spread
    "fist": "xffff0",
    "thumb": "offff0",
    "index": "xsfff0",
    "flat": "assss0",
    "five": "ossss2",
    "four": "xssss1",
    "vee": "xssff2",
    "you": "xssff0",
    "three": "ossff2",
    "gun": "osfff0",
    "hook": "xhfff0",
    "hook-two": "xhhff1",
    "little": "xfffs0",
    "wye": "offfs1",
    "horns": "osffs1",
    "ring": "ppsss1",
    "beak": "pbbbb0",
    "oh": "ppppp0",
    "cee": "rcccc0",
    "claw": "rhhhh2",
    "bent": "abbbb0",
    "kay": "askff1",
    "middle": "oskss1",
    "pinch": "ppfff0",
    "spoon": "xbbff0",
    "relaxed": "rcccc1",
}


@dataclass(frozen=True)
class Place:
    """Where a sign is made."""

    at: tuple[float, float, float]  # the point that the hand's contact point goes to
    reach: float  # palms from the wrist to the contact point
    head: bool = False  # whether it moves along with the head


PLACES = {
    "forehead": Place((-0.12, -0.80, -0.42), 1.5, True),
    "temple": Place((-0.30, -0.72, -0.28), 1.5, True),
    "cheek": Place((-0.22, -0.47, -0.36), 1.5, True),
    "nose": Place((-0.03, -0.57, -0.50), 1.6, True),
    "mouth": Place((-0.02, -0.40, -0.46), 1.4, True),
    "chin": Place((-0.03, -0.28, -0.44), 1.3, True),
    "ear": Place((-0.33, -0.60, -0.14), 1.4, True),
    "neck": Place((-0.06, -0.10, -0.32), 1.3),
    "near-shoulder": Place((-0.46, 0.04, -0.30), 1.2),
    "far-shoulder": Place((0.36, 0.06, -0.34), 1.2),
    "chest": Place((-0.02, 0.32, -0.36), 0.9),
    "heart": Place((0.20, 0.40, -0.38), 0.9),
    "ribs": Place((-0.32, 0.62, -0.36), 0.6),
    "belly": Place((-0.04, 0.86, -0.40), 0.6),
    "high": Place((-0.48, -0.30, -0.62), 0.5),
    "front": Place((-0.34, 0.32, -0.78), 0.5),
    "middle": Place((-0.10, 0.48, -0.72), 0.5),
    "side": Place((-0.80, 0.22, -0.52), 0.5),
    "high-side": Place((-0.84, -0.40, -0.38), 0.5),
    "low": Place((-0.46, 0.82, -0.56), 0.4),
}
# Roll about the fingers (0: palm out, 90: to the middle, 180: in), their swing to the middle, pitch to the camera.
ORIENTATIONS = {
    "up-out": (0, 6, 4),
    "up-side": (82, 4, 6),
    "up-in": (172, 22, 4),
    "slant-out": (16, 44, 10),
    "slant-in": (158, 46, 8),
    "across-in": (166, 80, 4),
    "across-down": (4, 72, 76),
    "across-up": (176, 74, 68),
    "ahead-down": (2, 16, 72),
    "ahead-side": (86, 10, 72),
    "ahead-up": (172, 12, 66),
}
VISEMES = {  # letter groups: mouth open, wide (round is negative), lips pressed, lips forward
    "a": (0.9, 0.3, 0, 0),
    "e": (0.45, 0.8, 0, 0),
    "iy": (0.25, 1.0, 0, 0),
    "o": (0.65, -0.8, 0, 0.5),
    "uw": (0.25, -1.0, 0, 0.9),
    "mbp": (0.0, 0.0, 1.0, 0.1),
    "fv": (0.12, 0.3, 0.5, 0),
    "lrn": (0.3, 0.1, 0, 0.1),
    "qjgkcxh": (0.4, -0.1, 0, 0.2),
    "sztd-": (0.15, 0.4, 0, 0.1),
}
COMMON_PLACES = ("front", "middle", "chest", "chin", "mouth")
FACE_ORIENTATIONS = ("up-out", "up-side", "up-in", "slant-out", "slant-in", "across-in")


@dataclass(frozen=True)
class Motion:
    """What the hand does during a sign: goes along `path`; adds a loop `sine` * sin + `cosine` * (1 -
    cos) of `turns` turns; turns the hand by `twist` (roll, swing, pitch) * sin of `twists` turns;
    wiggles the fingers by `wiggle` degrees."""

    path: tuple[float, float, float] = (0, 0, 0)
    sine: tuple[float, float, float] = (0, 0, 0)
    cosine: tuple[float, float, float] = (0, 0, 0)
    turns: float = 1
    twist: tuple[float, float, float] = (0, 0, 0)
    twists: float = 2
    wiggle: float = 0


MOTIONS = {
    "hold": Motion(),
    "ahead": Motion(path=(-0.02, 0.06, -0.40)),
    "down": Motion(path=(0, 0.42, -0.05)),
    "up": Motion(path=(0, -0.38, -0.06)),
    "out": Motion(path=(-0.42, 0.02, -0.04)),
    "in": Motion(path=(0.34, 0.04, 0)),
    "back": Motion(path=(0.02, 0.04, 0.26)),
    "arc-out": Motion(path=(-0.44, 0, -0.1), sine=(0, -0.20, 0), turns=0.5),
    "arc-down": Motion(path=(-0.06, 0.40, -0.1), sine=(-0.22, 0, 0), turns=0.5),
    "circle": Motion(sine=(0.12, 0, 0), cosine=(0, 0.11, 0), turns=1.5),
    "stir": Motion(sine=(0.13, 0, 0), cosine=(0, 0.03, -0.10), turns=1.5),
    "wheel": Motion(sine=(0, -0.13, 0), cosine=(0, 0, -0.10), turns=1.5),
    "tap": Motion(cosine=(0, 0.07, -0.03), turns=2),
    "tap-in": Motion(cosine=(0.08, 0.01, 0), turns=2),
    "saw": Motion(sine=(0.04, 0.06, -0.14), turns=1.5),
    "zigzag": Motion(path=(0, 0.36, 0), sine=(0.10, 0, 0), turns=1.5),
    "sway": Motion(sine=(0.13, 0.02, 0), turns=1),
    "shake": Motion(twist=(34, 0, 0), twists=2.5),
    "wave": Motion(twist=(0, 28, 0), twists=2),
    "nod": Motion(twist=(0, 0, 34), twists=2),
    "flip": Motion(path=(-0.06, -0.04, 0), twist=(58, 12, 0), twists=0.5),
    "wiggle": Motion(wiggle=22),
    "wiggle-out": Motion(path=(-0.36, 0.04, 0), wiggle=20),
    "wiggle-down": Motion(path=(0, 0.34, 0), wiggle=20),
    "shake-out": Motion(path=(-0.3, 0, -0.1), twist=(28, 0, 0), twists=2.5),
}
# One hand; mirrored; mirrored and in turns; the other hand is a still ground.
HANDS = ("one", "both", "alternating", "base")

VERBS = (
    "buy:bought eat:ate see:saw find:found bring:brought forget:forgot like:liked sell:sold want:wanted make:made "
    "know:knew give:gave lose:lost clean:cleaned need:needed break:broke draw:drew carry:carried show:showed "
    "wash:washed throw:threw remember:remembered hide:hid choose:chose"
)
WORDS = {
    "time": "yesterday today tomorrow last-week tonight next-year morning",
    "subject": "I mother teacher you friend father doctor they child we sister farmer",
    "verb": VERBS,
    "object": "apple book car bread dog letter house tea flower phone key picture cat shirt fish bicycle chair egg "
    "ticket river lamp horse shoe map ring",
    "adjective": "red small new old big good white cheap black beautiful broken heavy green round",
    "place": "school market home office park hospital station kitchen library village",
    "number": "two three five ten four seven",
    "negation": "not never",
    "question": "what who where why",
    "link": "but because then",
    "phrase": "hello thanks sorry yes no goodbye please wait",
}


@dataclass(frozen=True)
class Sign:
    """One entry of the lexicon; the names are keys of the tables above. The mouthing is `gloss`, letter by letter."""

    gloss: str
    kind: str
    word: str
    hands: str
    shape: str
    end_shape: str
    place: str
    orientation: str
    motion: str
    base_shape: str
    seconds: float

    @property
    def looks(self) -> tuple[str, ...]:
        """What tells signs apart by hand alone."""
        return (self.hands, self.shape, self.end_shape, self.place, self.orientation, self.motion)


def handshape_angles(name: str) -> np.ndarray:
    """[15] radians: knuckles of the four fingers, their middle joints, their spread, and the thumb's three."""
    code = HANDSHAPES[name]
    bends = np.array([FINGER_CODES[c] for c in code[1:5]], float)
    straight = bends[:, 0] < 60
    spread = SPREAD * int(code[5]) * straight
    return np.radians(np.concatenate([bends[:, 0], bends[:, 1], spread, THUMB_CODES[code[0]]]))


def mouthing(gloss: str) -> list[np.ndarray]:
    """One viseme [4] a letter of the gloss: open, wide, pressed, forward."""
    return [
        np.array(shape, float) for letter in gloss.lower() for letters, shape in VISEMES.items() if letter in letters
    ]


def all_words() -> list[tuple[str, str]]:
    """[(kind, word)], so ordered that every beginning of the list holds each kind in proportion."""
    ranked = []
    for order, (kind, listed) in enumerate(WORDS.items()):
        words = listed.split()
        ranked += [((i + 0.35) / len(words), order, kind, word) for i, word in enumerate(words)]
    return [(kind, word) for _, _, kind, word in sorted(ranked)]


def _draw_sign(rng: np.random.Generator, kind: str, word: str) -> Sign:
    often = np.array([4.0 if name in COMMON_PLACES else 1.0 for name in PLACES])
    place = str(rng.choice(list(PLACES), p=often / often.sum()))
    near_head = PLACES[place].head or place == "neck"
    hands = str(rng.choice(HANDS, p=(0.8, 0.2, 0, 0) if near_head else (0.34, 0.32, 0.14, 0.20)))
    shapes = [name for name in HANDSHAPES if name != "relaxed"]
    shape = str(rng.choice(shapes))
    end_shape = str(rng.choice(shapes)) if rng.random() < 0.25 else shape
    orientation = str(rng.choice(FACE_ORIENTATIONS if near_head else list(ORIENTATIONS)))
    base_shape = str(rng.choice(["flat", "fist", "index", "cee", shape]))
    motion = str(rng.choice(list(MOTIONS)))
    return Sign(
        gloss=word.split(":")[0].upper(),
        kind=kind,
        word=word,
        hands=hands,
        shape=shape,
        end_shape=end_shape,
        place=place,
        orientation=orientation,
        motion=motion,
        base_shape=base_shape,
        seconds=float(rng.uniform(0.22, 0.46)),
    )


def too_alike(a: Sign, b: Sign) -> bool:
    """Fewer than three of the things that the hand shows differ."""
    return sum(x != y for x, y in zip(a.looks, b.looks)) < 3


def lexicon(count: int | None = None) -> dict[str, Sign]:
    """The first `count` signs of the language (None: all), by gloss. A sign does not depend on `count`."""
    words = all_words()
    count = len(words) if count is None else count
    if not 20 <= count <= len(words):
        raise UserError(f"--glosses is {count}: the language has {len(words)} signs, and its grammar needs at least 20")
    signs: dict[str, Sign] = {}
    rng = np.random.default_rng(LANGUAGE_SEED)
    for kind, word in words[:count]:
        sign = _draw_sign(rng, kind, word)
        while any(too_alike(sign, other) for other in signs.values()):
            sign = _draw_sign(rng, kind, word)
        signs[sign.gloss] = sign
    return signs
