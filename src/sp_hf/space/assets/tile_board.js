// A jigsaw that a visitor solves: tiles are buttons; choose two, and they change places.
// value: {src, grid, width, height, placed: [tile in each place], right: [is it right?] or null}
const board = element.querySelector(".tile-board");
let picked = null;
let focused = 0;

function draw() {
  const value = props.value;
  board.replaceChildren();
  board.hidden = !value || !value.src;
  if (board.hidden) return;
  const grid = value.grid;
  board.style.gridTemplateColumns = `repeat(${grid}, 1fr)`;
  board.style.aspectRatio = `${value.width} / ${value.height}`;
  value.placed.forEach((tile, place) => {
    const button = document.createElement("button");
    const right = value.right ? value.right[place] : null;
    const verdict = right === null ? "" : right ? ", right" : ", wrong";
    button.type = "button";
    button.dataset.place = place;
    button.className = right === null ? "" : right ? "right" : "wrong";
    button.style.backgroundImage = `url("${value.src}")`;
    button.style.backgroundSize = `${grid * 100}% ${grid * 100}%`;
    button.style.backgroundPosition =
      `${(tile % grid) / (grid - 1) * 100}% ${Math.floor(tile / grid) / (grid - 1) * 100}%`;
    button.setAttribute("aria-pressed", place === picked);
    button.setAttribute("aria-label",
      `Tile ${tile + 1}, in row ${Math.floor(place / grid) + 1}, column ${place % grid + 1}${verdict}`);
    button.tabIndex = place === focused ? 0 : -1;
    board.append(button);
  });
}

function choose(place) {
  focused = place;
  if (picked === null || picked === place) {
    picked = picked === place ? null : place;
  } else {
    const placed = [...props.value.placed];
    [placed[picked], placed[place]] = [placed[place], placed[picked]];
    picked = null;
    props.value = { ...props.value, placed, right: null };
  }
  draw();
  board.children[place].focus();
}

element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-place]");
  if (button) choose(Number(button.dataset.place));
});

element.addEventListener("keydown", (event) => {
  const button = event.target.closest("button[data-place]");
  const grid = props.value && props.value.grid;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -grid, ArrowDown: grid }[event.key];
  if (!button || step === undefined) return;
  event.preventDefault();
  const place = Number(button.dataset.place);
  const next = place + step;
  const sameRow = Math.floor(next / grid) === Math.floor(place / grid);
  if (next < 0 || next >= grid * grid || (Math.abs(step) === 1 && !sameRow)) return;
  focused = next;
  for (const one of board.children) one.tabIndex = Number(one.dataset.place) === next ? 0 : -1;
  board.children[next].focus();
});

watch("value", () => { picked = null; draw(); });
draw();
