// What a code means: the card of a chosen code, the dictionary of all codes in the clips, the latents they stand for.

const MOST = 18; // places that a card shows
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// Every place in the shown clips where the code begins: [{clip, chunk, length, codes}].
function places(player, tag, code) {
  return player.clips.flatMap((clip, i) =>
    runsOf(clip, tag)
      .filter((run) => run.codes[0] === code)
      .map((run) => ({ ...run, clip: i })),
  );
}

// What the dictionary says of a code, as a reader of its frames; null where it says nothing.
function decoded(player, tag, code) {
  const text = player.dictionary?.[tag]?.[code];
  const part = player.part(tag);
  return text ? reader(unpack(text), part.stop - part.start, part.start) : null;
}
const glossesOf = (player, code) => player.report.meaning?.told?.[code] || [];
const groupsOf = (player, part) => layers(player.parts.filter((p) => p.start >= part.start && p.stop <= part.stop));

function codeCard(player) {
  const card = h("aside.card", { "aria-label": "code", "aria-live": "polite" });
  let alive = 0;

  const moving = (part, code) => {
    const read = decoded(player, part.tag, code);
    if (!read) return h("p.missing", "What this code decodes to was not kept.");
    const canvas = h("canvas.alone", { role: "img", "aria-label": `what ${partName(part.name)} code ${code} decodes to alone` });
    const [groups, all, mine] = [groupsOf(player, part), range(0, player.chunk_len), ++alive];
    const show = (t, faint = []) => drawSmall(canvas, 168, groups, read, all, t, faint, player.colour);
    if (calm.matches) show(all.length >> 1, [0, all.length - 1]);
    else {
      const step = (time) => {
        if (mine !== alive) return;
        const beat = Math.floor((time / 1000) * player.fps * 0.5) % (all.length + 6); // at half speed, with a rest at the end
        show(Math.min(beat, all.length - 1));
        requestAnimationFrame(step);
      };
      requestAnimationFrame(step);
    }
    return canvas;
  };

  const place = (part, at) => {
    const canvas = h("canvas.small");
    const clip = player.clipAt(at.clip);
    const start = at.chunk * player.chunk_len;
    const span = range(start, Math.min(start + player.chunk_len, clip.frames));
    const read = centred(clip.poses[0], range(part.start, part.stop));
    const seen = drawSmall(canvas, 64, groupsOf(player, part), read, span, span[span.length >> 1], [span[0], span.at(-1)], player.colour);
    const here = at.clip === player.chosen.clip && at.chunk === player.chosen.chunk;
    const tip = `${clip.name}, chunk ${at.chunk + 1}${at.length > 1 ? `, held for ${at.length}` : ""}`;
    return h(
      "button",
      { class: here ? "place here" : "place", "aria-current": here ? "true" : null, "data-tip": tip, onclick: () => player.open(part.tag, at) },
      seen ? canvas : h("span.empty", "not seen"),
      player.seconds(start),
    );
  };

  player.choose = (tag, run) => {
    player.chosen = { clip: player.clip, ...run, tag };
    player.tell("code");
    const [part, code] = [player.part(tag), run.codes[0]];
    const [told, glosses] = [tells(player, part), glossesOf(player, code)];
    const all = places(player, tag, code);
    const shown = sum(all.map((at) => at.length));
    const chunks = sum(player.clips.map((clip) => (clip.codes[tag] || []).length));
    const counts = player.report.codes?.[part.name]?.[0]?.counts;
    const rank = counts && counts.filter((c) => c > counts[code]).length + 1;
    const fact = (name, ...value) => [h("dt", name), h("dd", value)];
    alive++;
    swap(
      card,
      h(
        "h3",
        h("span.swatch", { style: { background: partColour(part.name) } }),
        `${capital(partName(part.name))}, code ${code < 0 ? "none" : code}`,
      ),
      code < 0
        ? h("p.missing", "No code was sent for this chunk.")
        : [
            h(
              told ? "div" : "div.top",
              told
                ? h("p.missing", "It tells what is signed; nothing is drawn from it.")
                : h("figure", moving(part, code), h("figcaption", "decoded alone")),
              h(
                "dl",
                fact("In these clips", `${shown} of ${plural(chunks, "chunk")}`),
                counts && fact("In the split", `${number(counts[code])} of ${number(sum(counts))}`, h("br"), `rank ${rank}`),
                fact(run.codes.length > 1 ? `Sent of ${run.codes.length} levels` : "Sent", run.codes.filter((c) => c >= 0).join(" · ")),
                run.length > 1 && fact("Held", plural(run.length, "chunk")),
                told && fact("In segments of", glosses.map(([gloss, n]) => `${gloss} ${n}×`).join(" · ") || NONE),
              ),
            ),
            h(
              "p.where",
              all.length === 1
                ? "Only here in these clips."
                : `Where it occurs, as the original looks there${all.length > MOST ? ` (${MOST} of ${all.length})` : ""}`,
            ),
            h(
              "div.places",
              all.slice(0, MOST).map((at) => place(part, at)),
            ),
          ],
    );
  };
  player.open = (tag, at) => {
    player.seek(at.chunk * player.chunk_len, at.clip);
    player.choose(tag, at);
  };
  player.follow((what) => {
    if (what === "colour" && player.chosen) player.choose(player.chosen.tag, player.chosen);
  });
  card.append(h("p.missing", "Click a code in the ribbons to see what it decodes to, how often it occurs and where."));
  return card;
}

