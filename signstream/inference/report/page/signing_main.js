// The page of who signs now: asks the server step by step, one question under way at a time, so that late pictures are never queued.

const BEAT = 33; // ms from one question to the next
const AGAIN = 2000; // ms after which a camera that went is looked for
const KEPT = 30; // chunks whose times are averaged
const MEASURED = 5000; // chunks whose times are kept
const PAST = 2; // clips whose text stays to be read
const STAGES = [
  ["waited", "waiting", "for the frames after a chunk that the filters look at, and for the next question"],
  ["picture", "picture", "taken, packed and unpacked", "picture-time"],
  ["estimator", "keypoints", "found in the picture"],
  ["tokens", "tokens", "by the tokenizer"],
  ["text", "text", "by the language model", "text-time"],
  ["glosses", "glosses", "by the recogniser", "gloss-time"],
  ["reconstruction", "reconstruction", "the skeleton that the tokens tell"],
  ["way", "way", "to the program and back to this page"],
];

async function ask(action, values = {}, body = null) {
  let answer;
  try {
    answer = await fetch(`${action}?${new URLSearchParams(values)}`, { method: "POST", body });
  } catch {
    throw new Error("The program that shows this page has ended: start it again and open the address that it prints.");
  }
  const told = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(`${capital(told.error)}.`), { forgotten: answer.status === 410 });
  return told;
}

// Asks, and hands on what it is told; it starts and stops, and records.
class Conversation {
  constructor(player, hear) {
    Object.assign(this, { player, hear, turn: 0, reader: null, note: "", kept: null, asked: false });
    this.ending = Promise.resolve();
    this.camera = player.kind === "camera" ? new Camera() : null;
    addEventListener("pagehide", () => this.leave());
  }

  say(note) {
    this.note = note;
    this.player.tell("note");
  }

  async play(on = !this.player.playing) {
    if (on === this.player.playing) return;
    const turn = ++this.turn;
    this.player.set("playing", on);
    try {
      if (!on) await (this.ending = this.stop());
      else await this.run(() => turn === this.turn);
    } catch (error) {
      if (turn !== this.turn) return;
      this.say(error.message);
      this.player.set("playing", false);
      await (this.ending = this.stop()).catch(() => {}); // what went wrong stands there
      if (turn === this.turn && this.note !== error.message) this.say(`${error.message} ${this.note}`);
    }
  }

  async run(goesOn) {
    this.say("");
    await this.ending.catch(() => {}); // it was said
    if (this.camera) await this.camera.open();
    await this.begin();
    while (goesOn()) {
      const began = performance.now();
      const shot = await this.camera?.shot();
      if (shot === null) await this.look(goesOn);
      else if (goesOn() && !(await this.step(shot))) return goesOn() && this.play(false);
      if (this.asked && goesOn()) await this.record();
      if (!this.camera) await new Promise((done) => setTimeout(done, Math.max(0, BEAT - (performance.now() - began))));
    }
  }

  // A clip that was never told to be over, since the program had forgotten this page, is over with it.
  async begin() {
    this.reader = (await ask("begin")).reader;
    if (this.player.over) return;
    const over = { over: true, box: this.player.now.box, first: 0, count: 0, frames: "", chunks: [], glosses: [], said: [], spent: {} };
    this.told({ news: [over], kept: null }, { grab: 0, way: 0 });
  }

  // A step; false: nothing more will come, or nothing more is wanted. Who was away too long begins again.
  async step(shot) {
    const began = performance.now();
    let answer;
    try {
      answer = await ask("step", shot ? { reader: this.reader, seconds: shot.seconds.toFixed(6) } : { reader: this.reader }, shot?.blob);
    } catch (error) {
      if (!error.forgotten) throw error;
      if (!this.reader) return false;
      await this.begin();
      return true;
    }
    if (shot) this.player.show(shot.picture);
    this.told(answer, { grab: shot?.grab ?? 0, way: Math.max(performance.now() - began - answer.spent, 0) });
    if (answer.over) this.say("The video is over: Start plays it again.");
    return !answer.over;
  }

  told(answer, times) {
    if (answer.kept !== undefined && answer.kept !== this.kept) {
      this.kept = answer.kept;
      this.player.tell("kept");
    }
    for (const news of answer.news) {
      this.player.hear(news);
      if (news.picture) this.unpack(news.picture);
      if (news.saved) this.say(`Kept as ${news.saved}.`);
      if (news.lost) this.say(`Not kept: ${news.lost}.`);
      this.hear(news, times);
    }
  }

  // A video's picture, which comes with its frame.
  async unpack(source) {
    const image = new Image();
    image.src = source;
    await image.decode();
    this.player.show(image);
  }

  // The camera went: it is looked for until it is back.
  async look(goesOn) {
    this.say("The camera is gone; when it is back, this goes on.");
    while (goesOn()) {
      await new Promise((done) => setTimeout(done, AGAIN));
      try {
        await this.camera.open();
        return this.say("");
      } catch {} // still gone
    }
  }

