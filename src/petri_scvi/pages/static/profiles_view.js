// All perturbations: as points, as a heat map of their similarity, or as a table that can be sorted.
const LAYOUTS = { points: "Points", heat: "Heat map", table: "Table" };
const layoutShown = () => (state.layout in LAYOUTS ? state.layout : "points");

async function buildPerturbations(root) {
  const measureBox = combobox({
    label: "Compare perturbations in", placeholder: "a feature, gene or dimension", isSelect: true,
    entries: async () => [{ kind: "", label: "strength", measure: "", folded: "strength" },
      ...(await searchEntries()).filter(entry => entry.color && !entry.group && columnOf.get(entry.color).kind === "number").map(entry => ({ ...entry, measure: entry.color }))],
    choose: entry => update({ measure: entry.measure, sort: "" }, { push: true }),
  });
  const buttons = Object.entries(LAYOUTS).map(([layout, title]) => button(title, () => update({ layout }, { push: true }), { "data-layout": layout }));
  const spaces = h("select", { "aria-label": "Profiles of", onchange: () => update({ space: spaces.value }, { push: true }) },
    profiles.spaces.map(space => h("option", { value: space.name }, spaced(space.name))));
  const chart = h("div", { id: "chart" }), note = h("p", { class: "caption under" }), box = h("section", { id: "profile", "aria-label": "One perturbation" });
  show(root, h("div", { class: "stage board" },
    h("div", { class: "tools row", role: "toolbar", "aria-label": "Perturbations" }, buttons, profiles.spaces.length > 1 && h("label", {}, "Profiles ", spaces), h("label", { class: "by" }, "Compare in ", measureBox)),
    chart, note), h("aside", { class: "panel", "aria-label": "One perturbation" }, box));

  async function draw() {
    for (const element of buttons) element.setAttribute("aria-pressed", element.dataset.layout === layoutShown());
    spaces.value = spaceShown().name;
    const measure = columnOf.get(state.measure);
    measureBox.setValue(measure ? titleOf(measure) : "strength");
    const differences = measure ? await differencesOf(measure) : null;
    chart.dataset.layout = layoutShown();
    if (layoutShown() === "heat") await drawHeatMap(chart, note);
    else if (layoutShown() === "table") drawProfileTable(chart, note, measure, differences);
    else await drawProfilePoints(chart, note, measure, differences);
    chart.dataset.drawn = [layoutShown(), state.measure || "", state.pert || "", spaceShown().name, state.sort || ""].join("|");
  }
  onChange(changed => {
    const has = (...keys) => keys.some(key => changed.has(key));
    if (has("layout", "space", "measure", "sort", "pert", "theme") || (has("view") && state.view === "perturbations")) draw();
    if (has("pert", "measure", "space")) drawProfile(box, state.pert);
  });
  new ResizeObserver(() => { if (layoutShown() === "heat" && chart.clientWidth && Math.abs(chart.clientWidth - (drawHeatMap.width || 0)) > 2) draw(); }).observe(chart);
  await draw();
  await drawProfile(box, state.pert);
}

// How each perturbation is coloured, and what the colours mean.
function profileColours(measure, differences) {
  const values = profiles.names.map(name => {
    if (differences) return differences.of.get(name)?.d ?? NaN;
    const rows = strengthOf(name);
    return rows.length ? Math.max(...rows.map(row => row.distance)) : NaN;
  });
  const known = values.filter((value, i) => !Number.isNaN(value) && !isControl(profiles.names[i])), top = Math.max(1e-9, ...known.map(Math.abs));
  if (!known.length) return { colours: profiles.names.map(() => css("--accent")), text: "Strengths were not tested: call tl.perturbation_strength before the page is written." };
  const steps = sequential();
  const colours = values.map(value => (Number.isNaN(value) ? css("--grey-point")
    : differences ? diverging(value / top) : steps[Math.min(steps.length - 1, Math.max(0, Math.floor((value / top) * steps.length)))]));
  const text = differences ? `Colour: ${titleOf(measure)} against the controls, from ${signed(-top)} (blue) to ${signed(top)} SD (red).`
    : `Colour: distance to the controls, the larger of the modalities; darkest is ${number(top, 2)}.`;
  return { colours, text: isDark() && !differences ? text.replace("darkest", "brightest") : text };
}

async function drawProfilePoints(chart, note, measure, differences) {
  const xy = await array(profiles.xy, Float32Array), n = profiles.names.length, chosen = placeOfProfile.get(state.pert) ?? -1;
  const { colours, text } = profileColours(measure, differences), SIDE = 1000, place = (i, axis) => SIDE * (0.5 + 0.44 * (axis ? -1 : 1) * xy[2 * i + axis]);
  const near = new Set(chosen >= 0 ? (await neighboursOf(chosen, spaceShown(), N_NEIGHBOURS)).map(({ j }) => j) : []);
  const lines = (profiles.edges || []).map(([a, b]) => s("line", { x1: place(a, 0), y1: place(a, 1), x2: place(b, 0), y2: place(b, 1), class: a === chosen || b === chosen ? "edge chosen" : "edge" }));
  const radius = n < 120 ? 11 : n < 600 ? 7 : 4, isNamed = n <= 70;
  const points = profiles.names.map((name, i) => s("circle", {
    cx: place(i, 0), cy: place(i, 1), r: i === chosen ? radius * 1.5 : radius, fill: colours[i], class: `profile${i === chosen ? " chosen" : near.has(i) ? " near" : ""}${isControl(name) ? " control" : ""}`,
    "data-name": name, onclick: () => update({ pert: name }, { push: true }),
    onpointerenter: event => profileTip(event, i, differences, measure), onpointerleave: () => { $("tip").hidden = true; },
  }));
  const labels = profiles.names.map((name, i) => (isNamed || i === chosen || near.has(i) ? s("text", { x: place(i, 0) + radius + 5, y: place(i, 1) + 5, class: "point-name" }, name) : null));
  show(chart, s("svg", { viewBox: `0 0 ${SIDE} ${SIDE}`, class: "profiles", role: "img", "aria-label": `Map of ${n} perturbations; the table lists them` }, lines, points, labels));
  show(note, text, profiles.edges && ` Lines: ${count(profiles.edges.length, "known pair")}.`, state.pert && near.size ? ` Ringed: nearest to ${state.pert}.` : "");
}

