// One image: its original and every result beside it, with the values under the pointer.

const viewer = document.getElementById("viewer");
let open = null; // the image that is shown

function show(image) {
  open = image;
  document.getElementById("name").textContent = image.name;
  const place = shown.findIndex((one) => one.image === image);
  if (place >= 0) current = place;
  document.getElementById("place").textContent = place < 0 ? "" : `${place + 1} / ${shown.length}`;
  const remark = document.getElementById("remark");
  remark.textContent = image.note ?? "";
  remark.hidden = !image.note;
  const figures = image.results.map((result) => figureOf(image, result));
  const original = image.small && make(
    "figure", {},
    stageOf(image, null, { large: true }),
    make("figcaption", {}, make("b", { textContent: "original" }), link("file", image.original)),
  );
  document.getElementById("figures").replaceChildren(...(original ? [original] : []), ...figures);
  if (!viewer.open) viewer.showModal();
  viewer.scrollTop = 0;
}

function link(text, address) {
  return address ? make("a", { href: address, textContent: text, target: "_blank", rel: "noopener" }) : null;
}

function figureOf(image, result) {
  const stage = stageOf(image, result, { longest: 384, large: true });
  const files = Object.entries(result.files ?? {}).map(([what, address]) => link(what, address));
  const figure = make(
    "figure", { className: result.status },
    stage,
    make("figcaption", {}, make("b", { textContent: titleOf(image, result) }), ...badges(result)),
    told(result.class && `${result.class} ${percent(result.probability)}, score ${brief(result.score)}`),
    told(result.error, "error"),
    make("output", { className: "value", textContent: rangeOf(result) }),
    told(result.note, "quiet"),
    told(changeOf(result)),
    told(Object.entries(result.values ?? {}).map(([name, v]) => `${name} ${brief(v)}`).join(", ")),
    result.change?.picture && saved(result.change.picture, "difference"),
    make("p", { className: "files" }, ...files),
  );
  if (result.map) follow(figure, stage.querySelector(".seen"), result);
  return figure;
}

function told(text, className = "") {
  return text ? make("p", { className, dir: "auto", textContent: text }) : null;
}

function rangeOf(result) {
  const range = result.map ? [result.map.low, result.map.high] : result.range;
  if (!range) return "";
  const shape = result.map ? `, ${result.map.shape.join(" x ")} cells` : "";
  return `${brief(range[0])} to ${brief(range[1])}${shape}`;
}

function changeOf({ change }) {
  if (!change) return "";
  const measures = ["relative", "correlation", "shift"].filter((name) => name in change);
  const numbers = measures.map((name) => `${name} ${brief(change[name])}`);
  return `baseline: ${[change.verdict, ...change.reasons, ...numbers].join(", ")}`;
}

// Show a map's value under the pointer, and the values of the other maps at the same place.
function follow(figure, area, result) {
  const stage = area.parentElement;
  figure.camcli = { area, result, mark: make("i", { className: "mark", hidden: true }) };
  area.append(figure.camcli.mark);
  const look = (event) => {
    const { left, top, width, height } = stage.getBoundingClientRect();
    pointAll((event.clientX - left) / width, (event.clientY - top) / height);
  };
  stage.addEventListener("pointermove", look);
  stage.addEventListener("pointerdown", look);
  stage.addEventListener("pointerleave", () => pointAll(-1, -1));
}

// Each map has its own cells; the place is in shares of the whole image.
function pointAll(across, down) {
  for (const { camcli } of document.querySelectorAll("#figures figure")) {
    if (camcli) point(camcli, across, down);
  }
}

function point({ area, result, mark }, across, down) {
  const [left, top, width, height] = seenOf(open, result);
  const [x, y] = [(across - left) / width, (down - top) / height];
  const inside = x >= 0 && x < 1 && y >= 0 && y < 1;
  mark.hidden = !inside;
  const value = area.closest("figure").querySelector(".value");
  if (!inside) {
    value.textContent = across < 0 ? rangeOf(result) : "not seen by the network";
    return;
  }
  const cell = cellAt(result.map, x, y);
  put(mark, [
    cell.column / result.map.cells[1], cell.row / result.map.cells[0],
    1 / result.map.cells[1], 1 / result.map.cells[0],
  ]);
  const [wide, high] = sizeOf(open, result);
  const pixel = `${Math.floor(across * wide)}, ${Math.floor(down * high)}`;
  value.textContent = `${brief(cell.value)} in row ${cell.row}, column ${cell.column} (pixel ${pixel})`;
}

// The image `step` further on among those shown.
function turn(step) {
  const place = shown.findIndex((one) => one.image === open);
  const next = shown[place < 0 ? 0 : place + step];
  if (next) location.replace(`#image-${next.image.index}`);
}

// What is open is what the address says, so that the browser's own way back closes it.
function followAddress() {
  const image = images[/^#image-(\d+)$/.exec(location.hash)?.[1]];
  if (image) {
    show(image);
  } else if (viewer.open) {
    viewer.close();
    open = null;
    go(current);
  }
}
