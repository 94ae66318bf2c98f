// A check: how the results differ from their baseline, in words and numbers.

// The measures of a check as the table of `camcli check` shows them: the name, the reason for a
// result to have changed, and the text.
const MEASURES = {
  relative: ["off by", "values", (share) => formatPercent(share)],
  correlation: ["correlation", "correlation", (value) => value.toFixed(3)],
  shift: ["shift", "hottest point", (share) => share.toFixed(2)],
};

// The measures of a result's change as texts. Those beyond the tolerance have a `!`.
function changeNumbers({ change }) {
  const found = Object.entries(MEASURES).filter(([measure]) => change?.measures[measure] !== undefined);
  return found.map(([measure, [name, reason, show]]) => (
    `${name} ${show(change.measures[measure])}${change.reasons.includes(reason) ? "!" : ""}`
  ));
}

// The reasons that are no measures.
function otherReasons({ reasons }) {
  const measured = Object.values(MEASURES).map(([, reason]) => reason);
  return reasons.filter((reason) => !measured.includes(reason));
}

// The map of the baseline as a result beside the new one, and both on one scale.
function withBaseline(result) {
  if (!result.before || !result.map) return [result];
  const tops = [result, result.before].map(({ map }) => Math.max(map.max, result.signed ? -map.min : 0));
  const top = Math.max(result.top ?? 0, ...tops);
  const { method, target, layer, signed, crop, before } = result;
  const baseline = { method, target, layer, signed, crop, top, ...before, status: "ok", isBaseline: true };
  return [baseline, { ...result, top }];
}

// Alternate between the new map and that of the baseline: of the method that fills the window, or
// of the first one that has both.
function blink(title = filters.map) {
  const views = viewsOf(viewedImage);
  const pairs = views.flatMap((view, i) => (view.result?.isBaseline ? [[view.title, views[i + 1].title]] : []));
  const pair = pairs.find((titles) => titles.includes(title)) ?? pairs[0];
  if (!pair) return;
  if (pair.includes(filters.map) && pair.includes(filters.against)) return flicker();
  setDivider(0);
  state.set({ map: pair[0], against: pair[1] });
}

function showCheck({ counts, methods, tolerances, missing }) {
  const parts = Object.entries(counts).map(([verdict, count]) => `${count} ${verdict}`);
  const items = missing.map((name) => create("li", { dir: "auto", textContent: name }));
  byId("check").append(create(
    "details", { open: Object.keys(counts).some((verdict) => verdict !== "alike") },
    create("summary", { textContent: `Compared with the baseline: ${parts.join(", ")}` }),
    create("div", { className: "scroll", tabIndex: 0 }, checkTable(methods)),
    paragraph(toleranceText(tolerances), "muted"),
    ...(items.length ? [paragraph("Only in the baseline:"), create("ul", {}, ...items)] : []),
  ));
  byId("check").hidden = false;
}

// A row for each method. A number of results that the page can show is a button that does so.
function checkTable(methods) {
  const shown = new Set(allResults().flatMap((result) => kindsOf(result).map((kind) => `${kind} ${result.method}`)));
  const columns = ["alike", "changed", "class changed", "missing", "extra"];
  const names = ["method", ...columns, "median correlation"];
  const header = names.map((textContent) => create("th", { textContent, scope: "col" }));
  const rows = methods.map((row) => create(
    "tr", {},
    create("th", { textContent: row.method, scope: "row" }),
    ...columns.map((kind) => create("td", {}, shown.has(`${kind} ${row.method}`) ? countButton(row, kind) : row[kind].toLocaleString("en"))),
    create("td", { textContent: row.correlation?.toFixed(4) ?? "-" }),
  ));
  return create("table", {}, create("thead", {}, create("tr", {}, ...header)), create("tbody", {}, ...rows));
}

function countButton({ method, ...counts }, kind) {
  const [textContent, title] = [counts[kind].toLocaleString("en"), `show ${method}, ${kind}`];
  const button = create("button", { type: "button", className: "link", textContent, title });
  button.addEventListener("click", () => state.set({ verdict: kind, method }));
  return button;
}

function toleranceText(tolerances) {
  if (!tolerances.length) return "";
  if (tolerances.length > 1) return "checked with several tolerances";
  const parts = Object.entries(tolerances[0]).map(([name, value]) => `${name.replace("_", "-")} ${value}`);
  return `tolerances: ${parts.join(", ")}. A ! marks what is beyond them.`;
}
