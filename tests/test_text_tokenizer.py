"""The tokenizer of the text models: sentences to ids and back, what is cut, equal bytes, and what it refuses."""

import pytest

from sentences import GERMAN, SENTENCES, said_in_one_line
from signstream.models.text_tokenizer import END, IGNORED, PAD, opened_tokenizer, trained_tokenizer

pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def tokenizer():
    return trained_tokenizer(SENTENCES, **GERMAN, vocabulary=120)


def test_a_sentence_comes_back_as_it_was_written(tokenizer):
    encoded = tokenizer.encode(SENTENCES)
    assert tokenizer.texts(encoded.ids) == SENTENCES
    assert tokenizer.texts(tokenizer.labels(SENTENCES).ids) == SENTENCES
    assert tokenizer.texts(tokenizer.encode([" Su\u0308den\n  kühl "]).ids) == ["Süden kühl"], "NFC, one line"


def test_ids_end_with_the_language_and_are_padded(tokenizer):
    assert [tokenizer.inner.token_to_id(t) for t in ("<s>", "<pad>", "</s>", "<unk>")] == [0, 1, 2, 3]
    encoded, labels = tokenizer.encode(SENTENCES), tokenizer.labels(SENTENCES)
    for ids, mask, label in zip(encoded.ids, encoded.mask, labels.ids):
        count = int(mask.sum())
        assert ids[count - 2 : count].tolist() == [END, tokenizer.target_id]
        assert (ids[count:] == PAD).all() and (label[count:] == IGNORED).all() and label[:count].equal(ids[:count])
    both = trained_tokenizer(SENTENCES, source="de_DE", target="en_XX")
    first, second = both.encode(SENTENCES[:1]).ids[0], both.labels(SENTENCES[:1]).ids[0]
    assert first[-1] != second[-1] and first[:-1].equal(second[:-1])


def test_what_is_cut_is_counted(tokenizer):
    whole, cut = tokenizer.encode(SENTENCES), tokenizer.encode(SENTENCES, most=6)
    assert whole.cut == 0 and cut.cut == int((whole.mask.sum(1) > 6).sum()) > 0
    assert cut.ids.shape[1] == 6 and (cut.ids[:, -2] == END).all()
    said_in_one_line(lambda: tokenizer.encode(SENTENCES, most=2), "no room")


def test_a_spelled_special_token_is_text(tokenizer):
    ids = tokenizer.encode(["der </s> <pad> de_DE <s> Regen"]).ids[0]
    assert not set(ids[:-2].tolist()) & {0, PAD, END, tokenizer.target_id}


def test_equal_sentences_give_equal_bytes():
    first = trained_tokenizer(SENTENCES, **GERMAN).text()
    assert trained_tokenizer(SENTENCES[::-1], **GERMAN).text() == first == opened_tokenizer(first, **GERMAN).text()
    assert trained_tokenizer(SENTENCES[:2], **GERMAN).text() != first


def test_characters_without_spaces_are_tokens():
    sentences = ["今天下雨。", "明天天气很好，我们去公园。"]
    tokenizer = trained_tokenizer(sentences, source="zh_CN", target="zh_CN", vocabulary=12)
    assert tokenizer.texts(tokenizer.encode(sentences).ids) == sentences
    assert tokenizer.texts(tokenizer.encode(["今天X"]).ids) == ["今天"], "what was never seen has no token"


def test_what_no_tokenizer_is_made_of():
    said_in_one_line(lambda: trained_tokenizer([" "], **GERMAN), "none with a word")
    said_in_one_line(lambda: trained_tokenizer(SENTENCES, source="German", target="de_DE"), "'German' is not written")
    said_in_one_line(lambda: trained_tokenizer(SENTENCES, **GERMAN, vocabulary=3), "6 to")
    said_in_one_line(lambda: trained_tokenizer(["a\ud800"], **GERMAN), "half a character")
