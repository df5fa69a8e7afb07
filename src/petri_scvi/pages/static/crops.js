// Image crops, cut out of sprite sheets: one grey picture per sheet and channel, coloured here.
const crops = meta.crops;
const MAX_SHEETS = 160;

const slotOfCell = once(async () => {
  const slots = new Int32Array(meta.cells ? meta.cells.n : crops.n).fill(-1);
  (await array(crops.cells, Uint32Array)).forEach((cell, slot) => { slots[cell] = slot; });
  return slots;
});
const cellsOfSlots = () => array(crops.cells, Uint32Array);

const sheets = new Map();
function sheet(number, channel) {
  const name = `s${number}c${channel}`;
  if (sheets.has(name)) {
    const found = sheets.get(name);
    sheets.delete(name);
    sheets.set(name, found);
    return found;
  }
  const reading = decode(name);
  sheets.set(name, reading);
  if (sheets.size > MAX_SHEETS) sheets.delete(sheets.keys().next().value);
  return reading;
}

async function decode(name) {
  const blob = new Blob([bytesOf(await packed(name))], { type: crops.type });
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const pixels = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
  const grey = new Uint8Array(bitmap.width * bitmap.height);
  for (let i = 0; i < grey.length; i++) grey[i] = pixels[4 * i];
  bitmap.close();
  return { grey, width: canvas.width };
}

const channelsShown = () => crops.channels.map((_, i) => i).filter(i => !(state.off || []).includes(String(i)));
const brightness = () => Number(state.bright || 1);

// Add up the coloured channels of one crop.
async function paintCrop(canvas, slot) {
  const side = crops.size, per = crops.per_row * crops.per_row;
  const number = Math.floor(slot / per), place = slot % per;
  const x = (place % crops.per_row) * side, y = Math.floor(place / crops.per_row) * side;
  const sum = new Float32Array(3 * side * side);
  const channels = channelsShown();
  const planes = await Promise.all(channels.map(channel => sheet(number, channel)));
  planes.forEach(({ grey, width }, i) => {
    const { low, high, colour } = crops.channels[channels[i]], parts = rgb(colour);
    const scale = brightness() / Math.max(1, high - low);
    for (let row = 0; row < side; row++) {
      for (let column = 0; column < side; column++) {
        const level = (grey[(y + row) * width + x + column] - low) * scale;
        if (level <= 0) continue;
        const share = level > 1 ? 1 : level, at = 3 * (row * side + column);
        sum[at] += share * parts[0];
        sum[at + 1] += share * parts[1];
        sum[at + 2] += share * parts[2];
      }
    }
  });
  const image = new ImageData(side, side);
  for (let i = 0; i < side * side; i++) {
    image.data[4 * i] = sum[3 * i];
    image.data[4 * i + 1] = sum[3 * i + 1];
    image.data[4 * i + 2] = sum[3 * i + 2];
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  canvas.dataset.painted = `${channels.join()}x${brightness()}`;
}

// Crops on the page, painted once they come into view and again when channels change.
const inView = new IntersectionObserver(entries => {
  for (const { target, isIntersecting } of entries) {
    target.isInView = isIntersecting;
    if (isIntersecting) paintIfStale(target);
  }
}, { rootMargin: "100px" });

function paintIfStale(canvas) {
  if (canvas.isInView && canvas.dataset.painted !== `${channelsShown().join()}x${brightness()}`) {
    paintCrop(canvas, Number(canvas.dataset.slot));
  }
}

function cropCanvas(slot, label, attributes = {}) {
  const canvas = h("canvas", {
    class: "crop", width: crops.size, height: crops.size, "data-slot": slot, role: "img", "aria-label": label,
    ...attributes,
  });
  inView.observe(canvas);
  return canvas;
}

function repaintCrops() {
  for (const canvas of document.querySelectorAll("canvas.crop")) paintIfStale(canvas);
}

// Which of some cells have crops: up to n, spread over the cells.
async function slotsOf(cells, n) {
  const slots = await slotOfCell();
  const found = [];
  for (const cell of cells) if (slots[cell] >= 0) found.push(slots[cell]);
  if (found.length <= n) return { slots: found, total: found.length };
  const step = found.length / n;
  return { slots: Array.from({ length: n }, (_, i) => found[Math.floor(i * step)]), total: found.length };
}

async function montage(cells, n, onpick) {
  const { slots, total } = await slotsOf(cells, n);
  const cellOf = await cellsOfSlots(), names = meta.cells ? await cellNames() : null;
  const box = h("div", { class: "montage" }, slots.map(slot => {
    const name = names ? names[cellOf[slot]] : "";
    const canvas = cropCanvas(slot, `Cell ${name}`, { title: name });
    return onpick ? button(canvas, () => onpick(cellOf[slot]), { class: "plain", "aria-label": `Cell ${name}` }) : canvas;
  }));
  return { box, shown: slots.length, total, how: howChosen(slots.length, total) };
}

// How the crops of a montage were chosen.
const howChosen = (shown, total) => (shown === total ? `all ${total.toLocaleString("en")} on this page`
  : `${shown} of ${total.toLocaleString("en")} on this page, at even steps in the order of the file`);

// Switches of the channels: the same for all crops of the page.
function channelBar() {
  const bar = h("div", { class: "channels", role: "group", "aria-label": "Channels of the crops" });
  crops.channels.forEach((channel, i) => {
    const box = h("input", {
      type: "checkbox", onchange: () => {
        const off = new Set(state.off || []);
        if (box.checked) off.delete(String(i)); else off.add(String(i));
        update({ off: [...off].sort() });
      },
    });
    const only = button("only", () => {
      const others = crops.channels.map((_, j) => String(j)).filter(j => j !== String(i));
      update({ off: JSON.stringify(state.off) === JSON.stringify(others) ? [] : others });
    }, { class: "link", title: `Show ${spaced(channel.name)} only, or all again` });
    bar.append(h("span", { class: "channel" },
      h("label", {}, box, h("i", { class: "swatch", style: { background: channel.colour } }), spaced(channel.name)), only));
    box.checked = !(state.off || []).includes(String(i));
    onChange(changed => { if (changed.has("off")) box.checked = !(state.off || []).includes(String(i)); });
  });
  const level = h("output", {}), showLevel = () => { slider.value = brightness(); level.textContent = `${brightness().toFixed(1)}×`; };
  const slider = h("input", {
    type: "range", min: 0.3, max: 3, step: 0.1, value: brightness(), "aria-label": "Brightness of all crops",
    oninput: () => update({ bright: slider.value === "1" ? "" : slider.value }),
  });
  bar.append(h("label", { class: "bright" }, "Brightness", slider, level));
  showLevel();
  onChange(changed => { if (changed.has("bright")) showLevel(); });
  return bar;
}
if (crops) onChange(changed => { if (changed.has("off") || changed.has("bright")) repaintCrops(); });
