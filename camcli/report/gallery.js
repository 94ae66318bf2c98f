// A card for each matching image. Only the cards on the screen exist in the document, so that ten
// thousand images are as fast as fifty.

const GAP = 12;
const CAPTION_HEIGHT = 64; // a card's height without its picture
const NUMBERS_HEIGHT = 18; // of a line of numbers in a card
const gallery = document.getElementById("gallery");
const cards = new Map(); // by their index in `entries`
let entries = [];
let layout = { columns: 1, width: 0, height: 0 };
let currentIndex = 0;

function layOutGallery() {
  const available = gallery.clientWidth;
  const minWidth = available < 520 ? 150 : 210;
  const columns = Math.max(1, Math.floor((available + GAP) / (minWidth + GAP)));
  const width = Math.floor((available + GAP) / columns) - GAP;
  const numbersHeight = NUMBERS_HEIGHT * linesOfNumbers(width);
  gallery.style.setProperty("--numbers", `${numbersHeight}px`);
  layout = { columns, width, height: Math.round(width * 0.75) + CAPTION_HEIGHT + numbersHeight };
  const rows = Math.ceil(entries.length / columns);
  gallery.style.height = `${rows * (layout.height + GAP)}px`;
  for (const card of cards.values()) card.remove();
  cards.clear();
  drawCards();
}

// Add the cards that are now visible, with a row to spare on each side, and remove the others.
function drawCards() {
  const step = layout.height + GAP;
  const top = -gallery.getBoundingClientRect().top;
  const first = Math.max(0, Math.floor(top / step) - 1) * layout.columns;
  const last = Math.min(entries.length, (Math.ceil((top + innerHeight) / step) + 1) * layout.columns);
  for (const [index, card] of cards) {
    if ((index < first || index >= last) && card !== document.activeElement) {
      card.remove();
      cards.delete(index);
    }
  }
  for (let index = first; index < last; index++) cardAt(index);
}

// A print has all cards, not only those on the screen.
function drawAllCards() {
  entries.forEach((_, index) => cardAt(index));
}

function cardAt(index) {
  if (!cards.has(index)) {
    const card = createCard(entries[index]);
    const [row, column] = [Math.floor(index / layout.columns), index % layout.columns];
    const [left, top] = [column * (layout.width + GAP), row * (layout.height + GAP)];
    const rectangle = { left, top, width: layout.width, height: layout.height };
    for (const [side, pixels] of Object.entries(rectangle)) card.style[side] = `${pixels}px`;
    card.addEventListener("focus", () => (currentIndex = index));
    card.addEventListener("click", (event) => openCard(event, entries[index].image));
    cards.set(index, card);
    gallery.insertBefore(card, cards.get(index + 1) ?? null); // in reading order
  }
  return cards.get(index);
}

// Open the image of a card here, or leave it to the browser to open it in a new tab or window.
function openCard(event, image) {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  state.set({ image: addressName(image) });
}

// The lines that cards have for the numbers of the check and the value of the order.
function linesOfNumbers(width) {
  if (data.check) return width < 210 ? 3 : 2;
  return ORDERS[filters.order].show ? 1 : 0;
}

function numbersOf({ result, key }) {
  const { show } = ORDERS[filters.order];
  const [texts, isOrder] = [changeNumbers(result), (text) => text.startsWith(`${filters.order} `)];
  if (show && key !== undefined && !texts.some(isOrder)) texts.unshift(`${filters.order} ${show(key)}`);
  return texts.sort((a, b) => isOrder(b) - isOrder(a)).join(", "); // the order's value is first
}

function createCard(entry) {
  const { image, result, results } = entry;
  const card = create("a", { className: "card", href: state.addressOf({ image: addressName(image) }), title: image.name });
  const picture = pictureOf(image, result, { longest: 128, large: false });
  const area = create("div", { className: "picture-area" });
  if (picture.children.length) area.append(fitIntoCard(picture, sizeOf(image, result)));
  else area.append(create("p", { className: "no-picture", textContent: result.error ?? "no picture" }));
  const prediction = result.class ? `${result.class} ${formatPercent(result.probability)}` : "";
  const title = create("span", { className: "title", textContent: titleOf(image, result) });
  const more = results.length > 1 ? create("span", { className: "badge", textContent: `+${results.length - 1}` }) : null;
  card.append(
    area,
    create("b", { className: "line", dir: "auto", textContent: image.name }),
    create("span", { className: "line", dir: "auto", textContent: prediction }),
    create("span", { className: "numbers", textContent: numbersOf(entry) }),
    create("span", { className: "line muted" }, ...badgesOf(result), title, more),
  );
  card.classList.add(result.status);
  return card;
}

// Make a picture as large as its card allows.
function fitIntoCard(picture, [width, height]) {
  const isTall = height / width > 0.75;
  picture.style[isTall ? "height" : "width"] = "100%";
  return picture;
}

function showGallery() {
  entries = matchingEntries();
  currentIndex = Math.min(currentIndex, Math.max(0, entries.length - 1));
  const [matching, all] = [entries.length, images.length].map((n) => n.toLocaleString("en"));
  const noun = images.length === 1 ? "image" : "images";
  document.getElementById("count").value = matching === all ? `${all} ${noun}` : `${matching} of ${all} ${noun}`;
  document.getElementById("shared").value = ""; // said of another selection
  const method = filters.method ? "" : orderedMethod();
  document.getElementById("order-note").value = method && countValues((result) => [result.method]).length > 1
    ? `${filters.order} of ${method}: values of several methods are not mixed, choose a method for another one`
    : "";
  layOutGallery();
}

// Scroll to the card of an index and focus it.
function focusCard(index) {
  if (!entries.length) return;
  currentIndex = Math.min(Math.max(index, 0), entries.length - 1);
  const step = layout.height + GAP;
  const top = gallery.offsetTop + Math.floor(currentIndex / layout.columns) * step;
  const controls = document.getElementById("controls");
  const covered = getComputedStyle(controls).position === "sticky" ? controls.offsetHeight : 0;
  if (top < scrollY + covered) scrollTo({ top: top - covered - GAP });
  else if (top + step > scrollY + innerHeight) scrollTo({ top: top + step - innerHeight });
  drawCards();
  cardAt(currentIndex).focus({ preventScroll: true });
}
