"""BLEU and chrF against sacrebleu's own command line, ROUGE-L against cases worked by hand and the usual table."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from signstream.errors import UserError
from signstream.models.metrics import text
from signstream.models.metrics.text import BETA, TextScores, in_common, rouge_l

WEATHER = (
    "Im Süden Regen, im Norden 20,5 Grad .",
    "",
    "Tiefdruckgebiete bringen Schnee - bis zu 30 cm!",
    "und nun die wettervorhersage für morgen freitag den achten märz .",
    "“Föhn” & Sturm <skipped> &amp; Böen; z.B. 8:30 (Uhr)",
    "  zwei   Blanks  ",
    "It's 7.5°C.",
)
DAILY = (
    "今天下雨，明天下雪。",
    "他 2023年 去了 IKEA 買東西",
    "",
    "你好！你好！",
    "我们下午3:30见面，好吗？",
    "〇𠀀…—“好”",
)


@pytest.fixture
def sacrebleu():
    return pytest.importorskip("sacrebleu", reason="sacrebleu is not installed (requirements-extra.txt)")


def garbled(sentences, count, seed, letters=False):
    """References drawn from the sentences, and hypotheses that lack, repeat, swap and change some of their units."""
    rng = random.Random(seed)
    references = [*sentences, *(rng.choice(sentences) for _ in range(count))]
    units = [unit for sentence in sentences for unit in (sentence if letters else sentence.split())]
    hypotheses = []
    for reference in references:
        kept = [unit for unit in (reference if letters else reference.split()) if rng.random() > 0.15]
        kept = [rng.choice(units) if rng.random() < 0.15 else unit for unit in kept]
        if len(kept) > 2 and rng.random() < 0.3:
            kept[0], kept[-1] = kept[-1], kept[0]
        hypotheses.append("" if rng.random() < 0.1 else ("" if letters else " ").join(kept))
    return references, hypotheses


CORPORA = {
    "de": garbled(WEATHER, 60, seed=0),
    "en": (["The sun shines.", "It rains", "No."], ["the sun Shines.", "It rains a lot", "No."]),
    "zh": garbled(DAILY, 60, seed=1, letters=True),
    "zh_CN": (["下雨", "下雪"], ["", ""]),
    "de_DE": (["Regen", ""], ["Regen", "Regen"]),  # too short for four words in a row
}


def scored(language, references, hypotheses):
    scores = TextScores(language)
    scores.add(references, hypotheses)
    return scores


def command_line(folder: Path, language, corpus):
    """{metric: {"score", "signature", ...}} as sacrebleu writes it."""
    for name, sentences in zip(("references", "hypotheses"), corpus):
        (folder / name).write_text("".join(f"{sentence}\n" for sentence in sentences), encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", "references", "-i", "hypotheses", "-m", "bleu", "chrf", "-w", "12"]
    command += ["-tok", "char" if language.startswith("zh") else "13a", "-f", "json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    bleu, chrf = json.loads(done.stdout)
    return {"bleu": bleu, "chrf": chrf}


@pytest.mark.parametrize("language", CORPORA)
def test_bleu_chrf_and_their_signatures_are_those_of_sacrebleus_command_line(sacrebleu, language, tmp_path):
    scores = scored(language, *CORPORA[language])
    theirs, ours = command_line(tmp_path, language, CORPORA[language]), scores.result()
    assert ours["text/bleu_4"] == pytest.approx(theirs["bleu"]["score"], abs=1e-9)
    assert ours["text/chrf"] == pytest.approx(theirs["chrf"]["score"], abs=1e-9)
    assert scores.variants()["bleu"] == theirs["bleu"]["signature"]
    assert scores.variants()["chrf"] == theirs["chrf"]["signature"]


@pytest.mark.parametrize("language", CORPORA)
def test_bleu_of_each_order_is_the_librarys(sacrebleu, language):
    references, hypotheses = CORPORA[language]
    tokenizer = "char" if language.startswith("zh") else "13a"
    result = scored(language, references, hypotheses).result()
    for order in (1, 2, 3, 4):
        bleu = sacrebleu.BLEU(tokenize=tokenizer, max_ngram_order=order, force=True)
        assert result[f"text/bleu_{order}"] == bleu.corpus_score(hypotheses, [references]).score


@pytest.mark.parametrize("language", ["de", "zh"])
def test_ranks_halves_add_up_to_the_whole_exactly(sacrebleu, language):
    references, hypotheses = CORPORA[language]
    whole = scored(language, references, hypotheses)
    order = random.Random(2).sample(range(len(references)), len(references))
    for cut in (0, 1, 29, len(order)):
        halves = [TextScores(language), TextScores(language)]
        for half, places in zip(halves, (order[:cut], order[cut:])):
            for place in places:  # batches of one
                half.add(references[place : place + 1], hypotheses[place : place + 1])
        together = TextScores(language)
        together.load_state(halves[0].state() + halves[1].state())
        assert torch.equal(together.state(), whole.state())
        assert together.result() == whole.result()


def test_what_is_said_in_another_case_is_not_the_same(sacrebleu):
    result = scored("de", ["Der Regen im Norden hört auf"], ["der regen im norden hört auf"]).result()
    assert result["text/bleu_1"] < 60 and result["text/rouge_l"] == pytest.approx(100 * 3 / 6)


def test_equal_text_is_100_and_empty_text_is_defined(sacrebleu):
    said = ["Heute fällt im ganzen Land Regen .", ""]
    equal = scored("de", said, said).result()
    assert equal.pop("text/empty") == 50 and list(equal.values()) == pytest.approx([100] * 6)
    silent = scored("de", said[:1], [" "]).result()
    assert silent.pop("text/empty") == 100 and set(silent.values()) == {0.0}
    nothing = TextScores("de")
    nothing.add([], [])
    assert nothing.result() == {} and nothing.variants()["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|")


def test_an_empty_hypothesis_makes_the_whole_shorter(sacrebleu):
    said = ["Heute fällt im ganzen Land Regen .", "Morgen scheint die Sonne ."]
    half = scored("de", said, [said[0], ""]).result()
    assert half["text/rouge_l"] == 50
    assert half["text/bleu_4"] == pytest.approx(100 * torch.e ** (1 - 12 / 7))


@pytest.mark.parametrize(
    ("reference", "hypothesis", "common"),
    [
        ("a b c d", "a b c d", 4),
        ("a b c d", "a c d b", 3),
        ("a b c d", "d c b a", 1),
        ("a a b", "a b b", 2),
        ("a b", "x y z", 0),
        ("the cat sat on the mat", "the the mat", 3),
    ],
)
def test_rouge_l_by_hand(reference, hypothesis, common):
    reference, hypothesis = reference.split(), hypothesis.split()
    precision, recall = common / len(hypothesis), common / len(reference)
    f = (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision) if common else 0
    assert in_common(reference, hypothesis) == common
    assert rouge_l(reference, hypothesis) == pytest.approx(f)


def test_rouge_l_of_nothing():
    assert rouge_l([], []) == 1 and rouge_l(["a"], []) == rouge_l([], ["a"]) == 0


def table(first, second):
    rows = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, a in enumerate(first, 1):
        for j, b in enumerate(second, 1):
            rows[i][j] = rows[i - 1][j - 1] + 1 if a == b else max(rows[i - 1][j], rows[i][j - 1])
    return rows[-1][-1]


def test_what_sentences_have_in_common_is_the_usual_tables_both_ways():
    rng = random.Random(3)
    for _ in range(300):
        first, second = ([rng.choice("abcde") for _ in range(rng.randint(0, 90))] for _ in range(2))
        assert in_common(first, second) == in_common(second, first) == table(first, second)
        assert in_common(first[::-1], second[::-1]) == in_common(first, second)
        assert 0 <= rouge_l(first, second) <= 1 + 1e-12 and rouge_l(first, first) == pytest.approx(1)


def test_rouge_l_counts_words_or_characters_and_says_so(sacrebleu):
    words, characters = TextScores("de"), TextScores("zh-CN")
    assert words.units("Regen, 20 Grad ") == ["Regen,", "20", "Grad"]
    assert characters.units("下 雨 20。") == ["下", "雨", "2", "0", "。"]
    assert words.variants()["rouge_l"] == "nrefs:1|case:mixed|tok:words|F:beta1.2|mean:sentences"
    assert characters.variants()["rouge_l"] == "nrefs:1|case:mixed|tok:char|F:beta1.2|mean:sentences"


def test_without_sacrebleu_one_line_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(UserError, match=r"^BLEU and chrF need the package sacrebleu .*: pip install 'sacrebleu"):
        TextScores("de")


@pytest.mark.parametrize("version", ["1.5.1", "2.1.0", "2.9.0"])
def test_a_sacrebleu_that_does_not_give_its_counts_is_one_line(sacrebleu, monkeypatch, version):
    monkeypatch.setattr(sacrebleu, "__version__", version)
    if version == "2.9.0":  # a later one, which has other names
        monkeypatch.setattr(text, "GIVES", (*text.GIVES, "_not_there"))
    with pytest.raises(UserError, match=rf"^sacrebleu {version} does not give its counts: pip install"):
        TextScores("de")


def test_a_language_without_a_rule_is_one_line():
    with pytest.raises(UserError, match=r"^the language is 'ja_XX': translations are scored in de, en, zh$"):
        TextScores("ja_XX")


def test_a_hypothesis_for_each_reference(sacrebleu):
    with pytest.raises(ValueError):
        TextScores("de").add(["Regen"], [])
