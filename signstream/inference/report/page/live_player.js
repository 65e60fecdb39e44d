// The player of a live run: a skeleton, under it the text as it stood there at that moment, beside it what was meant, sentence by sentence.
// Whatever is shown follows from the moment alone, so that it is the same however one comes there. Times are milliseconds from the clip's first frame.

const clock = (ms) => `${Math.floor(ms / 60000)}:${((ms % 60000) / 1000).toFixed(1).padStart(4, "0")}`;
const later = (ms) => `${(Math.abs(ms) / 1000).toFixed(1)} s`;
const hueOf = (i) => (i * 137 + 215) % 360;

class LivePlayer extends Player {
  // When signing is over, the last pose is held.
  clipAt(index) {
    const clip = super.clipAt(index);
    if (!clip.states) {
      clip.poses = clip.poses.map((read) => (t, joint) => read(Math.min(t, clip.posed - 1), joint));
      clip.states = [firstState(clip.earlier, clip.guess)];
      for (const update of clip.updates) clip.states.push(nextState(clip.states.at(-1), update));
    }
    return clip;
  }
  get ms() {
    return this.now.begins + (1000 * this.frame) / this.fps;
  }
  get span() {
    return (1000 * this.now.frames) / this.fps;
  }
  goto(ms) {
    this.seek(Math.ceil(((ms - this.now.begins) * this.fps) / 1000 - 1e-6));
  }
  // Left edge and width in the time line, cut to what is shown; null: beyond it.
  place(from, to) {
    const at = (ms) => Math.min(Math.max((100 * (ms - this.now.begins)) / this.span, 0), 100);
    return at(to) > at(from) ? { left: `${at(from).toFixed(3)}%`, width: `${(at(to) - at(from)).toFixed(3)}%` } : null;
  }
}

function captions(player) {
  const box = h("div.captions", { role: "region", "aria-label": "text as it stood there", tabindex: 0 });
  player.follow(() => {
    swap(box, captionsAt(player.now, player.ms, player.blank));
    box.scrollTop = box.scrollHeight;
  });
  return box;
}

// When a sentence's text was there: its first and last word.
const firstOf = (sentence) => (sentence.said.length ? Math.min(...sentence.said) : null);
const lastOf = (sentence) => (sentence.said.length ? Math.max(...sentence.said) : null);

function timeline(player, scrub) {
  const lanes = h("div.lanes");
  const cursor = h("div.cursor");
  const cell = (kind, from, to, { text = "", tip, hue }) => {
    const place = player.place(from, to);
    const style = { ...place, "--hue": hue ?? 0 };
    return place && h("button", { class: `cell ${kind}`, style, tabindex: -1, "data-tip": tip, onclick: () => player.goto(from) }, parseFloat(place.width) > 2.5 && text); // no half words
  };
  const signed = ({ sentences, between, recording, signing }) => [
    sentences.map((one, i) =>
      cell("", one.begins, one.ends, { hue: hueOf(i), text: meantText(one, player.blank), tip: `signed ${clock(one.begins)} to ${clock(one.ends)}: ${meantText(one, player.blank)}` }),
    ),
    recording && between.map(([from, to, what]) => cell("none", from, to, { text: what, tip: `${what}, ${later(to - from)}` })),
    cell("none", signing, Infinity, { text: "over", tip: "signing is over" }),
  ];
  const waits = ({ sentences }) =>
    sentences.map((one, i) => {
      const wait = lastOf(one) - one.ends;
      return wait > 0 && cell(`wait ${i % 2 ? "odd" : ""}`, one.ends, lastOf(one), { hue: hueOf(i), text: later(wait), tip: `its last word came ${later(wait)} after its end` });
    });
  const words = ({ sentences }) => sentences.flatMap((one, i) => one.said.map((at) => mark("word", at, hueOf(i))));
  const mark = (kind, at, hue) => {
    const place = player.place(at, at + 1);
    return place && h(`span.mark.${kind}`, { style: { left: place.left, "--hue": hue } });
  };
  const back = ({ states }) => states.filter((state) => state.taken).map((state) => mark("back", state.at, 0));
  player.follow((what) => {
    const clip = player.now;
    cursor.style.left = `${(100 * (player.frame + 0.5)) / clip.frames}%`;
    if (what !== "clip" && what !== "start") return;
    const lane = (name, tip, kind, cells) => [h("span.name", { "data-tip": tip }, name), h(`div.cells.${kind}`, cells)];
    swap(
      lanes,
      lane("signed", "each sentence, a colour each, and what lies between", "signed", signed(clip)),
      lane("waits", "from a sentence's end to its last word", "waits", waits(clip)),
      lane("said", "each word when it was committed, in its sentence's colour; red: words were taken back", "words", [words(clip), back(clip)]),
    );
  });
  return h("div.ribbons.glosses.live", h("span.name"), scrub, lanes, h("div.over", cursor));
}

