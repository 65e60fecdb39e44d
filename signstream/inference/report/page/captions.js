// A live text as it stands at a moment: committed words, those that are new, thoughts, and what was just taken back. Times are milliseconds.

const STRUCK = 1500; // ms for which what was taken back stays to be seen
const FRESH = 700; // and for which committed words are marked

const firstState = (earlier = "", guess = "") => {
  const committed = Array.from(earlier);
  return { at: -Infinity, committed, thought: Array.from(guess), kept: 0, taken: "", old: committed.length };
};

// What stands there after an update; texts as lists of characters, since places count these.
function nextState(before, [at, added, thought, kept, taken]) {
  const committed = before.committed.concat(Array.from(added));
  return { at, committed, thought: Array.from(thought), kept, taken: taken.trim(), old: before.committed.length };
}

const stateAt = (states, ms) => states.findLastIndex((state) => state.at <= ms + 0.5);

function captionsAt(clip, ms, blank) {
  const last = stateAt(clip.states, ms);
  const { committed, thought } = clip.states[last];
  const text = [...committed, ...thought];
  const struck = new Map();
  let [fresh, kept] = [committed.length, text.length];
  for (let i = last; i > 0 && ms - clip.states[i].at < STRUCK; i--) {
    const state = clip.states[i];
    kept = Math.min(kept, state.kept);
    if (state.taken) struck.set(kept, [state.taken, ...(struck.get(kept) || [])]);
    if (ms - state.at < FRESH) fresh = state.old;
  }
  const edges = [...new Set([0, fresh, committed.length, text.length, ...struck.keys()])].sort((a, b) => a - b);
  const kind = (at) => (at >= committed.length ? "span.guess" : at >= fresh ? "span.fresh" : "span");
  const apart = (at) => (at < 0 || at >= text.length || /\s/.test(text[at]) ? "" : blank);
  const dels = (at) => (struck.get(at) || []).map((words, i) => [i ? blank : apart(at - 1), h("del", words)]).concat(struck.has(at) ? apart(at) : []);
  const span = (from, to) => {
    const [, before, words, after] = /^(\s*)(.*?)(\s*)$/s.exec(text.slice(from, to).join(""));
    return [before, words && h(kind(from), words), after]; // a mark has no blank at its ends
  };
  const pieces = edges.map((at, i) => [dels(at), i + 1 < edges.length && span(at, edges[i + 1])]);
  return text.length || struck.size ? [clip.more && h("span.quiet", "… "), pieces] : h("em.quiet", "nothing has been said yet");
}

// What the colours mean, and what else there is to say.
const captionsLegend = (more) =>
  h(
    "p.keys",
    "Black: committed, for good, ",
    h("span.fresh", "new"),
    " for a moment. ",
    h("span.guess", "Grey"),
    ": a thought, which may change. ",
    h("del", "Struck"),
    ": just taken back. ",
    more,
  );
