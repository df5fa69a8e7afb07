// Names beside points, so that none lies on another name or point; names that find no place are left out.
const LABEL_HEIGHT = 15;

const labelPen = once(() => {
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  return pen;
});

// `points` have x, y, r and text, the most important first; returns the left end and middle of each name, or null.
function placeLabels(points, obstacles, width, height) {
  const boxes = obstacles.map(({ x, y, r }) => [x - r, y - r, x + r, y + r]);
  const isFree = box => box[0] >= 0 && box[1] >= 0 && box[2] <= width && box[3] <= height
    && !boxes.some(other => box[0] < other[2] && box[2] > other[0] && box[1] < other[3] && box[3] > other[1]);
  return points.map(({ x, y, r, text }) => {
    const wide = labelPen().measureText(text).width + 2, half = LABEL_HEIGHT / 2, gap = r + 3;
    const tried = [[x + gap, y], [x - gap - wide, y], [x - wide / 2, y - gap - half], [x - wide / 2, y + gap + half],
      [x + 0.7 * gap, y - gap], [x + 0.7 * gap, y + gap], [x - 0.7 * gap - wide, y - gap], [x - 0.7 * gap - wide, y + gap]];
    for (const [left, middle] of tried) {
      const box = [left, middle - half, left + wide, middle + half];
      if (!isFree(box)) continue;
      boxes.push(box);
      return { x: left, y: middle };
    }
    return null;
  });
}
