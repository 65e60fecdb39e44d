// Token ribbons: a row a part, a cell a chunk, in step with the picture; above them the scrubber and the error of each frame.

const hue = (code) => ((code * 137.508) % 360).toFixed(1); // the golden angle keeps neighbouring codes apart
const codesText = (codes) => codes.filter((c) => c >= 0).join("\u2009·\u2009") || NONE;

// [{chunk, length, codes}]: a chunk with the chunks that hold its codes.
function runsOf(clip, tag) {
  const held = clip.held?.[tag] || [];
  const out = [];
  (clip.codes[tag] || []).forEach((codes, chunk) => {
    if (held[chunk] && out.length) out.at(-1).length++;
    else out.push({ chunk, length: 1, codes });
  });
  return out;
}

// Of the part whose codes tell what is signed and are not drawn.
const tells = (player, part) => player.report.tells === part.name;

// A part's name with the box that shows or hides it.
function partLabel(player, part) {
  const box = h("input", {
    type: "checkbox",
    checked: true,
    style: { "accent-color": partColour(part.name) },
    "data-part": part.name,
    onchange: () => player.toggle(part.name, box.checked),
  });
  return h(
    "label.toggle",
    { "data-tip": `Show the ${partName(part.name)}${tells(player, part) ? "; its codes tell what is signed and draw nothing" : ""}` },
    box,
    h("span.swatch", { style: { background: partColour(part.name) } }),
    twoNames(part.name, part.tag),
  );
}

// A run of chunks in its code's colour: its `place` on the time line, `room` in pixels for its codes, hatched from a `share` of its width on, where it holds.
function tokenCell(part, { chunk, length, codes }, { place, room, share, onclick }) {
  const all = codesText(codes);
  const said = room > 6.4 * all.length ? all : room > 7 * String(codes[0]).length && codes[0] >= 0 ? String(codes[0]) : "";
  const where = length > 1 ? `chunks ${chunk + 1} to ${chunk + length}, held` : `chunk ${chunk + 1}`;
  const name = `${partName(part.name)}, ${where}: ${all}`;
  return h(
    "button",
    {
      class: codes[0] < 0 ? "cell none" : "cell",
      tabindex: -1,
      "aria-label": name,
      "data-tip": name,
      onclick,
      style: { "--hue": hue(codes[0]), ...place },
    },
    length > 1 && h("span.held", { style: { left: `${100 * share}%` } }),
    h("span", said),
  );
}

function ribbons(player, scrub) {
  const cursor = h("div.cursor");
  const strip = h("div.strip");
  const far = h("span.far");
  const rows = player.parts.map((part) => ({ part, cells: h("div.cells"), label: partLabel(player, part) }));
  let [errors, marked] = [[], null];

  const cell = (part, clip, run, width) => {
    const [start, stop] = [run.chunk * player.chunk_len, Math.min((run.chunk + run.length) * player.chunk_len, clip.frames)];
    const room = (width * (stop - start)) / clip.frames - 11;
    const open = (event) => {
      const share = event.detail ? (event.clientX - event.currentTarget.getBoundingClientRect().left) / event.currentTarget.clientWidth : 0;
      player.seek(start + player.chunk_len * Math.floor(share * run.length));
      player.choose(part.tag, run);
    };
    const place = { left: `${(100 * start) / clip.frames}%`, width: `${(100 * (stop - start)) / clip.frames}%` };
    return tokenCell(part, run, { place, room, share: player.chunk_len / (stop - start), onclick: open });
  };
  const fill = () => {
    for (const { part, cells } of rows) {
      const found = runsOf(player.now, part.tag);
      swap(
        cells,
        found.map((run) => cell(part, player.now, run, cells.clientWidth)),
      );
      cells.runs = found;
    }
  };
  const measure = () => {
    errors = player.errors();
    const top = Math.max(...errors.filter(isNumber), 1e-9);
    const bar = (e, t) => `M${t} 24V${(24 - (22 * (e || 0)) / top).toFixed(1)}H${t + 1}V24Z`;
    swap(
      strip,
      s(
        "svg",
        { viewBox: `0 0 ${errors.length} 24`, preserveAspectRatio: "none", "aria-hidden": "true" },
        s("path", { d: errors.map(bar).join("") }),
      ),
    );
  };
  const follow = (what) => {
    const { now, frame, chunk } = player;
    cursor.style.left = `${(100 * (frame + 0.5)) / now.frames}%`;
    far.textContent = isNumber(errors[frame]) ? `${number(errors[frame])} px` : NONE;
    if (what === "frame" && chunk === marked) return;
    marked = chunk;
    for (const { part, cells } of rows) {
      [...cells.children].forEach((node, i) => {
        const { chunk: first, length, codes } = cells.runs[i];
        const here = first <= chunk && chunk < first + length;
        if (here && node.tabIndex < 0 && cells.contains(document.activeElement)) node.focus({ preventScroll: true });
        node.tabIndex = here ? 0 : -1; // one cell a row takes the focus: the one under the cursor
        node.classList.toggle("same", player.chosen?.tag === part.tag && player.chosen.codes[0] === codes[0]);
      });
    }
  };
  player.follow((what) => {
    if (what === "clip" || what === "start") fill();
    if (what === "clip" || what === "start" || what === "parts") measure();
    follow(what);
  });
  onWidth(strip, () => {
    fill();
    follow();
  });
  return h(
    "div.ribbons",
    h("span.name"),
    scrub,
    h(
      "span.name.error",
      { "data-tip": "Mean distance of the joints shown, original to reconstruction, at this frame" },
      h("span.long", "error "),
      far,
    ),
    strip,
    rows.map(({ label, cells }) => [label, cells]),
    h("div.over", cursor),
  );
}
