// The dialog of one image: its original and all its results, or one of them over the whole window.
// Values under the pointer are shown for all.

const viewer = document.getElementById("viewer");
let viewedImage = null;
let viewedMaps = []; // those on the screen, each with its result, its marker and the output of its value

// The opened image, or the card of the image that was opened last.
function showViewer() {
  const image = images.find((one) => addressName(one) === filters.image);
  if (image) {
    showImage(image);
  } else if (viewedImage) {
    const index = currentIndex; // closing the dialog focuses the card that opened it
    viewer.close();
    focusCard(index);
    viewedImage = null;
  } else {
    state.set({ image: "" }); // the address had a name that no image has
  }
}

function showImage(image) {
  const isNew = image !== viewedImage;
  viewedImage = image;
  viewedMaps = [];
  if (isNew) showHeading(image);
  const views = viewsOf(image);
  const enlarged = views.find((view) => view.title === filters.map);
  viewer.classList.toggle("enlarged", Boolean(enlarged));
  document.getElementById("stage").hidden = !enlarged;
  document.getElementById("figures").replaceChildren();
  if (!viewer.open) viewer.showModal();
  if (enlarged) showStage(image, views, enlarged);
  else showFigures(image, views);
  if (isNew) viewer.scrollTop = 0;
}

function showHeading(image) {
  setZoom(1, 0, 0);
  document.getElementById("name").textContent = image.name;
  const index = entries.findIndex((entry) => entry.image === image);
  if (index >= 0) currentIndex = index;
  document.getElementById("position").textContent = index < 0 ? "" : `${index + 1} / ${entries.length}`;
  const note = document.getElementById("note");
  note.textContent = image.note ?? "";
  note.hidden = !image.note;
}

// The pictures of an image: the original, without a result, and the maps.
function viewsOf(image) {
  const original = image.thumbnail ? [{ title: "original", result: null }] : [];
  return [...original, ...image.results.flatMap(withBaseline).map((result) => ({ title: titleOf(image, result), result }))];
}

function showFigures(image, views) {
  const figures = views.map((view) => createFigure(image, view));
  document.getElementById("figures").replaceChildren(...figures);
  layOutFigures();
}

const FIGURE_GAP = 16;
const TEXT_HEIGHT = 135; // below a picture
const SMALLEST_COLUMN = 300;

// The fewest columns with which all pictures are on the screen. If none are, those that leave the
// fewest places empty.
function layOutFigures() {
  const area = document.getElementById("figures");
  const [count, height] = [area.children.length, viewer.clientHeight - area.offsetTop];
  const [imageWidth, imageHeight] = sizeOf(viewedImage, viewedImage.results[0]);
  const widthOf = (columns) => (area.clientWidth + FIGURE_GAP) / columns - FIGURE_GAP;
  const fits = (columns) => {
    const figure = widthOf(columns) * imageHeight / imageWidth + TEXT_HEIGHT + FIGURE_GAP;
    return Math.ceil(count / columns) * figure <= height;
  };
  const numbers = Array.from({ length: count }, (_, index) => index + 1);
  const legible = numbers.filter((columns) => columns === 1 || widthOf(columns) >= SMALLEST_COLUMN);
  const empty = (columns) => (columns - count % columns) % columns;
  const fullest = legible.reduce((best, columns) => (empty(columns) <= empty(best) ? columns : best));
  area.style.setProperty("--columns", legible.find(fits) ?? fullest);
}

function createLink(text, url) {
  return url ? create("a", { href: url, textContent: text, target: "_blank", rel: "noopener" }) : null;
}

// A picture that zooms with all others, and opens over the whole window by `click`.
function createFrame(image, result, longest, click) {
  const picture = pictureOf(image, result, { longest, large: true });
  const frame = create("div", { className: "frame" }, picture);
  const [width, height] = sizeOf(image, result);
  frame.style.setProperty("--aspect", width / height);
  frame.dataset.pixels = width;
  followPointers(frame, click);
  const update = (event) => showValuesAt(image, ...positionIn(picture, event));
  frame.addEventListener("pointermove", update);
  frame.addEventListener("pointerdown", update);
  frame.addEventListener("pointerleave", () => viewedMaps.forEach((map) => showRange(map)));
  return frame;
}

