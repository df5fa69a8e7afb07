// What is on the page, what was left out, and how to use it.
const KINDS = { obs: "annotation columns", gene: "genes", feature: "measured features", dim: "dimensions" };

function buildAbout(root) {
  const facts = [];
  for (const kind of meta.kinds || []) {
    facts.push(kind.n === kind.total ? `All ${kind.total.toLocaleString("en")} cells of “${kind.name}” are shown.`
      : `${kind.n.toLocaleString("en")} of ${kind.total.toLocaleString("en")} cells of “${kind.name}” are shown: as many of each perturbation, or all of those that have fewer.`);
  }
  if (meta.crops) {
    const c = meta.crops;
    facts.push(c.n === c.total ? `All ${c.total.toLocaleString("en")} crops are on the page.`
      : `${c.n.toLocaleString("en")} of ${c.total.toLocaleString("en")} crops are on the page, sampled by perturbation: as many of each, or all of those that have fewer.`);
    facts.push(`Crops of ${c.original.join(" × ")} pixels are shown with ${c.size} × ${c.size}${c.quality ? `, as WebP of quality ${c.quality}` : ", as PNG"}: to look at, not to measure. ${(meta.columns || []).some(column => column.channel !== undefined) ? `Mean intensities are those of the pixels before that, of all ${c.total.toLocaleString("en")} crops. ` : ""}A channel is black at its 1 % and bright at its 99.7 % quantile, in all crops alike.`);
  }
  for (const group of Object.keys(KINDS)) {
    const n = (meta.columns || []).filter(column => column.group === group).length;
    if (n) facts.push(`${n.toLocaleString("en")} ${KINDS[group]} can colour the cells. Numbers have 255 levels.`);
  }
  for (const part of meta.left_out || []) {
    const names = part.names.slice(0, 8).join(", ") + (part.n > 8 ? ", …" : "");
    facts.push(`${part.n.toLocaleString("en")} ${KINDS[part.group]} are left out (${names}). ${part.why}`);
  }
  if (meta.crops) facts.push("A montage shows crops at even steps through the chosen cells, in the order of the file; those of a dimension are the cells that activate it most and least. None is picked by looks.");
  if (meta.top) facts.push("Genes are shown as log2(1 + normalised counts), and all differences of genes are in log2.");
  if (meta.profiles) {
    facts.push(`Profiles of perturbations are means over all cells of ${meta.profiles.key}, centered and scaled on the controls of their replicate, whitened and averaged over guides.`, ...meta.profiles.notes);
    if (!Object.keys(meta.profiles.strength).length) facts.push("Strengths of perturbations were not tested; tl.perturbation_strength adds them to a page that is written afterwards.");
  } else if (meta.why_no_profiles) facts.push(`There is no view of perturbations: ${meta.why_no_profiles}.`);
  const keys = [["/", "search"], ["Arrow keys, + and −, 0", "move the map, zoom, show all (the map must have the focus)"],
    ["Enter", "the cell at the cross of the map"], ["Shift and drag", "draw around cells"], ["Esc", "choose nothing"]];
  show(root, h("article", { class: "about" },
    h("h2", {}, "What is on this page"), h("ul", {}, facts.map(text => h("li", {}, text))),
    h("h2", {}, "Links"), h("p", {}, "The address after “#” holds what you see: colours, chosen cells, the place on the map. Copy it to send a view; whoever opens it needs this file."),
    h("h2", {}, "Keys"), h("table", { class: "facts" }, keys.map(([key, what]) => h("tr", {}, h("th", {}, h("kbd", {}, key)), h("td", {}, what)))),
    h("h2", {}, "Words"), glossary(),
    h("h2", {}, "Made with"), h("p", {}, `petri-scvi ${meta.version}. No part of this page is loaded from elsewhere, and it sends nothing.`),
    $("licences") && h("details", {}, h("summary", {}, "Licences of the software in this page"), h("pre", {}, $("licences").textContent))));
}
