// What the page knows, and which of it is asked for. Nothing here touches the page.

const facts = JSON.parse(document.getElementById("facts").textContent);
const images = facts.images;
images.forEach((image, index) => Object.assign(image, { index, folded: image.name.toLowerCase() }));

const wish = {
  text: "", method: "", class: "", target: "", status: "", verdict: "",
  low: 0, high: 100, order: "problems", reversed: false,
};
const FIELDS = ["method", "class", "target", "status"];

// The worst first, and what is worth a look before what is not.
function severity(result) {
  const place = ["error", "empty"].indexOf(result.status);
  if (place >= 0) return place;
  return verdictOf(result) && verdictOf(result) !== "alike" ? 2 : 3;
}

function verdictOf(result) {
  return result.change?.verdict;
}

const ORDERS = {
  problems: (result) => severity(result),
  name: (_, image) => image.folded,
  class: (result) => result.class,
  confidence: (result) => result.probability,
  "map's maximum": (result) => result.map?.high ?? result.range?.[1],
};
for (const metric of new Set(everyResult().flatMap((one) => Object.keys(one.values ?? {})))) {
  ORDERS[metric] = (result) => result.values?.[metric];
}

function everyResult() {
  return images.flatMap((image) => image.results);
}

// The values of a field, the most frequent first, with how many results have each.
function choices(valueOf) {
  const counts = new Map();
  for (const result of everyResult()) {
    const value = valueOf(result);
    if (value !== undefined) counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
}

function isAsked(result) {
  if (FIELDS.some((field) => wish[field] && result[field] !== wish[field])) return false;
  if (wish.verdict && verdictOf(result) !== wish.verdict) return false;
  if (wish.low <= 0 && wish.high >= 100) return true; // then also what has no confidence
  const percent = 100 * result.probability;
  return percent >= wish.low && percent <= wish.high;
}

// Ascending, or descending; what has no value comes last either way, and equals as in the folder.
function compare(a, b) {
  if (a.key === b.key) return a.image.index - b.image.index;
  if (a.key === undefined || b.key === undefined) return a.key === undefined ? 1 : -1;
  return (a.key < b.key ? -1 : 1) * (wish.reversed ? -1 : 1);
}

// The images that have a result that is asked for, in order, each with that which comes first.
function asked() {
  const keyOf = ORDERS[wish.order];
  const text = wish.text.trim().toLowerCase();
  const found = [];
  for (const image of images) {
    if (text && !image.folded.includes(text)) continue;
    const results = image.results.filter(isAsked);
    if (!results.length) continue;
    const keyed = results.map((result) => ({ image, result, key: keyOf(result, image) }));
    found.push({ ...keyed.reduce((a, b) => (compare(a, b) <= 0 ? a : b)), count: results.length });
  }
  return found.sort(compare);
}
