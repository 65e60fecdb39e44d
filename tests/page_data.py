"""A made-up report and player for the evaluation page, in the form that evaluate writes: numbers as a run might give
them, and real movement.

The clips are the synthetic signer's; a small residual quantiser made of the clips' own chunks gives codes,
reconstructions, latents and a dictionary.
"""

import base64
from copy import deepcopy
from typing import NamedTuple

import numpy as np

from signstream.data.synthetic.detector import project
from signstream.data.synthetic.grammar import Grammar
from signstream.data.synthetic.lexicon import lexicon
from signstream.data.synthetic.performance import perform
from signstream.data.synthetic.signer import draw_signer
from signstream.inference.report.definitions import DEFINITIONS
from signstream.skeleton import COCO_WHOLEBODY, LEFT_WRIST, NOSE, RIGHT_WRIST

LENGTH, LEVELS, SIZE = 10, 3, 512
PARTS = [part.name for part in COCO_WHOLEBODY.parts]
TAGS = {part.name: part.tag for part in COCO_WHOLEBODY.parts}
ANCHOR = {"face": NOSE, "left_hand": LEFT_WRIST, "right_hand": RIGHT_WRIST, "body": NOSE, "full_body": NOSE}
LOCAL = {
    "face": 0.0073,
    "left_hand": 0.0491,
    "right_hand": 0.0554,
    "body": 0.041,
    "full_body": 0.0506,
    "weighted": 0.044,
}


VERDICT = [
    {
        "grade": "good",
        "text": "Healthy: every codebook is alive and the hands come back to 5 % of a shoulder width.",
        "advice": "",
    },
    {
        "grade": "warn",
        "text": "Tokens keep 91 % of what keypoints tell: a linear probe tells 80 glosses apart with 75 % from tokens, "
        "82 % from keypoints, 80 % from latents, 1 % by chance.",
        "advice": "Raise export.codes_per_chunk.",
    },
    {
        "grade": "good",
        "text": "Every codebook is alive: the least used level uses 64 % of its codes.",
        "advice": "",
    },
    {
        "grade": "warn",
        "text": "Chunk boundaries show: the right hand jumps 3.4 times as far between chunks as the signer does.",
        "advice": "Raise model.rvq.temporal_loss_alpha (0.05 now) to 0.1 or more.",
    },
    {
        "grade": "bad",
        "text": "Codes are not steady: a shift by one frame changes 61 % of the right hand's first-level codes.",
        "advice": "Train with data.augment.random_phase=true and for longer.",
    },
]
MEANING = {
    "clips": {
        "classes": 80,
        "chance": 0.0125,
        "codes": [0.70, 0.71, 0.73],
        "tokens": [0.74, 0.75, 0.76],
        "keypoints": [0.82, 0.81, 0.83],
        "latents": [0.8, 0.79, 0.81],
        "shuffled": [0.02, 0.01, 0.02],
    },
    "segments": None,
    "agreement": {"same gloss, other signer": 0.12, "other gloss, same signer": 0.05},
}
JUDGE = {
    "rows": {
        "keypoints": {"wer": {"val": 9.31, "test": 11.2}, "seconds": 61.0},
        "tokens": {"wer": {"val": 17.42, "test": 21.0}, "seconds": 33.0},
        "tokens of other clips": {"wer": {"val": 88.1, "test": 90.5}, "seconds": 32.0},
    },
    "codes_per_chunk": 6.0,
    "hold": 0.1,
    "recipe": "configs/recognition_judge.yaml",
    "epochs": 30,
    "seed": 42,
    "seeds": 1,
}
RATE = {
    "codes_per_chunk": 15.0,
    "symbols_per_chunk": 11.4,
    "bits_per_s": 372.0,
    "held": 0.27,
    "compression_float32": 305.0,
    "compression_float16": 152.0,
    "hold_error": {"with": 0.0451, "without": 0.044},
}


def signed_clips(count: int, frames: int | None = None, seed: int = 3) -> list[tuple[np.ndarray, object]]:
    """[(poses [T, 133, 2] in pixels, sentence)]."""
    rng, signs = np.random.default_rng(seed), lexicon(60)
    grammar, out = Grammar(signs), []
    for i in range(count):
        signer, sentence = draw_signer(rng, i), grammar.sentence(rng)
        poses = project(perform(sentence, signs, signer, rng=rng, fps=30.0).joints, signer)
        out.append((np.resize(poses, (frames, 133, 2)) if frames else poses[:140], sentence))
    return out


