// The controls, the keyboard, and the sections above the gallery.

const byId = (id) => document.getElementById(id);
const root = document.documentElement;
let opacity = data.alpha;
let opacityBefore = data.alpha || 0.5; // what the key 0 restores

function setOpacity(value) {
  opacity = Math.min(1, Math.max(0, value));
  root.style.setProperty("--opacity", opacity);
  for (const slider of document.querySelectorAll(".opacity")) slider.value = 100 * opacity;
  for (const label of document.querySelectorAll(".opacity-value")) label.value = `${Math.round(100 * opacity)}%`;
}

function toggleMap() {
  if (opacity) opacityBefore = opacity;
  setOpacity(opacity ? 0 : opacityBefore);
}

function fillSelect(id, valuesOf, all) {
  const [select, counted] = [byId(id), countValues(valuesOf, all)];
  select.replaceChildren(create("option", { value: "", textContent: "all" }));
  for (const [value, count] of counted) {
    select.append(create("option", { value, textContent: `${value} (${count.toLocaleString("en")})` }));
  }
  select.closest("label").hidden = counted.length < 2;
}

function fillControls() {
  for (const field of FIELDS) fillSelect(field, (result) => (result[field] === undefined ? [] : [result[field]]));
  for (const [name, { of, all }] of Object.entries(KINDS)) fillSelect(name, of, all);
  for (const [order, { label }] of Object.entries(ORDERS)) {
    byId("order").append(create("option", { value: order, textContent: label ?? order }));
  }
}

// The controls of the gallery by the names of their values.
const CONTROLS = { minConfidence: "min-confidence", maxConfidence: "max-confidence" };
for (const name of ["text", ...FIELDS, ...Object.keys(KINDS), "order"]) CONTROLS[name] = name;

function readControls() {
  const read = ([name, id]) => {
    const value = byId(id).value || FIRST_VALUES[name];
    return [name, typeof FIRST_VALUES[name] === "number" ? Number(value) : value];
  };
  state.set(Object.fromEntries(Object.entries(CONTROLS).map(read)));
}

function showControls() {
  for (const [name, id] of Object.entries(CONTROLS)) {
    if (byId(id) !== document.activeElement) byId(id).value = filters[name];
  }
  byId("reversed").setAttribute("aria-pressed", filters.reversed);
}

function selectNextMethod() {
  const select = byId("method");
  state.set({ method: select.options[(select.selectedIndex + 1) % select.options.length].value });
}

function toggleTheme() {
  const isDark = filters.theme
    ? filters.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  state.set({ theme: isDark ? "light" : "dark" });
}

function showState(changed) {
  if (filters.theme) root.dataset.theme = filters.theme;
  else delete root.dataset.theme;
  if (GALLERY_NAMES.some((name) => changed.has(name))) {
    showControls();
    currentIndex = 0;
    showGallery();
  }
  if (IMAGE_NAMES.some((name) => changed.has(name))) showViewer();
}

const KEYS = {
  "+": () => setOpacity(opacity + 0.1),
  "=": () => setOpacity(opacity + 0.1),
  "-": () => setOpacity(opacity - 0.1),
  0: toggleMap,
  m: selectNextMethod,
  t: toggleTheme,
  "?": () => byId("help").showModal(),
};
const GALLERY_KEYS = {
  ...KEYS,
  ArrowRight: () => moveFocus(1),
  ArrowLeft: () => moveFocus(-1),
  ArrowDown: () => moveFocus(layout.columns),
  ArrowUp: () => moveFocus(-layout.columns),
  Home: () => focusCard(0),
  End: () => focusCard(entries.length - 1),
  "/": () => byId("text").focus(),
};
const VIEWER_KEYS = {
  ...KEYS,
  ArrowRight: () => openNeighbour(1),
  ArrowLeft: () => openNeighbour(-1),
  Escape: returnFromViewer,
  Enter: (event) => (stage.hidden ? state.set({ map: event.target.dataset.title ?? "" }) : leaveStage()),
  b: () => blink(),
  f: flicker,
  m: selectNextMap,
  z: toggleActualSize,
};

function returnFromViewer() {
  if (stage.hidden) closeImage();
  else leaveStage();
}

// Without a focused card, any arrow key focuses the current one.
function moveFocus(step) {
  focusCard(document.activeElement.classList.contains("card") ? currentIndex + step : currentIndex);
}

function handleKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  if (event.target.closest("input, select, textarea")) {
    if (event.key === "Escape" && !viewer.open) event.target.blur();
    return;
  }
  if (event.key === "Enter" && event.target.closest("a, button, summary")) return;
  const key = event.key === " " && event.target.role === "button" ? "Enter" : event.key;
  const action = (viewer.open ? VIEWER_KEYS : GALLERY_KEYS)[key];
  if (!action) return;
  event.preventDefault();
  action(event);
}

function showHeader() {
  const results = allResults();
  const count = (status) => results.filter((result) => result.status === status).length;
  const counted = { images: images.length, results: results.length };
  const problems = { failed: count("error"), empty: count("empty") };
  const shown = [...Object.entries(counted), ...Object.entries(problems).filter(([, n]) => n)];
  const parts = shown.map(([noun, n]) => `${n.toLocaleString("en")} ${noun}`);
  byId("run").textContent = [...parts, ...data.run.map(([name, value]) => `${name} ${value}`)].join(" · ");
  byId("notes").append(...data.notes.map((note) => create("li", { className: "notice", textContent: note })));
}

function showEvaluation({ summary, columns, rows, legend, plots }) {
  const header = ["metric", "better", "images", ...columns].map((text) => create("th", { textContent: text }));
  const lines = rows.map((row) => create(
    "tr", {},
    create("th", { textContent: row.title, title: row.source }),
    create("td", { textContent: row.better }),
    create("td", { textContent: row.images }),
    ...row.cells.map(([text, verdict]) => create("td", { textContent: text, className: verdict ?? "" })),
  ));
  byId("evaluation").append(create(
    "details", {},
    create("summary", { textContent: `Evaluation: ${summary}` }),
    create("div", { className: "scroll", tabIndex: 0 }, create("table", {}, create("tr", {}, ...header), ...lines)),
    ...["means with 95 % intervals", ...legend].map((line) => paragraph(line, "muted")),
    create("div", { className: "plots" }, ...plots.map(([name, src]) => create("img", { src, alt: name, loading: "lazy" }))),
  ));
  byId("evaluation").hidden = false;
}

function listenToControls() {
  const controls = byId("controls");
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.addEventListener("input", (event) => {
    if (!event.target.classList.contains("opacity")) readControls();
  });
  controls.addEventListener("reset", (event) => {
    event.preventDefault();
    setOpacity(data.alpha);
    state.set(pick(FIRST_VALUES, GALLERY_NAMES));
  });
  byId("reversed").addEventListener("click", () => state.set({ reversed: !filters.reversed }));
  byId("more").addEventListener("click", () => {
    byId("more").setAttribute("aria-expanded", controls.classList.toggle("expanded"));
  });
  for (const slider of document.querySelectorAll(".opacity")) {
    slider.addEventListener("input", () => setOpacity(slider.value / 100));
  }
  byId("theme").addEventListener("click", toggleTheme);
  byId("help-button").addEventListener("click", () => byId("help").showModal());
}

function listenToViewer() {
  byId("previous").addEventListener("click", () => openNeighbour(-1));
  byId("next").addEventListener("click", () => openNeighbour(1));
  byId("close").addEventListener("click", closeImage);
  viewer.addEventListener("cancel", (event) => {
    event.preventDefault();
    if (event.defaultPrevented) returnFromViewer();
  });
  viewer.addEventListener("close", () => filters.image && closeImage()); // the browser closed it
}

root.style.setProperty("--dim", data.dim);
root.style.setProperty("--saved", Math.min(0.99, data.alpha));
showHeader();
fillControls();
if (data.evaluation) showEvaluation(data.evaluation);
if (data.check) showCheck(data.check);
setOpacity(data.alpha);
listenToControls();
listenToSharing();
listenToViewer();
listenToStage();
addEventListener("scroll", () => requestAnimationFrame(drawCards), { passive: true });
addEventListener("resize", () => {
  layOutGallery();
  if (viewer.open && stage.hidden) layOutFigures();
});
addEventListener("keydown", handleKey);
addEventListener("beforeprint", drawAllCards);
addEventListener("afterprint", layOutGallery);
state.subscribe(showState);
Object.assign(filters, readAddress());
showControls();
readControls(); // values that no control offers are replaced
showState(new Set(Object.keys(filters)));
writeAddress();
root.dataset.ready = Math.round(performance.now()); // the time until the gallery is shown, in ms
