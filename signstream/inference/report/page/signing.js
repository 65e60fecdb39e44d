// The player of who signs now: the signer, the reconstruction a moment later, tokens running by. All frames stand on one line of time, a clip
// behind the other; `head` runs along it, a little behind the newest frame.

const SPAN = 7; // seconds of ribbons
const BEHIND = 0.3; // seconds that the head may be behind the newest frame
const REST = 6; // frames between two clips

class Signing extends Player {
  constructor(data) {
    super({ ...data, clips: [{ name: data.title, frames: Infinity, box: [0, 0, 1, 1] }], report: { tells: data.tells } });
    Object.assign(this, { head: 0, count: 0, offset: 0, over: true, span: SPAN * data.fps, pictured: true, signed: "" });
    this.frames = new Map();
    this.decoded = new Map();
    this.chunks = []; // of the span: {start, length, codes, held}
    const original = (t, joint) => {
      if (this.overlay) return this.read(this.frames, t - this.delay, joint); // one moment's
      return this.points ? this.points(0, joint) : this.read(this.frames, Math.min(t, this.count - 1), joint);
    };
    this.now.poses = data.chunk_len ? [original, (t, joint) => this.read(this.decoded, t - this.delay, joint)] : [original];
  }

  // Where there is no frame, between two clips or where one is late, the one before is held.
  read(frames, t, joint) {
    for (let held = t; held >= t - this.span / 2; held--) if (frames.has(held)) return frames.get(held)(0, joint);
    return null;
  }

  // What one step brought of one clip.
  hear(news) {
    Object.assign(this.now, { box: news.box });
    if (this.over && (news.count || news.points)) {
      this.offset = Math.max(Math.ceil(this.head), this.count) + REST;
      this.over = false;
      this.set("signed", news.signed || "");
    }
    if (news.points) this.points = reader(unpack(news.points), this.joints);
    this.keep(this.frames, this.offset + news.first, news.frames, news.count);
    this.count = Math.max(this.count, this.offset + news.first + news.count);
    for (const chunk of news.chunks) {
      const start = this.offset + chunk.t * this.chunk_len;
      this.keep(this.decoded, start, chunk.again);
      this.chunks.push({ ...chunk, start });
    }
    if (news.over) this.over = true;
    if (news.chunks.length) this.tell("chunks");
  }

  keep(frames, start, text, count = this.chunk_len) {
    if (!text) return;
    const poses = unpack(text);
    for (let t = 0; t < Math.min(count, poses.length / (2 * this.joints)); t++) {
      frames.set(start + t, reader(poses.subarray(2 * t * this.joints, 2 * (t + 1) * this.joints), this.joints));
    }
  }

  // Moves the head on by so many seconds; what the ribbons no longer show is forgotten.
  beat(seconds) {
    const newest = this.count - 1 + (this.over ? this.delay : 0);
    const head = Math.min(Math.max(this.head + seconds * this.fps, newest - BEHIND * this.fps), newest);
    if (head <= this.head) return;
    this.head = head;
    const past = head - this.span - this.delay;
    for (const frames of [this.frames, this.decoded]) for (const t of frames.keys()) if (t < past) frames.delete(t);
    this.chunks = this.chunks.filter(({ start }) => start > past - this.span);
    this.tell("head");
    if (Math.floor(head) === this.frame) return;
    this.frame = Math.floor(head);
    this.tell("frame");
  }

  show(picture) {
    this.picture = picture;
    this.tell("picture");
  }

  backdrop(pen, pane, { left, top, scale }) {
    if (pane || this.overlay || !this.picture || !this.pictured) return;
    const [x0, y0, x1, y1] = this.now.box;
    pen.globalAlpha = 0.9;
    pen.drawImage(this.picture, left, top, (x1 - x0) * scale, (y1 - y0) * scale);
    pen.globalAlpha = 1;
  }
}

// Ribbons that run to the left as time goes on; the mark is where the reconstruction is.
function running(player) {
  const rows = player.parts.map((part) => ({ part, runs: [], band: h("div.band"), label: partLabel(player, part) }));
  const cursor = h("div.cursor", { style: { left: `${100 * (1 - player.delay / player.span)}%` } });
  const draw = (row, run) => {
    const frames = run.length * player.chunk_len;
    const place = { left: `${(100 * run.start) / player.span}%`, width: `${(100 * frames) / player.span}%` };
    const room = (row.band.clientWidth * frames) / player.span - 11;
    const node = tokenCell(row.part, run, { place, room, share: 1 / run.length });
    if (run.node) run.node.replaceWith(node);
    else row.band.append(node);
    run.node = node;
  };
  let heard = -1; // the start of the latest chunk
  const add = (row, { start, t, codes, held }) => {
    const tag = row.part.tag;
    const last = row.runs.at(-1);
    const goesOn = held[tag] && last && last.start + last.length * player.chunk_len === start;
    if (goesOn) last.length++;
    else row.runs.push({ start, chunk: t, length: 1, codes: codes[tag] });
    draw(row, row.runs.at(-1));
  };
  const slide = () => {
    const from = player.head + 1 - player.span;
    for (const row of rows) {
      row.band.style.transform = `translateX(${(-100 * from) / player.span}%)`;
      while (row.runs.length && row.runs[0].start + row.runs[0].length * player.chunk_len < from) row.runs.shift().node.remove();
    }
  };
  player.follow((what) => {
    if (what === "head") slide();
    if (what !== "chunks") return;
    for (const chunk of player.chunks.filter(({ start }) => start > heard)) rows.forEach((row) => add(row, chunk));
    heard = player.chunks.at(-1).start;
  });
  return h(
    "div.ribbons.running",
    rows.map(({ label, band }) => [label, h("div.cells", band)]),
    h("div.over", cursor),
  );
}
