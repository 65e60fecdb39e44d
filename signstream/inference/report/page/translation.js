// Reads the data and puts a translator's page together: scores, controls, sentences.

const SCORES = [
  ["BLEU-4", "bleu_4", "n-grams of 1 to 4 words (Chinese: characters), of all sentences together"],
  ["BLEU-1", "bleu_1", "the same of single words"],
  ["chrF", "chrf", "n-grams of 1 to 6 characters, F with beta 2, of all sentences together"],
  ["ROUGE-L", "rouge_l", "the longest words that both sentences have in one order, F with beta 1.2, the mean over sentences"],
];
const two = (x) => (isNumber(x) ? x.toFixed(2) : NONE);

function opening(report) {
  const { scores, variants, decode } = report;
  const how = [
    `${report.split} split`,
    plural(report.clips, "clip"),
    report.unknown > 0 && `${number(report.unknown)} without a sentence, not counted`,
    report.left_out > 0 && `${number(report.left_out)} cannot be read`,
    `reads ${report.source}`,
    report.checkpoints > 1 && `${report.checkpoints} checkpoints averaged`,
    plural(decode.beams, "beam"),
  ];
  const counted = [["BLEU", "bleu"], ["chrF", "chrf"], ["ROUGE-L", "rouge_l"]].map(([name, key]) => [h("dt", name), h("dd", variants[key])]);
  return h(
    "header",
    h("h1", report.name),
    h("p.run", how.filter(Boolean).join(" · ")),
    h(
      "div.pair.top",
      h(
        "div",
        facts(SCORES.map(([name, key, tip]) => [name, two(scores[`text/${key}`]), tip])),
        h("div.lead.variants", "From 0 to 100, of whole sentences as they stand there, counted so:", h("dl", counted)),
      ),
      safely(() => controls(report)),
    ),
  );
}

function controls({ scores, controls: measured, controls_are: what }) {
  const values = { ...measured, translations: scores["text/bleu_4"] };
  const top = Math.max(...Object.keys(what).map((name) => values[name]).filter(isNumber), 1e-9);
  const bar = (name) => bars([{ label: "", value: values[name], text: two(values[name]), colour: name === "translations" ? "var(--accent)" : "var(--quiet)" }], top);
  return h(
    "section",
    { id: "controls", "aria-label": "controls" },
    lead("What BLEU-4 the split gives to who has not seen its signing; translations that are worth something are far above all three."),
    h(
      "div.beside",
      table(
        ["", "BLEU-4"].map((text) => ({ text })),
        Object.entries(what).map(([name, of]) => [[name, h("small", of)], bar(name)]),
      ),
    ),
    has(measured.said) && lead(h("span", "The prior’s sentence: ", h("q", measured.said))),
  );
}

// What a row is, and what it is not.
const aboutRows = (report, moves) =>
  [
    `A row is a word that was said, ${report.pieces ? "a unit each" : "its units averaged"}: where the decoder looked while it chose it, ` +
      `the mean over all heads of ${plural(report.layers, "layer")}.`,
    moves ? "Each row is as high as its own highest step; its number is the share that lies on the step of this frame." : "In percent of the row, a column a gloss.",
    "Encoder steps have read one another, so this is where the word was read, which need not be where its sign is.",
    report.checkpoints > 1 && "It is the first checkpoint's attention; the sentences are those of all together.",
  ]
    .filter(Boolean)
    .join(" ");

function main() {
  const page = document.getElementById("page");
  const { report, sentences } = JSON.parse(document.getElementById("data").textContent);
  document.body.append(tips());
  document.title = `${report.name} – SignStream`;
  const player = new SentencePlayer(sentences);
  const moves = sentences.parts.length > 0;
  const order = "By chrF, each sentence by itself: BLEU is 0 where a short one has no four words in a row.";
  page.append(
    opening(report),
    chapter("sentences", "Sentences", () => [lead(order), sentenceView(player, { told: h("p.lead", aboutRows(report, moves)), moves })]),
  );
  player.tell("start");
}

main();
