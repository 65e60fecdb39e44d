"""What each number of a recogniser's report means.

    DEFINITIONS["errors/wer"]   -> Definition(unit, what, good)

The keys are a report's. docs/recognition.md has them too.
"""

from __future__ import annotations

from signstream.inference.report.definitions import Definition

WORDS, SHARE = "% of the references' words", "share"
DEFINITIONS = {
    "errors/wer": Definition(
        WORDS,
        "word error rate: substituted, deleted and inserted glosses of all clips, counted as sclite counts them, by "
        "the weights that were better in validation, decoded by the config's `decode`",
        "as low as another recogniser's on the same split; half of the controls' and less",
    ),
    "errors/substitutions": Definition(WORDS, "glosses that were taken for another", "the largest of the three"),
    "errors/deletions": Definition(WORDS, "glosses that were not recognised", "about as many as insertions"),
    "errors/insertions": Definition(WORDS, "glosses that nobody signed", "about as many as deletions"),
    "errors/low": Definition(
        WORDS,
        "below it lies the word error rate of 2.5 % of the splits that are drawn anew from the same clips",
        "near the rate: else the split is small",
    ),
    "errors/high": Definition(WORDS, "above it lies that of 2.5 % of them", "near the rate"),
    "errors/greedy": Definition(
        WORDS,
        "word error rate of the likeliest gloss of each step, without a search: what a stream says",
        "hardly above the rate",
    ),
    "errors/whole": Definition(SHARE, "clips whose line is right, word for word", "1 less the rate, and less"),
    "errors/unknown": Definition(
        "words", "of the references, that no training clip has: each of them counts as an error", "0"
    ),
    "controls/jumbled": Definition(
        WORDS,
        "word error rate where each clip's own steps (frames, or chunks) come in any order: what single steps say, "
        "once neither signs nor their order are left",
        "far above the rate",
    ),
    "controls/shuffled": Definition(
        WORDS,
        "word error rate where each clip gets the line that was recognised of another one, three times: what "
        "knowing the language, but not the clip, is worth",
        "above the rate, about 100",
    ),
    "controls/nothing": Definition(WORDS, "word error rate of saying nothing", "100, by definition"),
    "per_signer": Definition(WORDS, "word error rate of one signer's clips", "no signer far above the others"),
    "by_length": Definition(
        WORDS, "word error rate of clips by the number of glosses in their reference", "flat: long lines are as easy"
    ),
    "confusions": Definition("times", "a gloss was taken for another, the most frequent first", "few, of signs alike"),
    "efficiency/clips_per_s": Definition("clips a second", "recognised, all ranks together", "as the machine allows"),
    "efficiency/frames_per_s": Definition("frames a second", "recognised", "far above the clips' frame rate"),
    "efficiency/ms_per_frame": Definition(
        "ms", "a frame takes when a clip comes live; only a causal recogniser of keypoints has it", "below 1000 / fps"
    ),
    "efficiency/memory_bytes": Definition("bytes", "largest memory of a rank", "below what the machine has"),
    "training": Definition(
        "as logged", "numbers of training and validation, step by step", "both fall; validation does not rise again"
    ),
}
