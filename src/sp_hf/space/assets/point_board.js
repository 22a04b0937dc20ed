// A point on an image, chosen by pointer or keyboard.
// value: {src, width, height, grid: [rows, columns], at: [x, y] in percent}
const board = element.querySelector(".point-board");
const patch = document.createElement("span");
patch.className = "patch";

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function cell() {
  const [rows, columns] = props.value.grid;
  const [x, y] = props.value.at;
  return [clamp(Math.floor(y / 100 * rows), 0, rows - 1), clamp(Math.floor(x / 100 * columns), 0, columns - 1)];
}

function draw() {
  const value = props.value;
  board.hidden = !value || !value.src;
  if (board.hidden) return;
  const [rows, columns] = value.grid;
  const [row, column] = cell();
  board.style.aspectRatio = `${value.width} / ${value.height}`;
  board.style.backgroundImage = `url("${value.src}")`;
  Object.assign(patch.style, {
    left: `${column / columns * 100}%`, top: `${row / rows * 100}%`,
    width: `${100 / columns}%`, height: `${100 / rows}%`,
  });
  board.replaceChildren(patch);
  board.setAttribute("aria-label",
    `The image. Patch in row ${row + 1} of ${rows}, column ${column + 1} of ${columns} is chosen; ` +
    "arrow keys choose another, Enter compares.");
}

function set(x, y, done) {
  props.value = { ...props.value, at: [clamp(x, 0, 100), clamp(y, 0, 100)].map((n) => Math.round(n * 10) / 10) };
  draw();
  if (done) trigger("input");
}

board.addEventListener("click", (event) => {
  const area = board.getBoundingClientRect();
  set((event.clientX - area.left) / area.width * 100, (event.clientY - area.top) / area.height * 100, true);
});

board.addEventListener("keydown", (event) => {
  if (!props.value) return;
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  if (!step && event.key !== "Enter" && event.key !== " ") return;
  event.preventDefault();
  if (!step) { trigger("input"); return; }
  const [rows, columns] = props.value.grid;
  const [row, column] = cell();
  set((clamp(column + step[1], 0, columns - 1) + 0.5) / columns * 100,
      (clamp(row + step[0], 0, rows - 1) + 0.5) / rows * 100, false);
});

watch("value", draw);
draw();