  async stop() {
    this.camera?.close();
    if (!this.reader) return;
    const reader = this.reader;
    this.reader = null;
    try {
      this.told({ kept: null, ...(await ask("end", { reader })) }, { grab: 0, way: 0 });
    } catch (error) {
      if (!error.forgotten) throw error;
    }
  }

  // Between two steps.
  async record() {
    this.asked = false;
    this.told(await ask("record", { reader: this.reader, on: this.kept === null ? 1 : 0 }), { grab: 0, way: 0 });
  }

  leave() {
    if (this.reader) navigator.sendBeacon(`end?reader=${this.reader}`);
  }
}

// The text of this clip as it stands there, below that of the clips before.
class Said {
  constructor(player) {
    Object.assign(this, { player, past: [], glosses: [], drawn: 0 });
    this.box = h("div.captions.now", { role: "log", "aria-label": "what is said", tabindex: 0 });
    this.clear();
  }
  clear() {
    Object.assign(this, { states: [firstState()], glosses: [], signed: "", last: 0 });
  }

  hear(news) {
    for (const { added, thought, kept, taken } of news.said) this.states.push(nextState(this.states.at(-1), [performance.now(), added, thought, kept, taken]));
    this.glosses.push(...news.glosses);
    this.signed = news.signed || this.signed;
    if (news.said.length || news.glosses.length || news.over) this.last = performance.now();
    if (!news.over) return;
    const text = this.states.at(-1).committed.join("").trim();
    const glosses = this.glosses.map(({ gloss }) => gloss).join(" ");
    if (text || glosses || this.signed) this.past = [...this.past, { text, glosses, signed: this.signed }].slice(-PAST);
    this.clear();
    this.last = performance.now();
  }

  // While something may still fade.
  draw() {
    if (this.drawn > this.last + STRUCK + 100) return;
    this.drawn = performance.now();
    const { reads } = this.player;
    const glosses = this.glosses.map(({ gloss, confidence }) => h("span", { "data-tip": `${percent(confidence)} sure` }, gloss));
    swap(
      this.box,
      this.past.map(({ text, glosses: signs, signed }) =>
        h("div.past", signs && h("small", signs), h("p", text || (reads.text ? "(nothing was said)" : "")), signed && h("small", `signed: ${signed}`)),
      ),
      reads.glosses && h("div.signs", glosses.length ? glosses : h("span.quiet", "no sign yet")),
      reads.text && h("div.said-now", captionsAt({ states: this.states }, this.drawn, " ")),
      !reads.text && !reads.glosses && h("em.quiet", "Nobody is here who says anything: no recogniser, no language model."),
    );
    this.box.scrollTop = this.box.scrollHeight;
  }
}

// From the hand to the text, or as far as there is a reader, and where the time goes.
class Times {
  constructor(player) {
    Object.assign(this, { player, chunks: [], looks: [] });
    const end = player.reads.text ? "text" : player.reads.tokens ? "tokens" : "skeleton";
    this.total = h("p.total", { "data-tip": "From a chunk's last frame to what is known of it standing here; half of the last chunks took no longer" });
    this.bar = h("div.shares", { "aria-hidden": "true" });
    this.list = h("dl.stages");
    this.pace = h("p.quiet");
    this.card = h("aside.card.times", { "aria-label": "time" }, h("h3", `From hand to ${end}`), this.total, this.bar, this.list, this.pace, readersOf(player));
    this.measured = this.card.measured = { looks: 0, chunks: [] }; // what benchmarks/live_pace.py reads
  }

  hear(news, { grab, way }) {
    const now = performance.now();
    if (now - this.looks.at(-1) > 1000) this.looks = []; // a pause
    this.looks = [...this.looks, ...Array(news.points ? 1 : news.count).fill(now)].filter((at) => now - at < 3000);
    const spent = { ...news.spent, picture: (news.spent.picture ?? 0) + grab, way };
    const each = this.player.reads.tokens ? news.chunks.map(({ waited }) => ({ ...spent, waited: waited + (spent.late ?? 0) })) : news.points ? [spent] : [];
    this.measured.looks += news.points ? 1 : news.count;
    if (!each.length) return;
    this.measured.chunks.push(...each.slice(0, MEASURED - this.measured.chunks.length));
    this.chunks = [...this.chunks, ...each].slice(-KEPT);
    this.draw();
  }

