// The state of the page: filters and order of the gallery, the opened image, and the theme. All of
// it is in the address, after the `#`, so that reloading, sharing and going back lose nothing.
//
//   filters.order                 read a value
//   state.set({ order: "name" })  change values, then all that shows them, then the address
//   state.subscribe(show)         call `show` with the set of names whenever values have changed
//   state.addressOf({ image })    the address of the page with these values changed
//
// A new filter is one line of `filters` in data.js: its first value gives its type. Values that are
// as at first are not in the address.

const GALLERY_NAMES = Object.keys(filters);
const IMAGE_NAMES = ["image", "map", "against"]; // the map that fills the window, and a second one
Object.assign(filters, { image: "", map: "", against: "", theme: "" });
const FIRST_VALUES = { ...filters };
const WRITING_DELAY = 100; // ms: browsers refuse to change the address more than 20 times a second
const subscribers = [];
let writing = null;

const state = {
  set(changes) {
    const opens = changes.image && !filters.image;
    if (opens && writing) writeAddress();
    changeState(changes);
    if (!opens) return;
    history.scrollRestoration = "manual"; // going back scrolls to the card of the last image
    history.pushState({ opened: true }, "", state.addressOf({}));
  },
  subscribe: (show) => subscribers.push(show),
  addressOf(changes) {
    const values = Object.entries({ ...filters, ...changes });
    return `#${new URLSearchParams(values.filter(([name, value]) => value !== FIRST_VALUES[name]))}`;
  },
};

function changeState(changes) {
  const changed = Object.keys(changes).filter((name) => filters[name] !== changes[name]);
  Object.assign(filters, changes);
  if (changed.length) writing ??= setTimeout(writeAddress, WRITING_DELAY);
  for (const show of changed.length ? subscribers : []) show(new Set(changed));
}

function writeAddress() {
  clearTimeout(writing);
  writing = null;
  history.replaceState(history.state ?? {}, "", state.addressOf({}));
}

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const read = (text, first) => {
    if (typeof first === "number") return Number.isFinite(Number(text)) ? Number(text) : first;
    return typeof first === "boolean" ? text === "true" : text;
  };
  return Object.fromEntries(Object.entries(FIRST_VALUES).map(([name, first]) => (
    [name, given.has(name) ? read(given.get(name), first) : first]
  )));
}

// Going back and forward opens and closes images and changes nothing else. An address that was
// entered changes everything.
function followAddress() {
  const values = readAddress();
  changeState(history.state ? pick(values, IMAGE_NAMES) : values);
}

// Close the image as the browser's button does, so that this button has nothing to close later.
function closeImage() {
  if (history.state?.opened) history.back();
  else state.set(pick(FIRST_VALUES, IMAGE_NAMES));
}

function pick(values, names) {
  return Object.fromEntries(names.map((name) => [name, values[name]]));
}

// An image's name in the address. Bytes of file names that are no text are escaped.
function addressName(image) {
  return JSON.stringify(image.name).slice(1, -1);
}

addEventListener("popstate", followAddress);
addEventListener("pagehide", () => {
  history.scrollRestoration = "auto"; // reloading keeps the place
  if (writing) writeAddress();
});
