"use strict";
const form = document.getElementById("form");
const drop = document.getElementById("drop");
const input = document.getElementById("photo");
const status = document.getElementById("status");
const results = document.getElementById("results");
const count = document.getElementById("count");
const maxMib = Number(form.dataset.maxMib);
const waiting = [];
const problems = [];
let searching = false;

const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

function say(text, problem = false) {
  status.textContent = [...problems, text].filter(Boolean).join(" ");
  status.classList.toggle("alert", problem || (!text && problems.length > 0));
}

// A busy service says when to come back: photos wait in line instead of failing.
async function ask(address, options) {
  for (;;) {
    const answer = await fetch(address, options);
    if (answer.status !== 429 && answer.status !== 503) return answer;
    await pause(Number(answer.headers.get("retry-after")) || 2);
  }
}

async function problemOf(answer) {
  const problem = await answer.json().catch(() => ({ detail: answer.statusText }));
  return problem.detail;
}

async function search(file) {
  if (file.size > maxMib * 2 ** 20) {
    problems.push(`${file.name} has ${(file.size / 2 ** 20).toFixed(1)} MiB, more than ${maxMib}.`);
    return;
  }
  const address = `/search?name=${encodeURIComponent(file.name)}`;
  const answer = await ask(address, { method: "POST", body: file, headers: { "content-type": "application/octet-stream" } });
  if (!answer.ok) {
    problems.push(`${file.name}: ${await problemOf(answer)}.`);
    return;
  }
  const piece = document.createElement("template");
  piece.innerHTML = (await answer.text()).trim();
  const article = piece.content.querySelector("article");
  const picture = URL.createObjectURL(file);
  for (const image of article.querySelectorAll("img.own")) image.src = picture;
  article.querySelector("button.add").addEventListener("click", (event) => add(file, event.target));
  results.prepend(article);
}

async function add(file, button) {
  const said = button.parentElement.querySelector(".added");
  button.disabled = true;
  said.textContent = "Adding …";
  try {
    const body = new FormData();
    body.append("photo", file, file.name);
    const answer = await ask("/api/photos", { method: "POST", body });
    if (!answer.ok) throw new Error(await problemOf(answer));
    const [photo] = (await answer.json()).added;
    count.textContent = Number(count.textContent) + 1;
    said.textContent = `It is in the collection now, as ${photo.id}. `;
    const undo = document.createElement("button");
    undo.type = "button";
    undo.textContent = "Take it out again";
    undo.addEventListener("click", () => take(photo, button, said));
    said.append(undo);
  } catch (error) {
    said.textContent = `Not added: ${error.message}`;
    button.disabled = false;
  }
}

async function take(photo, button, said) {
  const answer = await ask(photo.picture, { method: "DELETE" });
  said.textContent = answer.ok ? "It is out again." : `Not taken out: ${await problemOf(answer)}`;
  if (answer.ok) count.textContent = Number(count.textContent) - 1;
  button.disabled = !answer.ok;
}

async function searchAll(files) {
  waiting.push(...files);
  if (searching) return;
  searching = true;
  problems.length = 0;
  results.setAttribute("aria-busy", "true");
  try {
    while (waiting.length) {
      const file = waiting.shift();
      say(`Searching for ${file.name}${waiting.length ? ` (${waiting.length} more)` : ""} …`);
      await search(file);
    }
    say("");
  } catch (error) {
    waiting.length = 0;
    say(`The server does not answer (${error.message}).`, true);
  } finally {
    searching = false;
    results.removeAttribute("aria-busy");
  }
}

input.addEventListener("change", () => {
  searchAll([...input.files]); // a copy: the list empties with the field
  input.value = "";
});
for (const event of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(event, (happened) => {
    happened.preventDefault();
    drop.classList.toggle("over", event === "dragenter" || event === "dragover");
    if (event === "drop") searchAll(happened.dataTransfer.files);
  });
}
document.addEventListener("paste", (event) => searchAll(event.clipboardData.files));
