// Reads the data and puts the page of live runs together: what it comes to, the player, every number beside the controls', lag against BLEU.

const LAG = (x) => (isNumber(x) ? `${(x / 1000).toFixed(2)} s`.replace("-", "−") : NONE);
const score = (x) => (isNumber(x) ? x.toFixed(2) : NONE);
const ms = (x) => (isNumber(x) ? `${number(x)} ms` : NONE);
const TEXT = [["BLEU-4", "text/bleu_4", score], ["BLEU-1", "text/bleu_1", score], ["chrF", "text/chrf", score], ["ROUGE-L", "text/rouge_l", score], ["nothing said", "text/empty", per100]];
const LATE = [["LAAL", "laal"], ["AL", "al"], ["DAL", "dal"], ["first word", "first"]];
const LATER_THAN_SEEN = [["beyond what must be seen", "latency/beyond_seen"], ["first word beyond its signs", "latency/first_beyond_seen"]];
const SHOWN = [
  ["said before the end", "before_end", percent],
  ["taken back of what was shown", "erasure/shown", number],
  ["taken back of what was committed", "erasure/committed", number],
  ["words committed", "words", number],
  ["real-time factor", "real_time_factor", times],
  ["computing a chunk, half", "computing/p50", ms],
  ["computing a chunk, 95 %", "computing/p95", ms],
];

// Of recordings, the sentences' numbers tell most.
const where = (report) => (report.sentences ? "sentences/" : "");
const tipOf = (report, key) => says(definition(report, key));
const named = (report, name, key) => h("span", { "data-tip": tipOf(report, key) }, name);

function opening(report) {
  const { numbers, name } = report.runs[0];
  const late = `${where(report)}latency/consumed/laal`;
  const how = [
    `${report.split} split`,
    plural(report.clips, "clip"),
    report.sentences > 0 && plural(report.sentences, "sentence"),
    `${number(report.seconds / 60)} minutes of signing`,
    report.unknown > 0 && `${number(report.unknown)} without a text, not scored`,
    report.date,
  ];
  const fact = (title, key, text) => [title, text, tipOf(report, key.replace(/^sentences\//, ""))];
  return h(
    "header",
    h("h1", "Live: ", name),
    h("p.run", how.filter(Boolean).join(" · ")),
    h(
      "div.live-facts",
      facts([
        fact("BLEU-4", "text/bleu_4", score(numbers[`${where(report)}text/bleu_4`])),
        fact(report.sentences ? "StreamLAAL" : "LAAL", late, LAG(numbers[late])),
        fact("first word", "latency/consumed/first", LAG(numbers["latency/consumed/first"])),
        fact("said before the end", "before_end", percent(numbers.before_end)),
        fact("taken back of what was shown", "erasure/shown", isNumber(numbers["erasure/shown"]) ? `${number(numbers["erasure/shown"])} a word` : NONE),
        fact("real-time factor", "real_time_factor", times(numbers.real_time_factor)),
      ]),
    ),
  );
}

// A column a run, a row a number; rows: [what it is, value of a run].
function runTable(report, title, told, rows) {
  const heading = (run) => ({ text: [run.name, h("small", run.control ? "control" : run.file)] });
  return h(
    "section.panel",
    h("h3", title),
    lead(told),
    h("div.beside.live-runs", table([{ text: "" }, ...report.runs.map(heading)], rows.map(([name, value]) => [name, ...report.runs.map((run) => value(run.numbers))]))),
  );
}

const textRows = (report, prefix) => TEXT.map(([name, key, show]) => [named(report, name, key), (numbers) => show(numbers[prefix + key])]);
function lateRows(report, prefix) {
  const value = (numbers, key) => [LAG(numbers[`${prefix}latency/consumed/${key}`]), h("small", LAG(numbers[`${prefix}latency/elapsed/${key}`]))];
  const beyond = LATER_THAN_SEEN.map(([name, key]) => [named(report, name, key), (numbers) => LAG(numbers[prefix + key])]);
  const rows = LATE.map(([name, key]) => [named(report, prefix && key === "laal" ? "StreamLAAL" : name, `latency/consumed/${key}`), (numbers) => value(numbers, key)]);
  return [...rows, ...beyond];
}

function numbersOf(report) {
  const both = (prefix) => [...textRows(report, prefix), ...lateRows(report, prefix)];
  const clocks = "Lag by how much signing had been read; below it, in small, by the clock, computing and waiting included.";
  const counted = [["BLEU", "bleu"], ["chrF", "chrf"], ["ROUGE-L", "rouge_l"]].map(([name, key]) => [h("dt", name), h("dd", report.variants[key])]);
  return [
    report.sentences > 0 &&
      runTable(report, "Sentence by sentence", `The committed text of a recording, cut where it goes best with its sentences; a sentence's lag runs from its own beginning. ${clocks}`, both("sentences/")),
    runTable(report, "Whole clips", report.sentences ? "Each recording as one text." : clocks, both("")),
    runTable(report, "What was shown, and how fast", null, SHOWN.map(([name, key, show]) => [named(report, name, key), (numbers) => show(numbers[key])])),
    h("div.lead.variants", "Scores are from 0 to 100, counted so:", h("dl", counted)),
  ];
}

function main() {
  const page = document.getElementById("page");
  const { report, player: data, plot } = JSON.parse(document.getElementById("data").textContent);
  document.body.append(tips());
  document.title = `${report.runs[0].name} – SignStream`;
  const player = new LivePlayer(data);
  page.append(
    opening(report),
    chapter("live", "As it was said", () => [lead("The text stands there when it stood there: at the time of the clock, computing and waiting included."), liveView(player)]),
    chapter("numbers", "Numbers", () => numbersOf(report)),
  );
  if (plot) {
    const told = "A point a run, a line a kind of policy; dotted: BLEU of who has not seen the signing. The same picture lies beside this page.";
    page.append(chapter("frontier", "Lag against BLEU", () => [lead(told), h("img.plot", { src: plot, alt: "BLEU-4 over lag, a point a run; the table has the numbers" })]));
  }
  player.tell("start");
}

main();
