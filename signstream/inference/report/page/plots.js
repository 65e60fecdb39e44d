// Charts: lines over axes, bars, heat tables, sorted histograms. Each returns an element.

const MARKS = ["var(--left_hand)", "var(--right_hand)", "var(--face)", "var(--full_body)", "var(--warn)", "var(--quiet)"]; // Okabe and Ito's
const DASHES = [null, "7 4", "2 3", "9 3 2 3"];

function ticks(low, high, count) {
  const raw = (high - low) / count || 1;
  const step = [1, 2, 5, 10].map((f) => f * 10 ** Math.floor(Math.log10(raw))).find((f) => f >= raw * 0.75);
  const out = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-6; i++) out.push(+(i * step).toPrecision(12));
  return out;
}
const tickText = (x) => (x === 0 ? "0" : Math.abs(x) >= 1e4 ? `${+(x / 1000).toPrecision(3)}k` : String(+x.toPrecision(3)).replace("-", "−"));

// series: [{name, x: [], y: [], colour, dash, thin, dots, tip(i)}]; names stand at the lines' ends.
function lineChart({ series, x: xLabel, y: yLabel = "", height = 220 }) {
  const lines = series
    .map((line) => ({ ...line, points: line.x.map((x, i) => [x, line.y[i], i]).filter(([x, y]) => isNumber(x) && isNumber(y)) }))
    .filter((line) => line.points.length);
  if (!lines.length) return h("p.missing", "Not measured.");
  const points = lines.flatMap((line) => line.points);
  const extent = (i) => [Math.min(...points.map((p) => p[i])), Math.max(...points.map((p) => p[i]))];
  const [x0, x1] = extent(0);
  const [low, high] = extent(1);
  const yTicks = ticks(Math.min(low, 0), Math.max(high, 0) || 1, 4);
  const [y0, y1] = [Math.min(low, 0), Math.max(high, yTicks.at(-1))];
  const tipOf = (line, [x, y, i]) => (line.tip ? line.tip(i) : `${line.name}, ${xLabel} ${number(x)}: ${number(y)}`);

  return responsive({ class: "chart" }, (width) => {
    const [left, top, bottom] = [46, yLabel ? 22 : 8, 34];
    const right = Math.min(8 + 7.4 * Math.max(...lines.map((line) => line.name.length)), width * 0.4);
    const px = (x) => left + ((x - x0) / (x1 - x0 || 1)) * (width - left - right);
    const py = (y) => height - bottom - ((y - y0) / (y1 - y0 || 1)) * (height - top - bottom);
    const ends = lines.map((line) => ({ line, y: py(line.points.at(-1)[1]) })).sort((a, b) => a.y - b.y);
    ends.forEach((end, i) => {
      if (i) end.y = Math.max(end.y, ends[i - 1].y + 14);
    });
    const path = (line) => line.points.map(([x, y], i) => `${i ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("");
    return s(
      "svg",
      { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${yLabel} over ${xLabel}` },
      yTicks.map((y) => [
        s("line.rule", { x1: left, x2: width - right, y1: py(y), y2: py(y) }),
        s("text", { x: left - 7, y: py(y) + 4, "text-anchor": "end" }, tickText(y)),
      ]),
      ticks(x0, x1, Math.min(8, (width - left - right) / 50)).map((x) =>
        s("text", { x: px(x), y: height - bottom + 17, "text-anchor": "middle" }, tickText(x)),
      ),
      s("text", { x: 0, y: 11 }, yLabel),
      s("text", { x: (left + width - right) / 2, y: height - 2, "text-anchor": "middle" }, xLabel),
      lines.map((line) => [
        s("path", { class: line.thin ? "line thin" : "line", stroke: line.colour, "stroke-dasharray": line.dash, d: path(line) }),
        (line.dots || line.points.length === 1) && line.points.map(([x, y]) => s("circle", { cx: px(x), cy: py(y), r: 3, fill: line.colour })),
        line.points.length <= 60 && line.points.map((p) => s("circle.touch", { cx: px(p[0]), cy: py(p[1]), r: 8, "data-tip": tipOf(line, p) })),
      ]),
      ends.map(({ line, y }) => s("text.end", { x: width - right + 6, y: y + 4, fill: line.colour }, line.name)),
    );
  });
}

