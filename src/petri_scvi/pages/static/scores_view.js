// How well embeddings find what is known: the table of scores, and ROC curves of known pairs.
const METRICS = {
  guide_consistency: "Guide consistency", edge_tpr_at_1_fpr: "Known pairs found at 1 % false positives", edge_tpr_at_5_fpr: "Known pairs found at 5 % false positives",
  edge_tpr_at_10_fpr: "Known pairs found at 10 % false positives", edge_auc: "Known pairs, area under the ROC curve", edge_average_precision: "Known pairs, average precision",
};
const MEANINGS = {
  guide_consistency: "consistency", edge_tpr_at_1_fpr: "tpr", edge_tpr_at_5_fpr: "tpr", edge_tpr_at_10_fpr: "tpr", edge_auc: "auc", edge_average_precision: "precision",
};
const LINES = ["", "7 4", "2 3", "9 3 2 3"];

async function buildScores(root) {
  const { rows, curves } = await words(meta.scores), places = [], placeOf = row => [row.key, row.modality, row.fusion].join("\u001f");
  for (const row of rows) if (!places.includes(placeOf(row))) places.push(placeOf(row));
  const metrics = [...new Set(rows.map(row => row.metric))], keys = [...new Set(rows.map(row => row.key))];
  const of = new Map(rows.map(row => [`${placeOf(row)}\u001f${row.metric}`, row]));
  const best = new Map(metrics.map(metric => [metric, Math.max(...rows.filter(row => row.metric === metric && row.value !== null).map(row => row.value))]));
  const titleOfPlace = place => {
    const [key, modality, fusion] = place.split("\u001f");
    return [key, modality === "all" ? "" : modality, fusion === "none" ? "" : `all modalities (${spaced(fusion)})`].filter(Boolean).join(", ");
  };
  const look = place => ({ colour: meta.palettes.groups[keys.indexOf(place.split("\u001f")[0]) % meta.palettes.groups.length],
    dash: LINES[places.filter(other => other.split("\u001f")[0] === place.split("\u001f")[0]).indexOf(place) % LINES.length] });
  const line = place => s("svg", { class: "sample", viewBox: "0 0 26 8", "aria-hidden": "true" }, s("line", { x1: 0, x2: 26, y1: 4, y2: 4, stroke: look(place).colour, "stroke-dasharray": look(place).dash, "stroke-width": 2.5 }));
  const cell = row => (!row || row.value === null ? h("td", {}, "–") : h("td", { class: row.value === best.get(row.metric) ? "best" : "", title: `n ${row.n}` }, row.value.toFixed(3),
    row.ci_low !== null && h("div", { class: "soft small" }, `${row.ci_low.toFixed(2)}–${row.ci_high.toFixed(2)}`)));
  const off = () => new Set(state.metric ? state.metric.split("\u001e") : []);
  const boxes = new Map(places.map(place => [place, h("input", { type: "checkbox", "aria-label": `ROC curve of ${titleOfPlace(place)}`, onchange: () => {
    const hidden = off();
    if (boxes.get(place).checked) hidden.delete(place); else hidden.add(place);
    update({ metric: [...hidden].join("\u001e") });
  } })]));
  const roc = h("div", { id: "roc" });
  show(root, h("div", { class: "page" }, h("h2", {}, "Scores of embeddings"),
    h("p", { class: "soft" }, "By tl.score_screen: larger is better, and a click on a heading says what it means; below each score its 95 % interval over resampled genes. The best of each column is bold. Differences within the intervals are no ranking."),
    h("div", { class: "scroll" }, h("table", { class: "numbers wide", id: "scores" }, h("thead", {}, h("tr", {}, h("th", {}, "Embedding"), metrics.map(metric => h("th", {}, metric in MEANINGS ? term(MEANINGS[metric], METRICS[metric]) : spaced(metric))))),
      h("tbody", {}, places.map(place => h("tr", {}, h("td", {}, curves.length > 0 && h("label", {}, boxes.get(place), " ", line(place), " ", titleOfPlace(place)), !curves.length && titleOfPlace(place)),
        metrics.map(metric => cell(of.get(`${place}\u001f${metric}`)))))))),
    h("h2", {}, "Known pairs, ROC curves"), curves.length ? roc : h("p", { class: "soft" }, "There are none: scores without known pairs have no curve.")));

  function draw() {
    const hidden = off();
    for (const [place, box] of boxes) box.checked = !hidden.has(place);
    const SIDE = 400, x = value => 50 + SIDE * value, y = value => 10 + SIDE * (1 - value), ticks = [0, 0.2, 0.4, 0.6, 0.8, 1];
    const paths = curves.filter(curve => !hidden.has(placeOf(curve))).map(curve => s("polyline", {
      class: "curve", points: curve.fpr.map((fpr, i) => `${x(fpr).toFixed(1)},${y(curve.tpr[i]).toFixed(1)}`).join(" "), stroke: look(placeOf(curve)).colour, "stroke-dasharray": look(placeOf(curve)).dash, "data-place": titleOfPlace(placeOf(curve)),
    }, s("title", {}, titleOfPlace(placeOf(curve)))));
    show(roc, s("svg", { viewBox: "0 0 470 460", role: "img", "aria-label": "ROC curves of known pairs" }, s("rect", { x: x(0), y: y(1), width: SIDE, height: SIDE, class: "frame" }),
      s("line", { x1: x(0), y1: y(0), x2: x(1), y2: y(1), class: "chance" }),
      ticks.map(tick => [s("text", { x: x(tick), y: y(0) + 18, "text-anchor": "middle" }, tick), s("text", { x: x(0) - 8, y: y(tick) + 4, "text-anchor": "end" }, tick)]),
      s("text", { x: x(0.5), y: y(0) + 38, "text-anchor": "middle" }, "False positives: share of the other pairs"), s("text", { transform: `translate(14 ${y(0.5)}) rotate(-90)`, "text-anchor": "middle" }, "Known pairs found: share"), paths));
  }
  onChange(changed => { if (changed.has("metric") || changed.has("theme")) draw(); });
  draw();
}
