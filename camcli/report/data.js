// The page's data, and the filters and orders that select from it. Nothing here changes the page.

const data = JSON.parse(document.getElementById("data").textContent);
const images = data.images;
images.forEach((image, index) => Object.assign(image, { index, lowerName: image.name.toLowerCase() }));

const filters = {
  text: "", method: "", class: "", target: "", status: "", verdict: "",
  minConfidence: 0, maxConfidence: 100, order: "problems", reversed: false,
};
const FIELDS = ["method", "class", "target", "status"];

// Failed results first, then empty maps, then results that differ from the baseline.
function severity(result) {
  const rank = ["error", "empty"].indexOf(result.status);
  if (rank >= 0) return rank;
  return hasChanged(result) ? 2 : 3;
}

function verdictOf(result) {
  return result.change?.verdict;
}

function hasChanged(result) {
  return verdictOf(result) !== undefined && verdictOf(result) !== "alike";
}

const ORDERS = {
  problems: (result) => severity(result),
  name: (_, image) => image.lowerName,
  class: (result) => result.class,
  confidence: (result) => result.probability,
  "map's maximum": (result) => result.map?.max ?? result.range?.[1],
};
for (const metric of new Set(allResults().flatMap((result) => Object.keys(result.values ?? {})))) {
  ORDERS[metric] = (result) => result.values?.[metric];
}

function allResults() {
  return images.flatMap((image) => image.results);
}

// The values of a field with their numbers of results, the most frequent value first.
function countValues(valueOf) {
  const counts = new Map();
  for (const result of allResults()) {
    const value = valueOf(result);
    if (value !== undefined) counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
}

function matchesFilters(result) {
  if (FIELDS.some((field) => filters[field] && result[field] !== filters[field])) return false;
  if (filters.verdict && verdictOf(result) !== filters.verdict) return false;
  // The full range also matches results without a confidence.
  if (filters.minConfidence <= 0 && filters.maxConfidence >= 100) return true;
  const percent = 100 * result.probability;
  return percent >= filters.minConfidence && percent <= filters.maxConfidence;
}

// Entries without a key come last in both directions. Equal entries keep the folder's order.
function compareEntries(a, b) {
  if (a.key === b.key) return a.image.index - b.image.index;
  if (a.key === undefined || b.key === undefined) return a.key === undefined ? 1 : -1;
  return (a.key < b.key ? -1 : 1) * (filters.reversed ? -1 : 1);
}

// The images with a matching result, in order. Each entry has the first of the matching results.
function matchingEntries() {
  const keyOf = ORDERS[filters.order];
  const text = filters.text.trim().toLowerCase();
  const entries = [];
  for (const image of images) {
    if (text && !image.lowerName.includes(text)) continue;
    const results = image.results.filter(matchesFilters);
    if (!results.length) continue;
    const keyed = results.map((result) => ({ image, result, key: keyOf(result, image) }));
    const first = keyed.reduce((a, b) => (compareEntries(a, b) <= 0 ? a : b));
    entries.push({ ...first, count: results.length });
  }
  return entries.sort(compareEntries);
}
