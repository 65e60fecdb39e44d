// Reads the data and puts a recogniser's page together.

function main() {
  const page = document.getElementById("page");
  const { report, player: data, moments, compare } = JSON.parse(document.getElementById("data").textContent);
  document.body.append(tips());
  if (compare) {
    document.title = `${compare.map((r) => r.run.name).join(", ")} – SignStream`;
    page.append(...recogniserComparison(compare));
    return;
  }
  document.title = `${report.run.name} – SignStream`;
  const player = data?.clips?.length ? new GlossPlayer(data) : null;
  const view = () => (player ? glossPlayerView(player) : h("p.missing", "There are no clips to look at."));
  const all = [chapter("look", "Look", view), ...recognitionChapters(report, player, moments || [])];
  page.append(
    head(report, glance(report)),
    h(
      "nav",
      all.map((one) => h("a", { href: `#${one.id}` }, one.getAttribute("aria-label"))),
    ),
    ...all,
  );
  if (player) begin(player);
}

// Begins with the longest line, so that a first look shows what there is.
function begin(player) {
  const lengths = player.clips.map((clip) => clip.pairs.length);
  player.clip = lengths.indexOf(Math.max(...lengths));
  player.tell("start");
}

main();
