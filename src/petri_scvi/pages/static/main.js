// Start: tabs, theme, search, and the view that the address asks for.
const TITLES = { cells: "Cells", perturbations: "Perturbations", dimensions: "Dimensions", scores: "Scores", about: "About" };
const BUILD = { cells: buildCells, perturbations: buildPerturbations, dimensions: buildDimensions, scores: buildScores, about: buildAbout };
const built = new Map();
const hasView = name => meta.views.includes(name);

function showView() {
  const name = hasView(state.view) ? state.view : meta.views[0];
  for (const view of document.querySelectorAll(".view")) view.hidden = view.id !== `view-${name}`;
  for (const tab of $("tabs").children) {
    const isOn = tab.dataset.view === name;
    tab.setAttribute("aria-selected", isOn);
    tab.tabIndex = isOn ? 0 : -1;
  }
  closeTip();
  $("toast").textContent = "";
  if (!built.has(name)) {
    built.set(name, Promise.resolve(BUILD[name]($(`view-${name}`))).then(() => {
      document.body.dataset.ready = [...(document.body.dataset.ready || "").split(" ").filter(Boolean), name].join(" ");
    }));
  }
}

// Esc: what lies over the page closes, and nothing is chosen. A box with a text of its own loses the text first.
function chooseNothing(event) {
  const field = event.target;
  if (field.matches?.("input[type=search], textarea") && field.value && field.getAttribute("role") !== "combobox") return;
  closeTip();
  $("toast").textContent = "";
  const keys = { cells: ["lasso", "group", "cell"], perturbations: ["pert"] }[state.view] || [];
  const chosen = keys.filter(key => state[key]);
  if (chosen.length) update(Object.fromEntries(chosen.map(key => [key, ""])), { push: true });
  event.preventDefault();
}

function setTheme(name, isKept) {
  document.documentElement.dataset.theme = name;
  $("theme").textContent = name === "dark" ? "☀" : "☾";
  if (isKept) for (const listener of listeners) listener(new Set(["theme"]));
}

function start() {
  Object.assign(defaults, { view: meta.views[0] }, meta.start);
  Object.assign(state, defaults, readFragment());
  $("starting").remove();
  setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  $("theme").addEventListener("click", () => setTheme(isDark() ? "light" : "dark", true));
  for (const name of meta.views) {
    $("tabs").append(button(TITLES[name], () => update({ view: name }, { push: true }), { role: "tab", "data-view": name, "aria-controls": `view-${name}` }));
  }
  if (meta.views.length < 2) $("tabs").hidden = true;
  $("tabs").addEventListener("keydown", event => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const tabs = [...$("tabs").children], at = tabs.findIndex(tab => tab.tabIndex === 0);
    const tab = tabs[(at + step + tabs.length) % tabs.length];
    tab.focus();
    tab.click();
  });
  if (meta.cells) $("search-box").append(globalSearch());
  $("copy-link").hidden = parent !== window;
  $("copy-link").addEventListener("click", async () => {
    clearTimeout(writeTimer);
    written = fragment();
    try { history.replaceState(null, "", written); } catch { /* inside a frame */ }
    try { await navigator.clipboard.writeText(location.href); toast("The address of this view is in the clipboard"); }
    catch { toast("Copy the address from the address bar: it shows this view"); }
  });
  document.addEventListener("keydown", event => {
    if (event.key === "Escape") chooseNothing(event);
    if (event.key === "/" && !/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName)) {
      event.preventDefault();
      document.querySelector("#search-box input")?.focus();
    }
  });
  onChange(changed => { if (changed.has("view")) showView(); });
  showView();
}

if (typeof DecompressionStream === "undefined") {
  $("starting").textContent = "This browser is too old for this page. Please open it in a current Chrome, Edge, Firefox or Safari.";
} else start();