def _packed(xy: np.ndarray, seen: np.ndarray | bool = True, box: tuple | None = None) -> str:
    """Positions [..., 2] -> base64 of int16, 0 .. 32000 over the longer side of the box."""
    low, high = (xy.min((0, 1)), xy.max((0, 1))) if box is None else (np.array(box[:2]), np.array(box[2:]))
    units = np.clip((xy - low) / (high - low).max() * 32000, -32767, 32767)
    return base64.b64encode(np.where(np.asarray(seen)[..., None], units, -32768).astype("<i2").tobytes()).decode()


class Quantised(NamedTuple):
    codes: np.ndarray  # [N, Q]
    decoded: np.ndarray  # [N, D]
    first: np.ndarray  # [K, D] the first level's codebook


def _quantise(chunks: np.ndarray, rng: np.random.Generator, size: int) -> Quantised:
    """chunks [N, D]"""
    rest = chunks.copy()
    codes, books = [], []
    for level in range(LEVELS):
        book = rest[rng.permutation(len(rest))[:size]]
        code = ((book**2).sum(1) - 2 * rest @ book.T).argmin(1)
        rest = rest - book[code] * (1.0 if level == 0 else 0.7)
        codes.append(code)
        books.append(book)
    return Quantised(np.stack(codes, 1), chunks - rest, books[0])


class Coded(NamedTuple):
    """What a part's chunks, of all clips one after another, become."""

    codes: np.ndarray  # [N, Q]
    latents: np.ndarray  # [N, 2]
    dictionary: dict[str, str]


