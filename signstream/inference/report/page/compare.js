// Several runs side by side: a column a run, the best of each row marked; what differs in their configs; their curves in one plot.

const letter = (i) => String.fromCharCode(65 + (i % 26));
const KINDS = [
  // of rows, by their key: which way is better, if any, and how the number is written; the first that fits
  [/mean_pose$/, null, number],
  [/^recon.*pck/, "high", percent],
  [/^recon/, "low", number],
  [/^signs.*size$/, null, number],
  [/^signs.*side$/, "high", percent],
  [/^signs.*(movement|correlation)$/, "high", number],
  [/^signs/, "low", number],
  [/^smooth.*share/, "low", percent],
  [/^smooth.*original/, null, number],
  [/^smooth/, "low", number],
  [/used$/, "high", percent],
  [/^codes/, "high", number],
  [/^steady/, "high", percent],
  [/^stay/, null, percent],
  [/^meaning.*(tokens|codes|same gloss)/, "high", percent],
  [/^meaning/, null, percent],
  [/^judge/, null, per100], // one seed: a lower one need not be better
  [/^errors.whole/, "high", percent],
  [/^errors.unknown|^words$|^clips$/, null, number],
  [/^controls|^errors.(low|high)/, null, per100],
  [/^errors|^per_signer|^by_length/, "low", per100],
  [/held$/, null, percent],
  [/^rate.compression/, "high", times],
  [/^rate/, "low", number],
  [/bytes$/, "low", bytes],
  [/ms_/, "low", number],
  [/^efficiency/, "high", number],
];
const GROUPS = {
  recon: "Reconstruction",
  signs: "What signs are made of",
  smooth: "Smoothness",
  codes: "Codebook in use",
  stay: "Same code as the chunk before",
  steady: "Steadiness",
  meaning: "Meaning",
  judge: "Words that a small recogniser gets wrong",
  rate: "Rate",
  efficiency: "Efficiency",
};
const GLANCE = [
  ["error, shoulder widths", "recon/weighted/local"],
  ["error, pixels", "recon/weighted/pixels"],
  ["PCK 0.1", "recon/weighted/pck_0.1"],
  ["wrists from the nose, shoulder widths", "signs/hands/location"],
  ["opening of the mouth, correlation", "signs/mouth_opening/correlation"],
  ["segments' glosses, from tokens", "meaning/segments/tokens"],
  ["clips' glosses, from counts of codes", "meaning/clips/codes"],
  ["bits a second", "rate/bits_per_s"],
  ["clips a second", "efficiency/clips_per_s"],
];

const each = (values, change) => Object.fromEntries(Object.entries(values || {}).map(([key, value]) => [key, change(value)]));
const byLevel = (list) => Object.fromEntries(list.map((x, q) => [`level ${q + 1}`, x]));

// {"recon/face/local": 0.01, ...}: every number of a report that a row can show; seeds as their mean.
function numbers(report) {
  const kept = {
    ...Object.fromEntries(Object.keys(GROUPS).map((key) => [key, report[key]])),
    signs: report.signs?.full,
    stay: each(report.stay, byLevel),
    judge: each(report.judge?.rows, ({ wer }) => wer),
    steady: each(report.steady, (values) => each(values, byLevel)),
    codes: each(report.codes, (all) => byLevel(all.map(({ used, perplexity, entropy }) => ({ used, perplexity, entropy })))),
  };
  const rows = flat(kept, "", "/").map(([key, value]) => [key, Array.isArray(value) && value.every(isNumber) && value.length ? mean(value) : value]);
  return Object.fromEntries(rows.filter(([key, value]) => isNumber(value) && !key.endsWith("/classes")));
}

// rows: [[label, key]]; a column a run.
function compareTable(runs, rows, title) {
  const line = ([label, key]) => {
    const [, better, show] = KINDS.find(([pattern]) => pattern.test(key)) || [null, null, number];
    const values = runs.map((run) => run.numbers[key]);
    const known = values.filter(isNumber);
    const best = better && show(better === "high" ? Math.max(...known) : Math.min(...known));
    const differ = known.some((x) => show(x) !== best);
    return [label, ...values.map((x) => (differ && isNumber(x) && show(x) === best ? h("strong.best", "★ ", show(x)) : show(x)))];
  };
  return table([{ text: "" }, ...runs.map((run, i) => ({ text: title(run, i) }))], rows.map(line));
}

