// One result over its image: the original or else the saved overlay, and on it the map where the
// network saw it. Its opacity is a property of the whole page, so that a slider redraws nothing.

function make(tag, properties = {}, ...children) {
  const { dataset, ...others } = properties;
  const element = Object.assign(document.createElement(tag), others);
  Object.assign(element.dataset, dataset);
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
}

// Width and height of what a stage shows: the original, or of an unknown one what was seen of it.
function sizeOf(image, result) {
  if (image.size) return image.size;
  const [x0, y0, x1, y1] = result?.crop ?? [0, 0, 4, 3];
  return [x1 - x0, y1 - y0];
}

// The part of the stage that the network saw, in shares of it: left, top, width, height.
function seenOf(image, result) {
  if (!image.size || !result.crop) return [0, 0, 1, 1];
  const [width, height] = image.size;
  const [x0, y0, x1, y1] = result.crop;
  return [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height];
}

function put(element, [left, top, width, height]) {
  const sides = { left, top, width, height };
  for (const [side, share] of Object.entries(sides)) element.style[side] = `${100 * share}%`;
}

// An image's picture: small, or for `large` the original itself where it is still in its place.
function photoOf(image, large) {
  const picture = make("img", { className: "base", alt: "", decoding: "async", draggable: false });
  if (large && image.original) {
    picture.addEventListener("error", () => (picture.src = image.small), { once: true });
    picture.src = image.original;
  } else {
    picture.src = image.small;
  }
  return picture;
}

function savedOf(result) {
  return result.files?.overlay ?? result.files?.boxes ?? result.files?.heatmap;
}

function saved(address, className) {
  const picture = make("img", { className, alt: "", loading: "lazy", decoding: "async", draggable: false });
  picture.addEventListener("error", () => picture.classList.add("lost"), { once: true });
  picture.src = address;
  return picture;
}

// `longest` is the longer side of what is drawn, in pixels.
function stageOf(image, result, { longest, large }) {
  const [width, height] = sizeOf(image, result);
  const stage = make("div", { className: "stage" });
  stage.style.aspectRatio = `${width} / ${height}`;
  const overlay = result && savedOf(result);
  if (image.small) stage.append(photoOf(image, large));
  else if (overlay) stage.append(saved(overlay, "base"));
  if (!result || result.status === "error") return stage;
  if (!image.small) stage.classList.add(overlay ? "on-saved" : "bare");
  if (result.map) stage.append(seen(image, result, longest));
  else if (image.small && overlay) stage.append(saved(overlay, "heat whole"));
  if (image.size) stage.append(...(result.boxes ?? []).map((box) => frame(image, box)));
  return stage;
}

function seen(image, result, longest) {
  const share = seenOf(image, result);
  const element = make("div", { className: "seen" });
  put(element, share);
  if (result.status === "empty") return element;
  const size = sizeOf(image, result);
  const sides = [size[0] * share[2], size[1] * share[3]];
  const scale = longest / Math.max(...sides);
  const [width, height] = sides.map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = make("canvas", { className: "heat", width, height });
  canvas.classList.toggle("diverging", coloursOf(result).diverging);
  draw(canvas, result);
  element.append(canvas);
  return element;
}

function frame(image, [x0, y0, x1, y1]) {
  const [width, height] = image.size;
  const element = make("div", { className: "box" });
  put(element, [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height]);
  return element;
}

function percent(share) {
  return share === undefined ? "" : `${(100 * share).toFixed(1)}%`;
}

function brief(value) {
  return Number.isFinite(value) ? String(Number(value.toPrecision(4))) : String(value);
}

// What makes one of an image's results differ from another, in a few words.
function titleOf(image, result) {
  const alike = image.results.filter((one) => one.method === result.method);
  const several = (field) => new Set(alike.map((one) => one[field])).size > 1;
  const parts = [result.method];
  if (result.target !== "pred" || several("target")) parts.push(result.target);
  if (result.layer && several("layer")) parts.push(result.layer);
  return parts.join(" · ");
}

function badges(result) {
  const marks = [];
  if (result.status !== "ok") marks.push([result.status === "error" ? "failed" : "empty", result.status]);
  const verdict = verdictOf(result);
  if (verdict && verdict !== "alike") marks.push([verdict === "differs" ? "changed" : verdict, "changed"]);
  return marks.map(([text, kind]) => make("span", { className: `badge ${kind}`, textContent: text }));
}
