// One perturbation: its guides, neighbours, dimensions, crops beside controls, features and genes.
const N_NEIGHBOURS = 6, N_CROPS_EACH = 12;

async function drawProfile(box, name) {
  const turn = (drawProfile.turn = (drawProfile.turn || 0) + 1), isCurrent = () => turn === drawProfile.turn;
  const i = placeOfProfile.get(name);
  if (i === undefined) {
    show(box, h("h2", {}, "One perturbation"), h("p", { class: "soft" }, "Click a point, a square or a name, or search: its guides, neighbours, crops and genes appear here."));
    box.dataset.pert = "";
    return;
  }
  const measure = columnOf.get(state.measure), differences = measure ? await differencesOf(measure) : null;
  const parts = [await guideTable(i, measure, differences), await neighbourTables(i), await dimensionRows(name)].filter(Boolean);
  if (!isCurrent()) return;
  const doubts = doubtsAbout(i, differences), cells = Object.entries(profiles.n_cells).map(([kind, n]) => `${n[i].toLocaleString("en")} ${kind}`);
  const crop = h("div"), features = h("div");
  show(box, h("h2", {}, name, button("×", () => update({ pert: "" }), { class: "close", "aria-label": "Close the perturbation" })),
    h("p", {}, `Cells: ${cells.join(", ")}.`, isControl(name) && " These are controls."), strengthRows(name, measure, differences), ownGene(name),
    doubts.length > 0 && h("div", { class: "doubts" }, h("b", {}, "Reasons for doubt"), h("ul", {}, doubts.map(text => h("li", {}, text)))),
    h("p", { class: "actions" }, button("Show its cells on the map", () => showCellsOf(name), { class: "main" })),
    crop, parts, features, geneLists(name));
  box.dataset.pert = name;
  if (crops) await cropsBesideControls(crop, name);
  if (isCurrent()) await drawChangedFeatures(features, name, isCurrent);
}

function strengthRows(name, measure, differences) {
  const rows = strengthOf(name), mine = differences?.of.get(name), unit = measure && unitOf(measure);
  if (!rows.length && !mine) return null;
  return h("table", { class: "facts" }, mine && !Number.isNaN(mine.d) && !isControl(name) && h("tr", {}, h("th", {}, titleOf(measure)), h("td", {}, `${signed(mine.d)} `, term(unit.toLowerCase(), unit)), h("td", { class: "soft" }, ` ${qText(mine.q)}`)),
    rows.map(row => h("tr", {}, h("th", {}, term("distance"), `, ${row.modality}`),
    h("td", {}, fixed(row.distance)), h("td", { class: "soft" }, ` ${qText(row.q)}`))));
}

// Expression of the gene that a perturbation targets, against controls.
function ownGene(name) {
  if (!meta.top || isControl(name) || !meta.n_genes) return null;
  const found = meta.changed_genes[name];
  if (!found) return h("p", { id: "own", class: "small soft" }, "Its own gene: too few cells with RNA, or too few such controls, to compare it.");
  if (!found.own) return h("p", { id: "own", class: "small soft" }, `Its own gene is not among the ${meta.n_genes.toLocaleString("en")} genes that were measured.`);
  const [gene, change, q, here, controls] = found.own, column = columnOf.get(`gene:${gene}`), percent = share => `${Math.round(100 * share)} %`;
  return h("p", { id: "own", class: "small" }, "Its own gene, ", column ? measureLink(column) : gene, ": ", h("b", {}, `${signed(change)} `), term("log2", "log2"), ` against controls, `, term("q", qText(q)),
    h("span", { class: "soft" }, `; detected in ${percent(here)} of its cells and ${percent(controls)} of controls.`));
}

async function guideTable(i, measure, differences) {
  const guides = guidesOf(i);
  if (!profiles.has_guides) return null;
  const space = spaceShown().name, name = profiles.names[i], consistency = profiles.consistency[name];
  const hasEfficacy = guides.some(guide => guide.efficacy !== undefined);
  const head = ["Guide", "Cells", term("others"), hasEfficacy && term("efficacy"), differences && [`${titleOf(measure)}, `, term(unitOf(measure).toLowerCase(), unitOf(measure))]].filter(Boolean);
  const rows = guides.map(guide => {
    const d = differences?.guides.get(guide.name);
    return h("tr", { class: isDead(guide) ? "weak" : "" }, h("td", {}, guide.name), h("td", {}, number(guide.n)),
      h("td", {}, guide.cosine[space] === null ? "–" : fixed(guide.cosine[space])),
      hasEfficacy && h("td", { title: "Posterior mean and 90 % interval" }, guide.efficacy === undefined ? "–"
        : `${guide.efficacy.toFixed(2)} (${guide.efficacy_low.toFixed(2)}–${guide.efficacy_high.toFixed(2)})`,
        guide.efficacy !== undefined && h("div", { class: isDead(guide) ? "warn" : "soft" }, isDead(guide) ? `dead, ${Math.round(100 * guide.p_dead)} %` : `dead: ${Math.round(100 * guide.p_dead)} %`)),
      differences && h("td", {}, d && !Number.isNaN(d.d) ? [signed(d.d), h("span", { class: "soft" }, ` ${pText(d.p)}`)] : "–"));
  });
  const verdict = consistency ? (consistency.q_value < 0.05 ? `Its guides agree (mean cosine ${fixed(consistency.similarity)}, ${qText(consistency.q_value)}).`
    : `Its guides do not agree more than guides of different perturbations (mean cosine ${fixed(consistency.similarity)}, ${qText(consistency.q_value)}).`)
    : "Whether its guides agree could not be tested.";
  return [h("h3", {}, term("guide", "Guides")),
    !isControl(name) && h("p", { class: "small soft" }, `${verdict} `, consistency && term("consistency", "How this is tested")),
    h("table", { class: "numbers", id: "guides" }, h("thead", {}, h("tr", {}, head.map(text => h("th", {}, text)))), h("tbody", {}, rows))];
}

