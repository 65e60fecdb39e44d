// The player: original and reconstruction (or one skeleton alone) on a canvas, with what moves it. Others follow it: they hear what changed
// ("start" at first, then "clip", "frame", "parts", "play", "overlay", "speed", "colour", "code").

class Player {
  constructor(data) {
    Object.assign(this, data);
    this.layers = layers(data.parts);
    this.shown = new Set(data.parts.map((part) => part.name));
    this.clip = this.frame = 0;
    this.speed = 1;
    this.playing = this.overlay = false;
    this.followers = [];
    this.canvas = h("canvas.stage", { tabindex: 0, role: "img" });
    this.colour = palette();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.set("colour", palette()));
    this.follow(() => this.draw());
    onWidth(this.canvas, () => this.draw());
  }

  follow(listener) {
    this.followers.push(listener);
  }
  tell(what) {
    for (const listener of this.followers) listener(what);
  }

  set(name, value) {
    this[name] = value;
    this.tell(name);
  }

  // A clip, its poses unpacked: readers of the original and, where there is one, of the reconstruction.
  clipAt(index) {
    const clip = this.clips[index];
    clip.poses ||= [clip.original, clip.again].filter(Boolean).map((text) => reader(unpack(text), this.joints));
    return clip;
  }
  get now() {
    return this.clipAt(this.clip);
  }
  get chunk() {
    return Math.floor(this.frame / this.chunk_len);
  }
  // Of a network that has steps.
  get step() {
    return Math.min(Math.floor(this.frame / this.frames_per_step), this.now.steps - 1);
  }
  get leap() {
    return this.chunk_len || Math.round(this.fps / 2);
  }
  get groups() {
    return this.layers.filter((group) => this.shown.has(group.name));
  }
  seconds(frame) {
    return `${(frame / this.fps).toFixed(2)} s`;
  }
  part(tag) {
    return this.parts.find((part) => part.tag === tag);
  }

  seek(frame, clip = this.clip) {
    const other = clip !== this.clip;
    this.clip = clip;
    this.frame = Math.max(0, Math.min(Math.round(frame), this.now.frames - 1));
    this.tell(other ? "clip" : "frame");
  }

  play(on = !this.playing) {
    if (on === this.playing) return;
    this.playing = on;
    this.tell("play");
    if (!on) return;
    let [last, clock] = [null, this.frame];
    const step = (time) => {
      if (!this.playing) return;
      if (Math.floor(clock) !== this.frame) clock = this.frame; // somebody moved the scrubber
      if (last !== null) clock += (Math.min(time - last, 250) / 1000) * this.fps * this.speed;
      last = time;
      if (clock >= this.now.frames) clock = 0;
      if (Math.floor(clock) !== this.frame) this.seek(Math.floor(clock));
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  toggle(part, on) {
    this.shown[on ? "add" : "delete"](part);
    this.tell("parts");
  }

  draw() {
    const width = this.canvas.clientWidth;
    if (!width || !this.clips.length) return;
    const panes = this.overlay ? 1 : this.now.poses.length;
    const tallest = Math.max(...this.clips.map(({ box }) => (box[3] - box[1]) / (box[2] - box[0] || 1)));
    const height = Math.round(Math.min(Math.max((width / panes) * Math.min(tallest, 1.3), 200), 480));
    const pen = brush(this.canvas, width, height);
    const [x0, y0, x1, y1] = this.now.box;
    const scale = 0.94 * Math.min(width / panes / (x1 - x0 || 1), height / (y1 - y0 || 1));
    const unit = (scale * Math.max(x1 - x0, y1 - y0)) / UNITS;
    this.now.poses.forEach((read, i) => {
      const pane = this.overlay ? 0 : i;
      pen.save();
      pen.beginPath();
      pen.rect((pane * width) / panes, 0, width / panes, height);
      pen.clip();
      const left = ((pane + 0.5) * width) / panes - ((x1 - x0) * scale) / 2;
      const top = (height - (y1 - y0) * scale) / 2;
      const at = (joint) => {
        const p = read(this.frame, joint);
        return p && [left + p[0] * unit, top + p[1] * unit];
      };
      this.backdrop(pen, pane, { left, top, scale });
      const thick = Math.max(0.8, Math.min(height / 300, 1.5));
      const line = { width: thick, colour: this.colour };
      const band = { width: 3.2 * thick, alpha: 0.2, bare: true, colour: () => this.colour("ink") }; // the original, pale under the lines
      strokePose(pen, this.groups, at, this.overlay && i === 0 ? band : line);
      pen.restore();
    });
  }

  // What lies behind the skeleton of a pane: nothing.
  backdrop() {}

  // [frames] mean distance of the shown joints, in pixels.
  errors() {
    const { frames, box, poses } = this.now;
    const [original, again] = poses;
    const pixels = Math.max(box[2] - box[0], box[3] - box[1]) / UNITS;
    const joints = this.groups.flatMap((group) => group.joints);
    return range(0, frames).map((t) => {
      const far = joints
        .map((j) => [original(t, j), again(t, j)])
        .filter(([a, b]) => a && b)
        .map(([a, b]) => Math.hypot(a[0] - b[0], a[1] - b[1]));
      return far.length ? pixels * mean(far) : null;
    });
  }

  // Names of the parts of which the original has no joint in the whole clip.
  unseen() {
    const { frames, poses } = this.now;
    const [original] = poses;
    const seen = (part) => range(0, frames).some((t) => range(part.start, part.stop).some((joint) => original(t, joint)));
    return this.parts.filter((part) => !seen(part)).map((part) => partName(part.name));
  }

  key(event) {
    const target = event.target;
    if (event.ctrlKey || event.metaKey || event.altKey || target.matches("select, summary, a")) return;
    const step = event.shiftKey ? this.leap : 1;
    const act = { " ": () => this.play(), ArrowLeft: () => this.seek(this.frame - step), ArrowRight: () => this.seek(this.frame + step) }[event.key];
    if (!act || (event.key === " " && target.matches("button:not(.cell), input[type=checkbox]"))) return;
    event.preventDefault();
    act();
  }
}

// What moves any player: which clip, whether and how fast it plays, where it is; they follow it.
function controlsOf(player, called = (clip) => clip.name) {
  const chooser = h(
    "select",
    { "aria-label": "clip", onchange: () => player.seek(0, +chooser.value) },
    player.clips.map((clip, i) => h("option", { value: i }, called(clip))),
  );
  const play = h("button.play", { onclick: () => player.play() });
  const scrub = h("input", { type: "range", class: "scrub", min: 0, step: 1, "aria-label": "frame", oninput: () => player.seek(+scrub.value) });
  const speed = h(
    "select",
    { "aria-label": "speed", onchange: () => player.set("speed", +speed.value) },
    [0.25, 0.5, 1, 1.5, 2].map((x) => h("option", { value: x, selected: x === 1 }, `${x}×`)),
  );
  player.follow((what) => {
    scrub.max = player.now.frames - 1;
    scrub.value = player.frame;
    if (what === "frame") return;
    chooser.value = player.clip;
    play.textContent = player.playing ? "Pause" : "Play";
  });
  return { chooser, play, scrub, speed: h("label", "Speed ", speed) };
}

// Keys act on a player that has the focus, or is in sight.
function listen(player, view) {
  document.addEventListener("keydown", (event) => {
    const seen = player.canvas.getBoundingClientRect();
    if (view.contains(event.target) || (event.target === document.body && seen.bottom > 0 && seen.top < innerHeight)) player.key(event);
  });
  return view;
}

function playerView(player) {
  const { chooser, play, scrub, speed } = controlsOf(player);
  const text = h("p.text");
  const overlay = h("input", { type: "checkbox", onchange: () => player.set("overlay", overlay.checked) });
  const names = h("div.names");
  const time = h("span.time");
  const unseen = h("p.unseen");
  player.follow((what) => {
    const clip = player.now;
    time.textContent = `frame ${player.frame + 1} of ${clip.frames} · ${player.seconds(player.frame)} · chunk ${player.chunk + 1}`;
    if (what === "frame") return;
    swap(text, h("q", clip.text || "no text"), h("span.gloss", clip.gloss || "no gloss"), clip.signer && h("span.quiet", signerName(clip.signer)));
    swap(
      names,
      (player.overlay ? ["Original: pale band. Reconstruction: lines."] : ["Original", "Reconstruction"]).map((name) => h("span", name)),
    );
    player.canvas.setAttribute("aria-label", `skeleton of ${clip.name}, original ${player.overlay ? "under" : "beside"} reconstruction`);
    const missing = player.unseen();
    unseen.textContent = missing.length ? `Nowhere visible in this clip: ${missing.join(", ")}.` : "";
  });
  const view = h(
    "div.player",
    h("div.choose", chooser, text),
    h(
      "div.look",
      h("div.picture", names, player.canvas, unseen, h("div.controls", play, speed, h("label", overlay, " Overlay"), time)),
      h(
        "div.below",
        ribbons(player, scrub),
        h("p.keys", "Space plays, ← → go a frame, with Shift a chunk. Click a cell of the ribbons to go there and open its code."),
      ),
      codeCard(player),
    ),
    dictionary(player),
    latents(player),
  );
  return listen(player, view);
}
