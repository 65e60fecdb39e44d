// The player of a recogniser: a skeleton or the clip's pictures, under it what was recognised and how likely each gloss is step by step, beside
// it the line, word by word.

class GlossPlayer extends Player {
  draw() {
    if (!this.now.pictures) return super.draw();
    const width = this.canvas.clientWidth;
    if (!width) return;
    const image = this.imageAt(this.frame);
    const height = Math.round(Math.min(width * (image.naturalHeight / image.naturalWidth || 1), 400));
    const pen = brush(this.canvas, width, height);
    if (!image.complete || !image.naturalWidth) return;
    const scale = Math.min(width / image.naturalWidth, height / image.naturalHeight);
    const [w, t] = [image.naturalWidth * scale, image.naturalHeight * scale];
    pen.drawImage(image, (width - w) / 2, (height - t) / 2, w, t);
  }

  // Made when it is first shown, and drawn once the browser has it.
  imageAt(frame) {
    const clip = this.now;
    clip.images ||= [];
    if (!clip.images[frame]) {
      const image = (clip.images[frame] = new Image());
      image.onload = () => this.draw();
      image.src = clip.pictures[frame];
    }
    return clip.images[frame];
  }

  // [rows][steps] from 0 to 1: how likely each gloss of a clip is.
  likely(clip) {
    if (!clip.chances) {
      const bytes = atob(clip.likely);
      clip.chances = clip.rows.map((_, i) => range(0, clip.steps).map((t) => bytes.charCodeAt(i * clip.steps + t) / 255));
    }
    return clip.chances;
  }
}

const glossHue = (i) => ((25 + i * 137.508) % 360).toFixed(1); // the golden angle keeps neighbours apart
const wrongIn = (clip) => clip.pairs.filter(([reference, hypothesis]) => kindOf(reference, hypothesis) !== "right").length;
const fold = (word) => word.replace(/[A-Z]/g, (letter) => letter.toLowerCase()); // as the word error rate compares them
const kindOf = (reference, hypothesis) =>
  reference === null ? "inserted" : hypothesis === null ? "deleted" : fold(reference) === fold(hypothesis) ? "right" : "substituted";

// A word pair of the line: what was signed, and what was recognised, where these differ; the difference is said by signs as well as by colour.
function pairText(reference, hypothesis) {
  const kind = kindOf(reference, hypothesis);
  if (kind === "right") return h("span.said", reference);
  return h(
    "span",
    { class: `said ${kind}`, "data-tip": capital(kind) },
    reference !== null && h("del", reference),
    reference !== null && hypothesis !== null && " → ",
    hypothesis !== null && h("ins", hypothesis),
  );
}

function glossRibbons(player, scrub) {
  const cursor = h("div.cursor");
  const body = h("div.lanes");
  const now = [];

  // Glosses with their frames on one line: spans of [gloss, first, last, confidence].
  const lane = (clip, called, spans) => {
    const cell = ([gloss, first, last, sure]) => {
      const [left, width] = [first, Math.min(last + 1, clip.frames) - first].map((frames) => `${(100 * frames) / clip.frames}%`);
      const confidence = isNumber(sure) ? `, confidence ${percent(sure)}` : "";
      const tip = `${gloss}: frames ${first + 1} to ${last + 1}, ${player.seconds(first)}${confidence}`;
      const row = clip.rows.indexOf(gloss);
      return h(
        "button",
        {
          class: row < 0 ? "cell none" : "cell",
          "aria-label": tip,
          "data-tip": tip,
          onclick: () => player.seek(first),
          style: { left, width, "--hue": glossHue(Math.max(row, 0)) },
        },
        h("span", gloss),
      );
    };
    return h("div.cells", { role: "group", "aria-label": called }, spans.map(cell));
  };
  const name = (long, short, tip) => h("span.name", { "data-tip": tip }, h("span.long", long), h("span.short", short));
  const fill = () => {
    const clip = player.now;
    const rows = player.likely(clip);
    now.length = 0;
    swap(
      body,
      clip.segments.length > 0 && [
        name("signed", "signed", "Where the annotation says that a gloss is signed"),
        lane(clip, "signed", clip.segments.map(([first, last, gloss]) => [gloss, first, last])),
      ],
      name("recognised", "read", "The glosses of the line, over the frames that they were read from"),
      lane(clip, "recognised", clip.signs),
      rows.map((values, i) => {
        const value = h("span.value");
        now.push(value);
        return [
          h("span.name.chance", { "data-tip": `How likely ${clip.rows[i]} is at each step` }, h("span.gloss", clip.rows[i]), value),
          h("div.strip.chances", stepArea(values, clip.frames, player.frames_per_step, { "--hue": glossHue(i) })),
        ];
      }),
      !rows.length && [h("span.name"), h("p.missing", "No gloss was ever likely in this clip.")],
    );
  };
  player.follow((what) => {
    const { now: clip, frame, step } = player;
    if (what === "clip" || what === "start") fill();
    cursor.style.left = `${(100 * (frame + 0.5)) / clip.frames}%`;
    now.forEach((node, i) => (node.textContent = step < 0 ? "" : percent(Math.round(100 * player.likely(clip)[i][step]) / 100)));
  });
  return h("div.ribbons.glosses", h("span.name"), scrub, body, h("div.over", cursor));
}