def make_player(clips: int = 3, frames: int | None = None, *, hidden: bool = True, book: int = 16) -> dict:
    """`hidden`: the last clip shows no hands."""
    rng = np.random.default_rng(5)
    signed = signed_clips(clips, frames)
    counts = [-(-len(poses) // LENGTH) for poses, _ in signed]
    whole = [np.concatenate((p, np.repeat(p[-1:], n * LENGTH - len(p), 0))) for (p, _), n in zip(signed, counts)]
    padded = np.concatenate(whole)
    decoded = padded.copy()
    coded: dict[str, Coded] = {}
    for part in sorted(COCO_WHOLEBODY.parts, key=len, reverse=True):  # the body before what hangs on it
        anchor = padded[:, ANCHOR[part.name], None]
        flat = (padded[:, part.joints] - anchor).reshape(sum(counts), -1)
        codes, flat_decoded, first = _quantise(flat, rng, book)
        moved = flat_decoded.reshape(len(padded), len(part), 2)
        hangs_on = anchor if ANCHOR[part.name] == NOSE else decoded[:, ANCHOR[part.name], None]
        decoded[:, part.joints] = moved + hangs_on
        axes = np.linalg.svd(flat - flat.mean(0), full_matrices=False)[2][:2]
        used = np.unique(codes[:, 0])
        dictionary = {str(c): _packed(first[c].reshape(LENGTH, len(part), 2)) for c in used}
        coded[part.tag] = Coded(codes, (flat - flat.mean(0)) @ axes.T, dictionary)
    out = []
    start = 0
    for i, count in enumerate(counts):
        rows = slice(start, start + count)
        hands = not hidden or i < clips - 1
        out.append(_clip(i, signed[i], decoded[start * LENGTH :], coded=coded, rows=rows, hands=hands))
        start += count
    parts = [
        {"name": p.name, "tag": p.tag, "start": p.start, "stop": p.stop, "bones": [list(b) for b in p.bones]}
        for p in COCO_WHOLEBODY.parts
    ]
    dictionary = {tag: one.dictionary for tag, one in coded.items()}
    return {"fps": 30.0, "chunk_len": LENGTH, "joints": 133, "parts": parts, "clips": out, "dictionary": dictionary}


def _clip(
    number: int,
    signed: tuple[np.ndarray, object],
    decoded: np.ndarray,
    *,
    coded: dict[str, Coded],
    rows: slice,
    hands: bool,
) -> dict:
    poses, sentence = signed
    box = (*(poses[..., :2].min((0, 1)) - 10), poses[..., 0].max() + 10, min(poses[..., 1].max() + 10, SIZE))
    seen = (poses >= 0).all(-1) & (poses < SIZE).all(-1)
    if not hands:
        seen[:, 91:] = False
    return {
        "name": f"S00{number}_P000{number}_T00",
        "text": sentence.text,
        "gloss": " ".join(sentence.glosses),
        "signer": str(number),
        "frames": len(poses),
        "box": [float(x) for x in box],
        "original": _packed(poses, seen, box),
        "again": _packed(decoded[: len(poses)], True, box),
        "codes": {tag: one.codes[rows].tolist() for tag, one in coded.items()},
        "held": {tag: _held(one.codes[rows]) for tag, one in coded.items()},
        "latents": {tag: one.latents[rows].round(3).tolist() for tag, one in coded.items()},
    }


def _held(codes: np.ndarray) -> list[bool]:
    """[N, Q] -> which chunks hold: those whose first-level code is that of the chunk before. They get all its codes."""
    held = [False] + [bool(a == b) for a, b in zip(codes[1:, 0], codes[:-1, 0])]
    for i, hold in enumerate(held):
        if hold:
            codes[i] = codes[i - 1]
    return held


def _level(rng: np.random.Generator, size: int, count: int, *, flat: float) -> dict:
    """`flat`: how evenly the codes are used."""
    counts = np.sort(rng.multinomial(count, rng.dirichlet(np.full(size, flat))))[::-1]  # the clips' codes are low ones
    share = counts[counts > 0] / count
    bits = float(-(share * np.log2(share)).sum())
    used = float((counts > 0).mean())
    return {
        "used": used,
        "dead": 1 - used,
        "perplexity": 2**bits,
        "entropy": bits / np.log2(size),
        "count": count,
        "counts": counts.tolist(),
    }


def make_report(name: str = "quickstart", seed: int = 0, *, size: int = 512, better: float = 1.0) -> dict:
    """`better` below 1 makes every error smaller."""
    rng = np.random.default_rng(seed)
    local = {part: x * better * rng.uniform(0.97, 1.03) for part, x in LOCAL.items()}
    return {
        "format": 1,
        **_about(name, size, seed),
        "verdict": deepcopy(VERDICT),
        "definitions": {key: definition._asdict() for key, definition in DEFINITIONS.items()},
        **_errors(rng, local, better),
        **_smoothness(rng, local),
        **_codes(rng, size),
        "meaning": deepcopy(MEANING),
        "judge": deepcopy(JUDGE),
        "rate": deepcopy(RATE),
        "curve": _curve(better),
        "signs": {"full": _signs(better), "sent": _signs(1.4 * better), "mean pose": _signs(4 * better)},
        "efficiency": {"clips_per_s": 212.0, "frames_per_s": 26_800.0, "ms_per_chunk": 0.37, "memory_bytes": 412e6},
        "training": _training(rng, better),
        "notes": [
            "meaning: of 0 segments with a gloss, too few have one that more than one signer shows",
            "Times are of a busy machine",
        ],
    }


def _about(name: str, size: int, seed: int) -> dict:
    return {
        "run": {
            "name": name,
            "checkpoint": "best.pt",
            "tokenizer": "a3f29c1b",
            "step": 480,
            "epoch": 30,
            "split": "val",
            "clips": 80,
            "chunks": 1011,
            "frames": 10_110,
            "seconds": 337.0,
            "parameters": 1_204_512,
            "date": "2026-11-21",
            "machine": "2 CPU cores",
            "arch": "mlp",
        },
        "config": {
            "experiment_name": name,
            "data": {"root": "data/synthetic", "body_parts": {"face": [24, 91]}, "augment": {"mirror": True}},
            "model": {"arch": "mlp", "latent_dim": 64, "rvq": {"levels": 3, "codebook_size": size}},
            "train": {"lr": 1e-3, "seed": seed},
        },
        "parts": PARTS,
        "tags": TAGS,
        "levels": dict.fromkeys(PARTS, LEVELS),
        "codebook_size": size,
        "chunk_len": LENGTH,
        "fps": 30.0,
    }


def _errors(rng: np.random.Generator, local: dict[str, float], better: float) -> dict:
    joints = [0.03] * 5 + [0.035] * 2 + [0.06] * 2 + [0.075] * 2 + [0.04] * 12 + [0.007] * 68 + [0.045] * 42
    curved = 0.85 + 0.3 * (2 * np.linspace(0, 1, LENGTH) - 1) ** 2
    return {
        "recon": {
            part: {
                "local": x,
                "pixels": x * 178,
                "raw": 1.02 * x,
                "huber": 2.4 * x,
                "mse": 90 * x * x,
                "mae": 6 * x,
                "rmse": 9.6 * x,
                "pck_0.05": 1 / (1 + 8 * x),
                "pck_0.1": 1 / (1 + 2 * x),
                "pck_0.2": 1 / (1 + 0.1 * x),
                "mean_pose": 3.6 * x + 0.005,
            }
            for part, x in local.items()
        },
        "per_joint": (np.array(joints) * better * rng.uniform(0.6, 1.4, 133)).tolist(),
        "per_signer": {
            str(i): {"clips": int(rng.integers(5, 14)), "local": float(local["weighted"] * rng.uniform(0.8, 1.3))}
            for i in range(8)
        },
        "by_frame": {part: (local[part] * curved).tolist() for part in PARTS},
    }


def _smoothness(rng: np.random.Generator, local: dict[str, float]) -> dict:
    return {
        "smooth": {
            part: {
                "jump": 8 * x,
                "jump_original": 2.4 * x,
                "jump_p50": 5 * x,
                "jump_p90": 14 * x,
                "jump_p99": 33 * x,
                "speed_error": 4 * x,
                "jerk": 9 * x,
                "jerk_original": 3 * x,
                "boundary_share": float(rng.uniform(0.21, 0.33)),
            }
            for part, x in local.items()
        },
    }


def _codes(rng: np.random.Generator, size: int) -> dict:
    changes = {"jitter of 1 px": 1.0, "shift by a frame": 0.5, "2 % larger": 0.95, "5 % of joints hidden": 0.8}
    levels = np.array([1, 0.7, 0.5])
    return {
        "codes": {part: [_level(rng, size, 1011, flat=0.9 + q) for q in range(LEVELS)] for part in PARTS},
        "mutual": {"names": PARTS, "bits": _mutual(rng)},
        "stay": {part: [0.3, 0.06, 0.02] for part in PARTS},
        "steady": {
            change: {part: [float(x) for x in rng.uniform(0.5, 1, LEVELS) * levels * most] for part in PARTS}
            for change, most in changes.items()
        },
    }


def _curve(better: float) -> list[dict]:
    points = [(4, 100, 1.5), (5, 122, 1.3), (6, 146, 1.16), (8, 196, 1.04), (11, 270, 1.0), (15, 372, 0.985)]
    return [
        {
            "codes_per_chunk": float(n),
            "bits_per_s": float(b),
            "budget": 0.044 * better * e,
            "uniform": 0.044 * better * (1 + 1.5 * (e - 0.985)) if n in (5, 11, 15) else None,
        }
        for n, b, e in points
    ]


def _signs(error: float) -> dict:
    """`error`: how far off all is; above 2 nothing moves."""
    off = {"location": 0.094, "location_shoulders": 0.096, "in_place": 0.106, "handshape": 0.19}
    off |= {"palm_along": 5.8, "palm_across": 9.0}
    hand = {name: x * error for name, x in off.items()} | {"palm_side": 1 - 0.01 * error}
    alike, size = (None, 0.0) if error > 2 else (1 - 0.2 * error, 1 - 0.15 * error)
    hands = dict.fromkeys(("left_hand", "right_hand", "hands"), hand | {"movement": alike, "movement_size": size})
    face = {"error": 0.06 * error, "correlation": alike, "size": size}
    return hands | dict.fromkeys(("mouth_opening", "mouth_width", "brows"), face)


def _training(rng: np.random.Generator, better: float) -> dict:
    steps, tests = np.arange(20, 481, 20), np.arange(80, 481, 80)
    sizes = {"loss": 1.2, "rec": 0.9, "commit": 0.7, "usage": 0.4, "rec/face": 0.3}
    train = {
        key: (a * better * (0.4 + np.exp(-steps / 120)) + rng.normal(0, 0.02 * a, len(steps))).tolist()
        for key, a in sizes.items()
    }
    sizes = {"loss": 1.2, "rec": 0.9, "recon/weighted/local": 0.08}
    val = {key: (a * better * (0.43 + np.exp(-tests / 120))).tolist() for key, a in sizes.items()}
    return {"train": {"step": steps.tolist(), **train}, "val": {"step": tests.tolist(), **val}}


def _mutual(rng: np.random.Generator) -> list[list[float]]:
    bits = rng.uniform(1.0, 4.2, (5, 5))
    bits = (bits + bits.T) / 2
    np.fill_diagonal(bits, rng.uniform(7.8, 8.4, 5))
    return bits.tolist()
