// Skeletons: poses as they come in the data, drawn on canvases; and the figure whose joints carry their error's colour.

const UNITS = 32000; // positions are shares of the box's longer side
const BEYOND = 32767; // as far as 16 bits go: a joint there or beyond is missing, or too far outside to be drawn
const LAYERS = ["body", "full_body", "face", "left_hand", "right_hand"]; // hands lie over the face, the face over the body
const THICK = { face: 1, left_hand: 1.5, right_hand: 1.5 };
const DOT = { face: 0, left_hand: 1.7, right_hand: 1.7 };

function unpack(text) {
  const raw = atob(text);
  const codes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) codes[i] = raw.charCodeAt(i);
  return new Int16Array(codes.buffer);
}

// [{name, bones, joints}]: each bone and joint in the smallest part that has it, back to front.
function layers(parts) {
  const bySize = [...parts].sort((a, b) => a.stop - a.start - (b.stop - b.start));
  const taken = new Set();
  const found = bySize.map((part) => {
    const fresh = (key) => !taken.has(key) && taken.add(key);
    const bones = part.bones.filter((bone) => fresh(bone.join()));
    const joints = [];
    for (let j = part.start; j < part.stop; j++) if (fresh(j)) joints.push(j);
    return { name: part.name, bones, joints };
  });
  return found.sort((a, b) => LAYERS.indexOf(a.name) - LAYERS.indexOf(b.name));
}

// A canvas as sharp as the screen; returns its context, cleared, in CSS pixels.
function brush(canvas, width, height) {
  const dense = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * dense) || canvas.height !== Math.round(height * dense)) {
    [canvas.width, canvas.height] = [Math.round(width * dense), Math.round(height * dense)];
    canvas.style.height = `${height}px`;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(dense, 0, 0, dense, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.lineCap = pen.lineJoin = "round";
  return pen;
}

// at(joint) -> [x, y] or null; look {width, alpha, colour(part), bare: without joints}.
function strokePose(pen, groups, at, { width = 1, alpha = 1, colour, bare = false }) {
  pen.globalAlpha = alpha;
  for (const group of groups) {
    pen.strokeStyle = pen.fillStyle = colour(group.name);
    pen.lineWidth = width * (THICK[group.name] || 2.2);
    pen.beginPath();
    for (const [a, b] of group.bones) {
      const [from, to] = [at(a), at(b)];
      if (from && to) {
        pen.moveTo(...from);
        pen.lineTo(...to);
      }
    }
    pen.stroke();
    const radius = width * (DOT[group.name] ?? 2.6);
    if ((bare || !radius) && group.bones.length) continue;
    pen.beginPath();
    for (const joint of group.joints) {
      const p = at(joint);
      if (p) {
        pen.moveTo(...p);
        pen.arc(...p, radius || 2, 0, 7);
      }
    }
    pen.fill();
  }
  pen.globalAlpha = 1;
}

// Colours of the moment, which the browser's theme may change.
function palette() {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue(`--${name}`).trim() || style.getPropertyValue("--quiet").trim();
}

// The position of a joint in frame t of packed poses with `count` joints from `first` on, or null.
function reader(poses, count, first = 0) {
  return (t, joint) => {
    const i = 2 * (t * count + joint - first);
    return Math.abs(poses[i]) < BEYOND && Math.abs(poses[i + 1]) < BEYOND ? [poses[i], poses[i + 1]] : null;
  };
}

// The same, each frame about the middle of the joints that it shows: what a part does, wherever it is.
function centred(read, joints) {
  const middles = new Map();
  const middle = (t) => {
    const seen = joints.map((j) => read(t, j)).filter(Boolean);
    return [0, 1].map((i) => mean(seen.map((p) => p[i])));
  };
  return (t, joint) => {
    if (!middles.has(t)) middles.set(t, middle(t));
    const [p, [x, y]] = [read(t, joint), middles.get(t)];
    return p && [p[0] - x, p[1] - y];
  };
}

// Some frames of a part in a small square, fitted to all of them: `solid` as it is, the frames of `faint` behind it.
function drawSmall(canvas, size, groups, read, frames, solid, faint, colour) {
  const points = frames.flatMap((t) => groups.flatMap((g) => g.joints.map((j) => read(t, j)))).filter(Boolean);
  const pen = brush(canvas, size, size);
  if (!points.length) return false;
  const [x0, x1, y0, y1] = points.reduce(
    ([a, b, c, d], [x, y]) => [Math.min(a, x), Math.max(b, x), Math.min(c, y), Math.max(d, y)],
    [Infinity, -Infinity, Infinity, -Infinity],
  );
  const scale = (0.86 * size) / Math.max(x1 - x0, y1 - y0, 1);
  const fit = (t) => (j) => {
    const p = read(t, j);
    return p && [size / 2 + (p[0] - (x0 + x1) / 2) * scale, size / 2 + (p[1] - (y0 + y1) / 2) * scale];
  };
  const width = size > 120 ? 1.3 : 0.8;
  for (const t of faint) strokePose(pen, groups, fit(t), { width, alpha: 0.18, colour });
  strokePose(pen, groups, fit(solid), { width, colour });
  return true;
}

function errorFigure(figure, errors, unit) {
  if (!figure || errors.length !== figure.xy.length)
    return h("p.missing", "The figure knows 133 joints; these poses have ", String(errors.length), ".");
  const known = errors.filter(isNumber);
  if (!known.length) return null;
  const top = Math.max(...known);
  const size = (j) => (j < 23 ? 0.16 : j < 91 ? 0.062 : 0.1);
  return h(
    "div.errors",
    s(
      "svg",
      { viewBox: "-7.3 -1.7 14.6 12", role: "img", "aria-label": "error of each joint" },
      figure.bones.map(([a, b]) => s("line", { x1: figure.xy[a][0], y1: figure.xy[a][1], x2: figure.xy[b][0], y2: figure.xy[b][1] })),
      figure.xy.map(([x, y], j) =>
        s("circle", {
          cx: x,
          cy: y,
          r: size(j),
          style: isNumber(errors[j]) ? { fill: shade(errors[j] / top, "hot") } : {},
          "data-tip": `joint ${j + 1}: ${isNumber(errors[j]) ? `${number(errors[j])} ${unit}` : "not measured"}`,
        }),
      ),
    ),
    h("div.scale", h("span", "0"), h("span.hot"), h("span", `${number(top)} ${unit}`)),
  );
}