// rows: [{label, value, text, colour, dots: [values], tick: value, tip}]
function bars(rows, max = null) {
  const top = max || Math.max(...rows.flatMap((row) => [row.value, row.tick, ...(row.dots || [])]).filter(isNumber)) || 1;
  const at = (x) => `${(100 * Math.min(x / top, 1)).toFixed(2)}%`;
  return h(
    "div.bars",
    rows.map((row) => [
      h("span.label", row.label),
      h(
        "span.track",
        { "data-tip": row.tip },
        isNumber(row.value) && h("span.fill", { style: { width: at(row.value), background: row.colour || "var(--accent)" } }),
        isNumber(row.tick) && h("span.tick", { style: { left: at(row.tick) } }),
        (row.dots || []).filter(isNumber).map((x) => h("span.dot", { style: { left: at(x) } })),
      ),
      h("span.value", row.text),
    ]),
  );
}

// What values from 0 to 1 are over a clip's time, a step each. A step stands for so many frames; the last one may stand for more than there are.
function stepArea(values, frames, framesPerStep, style = {}) {
  const [high, end] = [26, (t) => Math.min((t + 1) * framesPerStep, frames).toFixed(2)];
  const path = values.map((p, t) => `V${(high - (high - 2) * p).toFixed(1)}H${end(t)}`).join("");
  return s(
    "svg",
    { viewBox: `0 0 ${frames} ${high}`, preserveAspectRatio: "none", "aria-hidden": "true", style },
    s("path", { d: `M0 ${high}${path}V${high}Z` }),
  );
}

const shade = (share, ramp = "cool") =>
  ramp === "cool"
    ? `color-mix(in oklab, var(--cool-1) ${(100 * share).toFixed(1)}%, var(--cool-0))`
    : share < 0.5
      ? `color-mix(in oklab, var(--hot-1) ${(200 * share).toFixed(1)}%, var(--hot-0))`
      : `color-mix(in oklab, var(--hot-2) ${(200 * share - 100).toFixed(1)}%, var(--hot-1))`;

// rows: [{name, cells: [{share 0..1 or null, text, small, tip, plain}]}]; the colour says what the text says.
function heatTable(columns, rows) {
  return h(
    "div.scroll",
    h(
      "table.heat",
      h(
        "thead",
        h(
          "tr",
          h("th"),
          columns.map((name) => h("th", { scope: "col" }, name)),
        ),
      ),
      h(
        "tbody",
        rows.map((row) =>
          h(
            "tr",
            h("th", { scope: "row" }, row.name),
            row.cells.map((cell) =>
              h(
                "td",
                {
                  class: cell.plain ? "plain" : cell.share > 0.64 ? "deep" : "",
                  "data-tip": cell.tip,
                  style: cell.plain || !isNumber(cell.share) ? {} : { background: shade(cell.share) },
                },
                cell.text,
                cell.small && h("small", cell.small),
              ),
            ),
          ),
        ),
      ),
    ),
  );
}

// A row a part, a column a level. values: {part: [something a level]}.
function levelTable(report, values, cell) {
  const parts = report.parts.filter((part) => values[part]);
  const depth = Math.max(0, ...parts.map((part) => values[part].length));
  const cells = (part) => range(0, depth).map((q) => (q < values[part].length ? cell(values[part][q], part) : { text: "", plain: true }));
  return heatTable(
    range(0, depth).map((q) => `level ${q + 1}`),
    parts.map((part) => ({ name: partName(part), cells: cells(part) })),
  );
}

// How often each code occurs, most used first, on a logarithmic scale; flat is even use.
function sortedCounts(counts, colour) {
  const sorted = [...counts].sort((a, b) => b - a);
  const y = (count) => (50 - (48 * Math.log1p(count)) / Math.log1p(sorted[0])).toFixed(1);
  const step = Math.ceil(sorted.length / 200); // a small picture shows no more
  const path = sorted.flatMap((count, i) => (i % step ? [] : [`V${y(count)}H${Math.min(i + step, sorted.length)}`])).join("");
  return s(
    "svg.histogram",
    { viewBox: `0 0 ${sorted.length} 50`, preserveAspectRatio: "none", "aria-hidden": "true" },
    s("path", { d: `M0 50${path}V50Z`, fill: colour }),
  );
}

// rows of cells under headings [{text, tip}]; the first cell of a row is its heading.
function table(headings, rows) {
  return h(
    "div.scroll",
    h(
      "table",
      h(
        "thead",
        h(
          "tr",
          headings.map(({ text, tip }) => h("th", { scope: "col", "data-tip": tip, tabindex: tip ? 0 : null }, text)),
        ),
      ),
      h(
        "tbody",
        rows.map(([first, ...rest]) =>
          h(
            "tr",
            h("th", { scope: "row" }, first),
            rest.map((cell) => h("td", cell)),
          ),
        ),
      ),
    ),
  );
}

const facts = (triples) =>
  h(
    "dl.facts",
    triples.map(([name, value, tip]) => h("div", { "data-tip": tip }, h("dt", name), h("dd", value))),
  );
