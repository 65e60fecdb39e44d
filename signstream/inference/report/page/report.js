// What was measured, section by section of the report: a table or a plot each.

const errorUnit = (report) => `error, ${definition(report, "recon/*/local").unit || "local"}`;
const partsIn = (report, values) => [...report.parts, "weighted"].filter((part) => values[part]);

// columns: [key, heading, how to write it]; a row a part.
function partTable(report, section, columns, first = null) {
  const values = report[section];
  const heading = ([key, text]) => {
    const told = definition(report, `${section}/*/${key}`);
    return { text, tip: [says(told), told.unit && `Unit: ${told.unit}.`].filter(Boolean).join(" ") || null };
  };
  const rows = partsIn(report, values).map((part) => [
    partName(part),
    first ? first(part) : [],
    columns.map(([key, , show = number]) => show(values[part][key])),
  ]);
  return table(
    [{ text: "part" }, first ? heading(["local", errorUnit(report)]) : [], columns.map(heading)].flat(),
    rows.map((row) => row.flat()),
  );
}

function reconstruction(report) {
  const { recon } = report;
  const top =
    1.04 *
    Math.max(
      1e-9,
      ...partsIn(report, recon)
        .flatMap((part) => [recon[part].local, recon[part].mean_pose])
        .filter(isNumber),
    );
  const bar = (part) =>
    bars(
      [
        {
          label: "",
          value: recon[part].local,
          tick: recon[part].mean_pose,
          text: number(recon[part].local),
          colour: part === "weighted" ? "var(--ink)" : partColour(part),
          tip: `${number(recon[part].local)}; the mean pose's ${number(recon[part].mean_pose)}`,
        },
      ],
      top,
    );
  return partTable(
    report,
    "recon",
    [
      ["pixels", "pixels"],
      ["raw", "raw"],
      ["pck_0.05", "PCK 0.05", percent],
      ["pck_0.1", "0.1", percent],
      ["pck_0.2", "0.2", percent],
      ["rmse", "RMSE"],
      ["mae", "MAE"],
      ["mse", "MSE"],
      ["huber", "Huber"],
    ],
    bar,
  );
}

// Where a part's codes draw nothing: what is measured of it then.
const toldLine = ({ tells }, more = "") => lead(tells && `The codes of the ${partName(tells)} tell what is signed and draw nothing${more}.`);
const togetherLine = (report) => toldLine(report, ": what is shown and measured of it is put together from the other parts");

const smoothness = (report) =>
  partTable(report, "smooth", [
    ["jump", "jump"],
    ["jump_original", "original's"],
    ["jump_p50", "median"],
    ["jump_p90", "90 %"],
    ["jump_p99", "99 %"],
    ["speed_error", "speed error"],
    ["jerk", "jerk"],
    ["jerk_original", "original's"],
    ["boundary_share", "error at borders", percent],
  ]);

const byFrame = (report) =>
  lineChart({
    x: "frame of the chunk",
    y: errorUnit(report),
    series: report.parts
      .filter((part) => report.by_frame[part])
      .map((part, i) => ({
        name: partName(part),
        colour: partColour(part),
        dash: DASHES[i % 2],
        dots: true,
        x: report.by_frame[part].map((_, t) => t + 1),
        y: report.by_frame[part],
      })),
  });

function bySigner(signers) {
  const row = ([name, { clips, local }]) => ({
    label: signerName(name),
    value: local,
    text: number(local),
    tip: plural(clips, "clip"),
    colour: "var(--quiet)",
  });
  const worstFirst = Object.entries(signers).sort(([, a], [, b]) => b.local - a.local);
  return h("div.long-list", bars(worstFirst.map(row)));
}

const isDead = (level) => !level.used;
const aboutLevel = (level) =>
  isDead(level)
    ? "No code of this level occurs."
    : `${percent(level.used)} of the codes occur, ${percent(level.dead)} do not, in ${plural(level.count, "chunk")}; ` +
      `perplexity ${number(level.perplexity)}, entropy ${number(level.entropy)}`;

const usage = (report) =>
  levelTable(report, report.codes, (level) =>
    isDead(level)
      ? { share: 0, text: "dead", small: "never used", tip: aboutLevel(level) }
      : { share: level.used, text: percent(level.used), small: number(level.perplexity), tip: aboutLevel(level) },
  );

const histograms = (report) =>
  levelTable(report, report.codes, (level, part) => ({
    plain: true,
    tip: aboutLevel(level),
    text: isDead(level) ? "dead" : sortedCounts(level.counts, partColour(part)),
  }));

const shares = (report, values) => levelTable(report, values, (x) => ({ share: x, text: percent(x) }));

function steadiness(report) {
  const one = ([name, values]) => h("section.panel", h("h3", capital(name)), shares(report, values));
  return [lead(says(definition(report, "steady"))), h("div.many.wide", Object.entries(report.steady).map(one))];
}

