// Shows only what has the typed words in its name; without this script the page shows everything.
(() => {
  const field = document.getElementById("find");
  const said = document.getElementById("found");
  const groups = new Map([[null, []]]);
  for (const item of document.querySelectorAll("[data-name]")) {
    const group = item.closest(".group");
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push(item);
  }
  let waiting = 0;
  // Of a group in which nothing is found only the group itself is hidden, so that few of many photos are touched.
  function hide(item, hidden) { if (item.hidden !== hidden) item.hidden = hidden; }
  function show() {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const [group, items] of groups) {
      const found = items.map((item) => words.every((word) => item.dataset.name.includes(word)));
      const some = found.filter(Boolean).length;
      count += some;
      if (group) hide(group, some === 0);
      if (!group || some) items.forEach((item, at) => hide(item, !found[at]));
    }
    said.textContent = words.length ? `${count} found` : "";
  }
  field.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(show, 150); });
})();
