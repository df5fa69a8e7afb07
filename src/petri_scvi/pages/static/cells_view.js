// All cells on a map: colours, what is under the pointer, the legend.
let map = null, chosenCells = null;

async function buildCells(root) {
  const colourBox = combobox({
    label: "Colour cells by", placeholder: "Choose", isSelect: true,
    entries: async () => (await searchEntries()).filter(entry => entry.color && !entry.group),
    choose: entry => update({ color: entry.color }, { push: true }),
  });
  const legend = h("div", { id: "legend" }), picture = h("div", {
    id: "map", role: "application", tabindex: 0,
    "aria-label": "Map of the cells. Arrow keys move it, plus and minus zoom, 0 shows all, Enter takes the cell at the cross.",
  });
  const pan = button("Move", () => setMode("pan"), { "aria-pressed": "true", title: "Drag to move the map" });
  const lasso = button("Lasso", () => setMode("lasso"), { "aria-pressed": "false", title: "Drag around cells; or hold Shift and drag" });
  const setMode = mode => {
    map.setMode(mode);
    pan.setAttribute("aria-pressed", mode === "pan");
    lasso.setAttribute("aria-pressed", mode === "lasso");
  };
  const tools = h("div", { class: "tools", role: "toolbar", "aria-label": "Map" }, pan, lasso,
    button("+", () => map.zoomAt(...map.centre(), 1.5), { "aria-label": "Zoom in", title: "Zoom in" }),
    button("−", () => map.zoomAt(...map.centre(), 1 / 1.5), { "aria-label": "Zoom out", title: "Zoom out" }),
    button("All", () => map.moveTo(0, 0, 1), { title: "Show all cells" }));
  const notice = h("p", { class: "notice", hidden: true });
  const caption = h("p", { class: "caption" }, mapCaption());
  const panel = h("aside", { class: "panel", "aria-label": "Colours and chosen cells" },
    h("section", { "aria-label": "Colour" },
      h("div", { class: "colour-by" }, h("span", { class: "label" }, "Colour by"), colourBox), legend),
    h("section", { id: "cell-box", "aria-label": "One cell", hidden: true }),
    h("section", { id: "chosen", "aria-label": "Chosen cells", "aria-live": "polite" }));
  show(root, h("div", { class: "stage" }, picture, tools, notice, caption), panel);

  const [rawX, rawY] = await Promise.all([array(meta.cells.x, Uint16Array), array(meta.cells.y, Uint16Array)]);
  const scaled = raw => Float32Array.from(raw, value => value / 32767.5 - 1);
  let hovered = -1;
  map = pointsMap(picture, scaled(rawX), scaled(rawY), {
    hover: i => { if (i !== hovered) { hovered = i; map.ring(i < 0 ? pinned() : i); hoverTip(i); } },
    click: i => update(i < 0 ? { cell: "", lasso: "", group: "" } : { cell: String(i) }),
    circled: polygon => update({ lasso: polygon.flat().map(v => v.toFixed(4)).join(" "), group: "" }, { push: true }),
    moved: () => update({ camera: [map.view.x.toFixed(4), map.view.y.toFixed(4), map.view.zoom.toFixed(3)].join(" ") }),
    painter: sayPainter,
  });
  function sayPainter() {
    const isMissing = map.painter === "canvas" && map.missing !== "software";
    notice.hidden = !isMissing;
    notice.textContent = "This browser offers no WebGL, so the processor draws the points. Everything works; large screens move less smoothly.";
    picture.dataset.painter = map.painter;
  }
  sayPainter();
  if (state.camera) map.moveTo(...state.camera.split(" ").map(Number), false);

  async function colourMap() {
    const column = columnOf.get(state.color) || columnOf.get(meta.start.color);
    // A group that is chosen has a colour: grey cells could not be told from the others.
    const [groupId, groupName] = (state.group || "").split("\u001f"), picked = state.picked || [];
    const isUncoloured = groupId === column.id && !state.lasso && !picked.includes(groupName);
    const codes = await colouring(column, isUncoloured ? [...picked.slice(0, MAX_COLOURED - 1), groupName] : picked);
    if ((columnOf.get(state.color) || columnOf.get(meta.start.color)) !== column) return;
    colourBox.setValue(titleOf(column));
    const n = meta.cells.n, colours = codes.colours, k = colours.length, grey = codes.rank ?? k - 1;
    const all = codes.codes, found = new Uint8Array(n);
    const faded = colours.map(colour => mixed(colour, css("--map"), 0.8));
    const isChosen = chosenCells ? markOf(chosenCells) : null;
    // Grey below, colours above, chosen ones on top; in random order within each, so that no group covers another.
    const layers = [[], [], []];
    for (let i = 0; i < n; i++) {
      const isOff = isChosen && !isChosen[i];
      found[i] = all[i] + (isOff ? k : 0);
      layers[isOff ? 0 : all[i] === grey ? 1 : 2].push(i);
    }
    const shuffled = await drawOrder();
    const order = layers.flatMap(layer => layer.sort((a, b) => shuffled[a] - shuffled[b]));
    map.colour(found, [...colours, ...faded], order);
    drawLegend(legend, column, codes);
    document.body.dataset.coloured = column.id;
  }

  async function choose() {
    const polygon = (state.lasso || "").split(" ").map(Number);
    const points = [];
    for (let i = 0; i + 1 < polygon.length; i += 2) points.push([polygon[i], polygon[i + 1]]);
    chosenCells = null;
    if (points.length > 2) chosenCells = map.inside(points);
    else if (state.group) {
      const [id, name] = state.group.split("\u001f"), column = columnOf.get(id);
      const code = column?.kind === "category" ? column.categories.indexOf(name) : -1;
      if (code >= 0) chosenCells = (await membersOf(column))[code];
    }
    tellFrame(chosenCells);
    map.showOutline(points.length > 2 ? points : []);
    drawSelection($("chosen"));
  }

  const pinned = () => (state.cell ? Number(state.cell) : -1);
  async function pin() {
    map.ring(pinned());
    await drawCell($("cell-box"), pinned());
  }
  onChange(async changed => {
    if (["cell", "lasso", "group", "color"].some(key => changed.has(key))) panel.scrollTop = 0;
    if (changed.has("camera") && !state.camera) map.moveTo(0, 0, 1, false);
    else if (changed.has("camera") && !changed.has("moved")) {
      const [cx, cy, zoom] = state.camera.split(" ").map(Number);
      if (Math.abs(cx - map.view.x) + Math.abs(cy - map.view.y) > 1e-3 || Math.abs(zoom - map.view.zoom) > 1e-2) map.moveTo(cx, cy, zoom, false);
    }
    if (changed.has("cell")) pin();
    if (changed.has("lasso") || changed.has("group")) await choose();
    if (["lasso", "group", "color", "picked", "theme"].some(key => changed.has(key))) colourMap();
  });
  await choose();
  await colourMap();
  await pin();
}

