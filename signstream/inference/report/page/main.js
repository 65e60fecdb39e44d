// Reads the data and puts the page together.

function main() {
  const page = document.getElementById("page");
  const { report, player: data, figure, compare } = JSON.parse(document.getElementById("data").textContent);
  document.body.append(tips());
  if (compare) {
    document.title = `${compare.map((r) => r.run.name).join(", ")} – SignStream`;
    page.append(...comparison(compare));
    return;
  }
  document.title = `${report.run.name} – SignStream`;
  const player = data?.clips?.length ? new Player({ ...data, report }) : null;
  const look = () => (player ? playerView(player) : h("p.missing", "There are no clips to look at."));
  const all = [chapter("look", "Look", look), ...chapters(report, figure)];
  page.append(
    head(report),
    h(
      "nav",
      all.map((one) => h("a", { href: `#${one.id}` }, one.getAttribute("aria-label"))),
    ),
    ...all,
  );
  if (player) begin(player);
}

// Opens the code of the first clip that occurs most often, near the clip's middle, so that a first look shows what there is.
function begin(player) {
  player.tell("start");
  const { tag } = player.part("RH") || player.parts[0];
  const found = runsOf(player.now, tag).map((run) => ({ ...run, clip: 0, often: run.codes[0] < 0 ? 0 : places(player, tag, run.codes[0]).length }));
  const far = (run) => Math.abs(run.chunk - player.now.frames / player.chunk_len / 2);
  const [run] = found.sort((a, b) => b.often - a.often || far(a) - far(b));
  if (run) player.open(tag, run);
}

main();
