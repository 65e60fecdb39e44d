// A recogniser's page: what its errors are, whose, in how long lines, and which glosses it takes for which.

const LOGGED = ["loss", "wer", "ctc", "substitutions", "deletions", "insertions", "lr", "gradient_norm"];

function glance(report) {
  const { errors, controls } = report;
  const about = (key) => says(definition(report, key)) || null;
  return facts([
    ["word error rate", per100(errors.wer), about("errors/wer")],
    ["95 % interval", `${per100(errors.low).replace(" %", "")} to ${per100(errors.high)}`, about("errors/low")],
    ["steps in any order", per100(controls.jumbled), about("controls/jumbled")],
    ["other clips' lines", per100(controls.shuffled ? mean(controls.shuffled) : null), about("controls/shuffled")],
    ["saying nothing", per100(controls.nothing), about("controls/nothing")],
    ["lines without an error", percent(errors.whole), about("errors/whole")],
    ["greedy", per100(errors.greedy), about("errors/greedy")],
  ]);
}

function kinds({ errors }) {
  const { counts } = errors;
  const row = (name, colour) => ({
    label: name,
    value: errors[name],
    colour,
    text: per100(errors[name]),
    tip: `${number(counts[name])} of ${plural(counts.words, "word")}`,
  });
  return bars([row("substitutions", "var(--left_hand)"), row("deletions", "var(--right_hand)"), row("insertions", "var(--face)")]);
}

function controlBars({ errors, controls }) {
  const seeds = controls.shuffled || [];
  return bars([
    { label: "its own lines", value: errors.wer, text: per100(errors.wer), colour: "var(--accent)" },
    { label: "steps in any order", value: controls.jumbled, text: per100(controls.jumbled), colour: "var(--quiet)" },
    {
      label: "other clips' lines",
      value: seeds.length ? mean(seeds) : null,
      dots: seeds,
      text: seeds.length ? per100(mean(seeds)) : NONE,
      tip: seeds.length ? `${seeds.length} seeds: ${per100(Math.min(...seeds))} to ${per100(Math.max(...seeds))}` : null,
      colour: "var(--quiet)",
    },
    { label: "nothing", value: controls.nothing, text: per100(controls.nothing), colour: "var(--quiet)" },
  ]);
}

const worstFirst = (rows) => Object.entries(rows).sort(([, a], [, b]) => b.wer - a.wer);

// rows: [[name, row]], a group of clips each: its rate as a bar, its parts, and how many words that is.
function groupTable(heading, rows, called, report) {
  const top = Math.max(1e-9, ...rows.map(([, row]) => row.wer).filter(isNumber)) * 1.04;
  const all = report.errors.wer;
  const cell = ({ wer }) => bars([{ label: "", value: wer, text: per100(wer), tick: all, tip: `of all ${per100(all)}` }], top);
  return [
    table(
      [heading, "WER", "substituted", "deleted", "inserted", "words", "clips"].map((text) => ({ text })),
      rows.map(([name, row]) => [
        called(name),
        cell(row),
        ...["substitutions", "deletions", "insertions", "words"].map((key) => number(row.counts[key])),
        number(row.clips),
      ]),
    ),
    lead("The upright stroke in a bar is the rate of all clips."),
  ];
}

// What a gloss looks like where it is right, or without one the mistake: its picture, or its skeleton with the first and last frame pale behind
// the middle one.
function look(moment, player, gloss = null) {
  if (!moment) return h("figure.moment", h("span.empty", "never right"), h("figcaption", gloss));
  const caption = gloss === null ? "the mistake" : `${gloss}, right`;
  const where = `${moment.clip}, frames ${moment.first + 1} to ${moment.last + 1}, confidence ${percent(moment.confidence)}`;
  const name = `${caption}: ${where}`;
  let shown = null;
  if (moment.picture) shown = h("img", { src: moment.picture, alt: name });
  else {
    shown = h("canvas", { role: "img", "aria-label": name });
    const read = reader(unpack(moment.poses), player.joints);
    const draw = () => drawSmall(shown, 108, player.layers, read, [0, 1, 2], 1, [0, 2], player.colour);
    player.follow((what) => what === "colour" && draw());
    draw();
  }
  return h("figure.moment", { "data-tip": where }, shown, h("figcaption", caption));
}

function confusionList(report, player, moments) {
  const pairs = report.confusions.map((pair, i) => ({ ...pair, at: player && moments[i] }));
  const card = ({ reference, hypothesis, times, signed, at }) =>
    h(
      "li",
      h("p", h("strong", reference), " taken for ", h("strong", hypothesis), h("span.quiet", ` ${number(times)} of ${number(signed)}`)),
      h(
        "div.moments",
        look(at.taken, player),
        look(at.reference, player, reference),
        look(at.hypothesis, player, hypothesis),
      ),
    );
  const rest = pairs.filter((pair) => !pair.at);
  return [
    h("ul.confusions", pairs.filter((pair) => pair.at).map(card)),
    rest.length > 0 &&
      h(
        "div.words",
        table(
          ["signed", "recognised", "times", "of"].map((text) => ({ text })),
          rest.map((pair) => [pair.reference, pair.hypothesis, number(pair.times), number(pair.signed)]),
        ),
      ),
    lead(`Each at its surest${player?.parts.length ? "; pale behind the middle frame of a gloss its first and its last" : ", the middle frame"}.`),
  ];
}

function aboutRecogniser(report) {
  const { run } = report;
  return [
    facts([
      ["parameters", number(run.parameters)],
      ["reads", run.source],
      ["over time", `${run.mixer}${run.causal ? ", causal" : ""}`],
      ["glosses", number(report.glosses)],
      ["weights", run.weights === "average" ? "their average" : "as trained"],
      ["beam", number(run.beam)],
    ]),
    lead(
      [run.machine, run.checkpoint, `recogniser ${run.recogniser}`, run.tokenizer && `tokenizer ${run.tokenizer}`].filter(Boolean).join(" · "),
    ),
    panel(report, "efficiency", "Speed and memory", () =>
      factsOf(report, "efficiency", [
        ["clips a second", "clips_per_s"],
        ["frames a second", "frames_per_s"],
        ["ms a frame, live", "ms_per_frame"],
        ["memory", "memory_bytes", bytes],
      ]),
    ),
    details(report),
  ];
}

function recognitionChapters(report, player, moments) {
  const show = (key, title, draw) => panel(report, key, title, draw);
  const unknown = report.errors.unknown;
  return [
    chapter("errors", "Errors", () => [
      h("div.pair", [
        show("errors/wer", "What is wrong", () => [
          kinds(report),
          lead(unknown ? `Words of the references that no training clip has, each an error: ${number(unknown)}.` : ""),
        ]),
        show("controls/shuffled", "Against the controls", () => controlBars(report)),
      ]),
      show("per_signer", "By signer", (rows) => groupTable("signer", worstFirst(rows), signerName, report)),
      show("by_length", "By length of the sentence", (rows) => groupTable("glosses", Object.entries(rows), (name) => name, report)),
    ]),
    chapter("confusions", "Confusions", () =>
      report.confusions.length
        ? show("confusions", "Taken for one another", () => confusionList(report, player, moments))
        : h("p.missing", "No gloss was taken for another one."),
    ),
    chapter("training", "Training", () => (has(report.training) ? training(report, LOGGED) : notMeasured(report, "training"))),
    chapter("run", "The run", () => aboutRecogniser(report)),
  ];
}
