"use strict";
const form = document.getElementById("form");
const drop = document.getElementById("drop");
const input = document.getElementById("photo");
const status = document.getElementById("status");
const results = document.getElementById("results");
const maxMib = Number(form.dataset.maxMib);

function say(text, problem = false) {
  status.textContent = text;
  status.classList.toggle("alert", problem);
}

async function search(file) {
  if (file.size > maxMib * 2 ** 20) {
    say(`${file.name} has ${(file.size / 2 ** 20).toFixed(1)} MiB, more than ${maxMib}.`, true);
    return;
  }
  say(`Searching for ${file.name} …`);
  results.setAttribute("aria-busy", "true");
  try {
    const address = `/search?name=${encodeURIComponent(file.name)}`;
    const answer = await fetch(address, { method: "POST", body: file, headers: { "content-type": "application/octet-stream" } });
    if (!answer.ok) {
      const problem = await answer.json().catch(() => ({ detail: answer.statusText }));
      say(`${file.name}: ${problem.detail}`, true);
      return;
    }
    results.innerHTML = await answer.text();
    for (const image of results.querySelectorAll('img[src=""]')) image.src = URL.createObjectURL(file);
    say("");
  } catch (error) {
    say(`The server does not answer (${error.message}).`, true);
  } finally {
    results.removeAttribute("aria-busy");
  }
}

input.addEventListener("change", () => {
  if (input.files.length) search(input.files[0]);
  input.value = "";
});
for (const event of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(event, (happened) => {
    happened.preventDefault();
    drop.classList.toggle("over", event === "dragenter" || event === "dragover");
    if (event === "drop" && happened.dataTransfer.files.length) search(happened.dataTransfer.files[0]);
  });
}
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) search(event.clipboardData.files[0]);
});