function createFigure(image, { title, result }) {
  const enlarge = () => state.set({ map: title });
  const frame = createFrame(image, result, 384, enlarge);
  Object.assign(frame, { role: "button", tabIndex: 0, title: "fill the window (Enter)" });
  frame.dataset.title = title;
  if (!frame.querySelector(".picture").children.length) frame.hidden = true;
  const name = create("b", { textContent: title });
  if (!result) {
    return create("figure", {}, frame, create("figcaption", {}, name, createLink("file", image.original)));
  }
  const files = Object.entries(result.files ?? {})
    .filter(([, url]) => !url.startsWith("data:")) // which browsers do not open
    .map(([kind, url]) => createLink(kind, url));
  const output = create("output", { className: "value" });
  viewMap(frame, result, output);
  return create(
    "figure", { className: result.status },
    frame,
    barOf(result),
    create("figcaption", {}, name, ...badgesOf(result), result.isBaseline ? createBlink(title) : null),
    paragraph(explainedText(result)),
    paragraph(result.error, "error"),
    output,
    paragraph(result.note, "muted"),
    paragraph(changeText(result)),
    paragraph(listNumbers(result.values ?? {}).join(", ")),
    result.change?.picture && savedPicture(result.change.picture, "difference", `what changed in ${title} of ${image.name}`),
    create("p", { className: "files" }, ...files),
  );
}

function barOf(result) {
  return result.map && result.status !== "empty" ? colourBar(result) : null;
}

function createBlink(title) {
  const button = create("button", { type: "button", className: "link", textContent: "alternate (b)" });
  button.addEventListener("click", () => blink(title));
  return button;
}

function explainedText({ class: name, probability, score }) {
  const named = [name, formatPercent(probability)].filter(Boolean).join(" ");
  const number = score === undefined ? "" : `score ${formatNumber(score)}`;
  return [named, number].filter(Boolean).join(", ");
}

function paragraph(text, className = "") {
  return text ? create("p", { className, dir: "auto", textContent: text }) : null;
}

function listNumbers(numbers) {
  return Object.entries(numbers).map(([name, value]) => `${name} ${formatNumber(value)}`);
}

function rangeText(result) {
  const range = result.map ? [result.map.min, result.map.max] : result.range;
  if (!range) return "";
  const shape = result.map ? `, ${result.map.saved_shape.join(" x ")} cells` : "";
  return `${formatNumber(range[0])} to ${formatNumber(range[1])}${shape}`;
}

function changeText({ change }) {
  return change ? `baseline: ${[change.verdict, ...otherReasons(change), ...changeNumbers({ change })].join(", ")}` : "";
}

// Show the values of a map and its place under the pointer, from now on.
function viewMap(element, result, output) {
  output.textContent = rangeText(result);
  if (!result.map) return;
  const marker = create("i", { className: "marker", hidden: true });
  element.querySelector(".crop").append(marker);
  viewedMaps.push({ result, marker, output });
}

// The position is given as shares of the whole image, since each map has its own cells.
function showValuesAt(image, imageX, imageY) {
  for (const map of viewedMaps) {
    const [left, top, width, height] = cropOf(image, map.result);
    const [x, y] = [(imageX - left) / width, (imageY - top) / height];
    if (x < 0 || x >= 1 || y < 0 || y >= 1) {
      showRange(map, "outside the network's input");
      continue;
    }
    const { row, column, value, sides } = cellAt(map.result, x, y);
    placeAt(map.marker, sides);
    map.marker.hidden = false;
    const size = sizeOf(image, map.result);
    const pixel = [imageX * size[0], imageY * size[1]].map(Math.floor).join(", ");
    map.output.textContent = `${formatNumber(value)} in row ${row}, column ${column} (pixel ${pixel})`;
  }
}

function showRange(map, text = rangeText(map.result)) {
  map.marker.hidden = true;
  map.output.textContent = text;
}

// Open the image `step` places after the current one in the gallery.
function openNeighbour(step) {
  const index = entries.findIndex((entry) => entry.image === viewedImage);
  const next = entries[index < 0 ? 0 : index + step];
  if (next) state.set({ image: addressName(next.image) });
}
