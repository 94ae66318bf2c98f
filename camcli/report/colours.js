// Draw raw maps in the colours of camcli's overlays.

const COLORMAPS = data.colormaps.map(({ table, diverging }) => ({ table: decodeBase64(table), diverging }));
const decodedValues = new WeakMap();

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

// A function that scales values to [0, 1]: from 0 to the maximum, or for signed maps symmetric
// with zero at 0.5.
function scaling(result) {
  const { min, max } = result.map;
  if (!result.signed) return (value) => Math.max(value, 0) / (max > 0 ? max : 1);
  const range = 2 * (Math.max(Math.abs(min), Math.abs(max)) || 1);
  return (value) => value / range + 0.5;
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

// Draw a map over the whole of a canvas. Scaled values, not colours, are interpolated bilinearly.
function drawMap(canvas, result) {
  const [across, down] = linesOf(result);
  const levels = Float32Array.from(valuesOf(result.map), scaling(result));
  const context = canvas.getContext("2d");
  const picture = context.createImageData(canvas.width, canvas.height);
  const horizontal = interpolation(canvas.width, across);
  const setPixel = pixelSetter(result, picture.data);
  const levelAt = (row, column) => levels[row * across.count + column];
  let offset = 0;
  for (const [top, bottom, yWeight] of interpolation(canvas.height, down)) {
    for (const [left, right, xWeight] of horizontal) {
      const above = levelAt(top, left) * (1 - xWeight) + levelAt(top, right) * xWeight;
      const below = levelAt(bottom, left) * (1 - xWeight) + levelAt(bottom, right) * xWeight;
      setPixel(offset, above * (1 - yWeight) + below * yWeight);
      offset += 4;
    }
  }
  context.putImageData(picture, 0, 0);
}

// A function that writes the colour of a level at an offset. In diverging colours the opacity grows
// with the distance from zero. NaN and infinity stay transparent.
function pixelSetter(result, pixels) {
  const { table, diverging } = colormapOf(result);
  return (offset, level) => {
    if (!Number.isFinite(level)) return;
    const signed = 2 * level - 1;
    const row = diverging ? (signed < 0 ? 0 : 255) : Math.min(255, Math.max(0, Math.round(255 * level)));
    for (let channel = 0; channel < 3; channel++) pixels[offset + channel] = table[3 * row + channel];
    pixels[offset + 3] = diverging ? Math.min(255, Math.round(255 * Math.abs(signed))) : 255;
  };
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