  draw() {
    const middle = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
    const stages = STAGES.map(([key, name, tip, colour = key]) => ({ name, tip, colour, ms: mean(this.chunks.map((chunk) => chunk[key] ?? 0)) })).filter(({ ms }) => ms >= 0.5);
    const all = sum(stages.map(({ ms }) => ms)) || 1;
    this.total.textContent = `${number(Math.round(middle(this.chunks.map((chunk) => sum(STAGES.map(([key]) => chunk[key] ?? 0))))))} ms`;
    swap(this.bar, stages.map(({ colour, ms }) => h(`span.${colour}`, { style: { width: `${(100 * ms) / all}%` } })));
    swap(
      this.list,
      stages.map(({ colour, name, tip, ms }) => [h("dt", { "data-tip": capital(tip) }, h(`span.swatch.${colour}`), name), h("dd", `${number(Math.round(ms))} ms`)]),
    );
    const per = this.looks.length > 1 ? (1000 * (this.looks.length - 1)) / (this.looks.at(-1) - this.looks[0]) : 0;
    this.pace.textContent = `${per.toFixed(per < 9.95 ? 1 : 0)} ${this.player.kind === "demo" ? "frames" : "pictures"} a second`;
  }
}

// Who reads, and plainly who does not.
function readersOf(player) {
  const line = (what, path, none) => [h("dt", what), h("dd", path || h("span.quiet", none))];
  return h(
    "details.readers",
    { open: !(player.reads.tokens && player.reads.text) },
    h("summary", "Who reads"),
    h(
      "dl",
      line("tokenizer", player.reads.tokens, "none: no tokens, no reconstruction, no text"),
      line("recogniser", player.reads.glosses, "none: no glosses"),
      line("language model", player.reads.text, "none: no text"),
    ),
  );
}

function signingView(player) {
  const said = new Said(player);
  const times = new Times(player);
  const talk = new Conversation(player, (news, spent) => {
    said.hear(news);
    times.hear(news, spent);
  });
  const keep = () => (talk.asked = player.playing);
  const play = h("button.play", { onclick: () => talk.play() });
  const record = player.records && h("button.record", { onclick: keep, "data-tip": `Keeps a clip in ${player.records}` });
  const box = (name, text) => {
    const input = h("input", { type: "checkbox", checked: player[name], onchange: () => player.set(name, input.checked) });
    return h("label", input, ` ${text}`);
  };
  const [names, note, signed] = [h("div.names"), h("p.note", { role: "status" }), h("p.signed.quiet")];
  player.key = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("summary, a, button:not(.cell), input")) return;
    const act = { " ": () => talk.play(), r: () => record && keep() }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  };
  player.follow((what) => {
    if (what === "head" || what === "frame" || what === "chunks") return;
    play.textContent = player.playing ? "Pause" : "Start";
    if (record) {
      record.textContent = talk.kept === null ? "Record" : `Stop · ${talk.kept.toFixed(0)} s`;
      record.disabled = !player.playing;
      record.classList.toggle("on", talk.kept !== null);
    }
    note.textContent = talk.note;
    signed.textContent = player.signed ? `signs ${player.signed}` : "";
    const seen = { camera: "You", video: "Video", demo: "The signer" }[player.kind];
    const wait = `${(player.delay / player.fps).toFixed(1)} s`;
    const both = [`${seen}, ${wait} ago: pale band. Reconstruction: lines.`];
    const panes = player.delay ? [seen, `Reconstruction, ${wait} later`] : [seen];
    swap(names, (player.overlay ? both : panes).map((name) => h("span", name)));
    player.canvas.setAttribute("aria-label", `skeleton of who signs${player.delay ? ", and the reconstruction" : ""}`);
  });
  const controls = h(
    "div.controls",
    play,
    record,
    player.reads.tokens && box("overlay", "Overlay"),
    player.kind !== "demo" && box("pictured", "Picture"),
    signed,
  );
  let before = null;
  const beat = (time) => {
    player.beat(before === null ? 0 : Math.min((time - before) / 1000, 0.25));
    before = time;
    said.draw();
    requestAnimationFrame(beat);
  };
  requestAnimationFrame(beat);
  const keys = `Space starts and pauses${record ? ", R records" : ""}.`;
  const view = h(
    "div.player.live.signing",
    h(
      "div.look",
      h("div.picture", names, player.canvas, controls, note, said.box),
      h("div.below", player.reads.tokens && running(player), player.reads.text ? captionsLegend(keys) : h("p.keys", keys)),
      times.card,
    ),
  );
  return { view: listen(player, view), talk };
}

function main() {
  const { player: data } = JSON.parse(document.getElementById("data").textContent);
  document.title = `${data.title} – SignStream, live`;
  const player = new Signing(data);
  const { view, talk } = signingView(player);
  document.body.append(tips());
  const where = data.kind === "camera" ? "Pictures go to the program on this machine, and nowhere else. " : "";
  const kept = data.records ? "A clip is kept when you press Record, and only then." : "Nothing is kept.";
  document
    .getElementById("page")
    .append(h("header.signing-head", h("h1", "SignStream, live: ", data.title), h("p.run", where, kept), data.note && h("p.run.warning", data.note)), view);
  player.tell("start");
  talk.play(true);
}

main();
