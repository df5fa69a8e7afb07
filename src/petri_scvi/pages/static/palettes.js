// Colours that are told apart without red-green vision; they come from petri_scvi.pl.
const isDark = () => document.documentElement.dataset.theme === "dark";
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function rgb(hex) {
  const value = parseInt(hex.slice(1), 16);
  return [(value >> 16) & 255, (value >> 8) & 255, value & 255];
}
const hexOf = parts => "#" + parts.map(part => Math.round(part).toString(16).padStart(2, "0")).join("");

function mixed(hex, other, share) {
  const a = rgb(hex), b = rgb(other);
  return hexOf(a.map((part, i) => part + share * (b[i] - part)));
}

const sequential = () => (isDark() ? meta.palettes.dark : meta.palettes.light);

// From -1, blue, over the colour of the page, or another, to 1, red.
const diverging = (value, middle = "--map") => mixed(css(middle), css(value < 0 ? "--down" : "--up"), Math.min(1, Math.abs(value)));

const MAX_COLOURED = 10;

// How the cells are coloured: a code per cell, a colour per code, and what the legend says.
async function colouring(column, picked) {
  const grey = css("--grey-point");
  if (column.kind === "number") {
    const codes = await codesOf(column), steps = sequential();
    const n = steps.length, found = new Uint8Array(codes.length);
    let low = 255, high = 0;
    for (const code of codes) if (code !== MISSING) { if (code < low) low = code; if (code > high) high = code; }
    const span = Math.max(1, high - low);
    for (let i = 0; i < codes.length; i++) {
      found[i] = codes[i] === MISSING ? n : Math.min(n - 1, Math.floor(((codes[i] - low) / span) * n));
    }
    const value = code => column.low + column.step * code;
    return { codes: found, colours: [...steps, grey], range: [value(Math.min(low, high)), value(high)], rank: null };
  }
  const codes = await codesOf(column), n = column.categories.length, none = missingCode(column);
  let shown = column.categories.map((_, i) => i);
  if (n > MAX_COLOURED) {
    shown = picked.map(name => column.categories.indexOf(name)).filter(i => i >= 0).slice(0, MAX_COLOURED);
  }
  const place = new Map(shown.map((code, i) => [code, i]));
  const colours = shown.map((code, i) => column.colours?.[code] ?? pickedColour(column, code, i));
  const found = new Uint8Array(codes.length);
  for (let i = 0; i < codes.length; i++) found[i] = codes[i] === none ? shown.length : place.get(codes[i]) ?? shown.length;
  return { codes: found, colours: [...colours, grey], shown, rank: shown.length };
}

// Controls are drawn in ink, other groups in colours; grey is kept for what is not picked.
function pickedColour(column, code, i) {
  if (column.id === meta.keys?.perturbation && meta.controls.includes(column.categories[code])) return css("--ink");
  const usable = column.categories.length > MAX_COLOURED ? meta.palettes.groups.filter(c => c !== "#949494") : meta.palettes.groups;
  return usable[i % usable.length];
}