// A small table for each number that parts have, a row a part; one for those that belong to no part.
function compareGroup(runs, keys) {
  const parts = new Set([...runs.flatMap(({ report }) => [...report.parts, ...Object.keys(report.signs?.full || {})]), "weighted"]);
  const tables = new Map();
  for (const key of keys) {
    const [, ...words] = key.split("/");
    const part = words.find((word) => parts.has(word));
    const name = part ? words.filter((word) => word !== part).join(", ") : "";
    tables.set(name, [...(tables.get(name) || []), [partName(part || words.join(", ")), key]]);
  }
  const [section] = keys[0].split("/");
  const about = (name) => says(definition(runs[0].report, `${section}/*/${name.split(", ").at(-1)}`)) || says(definition(runs[0].report, section));
  return h(
    "div.many",
    { style: { "--each": `${110 + 84 * runs.length}px` } },
    [...tables].map(([name, rows]) =>
      h(
        "section.panel",
        name && h("h4", { "data-tip": about(name) }, partName(name)),
        compareTable(runs, rows, (run, i) => letter(i)),
      ),
    ),
  );
}

function compareCurves(runs) {
  const style = (i) => ({ name: letter(i), colour: MARKS[i % MARKS.length], dash: DASHES[Math.floor(i / MARKS.length) % DASHES.length] });
  const lines = (key) =>
    runs.map(({ report }, i) => ({ ...style(i), x: report.training?.val?.step || [], y: report.training?.val?.[key] || [], dots: true }));
  const plot = (title, chart) => h("section.panel", h("h3", title), chart);
  return h(
    "div.many.wide",
    plot(
      "Rate against error, budget",
      lineChart({ x: "bits a second", y: "error", series: runs.map(({ report }, i) => curveOf(report.curve || [], "budget", style(i))) }),
    ),
    plot("Validation loss", lineChart({ x: "step", y: "loss", series: lines("loss") })),
    plot("Validation error", lineChart({ x: "step", y: "error, weighted", series: lines("recon/weighted/local") })),
  );
}

function configs(runs) {
  const all = runs.map(({ report }) => Object.fromEntries(flat(report.config || {}).map(([key, value]) => [key, asText(value)])));
  const keys = [...new Set(all.flatMap(Object.keys))].filter((key) => new Set(all.map((config) => config[key])).size > 1);
  return keys.length
    ? table(
        [{ text: "" }, ...runs.map(({ title }) => ({ text: title }))],
        keys.map((key) => [key, ...all.map((config) => config[key] ?? NONE)]),
      )
    : h("p.missing", "Their configs do not differ.");
}

function comparison(reports) {
  const runs = reports.map((report, i) => ({ report, title: `${letter(i)} ${report.run.name}`, numbers: numbers(report) }));
  const keys = [...new Set(runs.flatMap((run) => Object.keys(run.numbers)))];
  const card = ({ report, title }) =>
    h("li", h("h2", title), h("p.run", runLine(report.run)), togetherLine(report), report.verdict?.[0] && judgement(report.verdict[0]));
  const group = (name) => {
    const found = keys.filter((key) => key.startsWith(`${name}/`));
    return found.length ? compareGroup(runs, found) : h("p.missing", "Not measured.");
  };
  const glance = () =>
    compareTable(
      runs,
      GLANCE.filter(([, key]) => keys.includes(key)),
      (run) => run.title,
    );
  return [
    h("header", h("h1", plural(runs.length, "run")), h("p.run", "★ marks the best of a row."), h("ul.runs", runs.map(card))),
    chapter("glance", "At a glance", glance),
    chapter("curves", "Curves", () => compareCurves(runs)),
    chapter("configs", "What differs in their configs", () => configs(runs)),
    ...Object.entries(GROUPS).map(([name, title]) => chapter(name, title, () => group(name))),
  ];
}
