// Several recognisers side by side: their errors, whose, in how long lines, by what training. compare.js has the tables.

const RATES = [
  ["word error rate", "errors/wer"],
  ["substituted", "errors/substitutions"],
  ["deleted", "errors/deletions"],
  ["inserted", "errors/insertions"],
  ["95 % of such splits: from", "errors/low"],
  ["to", "errors/high"],
  ["greedy", "errors/greedy"],
  ["lines without an error", "errors/whole"],
  ["words that training has not", "errors/unknown"],
  ["steps in any order", "controls/jumbled"],
  ["other clips' lines", "controls/shuffled"],
  ["words", "words"],
  ["clips", "clips"],
];
const SPEEDS = [
  ["clips a second", "efficiency/clips_per_s"],
  ["frames a second", "efficiency/frames_per_s"],
  ["ms a frame, live", "efficiency/ms_per_frame"],
  ["memory", "efficiency/memory_bytes"],
];

// {"errors/wer": 12.3, "per_signer/Anna": 9.1, ...}: every number that a row can show.
function ratesOf({ errors, controls, per_signer, by_length, efficiency }) {
  const rates = (rows) => each(rows, ({ wer }) => wer);
  const { counts, clips, ...rest } = errors;
  const shuffled = controls.shuffled?.length ? mean(controls.shuffled) : null;
  const all = { errors: rest, controls: { jumbled: controls.jumbled, shuffled }, per_signer: rates(per_signer), by_length: rates(by_length), efficiency };
  return { ...Object.fromEntries(flat(all, "", "/")), words: counts.words, clips };
}

function recogniserComparison(reports) {
  const runs = reports.map((report, i) => ({ report, title: `${letter(i)} ${report.run.name}`, numbers: ratesOf(report) }));
  const card = ({ report: { run, verdict }, title }) =>
    h("li", h("h2", title), h("p.run", runLine(run)), h("p.run", `reads ${run.source}, ${run.mixer}`), verdict?.[0] && judgement(verdict[0]));
  const same = new Set(runs.map(({ report: { run }, numbers }) => [run.split, numbers.clips, numbers.words].join())).size === 1;
  const titled = (run) => run.title;
  const show = (rows) => compareTable(runs, rows, titled);
  const names = (section, called = (name) => name) =>
    [...new Set(reports.flatMap((report) => Object.keys(report[section])))].map((name) => [called(name), `${section}/${name}`]);
  const curve = ({ report }, i) => ({
    name: letter(i),
    colour: MARKS[i % MARKS.length],
    dash: DASHES[Math.floor(i / MARKS.length) % DASHES.length],
    x: report.training?.val?.step || [],
    y: report.training?.val?.wer || [],
    dots: true,
  });
  return [
    h(
      "header",
      h("h1", plural(runs.length, "recogniser")),
      h("p.run", "★ marks the best of a row."),
      !same && h("p.empty-split", "These are not of the same clips, so their rates cannot be held against each other."),
      h("ul.runs", runs.map(card)),
    ),
    chapter("glance", "Errors", () => show(RATES)),
    chapter("signers", "Word error rate by signer", () => show(names("per_signer", signerName))),
    chapter("lengths", "Word error rate by glosses of the sentence", () => show(names("by_length"))),
    chapter("curves", "Word error rate in validation", () => lineChart({ x: "step", y: "WER %", series: runs.map(curve) })),
    chapter("configs", "What differs in their configs", () => configs(runs)),
    chapter("efficiency", "Efficiency", () => show(SPEEDS)),
  ];
}
