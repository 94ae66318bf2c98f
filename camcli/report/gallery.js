// Cards for the images that are asked for. Only those on the screen exist, so that ten thousand
// images are no slower than fifty.

const GAP = 12;
const CAPTION = 64; // what a card needs below its picture, and around
const gallery = document.getElementById("gallery");
const cards = new Map(); // by their place among those shown
let shown = [];
let layout = { columns: 1, width: 0, height: 0 };
let current = 0;

function relayout() {
  const inside = gallery.clientWidth;
  const least = inside < 520 ? 150 : 210;
  const columns = Math.max(1, Math.floor((inside + GAP) / (least + GAP)));
  const width = Math.floor((inside + GAP) / columns) - GAP;
  layout = { columns, width, height: Math.round(width * 0.75) + CAPTION };
  const rows = Math.ceil(shown.length / columns);
  gallery.style.height = `${rows * (layout.height + GAP)}px`;
  clearCards();
  drawCards();
}

function clearCards() {
  for (const card of cards.values()) card.remove();
  cards.clear();
}

// Make the cards that have come into sight, with some to spare, and drop those that are gone.
function drawCards() {
  const step = layout.height + GAP;
  const top = -gallery.getBoundingClientRect().top;
  const first = Math.max(0, Math.floor(top / step) - 1) * layout.columns;
  const last = Math.min(shown.length, (Math.ceil((top + innerHeight) / step) + 1) * layout.columns);
  for (const [place, card] of cards) {
    if ((place < first || place >= last) && card !== document.activeElement) {
      card.remove();
      cards.delete(place);
    }
  }
  for (let place = first; place < last; place++) cardAt(place);
}

function cardAt(place) {
  if (!cards.has(place)) {
    const card = cardOf(shown[place]);
    card.style.width = `${layout.width}px`;
    card.style.height = `${layout.height}px`;
    const [row, column] = [Math.floor(place / layout.columns), place % layout.columns];
    card.style.left = `${column * (layout.width + GAP)}px`;
    card.style.top = `${row * (layout.height + GAP)}px`;
    card.addEventListener("focus", () => (current = place));
    cards.set(place, card);
    gallery.insertBefore(card, cards.get(place + 1) ?? null); // in the order of reading
  }
  return cards.get(place);
}

function cardOf({ image, result, count }) {
  const card = make("a", { className: "card", href: `#image-${image.index}`, title: image.name });
  const stage = stageOf(image, result, { longest: 128, large: false });
  const stand = make("div", { className: "stand" });
  if (stage.children.length) stand.append(fitted(stage, sizeOf(image, result)));
  else stand.append(make("p", { className: "lack", textContent: result.error ?? "no picture" }));
  const what = result.class ? `${result.class} ${percent(result.probability)}` : "";
  const how = make("span", { className: "how", textContent: titleOf(image, result) });
  const more = count > 1 ? make("span", { className: "badge", textContent: `+${count - 1}` }) : null;
  card.append(
    stand,
    make("b", { className: "line", dir: "auto", textContent: image.name }),
    make("span", { className: "line", dir: "auto", textContent: what }),
    make("span", { className: "line quiet" }, ...badges(result), how, more),
  );
  card.classList.add(result.status);
  return card;
}

// A stage as large as its card lets it be.
function fitted(stage, [width, height]) {
  const tall = height / width > 0.75;
  stage.style[tall ? "height" : "width"] = "100%";
  return stage;
}

function showGallery() {
  shown = asked();
  current = Math.min(current, Math.max(0, shown.length - 1));
  const [few, all] = [shown.length, images.length].map((n) => n.toLocaleString("en"));
  const noun = images.length === 1 ? "image" : "images";
  document.getElementById("count").value = few === all ? `${all} ${noun}` : `${few} of ${all} ${noun}`;
  relayout();
}

// Move to an image of the gallery, and bring it into sight.
function go(place) {
  if (!shown.length) return;
  current = Math.min(Math.max(place, 0), shown.length - 1);
  const step = layout.height + GAP;
  const top = gallery.offsetTop + Math.floor(current / layout.columns) * step;
  const bar = document.getElementById("controls");
  const covered = getComputedStyle(bar).position === "sticky" ? bar.offsetHeight : 0;
  if (top < scrollY + covered) scrollTo({ top: top - covered - GAP });
  else if (top + step > scrollY + innerHeight) scrollTo({ top: top + step - innerHeight });
  drawCards();
  cardAt(current).focus({ preventScroll: true });
}
