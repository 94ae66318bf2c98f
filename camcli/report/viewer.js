// The dialog of one image: its original and all its results, with the values under the pointer.

const viewer = document.getElementById("viewer");
let viewedImage = null;
let viewedMaps = []; // each with its figure, crop element, result and marker

function openViewer(image) {
  viewedImage = image;
  viewedMaps = [];
  document.getElementById("name").textContent = image.name;
  const index = entries.findIndex((entry) => entry.image === image);
  if (index >= 0) currentIndex = index;
  document.getElementById("position").textContent = index < 0 ? "" : `${index + 1} / ${entries.length}`;
  const note = document.getElementById("note");
  note.textContent = image.note ?? "";
  note.hidden = !image.note;
  const figures = image.results.map((result) => createFigure(image, result));
  const original = image.thumbnail && create(
    "figure", {},
    pictureOf(image, null, { large: true }),
    create("figcaption", {}, create("b", { textContent: "original" }), createLink("file", image.original)),
  );
  document.getElementById("figures").replaceChildren(...(original ? [original] : []), ...figures);
  if (!viewer.open) viewer.showModal();
  viewer.scrollTop = 0;
}

function createLink(text, url) {
  return url ? create("a", { href: url, textContent: text, target: "_blank", rel: "noopener" }) : null;
}

function createFigure(image, result) {
  const picture = pictureOf(image, result, { longest: 384, large: true });
  const files = Object.entries(result.files ?? {}).map(([kind, url]) => createLink(kind, url));
  const figure = create(
    "figure", { className: result.status },
    picture,
    result.map && result.status !== "empty" ? colourBar(result) : null,
    create("figcaption", {}, create("b", { textContent: titleOf(image, result) }), ...badgesOf(result)),
    paragraph(explainedText(result)),
    paragraph(result.error, "error"),
    create("output", { className: "value", textContent: rangeText(result) }),
    paragraph(result.note, "muted"),
    paragraph(changeText(result)),
    paragraph(listNumbers(result.values ?? {}).join(", ")),
    result.change?.picture && savedPicture(result.change.picture, "difference"),
    create("p", { className: "files" }, ...files),
  );
  if (result.map) trackPointer(figure, picture, result);
  return figure;
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
  if (!change) return "";
  return `baseline: ${[change.verdict, ...change.reasons, ...listNumbers(change.measures)].join(", ")}`;
}

// Show the values of all maps at the position of the pointer over one of them.
function trackPointer(figure, picture, result) {
  const crop = picture.querySelector(".crop");
  const marker = create("i", { className: "marker", hidden: true });
  crop.append(marker);
  viewedMaps.push({ figure, result, marker });
  const update = (event) => {
    const { left, top, width, height } = picture.getBoundingClientRect();
    showValuesAt((event.clientX - left) / width, (event.clientY - top) / height);
  };
  picture.addEventListener("pointermove", update);
  picture.addEventListener("pointerdown", update);
  picture.addEventListener("pointerleave", () => {
    for (const map of viewedMaps) showRange(map);
  });
}

// The position is given as shares of the whole image, since each map has its own cells.
function showValuesAt(imageX, imageY) {
  for (const map of viewedMaps) {
    const [left, top, width, height] = cropOf(viewedImage, map.result);
    const [x, y] = [(imageX - left) / width, (imageY - top) / height];
    if (x < 0 || x >= 1 || y < 0 || y >= 1) {
      showRange(map, "outside the network's input");
      continue;
    }
    const { row, column, value, sides } = cellAt(map.result, x, y);
    placeAt(map.marker, sides);
    map.marker.hidden = false;
    const size = sizeOf(viewedImage, map.result);
    const pixel = [imageX * size[0], imageY * size[1]].map(Math.floor).join(", ");
    setValue(map, `${formatNumber(value)} in row ${row}, column ${column} (pixel ${pixel})`);
  }
}

function showRange(map, text = rangeText(map.result)) {
  map.marker.hidden = true;
  setValue(map, text);
}

function setValue({ figure }, text) {
  figure.querySelector(".value").textContent = text;
}

// Open the image `step` places after the current one in the gallery.
function openNeighbour(step) {
  const index = entries.findIndex((entry) => entry.image === viewedImage);
  const next = entries[index < 0 ? 0 : index + step];
  if (next) location.replace(`#image-${next.image.index}`);
}

// The address decides which image is open, so that the browser's back button closes it.
function followAddress() {
  const image = images[/^#image-(\d+)$/.exec(location.hash)?.[1]];
  if (image) {
    openViewer(image);
  } else if (viewer.open) {
    viewer.close();
    viewedImage = null;
    focusCard(currentIndex);
  }
}
