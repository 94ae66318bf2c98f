// Maps from raw values to colours, as camcli's overlays have them.

const TABLES = facts.colours.map(({ table, diverging }) => ({ table: bytesOf(table), diverging }));
const unpacked = new WeakMap();

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

// The values of a map, row by row.
function valuesOf(map) {
  if (!unpacked.has(map)) unpacked.set(map, new Float32Array(bytesOf(map.values).buffer));
  return unpacked.get(map);
}

function coloursOf(result) {
  return TABLES[result.signed ? 1 : 0];
}

// From 0 to 1: zero to the maximum, or if signed, symmetric with zero at one half.
function levelOf(result) {
  const { low, high } = result.map;
  if (!result.signed) return (value) => Math.max(value, 0) / (high > 0 ? high : 1);
  const top = 2 * (Math.max(Math.abs(low), Math.abs(high)) || 1);
  return (value) => value / top + 0.5;
}

// Where the middle of each of `count` pixels falls among `cells` cells: two of them, and how far
// it is from the first to the second.
function between(count, cells) {
  return Array.from({ length: count }, (_, i) => {
    const at = ((i + 0.5) * cells) / count - 0.5;
    const first = Math.floor(at);
    const inside = (cell) => Math.min(Math.max(cell, 0), cells - 1);
    return [inside(first), inside(first + 1), at - first];
  });
}

// Draw a map over the whole of a canvas, bilinearly. Levels are interpolated and not colours.
function draw(canvas, result) {
  const [rows, columns] = result.map.cells;
  const levels = Float32Array.from(valuesOf(result.map), levelOf(result));
  const context = canvas.getContext("2d");
  const picture = context.createImageData(canvas.width, canvas.height);
  const across = between(canvas.width, columns);
  const paint = painter(result, picture.data);
  let place = 0;
  for (const [top, bottom, down] of between(canvas.height, rows).map(offsets(columns))) {
    for (const [left, right, along] of across) {
      const above = levels[top + left] * (1 - along) + levels[top + right] * along;
      const below = levels[bottom + left] * (1 - along) + levels[bottom + right] * along;
      paint(place, above * (1 - down) + below * down);
      place += 4;
    }
  }
  context.putImageData(picture, 0, 0);
}

function offsets(columns) {
  return ([top, bottom, down]) => [top * columns, bottom * columns, down];
}

// What paints a level at a place. In diverging colours the heat covers the more, the further the
// map is from zero. What is no number stays clear.
function painter(result, data) {
  const { table, diverging } = coloursOf(result);
  return (place, level) => {
    if (!Number.isFinite(level)) return;
    const signed = 2 * level - 1;
    const row = diverging ? (signed < 0 ? 0 : 255) : Math.min(255, Math.max(0, Math.round(255 * level)));
    for (let channel = 0; channel < 3; channel++) data[place + channel] = table[3 * row + channel];
    data[place + 3] = diverging ? Math.min(255, Math.round(255 * Math.abs(signed))) : 255;
  };
}

// The cell of a map and its value, at a place given in shares of the map's width and height.
function cellAt(map, across, down) {
  const [rows, columns] = map.cells;
  const column = Math.min(columns - 1, Math.floor(across * columns));
  const row = Math.min(rows - 1, Math.floor(down * rows));
  return { row, column, value: valuesOf(map)[row * columns + column] };
}
