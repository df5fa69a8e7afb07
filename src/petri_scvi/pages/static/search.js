// One box that finds perturbations, genes, columns and cells; also the chooser of what to colour by.
const MAX_HITS = 30;
const folded = text => String(text).toLowerCase().replace(/[\s_\-]+/g, " ").trim();

let entriesMade = null;
const searchEntries = () => (entriesMade ??= makeEntries());
async function makeEntries() {
  const made = [];
  const perturbation = columnOf.get(meta.keys?.perturbation);
  const seen = new Set();
  const push = entry => {
    const name = folded(entry.label), key = `${folded(entry.kind)}\u001f${name}`;
    if (!seen.has(key)) made.push({ ...entry, folded: entry.also ? `${name} ${folded(entry.also)}` : name });
    seen.add(key);
  };
  for (const name of perturbation?.categories || []) push({ kind: "Perturbation", label: name, pert: name });
  (meta.crops?.channels || []).forEach((channel, i) => push({ kind: "Channel: crops with it alone", label: spaced(channel.name), channel: i }));
  const orderOf = column => (column.is_truth ? 3 : column.group === "obs" ? 0 : column.channel !== undefined ? 1 : 2);
  const inOrder = [...(meta.columns || [])].sort((a, b) => orderOf(a) - orderOf(b));
  for (const column of inOrder) {
    const channel = column.group === "feature" && column.channel === undefined ? channelOfFeature(column.label) : null;
    push({ kind: channel ? `${kindOf(column)}, ${channel}` : kindOf(column), label: titleOf(column), color: column.id, also: channel });
  }
  for (const column of meta.columns || []) {
    if (column === perturbation || column.is_repeated || column.kind !== "category" || column.categories.length > 2000) continue;
    for (const name of column.categories) {
      push({ kind: spaced(column.label), label: name, group: `${column.id}\u001f${name}`, color: column.id });
    }
  }
  for (const name of meta.other_genes ? await words(meta.other_genes) : []) {
    push({ kind: "Gene", label: name, why: "its values are not on this page" });
  }
  return made;
}

// Channels that share a word with a feature that does not name them, such as "lipid droplets" with "droplet number".
function channelOfFeature(label) {
  const stems = text => folded(text).split(" ").filter(word => word.length > 2 && /[a-z]/.test(word)).map(word => word.replace(/s$/, ""));
  const mine = stems(label), found = (meta.crops?.channels || []).filter(channel => !folded(label).includes(folded(channel.name)) && stems(channel.name).some(word => mine.includes(word)));
  return found.length ? found.map(channel => spaced(channel.name)).join(", ") : null;
}

function matches(entries, query) {
  const words = folded(query).split(" ").filter(Boolean);
  // What a channel measures comes before its crops, and a hint after everything that can be chosen.
  const rank = entry => (entry.isHint ? 3 : entry.folded === words.join(" ") ? 0 : !entry.folded.startsWith(words[0]) ? 2 : entry.channel === undefined ? 1 : 1.5);
  return entries.filter(entry => words.every(word => entry.folded.includes(word)))
    .map(entry => [rank(entry), entry]).sort((a, b) => a[0] - b[0]).map(pair => pair[1]);
}