// The line word by word, each recognised word with its time and confidence; a click goes there.
function lineCard(player) {
  const card = h("aside.card", { "aria-label": "line" });
  const items = [];
  player.follow((what) => {
    const { now: clip, frame } = player;
    if (what === "clip" || what === "start") {
      let sign = 0;
      items.length = 0;
      const row = ([reference, hypothesis]) => {
        const found = hypothesis === null ? null : clip.signs[sign++];
        const text = pairText(reference, hypothesis);
        const node = found
          ? h("button.word", { onclick: () => player.seek(found[1]) }, text, h("small", `${player.seconds(found[1])} · ${percent(found[3])}`))
          : h("div.word", text, h("small", hypothesis === null ? "not recognised" : "beyond what is shown"));
        items.push([node, found]);
        return h("li", node);
      };
      const wrong = wrongIn(clip);
      const signed = clip.pairs.filter(([word]) => word !== null).length;
      swap(
        card,
        h("h3", wrong ? `${plural(wrong, "error")} in ${plural(signed, "word")}` : "Every word is right"),
        h("ol.words", clip.pairs.map(row)),
        h("p.quiet", "Struck out: signed, but not recognised so. Underlined: recognised, but not signed. Beside it when, and how sure."),
      );
    }
    for (const [node, found] of items) node.classList.toggle("here", Boolean(found) && found[1] <= frame && frame <= found[2]);
  });
  return card;
}

function glossPlayerView(player) {
  const called = (clip) => `${clip.name} · ${wrongIn(clip) ? plural(wrongIn(clip), "error") : "right"}`;
  const { chooser, play, scrub, speed } = controlsOf(player, called);
  const text = h("p.text");
  const time = h("span.time");
  const unseen = h("p.unseen");
  player.follow((what) => {
    const clip = player.now;
    time.textContent = `frame ${player.frame + 1} of ${clip.frames} · ${player.seconds(player.frame)} · step ${player.step + 1}`;
    if (what === "frame") return;
    swap(text, h("span.gloss", clip.pairs.map(([word]) => word).filter(Boolean).join(" ")), clip.signer && h("span.quiet", signerName(clip.signer)));
    player.canvas.setAttribute("aria-label", `${clip.pictures ? "picture" : "skeleton"} of ${clip.name}`);
    unseen.textContent = clip.cut ? "Only the beginning of this clip is in the page." : "";
  });
  return listen(
    player,
    h(
      "div.player",
      h("div.choose", chooser, text),
      h(
        "div.look",
        h("div.picture.alone-in-it", player.canvas, unseen, h("div.controls", play, speed, time)),
        h(
          "div.below",
          glossRibbons(player, scrub),
          h("p.keys", "Space plays, ← → go a frame, with Shift half a second. Click a gloss to go there."),
          h("p.keys", "The clips are chosen evenly, from the line with the most errors a word to the best."),
        ),
        lineCard(player),
      ),
    ),
  );
}
