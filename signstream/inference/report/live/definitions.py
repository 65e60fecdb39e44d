"""What each number of a live run's report means; docs/metrics.md has them too.

    DEFINITIONS["latency/consumed/laal"]   -> Definition(unit, what, good)

Of long recordings the first two groups stand there once more, sentence by sentence, behind `sentences/`.
"""

from __future__ import annotations

from signstream.inference.report.definitions import Definition

SCORE, MS, SHARE = "0 to 100", "ms", "share"
DEFINITIONS = {
    "text/bleu_4": Definition(
        SCORE, "BLEU of n-grams of 1 to 4 words (Chinese: characters), of all committed text", "far above the controls'"
    ),
    "text/bleu_1": Definition(SCORE, "the same of single words", "far above the controls'"),
    "text/chrf": Definition(SCORE, "n-grams of 1 to 6 characters, F with beta 2", "far above the controls'"),
    "text/rouge_l": Definition(
        SCORE, "the longest words that both texts have in one order, F with beta 1.2, mean", "far above the controls'"
    ),
    "text/empty": Definition("%", "clips, or sentences, of which nothing was said", "0"),
    "latency/consumed/laal": Definition(
        MS,
        "length-adaptive average lagging, by how much signing had been read when a word was committed; by sentence it "
        "is StreamLAAL",
        "as low as BLEU allows",
    ),
    "latency/consumed/al": Definition(MS, "average lagging, which saying too much lowers", "near LAAL"),
    "latency/consumed/dal": Definition(MS, "differentiable average lagging, to which every word counts", "near LAAL"),
    "latency/consumed/first": Definition(MS, "when the first word was said", "a sign or two"),
    "latency/elapsed/laal": Definition(
        MS, "the same by the time at which a word stood there, computing and waiting included", "little above consumed"
    ),
    "latency/elapsed/al": Definition(MS, "likewise", "little above consumed"),
    "latency/elapsed/dal": Definition(MS, "likewise", "little above consumed"),
    "latency/elapsed/first": Definition(MS, "likewise", "little above consumed"),
    "latency/beyond_seen": Definition(
        MS,
        "LAAL, less that of who says each word of the reference once its signs have been seen, which waits for the "
        "rest of a chunk and for what the front end looks ahead, too; of the clips and sentences of which both said "
        "something",
        "below 1500",
    ),
    "latency/first_beyond_seen": Definition(
        MS, "when the first word stood there, less when the signs of the reference's first had been seen", "below 200"
    ),
    "latency/left_out": Definition(
        "clips or sentences", "of which nothing was said, or meant: they have no latency", "0"
    ),
    "before_end": Definition(SHARE, "words that were committed before all signing was read", "near 1"),
    "erasure/shown": Definition(
        "words", "taken back of what was shown, committed or not, for each word that stands in the end", "below 0.2"
    ),
    "erasure/committed": Definition("words", "taken back of what was committed", "0, always"),
    "real_time_factor": Definition("times", "computing over signing", "below 1"),
    "computing/p50": Definition(MS, "that half of the chunks took at most", "far below a chunk's own time"),
    "computing/p95": Definition(MS, "that 95 % of the chunks took at most", "below a chunk's own time"),
    "words": Definition("words", "committed", "about as many as meant"),
}
