// The picture of a result: the original or else the saved overlay, and the map over the crop that
// the network received. The opacity is a CSS property of the whole page: the slider redraws nothing.

function create(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
}

// Width and height of the original, or of the crop if the original's size is unknown.
function sizeOf(image, result) {
  if (image.size) return image.size;
  const [x0, y0, x1, y1] = result?.crop ?? [0, 0, 4, 3];
  return [x1 - x0, y1 - y0];
}

// The crop as shares of the picture: left, top, width, height.
function cropOf(image, result) {
  return image.size && result.crop ? sharesOf(image.size, result.crop) : [0, 0, 1, 1];
}

// A box in pixels as shares of an image's size: left, top, width, height.
function sharesOf([width, height], [x0, y0, x1, y1]) {
  return [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height];
}

function placeAt(element, [left, top, width, height]) {
  const sides = { left, top, width, height };
  for (const [side, share] of Object.entries(sides)) element.style[side] = `${100 * share}%`;
}

// The thumbnail, or if `large` the original itself, with the thumbnail if that cannot be loaded.
function originalElement(image, large) {
  const element = create("img", { className: "background", alt: "", decoding: "async", draggable: false });
  if (large && image.original) {
    element.addEventListener("error", () => (element.src = image.thumbnail), { once: true });
    element.src = image.original;
  } else {
    element.src = image.thumbnail;
  }
  return element;
}

function savedPicture(url, className, alt = "") {
  const element = create("img", { className, alt, loading: "lazy", decoding: "async", draggable: false });
  element.addEventListener("error", () => element.classList.add("broken"), { once: true });
  element.src = url;
  return element;
}

// `longest` is the longer side of the drawn map, in pixels.
function pictureOf(image, result, { longest, large }) {
  const [width, height] = sizeOf(image, result);
  const picture = create("div", { className: "picture", role: "img", ariaLabel: describe(image, result) });
  picture.style.aspectRatio = `${width} / ${height}`;
  const overlay = result?.files?.[result.picture];
  if (image.thumbnail) picture.append(...originalElements(image, result, large));
  else if (overlay) picture.append(savedPicture(overlay, "background"));
  if (!result || result.status === "error") return picture;
  if (!image.thumbnail) picture.classList.add(overlay ? "over-overlay" : "map-only");
  if (result.map) picture.append(mapElement(image, result, longest));
  else if (image.thumbnail && overlay) picture.append(savedPicture(overlay, "map saved"));
  if (image.size) picture.append(...(result.boxes ?? []).map((box) => boxElement(image, box)));
  return picture;
}

function mapElement(image, result, longest) {
  const crop = cropOf(image, result);
  const element = create("div", { className: "crop" });
  element.classList.toggle("part", crop[2] < 1 || crop[3] < 1);
  placeAt(element, crop);
  if (result.status === "empty") return element;
  const size = sizeOf(image, result);
  const sides = [size[0] * crop[2], size[1] * crop[3]];
  const scale = longest / Math.max(...sides);
  const [width, height] = sides.map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = create("canvas", { className: "map", width, height });
  canvas.style.setProperty("--strength", colormapOf(result).strength);
  drawMap(canvas, result);
  element.append(canvas);
  return element;
}

// The original. In a blend by heat it is once as the network did not see it, and over that, in the
// crop, as the ground of the map.
function originalElements(image, result, large) {
  const original = originalElement(image, large);
  if (!result?.crop || result.status === "error" || data.blend === "even") return [original];
  const [left, top, width, height] = cropOf(image, result);
  const ground = originalElement(image, large);
  original.classList.add("unseen");
  ground.classList.add("ground");
  const insets = [top, 1 - left - width, 1 - top - height, left];
  ground.style.clipPath = `inset(${insets.map((share) => `${100 * share}%`).join(" ")})`;
  return [original, ground];
}

function boxElement(image, box) {
  const element = create("div", { className: "box" });
  placeAt(element, sharesOf(image.size, box));
  return element;
}

function formatPercent(share) {
  return share === undefined ? "" : `${(100 * share).toFixed(1)}%`;
}

function formatNumber(value) {
  return Number.isFinite(value) ? String(Number(value.toPrecision(4))) : String(value);
}

// The method, and the target and layer where they tell results of an image apart.
function titleOf(image, result) {
  const siblings = image.results.filter((one) => one.method === result.method);
  const differs = (field) => new Set(siblings.map((one) => one[field])).size > 1;
  const parts = [result.method];
  if (result.target !== "pred" || differs("target")) parts.push(result.target);
  if (result.layer && differs("layer")) parts.push(result.layer);
  if (result.isBaseline) parts.push("baseline");
  return parts.join(" · ");
}

// The text of a picture.
function describe(image, result) {
  if (!result) return `original of ${image.name}`;
  const named = result.class ? `, class ${result.class} ${formatPercent(result.probability)}` : "";
  return `${titleOf(image, result)} of ${image.name}${named}`;
}

function badgesOf(result) {
  const badges = [];
  if (result.status !== "ok") badges.push([result.status === "error" ? "failed" : "empty", result.status]);
  if (result.unsure) badges.push(["unsure", "unsure"]);
  if (result.true) badges.push([`wrong: ${result.true}`, "error"]);
  const [kind] = kindsOf(result);
  if (kind && kind !== "alike") badges.push([kind, "changed"]);
  return badges.map(([text, kind]) => create("span", { className: `badge ${kind}`, textContent: text }));
}
