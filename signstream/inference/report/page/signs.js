// What signs are made of: the hands' numbers, a row each, and what mouth and brows do.

const HAND_NUMBERS = [
  // what a row is called, its key, how it is written, what fills a bar at least
  ["location", "location", number, 0],
  ["from the shoulders", "location_shoulders", number, 0],
  ["whole hand in place", "in_place", number, 0],
  ["handshape", "handshape", number, 0],
  ["palm, along", "palm_along", number, 0],
  ["palm, across", "palm_across", number, 0],
  ["palm, side shown", "palm_side", percent, 1],
  ["movement", "movement", number, 1],
  ["its size", "movement_size", number, 1],
];
const FACE_NUMBERS = [
  ["error", "error", number, 0],
  ["correlation", "correlation", number, 1],
  ["size of the change", "size", number, 1],
];
const STROKE = "The upright stroke in a bar is the mean pose's, which needs no code.";

const signUnit = (report, key) => definition(report, `signs/*/${key}`).unit || "";
const aboutSign = (report, key) => says(definition(report, `signs/*/${key}`)) || null;
const sign = (report, way, group, key) => report.signs[way]?.[group]?.[key];

// A number of all levels; the stroke is the mean pose's, where that changes at all.
function signBar(report, group, [, key, show, full], colour) {
  const value = sign(report, "full", group, key);
  const tick = sign(report, "mean pose", group, key) || null;
  const top = 1.04 * Math.max(full, 1e-9, ...[value, tick].filter(isNumber));
  const tip = [show(value), tick && `the mean pose's ${show(tick)}`].filter(Boolean).join("; ");
  return bars([{ label: "", value, tick, text: show(value), colour, tip }], top);
}

function signsOfHands(report) {
  const row = (told) => {
    const [text, key, show] = told;
    return [
      h("span.told", { "data-tip": aboutSign(report, key), tabindex: 0 }, text),
      signBar(report, "hands", told, "var(--ink)"),
      show(sign(report, "full", "left_hand", key)),
      show(sign(report, "full", "right_hand", key)),
      show(sign(report, "sent", "hands", key)),
      show(sign(report, "mean pose", "hands", key)),
      h("span.unit", signUnit(report, key)),
    ];
  };
  const headings = ["of the hands", "both, all levels", "left", "right", "both, as sent", "mean pose", "unit"];
  return table(
    headings.map((text) => ({ text })),
    HAND_NUMBERS.map(row),
  );
}

function signsOfFace(report) {
  const groups = Object.keys(report.signs.full).filter((group) => "correlation" in report.signs.full[group]);
  const withUnit = ([text, key]) => (signUnit(report, key).startsWith(text) ? text : `${text}, ${signUnit(report, key)}`);
  const headings = FACE_NUMBERS.map((told) => ({ text: withUnit(told), tip: aboutSign(report, told[1]) }));
  return table(
    [{ text: "all levels" }, ...headings, { text: "as sent:" }, ...FACE_NUMBERS.map(([text]) => ({ text: text.split(" ")[0] }))],
    groups.map((group) => [
      partName(group),
      ...FACE_NUMBERS.map((told) => signBar(report, group, told, "var(--face)")),
      "",
      ...FACE_NUMBERS.map(([, key, show]) => show(sign(report, "sent", group, key))),
    ]),
  );
}
