"""The HTML of a report: one file that needs nothing else."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light; --ink: #1d2433; --soft: #667085; --line: #e3e6ec; --up: #c4532f; --down: #2f6fb0; }
* { box-sizing: border-box; }
body { margin: 0; font: 14px/1.45 system-ui, sans-serif; color: var(--ink); background: #f6f7f9; }
header { position: sticky; top: 0; z-index: 1; background: #fff; border-bottom: 1px solid var(--line);
  padding: 12px 20px; display: flex; flex-wrap: wrap; gap: 8px 16px; align-items: center; }
h1 { font-size: 17px; margin: 0; }
h2 { font-size: 15px; margin: 0; }
h3 { font-size: 12px; margin: 10px 0 3px; color: var(--soft); font-weight: 600; }
input[type=search] { flex: 1 1 240px; padding: 7px 10px; font: inherit; border: 1px solid #b9c0cc; border-radius: 6px; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr)); gap: 14px;
  padding: 16px 20px; }
article { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px;
  content-visibility: auto; contain-intrinsic-size: auto 620px; }
article[hidden] { display: none; }
.soft, .none { color: var(--soft); }
.crops { display: grid; grid-template-columns: auto 1fr; gap: 4px 8px; align-items: center; margin-top: 8px; }
.crops img { width: 100%; image-rendering: pixelated; border-radius: 3px; display: block; }
.legend span { margin-right: 10px; white-space: nowrap; }
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 4px; }
table { border-collapse: collapse; width: 100%; font-size: 12.5px; }
td { padding: 1px 6px 1px 0; overflow-wrap: anywhere; }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; width: 1%; }
td.bar { width: 26%; }
.bar div { height: 8px; border-radius: 2px; background: var(--up); }
.bar div.down { background: var(--down); }
.bar .m0, i.m0 { background: #0173b2; } .bar .m1, i.m1 { background: #de8f05; } .bar .m2, i.m2 { background: #029e73; }
tr.weak { opacity: .45; }
"""

SCRIPT = """
const cards = [...document.querySelectorAll("article")];
const search = document.getElementById("search"), both = document.getElementById("multimodal");
const plain = text => text.toLowerCase().replace(/[\\s_\\-]+/g, " ");
function update() {
  const words = plain(search.value).trim().split(" ");
  let shown = 0;
  for (const card of cards) {
    const text = card.dataset.text;
    const isHit = words.every(word => text.includes(word)) && !(both && both.checked && !card.dataset.multimodal);
    card.hidden = !isHit;
    shown += isHit;
  }
  document.getElementById("count").textContent = shown + " of " + cards.length + " dimensions";
}
search.addEventListener("input", update);
if (both) both.addEventListener("change", update);
update();
"""

HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<input type="search" id="search" aria-label="Search"
  placeholder="Search genes, gene sets, image features, perturbations">
{multimodal}<span class="soft" id="count" aria-live="polite"></span>
<div class="legend soft">{legend}</div>
</header>
<main>
"""

MULTIMODAL = '<label><input type="checkbox" id="multimodal"> multimodal only</label>\n'

FOOT = """</main>
<script>{script}</script>
</body>
</html>
"""