async function neighbourTables(i) {
  const tables = [];
  for (const space of profiles.spaces) {
    const found = await neighboursOf(i, space, N_NEIGHBOURS);
    tables.push(h("div", {}, h("h3", {}, profiles.spaces.length > 1 ? titleOfSpace(space.name) : "Nearest"),
      found.length ? h("ol", { class: "neighbours", "data-space": space.name }, found.map(({ j, cosine }) => h("li", {},
        perturbationLink(profiles.names[j]), h("span", { class: "soft" }, ` ${fixed(cosine)}`), isKnownPair(i, j) && h("span", { class: "known", title: "a known pair" }, " ●"))))
        : h("p", { class: "soft small" }, (await lengthsOf(space))[i] ? `none with a cosine of ${MIN_ALIKE} or more` : "no profile")));
  }
  return [h("h3", { class: "wide" }, term("neighbour", "Nearest perturbations"), h("span", { class: "soft" }, " by ", term("cosine", "cosine"), profiles.edges && ["; ● is a ", term("known", "known pair")])), h("div", { class: "columns" }, tables)];
}

async function dimensionRows(name) {
  if (!meta.dimensions) return null;
  const strongest = (await words(meta.dimensions.strongest))[name] || [];
  if (!strongest.length) return null;
  return [h("h3", { title: "Standard deviations over perturbations above their mean" }, "Strongest ", term("dimension", "dimensions"), h("span", { class: "soft" }, ` in ${meta.dimensions.modalities.map(spaced).join(", ")}, SD`)),
    h("table", { class: "numbers", id: "strongest" }, h("tbody", {}, strongest.map(([number, ...heights]) => h("tr", {}, h("td", {}, dimensionLink(number)),
      heights.map(value => h("td", {}, signed(value, 1)))))))];
}

async function cropsBesideControls(box, name) {
  const column = columnOf.get(meta.keys.perturbation), members = await membersOf(column);
  const cellsOf = label => members[column.categories.indexOf(label)] || [];
  const grids = [];
  for (const label of [name, ...meta.controls.filter(control => control !== name).slice(0, 1)]) {
    const found = await montage(cellsOf(label), N_CROPS_EACH, showCell);
    grids.push(h("div", {}, h("h3", {}, label, h("span", { class: "soft how" }, ` ${found.total ? found.how : ""}`)),
      found.total ? found.box : h("p", { class: "soft small" }, "No crop on this page.")));
  }
  show(box, h("h3", {}, term("crops", "Crops beside controls")), channelBar(), h("div", { class: "columns beside" }, grids));
}

async function drawChangedFeatures(box, name, isCurrent) {
  if (isControl(name)) return;
  const parts = [];
  for (const group of ["feature", "dim"]) {
    const rows = (await changedColumns(name, group, isCurrent)).filter(row => !Number.isNaN(row.q)).slice(0, 6);
    if (!isCurrent() || !rows.length) continue;
    const largest = Math.max(...rows.map(row => Math.abs(row.d)));
    parts.push(h("h3", {}, { feature: "Measured features", dim: "Dimensions" }[group], h("span", { class: "soft" }, " against controls, ", term("sd", "SD"), ", ", term("q", "q"))),
      h("table", { class: "bars", "data-group": group }, rows.map(row => h("tr", { class: row.q < 0.05 ? "" : "weak" }, h("td", {}, measureLink(row.column)), h("td", { class: "number" }, signed(row.d)),
        h("td", { class: "number soft" }, qText(row.q)), h("td", { class: "bar" }, h("div", { class: row.d < 0 ? "down" : "up", style: { width: `${(100 * Math.abs(row.d)) / largest}%` } }))))));
  }
  if (isCurrent()) show(box, parts);
}

const measureLink = column => button(titleOf(column), () => update({ measure: column.id, layout: "table", sort: "measure" }, { push: true }),
  { class: "link", title: "Compare all perturbations in it" });

function geneLists(name) {
  const found = meta.changed_genes?.[name];
  if (!found) return null;
  const list = (end, title) => h("div", {}, h("h3", {}, title), found[end].length ? h("ul", { class: "genes", "data-end": end }, found[end].map(([gene, change, q]) => {
    const column = columnOf.get(`gene:${gene}`);
    return h("li", { class: q < 0.05 ? "" : "weak" }, column ? measureLink(column) : gene, ` ${signed(change)} `, h("span", { class: "soft" }, qText(q)));
  })) : h("p", { class: "soft small" }, "none"));
  return [h("h3", { class: "wide", title: "The genes of the largest t, by a t-test with overestimated variance against the controls, ordered by their change; pale: q of 0.05 or more" }, "Genes against controls", h("span", { class: "soft" }, " ", term("log2", "log2"), ", ", term("q", "q"))),
    h("div", { class: "columns" }, list("up", "Up"), list("down", "Down"))];
}
