"""What each number of a report means.

    DEFINITIONS["recon/*/local"]   -> Definition(unit, what, good)

The keys are a report's, * stands for a part. docs/metrics.md has them too.
"""

from __future__ import annotations

from typing import NamedTuple


class Definition(NamedTuple):
    unit: str
    what: str  # it is
    good: str  # which values are


SHOULDERS, UNITS, SHARE, BITS = "shoulder widths", "unit lengths (an eye's width)", "share", "bits"
DEGREES, CORRELATION = "degrees", "correlation"
DEFINITIONS = {
    "recon/*/local": Definition(
        SHOULDERS,
        "mean distance of joints after taking each side's own centre joint away (MPJPE), decoded from all levels",
        "below 0.35 of the mean pose's; 0.01 for the face and 0.05 for the hands are good",
    ),
    "recon/*/pixels": Definition("pixels", "the same in pixels", "a few"),
    "recon/*/huber": Definition(
        "signing-space units", "Huber loss of each coordinate, delta 1", "lower than another run's"
    ),
    "recon/*/mse": Definition(
        "unit lengths squared", "mean square error of each coordinate", "lower than another run's"
    ),
    "recon/*/mae": Definition(UNITS, "mean absolute error of each coordinate", "lower than another run's"),
    "recon/*/rmse": Definition(
        UNITS,
        "root of the mean square error; far above the mean absolute error, a few joints are far off",
        "below twice that",
    ),
    "recon/*/pck_0.05": Definition(SHARE, "joints nearer than 0.05 shoulder widths", "above 0.6"),
    "recon/*/pck_0.1": Definition(SHARE, "joints nearer than 0.1 shoulder widths", "above 0.85"),
    "recon/*/pck_0.2": Definition(SHARE, "joints nearer than 0.2 shoulder widths", "above 0.95"),
    "recon/*/mean_pose": Definition(
        SHOULDERS,
        "the same error of the training split's mean pose, which needs no code",
        "three times the error and more",
    ),
    "recon/*/raw": Definition(
        SHOULDERS,
        "the error against the file's own poses, before low-pass and closing of gaps, all parts put together in "
        "pixels: what benchmarks/score.py computes; its least score of 0.3 is data.min_score here",
        "near the error",
    ),
    "recon/*/raw_pck_0.1": Definition(
        SHARE, "joints nearer than 0.1 shoulder widths, counted as raw is", "near the other share"
    ),
    "per_joint": Definition(
        SHOULDERS,
        "each joint's error in the smallest part that has it; none for a part's centre, which is 0 by definition",
        "no joint far above its neighbours",
    ),
    "per_signer": Definition(
        SHOULDERS, "the error of one signer's clips, weighted over parts", "no signer far above the others"
    ),
    "by_frame": Definition(
        SHOULDERS,
        "the error by the frame's number in its chunk",
        "flat; where it rises at the ends, chunk borders show",
    ),
    "smooth/*/jump": Definition(
        UNITS,
        "how far a reconstructed joint moves from a chunk's last frame to the next chunk's first, mean",
        "no more than the original's",
    ),
    "smooth/*/jump_original": Definition(UNITS, "the same in the original", "what the reconstruction's should be"),
    "smooth/*/jump_p50": Definition(UNITS, "half of the reconstructed jumps are below it", "near the original's mean"),
    "smooth/*/jump_p90": Definition(
        UNITS, "90 % of the reconstructed jumps are below it", "within a few times the median"
    ),
    "smooth/*/jump_p99": Definition(
        UNITS, "99 % of the reconstructed jumps are below it", "within a few times the median"
    ),
    "smooth/*/speed_error": Definition(
        UNITS,
        "distance between both sides' movement from one frame to the next",
        "below the original's jump",
    ),
    "smooth/*/jerk": Definition(
        UNITS,
        "length of the reconstruction's third difference from frame to frame, mean",
        "near the original's",
    ),
    "smooth/*/jerk_original": Definition(UNITS, "the same in the original", "what the reconstruction's should be"),
    "smooth/*/boundary_share": Definition(
        SHARE,
        "of all error, what lies in chunks' first and last frames",
        "2 over the chunk's length: 0.2 for ten frames",
    ),
    "codes/*/used": Definition(
        SHARE, "codes of the level's codebook that occur", "0.3 and more of what so few chunks can show"
    ),
    "codes/*/dead": Definition(SHARE, "codes that do not occur", "what is left of the used"),
    "codes/*/perplexity": Definition(
        "codes",
        "exp of the entropy: so many codes, evenly used, would say as much",
        "above 100 of 1024; a tenth of what so few chunks can show",
    ),
    "codes/*/entropy": Definition(
        SHARE,
        "entropy over the log of the codebook's size: 1 where all codes occur alike",
        "above 0.7",
    ),
    "codes/*/count": Definition(
        "chunks", "chunks that show anything of the part", "ten times the codebook's size, to judge by"
    ),
    "codes/*/counts": Definition("chunks", "how often each code occurs", "a long flat back"),
    "mutual": Definition(
        BITS,
        "what two parts' first-level codes say of each other: mutual information, adjusted for what shuffled "
        "codes would give, which is the bias of few chunks; on the diagonal the entropy of one",
        "far below the diagonal: no part repeats another",
    ),
    "stay": Definition(
        SHARE,
        "chunks whose code is that of the chunk before, level by level",
        "the first level's above the next ones'",
    ),
    "steady": Definition(
        SHARE,
        "codes that stay, level by level, when the file's poses are jittered (Gaussian, 1 px), begin a frame later, "
        "are 2 % larger, or lack 5 % of the joints throughout; at most 200 clips",
        "above 0.5 at the first level; the last, the finest, moves most",
    ),
    "meaning/clips": Definition(
        SHARE,
        "mean average precision of a linear probe from a clip to its glosses, on signers that it has not seen (on "
        "clips, where too few signers share glosses): from its keypoints, latents and sent tokens (their vectors), "
        "each as a mean, from the counts of all its codes, from another clip's, and by chance",
        "tokens 0.9 of the better of keypoints and latents, chance taken off, and 1.5 times chance and shuffled codes",
    ),
    "meaning/segments": Definition(
        SHARE,
        "how often the same probe puts a gloss segment's own gloss first",
        "tokens 0.9 of the better of keypoints and latents, chance taken off, and 1.5 times chance and shuffled codes",
    ),
    "meaning/agreement": Definition(
        SHARE,
        "overlap (Jaccard) of the first-level codes of two gloss segments of different clips, mean over all pairs",
        "the same gloss by other signers above other glosses by the same signer",
    ),
    "meaning/told": Definition(
        "chunks",
        "where a part's codes tell what is signed: for each code the glosses of most of its chunks in gloss segments, "
        "at most three",
        "few glosses a code, and one far ahead",
    ),
    "judge": Definition(
        "% of the references' words",
        "word error rate of one small recogniser, trained anew by one recipe on what is named: the clips' keypoints, "
        "their tokens as they are exported, and these with the words of other clips, which is chance",
        "tokens near keypoints, both far below chance; it is one seed, so a few points say nothing",
    ),
    "rate/codes_per_chunk": Definition(
        "codes",
        "codes that stand for a chunk, over all parts, held ones too",
        "4 to 8: export.codes_per_chunk",
    ),
    "rate/symbols_per_chunk": Definition(
        "symbols",
        "what is written for a chunk: codes, and one mark for a run of chunks that hold",
        "below codes_per_chunk",
    ),
    "rate/bits_per_s": Definition("bits a second", "symbols a second times log2(codebook_size + 1)", "some hundreds"),
    "rate/held": Definition(
        SHARE,
        "chunks, part by part, that say again what the chunk before said",
        "0.05 to 0.5: signers pause, one hand rests",
    ),
    "rate/compression_float32": Definition(
        "times",
        "bits of x and y of all joints in float32 over the tokens' bits",
        "above 500",
    ),
    "rate/compression_float16": Definition("times", "the same for float16", "above 250"),
    "rate/hold_error": Definition(
        SHOULDERS,
        "the error, weighted over parts, of the codes that are sent, with holding and without",
        "with below 1.1 times without",
    ),
    "curve": Definition(
        SHOULDERS,
        "the error, weighted over parts, by the codes sent: as the budget spends them, or the first levels of every "
        "part",
        "the budget below the uniform way at the same rate",
    ),
    "signs/*/location": Definition(
        SHOULDERS,
        "distance of the hand's own wrist from the original's where a picture shows it: each side placed from its nose",
        "below 0.1, far below the mean pose's",
    ),
    "signs/*/location_shoulders": Definition(
        SHOULDERS, "the same, each side placed from the middle of its shoulders", "near the location from the nose"
    ),
    "signs/*/in_place": Definition(
        SHOULDERS,
        "mean distance of all joints of the hand where a picture shows them: each side placed from its nose",
        "little above the wrist's alone",
    ),
    "signs/*/handshape": Definition(
        "palm lengths",
        "mean distance of the fingers' joints once each side's hand is put on its wrist and turned until its palm "
        "points up; a palm's length is the median of the clip's originals",
        "below 0.2, far below the mean pose's",
    ),
    "signs/*/palm_along": Definition(
        DEGREES,
        "mean angle between both sides' directions from the wrist to the middle finger's root",
        "below 10, far below the mean pose's",
    ),
    "signs/*/palm_across": Definition(
        DEGREES,
        "mean angle between both sides' directions from the index finger's root to the little finger's",
        "below 15, far below the mean pose's",
    ),
    "signs/*/palm_side": Definition(
        SHARE, "frames in which both sides' palms are turned alike: to us, or away", "above 0.95"
    ),
    "signs/*/movement": Definition(
        CORRELATION,
        "how both sides' wrists move together from frame to frame, each seen from its nose",
        "above 0.7: 1 is the same movement, and jitter of the original takes some off",
    ),
    "signs/*/movement_size": Definition(
        "times",
        "root of the mean square of these steps over the original's",
        "near 1: less is movement that is lost, more is jitter",
    ),
    "signs/*/error": Definition(
        "eye widths",
        "mean absolute difference of a length in the face: between the inner lips, between the corners of the mouth, "
        "from the brows to the corners of the eyes",
        "half of the mean pose's and less",
    ),
    "signs/*/correlation": Definition(
        CORRELATION,
        "how both sides' lengths change together from frame to frame, each clip about its own mean",
        "above 0.8; 1 is the same movement",
    ),
    "signs/*/size": Definition(
        "times",
        "standard deviation of this length over the original's, each clip about its own mean",
        "near 1: less is a face that is flattened",
    ),
    "efficiency/clips_per_s": Definition(
        "clips a second",
        "from prepared poses to tokens, all processes together",
        "as fast as another run's",
    ),
    "efficiency/frames_per_s": Definition("frames a second", "the same in frames", "far above the frame rate"),
    "efficiency/ms_per_chunk": Definition(
        "milliseconds",
        "a chunk of a live stream that comes frame by frame",
        "far below the chunk's own",
    ),
    "efficiency/memory_bytes": Definition(
        "bytes",
        "the most that a process took, of its GPU or else of main memory",
        "below what the machine has",
    ),
    "training": Definition(
        "as in docs/training.md",
        "the run's losses over its steps, in training and in validation",
        "both fall, and stay together",
    ),
}
