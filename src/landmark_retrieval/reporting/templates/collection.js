// Shows only what has the typed words in its name; without this script the page shows everything.
(() => {
  const field = document.getElementById("find");
  const said = document.getElementById("found");
  const named = [...document.querySelectorAll("[data-name]")];
  const groups = [...document.querySelectorAll(".group")];
  let waiting = 0;
  function show() {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const item of named) {
      item.hidden = !words.every((word) => item.dataset.name.includes(word));
      count += item.hidden ? 0 : 1;
    }
    for (const group of groups) group.hidden = !group.querySelector("[data-name]:not([hidden])");
    said.textContent = words.length ? `${count} found` : "";
  }
  field.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(show, 150); });
})();
