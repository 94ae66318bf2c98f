// Take a selection along: the names, a table as CSV, and a link to the view.

const CSV_FIELDS = ["method", "target", "layer", "status", "class", "probability", "score", "unsure", "correct", "true"];

// A text as a cell of CSV. Like camcli/evaluation/cells.py, one that a spreadsheet would take for a
// formula has a single quote before it. Numbers stay.
function csvCell(value) {
  if (typeof value !== "string") return value === undefined ? "" : String(value);
  const text = /^[=+\-@\t\r\n']/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// A row for each result that the filters select, in the order of the gallery.
function selectionCsv() {
  const metrics = [...new Set(allResults().flatMap((result) => Object.keys(result.values ?? {})))];
  const checked = data.check ? ["verdict", "reasons", ...Object.values(MEASURES).map(([name]) => name)] : [];
  const lines = entries.flatMap(({ image, results }) => results.map((result) => [
    image.name,
    ...CSV_FIELDS.map((field) => result[field]),
    ...(checked.length ? changeCells(result) : []),
    ...metrics.map((metric) => result.values?.[metric]),
  ]));
  return [["image", ...CSV_FIELDS, ...checked, ...metrics], ...lines]
    .map((cells) => `${cells.map(csvCell).join(",")}\r\n`).join("");
}

function changeCells({ change }) {
  const numbers = Object.keys(MEASURES).map((measure) => change?.measures[measure]);
  return [change?.verdict, change?.reasons.join("; "), ...numbers];
}

function saveCsv() {
  const url = URL.createObjectURL(new Blob([selectionCsv()], { type: "text/csv" }));
  create("a", { href: url, download: "selection.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
  say(`${countedNames()} in selection.csv`);
}

function countedNames() {
  return `${entries.length.toLocaleString("en")} ${entries.length === 1 ? "image" : "images"}`;
}

// Pages that are neither on the disk nor on a secure server may not use the clipboard's interface.
async function copyText(text, done) {
  try {
    await navigator.clipboard.writeText(text);
    say(done);
  } catch {
    const area = create("textarea", { value: text, className: "visually-hidden" });
    document.body.append(area);
    area.select();
    say(document.execCommand("copy") ? done : "the browser did not allow copying");
    area.remove();
  }
}

function say(text) {
  byId("shared").value = text;
}

function listenToSharing() {
  byId("copy-names").addEventListener("click", () => {
    copyText(entries.map(({ image }) => `${image.name}\n`).join(""), `${countedNames()}: names copied`);
  });
  byId("save-csv").addEventListener("click", saveCsv);
  byId("save-view").addEventListener("click", () => {
    copyText(new URL(state.addressOf({}), location).href, "link to this view copied");
  });
}
