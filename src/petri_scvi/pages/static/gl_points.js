// Points painted by the graphics card, with regl-scatterplot. It only draws: points_map.js moves the view for both
// painters, so that mouse, touch and keyboard do the same with and without WebGL.
const SOFTWARE = /swiftshader|llvmpipe|softpipe|software|basic render/i;

function whyNoGraphics() {
  if (typeof Scatterplot === "undefined") return "missing";
  const gl = document.createElement("canvas").getContext("webgl");
  if (!gl) return "missing";
  const details = gl.getExtension("WEBGL_debug_renderer_info");
  const name = String(gl.getParameter(details ? details.UNMASKED_RENDERER_WEBGL : gl.RENDERER));
  const needed = ["OES_texture_float", "OES_element_index_uint", "WEBGL_color_buffer_float", "EXT_float_blend"];
  const isComplete = needed.every(extension => gl.getExtension(extension));
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  if (!isComplete) return "missing";
  return SOFTWARE.test(name) ? "software" : "";
}

function glPainter(host, onlost) {
  const canvas = h("canvas", { class: "points", "aria-hidden": "true" });
  host.prepend(canvas);
  let plot = null, renderer = null, x, y, size = 0, width = 0, height = 0, index = null, drawn = false;

  function start() {
    renderer = Scatterplot.createRenderer();
    renderer.canvas.addEventListener("webglcontextlost", event => { event.preventDefault(); onlost(); });
    plot = Scatterplot.default({
      canvas, renderer, width, height, cameraIsFixed: true, actionKeyMap: {}, spatialIndexUseWorker: false,
      pointScaleMode: "constant", deselectOnDblClick: false, deselectOnEscape: false, opacity: 0.85,
    });
  }

  return {
    kind: "gl",
    points(newX, newY) { x = newX; y = newY; index = null; },
    colour(codes, colours, order) {
      if (!plot) start();
      plot.set({ pointColor: colours.map(colour => colour), colorBy: "z" });
      const options = { zDataType: "categorical", preventFilterReset: true };
      if (index) options.spatialIndex = index;
      plot.set({ pointOrder: Array.from(order) });
      drawn = plot.draw({ x, y, z: Float32Array.from(codes) }, options).then(() => { index = plot.get("spatialIndex"); });
    },
    resize(w, hgt) {
      width = Math.max(1, w);
      height = Math.max(1, hgt);
      if (plot) plot.set({ width, height });
    },
    paint(view, newSize) {
      if (!plot) return;
      if (Math.abs(newSize - size) > 0.05 * size) plot.set({ pointSize: size = newSize });
      const zoom = view.k / (height / 2);
      plot.set({ cameraView: new Float32Array([zoom, 0, 0, 0, 0, zoom, 0, 0, 0, 0, 1, 0, -zoom * view.x, -zoom * view.y, 0, 1]) });
    },
    whenDrawn: () => drawn,
    destroy() {
      try { plot?.destroy(); renderer?.destroy(); } catch { /* the context is gone */ }
      canvas.remove();
    },
  };
}
