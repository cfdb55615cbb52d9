// One open prompt, in one run or two: what was stated of it, and its completions. The rest is in view.js.
"use strict";

const answering = () => ({ show: state.show, order: state.order, find: state.find });

async function showPrompt() {
  const box = $("detail");
  document.body.classList.toggle("opened", Boolean(state.prompt));
  document.body.classList.toggle("two", Boolean(state.other));
  box.hidden = !state.prompt;
  if (!state.prompt) return box.replaceChildren();
  const mine = state.prompt + state.run + state.other;
  const which = [state.run, state.other].filter(Boolean);
  const found = await Promise.all(which.map((run) => ask("prompt", { run, id: state.prompt, draw: state.draw, ...answering(), count: ANSWERS })
    .catch((error) => ({ missing: error.message }))));
  if (mine !== state.prompt + state.run + state.other) return;
  const one = found.find((f) => !f.missing);
  const step = (by, words, key) => el("button", { type: "button", on: { click: () => move(by) } }, words, " ", el("kbd", {}, key));
  const parts = [el("div", { className: "bar" }, step(-1, "previous", "k"), step(1, "next", "j"),
    el("button", { type: "button", id: "close", on: { click: close } }, "close ", el("kbd", {}, "Esc")))];
  parts.push(el("h2", { tabIndex: -1 }, el("bdi", {}, state.prompt)));
  if (one) {
    parts.push(terms(one.asked.map(([name, text]) => [name, el("bdi", {}, text)]), "asked"));
    parts.push(temperatures(one.temperatures), tools());
  }
  parts.push(el("div", { className: "sides" }, ...found.map((f, i) => side(f, which[i]))));
  box.replaceChildren(...parts);
  box.scrollTop = 0;
  if (window.matchMedia("(max-width: 64rem)").matches) box.scrollIntoView();
  if (state.draw) toDraw();
}

const terms = (items, kind) => el("dl", { className: kind }, ...items.flatMap(([name, meaning]) => [el("dt", {}, name), el("dd", {}, meaning)]));

function temperatures(found) {
  const names = ["temperature", "run", "verdict", "greedy (0)", "leaks when sampled", "P(leak), all at once"];
  const table = el("table", {}, el("thead", {}, el("tr", {}, ...names.map((name, i) => el("th", { scope: "col", className: i > 2 ? "n" : "" }, own(name))))),
    el("tbody", {}, ...found.map((row) => el("tr", {}, el("th", { scope: "row" }, row.temperature), el("td", {}, row.run), el("td", {}, tag(row)),
      el("td", { className: "n" }, row.greedy), el("td", { className: "n" }, ...share(row)), el("td", { className: "n" }, row.jointly)))));
  return el("details", { open: temperaturesOpen, on: { toggle: (event) => { temperaturesOpen = event.target.open; } } },
    el("summary", {}, `by temperature, in ${found.length === 1 ? "this run" : `${found.length} runs`}`), el("div", { className: "box" }, table));
}

function tools() {
  const pick = (name, options) => {
    const made = el("select", { on: { change: () => go({ [name]: made.value, draw: "" }, true) } }, ...Object.entries(options).map(([value, words]) => el("option", { value }, own(words))));
    made.value = state[name];
    return made;
  };
  const find = el("input", { type: "search", value: state.find, placeholder: "search completions", ariaLabel: "search completions", autocomplete: "off",
    on: { change: () => go({ find: find.value, draw: "" }, true) } });
  return el("form", { className: "tools", on: { submit: (event) => { event.preventDefault(); find.blur(); } } }, find,
    el("label", {}, "show ", pick("show", { all: "all", leaks: "leaks", clean: "no leaks", cut: "cut ones", unscored: "not scored" })),
    el("label", {}, "order ", pick("order", { score: "worst first", count: "most frequent first", draw: "as drawn" })));
}

function side(found, run) {
  const it = runs[run], made = el("section", { ariaLabel: `completions of ${it.name}` });
  if (runs.length > 1 || state.other) made.append(el("h3", {}, it.name, " ", el("span", { className: "muted" }, `temperature ${it.temperature}`)));
  if (found.missing) {
    made.append(el("div", { role: "alert", className: "alert" }, problem({ text: found.missing })));
    return made;
  }
  made.append(el("p", {}, tag(found)));
  if (found.problem) made.append(el("div", { role: "alert", className: "alert" }, problem(found.problem)));
  if (found.facts.length) made.append(terms(found.facts, "facts"));
  else made.append(el("p", { className: "alert" }, "Nothing was stated of this prompt: these completions are single answers, and prove nothing."));
  const note = it.marks ? `Marked: what ${it.scorer} found.` : it.scored ? `${it.scorer} gives a score and says no place.` : "These completions have no scores.";
  const head = el("p", { className: "muted" });
  const list = el("ol", { className: "answers" }, ...found.answers.map((a) => answer(a, run)));
  const more = el("button", { type: "button", on: { click: async () => {
    const next = await ask("prompt", { run, id: state.prompt, ...answering(), start: list.children.length, count: ANSWERS });
    list.append(...next.answers.map((a) => answer(a, run))); told();
  } } }, "more completions");
  const told = () => {
    const n = (number) => number.toLocaleString("en");
    head.textContent = `${n(found.total)}${found.total === found.of ? "" : ` of ${n(found.of)}`} distinct completions. ${note}`;
    more.hidden = list.children.length >= found.total;
  };
  told();
  const wanted = { run, id: state.prompt, what: "answers", ...answering() };
  made.append(head, list, more, el("p", { className: "links" }, ...links(wanted, "these")));
  return made;
}

function answer(found, run) {
  const text = el("bdi", { className: "said" }, ...found.pieces.map(([piece, hit]) => (hit ? el("mark", {}, piece) : piece)));
  if (!found.pieces.length) text.append(el("span", { className: "muted" }, "(empty)"));
  const times = found.draw === "greedy" ? "greedy answer" : found.times === "1" ? "once" : `${found.times} times`;
  const verdict = found.leaks === null ? ["unknown", "? not scored"] : found.leaks ? ["leaks", own("leaks", run)] : ["clean", own("no leak", run)];
  const made = el("li", { className: verdict[0], tabIndex: -1 },
    el("p", { className: "about" }, el("b", {}, verdict[1]), el("span", {}, times),
      ...found.scores.map(([name, score]) => el("span", {}, `${name} ${score}`)),
      found.chance ? el("span", {}, found.chance) : null, found.after ? el("span", {}, found.after) : null,
      el("a", { href: hash({ draw: String(found.draw) }), on: { click: (event) => { event.preventDefault(); go({ draw: String(found.draw) }, true); } } },
        found.draw === "greedy" ? "link" : `draw ${found.draw}`)),
    text);
  made.dataset.draw = found.draw;
  return made;
}

function toDraw() {
  const all = [...$("detail").querySelectorAll(".answers li")];
  const it = all.find((li) => li.dataset.draw === state.draw);
  all.forEach((li) => li.classList.toggle("current", li === it));
  it?.scrollIntoView({ block: "nearest" });
  it?.focus({ preventScroll: true });
}

function step(by) {
  const all = [...$("detail").querySelectorAll(".answers li")];
  if (!all.length) return;
  const at = all.findIndex((li) => li.dataset.draw === state.draw);
  const to = all[Math.min(Math.max(at + by, 0), all.length - 1)];
  return go({ draw: to.dataset.draw }, true);
}

async function close() {
  await go({ prompt: "", draw: "" });
  mark(true);
}
