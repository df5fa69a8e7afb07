// The numbers of the page: each array is an element with compressed text, read when it is first needed.
const meta = JSON.parse($("meta").textContent);
const whole = new Promise(resolve => {
  if (document.readyState !== "loading") resolve();
  else document.addEventListener("DOMContentLoaded", resolve, { once: true });
});

async function packed(name) {
  if (!$(name)) await whole;
  return $(name).textContent;
}

function bytesOf(text) {
  const binary = atob(text), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

async function inflated(name) {
  const stream = new Blob([bytesOf(await packed(name))]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

const arrays = new Map();
function array(name, Type) {
  if (!arrays.has(name)) arrays.set(name, inflated(name).then(buffer => new Type(buffer)));
  return arrays.get(name);
}

async function words(name) {
  if (!arrays.has(name)) arrays.set(name, inflated(name).then(buffer => JSON.parse(new TextDecoder().decode(buffer))));
  return arrays.get(name);
}

const columnOf = new Map((meta.columns || []).map(column => [column.id, column]));
const MISSING = 255;

const codesOf = column => array(column.data, column.type === "u2" ? Uint16Array : Uint8Array);
const missingCode = column => (column.type === "u2" ? 65535 : MISSING);

// Positions of the cells of each category.
const membersRead = new Map();
async function membersOf(column) {
  if (!membersRead.has(column.id)) {
    const codes = await codesOf(column), n = column.categories.length;
    const starts = new Uint32Array(n + 1);
    for (const code of codes) if (code < n) starts[code + 1]++;
    for (let i = 0; i < n; i++) starts[i + 1] += starts[i];
    const next = starts.slice(), cells = new Uint32Array(starts[n]);
    for (let i = 0; i < codes.length; i++) if (codes[i] < n) cells[next[codes[i]]++] = i;
    membersRead.set(column.id, column.categories.map((_, i) => cells.subarray(starts[i], starts[i + 1])));
  }
  return membersRead.get(column.id);
}

const cellNames = () => words(meta.cells.names);
const GROUPS = { obs: "Annotation", gene: "Gene", feature: "Measured feature", dim: "Dimension" };
const kindOf = column => (column.is_truth ? "Known truth" : column.channel !== undefined ? "Measured in the crops" : GROUPS[column.group]);
// Genes are compared in log2, everything else in standard deviations.
const unitOf = column => (column.group === "gene" ? "log2" : "SD");
const titleOf = column =>
  (column.group === "dim" ? `Dimension ${column.label}` : column.group === "gene" ? column.label : spaced(column.label));
