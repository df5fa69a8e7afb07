// One card per dimension: the cells that activate it, perturbations, and what it goes along with.
const FINDINGS = { image_features: ["Image features", "correlation"], gene_sets: ["Gene sets", "times as many"], genes: ["Genes", "correlation"] };

function dimensionLink(number) {
  const text = `Dimension ${number}`;
  return h("a", { href: linkTo({ view: "dimensions", dim: String(number) }), onclick: event => {
    event.preventDefault();
    update({ view: "dimensions", dim: String(number), find: "", multi: "" }, { push: true });
  } }, text);
}

async function buildDimensions(root) {
  const cards = await words(meta.dimensions.cards);
  const find = h("input", { type: "search", id: "search", placeholder: "Search genes, gene sets, image features, perturbations", "aria-label": "Search the cards",
    oninput: () => update({ find: find.value }) });
  const both = h("input", { type: "checkbox", id: "multimodal", onchange: () => update({ multi: both.checked ? "1" : "" }) });
  const counted = h("span", { class: "soft", id: "count", "aria-live": "polite" }), grid = h("div", { class: "cards" });
  show(root, h("div", { class: "bar-of-cards" }, find, meta.dimensions.modalities.length > 1 && h("label", { title: WORDS.multimodal[1] }, both, " multimodal only"), counted,
    crops && channelBar()), grid);
  const elements = cards.map(card => h("article", { id: `d${card.number}`, class: "card" }));
  grid.append(...elements);
  // Cards are filled when they come near: there may be thousands.
  const filler = new IntersectionObserver(entries => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting || target.isFilled) continue;
      target.isFilled = true;
      drawCard(target, cards[elements.indexOf(target)]);
    }
  }, { rootMargin: "600px" });
  elements.forEach(element => filler.observe(element));

  function choose() {
    if (find.value !== (state.find || "")) find.value = state.find || "";
    both.checked = Boolean(state.multi);
    const wanted = folded(state.find || "").split(" ").filter(Boolean);
    let shown = 0;
    cards.forEach((card, i) => {
      const isHit = wanted.every(word => card.text.includes(word)) && (!state.multi || card.is_multimodal);
      elements[i].hidden = !isHit;
      elements[i].classList.toggle("chosen", String(card.number) === state.dim);
      shown += isHit;
    });
    counted.textContent = `${shown} of ${cards.length} dimensions`;
  }
  async function goTo() {
    const dim = state.dim, i = cards.findIndex(card => String(card.number) === dim);
    if (i < 0) return;
    if (!elements[i].isFilled) { elements[i].isFilled = true; await drawCard(elements[i], cards[i]); }
    // Cards above it grow as they are filled and push it away.
    for (let turn = 0; turn < 6 && state.dim === dim; turn++) {
      elements[i].scrollIntoView({ block: "start" });
      await new Promise(resolve => setTimeout(resolve, 120));
    }
  }
  onChange(changed => {
    if (["find", "multi", "dim"].some(key => changed.has(key))) choose();
    if (changed.has("dim") && state.view === "dimensions") setTimeout(goTo);
  });
  choose();
  if (state.dim) setTimeout(goTo);
}

async function drawCard(element, card) {
  const described = meta.dimensions, shares = Object.entries(card.active).map(([name, share]) => `${Math.round(100 * share)} % of ${described.modalities.length > 1 ? `${spaced(name)} ` : ""}cells`);
  const column = columnOf.get(`dim:${card.number}`), isSeveral = described.modalities.length > 1;
  const groups = described.modalities.map((_, i) => meta.palettes.groups[i % 3]);
  const slots = crops ? await slotOfCell() : null;
  const rows = crops ? ["most", "least"].map(end => [end, card[end].map(cell => slots[cell]).filter(slot => slot >= 0)]).filter(([, found]) => found.length) : [];
  // An activation of 0 says only that there are no more perturbations that activate it.
  const activating = card.perturbations.filter(([, values]) => values.some(value => value));
  const widest = Math.max(1, ...rows.map(([, found]) => found.length));
  show(element, h("h2", {}, `Dimension ${card.number}`, column && button("Colour the cells by it", () => update({ view: "cells", color: column.id }, { push: true }), { class: "link small right" })),
    h("div", { class: "soft small" }, `active in ${shares.join(", ")}`),
    rows.length > 0 && h("div", { class: "soft small how" }, `Crops: the ${rows.map(([end, found]) => `${found.length} ${end}`).join(" and ")} active cells with images`),
    rows.length > 0 && h("div", { class: "ends" }, rows.map(([end, found]) => [h("span", { class: "soft small" }, end),
      h("div", { class: "strip", style: { gridTemplateColumns: `repeat(${widest}, 1fr)` } }, found.map(slot => cropCanvas(slot, `A cell with the ${end} activation`)))])),
    h("h3", {}, `${spaced(described.perturbation_key).replace(/^./, letter => letter.toUpperCase())}s, mean `, term("activation", "activation"), " ", isSeveral && described.modalities.map((name, i) => h("span", { class: "key" }, h("i", { class: "swatch", style: { background: groups[i] } }), ` ${name} `))),
    activating.length === 0 && h("p", { class: "none small" }, "none activates it"),
    h("table", { class: "bars" }, activating.map(([name, values]) => h("tr", {}, h("td", {}, hasProfile(name) ? perturbationLink(name) : name), values.map((value, i) => [
      h("td", { class: "number" }, value === null ? "" : number(value)), h("td", { class: "bar narrow", title: described.modalities[i] }, h("div", { style: { background: groups[i], width: `${value === null || !card.largest[i] ? 0 : (100 * Math.max(value, 0)) / card.largest[i]}%` } }))])))),
    Object.keys(FINDINGS).filter(kind => described.known.includes(kind)).map(kind => findingsOf(card, kind, described.alpha)));
}

function findingsOf(card, kind, alpha) {
  const rows = card.findings[kind] || [], largest = Math.max(1e-12, ...rows.map(([, value]) => Math.abs(value)));
  const group = { image_features: "feature", genes: "gene" }[kind];
  const [title, unit] = FINDINGS[kind];
  return [h("h3", {}, title, h("span", { class: "soft" }, ", ", term("correlation", unit), ", ", term("q", "q"))), rows.length ? h("table", { class: "bars", "data-kind": kind }, rows.map(([name, value, q]) => {
    const column = group && columnOf.get(`${group}:${name}`);
    return h("tr", { class: q !== null && q <= alpha ? "" : "weak" }, h("td", {}, column ? columnLink(column) : name), h("td", { class: "number" }, kind === "gene_sets" ? `${number(value, 2)}×` : signed(value)),
      h("td", { class: "number soft" }, qText(q)), h("td", { class: "bar" }, h("div", { class: value < 0 ? "down" : "up", style: { width: `${(100 * Math.abs(value)) / largest}%` } })));
  })) : h("p", { class: "none small" }, "none")];
}
