// Small photographs, one of which is chosen.
// value: {photos: [{src, name}], chosen: index, or -1 for none of them}
const strip = element.querySelector(".photo-strip");

function draw() {
  const value = props.value;
  if (!value) return;
  if (strip.children.length !== value.photos.length) {
    strip.replaceChildren(...value.photos.map((photo, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.index = index;
      button.setAttribute("aria-label", `Photo: ${photo.name}`);
      button.style.backgroundImage = `url("${photo.src}")`;
      return button;
    }));
  }
  for (const button of strip.children) button.setAttribute("aria-pressed", Number(button.dataset.index) === value.chosen);
}

element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-index]");
  if (!button) return;
  props.value = { ...props.value, chosen: Number(button.dataset.index) };
  draw();
  trigger("input");
});

watch("value", draw);
draw();
