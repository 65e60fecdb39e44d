"""Sentences out of a translator: the same of a split, a clip, tokens and standard input, of a batch and alone; the
average of several; what chance would say."""

import json

import numpy as np
import pytest
import torch

import signstream
from clips import moving_clip
from recognition_runs import FRAMES, write_tokens
from signstream.data.frontend import prepare
from signstream.data.sequences import Padded
from signstream.inference import translate
from signstream.inference.translation.controls import deranged, likeliest, silenced
from signstream.inference.translation.translator import Translator
from signstream.models.text_tokenizer import END
from signstream.tokens.format import read_jsonl
from signstream.training import checkpoint
from translation_runs import SENTENCES, Run, make_root, make_run, refused, said_by, type_in

for package in ("transformers", "tokenizers", "sacrebleu"):
    pytest.importorskip(package)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """Of keypoints; it knows its clips by heart."""
    return make_run(tmp_path_factory.mktemp("made"), steps=120)


@pytest.fixture(scope="module")
def other(run) -> Run:
    """Of the same clips, with another encoder; not trained to the end."""
    return make_run(run.checkpoint.parents[3], "train.seed=1", "model.encoder.width=16", steps=15)


@pytest.fixture(scope="module")
def of_codes(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("codes")
    return make_run(folder, "data.source=codes", write_tokens(folder))


def batch(translator: Translator, *lengths: int) -> Padded:
    """Clips of these lengths, with rubbish in the padding."""
    seen = [translator.view(front(translator, i, length)) for i, length in enumerate(lengths)]
    rows = torch.full((len(lengths), max(lengths), *seen[0].shape[1:]), torch.nan)
    for row, one, length in zip(rows, seen, lengths):
        row[:length] = one[:length]
    return Padded({"keypoints": rows}, lengths)


def front(translator: Translator, clip: int, length: int) -> torch.Tensor:
    return prepare(torch.from_numpy(moving_clip(length, clip)), translator.skeleton, translator.data).frames


def alike(found, expected, rounding=1e-4) -> None:
    assert [[each.text for each in best] for best in found] == [[each.text for each in best] for best in expected]
    for best, twin in zip(found, expected):
        assert [each.score for each in best] == pytest.approx([each.score for each in twin], abs=rounding)


# -- the same from wherever it comes


def test_a_split_is_translated_and_scored_as_in_validation(run, capsys):
    lines = said_by(run.checkpoint, "--split", "val")
    assert {line["name"]: line["text"] for line in lines} == SENTENCES
    assert all(line["meant"] == line["text"] and line["score"] < 0 for line in lines)
    said = capsys.readouterr().out
    assert "8 clips; BLEU-4 100.00, chrF 100.00, ROUGE-L 100.00 (BLEU nrefs:1|case:mixed|eff:no|tok:13a|" in said
    assert run.numbers["text/bleu_4"] == pytest.approx(100)


def test_scores_are_validations_and_bytes_are_the_same_again(other, tmp_path):
    written = []
    for name in ("a", "b"):
        options = ("--split", "val", "--report", tmp_path / name, "--n_best", 2)
        written.append((said_by(other.checkpoint, *options), (tmp_path / name).read_bytes()))
    assert written[0] == written[1]
    report = json.loads(written[0][1])
    assert report["scores"] == pytest.approx({k: v for k, v in other.numbers.items() if k.startswith("text/")})
    assert report["decode"] == {"beams": 3, "max_tokens": 24, "length_penalty": 1.0}
    assert "controls" not in report and report["scores"]["text/bleu_4"] < 90


def test_a_clip_and_standard_input_are_what_the_split_is(run, tmp_path, monkeypatch, capsys):
    options = ("--n_best", 3)
    (of_split,) = (line for line in said_by(run.checkpoint, "--split", "val", *options) if line["name"] == "clip3")
    np.save(tmp_path / "clip3.npy", moving_clip(FRAMES, 3))
    (of_clip,) = said_by(run.checkpoint, "--input", tmp_path / "clip3.npy", *options)
    assert "meant" not in of_clip
    texts, scores = zip(*of_split["nbest"])
    assert len(texts) == len(set(texts)) == 3 and list(scores) == sorted(scores, reverse=True)
    assert (of_split["text"], of_split["score"]) == (texts[0], scores[0])
    found = run.translator.translate(moving_clip(FRAMES, 3), n_best=3)
    capsys.readouterr()
    type_in(monkeypatch, moving_clip(FRAMES, 3))
    translate.main(["--checkpoint", str(run.checkpoint), "--input", "-", *map(str, options)])
    streamed = json.loads(capsys.readouterr().out)
    assert streamed["name"] == "stream"
    for pairs in (of_clip["nbest"], streamed["nbest"], [list(each) for each in found]):
        assert [text for text, _ in pairs] == list(texts)
        assert [score for _, score in pairs] == pytest.approx(scores, abs=2e-4)


@pytest.mark.parametrize("fps", [None, 20, 120])
def test_short_clips_and_clips_of_another_rate(run, fps, monkeypatch, capsys):
    for frames in (0, 1, 17):
        poses = moving_clip(max(frames, 1), 5)[:frames]
        found = run.translator.translate(poses, fps)
        if frames == 0:
            assert found == (("", 0.0),)
        type_in(monkeypatch, poses)
        options = ("--input", "-", *(("--fps", str(fps)) if fps else ()))
        translate.main(["--checkpoint", str(run.checkpoint), *options])
        line = json.loads(capsys.readouterr().out)
        assert (line["text"], line["score"]) == (found[0].text, pytest.approx(found[0].score, abs=1e-4))


def test_tokens_are_translated_as_the_split_that_they_are_of(of_codes, capsys):
    root = of_codes.checkpoint.parents[3]
    of_split = said_by(of_codes.checkpoint, "--split", "val")
    assert {line["text"] for line in of_split} & set(SENTENCES.values())
    labelled = said_by(of_codes.checkpoint, "--tokens", root / "val.jsonl", "--split", "val")
    assert "BLEU-4" in capsys.readouterr().out
    assert labelled[: len(SENTENCES)] == of_split and len(labelled) == len(SENTENCES) + 3
    alone = said_by(of_codes.checkpoint, "--tokens", root / "val.jsonl")
    assert "BLEU" not in capsys.readouterr().out
    assert alone == [{key: value for key, value in line.items() if key != "meant"} for line in labelled]
    tokens = list(read_jsonl(root / "val.jsonl"))[5]
    found = of_codes.translator.translate_tokens(tokens)
    assert (found[0].text, found[0].score) == (alone[5]["text"], pytest.approx(alone[5]["score"], abs=2e-4))


@pytest.mark.parametrize("source", ["latents", "glosses"])
def test_other_sources_are_translated(source, tmp_path):
    make_root(tmp_path)
    tokens = (write_tokens(tmp_path),) if source == "latents" else ()
    run = make_run(tmp_path, f"data.source={source}", *tokens, "data.lower=true", steps=5)
    of_split = said_by(run.checkpoint, "--split", "val", "--controls")
    assert [line["meant"] for line in of_split] == [text.lower() for text in SENTENCES.values()]
    if source == "latents":
        options = ("--tokens", tmp_path / "val.jsonl", "--split", "val")
        assert said_by(run.checkpoint, *options)[: len(SENTENCES)] == of_split
    else:
        np.save(tmp_path / "clip.npy", moving_clip(FRAMES, 0))
        assert "give it a data set's glosses" in refused(run.checkpoint, "--input", tmp_path / "clip.npy")


def test_a_clip_without_a_sentence_is_translated_and_does_not_count(run, tmp_path, capsys):
    notes = make_root(tmp_path) / "annotations.json"
    about = json.loads(notes.read_text(encoding="utf-8"))
    about["clip3"]["text"] = ""
    notes.write_text(json.dumps(about), encoding="utf-8")
    options = ("--split", "val", f"data.root={tmp_path / 'data'}", f"data.cache={tmp_path / 'cache'}", "--controls")
    lines = {line["name"]: line for line in said_by(run.checkpoint, *options)}
    assert lines["clip3"]["text"] == SENTENCES["clip3"] and "meant" not in lines["clip3"]
    said = capsys.readouterr().out
    assert "8 clips; BLEU-4 100.00" in said and "; 1 clips have no sentence to be held against" in said


def test_visual_features_are_of_a_data_set_alone(tmp_path):
    root = make_root(tmp_path)
    for split in ("train", "val"):
        (root / "seen" / split).mkdir(parents=True)
        for i, name in enumerate(SENTENCES):
            np.save(root / "seen" / split / f"{name}.npy", np.random.default_rng(i).normal(size=(6, 5)))
    run = make_run(tmp_path, "data.visual=seen", steps=2)
    assert len(said_by(run.checkpoint, "--split", "val", "--controls")) == 8
    np.save(tmp_path / "clip.npy", moving_clip(FRAMES, 0))
    assert "reads visual features beside its keypoints" in refused(run.checkpoint, "--input", tmp_path / "clip.npy")
    assert "data.visual: its features are 0 wide" in refused(run.checkpoint, "--split", "val", "data.visual=null")


# -- batches


@pytest.mark.parametrize("beams", [1, 3])
def test_a_batch_and_its_padding_change_nothing(run, other, beams):
    translator = signstream.translator(run.checkpoint, other.checkpoint, device="cpu")
    for each in (run.translator, translator):
        each.decode = each.decode.__class__(beams=beams, max_tokens=24)
        padded = batch(each, 40, 13, 40, 5)
        together = each.translate_clips(padded, n_best=beams)
        for clip, length in enumerate(padded.lengths):
            one = Padded({"keypoints": padded.streams["keypoints"][clip : clip + 1, :length]}, (length,))
            alike(each.translate_clips(one, n_best=beams), together[clip : clip + 1])
    run.translator.decode = run.translator.config.decode


# -- several checkpoints


@pytest.mark.parametrize("beams", [1, 3])
def test_a_translator_averaged_with_itself_is_itself(other, beams):
    options = ("--split", "val", "--n_best", beams, "--beams", beams)
    alone, twice = said_by(other.checkpoint, *options), said_by([other.checkpoint] * 3, *options)
    assert [line["text"] for line in alone] == [line["text"] for line in twice]
    state = checkpoint.load(other.checkpoint)
    one, three = (Translator([state] * count, decode=other.translator.decode) for count in (1, 3))
    padded = batch(one, 40, 21)
    alike(three.translate_clips(padded, n_best=3), one.translate_clips(padded, n_best=3), rounding=1e-5)


@torch.no_grad()
def greedy_of_the_mean(translator: Translator, padded: Padded) -> tuple[list[int], float]:
    """Of one clip, unit by unit: the likeliest of the mean of all models' logits."""
    lengths = torch.tensor(padded.lengths)
    heard = [model.read(padded.streams, lengths) for model in translator.models]
    ids, score, most = [translator.tokenizer.target_id], 0.0, translator.decode.max_tokens
    while ids[-1] != END:
        logits = [
            model.text(signing.x, signing.mask, torch.tensor([ids]))[0, -1]
            for model, signing in zip(translator.models, heard)
        ]
        log_probs = torch.stack(logits).mean(0).log_softmax(-1)
        last = len(ids) == most
        ids.append(END if last else int(log_probs.argmax()))
        score += 0.0 if last else float(log_probs[ids[-1]])
    return ids[1:], score / (len(ids) - 1)


def test_an_average_is_the_mean_of_logits_at_every_step(run, other):
    averaged = signstream.translator(run.checkpoint, other.checkpoint, device="cpu")
    averaged.decode = averaged.decode.__class__(beams=1, max_tokens=9)
    texts = []
    for clip in range(8):
        joints = averaged.view(front(averaged, clip, FRAMES))
        padded = Padded({"keypoints": joints[None]}, (FRAMES,))
        ids, score = greedy_of_the_mean(averaged, padded)
        ((found,),) = averaged.translate_clips(padded)
        assert found.text == averaged.tokenizer.texts([ids])[0]
        assert found.score == pytest.approx(score, abs=1e-5)
        texts.append(found.text)
    alone = signstream.translator(other.checkpoint, device="cpu")
    alone.decode = averaged.decode
    assert texts != [alone.translate(moving_clip(FRAMES, clip))[0].text for clip in range(8)]


# -- controls


def test_controls_are_far_below_who_sees_the_signing(run, tmp_path, capsys):
    said_by(run.checkpoint, "--split", "val", "--controls", "--report", tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    controls = report["controls"]
    assert controls["said"] == "The sun shines in the north."
    assert all(0 <= controls[name] < 50 for name in ("shuffled", "silent", "prior"))
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split()[:2] for row in rows[:2]] == [["BLEU-4"], ["translations", "100.00"]]
    assert [row.split()[0] for row in rows[2:5]] == ["shuffled", "silent", "prior"]


@pytest.mark.parametrize("seed", range(5))
def test_partners_have_another_sentence_where_that_can_be(seed):
    rng = np.random.default_rng(seed)
    for count, kinds in ((2, 2), (3, 2), (9, 3), (40, 12), (41, 40), (7, 1)):
        sentences = [f"s{i}" for i in rng.integers(0, kinds, count)]
        partners = deranged(sentences, seed=seed)
        assert sorted(partners) == list(range(count)) and partners == deranged(sentences, seed=seed)
        assert all(partner != number for number, partner in enumerate(partners))
        same = sum(sentences[partner] == sentence for sentence, partner in zip(sentences, partners))
        widest = max(map(sentences.count, sentences))
        assert same == max(2 * widest - count, 0) if widest < count else same == count
    assert deranged([], seed=seed) == [] and deranged(["a"], seed=seed) == [0]


def test_the_prior_is_the_sentence_that_scores_best():
    assert likeliest("en_XX", ["it is cold today here", "it is warm today", "it is warm today", "no"]) == (
        "it is warm today"
    )
    assert likeliest("en_XX", []) == ""


def test_silent_clips_have_nothing_in_them():
    streams = {"keypoints": torch.ones(2, 3, 75, 3), "visual": torch.ones(2, 6, 5)}
    padded = silenced(
        Padded({**streams, "codes": torch.ones(2, 3, 2, 2).long(), "latents": torch.ones(2, 3)}, (3, 1)), 9
    )
    assert padded.lengths == (3, 1) and (padded.streams["codes"] == -1).all()
    assert not any(padded.streams[name].any() for name in ("keypoints", "visual", "latents"))
    assert (silenced(Padded({"glosses": torch.zeros(1, 2).long()}, (2,)), 9).streams["glosses"] == 8).all()
