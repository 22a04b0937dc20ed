// Two boxes on an image, moved and resized by pointer or keyboard.
// value: {src, width, height, first: [left, top, width, height], second: [...]}, in percent of the image
const board = element.querySelector(".box-board");
const SMALLEST = 10;
const NAMES = { first: "1", second: "2" };
let grab = null;

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function place(node, box) {
  const [left, top, width, height] = box;
  Object.assign(node.style, { left: `${left}%`, top: `${top}%`, width: `${width}%`, height: `${height}%` });
  node.setAttribute("aria-label",
    `Box ${NAMES[node.dataset.box]}: left ${Math.round(left)} %, top ${Math.round(top)} %, ` +
    `width ${Math.round(width)} %, height ${Math.round(height)} %. Arrow keys move it, with Shift they resize it.`);
}

function draw() {
  const value = props.value;
  board.hidden = !value || !value.src;
  if (board.hidden) return;
  board.style.aspectRatio = `${value.width} / ${value.height}`;
  board.style.backgroundImage = `url("${value.src}")`;
  if (!board.children.length) {
    for (const name of ["first", "second"]) {
      const box = document.createElement("div");
      box.className = `box ${name}`;
      box.dataset.box = name;
      box.tabIndex = 0;
      box.setAttribute("role", "group");
      box.append(Object.assign(document.createElement("span"), { className: "name", textContent: NAMES[name] }));
      box.append(Object.assign(document.createElement("span"), { className: "handle" }));
      board.append(box);
    }
  }
  for (const node of board.children) place(node, value[node.dataset.box]);
}

function moved([left, top, width, height], dx, dy) {
  return [clamp(left + dx, 0, 100 - width), clamp(top + dy, 0, 100 - height), width, height];
}

function resized([left, top, width, height], dx, dy) {
  return [left, top, clamp(width + dx, SMALLEST, 100 - left), clamp(height + dy, SMALLEST, 100 - top)];
}

function set(name, box, done) {
  props.value = { ...props.value, [name]: box.map((number) => Math.round(number * 10) / 10) };
  draw();
  if (done) trigger("input");
}

board.addEventListener("pointerdown", (event) => {
  const node = event.target.closest(".box");
  if (!node) return;
  const resize = event.target.classList.contains("handle");
  grab = { name: node.dataset.box, change: resize ? resized : moved, x: event.clientX, y: event.clientY,
           box: props.value[node.dataset.box] };
  board.setPointerCapture(event.pointerId);
  node.focus();
  event.preventDefault();
});

board.addEventListener("pointermove", (event) => {
  if (!grab) return;
  const area = board.getBoundingClientRect();
  const dx = (event.clientX - grab.x) / area.width * 100;
  const dy = (event.clientY - grab.y) / area.height * 100;
  set(grab.name, grab.change(grab.box, dx, dy), false);
});

for (const end of ["pointerup", "pointercancel"]) {
  board.addEventListener(end, () => {
    if (grab) trigger("input");
    grab = null;
  });
}

board.addEventListener("keydown", (event) => {
  const node = event.target.closest(".box");
  const step = { ArrowLeft: [-2, 0], ArrowRight: [2, 0], ArrowUp: [0, -2], ArrowDown: [0, 2] }[event.key];
  if (!node || !step) return;
  event.preventDefault();
  const name = node.dataset.box;
  set(name, (event.shiftKey ? resized : moved)(props.value[name], ...step), true);
});

watch("value", draw);
draw();