function mutual(report) {
  const { names, bits } = report.mutual;
  const top = Math.max(1e-9, ...bits.flatMap((row, i) => row.filter((x, j) => i !== j && isNumber(x))));
  const cell = (i) => (x, j) =>
    i === j
      ? { plain: true, text: number(x), tip: `entropy of the ${partName(names[i])}: ${number(x)} bits` }
      : {
          share: isNumber(x) ? Math.max(0, (0.85 * x) / top) : null,
          text: number(x),
          tip: `${partName(names[i])} and ${partName(names[j])}: ${number(x)} bits`,
        };
  return heatTable(
    names.map((name) => twoNames(name, report.tags?.[name])),
    bits.map((row, i) => ({ name: partName(names[i]), cells: row.map(cell(i)) })),
  );
}

// Bars of the seeds' mean with a dot a seed; a report of an older version has no tokens and no keypoints.
function probe(result) {
  const row = (label, values, colour) => {
    const seeds = [values].flat().filter(isNumber);
    return {
      label,
      value: seeds.length ? mean(seeds) : null,
      dots: seeds.length > 1 ? seeds : [],
      colour,
      text: seeds.length ? percent(mean(seeds)) : NONE,
      tip: seeds.length > 1 ? `${seeds.length} seeds: ${percent(Math.min(...seeds))} to ${percent(Math.max(...seeds))}` : null,
    };
  };
  return [
    bars(
      [
        row("keypoints", result.keypoints, "var(--face)"),
        row("latents", result.latents, "var(--face)"),
        row("tokens", result.tokens, "var(--accent)"),
        row("counts of codes", result.codes, "var(--accent)"),
        row("shuffled codes", result.shuffled, "var(--quiet)"),
        row("chance", result.chance, "var(--quiet)"),
      ].filter(({ value }) => value !== null),
    ),
    lead(`Over ${number(result.classes)} glosses; a dot is a seed.`),
  ];
}

const agreement = (pairs) =>
  bars(Object.entries(pairs).map(([label, value], i) => ({ label, value, text: percent(value), colour: i ? "var(--quiet)" : "var(--accent)" })));

// What the judge's recogniser got wrong, a row for each thing that it read.
function judged({ judge }) {
  const rows = Object.entries(judge.rows);
  const splits = [...new Set(rows.flatMap(([, { wer }]) => Object.keys(wer)))];
  const top = 1.04 * Math.max(1e-9, ...rows.flatMap(([, { wer }]) => Object.values(wer)).filter(isNumber));
  const colour = (name) => ({ keypoints: "var(--face)", tokens: "var(--accent)" })[name] || "var(--quiet)";
  const bar = (name, wer) => bars([{ label: "", value: wer, text: per100(wer), colour: colour(name) }], top);
  const held = judge.hold ? `held below ${number(judge.hold)}` : "none held";
  const codes = isNumber(judge.codes_per_chunk) ? `${plural(judge.codes_per_chunk, "code")} a chunk` : "all codes";
  return [
    table(
      ["what is read", ...splits.map((split) => `WER, ${split}`), "seconds of training"].map((text) => ({ text })),
      rows.map(([name, { wer, seconds }]) => [name, ...splits.map((split) => bar(name, wer[split])), number(seconds)]),
    ),
    lead(
      `Tokens as they are exported: ${codes}, ${held}. By ${judge.recipe}, ` +
        `${plural(judge.epochs, "epoch")}, seed ${judge.seed}: ${plural(judge.seeds, "seed")}.`,
    ),
  ];
}

const rate = (report) =>
  factsOf(report, "rate", [
    ["codes a chunk", "codes_per_chunk"],
    ["symbols a chunk", "symbols_per_chunk"],
    ["bits a second", "bits_per_s"],
    ["chunks held", "held", percent],
    ["smaller than float32", "compression_float32", times],
    ["smaller than float16", "compression_float16", times],
    ["error, held / not", "hold_error", (error) => (error ? `${number(error.with)} / ${number(error.without)}` : NONE)],
  ]);

const speed = (report) =>
  factsOf(report, "efficiency", [
    ["clips a second", "clips_per_s"],
    ["frames a second", "frames_per_s"],
    ["ms a chunk, live", "ms_per_chunk"],
    ["memory", "memory_bytes", bytes],
  ]);

const curveOf = (curve, key, look) => ({
  ...look,
  x: curve.map((p) => p.bits_per_s),
  y: curve.map((p) => p[key]),
  dots: true,
  tip: (i) => `${number(curve[i].codes_per_chunk)} codes a chunk, ${number(curve[i].bits_per_s)} bits a second: error ${number(curve[i][key])}`,
});

const rateCurve = (report) =>
  lineChart({
    x: "bits a second",
    y: errorUnit(report),
    series: [
      curveOf(report.curve, "budget", { name: "budget", colour: "var(--accent)" }),
      curveOf(report.curve, "uniform", { name: "uniform", colour: "var(--right_hand)", dash: DASHES[1] }),
    ],
  });
