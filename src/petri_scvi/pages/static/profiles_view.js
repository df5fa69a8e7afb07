// All perturbations: as points, as a heat map of their similarity, or as a table that can be sorted.
const LAYOUTS = { points: "Points", heat: "Heat map", table: "Table" };
const STRENGTH = "distance to controls", MAX_NAMED = 70;
const layoutShown = () => (state.layout in LAYOUTS ? state.layout : "points");

async function buildPerturbations(root) {
  const measureBox = combobox({
    label: "Compare perturbations in", placeholder: "a feature, gene or dimension", isSelect: true,
    entries: async query => [{ kind: "", label: STRENGTH, measure: "", folded: folded(STRENGTH) },
      ...(await searchEntries()).filter(entry => entry.color && !entry.group && columnOf.get(entry.color).kind === "number").map(entry => ({ ...entry, measure: entry.color })),
      ...(query ? (await searchEntries()).filter(entry => entry.channel !== undefined).map(entry => ({ ...entry, isHint: true, why: "Channel: choose its mean intensity; Search above shows its crops" })) : [])],
    choose: entry => update({ measure: entry.measure, sort: "" }, { push: true }),
  });
  const buttons = Object.entries(LAYOUTS).map(([layout, title]) => button(title, () => update({ layout }, { push: true }), { "data-layout": layout }));
  const spaces = h("select", { "aria-label": "Profiles of", onchange: () => update({ space: spaces.value }, { push: true }) },
    profiles.spaces.map(space => h("option", { value: space.name }, titleOfSpace(space.name))));
  const chart = h("div", { id: "chart" }), note = h("p", { class: "caption under" }), box = h("section", { id: "profile", "aria-label": "One perturbation" });
  const by = h("label", { class: "by" }, "Compare in ", measureBox);
  const panel = h("aside", { class: "panel", "aria-label": "One perturbation" }, box);
  show(root, h("div", { class: "stage board" },
    h("div", { class: "tools row", role: "toolbar", "aria-label": "Perturbations" }, buttons, profiles.spaces.length > 1 && h("label", { title: WORDS.profile[1] }, "Profiles ", spaces), by),
    chart, note), panel);

  async function draw() {
    for (const element of buttons) element.setAttribute("aria-pressed", element.dataset.layout === layoutShown());
    spaces.value = spaceShown().name;
    const measure = columnOf.get(state.measure);
    measureBox.setValue(measure ? titleOf(measure) : STRENGTH);
    by.hidden = layoutShown() === "heat";  // a heat map shows how alike profiles are, whatever they are compared in
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
    if (has("layout")) closeTip();
    if (has("pert", "measure")) panel.scrollTop = 0;
    if (has("pert", "measure", "space", "theme")) drawProfile(box, state.pert);
  });
  let width = 0, height = 0;
  new ResizeObserver(() => {
    const isNew = chart.clientWidth && Math.max(Math.abs(chart.clientWidth - width), Math.abs(chart.clientHeight - height)) > 2;
    [width, height] = [chart.clientWidth || width, chart.clientHeight || height];
    if (isNew && layoutShown() !== "table" && chart.dataset.drawn) draw();
  }).observe(chart);
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
  const sizes = values.map(value => (Number.isNaN(value) ? 0 : Math.abs(value) / top));
  if (!known.length) return { sizes, colours: profiles.names.map(() => css("--accent")), text: "Strengths were not tested: call tl.perturbation_strength before the page is written." };
  const steps = sequential();
  const colours = values.map(value => (Number.isNaN(value) ? css("--grey-point")
    : differences ? diverging(value / top, "--zero") : steps[Math.min(steps.length - 1, Math.max(0, Math.floor((value / top) * steps.length)))]));
  const text = differences ? `Colour: ${titleOf(measure)} against the controls, from ${signed(-top)} (blue) over 0 (grey) to ${signed(top)} ${unitOf(measure)} (red).`
    : `Colour: distance to the controls, the larger of the modalities; darkest is ${number(top, 2)}.`;
  return { sizes, colours, text: isDark() && !differences ? text.replace("darkest", "brightest") : text };
}

