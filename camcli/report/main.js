// The controls, the keys, and what stands above the gallery.

const byId = (id) => document.getElementById(id);
const root = document.documentElement;
let opacity = facts.alpha;
let before = facts.alpha || 0.5; // what `0` goes back to

function setOpacity(value) {
  opacity = Math.min(1, Math.max(0, value));
  root.style.setProperty("--opacity", opacity);
  for (const slider of document.querySelectorAll(".opacity")) slider.value = 100 * opacity;
  for (const told of document.querySelectorAll(".opacity-told")) told.value = `${Math.round(100 * opacity)}%`;
}

function fill(id, found, all) {
  const select = byId(id);
  select.replaceChildren(make("option", { value: "", textContent: all }));
  for (const [value, count] of found) {
    select.append(make("option", { value, textContent: `${value} (${count.toLocaleString("en")})` }));
  }
  select.closest("label").hidden = found.length < 2;
}

function fillControls() {
  for (const field of FIELDS) fill(field, choices((result) => result[field]), "all");
  fill("verdict", choices(verdictOf), "all");
  for (const order of Object.keys(ORDERS)) {
    byId("order").append(make("option", { value: order, textContent: order === "problems" ? "problems first" : order }));
  }
}

function readControls() {
  for (const name of ["text", "method", "class", "target", "status", "verdict", "order"]) {
    wish[name] = byId(name).value;
  }
  wish.low = byId("low").value === "" ? 0 : Number(byId("low").value);
  wish.high = byId("high").value === "" ? 100 : Number(byId("high").value);
  current = 0;
  showGallery();
}

function nextMethod() {
  const select = byId("method");
  select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
  readControls();
}

function otherTheme() {
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
}

function close() {
  location.replace("#all"); // no element has this name, so that nothing scrolls
}

const KEYS = {
  "+": () => setOpacity(opacity + 0.1),
  "=": () => setOpacity(opacity + 0.1),
  "-": () => setOpacity(opacity - 0.1),
  0: () => {
    if (opacity) before = opacity;
    setOpacity(opacity ? 0 : before);
  },
  m: nextMethod,
  t: otherTheme,
  "?": () => byId("help").showModal(),
};
const GALLERY_KEYS = {
  ...KEYS,
  ArrowRight: () => go(focused() ? current + 1 : current),
  ArrowLeft: () => go(focused() ? current - 1 : current),
  ArrowDown: () => go(focused() ? current + layout.columns : current),
  ArrowUp: () => go(focused() ? current - layout.columns : current),
  Home: () => go(0),
  End: () => go(shown.length - 1),
  "/": () => byId("text").focus(),
};
const VIEWER_KEYS = { ...KEYS, ArrowRight: () => turn(1), ArrowLeft: () => turn(-1) };

function focused() {
  return document.activeElement.classList.contains("card");
}

function press(event) {
  const typing = event.target.closest("input, select, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  if (typing) {
    if (event.key === "Escape" && !viewer.open) event.target.blur();
    return;
  }
  const action = (viewer.open ? VIEWER_KEYS : GALLERY_KEYS)[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

function showHead() {
  const results = everyResult();
  const counts = ["error", "empty"].map((status) => results.filter((r) => r.status === status).length);
  const words = [`${images.length.toLocaleString("en")} images, ${results.length.toLocaleString("en")} results`];
  if (counts[0]) words.push(`${counts[0].toLocaleString("en")} failed`);
  if (counts[1]) words.push(`${counts[1].toLocaleString("en")} empty`);
  words.push(...facts.run.map(([name, value]) => `${name} ${value}`));
  byId("run").textContent = words.join(" · ");
  byId("notes").append(...facts.notes.map((note) => make("li", { className: "notice", textContent: note })));
}

function showEvaluation({ told: what, columns, lines, plots }) {
  const head = ["metric", "better", "images", ...columns].map((text) => make("th", { textContent: text }));
  const rows = lines.map((line) => make(
    "tr", {},
    make("th", { textContent: line.metric, title: line.source }),
    make("td", { textContent: line.better }),
    make("td", { textContent: line.images }),
    ...line.cells.map(([text, verdict]) => make("td", { textContent: text, className: verdict ?? "" })),
  ));
  byId("evaluation").append(make(
    "details", {},
    make("summary", { textContent: `Evaluation: ${what}` }),
    make("div", { className: "scroll" }, make("table", {}, make("tr", {}, ...head), ...rows)),
    told("Means with bootstrap intervals. Red: no better than a map that knows nothing; amber: better, but these images are too few to be sure.", "quiet"),
    make("div", { className: "plots" }, ...plots.map(([name, src]) => make("img", { src, alt: name, loading: "lazy" }))),
  ));
  byId("evaluation").hidden = false;
}

function showCheck({ counts, missing }) {
  const words = { alike: "alike", differs: "changed", missing: "missing", extra: "extra" };
  const parts = Object.entries(words).filter(([v]) => counts[v]).map(([v, word]) => `${counts[v]} ${word}`);
  const list = missing.length ? make("ul", {}, ...missing.map((name) => make("li", { dir: "auto", textContent: name }))) : null;
  const summary = make("summary", { textContent: `Against the baseline: ${parts.join(", ")}` });
  byId("check").append(make("details", {}, summary, list && told("In the baseline and not here:"), list));
  byId("check").hidden = false;
}

function listen() {
  const controls = byId("controls");
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.addEventListener("input", (event) => {
    if (!event.target.classList.contains("opacity")) readControls();
  });
  controls.addEventListener("reset", () => {
    wish.reversed = false;
    byId("reversed").setAttribute("aria-pressed", "false");
    setTimeout(() => {
      setOpacity(facts.alpha);
      readControls();
    });
  });
  byId("reversed").addEventListener("click", () => {
    wish.reversed = !wish.reversed;
    byId("reversed").setAttribute("aria-pressed", wish.reversed);
    readControls();
  });
  byId("more").addEventListener("click", () => {
    byId("more").setAttribute("aria-expanded", controls.classList.toggle("all"));
  });
  for (const slider of document.querySelectorAll(".opacity")) {
    slider.addEventListener("input", () => setOpacity(slider.value / 100));
  }
  byId("theme").addEventListener("click", otherTheme);
  byId("help-button").addEventListener("click", () => byId("help").showModal());
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  byId("close").addEventListener("click", close);
  viewer.addEventListener("cancel", (event) => {
    event.preventDefault();
    close();
  });
  viewer.addEventListener("close", () => {
    if (location.hash.startsWith("#image-")) close(); // by the browser itself
  });
  addEventListener("hashchange", followAddress);
  addEventListener("scroll", () => requestAnimationFrame(drawCards), { passive: true });
  addEventListener("resize", relayout);
  addEventListener("keydown", press);
}

root.style.setProperty("--dim", facts.dim);
root.style.setProperty("--saved", Math.min(0.99, facts.alpha));
showHead();
fillControls();
if (facts.evaluation) showEvaluation(facts.evaluation);
if (facts.check) showCheck(facts.check);
setOpacity(facts.alpha);
listen();
showGallery();
followAddress();
root.dataset.ready = Math.round(performance.now()); // how long it took, in milliseconds
