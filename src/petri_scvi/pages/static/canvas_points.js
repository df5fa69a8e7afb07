// Points painted by the processor: where there is no WebGL, or only one that the processor imitates, which is slower.
function canvasPainter(host) {
  const canvas = h("canvas", { class: "points", "aria-hidden": "true" });
  host.prepend(canvas);
  const context = canvas.getContext("2d", { alpha: false });
  let x, y, codes, colours, order, width = 0, height = 0, pixels = null, words = null, discs = [];
  const FEW = 15000;

  function packedColour(hex) {
    const [r, g, b] = rgb(hex);
    return (255 << 24) | (b << 16) | (g << 8) | r;
  }

  function disc(hex, size) {
    const mark = new OffscreenCanvas(Math.ceil(size) + 2, Math.ceil(size) + 2), pen = mark.getContext("2d");
    pen.fillStyle = hex;
    pen.beginPath();
    pen.arc(mark.width / 2, mark.height / 2, size / 2, 0, 7);
    pen.fill();
    return mark;
  }

  function paintFew(view, size) {
    context.fillStyle = css("--map");
    context.fillRect(0, 0, width, height);
    discs = colours.map(colour => disc(colour, size));
    for (const i of order) {
      const px = width / 2 + (x[i] - view.x) * view.k, py = height / 2 - (y[i] - view.y) * view.k;
      if (px < -9 || py < -9 || px > width + 9 || py > height + 9) continue;
      const mark = discs[codes[i]];
      context.drawImage(mark, px - mark.width / 2, py - mark.height / 2);
    }
  }

  function paintMany(view, size) {
    const side = Math.max(1, Math.round(size)), half = side >> 1;
    words.fill(packedColour(css("--map")));
    const table = Uint32Array.from(colours, packedColour);
    for (let j = 0; j < order.length; j++) {
      const i = order[j];
      const px = (width / 2 + (x[i] - view.x) * view.k - half) | 0, py = (height / 2 - (y[i] - view.y) * view.k - half) | 0;
      if (px < 0 || py < 0 || px + side >= width || py + side >= height) continue;
      const colour = table[codes[i]];
      const skipped = side > 3 ? 1 : 0;
      for (let row = 0; row < side; row++) {
        const inset = skipped && (row === 0 || row === side - 1) ? 1 : 0;
        const start = (py + row) * width + px;
        for (let at = start + inset; at < start + side - inset; at++) words[at] = colour;
      }
    }
    context.putImageData(pixels, 0, 0);
  }

  return {
    kind: "canvas",
    points(newX, newY) { x = newX; y = newY; },
    colour(newCodes, newColours, newOrder) { codes = newCodes; colours = newColours; order = newOrder; },
    resize(w, hgt, ratio) {
      width = Math.max(1, Math.round(w * ratio));
      height = Math.max(1, Math.round(hgt * ratio));
      canvas.width = width;
      canvas.height = height;
      pixels = context.createImageData(width, height);
      words = new Uint32Array(pixels.data.buffer);
    },
    paint(view, size, ratio) {
      if (!codes) return;
      const scaled = { x: view.x, y: view.y, k: view.k * ratio };
      if (x.length <= FEW) paintFew(scaled, size * ratio);
      else paintMany(scaled, size * ratio);
    },
    destroy() { canvas.remove(); },
  };
}