// Points in pixels of the chart. Hits lie above others, and names are placed for the most important first.
async function drawProfilePoints(chart, note, measure, differences) {
  const xy = await array(profiles.xy, Float32Array), n = profiles.names.length, chosen = placeOfProfile.get(state.pert) ?? -1;
  const { colours, sizes, text } = profileColours(measure, differences), width = Math.max(200, chart.clientWidth), height = Math.max(200, chart.clientHeight - 4);
  const radius = Math.max(3, (n < 120 ? 10 : n < 600 ? 7 : 4) * Math.min(1, Math.min(width, height) / 600)), side = Math.min(width, height) / 2 - radius - 8;
  const place = i => ({ x: width / 2 + side * xy[2 * i], y: height / 2 - side * xy[2 * i + 1], r: i === chosen ? radius * 1.5 : radius });
  const near = new Set(chosen >= 0 ? (await neighboursOf(chosen, spaceShown(), N_NEIGHBOURS)).map(({ j }) => j) : []);
  const rank = i => (i === chosen ? 4 : near.has(i) ? 3 : isControl(profiles.names[i]) ? 2 : Math.min(1, sizes[i]));
  const order = profiles.names.map((_, i) => i).sort((a, b) => rank(a) - rank(b)), places = profiles.names.map((_, i) => place(i));
  const lines = (profiles.edges || []).map(([a, b]) => s("line", { x1: places[a].x, y1: places[a].y, x2: places[b].x, y2: places[b].y, class: a === chosen || b === chosen ? "edge chosen" : "edge" }));
  const points = order.map(i => s("circle", {
    cx: places[i].x, cy: places[i].y, r: places[i].r, fill: colours[i], class: `profile${i === chosen ? " chosen" : near.has(i) ? " near" : ""}${isControl(profiles.names[i]) ? " control" : ""}`,
    "data-name": profiles.names[i], onclick: () => update({ pert: profiles.names[i] }, { push: true }),
    onpointerenter: event => profileTip(event, i, differences, measure), onpointerleave: closeTip,
  }));
  const named = [...order].reverse().slice(0, MAX_NAMED), found = placeLabels(named.map(i => ({ ...places[i], text: profiles.names[i] })), places, width, height);
  const labels = named.map((i, k) => found[k] && s("text", { x: found[k].x, y: found[k].y, class: "point-name" }, profiles.names[i]));
  const isAlone = chosen >= 0 && !near.size && !isControl(state.pert);
  show(chart, s("svg", { width, height, class: "profiles", role: "img", "aria-label": `Map of ${n} perturbations; the table lists them` }, lines, points, labels));
  show(note, text, profiles.edges && ` Lines: ${count(profiles.edges.length, "known pair")}.`, near.size > 0 && ` Ringed: nearest to ${state.pert}, by their cosine.`,
    isAlone && ` No perturbation is alike ${state.pert} (cosine ${MIN_ALIKE} or more).`, labels.filter(Boolean).length < n && " Names that do not fit appear under the pointer, and in the table.");
}

function profileTip(event, i, differences, measure) {
  const name = profiles.names[i], d = differences?.of.get(name), doubts = doubtsAbout(i, differences);
  tipAt(event, h("div", {}, h("b", {}, name), strengthOf(name).map(row => h("div", {}, `${row.modality}: ${number(row.distance, 2)}, ${qText(row.q)}`)),
    d && h("div", {}, `${titleOf(measure)}: ${signed(d.d)} ${unitOf(measure)}, ${qText(d.q)}`), doubts.length > 0 && h("div", { class: "warn" }, `Doubt: ${doubts.join("; ")}`)));
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
  // Of the modalities that the measure is of, if one is chosen.
  const isMeant = kind => !differences || differences.kinds.includes(kind) || !Object.keys(profiles.n_cells).some(other => differences.kinds.includes(other));
  const isSeveral = Object.keys(profiles.n_cells).length > 1, modalities = Object.keys(profiles.n_cells).filter(isMeant), tested = Object.keys(profiles.strength).filter(isMeant);
  const value = {
    name: row => row.name, measure: row => (row.d ? -Math.abs(row.d.d) : NaN), ...(differences && { doubts: row => row.doubts.length }),
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
    differences && [head("measure", `${titleOf(measure)}, ${unitOf(measure)}`, `Sort by size. ${WORDS[unitOf(measure).toLowerCase()][1]}`), h("th", { title: WORDS.q[1] }, "q")],
    differences && head("doubts", "Reasons for doubt", "Sort by their number", "text"), modalities.map(kind => head(`n ${kind}`, `${isSeveral ? spaced(kind) : ""} cells`)),
    tested.map(kind => [head(`s ${kind}`, `Distance${isSeveral ? `, ${spaced(kind)}` : ""}`, WORDS.distance[1]), h("th", { title: WORDS.q[1] }, "q")]),
    profiles.has_guides && head("consistency", "Guides agree, q", WORDS.consistency[1]), profiles.edges && head("known", "Known pairs", WORDS.known[1]))),
    h("tbody", {}, rows.map(row => h("tr", { "aria-current": row.name === state.pert ? "true" : null }, h("td", {}, button(row.name, () => update({ pert: row.name }, { push: true }), { class: "link" }), isControl(row.name) && h("span", { class: "soft" }, " control")),
      differences && [h("td", {}, row.d && !Number.isNaN(row.d.d) ? signed(row.d.d) : "–"), h("td", { class: "soft" }, row.d && !isControl(row.name) ? qBare(row.d.q) : "")],
      differences && h("td", { class: "text" }, row.doubts.join("; ")), modalities.map(kind => h("td", {}, number(row.cells[kind]))),
      tested.map(kind => [h("td", {}, row.strength[kind] ? fixed(row.strength[kind][0]) : "–"), h("td", { class: "soft" }, row.strength[kind] ? qBare(row.strength[kind][1]) : "")]),
      profiles.has_guides && h("td", {}, row.consistency ? qBare(row.consistency.q_value) : "–"), profiles.edges && h("td", {}, number(row.known))))));
  show(chart, h("div", { class: "scroll" }, table));
  show(note, measure?.is_truth && `${WORDS.truth[0]}, not measured. `, differences ? `${titleOf(measure)}: mean of the cells on this page against the controls (${differences.kinds.map(spaced).join(", ")}), Welch's t-test, Benjamini-Hochberg over perturbations. Cells of one well are not independent, so ` : "", differences ? [term("q", "q"), " is optimistic."]
    : "Choose a feature, gene or dimension above to compare the perturbations in it; the reasons to doubt each difference are then listed.");
}
