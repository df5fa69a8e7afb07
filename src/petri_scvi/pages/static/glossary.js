// Words that are not everyday: explained where they stand, by a click or the pointer, and all together in About.
const WORDS = {
  modality: ["Modality", "What was measured in a cell, for example images or RNA. Most cells have one."],
  control: ["Control", "A cell or perturbation that changes no gene, such as non-targeting guides. Everything is compared with them."],
  guide: ["Guide", "The RNA that leads CRISPR to a gene. Several guides for one gene should do the same; if they do not, one of them may hit something else or nothing."],
  embedding: ["Embedding", "A list of numbers for each cell, in which cells that look alike, or express alike, are close."],
  map: ["Map (UMAP)", "The embedding drawn in two dimensions. Neighbours on it are mostly alike; sizes of gaps mean little."],
  profile: ["Profile", "What a perturbation does on average: the mean embedding of its cells, relative to controls, scaled and decorrelated (whitened)."],
  fused: ["All modalities (fused)", "The profiles of the modalities put together, each with the same weight."],
  cosine: ["Cosine", "How alike two profiles are: 1 the same direction, 0 unrelated, −1 opposite."],
  neighbour: ["Nearest", "Perturbations of the most alike profiles. Those with a cosine below 0.3 are not listed or ringed."],
  distance: ["Distance to controls", "Energy distance between the cells of a perturbation and controls: 0 if they cannot be told apart, in standard deviations of cells. Its q-value comes from shuffled labels."],
  consistency: ["Guides agree", "Guide consistency: whether guides of one gene are more alike than guides of different genes (mean cosine, tested with shuffled guides)."],
  others: ["Like the others", "Cosine between the profile of a guide and the mean of the other guides of its gene."],
  efficacy: ["Efficacy", "Share of the full effect that a guide reaches, and the chance that it does nothing (is dead), by a model of all guides (tl.guide_model)."],
  sd: ["SD", "Standard deviations. Differences are means of cells minus that of controls, in standard deviations of the controls, or of all cells where the controls are all alike."],
  log2: ["log2", "Expression is log2(1 + normalised counts), and differences are those of its mean: 1 is about a doubling in well-measured genes, less in genes with few counts."],
  p: ["p", "Chance of a difference as large if there were none, of one test on its own (Welch's t-test over cells)."],
  q: ["q", "p-value corrected for the number of tests that belong together, such as all genes of a perturbation, or all perturbations in a measure (Benjamini-Hochberg): of findings with q below 0.05 about 5 % are expected to be false. Cells of one well are not independent, so q of cells is optimistic."],
  expected: ["Expected, times", "Cells there would be if the chosen ones had been drawn at random from their modality, and how many times as many there are."],
  dimension: ["Dimension", "One unit of a sparse autoencoder (SAE), a network that splits the embedding into separate patterns; few are active in a cell."],
  activation: ["Activation", "How much of a dimension is in a cell; 0 if it is not active."],
  correlation: ["Correlation", "Of the activation with the feature or gene over cells, from −1 to 1. Of gene sets: how many times as many of the correlated genes are in the set as expected."],
  multimodal: ["Multimodal", "A dimension that is active in a medium share of the cells of every modality."],
  known: ["Known pair", "Two perturbations that are known to act together, from a table such as complexes or pathways."],
  tpr: ["Known pairs found", "True-positive rate: share of the known pairs among the most alike pairs, at a given false-positive rate."],
  fpr: ["False positives", "False-positive rate: share of the pairs that are not known and are called alike."],
  auc: ["Area under the ROC curve", "Chance that a known pair is more alike than another pair: 0.5 is guessing, 1 perfect."],
  precision: ["Average precision", "How far up known pairs stand in the list of pairs ordered by likeness; guessing gives the share of known pairs."],
  truth: ["Known truth", "Columns whose name starts with “true”: what a simulation put in. A real screen does not have them."],
  crops: ["Choice of crops", "A montage shows crops at even steps through the chosen cells, in the order of the file. None is picked by looks."],
};

// A word that explains itself.
function term(key, text = WORDS[key][0]) {
  const meaning = WORDS[key][1];
  return h("button", { type: "button", class: "term", title: meaning, onclick: () => toast(`${WORDS[key][0]}: ${meaning}`) }, text);
}

const glossary = () => h("dl", { id: "words" }, Object.values(WORDS).map(([word, meaning]) => [h("dt", {}, word), h("dd", {}, meaning)]));
