// One map over the whole window of the viewer, and a second one to compare it with: a divider shows
// the first one on its left and the second one on its right.

const stage = document.getElementById("stage");
const screen = document.getElementById("screen");
const divider = document.getElementById("divider");

function showStage(image, views, first) {
  const second = views.find((view) => view !== first && view.title === filters.against);
  fillViews("shown", views, first.title);
  fillViews("against", [{ title: "" }, ...views.filter((view) => view !== first)], second?.title ?? "");
  const frame = createFrame(image, first.result, 768, () => {});
  const shown = [[first, frame.firstChild, "left"]];
  if (second) {
    const picture = pictureOf(image, second.result, { longest: 768, large: true });
    frame.append(create("div", { className: "second" }, picture), createHandle(frame));
    shown.push([second, picture, "right"]);
  }
  screen.replaceChildren(frame);
  document.getElementById("readings").replaceChildren(...shown.map((one) => createReading(...one)));
  for (const element of stage.querySelectorAll(".comparing")) element.hidden = !second;
  if (!stage.contains(document.activeElement)) document.getElementById("name").focus();
}

function fillViews(id, views, title) {
  const options = views.map((view) => create("option", { value: view.title, textContent: view.title || "nothing" }));
  document.getElementById(id).replaceChildren(...options);
  document.getElementById(id).value = title;
}

function createReading({ title, result }, picture, side) {
  const output = create("output", { className: "value" });
  if (result) viewMap(picture, result, output);
  const about = result ? ` ${explainedText(result)} · ` : "";
  const text = create("p", {}, create("b", { textContent: title }), about, output);
  return create("div", { className: side }, text, result && barOf(result));
}

// The line of the divider, to be dragged.
function createHandle(frame) {
  const handle = create("div", { className: "divider" });
  handle.addEventListener("pointerdown", (event) => {
    event.stopPropagation();
    handle.setPointerCapture(event.pointerId);
  });
  handle.addEventListener("pointermove", (event) => {
    if (handle.hasPointerCapture(event.pointerId)) setDivider(100 * positionIn(frame, event)[0]);
  });
  return handle;
}

function setDivider(percent) {
  divider.value = percent;
  stage.style.setProperty("--divider", divider.value);
  stage.dataset.shown = { 0: "right", 100: "left" }[divider.value] ?? "both";
}

// Show only the second map, or only the first one again. Without a second one, it is the original.
function flicker() {
  if (stage.hidden) return;
  const second = document.getElementById("against");
  if (second.value) return setDivider(divider.value > 0 ? 0 : 100);
  setDivider(0);
  state.set({ against: second.options[1]?.value ?? "" });
}

// Return from one map to all.
function leaveStage() {
  const title = filters.map;
  state.set({ map: "", against: "" });
  const frames = [...document.querySelectorAll("#figures .frame")];
  frames.find((frame) => frame.dataset.title === title)?.focus();
}

// In the stage show the next map; among all maps focus the next one.
function selectNextMap() {
  const titles = viewsOf(viewedImage).map((view) => view.title);
  const next = (title) => titles[(titles.indexOf(title) + 1) % titles.length];
  if (!stage.hidden) return state.set({ map: next(filters.map) });
  const frames = [...document.querySelectorAll("#figures .frame:not([hidden])")];
  frames[(frames.indexOf(document.activeElement) + 1) % frames.length]?.focus();
}

function listenToStage() {
  document.getElementById("shown").addEventListener("input", (event) => state.set({ map: event.target.value }));
  document.getElementById("against").addEventListener("input", (event) => state.set({ against: event.target.value }));
  divider.addEventListener("input", () => setDivider(divider.value));
  document.getElementById("flicker").addEventListener("click", flicker);
  document.getElementById("all-maps").addEventListener("click", leaveStage);
  setDivider(50);
}
