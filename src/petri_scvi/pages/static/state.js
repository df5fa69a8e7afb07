// What is shown, kept in the address after "#", so that a link shows the same.
const KEYS = {
  view: "text", color: "text", picked: "list", group: "text", lasso: "text", camera: "text", cell: "text",
  pert: "text", layout: "text", space: "text", measure: "text", sort: "text", dim: "text", find: "text", multi: "text", metric: "text",
  off: "list", bright: "text",
};
const state = {};
const listeners = [];
let written = "";

function readFragment() {
  const found = {};
  for (const [key, value] of new URLSearchParams(location.hash.slice(1))) {
    if (key in KEYS) found[key] = KEYS[key] === "list" ? value.split("\u001f") : value;
  }
  return found;
}

function fragment() {
  const kept = new URLSearchParams();
  for (const [key, kind] of Object.entries(KEYS)) {
    const value = state[key];
    if (value === undefined || value === "" || value === null || (kind === "list" && !value.length)) continue;
    kept.set(key, kind === "list" ? value.join("\u001f") : value);
  }
  return "#" + kept.toString();
}

let writeTimer = 0;
function writeFragment() {
  clearTimeout(writeTimer);
  writeTimer = setTimeout(() => {
    written = fragment();
    try {
      if (location.hash !== written) history.replaceState(null, "", written);
    } catch { /* pages inside a frame may not have an address */ }
  }, 150);
}

// Change what is shown; whoever listens is told which keys changed.
function update(changes, { push = false } = {}) {
  const changed = new Set();
  for (const [key, value] of Object.entries(changes)) {
    if (JSON.stringify(state[key]) !== JSON.stringify(value)) {
      changed.add(key);
      state[key] = value;
    }
  }
  if (!changed.size) return;
  if (push) {
    clearTimeout(writeTimer);
    written = fragment();
    try { history.pushState(null, "", written); } catch { /* as above */ }
  } else writeFragment();
  for (const listener of listeners) listener(changed);
}

const onChange = listener => listeners.push(listener);

function followAddress() {
  const found = readFragment();
  const changes = {};
  for (const key of Object.keys(KEYS)) changes[key] = found[key] ?? defaults[key];
  update(changes);
}
const defaults = {};
window.addEventListener("hashchange", () => { if (location.hash !== written) followAddress(); });
window.addEventListener("popstate", () => { if (location.hash !== written) followAddress(); });

// An address inside this page: what is shown now, with changes.
function linkTo(changes) {
  const kept = new URLSearchParams();
  for (const [key, value] of Object.entries(changes)) kept.set(key, KEYS[key] === "list" ? value.join("\u001f") : value);
  return "#" + kept.toString();
}
