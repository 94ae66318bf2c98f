// The zoom of the viewer: one for all pictures of an image. Positions are shares of the picture.

const LARGEST_ZOOM = 40;
const zoom = { scale: 1, x: 0, y: 0 }; // the left top corner of the content in its frame

// The content covers its frame, or is in the middle of it where it is smaller.
function setZoom(scale, x, y) {
  const clamp = (offset) => (scale < 1 ? (1 - scale) / 2 : Math.min(0, Math.max(1 - scale, offset)));
  Object.assign(zoom, { scale, x: clamp(x), y: clamp(y) });
  for (const [name, value] of Object.entries(zoom)) viewer.style.setProperty(`--zoom-${name}`, value);
  viewer.classList.toggle("zoomed", scale > 1);
}

// Zoom so that what is at a position of the frame stays there.
function zoomAt(scale, [x, y]) {
  const limited = Math.min(scale, LARGEST_ZOOM);
  const factor = limited / zoom.scale;
  setZoom(limited, x - (x - zoom.x) * factor, y - (y - zoom.y) * factor);
}

// Show one pixel of the image as one pixel of the screen, or the whole image again.
function toggleActualSize() {
  const frame = viewer.querySelector(".frame:not([hidden])");
  if (zoom.scale !== 1) setZoom(1, 0, 0);
  else if (frame) zoomAt(Number(frame.dataset.pixels) / (frame.clientWidth * devicePixelRatio), pointerPosition);
}

let pointerPosition = [0.5, 0.5]; // the last one over a picture

function positionIn(frame, { clientX, clientY }) {
  const { left, top, width, height } = frame.getBoundingClientRect();
  return [(clientX - left) / width, (clientY - top) / height];
}

// The wheel scrolls the viewer where it can, if nothing is enlarged yet. With Ctrl, which is also
// what browsers report for a pinch on a touchpad, it always zooms.
function zoomByWheel(frame, event) {
  const scrolls = zoom.scale === 1 && (event.deltaY > 0 || viewer.scrollTop > 0);
  if (scrolls && !event.ctrlKey) return;
  event.preventDefault();
  const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 20 : 1;
  const speed = event.ctrlKey ? 0.01 : 0.002;
  zoomAt(Math.max(1, zoom.scale * Math.exp(-speed * lines * event.deltaY)), positionIn(frame, event));
}

// Zoom by wheel and pinch, pan by dragging, and call `click` for what is neither.
function followPointers(frame, click) {
  const pointers = new Map(); // the positions of the pressed pointers
  let isClick = false;
  frame.addEventListener("wheel", (event) => zoomByWheel(frame, event), { passive: false });
  frame.addEventListener("pointerdown", (event) => {
    isClick = !pointers.size && event.button === 0;
    pointers.set(event.pointerId, positionIn(frame, event));
  });
  frame.addEventListener("pointermove", (event) => {
    pointerPosition = positionIn(frame, event);
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const [dx, dy] = [0, 1].map((axis) => pointerPosition[axis] - before[axis]);
    if (Math.hypot(dx * frame.clientWidth, dy * frame.clientHeight) < 4 && isClick) return;
    isClick = false;
    frame.setPointerCapture(event.pointerId);
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) pinch(other, before, pointerPosition);
    else setZoom(zoom.scale, zoom.x + dx, zoom.y + dy);
    pointers.set(event.pointerId, pointerPosition);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    frame.addEventListener(end, (event) => pointers.delete(event.pointerId));
  }
  frame.addEventListener("click", (event) => isClick && click(event));
}

// One of two fingers moved. Zoom around the other one by how their distance changes.
function pinch(other, before, after) {
  const distance = ([x, y]) => Math.hypot(x - other[0], y - other[1]);
  zoomAt(Math.max(1, zoom.scale * distance(after) / Math.max(distance(before), 0.001)), other);
}
