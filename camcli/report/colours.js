// Draw raw maps in the colours of camcli's overlays.

const COLORMAPS = data.colormaps.map(({ layer, bar, strength }) => (
  { layer: decodeBase64(layer), bar: decodeBase64(bar), strength }
));
const decodedValues = new WeakMap();
document.documentElement.dataset.blend = data.blend;
for (const [name, share] of Object.entries(data.ground)) document.documentElement.style.setProperty(`--${name}`, share);

function decodeBase64(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

// The values of a map, row by row.
function valuesOf(map) {
  if (!decodedValues.has(map)) decodedValues.set(map, new Float32Array(decodeBase64(map.values).buffer));
  return decodedValues.get(map);
}

function colormapOf(result) {
  return COLORMAPS[result.signed ? 1 : 0];
}

// The value in full colour: the result's own, or else its maximum, of a signed map the absolute one.
function topOf({ top, signed, map }) {
  return top || Math.max(map.max, signed ? -map.min : 0) || 1;
}

// A function that scales values to [0, 1]: from 0 to the top, or for signed maps symmetric with
// zero at 0.5.
function scaling(result) {
  const top = topOf(result);
  if (!result.signed) return (value) => Math.max(value, 0) / top;
  return (value) => value / (2 * top) + 0.5;
}

// The columns and the rows of a map: their number, the centre of the first one and the distance to
// the next, as shares of the map's side. A map may be packed with several cells in one.
function linesOf({ map, cells }) {
  return [0, 1].map((axis) => {
    const [count, saved] = [map.shape[1 - axis], map.saved_shape[1 - axis]];
    const [start, step] = cells ? [cells[axis], cells[axis + 2]] : [0.5 / saved, 1 / saved];
    return { count, start: start + (saved / count - 1) / 2 * step, step: step * saved / count };
  });
}

// For each of `pixels` along a side: the two cells to interpolate between, and the weight of the
// second.
function interpolation(pixels, { count, start, step }) {
  const clamp = (cell) => Math.min(Math.max(cell, 0), count - 1);
  return Array.from({ length: pixels }, (_, i) => {
    const position = ((i + 0.5) / pixels - start) / step;
    const first = Math.floor(position);
    return [clamp(first), clamp(first + 1), position - first];
  });
}

// Draw a map over the whole of a canvas. Scaled values, not colours, are interpolated: as in
// camcli/render/smooth.py, or linearly in an even blend.
function drawMap(canvas, result) {
  const [across, down] = linesOf(result);
  const levels = Float32Array.from(valuesOf(result.map), scaling(result));
  const rows = enlargeRows(levels, down.count, interpolation(canvas.height, down));
  const columns = enlargeRows(transpose(rows, across.count), across.count, interpolation(canvas.width, across));
  const context = canvas.getContext("2d");
  const picture = context.createImageData(canvas.width, canvas.height);
  const { layer } = colormapOf(result);
  transpose(columns, canvas.height).forEach((level, pixel) => {
    if (!Number.isFinite(level)) return; // stays transparent
    const row = Math.min(255, Math.max(0, Math.round(255 * level)));
    for (let channel = 0; channel < 4; channel++) picture.data[4 * pixel + channel] = layer[4 * row + channel];
  });
  context.putImageData(picture, 0, 0);
}

function transpose(values, columns) {
  const rows = values.length / columns;
  return values.map((_, i) => values[(i % rows) * columns + Math.floor(i / rows)]);
}

// The `count` rows of values at places between them.
function enlargeRows(values, count, places) {
  const width = values.length / count;
  const slopes = data.blend === "even" ? null : slopesOf(values, width);
  const enlarged = new Float32Array(places.length * width);
  places.forEach(([first, second, t], place) => {
    const step = slopes ? t * t * (3 - 2 * t) : t;
    for (let column = 0; column < width; column++) {
      const [a, b] = [first * width + column, second * width + column];
      const bend = slopes ? slopes[a] * t * (1 - t) ** 2 - slopes[b] * t * t * (1 - t) : 0;
      enlarged[place * width + column] = values[a] + (values[b] - values[a]) * step + bend;
    }
  });
  return enlarged;
}

// The slopes of a monotone cubic through the rows: zero at extremes and at the ends.
function slopesOf(values, width) {
  return values.map((value, i) => {
    if (i < width || i >= values.length - width) return 0;
    const [before, after] = [value - values[i - width], values[i + width] - value];
    return before * after > 0 ? 2 * before * after / (before + after) : 0;
  });
}

// A bar of a map's colours, with the values at its ends and at zero.
function colourBar(result) {
  const { bar } = colormapOf(result);
  const stops = Array.from({ length: 52 }, (_, i) => `rgb(${bar.slice(15 * i, 15 * i + 3).join(" ")})`);
  const colours = create("div", { className: "colours" });
  colours.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
  const top = topOf(result);
  const values = (result.signed ? [-top, 0, top] : [0, top]).map((value) => String(Number(value.toPrecision(3))));
  const numbers = values.map((value) => create("span", { textContent: value.replace("-", "\u2212") }));
  return create("div", { className: "colour-bar" }, colours, create("p", {}, ...numbers));
}

// The cell of a map whose centre is next to a position, its value, and its left, top, width and
// height. Positions and sides are shares of the map's width and height.
function cellAt(result, x, y) {
  const [across, down] = linesOf(result);
  const nearest = ({ count, start, step }, at) => Math.min(Math.max(Math.round((at - start) / step), 0), count - 1);
  const [column, row] = [nearest(across, x), nearest(down, y)];
  const [left, top] = [[across, column], [down, row]].map(([line, i]) => line.start + (i - 0.5) * line.step);
  const value = valuesOf(result.map)[row * across.count + column];
  return { row, column, value, sides: [left, top, across.step, down.step] };
}