const meantText = (sentence, blank) => sentence.pairs.map(([meant]) => meant).filter((word) => word !== null).join(blank);

function waitText(sentence) {
  if (!sentence.said.length) return "nothing was said of it";
  const [first, wait] = [firstOf(sentence) - sentence.begins, lastOf(sentence) - sentence.ends];
  const after = (ms) => `${later(ms)} ${ms < 0 ? "before" : "after"}`;
  return `first word ${after(first)} its beginning, last ${after(wait)} its end`;
}

// What was meant and said, sentence by sentence; a click goes where it begins.
function meantCard(player) {
  const list = h("ol.sentences");
  const card = h("aside.card", { "aria-label": "what was meant" });
  let entries = [];
  const entry = (sentence, i) => {
    const button = h(
      "button.word",
      { onclick: () => player.goto(Math.max(sentence.begins, player.now.begins)) },
      h("small", h("span.swatch.cell-colour", { style: { "--hue": hueOf(i) } }), ` ${clock(sentence.begins)} to ${clock(sentence.ends)}`),
      [0, 1].map((side) => wordsOf(sentence, side, player.blank)),
      h("small", waitText(sentence)),
    );
    return { sentence, button };
  };
  const follow = ({ sentence, button }, next) => {
    const here = player.ms >= sentence.begins && player.ms < (next?.sentence.begins ?? Infinity);
    if (here && !button.classList.contains("here")) {
      card.scrollTop += button.getBoundingClientRect().top - card.getBoundingClientRect().top - 48;
    }
    button.classList.toggle("here", here);
    button.classList.toggle("ahead", player.ms < (firstOf(sentence) ?? sentence.ends));
  };
  player.follow((what) => {
    if (what === "clip" || what === "start") {
      entries = player.now.sentences.map(entry);
      swap(list, entries.map(({ button }) => h("li", button)));
      card.scrollTop = 0;
    }
    entries.forEach((one, i) => follow(one, entries[i + 1]));
  });
  card.append(
    h("h3", "What was meant, and what was said"),
    list,
    h("p.quiet", "Above what was meant, struck out where it was not said; below what was said, underlined where it was not meant. Pale: not said yet."),
  );
  return card;
}

function liveView(player) {
  const chrf = (clip) => (isNumber(clip.chrf) ? ` · chrF ${clip.chrf.toFixed(1)}` : "");
  const { chooser, play, scrub, speed } = controlsOf(player, (clip) => `${clip.name}${chrf(clip)}`);
  const [time, note, about] = [h("span.time"), h("p.unseen"), h("p.text.quiet")];
  player.follow((what) => {
    const clip = player.now;
    time.textContent = `${clock(player.ms)} of ${clock(clip.signing)}${player.frame >= clip.posed && player.ms >= clip.signing ? " · signing is over" : ""}`;
    if (what === "frame") return;
    player.canvas.setAttribute("aria-label", `skeleton of ${clip.name}`);
    const stop = clip.begins + (1000 * clip.posed) / player.fps;
    note.textContent = clip.cut ? `Of this recording the page has ${clock(clip.begins)} to ${clock(stop)}.` : "";
    about.textContent = [clip.signer && signerName(clip.signer), plural(clip.sentences.length, "sentence")].filter(Boolean).join(" · ");
  });
  const legend = captionsLegend("Space plays, ← → go a frame, with Shift half a second.");
  const view = h(
    "div.player.live",
    h("div.choose", chooser, about),
    h(
      "div.look",
      h("div.picture.alone-in-it", player.canvas, captions(player), h("div.controls", play, speed, time)),
      h("div.below", timeline(player, scrub), note, legend),
      meantCard(player),
    ),
  );
  player.seek(0, (player.clips.length - 1) >> 1); // they go from the worst to the best
  return listen(player, view);
}
