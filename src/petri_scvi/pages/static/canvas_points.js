// Points painted by the processor: where there is no WebGL, or only one that the processor imitates, which is slower.
function canvasPainter(host) {
  const canvas = h("canvas", { class: "points", "aria-hidden": "true" });
  host.prepend(canvas);
  const context = canvas.getContext("2d", { alpha: false });
  let x, y, codes, colours, order, width = 0, height = 0, pixels = null, words = null;

  function packedColour(hex) {
    const [r, g, b] = rgb(hex);
    return (255 << 24) | (b << 16) | (g << 8) | r;
  }

  // Pixels of a disc: where each lies in the picture, and how much of it the disc covers.
  function disc(side) {
    const places = [], shares = [], middle = (side - 1) / 2;
    for (let row = 0; row < side; row++) {
      for (let column = 0; column < side; column++) {
        const share = side < 4 ? 1 : Math.min(1, side / 2 + 0.5 - Math.hypot(row - middle, column - middle));
        if (share < 0.1) continue;
        places.push(row * width + column);
        shares.push(share > 0.9 ? 1 : share);
      }
    }
    return { places: Int32Array.from(places), shares: Float32Array.from(shares) };
  }

  function mixed(under, over, share) {
    let found = 255 << 24;
    for (const shift of [0, 8, 16]) {
      const value = (under >> shift) & 255;
      found |= (value + (((over >> shift) & 255) - value) * share) << shift;
    }
    return found;
  }

  // Into an array of pixels, which is many times faster than a drawing call for each point.
  function paintPoints(view, size) {
    const side = Math.max(1, Math.round(size)), half = side >> 1, { places, shares } = disc(side);
    words.fill(packedColour(css("--map")));
    const table = Uint32Array.from(colours, packedColour);
    for (let j = 0; j < order.length; j++) {
      const i = order[j];
      const px = (width / 2 + (x[i] - view.x) * view.k - half) | 0, py = (height / 2 - (y[i] - view.y) * view.k - half) | 0;
      if (px < 0 || py < 0 || px + side >= width || py + side >= height) continue;
      const colour = table[codes[i]], start = py * width + px;
      for (let k = 0; k < places.length; k++) {
        const at = start + places[k];
        words[at] = shares[k] === 1 ? colour : mixed(words[at], colour, shares[k]);
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
      paintPoints(scaled, size * ratio);
    },
    destroy() { canvas.remove(); },
  };
}