// Every first-level code of the chosen part that occurs in the clips, as a picture; drawn when opened.
function dictionary(player) {
  const [title, grid] = [h("summary"), h("div.grid")];
  const box = h("details.dictionary", { ontoggle: () => fill() }, title, grid);
  let drawn = null;
  const fill = () => {
    const part = player.part(player.chosen?.tag) || player.parts[0];
    const counts = new Map();
    for (const run of player.clips.flatMap((clip) => runsOf(clip, part.tag))) {
      if (run.codes[0] >= 0) counts.set(run.codes[0], (counts.get(run.codes[0]) || 0) + run.length);
    }
    const told = tells(player, part);
    const draws = told ? "; they tell what is signed and draw nothing" : "";
    title.textContent = `Dictionary: ${plural(counts.size, "code")} of the ${partName(part.name)} in these clips, most used first${draws}`;
    if (!box.open || drawn === part.tag) return;
    drawn = part.tag;
    const groups = groupsOf(player, part);
    swap(
      grid,
      [...counts]
        .sort((a, b) => b[1] - a[1])
        .map(([code, count]) => {
          const canvas = h("canvas.small");
          const read = decoded(player, part.tag, code);
          const all = range(0, player.chunk_len);
          if (read) drawSmall(canvas, 64, groups, read, all, all.length >> 1, [0, all.length - 1], player.colour);
          const glosses = glossesOf(player, code).map(([gloss]) => gloss);
          const said = told ? glosses.join(", ") || "not drawn" : "not kept";
          const open = () => player.open(part.tag, places(player, part.tag, code)[0]);
          return h(
            "button.place",
            { "aria-label": `code ${code}`, onclick: open },
            read ? canvas : h(told ? "span.empty.glosses" : "span.empty", said),
            `${code}`,
            h("small", ` ${count}×`),
          );
        }),
    );
  };
  player.follow((what) => {
    if (what === "colour") drawn = null;
    if (what !== "frame" && what !== "play") fill();
  });
  return box;
}

// The clip's way through the latents of each part: a point a chunk, with its code's hue; the current chunk ringed.
function latents(player) {
  const host = h("div.latents");
  const draw = (part) => {
    const way = player.now.latents?.[part.tag];
    if (!way?.length) return h("figure", h("p.missing", "Not measured."), h("figcaption", partName(part.name)));
    const [xs, ys] = [0, 1].map((i) => player.clips.flatMap((clip) => (clip.latents?.[part.tag] || []).map((p) => p[i])));
    const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const span = Math.max(x1 - x0, y1 - y0) || 1;
    const at = way.map(([x, y]) => [80 + (144 * (x - (x0 + x1) / 2)) / span, 80 - (144 * (y - (y0 + y1) / 2)) / span]);
    const found = runsOf(player.now, part.tag);
    return h(
      "figure",
      s(
        "svg",
        { viewBox: "0 0 160 160", role: "img", "aria-label": `latents of the ${partName(part.name)}`, "data-tag": part.tag },
        s("path.way", { d: at.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("") }),
        at.map(([cx, cy], chunk) => {
          const run = found.findLast((r) => r.chunk <= chunk);
          return s("circle", {
            cx,
            cy,
            r: 4.5,
            style: { "--hue": hue(run?.codes[0] ?? -1) },
            "data-tip": `chunk ${chunk + 1}: ${codesText(run?.codes || [])}`,
            onclick: () => player.open(part.tag, { ...run, clip: player.clip, chunk }),
          });
        }),
      ),
      h("figcaption", partName(part.name)),
    );
  };
  player.follow((what) => {
    if (what === "clip" || what === "start") swap(host, player.parts.map(draw));
    for (const plot of host.querySelectorAll("svg"))
      plot.querySelectorAll("circle").forEach((dot, i) => dot.classList.toggle("now", i === player.chunk));
  });
  return h(
    "section.panel",
    h("h3", "Latents of this clip"),
    lead(
      "Each chunk before quantising, on the split's first two principal axes; same colour, same code. Good: smooth, equal colours close together.",
    ),
    host,
  );
}
