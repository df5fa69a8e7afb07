// Cells on a map that can be moved, zoomed, pointed at and circled with mouse, finger, pen or keys.
function pointsMap(host, x, y, events) {
  const n = x.length;
  const view = { x: 0, y: 0, zoom: 1, k: 1 };
  let width = 1, height = 1, mode = "pan", circled = [], colourArguments = null, wanted = false;
  const overlay = s("svg", { class: "overlay", "aria-hidden": "true" });
  const outline = s("polygon", { class: "lasso" }), ring = s("circle", { class: "ring", r: 7, visibility: "hidden" });
  const cross = s("path", { class: "cross", d: "M-9 0H9M0 -9V9" });
  overlay.append(outline, ring, cross);
  host.append(overlay);
  host.tabIndex = 0;

  const forced = new URLSearchParams(location.hash.slice(1)).get("painter");
  const missing = forced === "gl" ? "" : forced === "canvas" ? "missing" : whyNoGraphics();
  let painter = missing ? canvasPainter(host) : glPainter(host, fallBack);
  painter.points(x, y);

  function fallBack() {
    painter.destroy();
    painter = canvasPainter(host);
    painter.points(x, y);
    painter.resize(width, height, devicePixelRatio || 1);
    if (colourArguments) painter.colour(...colourArguments);
    events.painter(painter.kind, "lost");
    repaint();
  }

  // Cells by square of a grid: finds the one under the pointer.
  const SIDE = 256, starts = new Uint32Array(SIDE * SIDE + 1), sorted = new Uint32Array(n);
  const squareOf = value => Math.min(SIDE - 1, Math.max(0, Math.floor(((value + 1) / 2) * SIDE)));
  for (let i = 0; i < n; i++) starts[squareOf(y[i]) * SIDE + squareOf(x[i]) + 1]++;
  for (let i = 0; i < SIDE * SIDE; i++) starts[i + 1] += starts[i];
  const next = starts.slice();
  for (let i = 0; i < n; i++) sorted[next[squareOf(y[i]) * SIDE + squareOf(x[i])]++] = i;

  function nearest(px, py, reach) {
    const [cx, cy] = toData(px, py), far = reach / view.k;
    let best = -1, least = far * far;
    for (let row = squareOf(cy - far); row <= squareOf(cy + far); row++) {
      for (let column = squareOf(cx - far); column <= squareOf(cx + far); column++) {
        const square = row * SIDE + column;
        for (let j = starts[square]; j < starts[square + 1]; j++) {
          const i = sorted[j], distance = (x[i] - cx) ** 2 + (y[i] - cy) ** 2;
          if (distance < least) { least = distance; best = i; }
        }
      }
    }
    return best;
  }

  const toScreen = i => [width / 2 + (x[i] - view.x) * view.k, height / 2 - (y[i] - view.y) * view.k];
  const toData = (px, py) => [view.x + (px - width / 2) / view.k, view.y - (py - height / 2) / view.k];
  const pointSize = () => Math.min(14, Math.max(1.6, 1.5 * Math.sqrt((width * height) / n) ** 0.55) * view.zoom ** 0.35);

  let frames = 0;
  function repaint() {
    if (wanted) return;
    wanted = true;
    requestAnimationFrame(() => {
      wanted = false;
      frames++;
      view.k = (Math.min(width, height) / 2) * 0.94 * view.zoom;
      painter.paint(view, pointSize(), devicePixelRatio || 1);
      placeMarks();
    });
  }

  let ringed = -1;
  function placeMarks() {
    const place = ringed >= 0 ? toScreen(ringed) : [0, 0];
    ring.setAttribute("visibility", ringed >= 0 ? "visible" : "hidden");
    ring.setAttribute("cx", place[0]);
    ring.setAttribute("cy", place[1]);
    ring.setAttribute("r", pointSize() / 2 + 4);
    cross.setAttribute("transform", `translate(${width / 2} ${height / 2})`);
    outline.setAttribute("points", circled.map(([cx, cy]) =>
      `${width / 2 + (cx - view.x) * view.k},${height / 2 - (cy - view.y) * view.k}`).join(" "));
  }

  function moveTo(newX, newY, zoom, isDone = true) {
    view.zoom = Math.min(400, Math.max(0.5, zoom));
    view.x = Math.min(1.5, Math.max(-1.5, newX));
    view.y = Math.min(1.5, Math.max(-1.5, newY));
    repaint();
    if (isDone) events.moved();
  }

  function zoomAt(px, py, factor) {
    const [cx, cy] = toData(px, py), zoom = Math.min(400, Math.max(0.5, view.zoom * factor));
    const share = view.zoom / zoom;
    moveTo(cx + (view.x - cx) * share, cy + (view.y - cy) * share, zoom);
  }

  // Pointers: one moves or circles, two zoom.
  const pointers = new Map();
  let start = null, isMoved = false;
  const placeOf = event => {
    const box = host.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  overlay.addEventListener("pointerdown", event => {
    if (event.button > 0) return;
    try { overlay.setPointerCapture(event.pointerId); } catch { /* a pointer of a test */ }
    const place = placeOf(event);
    pointers.set(event.pointerId, place);
    isMoved = false;
    const isCircle = pointers.size === 1 && (mode === "lasso" || event.shiftKey);
    start = { view: { ...view }, place, isCircle, distance: 0 };
    if (isCircle) circled = [toData(...place)];
    if (pointers.size === 2) {
      const [a, b] = [...pointers.values()];
      start = { view: { ...view }, place: [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2], isCircle: false,
        distance: Math.hypot(a[0] - b[0], a[1] - b[1]) };
    }
    events.hover(-1);
  });
  overlay.addEventListener("pointermove", event => {
    const place = placeOf(event);
    if (!pointers.has(event.pointerId)) {
      hoverAt(place);
      return;
    }
    pointers.set(event.pointerId, place);
    const [dx, dy] = [place[0] - start.place[0], place[1] - start.place[1]];
    if (Math.hypot(dx, dy) > 4) isMoved = true;
    if (pointers.size === 2) {
      isMoved = true;
      const [a, b] = [...pointers.values()];
      const middle = [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
      const zoom = start.view.zoom * (Math.hypot(a[0] - b[0], a[1] - b[1]) / Math.max(1, start.distance));
      const k = (start.view.k * zoom) / start.view.zoom;
      const anchor = [start.view.x + (start.place[0] - width / 2) / start.view.k,
        start.view.y - (start.place[1] - height / 2) / start.view.k];
      moveTo(anchor[0] - (middle[0] - width / 2) / k, anchor[1] + (middle[1] - height / 2) / k, zoom, false);
    } else if (start.isCircle) {
      const last = circled[circled.length - 1], [cx, cy] = toData(...place);
      if (Math.hypot(cx - last[0], cy - last[1]) * view.k > 3) circled.push([cx, cy]);
      placeMarks();
    } else if (isMoved) moveTo(start.view.x - dx / view.k, start.view.y + dy / view.k, view.zoom, false);
  });
  const release = event => {
    if (!pointers.has(event.pointerId)) return;
    const place = placeOf(event);
    pointers.delete(event.pointerId);
    if (pointers.size) {
      const [rest] = pointers.values();
      start = { view: { ...view }, place: rest, isCircle: false, distance: 0 };
      return;
    }
    if (event.type === "pointercancel") circled = [];
    else if (start.isCircle && isMoved && circled.length > 2) events.circled(circled.map(point => [...point]));
    else if (!isMoved) {
      circled = [];
      events.click(nearest(...place, event.pointerType === "mouse" ? 10 : 22));
    } else events.moved();
    placeMarks();
  };
  overlay.addEventListener("pointerup", release);
  overlay.addEventListener("pointercancel", release);
  overlay.addEventListener("pointerleave", () => events.hover(-1));
  overlay.addEventListener("wheel", event => {
    event.preventDefault();
    zoomAt(...placeOf(event), Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)));
  }, { passive: false });
  let hoverWanted = null;
  function hoverAt(place) {
    if (!hoverWanted) requestAnimationFrame(() => { events.hover(nearest(...hoverWanted, 10)); hoverWanted = null; });
    hoverWanted = place;
  }

  host.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== host) return;
    const step = 60 / view.k;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (moves[event.key]) moveTo(view.x + moves[event.key][0], view.y + moves[event.key][1], view.zoom);
    else if (event.key === "+" || event.key === "=") zoomAt(width / 2, height / 2, 1.4);
    else if (event.key === "-") zoomAt(width / 2, height / 2, 1 / 1.4);
    else if (event.key === "0") moveTo(0, 0, 1);
    else if (event.key === "Enter") events.click(nearest(width / 2, height / 2, 60));
    else return;
    event.preventDefault();
  });

  function measure() {
    const box = host.getBoundingClientRect();
    if (!box.width || !box.height) return;
    [width, height] = [box.width, box.height];
    overlay.setAttribute("viewBox", `0 0 ${width} ${height}`);
    painter.resize(width, height, devicePixelRatio || 1);
    view.k = (Math.min(width, height) / 2) * 0.94 * view.zoom;
    repaint();
  }
  measure();
  new ResizeObserver(measure).observe(host);

  function inside(polygon) {
    const found = [];
    for (let i = 0; i < n; i++) {
      let isIn = false;
      for (let a = 0, b = polygon.length - 1; a < polygon.length; b = a++) {
        const [ax, ay] = polygon[a], [bx, by] = polygon[b];
        if (ay > y[i] !== by > y[i] && x[i] < ((bx - ax) * (y[i] - ay)) / (by - ay) + ax) isIn = !isIn;
      }
      if (isIn) found.push(i);
    }
    return Uint32Array.from(found);
  }

  return {
    missing, inside, toScreen, repaint, moveTo, zoomAt, view,
    get painter() { return painter.kind; },
    get frames() { return frames; },
    colour(...given) { colourArguments = given; painter.colour(...given); repaint(); },
    setMode(newMode) { mode = newMode; host.dataset.mode = newMode; },
    showOutline(polygon) { circled = polygon; placeMarks(); },
    ring(i) { ringed = i; placeMarks(); },
    centre: () => [width / 2, height / 2],
    zoomTo(cells) {
      if (!cells.length) return;
      const xs = Float64Array.from(cells, i => x[i]).sort(), ys = Float64Array.from(cells, i => y[i]).sort();
      const at = (values, q) => values[Math.floor(q * (values.length - 1))];
      const [x0, x1, y0, y1] = [at(xs, 0.02), at(xs, 0.98), at(ys, 0.02), at(ys, 0.98)];
      moveTo((x0 + x1) / 2, (y0 + y1) / 2, Math.min(20, 1.5 / Math.max(0.05, x1 - x0, y1 - y0)));
    },
  };
}
