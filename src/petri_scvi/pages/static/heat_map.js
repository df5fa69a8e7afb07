// Similarity of all perturbations, clustered, with known pairs marked.
async function drawHeatMap(chart, note) {
  const space = spaceShown(), order = space.order, n = order.length;
  if (n < 2 || n > 600) {
    show(chart, h("p", { class: "note" }, n < 2 ? "There are too few profiles to compare." : `${n} perturbations are too many for a heat map; use the points or the table.`));
    note.textContent = "";
    return;
  }
  const room = Math.max(160, Math.min(chart.clientWidth - 8, innerHeight - 190)), isNamed = room / n >= 8;
  const longest = Math.max(...order.map(i => profiles.names[i].length));
  const margin = isNamed ? Math.min(0.3 * room, 16 + 7.6 * longest) : 0, cell = Math.max(1, Math.floor((room - margin) / n)), side = cell * n;
  const canvas = h("canvas", { width: side, height: side, class: "heat", style: { left: `${margin}px` }, role: "img", "aria-label": `Cosines of ${n} profiles; the table and the list of neighbours give them as text` });
  const pen = canvas.getContext("2d"), values = [];
  for (const i of order) values.push(await cosinesOf(i, space));
  order.forEach((i, row) => order.forEach((j, column) => {
    pen.fillStyle = Number.isNaN(values[row][j]) ? css("--grey-point") : diverging(values[row][j]);
    pen.fillRect(column * cell, row * cell, cell, cell);
  }));
  const placeIn = new Map(order.map((i, row) => [i, row]));
  pen.strokeStyle = css("--ink");
  pen.fillStyle = css("--ink");
  for (const [a, b] of profiles.edges || []) {
    const [x, y] = [placeIn.get(a), placeIn.get(b)];
    if (x === undefined || y === undefined) continue;
    for (const [column, row] of [[x, y], [y, x]]) {
      if (cell >= 6) pen.strokeRect(column * cell + 1.5, row * cell + 1.5, cell - 3, cell - 3);
      else pen.fillRect(column * cell, row * cell, Math.max(1, cell / 2), Math.max(1, cell / 2));
    }
  }
  const chosen = placeIn.get(placeOfProfile.get(state.pert));
  const bars = chosen === undefined ? [] : [h("div", { class: "mark", style: { left: `${margin}px`, top: `${chosen * cell}px`, width: `${side}px`, height: `${cell}px` } }),
    h("div", { class: "mark", style: { left: `${margin + chosen * cell}px`, top: 0, width: `${cell}px`, height: `${side}px` } })];
  const names = isNamed ? order.map((i, row) => h("button", { type: "button", class: "plain heat-name", title: profiles.names[i], style: { top: `${row * cell}px`, width: `${margin - 4}px`, height: `${cell}px`, lineHeight: `${cell}px`, fontSize: `${Math.min(12, cell)}px` },
    onclick: () => update({ pert: profiles.names[i] }, { push: true }) }, profiles.names[i])) : [];
  const at = event => {
    const box = canvas.getBoundingClientRect();
    return [Math.floor((event.clientY - box.top) / cell), Math.floor((event.clientX - box.left) / cell)].map(v => Math.max(0, Math.min(n - 1, v)));
  };
  canvas.addEventListener("pointermove", event => {
    const [row, column] = at(event), [i, j] = [order[row], order[column]];
    tipAt(event, h("div", {}, h("b", {}, profiles.names[i]), " · ", h("b", {}, profiles.names[j]), h("div", {}, `cosine ${number(values[row][j], 2)}`), isKnownPair(i, j) && h("div", {}, "a known pair")));
  });
  canvas.addEventListener("pointerleave", closeTip);
  canvas.addEventListener("click", event => update({ pert: profiles.names[order[at(event)[0]]] }, { push: true }));
  show(chart, h("div", { class: "heat-box", style: { width: `${margin + side}px`, height: `${side}px` } }, canvas, names, bars));
  show(note, term("cosine"), ` of profiles, ${titleOfSpace(space.name)}: red is alike, blue opposite; clustered by average linkage.${profiles.edges ? " Framed: known pairs." : ""} A click takes the perturbation of the row.`);
}
