// The table of classes: open a class, sort by a column, filter by name.

const table = document.getElementById("classes");
const bodies = [...table.querySelectorAll("tbody[id]")];
const filter = document.getElementById("filter");

function setOpen(body, isOpen) {
  body.querySelector(".expand").setAttribute("aria-expanded", isOpen);
  body.querySelector("tr:last-child").hidden = !isOpen;
}

function valueOf(body, column) {
  const cell = body.rows[0].cells[column];
  if (column === 0) return cell.textContent;
  return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
}

// The order of two values. Missing ones are last in both directions.
function compare(one, other, direction) {
  if (one === null || other === null) return (one === null) - (other === null);
  return direction * (typeof one === "string" ? one.localeCompare(other, "en", { numeric: true }) : one - other);
}

function sortBy(header) {
  const column = header.cellIndex;
  const direction = header.ariaSort === "ascending" ? -1 : 1;
  for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
  const keyed = bodies.map((body) => [valueOf(body, column), body]);
  keyed.sort(([one], [other]) => compare(one, other, direction));
  table.append(...keyed.map(([, body]) => body));
}

function filterByName() {
  const part = filter.value.trim().toLowerCase();
  for (const body of bodies) body.hidden = !valueOf(body, 0).toLowerCase().includes(part);
  const shown = bodies.filter((body) => !body.hidden).length;
  document.getElementById("count").value = part ? `${shown} of ${bodies.length}` : "";
}

// A link to a class opens it.
function followAddress() {
  const body = bodies.find((one) => `#${one.id}` === location.hash);
  if (!body) return;
  body.hidden = false;
  setOpen(body, true);
  body.scrollIntoView();
  body.querySelector(".expand").focus({ preventScroll: true });
}

table.addEventListener("click", ({ target }) => {
  const button = target.closest("button");
  if (!button) return;
  if (!button.classList.contains("expand")) sortBy(button.closest("th"));
  else setOpen(button.closest("tbody"), button.getAttribute("aria-expanded") !== "true");
});
filter.addEventListener("input", filterByName);
addEventListener("hashchange", followAddress);
filterByName(); // a browser may keep the text of a reloaded page
followAddress();