// A text box with a list of hits, after the combobox pattern of WAI-ARIA.
function combobox({ label, placeholder, entries, choose, isSelect = false, value = "" }) {
  const id = `list${(combobox.n = (combobox.n || 0) + 1)}`;
  const input = h("input", {
    type: "search", role: "combobox", "aria-expanded": "false", "aria-controls": id, "aria-autocomplete": "list",
    "aria-label": label, placeholder, autocomplete: "off", spellcheck: "false",
  });
  input.value = value;
  const list = h("ul", { id, role: "listbox", "aria-label": label, hidden: true });
  const box = h("div", { class: "combobox" }, input, list);
  let hits = [], active = -1, asked = 0, answered = null;

  function mark(i) {
    active = i;
    [...list.children].forEach((item, j) => item.setAttribute("aria-selected", j === i));
    if (i >= 0) {
      input.setAttribute("aria-activedescendant", `${id}-${i}`);
      list.children[i]?.scrollIntoView({ block: "nearest" });
    } else input.removeAttribute("aria-activedescendant");
  }
  function close() {
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    mark(-1);
  }
  function take(entry) {
    if (!entry || entry.why) return;
    if (!isSelect) input.value = "";
    close();
    choose(entry);
  }
  // Enter may come before the hits of the last letters.
  async function takeActive() {
    if (answered !== input.value) await refresh(false);
    if (!list.hidden) take(hits[active]);
  }
  async function refresh(isOpened) {
    const turn = ++asked, query = isOpened && isSelect ? "" : input.value;
    if (!query && !isSelect) return close();
    const every = await entries(query);
    if (turn !== asked || document.activeElement !== input) return;
    const found = query ? matches(every, query) : every;
    answered = input.value;
    hits = found.slice(0, isSelect && !query ? 400 : MAX_HITS);
    show(list, hits.map((entry, i) => h("li", {
      id: `${id}-${i}`, role: "option", "aria-selected": "false", "aria-disabled": entry.why ? "true" : null,
      onmousedown: event => { event.preventDefault(); take(entry); },
    }, h("span", { class: "hit" }, entry.label), h("span", { class: "kind" }, entry.why || entry.kind))));
    if (!hits.length) show(list, h("li", { class: "none" }, "Nothing of this name"));
    else if (found.length > hits.length) list.append(h("li", { class: "none" }, `and ${found.length - hits.length} more`));
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    mark(query && hits.length ? 0 : -1);
  }
  input.addEventListener("input", () => refresh(false));
  input.addEventListener("focus", () => { if (isSelect) { input.select(); refresh(true); } });
  input.addEventListener("click", () => { if (list.hidden && isSelect) refresh(true); });
  input.addEventListener("blur", () => { close(); if (isSelect) input.value = box.current || ""; });
  input.addEventListener("keydown", event => {
    if (event.key === "ArrowDown" && list.hidden) refresh(true);
    else if (event.key === "ArrowDown") mark(Math.min(hits.length - 1, active + 1));
    else if (event.key === "ArrowUp") mark(Math.max(0, active - 1));
    else if (event.key === "Enter") takeActive();
    else if (event.key === "Escape" && !list.hidden) { if (!isSelect) input.value = ""; close(); }
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  box.setValue = text => { box.current = text; if (document.activeElement !== input) input.value = text; else input.value = text; };
  if (value) box.current = value;
  return box;
}

function globalSearch() {
  const entries = async query => {
    const every = await searchEntries();
    if (!meta.cells || query.length < 4) return every;
    const wanted = query.trim(), names = await cellNames(), found = [];
    for (let i = 0; i < names.length && found.length < 8; i++) {
      if (names[i].startsWith(wanted)) found.push({ kind: "Cell", label: names[i], cell: i, folded: folded(names[i]) });
    }
    return [...every, ...found];
  };
  const choose = entry => {
    if (entry.pert !== undefined) {
      if (state.view === "perturbations" && hasProfile(entry.pert)) update({ pert: entry.pert }, { push: true });
      else showCellsOf(entry.pert);
    }
    else if (entry.cell !== undefined) showCell(entry.cell);
    else if (entry.channel !== undefined) showChannel(entry.channel);
    else if (entry.group) update({ view: "cells", color: entry.color, group: entry.group, lasso: "" }, { push: true });
    else if (state.view === "perturbations" && columnOf.get(entry.color).kind === "number") update({ measure: entry.color, sort: "" }, { push: true });
    else update({ view: "cells", color: entry.color }, { push: true });
  };
  const what = meta.columns?.some(column => column.group === "gene") ? "perturbation, gene, channel …" : "perturbation, column …";
  return combobox({ label: "Search", placeholder: `Search ${what}`, entries, choose });
}

// Crops with one channel alone: those that are on the page, or those of all images if no cells are chosen.
function showChannel(i) {
  const off = crops.channels.map((_, j) => String(j)).filter(j => j !== String(i));
  const hasCrops = state.view === "dimensions" || (state.view === "perturbations" && state.pert) || (state.view === "cells" && (state.group || state.lasso || state.cell));
  update(hasCrops ? { off } : { off, view: "cells", color: "modality", group: `modality\u001f${kindOfCrops()}`, lasso: "" }, { push: true });
}
const kindOfCrops = () => meta.kinds.find(kind => kind.name.split("+").includes(meta.crops.modality))?.name ?? meta.kinds[0].name;

// One cell on the whole map, with nothing else chosen.
function showCell(cell) {
  update({ view: "cells", cell: String(cell), lasso: "", group: "", camera: "" }, { push: true });
}

// The cells of a perturbation that was searched or clicked, on the map.
function showCellsOf(name) {
  const id = meta.keys.perturbation, column = columnOf.get(id);
  const changes = { view: "cells", color: id, group: `${id}\u001f${name}`, lasso: "", cell: "" };
  if (column.categories.length > MAX_COLOURED) {
    const picked = (state.picked || []).filter(other => other !== name);
    changes.picked = [name, ...picked].slice(0, 7);
  }
  update(changes, { push: true });
}
