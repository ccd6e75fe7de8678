"use strict";
// Fetches the page anew and puts what has changed in the place of the old. Without this the page
// reloads itself. Nothing is swapped while somebody selects text in it, or does not look.
const EVERY = 5000;
const ANSWER_MAX = 4000;
// What changes, by its id. Of a pod that was starting, also what there is to see.
const PARTS = ["up", "sections", "live", "all-settings"];
const part = (page, id) => page.getElementById(id);
const say = (text, mood) => {
  const state = part(document, "state");
  // Only news: a screen reader reads out every change.
  if (state.textContent !== text) state.textContent = text;
  state.className = "state " + mood;
};
let runs = location.search !== "?refresh=off";

function selects() {
  const selection = document.getSelection();
  return !selection.isCollapsed && part(document, "main").contains(selection.anchorNode);
}

function replace(old, fresh) {
  // What somebody has opened stays so.
  if (old.open) fresh.open = true;
  if (old.outerHTML === fresh.outerHTML) return;
  const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
  const scrolled = new Map(Array.from(old.querySelectorAll(".wide"), (it) => [it.id, it.scrollLeft]));
  old.replaceWith(fresh);
  for (const [id, left] of scrolled) if (part(document, id)) part(document, id).scrollLeft = left;
  if (focused && part(document, focused)) part(document, focused).focus({ preventScroll: true });
}

function swap(page) {
  // Another version has another page, and perhaps another script.
  if (part(page, "version").textContent !== part(document, "version").textContent) return location.reload();
  for (const id of PARTS) replace(part(document, id), document.importNode(part(page, id), true));
  const state = part(page, "state");
  say(state.textContent, state.className.replace("state ", ""));
  document.title = page.title;
}

async function refresh() {
  if (!runs || document.hidden || selects()) return;
  try {
    const answer = await fetch(location.pathname, { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MAX) });
    if (!answer.ok) throw new Error(answer.status);
    swap(new DOMParser().parseFromString(await answer.text(), "text/html"));
    document.documentElement.dataset.refreshed = "yes";
  } catch {
    say("No answer: what is shown is old", "bad");
  }
}

const button = document.createElement("button");
button.type = "button";
const name = () => (button.textContent = runs ? "Stop refreshing" : "Refresh every 5 s");
name();
button.addEventListener("click", () => {
  runs = !runs;
  name();
  refresh();
});
part(document, "refreshing").replaceChildren(button);
setInterval(refresh, EVERY);