function profileTip(event, i, differences, measure) {
  const name = profiles.names[i], d = differences?.of.get(name), doubts = doubtsAbout(i, differences);
  tipAt(event, h("div", {}, h("b", {}, name), strengthOf(name).map(row => h("div", {}, `${row.modality}: ${number(row.distance, 2)}, ${qText(row.q)}`)),
    d && h("div", {}, `${titleOf(measure)}: ${signed(d.d)} SD, ${qText(d.q)}`), doubts.length > 0 && h("div", { class: "warn" }, `Doubt: ${doubts.join("; ")}`)));
}

function tipAt(event, content) {
  const tip = $("tip");
  show(tip, content);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(innerWidth - box.width - 4, event.clientX + 14))}px`;
  tip.style.top = `${Math.max(4, Math.min(innerHeight - box.height - 4, event.clientY + 14))}px`;
}

// A table of all perturbations

function drawProfileTable(chart, note, measure, differences) {
  const modalities = Object.keys(profiles.n_cells), tested = Object.keys(profiles.strength);
  const value = {
    name: row => row.name, measure: row => (row.d ? -Math.abs(row.d.d) : NaN), doubts: row => row.doubts.length,
    consistency: row => row.consistency?.q_value ?? NaN, known: row => -row.known,
  };
  modalities.forEach(kind => { value[`n ${kind}`] = row => -row.cells[kind]; });
  tested.forEach(kind => { value[`s ${kind}`] = row => -(row.strength[kind]?.[0] ?? NaN); });
  const rows = profiles.names.map((name, i) => ({
    name, i, d: differences?.of.get(name), doubts: doubtsAbout(i, differences), consistency: profiles.consistency[name], known: knownPartners().get(i)?.size || 0,
    cells: Object.fromEntries(modalities.map(kind => [kind, profiles.n_cells[kind][i]])), strength: Object.fromEntries(tested.map(kind => [kind, profiles.strength[kind][name]])),
  }));
  const usual = differences ? "measure" : tested.length ? `s ${tested[0]}` : "name", sort = value[state.sort] ? state.sort : usual;
  rows.sort((a, b) => {
    const [x, y] = [value[sort](a), value[sort](b)];
    if (typeof x === "string") return x.localeCompare(y, "en", { numeric: true });
    return (Number.isNaN(x) - Number.isNaN(y)) || x - y || a.i - b.i;
  });
  const head = (id, text, title, kind = "") => h("th", { class: kind, "aria-sort": sort === id ? "ascending" : null }, button(text, () => update({ sort: id }), { class: "plain", title: title || `Sort by ${text}` }));
  const table = h("table", { class: "numbers wide", id: "perturbations" }, h("thead", {}, h("tr", {}, head("name", "Perturbation"),
    differences && [head("measure", `${titleOf(measure)}, SD`, "Difference to the controls, in standard deviations of the controls, or of all cells where the controls are all alike; sort by size"), h("th", {}, "")],
    head("doubts", "Reasons for doubt", "Sort by their number", "text"), modalities.map(kind => head(`n ${kind}`, `${modalities.length > 1 ? spaced(kind) : ""} cells`)),
    tested.map(kind => [head(`s ${kind}`, `Distance${tested.length > 1 ? `, ${spaced(kind)}` : ""}`, "Energy distance to the controls, in standard deviations of cells"), h("th", {}, "")]),
    profiles.has_guides && head("consistency", "Guides agree", "Whether its guides are more alike than guides of different perturbations"), profiles.edges && head("known", "Known pairs"))),
    h("tbody", {}, rows.map(row => h("tr", { "aria-current": row.name === state.pert ? "true" : null }, h("td", {}, button(row.name, () => update({ pert: row.name }, { push: true }), { class: "link" }), isControl(row.name) && h("span", { class: "soft" }, " control")),
      differences && [h("td", {}, row.d && !Number.isNaN(row.d.d) ? signed(row.d.d) : "–"), h("td", { class: "soft" }, row.d && !isControl(row.name) ? qText(row.d.q) : "")],
      h("td", { class: "text" }, row.doubts.join("; ")), modalities.map(kind => h("td", {}, number(row.cells[kind]))),
      tested.map(kind => [h("td", {}, row.strength[kind] ? fixed(row.strength[kind][0]) : "–"), h("td", { class: "soft" }, row.strength[kind] ? qText(row.strength[kind][1]) : "")]),
      profiles.has_guides && h("td", {}, row.consistency ? qText(row.consistency.q_value) : "–"), profiles.edges && h("td", {}, number(row.known))))));
  show(chart, h("div", { class: "scroll" }, table));
  note.textContent = differences ? `${titleOf(measure)}: mean of the cells on this page against the controls (${differences.kinds.map(spaced).join(", ")}), Welch's t-test, Benjamini-Hochberg over perturbations. Cells of one well are not independent, so q is optimistic.`
    : "Choose a feature, gene or dimension above to compare the perturbations in it.";
}
