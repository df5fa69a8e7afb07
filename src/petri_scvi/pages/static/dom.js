// Elements. Text only ever becomes text nodes and attributes, so names from the data cannot become HTML.
const $ = id => document.getElementById(id);

function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

const svgSpace = $("svg-space").namespaceURI;
function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(svgSpace, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter(child => child !== null && child !== undefined && child !== false));
  return element;
}

function show(element, ...children) {
  element.replaceChildren(...children.flat(3).filter(child => child !== null && child !== undefined && child !== false));
  return element;
}

function button(label, onclick, attributes = {}) {
  return h("button", { type: "button", onclick, ...attributes }, label);
}

const count = (n, one, many = one + "s") => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
const spaced = name => String(name).replace(/_+/g, " ");

function number(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return value.toLocaleString("en");
  const size = Math.abs(value);
  return (size && (size < 1e-3 || size >= 1e6) ? value.toExponential(1) : String(Number(value.toPrecision(digits))))
    .replace("-", "−");
}

const fixed = value => value.toFixed(2).replace("-", "−");

const signed = (value, digits = 2) => (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(digits);

function qText(q) {
  if (q === null || q === undefined || Number.isNaN(q)) return "not tested";
  return q < 0.001 ? "q < 0.001" : `q ${q.toFixed(q < 0.1 ? 3 : 2)}`;
}

// Without the letter, below a heading that has it.
const qBare = q => qText(q).replace(/^q /, "");

const pText = p => (Number.isNaN(p) ? "not tested" : p < 0.001 ? "p < 0.001" : `p ${p.toFixed(p < 0.1 ? 3 : 2)}`);

function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

// What appears beside the pointer. Content that is still being made when it closes is not shown.
let tipTurn = 0;
function closeTip() {
  tipTurn++;
  $("tip").hidden = true;
}

let toastTimer = 0;
function toast(text) {
  $("toast").textContent = text;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $("toast").textContent = ""; }, Math.max(4000, 70 * text.length));
}

function once(make) {
  let made;
  return () => (made === undefined ? (made = make()) : made);
}