function mapCaption() {
  const parts = meta.kinds.map(kind => kind.n === kind.total ? `${kind.n.toLocaleString("en")} ${kind.name}`
    : `${kind.n.toLocaleString("en")} of ${kind.total.toLocaleString("en")} ${kind.name}`);
  return `${parts.join(" + ")} cells · ${meta.cells.map}`;
}

// Inside a notebook, the frame around this page hands the names of chosen cells to Python.
async function tellFrame(cells) {
  if (parent === window) return;
  const names = cells ? await cellNames() : [];
  if (cells === chosenCells) parent.postMessage({ petri: "selection", names: Array.from(cells || [], i => names[i]) }, "*");
}

function markOf(cells) {
  const mark = new Uint8Array(meta.cells.n);
  for (const cell of cells) mark[cell] = 1;
  return mark;
}

const drawOrder = once(async () => {
  // A fixed shuffle: the picture is the same each time.
  const rank = Uint32Array.from({ length: meta.cells.n }, (_, i) => i);
  let seed = 12345;
  for (let i = rank.length - 1; i > 0; i--) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const j = seed % (i + 1);
    [rank[i], rank[j]] = [rank[j], rank[i]];
  }
  return rank;
});

// Legend

function drawLegend(box, column, codes) {
  if (column.kind === "number") {
    const ramp = `linear-gradient(to right, ${sequential().join(", ")})`;
    show(box, h("div", { class: "ramp", style: { background: ramp } }),
      h("div", { class: "ramp-ends" }, h("span", {}, number(codes.range[0])), h("span", { class: "soft" }, legendNote(column)),
        h("span", {}, number(codes.range[1]))),
      h("div", { class: "soft small" }, h("i", { class: "swatch", style: { background: css("--grey-point") } }), " not measured",
        profiles && button("Compare perturbations in it", () => update({ view: "perturbations", layout: "table", measure: column.id, sort: "" }, { push: true }), { class: "link right" })));
    return;
  }
  const isLong = column.categories.length > MAX_COLOURED;
  const picked = new Set(isLong ? codes.shown : []);
  const rows = column.categories.map((name, code) => [name, code]);
  const find = h("input", { type: "search", placeholder: `Find among ${column.categories.length}`, "aria-label": "Find in the legend" });
  const list = h("ul", { class: "legend-list" });
  const fillList = async () => {
    const members = await membersOf(column), query = folded(find.value);
    const wanted = rows.filter(([name]) => folded(name).includes(query));
    if (isLong) wanted.sort((a, b) => picked.has(b[1]) - picked.has(a[1]));
    show(list, wanted.slice(0, 300).map(([name, code]) => {
      const place = codes.shown.indexOf(code);
      const colour = place >= 0 ? codes.colours[place] : css("--grey-point");
      const group = `${column.id}\u001f${name}`, isOn = state.group === group;
      return h("li", {},
        isLong ? button(h("i", { class: "swatch", style: { background: colour } }), () => togglePicked(name),
          { class: "plain", "aria-pressed": picked.has(code), "aria-label": `Colour ${name}`, title: picked.has(code) ? "Make it grey" : "Give it a colour" })
          : h("i", { class: "swatch", style: { background: colour } }),
        button(name, () => update({ group: isOn ? "" : group, lasso: "" }, { push: true }),
          { class: "plain name", "aria-pressed": isOn, title: isOn ? "Choose no group" : "Choose these cells" }),
        h("span", { class: "count" }, members[code].length.toLocaleString("en")));
    }));
  };
  find.addEventListener("input", fillList);
  show(box, isLong && h("p", { class: "soft small" }, "Squares give a colour, names choose the cells."), isLong && find, list);
  fillList();
}

