// The player of a translator: a skeleton, under it where the decoder looked as it chose each word, beside it the sentences, the worst and the best.
// Of glosses there is no skeleton: words over glosses, as a table.

class SentencePlayer extends Player {
  // [words][steps] from 0 to 1; a row is 1 together.
  looks(clip) {
    if (!clip.rows) {
      const all = unpack(clip.looks);
      clip.rows = clip.words.map((_, i) => Array.from(all.subarray(i * clip.steps, (i + 1) * clip.steps), (x) => x / UNITS));
    }
    return clip.rows;
  }
}

// A sentence word by word; what the other one has not is said by a line as well as by colour.
function wordsOf(clip, side, blank) {
  const other = 1 - side;
  const words = clip.pairs.filter((pair) => pair[side] !== null);
  const text = (pair) => (pair[side] === pair[other] ? pair[side] : h(side ? "ins.differs" : "del.differs", pair[side]));
  return h(side ? "span.said" : "span.meant", words.length ? words.map((pair, i) => [i > 0 && blank, text(pair)]) : h("em.quiet", "nothing"));
}

// Whether a said word is not what was meant there; nobody knows where words and rows do not go together.
function differs(clip, row) {
  const said = clip.pairs.filter(([, word]) => word !== null);
  return said.length === clip.words.length && said[row][0] !== said[row][1];
}

function attentionRibbons(player, scrub) {
  const cursor = h("div.cursor");
  const body = h("div.lanes");
  let now = [];
  const row = (clip, values, i) => {
    const most = Math.max(...values, 1e-9);
    const peak = values.indexOf(most);
    const go = () => player.seek(Math.min(Math.ceil(peak * player.frames_per_step), clip.frames - 1));
    const tip = `“${clip.words[i]}” looked most at ${player.seconds(peak * player.frames_per_step)}: ${percent(most)} of it`;
    const value = h("span.value");
    const name = h("span.name.chance", h("button", { class: `go gloss${differs(clip, i) ? " differs" : ""}`, onclick: go, "data-tip": tip }, clip.words[i]), value);
    now.push({ name, value, values });
    return [name, h("div.strip.chances", stepArea(values.map((x) => x / most), clip.frames, player.frames_per_step))];
  };
  player.follow((what) => {
    const { now: clip, frame, step } = player;
    if (what === "clip" || what === "start") {
      now = [];
      swap(body, player.looks(clip).map((values, i) => row(clip, values, i)));
    }
    cursor.style.left = `${(100 * (frame + 0.5)) / clip.frames}%`;
    const most = Math.max(...now.map(({ values }) => values[step]));
    for (const { name, value, values } of now) {
      value.textContent = `${Math.round(100 * values[step])} %`;
      name.classList.toggle("here", values[step] === most && most * clip.steps > 1); // more than if it looked everywhere
    }
  });
  return h("div.ribbons.glosses.attention", h("span.name"), scrub, body, h("div.over", cursor));
}

function attentionTable(player) {
  const host = h("div");
  const cell = (x) => ({ share: x, text: Math.round(100 * x), tip: percent(x) });
  player.follow((what) => {
    if (what !== "clip" && what !== "start") return;
    const clip = player.now;
    swap(host, heatTable(clip.glosses.slice(0, clip.steps), player.looks(clip).map((values, i) => ({ name: clip.words[i], cells: values.map(cell) }))));
  });
  return host;
}

const scoreText = (clip) => `chrF ${clip.chrf.toFixed(1)}`;

// All sentences; a click shows one.
function sentenceCard(player) {
  const entry = (clip, i) => {
    const lines = [0, 1].map((side) => wordsOf(clip, side, player.blank));
    const button = h("button.word", { onclick: () => player.seek(0, i) }, lines, h("small", `${scoreText(clip)} · ${clip.name}`));
    player.follow((what) => {
      if (what === "frame") return;
      button.classList.toggle("here", player.clip === i);
      button.setAttribute("aria-pressed", player.clip === i);
    });
    return h("li", button);
  };
  const all = player.clips.map((clip, i) => [clip, entry(clip, i)]);
  const group = (name, best) => {
    const some = all.filter(([clip]) => clip.best === best).map(([, node]) => node);
    return some.length > 0 && [h("h3", `The ${some.length > 1 ? `${some.length} ` : ""}${name}`), h("ol.sentences", some)];
  };
  return h(
    "aside.card",
    { "aria-label": "sentences" },
    group("worst", false),
    group("best", true),
    h("p.quiet", "Above what was meant, struck out where it was not said; below what was said, underlined where it was not meant."),
  );
}

function sentenceLines(player) {
  const lines = h("div.lines");
  player.follow((what) => {
    if (what !== "clip" && what !== "start") return;
    const clip = player.now;
    swap(
      lines,
      [h("span.name", "meant"), wordsOf(clip, 0, player.blank)],
      [h("span.name", "said"), wordsOf(clip, 1, player.blank)],
      [h("span.name", "score"), h("span.quiet", `${scoreText(clip)} · in the search ${number(clip.log)}${clip.signer ? ` · ${signerName(clip.signer)}` : ""}`)],
    );
  });
  return lines;
}

function sentenceView(player, { told, moves }) {
  const { chooser, play, scrub, speed } = controlsOf(player, (clip) => `${clip.name} · ${scoreText(clip)}`);
  const [time, missing] = [h("span.time"), h("p.unseen")];
  player.follow((what) => {
    const clip = player.now;
    time.textContent = `frame ${player.frame + 1} of ${clip.frames} · ${player.seconds(player.frame)} · step ${player.step + 1}`;
    if (what === "frame") return;
    player.canvas.setAttribute("aria-label", `skeleton of ${clip.name}`);
    missing.textContent = [!clip.words.length && "Nothing was said of this clip.", clip.cut && "Only the beginning of this clip is in the page."].filter(Boolean).join(" ");
  });
  const below = [moves ? attentionRibbons(player, scrub) : attentionTable(player), missing];
  const keys = moves && h("p.keys", "Space plays, ← → go a frame, with Shift half a second. Click a word to go where it looked most.");
  const look = moves
    ? h("div.look", h("div.picture.alone-in-it", player.canvas, h("div.controls", play, speed, time)), h("div.below", below, keys, told), sentenceCard(player))
    : h("div.look", h("div.picture", below, told), sentenceCard(player));
  const view = h("div.player", h("div.choose", chooser, sentenceLines(player)), look);
  return moves ? listen(player, view) : view;
}
