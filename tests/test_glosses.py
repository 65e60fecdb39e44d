"""Labels cleaned by the rules of PHOENIX's public scoring."""

import pytest

from signstream.errors import UserError
from signstream.glosses import clean
from signstream.models.metrics import wer


@pytest.mark.parametrize(
    ("rules", "line", "cleaned"),
    [
        ("phoenix2014", "loc-NORD cl-KOMMEN poss-MEIN qu-WAS lh-REGEN", "NORD KOMMEN MEIN WAS REGEN"),
        ("phoenix2014", "poss-cl-X-PLUSPLUS __ON__ A __PU__ __LEFTHAND__ B __OFF__", "X __ON__ A+B __OFF__"),
        ("phoenix2014", "REGEN loc-REGEN REGEN-PLUSPLUS MORGEN REGEN", "REGEN MORGEN REGEN"),
        ("phoenix2014", "C M SCH O NN WIE AUSSEHEN WIE", "C+M+SCH+O+NN WIE-AUSSEHEN WIE"),
        ("phoenix2014", "S0NNE HABEN2 ZEIGEN ZEIGEN-BILDSCHIRM", "SONNE HABEN ZEIGEN-BILDSCHIRM ZEIGEN-BILDSCHIRM"),
        ("phoenix2014", "IN-KOMMEND IN-KOMMEND loc- -PLUSPLUS WOLKERAUM", "IN-KOMMEND IN-KOMMEND WOLKE"),
        ("phoenix2014t", "__ON__ loc-NORD poss-MEIN S0NNE REGEN REGEN __OFF__", "NORD poss-MEIN S0NNE REGEN"),
        ("none", "loc-NORD  __ON__ A B REGEN REGEN", "loc-NORD __ON__ A B REGEN REGEN"),
        ("phoenix2014", "", ""),
    ],
)  # fmt: skip
def test_labels_are_cleaned_by_rules(rules, line, cleaned):
    assert clean(line.split(), rules) == cleaned.split()
    assert clean(clean(line.split(), rules), rules) == cleaned.split()


def test_whole_lines_of_both_sides_are_cleaned_so_fewer_errors_are_counted_than_without():
    signed, found = ["REGEN", "REGEN", "C", "M", "WIE", "AUSSEHEN"], ["REGEN", "C+M", "WIE-AUSSEHEN"]

    def errors(reference, hypothesis):
        return wer.count(reference, hypothesis).errors

    assert errors(clean(signed, "phoenix2014"), clean(found, "phoenix2014")) == 0
    word_by_word = [gloss for word in signed for gloss in clean([word], "phoenix2014")]
    assert word_by_word == signed and errors(word_by_word, found) == errors(signed, clean(found, "phoenix2014")) == 5


def test_rules_that_are_none_are_one_line():
    with pytest.raises(UserError, match="phoenix2014, phoenix2014t, none are known"):
        clean(["A"], "phoenix")