const legendNote = column => column.is_truth ? "known truth, not measured" : column.channel !== undefined ? "mean of the pixels of a crop" : ({ gene: "log2(1 + normalised counts)", dim: "activation", feature: "measured" }[column.group] || "");

function togglePicked(name) {
  const picked = (state.picked || []).filter(other => other !== name);
  if (picked.length === (state.picked || []).length) picked.push(name);
  update({ picked: picked.slice(-MAX_COLOURED) });
}

// One cell

async function cellFacts(i) {
  const facts = [];
  const shown = [meta.keys.perturbation, meta.keys.guide, state.color].filter((id, at, all) => id && all.indexOf(id) === at);
  for (const id of shown) {
    const column = columnOf.get(id);
    if (!column) continue;
    const code = (await codesOf(column))[i];
    const value = code === missingCode(column) ? "–" : column.kind === "category" ? column.categories[code]
      : number(column.low + column.step * code);
    facts.push([titleOf(column), value]);
  }
  return facts;
}

async function topGenesOf(i) {
  if (!meta.top) return null;
  const [genes, height] = await Promise.all([array(meta.top.genes, Uint16Array), array(meta.top.height, Uint8Array)]);
  const names = await words(meta.top.names), k = meta.top.k, found = [];
  for (let j = 0; j < k; j++) if (genes[i * k + j] !== 65535) found.push([names[genes[i * k + j]], height[i * k + j] / 10]);
  return found.length ? found : null;
}

async function cellContent(i, side) {
  const parts = [], slot = crops ? (await slotOfCell())[i] : -1, name = (await cellNames())[i];
  const kind = meta.kinds[(await codesOf(columnOf.get("modality")))[i]]?.name || "";
  if (slot >= 0) {
    const canvas = h("canvas", { class: "crop", width: crops.size, height: crops.size, "data-slot": slot, role: "img",
      "aria-label": `Crop of cell ${name}`, style: { width: `${side}px`, height: `${side}px` } });
    await paintCrop(canvas, slot);
    inView.observe(canvas);
    parts.push(canvas);
  }
  const genes = await topGenesOf(i);
  const table = h("table", { class: "facts" }, (await cellFacts(i)).map(([key, value]) => h("tr", {}, h("th", {}, key), h("td", {}, value))));
  parts.push(h("div", { class: "about-cell" }, h("div", { class: "cell-name" }, name, h("span", { class: "soft" }, ` ${kind}`)), table,
    genes && h("div", { class: "small" }, h("span", { class: "soft" }, "High here: "),
      genes.map(([gene, z], j) => [j ? ", " : "", gene, h("span", { class: "soft" }, ` ${signed(z, 1)}`)]), h("span", { class: "soft", title: WORDS.log2[1] }, " (log2 above the mean of all cells)")),
    slot < 0 && !genes && h("div", { class: "soft small" }, meta.crops && kind === meta.crops.modality
      ? "Its crop is not on this page." : "")));
  return parts;
}

async function hoverTip(i) {
  const tip = $("tip"), turn = ++tipTurn;
  if (i < 0) { tip.hidden = true; return; }
  const content = await cellContent(i, 96);
  if (turn !== tipTurn) return;
  show(tip, content);
  tip.hidden = false;
  const host = $("map").getBoundingClientRect(), [px, py] = map.toScreen(i), box = tip.getBoundingClientRect();
  const left = host.left + px + 16 + box.width > innerWidth ? host.left + px - box.width - 16 : host.left + px + 16;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, Math.min(innerHeight - box.height - 4, host.top + py - box.height / 2))}px`;
}

async function drawCell(box, i) {
  box.hidden = i < 0 || i >= meta.cells.n;
  if (box.hidden) return;
  const perturbation = columnOf.get(meta.keys.perturbation);
  const code = perturbation ? (await codesOf(perturbation))[i] : -1;
  const name = perturbation?.categories[code];
  show(box, h("h2", {}, "Cell ", button("×", () => update({ cell: "" }), { class: "close", "aria-label": "Close" })),
    h("div", { class: "one-cell" }, await cellContent(i, 120)), crops && channelBar(),
    h("p", { class: "actions" },
      name && button(`Choose all ${name} cells`, () => showCellsOf(name)), hasProfile(name) && button("Open its perturbation", () => update({ view: "perturbations", pert: name }, { push: true }))));
}
