// What is special about chosen cells: crops, perturbations against the background, genes and features.
const N_MONTAGE = 40, N_LISTED = 12;

async function drawSelection(box) {
  const cells = chosenCells, turn = (drawSelection.turn = (drawSelection.turn || 0) + 1);
  const isCurrent = () => turn === drawSelection.turn;
  if (!cells) {
    show(box, h("h2", {}, "Chosen cells"),
      h("p", { class: "soft" }, "Draw around cells with the lasso, or click a name in the legend. A click on a point shows that cell."));
    box.dataset.n = "";
    return;
  }
  const title = state.group && !state.lasso ? state.group.split("\u001f")[1] : "Circled cells";
  const name = state.group?.startsWith(`${meta.keys.perturbation}\u001f`) && !state.lasso ? state.group.split("\u001f")[1] : null;
  const crop = h("div"), table = h("div"), genes = h("div");
  const kinds = await codesOf(columnOf.get("modality"));
  const byKind = meta.kinds.map(() => 0);
  for (const cell of cells) byKind[kinds[cell]]++;
  if (!isCurrent()) return;
  show(box, h("h2", {}, title, button("×", () => update({ group: "", lasso: "" }), { class: "close", "aria-label": "Choose no cells" })),
    h("p", { id: "chosen-count" }, h("b", {}, count(cells.length, "cell")), ": ",
      meta.kinds.map((kind, i) => byKind[i] ? `${byKind[i].toLocaleString("en")} ${kind.name}` : null).filter(Boolean).join(", ")),
    h("p", { class: "actions" },
      button("Download these cell names", () => saveNames(cells, title), { class: "main" }),
      button("Zoom to them", () => map.zoomTo(cells)),
      name && hasProfile(name) && button("Open perturbation", () => update({ view: "perturbations", pert: name }, { push: true }))),
    crop, table, genes);
  box.dataset.n = cells.length;
  if (!cells.length) return;
  if (crops) await drawMontage(crop, cells);
  if (isCurrent() && !name) await drawEnrichment(table, cells, isCurrent);
  if (isCurrent()) drawDifferences(genes, cells, isCurrent);
}

async function saveNames(cells, title) {
  const names = await cellNames();
  download(`cells_${folded(title).replace(/[^a-z0-9]+/g, "_")}.txt`, Array.from(cells, i => names[i]).join("\n") + "\n");
  toast(`${count(cells.length, "cell name")} downloaded`);
}

async function drawMontage(box, cells) {
  const { box: grid, total, how } = await montage(cells, N_MONTAGE, cell => update({ cell: String(cell) }));
  if (!total) { show(box, crops && h("p", { class: "soft small" }, "None of these cells has a crop on this page.")); return; }
  show(box, h("h3", {}, term("crops", "Crops"), h("span", { class: "soft how" }, ` ${how}`)), channelBar(), grid);
}

