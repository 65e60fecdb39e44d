// The page of one run: its head and its chapters, each panel with its one line from the definitions.

const GRADES = {
  // a word, a shape and the sign in it, beside the colour
  good: ["Good", "M8 0a8 8 0 1 0 0 16A8 8 0 0 0 8 0Z", "M4.5 8.2 7 10.8l4.6-5.4"],
  warn: ["Check", "M8 .8 16 15.2H0Z", "M8 6v4M8 12.4v.2"],
  bad: ["Problem", "M5 0h6l5 5v6l-5 5H5l-5-5V5Z", "M5.2 5.2l5.6 5.6M10.8 5.2l-5.6 5.6"],
};
const FIRST_CURVES = ["loss", "rec", "commit", "usage", "temporal", "lr", "gradient_norm", "recon/weighted/local"];

function judgement({ grade, text, advice }, more = "") {
  const [word, shape, sign] = GRADES[grade] || GRADES.warn;
  const icon = s(
    "svg",
    { viewBox: "0 0 16 16", "aria-hidden": "true" },
    s("path", { d: shape, fill: "currentColor" }),
    s("path", { d: sign, class: "sign" }),
  );
  return h(
    "div",
    { class: `verdict ${more}` },
    h("span", { class: `grade ${grade}` }, icon, word),
    h("div", h("p", text), advice && h("p.advice", advice)),
  );
}

// columns: [what it is called, key, how to write it].
function factsOf(report, section, columns) {
  const about = (key) => says(definition(report, `${section}/${key}`)) || null;
  return facts(columns.map(([text, key, show = number]) => [text, show(report[section][key]), about(key)]));
}

const runLine = (run) =>
  [
    `${run.split} split`,
    plural(run.clips, "clip"),
    isNumber(run.chunks) && plural(run.chunks, "chunk"),
    run.seconds && `${number(run.seconds)} s of signing`,
    isNumber(run.step) && `step ${number(run.step)}`,
    isNumber(run.epoch) && `epoch ${run.epoch}`,
    run.date,
  ]
    .filter(Boolean)
    .join(" · ");

// `more` stands below the first judgement.
function head({ run, verdict }, more = null) {
  const [first, ...rest] = verdict || [];
  return h(
    "header",
    h("h1", run.name),
    h("p.run", runLine(run)),
    run.clips ? null : h("p.empty-split", `The ${run.split} split is empty: there was nothing to measure.`),
    first && judgement(first, "first"),
    more,
    rest.length > 0 &&
      h(
        "ul.verdicts",
        rest.map((entry) => h("li", judgement(entry))),
      ),
  );
}

function training(report, first = FIRST_CURVES) {
  const { train, val } = { train: {}, val: {}, ...report.training };
  const keys = [...new Set([...Object.keys(train), ...Object.keys(val)])].filter((key) => key !== "step" && key !== "epoch");
  const one = (key) =>
    h(
      "section.panel",
      h("h4", key),
      lineChart({
        x: "step",
        height: 170,
        series: [
          train[key] && { name: "train", colour: "var(--quiet)", thin: true, x: train.step, y: train[key] },
          val[key] && { name: "val", colour: "var(--accent)", dots: val.step.length < 20, x: val.step, y: val[key] },
        ].filter(Boolean),
      }),
    );
  const rest = keys.filter((key) => !first.includes(key));
  return [
    lead(says(definition(report, "training"))),
    h("div.many", first.filter((key) => keys.includes(key)).map(one)),
    rest.length > 0 && h("details", h("summary", plural(rest.length, "more curve")), h("div.many", rest.map(one))),
  ];
}

// {a: {b: 1}} -> [["a.b", 1]]
const flat = (value, name = "", by = ".") =>
  value && typeof value === "object" && !Array.isArray(value) && Object.keys(value).length
    ? Object.entries(value).flatMap(([key, v]) => flat(v, name ? `${name}${by}${key}` : key, by))
    : [[name, value]];
