// Elements, numbers in words, tips and sections. Texts become text nodes, never HTML.

// h("p.lead", { id, onclick, style: {..} }, children...): properties may be left out; children are nodes, texts, lists of them, or nothing.
function builder(create) {
  return (what, ...rest) => {
    const [tag, ...classes] = what.split(".");
    const props = rest[0]?.constructor === Object ? rest.shift() : {};
    const node = create(tag);
    for (const [key, value] of Object.entries(classes.length ? { class: classes.join(" "), ...props } : props)) {
      if (value === null || value === undefined || value === false) continue;
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (key === "style") for (const [name, v] of Object.entries(value)) node.style.setProperty(name, v);
      else node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...content(rest));
    return node;
  };
}
const content = (children) => children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false);
const swap = (node, ...children) => node.replaceChildren(...content(children));
const h = builder((tag) => document.createElement(tag));
const s = builder((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));

const NONE = "–";
const isNumber = (x) => typeof x === "number" && Number.isFinite(x);
const mean = (xs) => xs.reduce((a, b) => a + b, 0) / xs.length;
const sum = (xs) => xs.reduce((a, b) => a + b, 0);

// Three significant digits; whole numbers whole.
function number(x) {
  if (!isNumber(x)) return NONE;
  const size = Math.abs(x);
  if (Number.isInteger(x) || size >= 999.5) return Math.round(x).toLocaleString("en-GB").replace(/,/g, "\u202f");
  if (size < 1e-4) return x.toExponential(2);
  return x.toPrecision(3).replace("-", "−");
}
const percent = (x) =>
  !isNumber(x) ? NONE : x === 0 || x === 1 ? `${100 * x} %` : x >= 0.9995 ? ">99.9 %" : `${(100 * x).toPrecision(x < 0.0995 ? 2 : 3)} %`;
const per100 = (x) => (isNumber(x) ? `${x.toFixed(x < 9.95 ? 2 : 1)} %` : NONE);
const times = (x) => (isNumber(x) ? `${number(x)}×` : NONE);
const bytes = (x) => (!isNumber(x) ? NONE : x >= 1e9 ? `${number(x / 1e9)} GB` : `${number(x / 1e6)} MB`);
const range = (from, stop) => Array.from({ length: stop - from }, (_, i) => from + i);
const plural = (n, word) => `${number(n)} ${word}${n === 1 ? "" : "s"}`;
const partName = (name) => name.replace(/_/g, " ");
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const signerName = (name) => (/^\d+$/.test(name) ? `signer ${name}` : name);
const partColour = (name) => `var(--${name}, var(--quiet))`;

const definition = (report, key) => report.definitions?.[key] || {};
const plain = (text) =>
  text
    .replace(/`local`/g, "error")
    .replace(/`([^`]+)`/g, (_, name) => partName(name))
    .replace(/\.$/, "");
const says = ({ what, good }) => [what && `${capital(plain(what))}.`, good && `Good: ${plain(good)}.`].filter(Boolean).join(" ");

const lead = (text) => (text ? h("p.lead", text) : null);
const has = (value) => value !== null && value !== undefined && (typeof value !== "object" || Object.keys(value).length > 0);

// "Not measured", and why, where a note begins with a word of the key: "meaning: no gloss is annotated".
function notMeasured(report, key) {
  const words = key.split("/");
  const notes = (report.notes || []).filter((note) => words.includes(note.split(":")[0]));
  const note = notes.find((text) => text.includes(words.at(-1))) || notes[0];
  return h("p.missing", "Not measured.", note ? ` ${capital(note.replace(/^[^:]*:\s*/, ""))}.` : "");
}

// A table or plot with its title and line; `draw` gets the data at the key's words, up to a part's.
function panel(report, key, title, draw) {
  const data = key
    .split("/*")[0]
    .split("/")
    .reduce((value, word) => value?.[word], report);
  const body = has(data) ? draw(data) : null;
  return h("section.panel", h("h3", title), body && lead(says(definition(report, key))), body || notMeasured(report, key));
}

// What cannot be drawn says so in its place, and the rest of the page stands.
function safely(build) {
  try {
    return build();
  } catch (error) {
    console.error(error);
    return h("p.missing", `This could not be drawn: ${error.message}`);
  }
}

const chapter = (id, title, build) => h("section.chapter", { id, "aria-label": title }, h("h2", title), safely(build));

// A part's name, and its tag where there is no room.
const twoNames = (name, tag) => [h("span.long", partName(name)), h("span.short", tag || partName(name))];

// One tip for the page: whatever carries data-tip shows it under the pointer or the focus.
function tips() {
  const box = h("div.tip", { role: "status", hidden: true });
  const show = (event) => {
    const at = event.target.closest?.("[data-tip]");
    box.hidden = !at;
    if (!at) return;
    box.textContent = at.dataset.tip;
    const place = at.getBoundingClientRect();
    const edge = box.offsetWidth / 2 + 8;
    const x = Math.min(Math.max(place.left + place.width / 2, edge), document.documentElement.clientWidth - edge);
    const above = place.top > box.offsetHeight + 12;
    box.style.left = `${x + scrollX}px`;
    box.style.top = `${(above ? place.top - box.offsetHeight - 6 : place.bottom + 6) + scrollY}px`;
  };
  for (const kind of ["pointerover", "focusin"]) document.addEventListener(kind, show);
  return box;
}

// Calls act(width) soon after the element's width has changed, its first one included; not at once, since what it does may change sizes.
function onWidth(node, act) {
  let width = 0;
  new ResizeObserver(() => {
    if (Math.round(node.clientWidth) === width || !node.clientWidth) return;
    width = Math.round(node.clientWidth);
    requestAnimationFrame(() => act(width));
  }).observe(node);
}

// An element that holds what draw(width) returns.
function responsive(props, draw) {
  const host = h("div", props);
  onWidth(host, (width) => swap(host, draw(width)));
  return host;
}
