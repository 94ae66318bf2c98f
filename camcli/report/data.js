// The page's data, and the filters and orders that select from it. Nothing here changes the page.

const data = JSON.parse(document.getElementById("data").textContent);
const images = data.images;
images.forEach((image, index) => Object.assign(image, { index, lowerName: image.name.toLowerCase() }));

const filters = {
  text: "", method: "", class: "", target: "", status: "", verdict: "", prediction: "",
  minConfidence: 0, maxConfidence: 100, order: "problems", reversed: false,
};
const FIELDS = ["method", "class", "target", "status"];

// What the select elements offer besides FIELDS: the values of a result, and all of them in order.
const KINDS = {
  verdict: { of: (result) => kindsOf(result), all: ["class changed", "changed", "extra", "alike"] },
  prediction: { of: (result) => predictionsOf(result), all: ["right", "wrong", "unsure"] },
};

// Failed results first, then empty maps, then results whose class or else map has changed.
function severity(result) {
  const rank = ["error", "empty"].indexOf(result.status);
  if (rank >= 0) return rank;
  const [kind] = kindsOf(result);
  return kind === "class changed" ? 2 : kind === undefined || kind === "alike" ? 4 : 3;
}

// The verdict of the check. Where the class has changed, the result has, too.
function kindsOf({ change }) {
  return [change?.class_changed && "class changed", change?.verdict].filter(Boolean);
}

function predictionsOf({ correct, unsure }) {
  const judged = correct === undefined ? [] : [correct ? "right" : "wrong"];
  return unsure ? [...judged, "unsure"] : judged;
}

// The orders: the key of a result, and how its card shows it. Keys ascend, unless an order
// `descends`. Values `ofMethod` compare the results of one method.
const ORDERS = {
  problems: { key: (result) => severity(result), label: "problems first" },
  name: { key: (_, image) => image.lowerName },
  class: { key: (result) => result.class },
  confidence: { key: (result) => result.probability, show: (share) => formatPercent(share) },
  "map's maximum": { key: (result) => result.map?.max ?? result.range?.[1], show: (value) => formatNumber(value), ofMethod: true },
};
if (data.check) {
  const of = (name) => (result) => result.change?.measures[name];
  ORDERS["off by"] = { key: of("relative"), show: (share) => formatPercent(share), label: "off by, largest first", descends: true };
  ORDERS.correlation = { key: of("correlation"), show: (value) => formatNumber(value), label: "correlation, lowest first" };
  ORDERS.shift = { key: of("shift"), show: (value) => formatNumber(value), label: "shift, largest first", descends: true };
}
for (const metric of new Set(allResults().flatMap((result) => Object.keys(result.values ?? {})))) {
  ORDERS[metric] ??= { key: (result) => result.values?.[metric], show: (value) => formatNumber(value), ofMethod: true };
}

// The method whose values are in order: the chosen one or else, of values that two methods do not
// share, the first one that has them.
function orderedMethod() {
  const { key, ofMethod } = ORDERS[filters.order];
  if (filters.method || !ofMethod) return filters.method;
  for (const image of images) {
    const found = image.results.find((result) => key(result, image) !== undefined);
    if (found) return found.method;
  }
  return "";
}

function allResults() {
  return images.flatMap((image) => image.results);
}

// Values with their numbers of results: in the order of `all`, or the most frequent one first.
function countValues(valuesOf, all) {
  const counts = new Map();
  for (const result of allResults()) {
    for (const value of valuesOf(result)) counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  if (all) return all.filter((value) => counts.has(value)).map((value) => [value, counts.get(value)]);
  return [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
}

function matchesFilters(result) {
  if (FIELDS.some((field) => filters[field] && result[field] !== filters[field])) return false;
  if (Object.keys(KINDS).some((name) => filters[name] && !KINDS[name].of(result).includes(filters[name]))) return false;
  // The full range also matches results without a confidence.
  if (filters.minConfidence <= 0 && filters.maxConfidence >= 100) return true;
  const percent = 100 * result.probability;
  return percent >= filters.minConfidence && percent <= filters.maxConfidence;
}

// Entries without a key come last in both directions. Equal entries keep the folder's order.
function compareEntries(a, b) {
  if (a.key === b.key) return a.image.index - b.image.index;
  if (a.key === undefined || b.key === undefined) return a.key === undefined ? 1 : -1;
  const descends = Boolean(ORDERS[filters.order].descends) !== filters.reversed;
  return (a.key < b.key ? -1 : 1) * (descends ? -1 : 1);
}

// The images with a matching result, in order. Each entry has the first of the matching results.
function matchingEntries() {
  const [keyOf, method] = [ORDERS[filters.order].key, orderedMethod()];
  const text = filters.text.trim().toLowerCase();
  const entries = [];
  for (const image of images) {
    if (text && !image.lowerName.includes(text)) continue;
    const results = image.results.filter(matchesFilters);
    if (!results.length) continue;
    const keyed = results.map((result) => {
      const key = method && result.method !== method ? undefined : keyOf(result, image);
      return { image, result, key };
    });
    const first = keyed.reduce((a, b) => (compareEntries(a, b) <= 0 ? a : b));
    entries.push({ ...first, results });
  }
  return entries.sort(compareEntries);
}
