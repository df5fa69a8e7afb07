const cards = [...document.querySelectorAll("article")];
const search = document.getElementById("search"), both = document.getElementById("multimodal");
const plain = text => text.toLowerCase().replace(/[\s_\-]+/g, " ");
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