// Counts against those expected if the cells had been drawn at random from the cells of their modality.
async function drawEnrichment(box, cells, isCurrent) {
  const column = columnOf.get(meta.keys.perturbation);
  if (!column) return;
  const codes = await codesOf(column), kinds = await codesOf(columnOf.get("modality"));
  const n = column.categories.length, nKinds = meta.kinds.length;
  const all = Array.from({ length: nKinds }, () => new Uint32Array(n + 1)), mine = new Uint32Array(n), drawn = new Uint32Array(nKinds);
  for (let i = 0; i < codes.length; i++) if (codes[i] < n) { all[kinds[i]][codes[i]]++; all[kinds[i]][n]++; }
  for (const cell of cells) if (codes[cell] < n) { mine[codes[cell]]++; drawn[kinds[cell]]++; }
  const rows = column.categories.map((name, code) => {
    let expected = 0, total = 0;
    for (let kind = 0; kind < nKinds; kind++) {
      total += all[kind][code];
      if (all[kind][n]) expected += (drawn[kind] * all[kind][code]) / all[kind][n];
    }
    return { name, count: mine[code], expected, total, p: poissonAtLeast(mine[code], expected) };
  });
  adjusted(rows.map(row => row.p)).forEach((q, i) => { rows[i].q = q; });
  rows.sort((a, b) => a.p - b.p || b.count / b.expected - a.count / a.expected);
  if (!isCurrent()) return;
  const found = rows.filter(row => row.count), listed = found.slice(0, N_LISTED), others = found.slice(N_LISTED);
  const sum = part => part.reduce((n, row) => n + row.count, 0), unnamed = cells.length - sum(found);
  const rest = [others.length && `${count(others.length, "perturbation")} with ${count(sum(others), "cell")}`, unnamed && `${count(unnamed, "cell")} without a perturbation`].filter(Boolean);
  const list = h("table", { class: "numbers", id: "enrichment" },
    h("thead", {}, h("tr", {}, ["Perturbation", "Cells", "Expected", "Times", "q"].map(text => h("th", {}, text)))),
    h("tbody", {}, listed.map(row => h("tr", { class: row.q < 0.05 ? "" : "weak" },
      h("td", {}, button(row.name, () => showCellsOf(row.name), { class: "link" })), h("td", {}, number(row.count)), h("td", {}, row.expected.toFixed(1)),
      h("td", {}, `${(row.count / row.expected).toFixed(1)}×`), h("td", { class: "soft" }, qBare(row.q))))));
  show(box, h("h3", {}, "Perturbations against all cells", h("span", { class: "soft" }, ", ", term("expected", "expected"), " and ", term("q", "q"))), list,
    rest.length > 0 && h("p", { class: "soft small", id: "not-listed" }, `Not listed: ${rest.join(", and ")}.`));
}

function columnLink(column) {
  return h("a", { href: linkTo({ view: "cells", color: column.id }), title: "Colour the cells by it", onclick: event => {
    event.preventDefault();
    update({ view: "cells", color: column.id }, { push: true });
  } }, titleOf(column));
}

// Means of the chosen cells against the others: genes in log2, others in standard deviations of all.
async function drawDifferences(box, cells, isCurrent) {
  const isChosen = markOf(cells), parts = [];
  for (const group of ["gene", "feature", "dim"]) {
    const rows = [];
    const columns = meta.columns.filter(column => column.group === group);
    for (let i = 0; i < columns.length; i++) {
      if (i % 25 === 24) { await new Promise(resolve => setTimeout(resolve)); if (!isCurrent()) return; }
      const codes = await codesOf(columns[i]);
      let n = 0, sum = 0, all = 0, total = 0, squares = 0;
      for (let cell = 0; cell < codes.length; cell++) {
        const code = codes[cell];
        if (code === MISSING) continue;
        all++; total += code; squares += code * code;
        if (isChosen[cell]) { n++; sum += code; }
      }
      const spread = Math.sqrt(Math.max(0, squares / all - (total / all) ** 2)), unit = group === "gene" ? 1 / columns[i].step : spread;
      if (n >= 5 && all - n >= 5 && spread > 0) rows.push({ column: columns[i], d: (sum / n - (total - sum) / (all - n)) / unit });
    }
    rows.sort((a, b) => b.d - a.d);
    const top = [...rows.slice(0, 6).filter(row => row.d > 0.1), ...rows.slice(-6).filter(row => row.d < -0.1)];
    if (top.length) parts.push(h("h3", { title: `Difference of the means of chosen and other cells${group === "gene" ? "" : ", in standard deviations of all"}; not tested, because the cells were chosen by what they are like` },
      { gene: "Genes", feature: "Measured features", dim: "Dimensions" }[group], h("span", { class: "soft" }, " against the other cells, ", group === "gene" ? term("log2", "log2") : term("sd", "SD"))), barTable(top));
  }
  if (isCurrent()) show(box, parts);
}

function barTable(rows) {
  const largest = Math.max(...rows.map(row => Math.abs(row.d)));
  return h("table", { class: "bars" }, rows.map(row => h("tr", {}, h("td", {}, columnLink(row.column)),
    h("td", { class: "number" }, signed(row.d)),
    h("td", { class: "bar" }, h("div", { class: row.d < 0 ? "down" : "up", style: { width: `${(100 * Math.abs(row.d)) / largest}%` } })))));
}
