"use strict";
// Filters and sorts the results by the attributes of their rows.

const results = document.getElementById("results");
const rows = [...results.rows];
const control = name => document.getElementById(name);

/** The number of an attribute; results without it come last. */
function number(row, name) {
  return name in row.dataset ? Number(row.dataset[name]) : Infinity;
}

const ORDERS = {
  number: (a, b) => a.dataset.number - b.dataset.number,
  correlation: (a, b) => number(a, "correlation") - number(b, "correlation") || ORDERS.number(a, b),
  shift: (a, b) => shifted(a) - shifted(b) || ORDERS.number(a, b),
  name: (a, b) => (a.dataset.name < b.dataset.name ? -1 : a.dataset.name > b.dataset.name ? 1 : ORDERS.number(a, b)),
};

function shifted(row) {
  return "shift" in row.dataset ? -row.dataset.shift : Infinity;
}

function fits(row, show, words) {
  const kind = show === "all" || row.dataset.show.split(" ").includes(show);
  return kind && words.every(word => row.dataset.words.includes(word));
}

function update() {
  const show = control("show").value, words = control("search").value.toLowerCase().split(/\s+/);
  let shown = 0;
  for (const row of rows) {
    row.hidden = !fits(row, show, words);
    shown += !row.hidden;
  }
  control("count").value = `${shown} of ${rows.length} results`;
}

function sort() {
  rows.sort(ORDERS[control("sort").value]);
  results.append(...rows);
}

control("sort").addEventListener("input", sort);
for (const name of ["show", "search"]) control(name).addEventListener("input", update);
control("controls").addEventListener("submit", event => event.preventDefault());
update();