const asText = (value) => (value === undefined ? NONE : typeof value === "string" ? value : JSON.stringify(value));

const folded = (title, headings, rows) =>
  rows.length > 0 &&
  h(
    "details.words",
    h("summary", title),
    table(
      headings.map((text) => ({ text })),
      rows,
    ),
  );

function aboutRun(report) {
  const { run } = report;
  return [
    facts([
      ["parameters", number(run.parameters)],
      ["architecture", run.arch],
      ["codebook", plural(report.codebook_size, "code")],
      ["chunk", plural(report.chunk_len, "frame")],
    ]),
    lead([run.machine, run.checkpoint, run.tokenizer && `tokenizer ${run.tokenizer}`].filter(Boolean).join(" · ")),
    panel(report, "efficiency", "Speed and memory", () => speed(report)),
    details(report),
  ];
}

// What was noted, the config, and what every number means.
function details(report) {
  return [
    (report.notes || []).length > 0 &&
      h(
        "ul.notes",
        report.notes.map((note) => h("li", note)),
      ),
    folded(
      "Config",
      ["key", "value"],
      flat(report.config || {}).map(([key, value]) => [key, asText(value)]),
    ),
    folded(
      "What every number means",
      ["number", "unit", "what it is", "good"],
      Object.entries(report.definitions || {}).map(([key, told]) => [key.replace("/*", ""), told.unit, told.what, told.good]),
    ),
  ];
}

function chapters(report, figure) {
  const pair = (...panels) => h("div.pair", panels);
  const show = (key, title, draw) => panel(report, key, title, draw);
  const orNot = (key, build) => (has(report[key]) ? build() : notMeasured(report, key));
  return [
    chapter("reconstruction", "Reconstruction", () => [
      togetherLine(report),
      show("recon/*/local", "By part", () => [
        reconstruction(report),
        lead("The upright stroke in a bar is the error of the mean pose, which needs no code."),
      ]),
      pair(
        show("per_joint", "On the skeleton", (errors) => errorFigure(figure, errors, definition(report, "per_joint").unit || "")),
        h("div", [show("by_frame", "By frame of the chunk", () => byFrame(report)), show("per_signer", "By signer", bySigner)]),
      ),
      show("smooth/*/jump", "Smoothness", () => smoothness(report)),
    ]),
    chapter("signs", "What signs are made of", () =>
      orNot("signs", () => [
        show("signs/*/location", "Hands", () => [signsOfHands(report), lead(STROKE)]),
        show("signs/*/error", "Mouth and brows", () => [signsOfFace(report), lead(STROKE)]),
      ]),
    ),
    chapter("codes", "Codes", () => [
      toldLine(report),
      pair(
        show("codes/*/used", "Codebook in use", () => [usage(report), lead("In small print the perplexity.")]),
        show("codes/*/counts", "Uses of each code", () => [histograms(report), lead("The most used first, on a logarithmic scale.")]),
      ),
      pair(
        show("stay", "Same code as the chunk before", (values) => shares(report, values)),
        show("mutual", "What parts know of each other", () => mutual(report)),
      ),
    ]),
    chapter("steadiness", "Steadiness", () => orNot("steady", () => steadiness(report))),
    chapter("meaning", "Meaning", () => [
      orNot("meaning", () =>
        h("div.many.wide", [
          show("meaning/clips", "Glosses of clips", probe),
          show("meaning/segments", "Glosses of segments", probe),
          show("meaning/agreement", "Agreement of codes", agreement),
        ]),
      ),
      has(report.judge) && show("judge", "Words that a small recogniser gets wrong", () => judged(report)),
    ]),
    chapter("rate", "Rate", () =>
      pair(
        show("rate/bits_per_s", "What the tokens cost", () => rate(report)),
        show("curve", "Rate against error", () => rateCurve(report)),
      ),
    ),
    chapter("training", "Training", () => orNot("training", () => training(report))),
    chapter("run", "The run", () => aboutRun(report)),
  ];
}
