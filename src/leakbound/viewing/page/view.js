// The viewer: the address (after #) is the state, the server is the data. Every text is put in as text, never as markup.
"use strict";

const PAGE = 100, ANSWERS = 50;
const $ = (id) => document.getElementById(id);
const DEFAULTS = { run: "0", other: "", q: "", status: "", sort: "verdict", down: "", changed: "",
  prompt: "", draw: "", show: "all", order: "score", find: "" };
const SORT_WORDS = { verdict: "verdict, worst first", leaks: "leaks, most first", bound: "bound, largest first",
  difference: "leaks more than beside", id: "id", file: "as in the file" };

const RIGHT = { leaks: "right", "no leak": "not right", "no leaks": "not right", "leaks when sampled": "right when sampled",
  "P(leak), all at once": "P(right), all at once", "worst first": "right ones first", "verdict, worst first": "verdict, least right first",
  "leaks, most first": "right answers, most first", "leaks more than beside": "right more often than beside" };

let runs = [], state = { ...DEFAULTS }, rows = [], first = 0, total = 0, current = -1, asked = 0;
let temperaturesOpen = false;
const chosen = new Set();

// ---- small things

function el(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name === "on") for (const [event, act] of Object.entries(value)) made.addEventListener(event, act);
    else if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const query = (given) => new URLSearchParams(Object.entries(given).filter(([, v]) => v !== "" && v !== undefined)).toString();

async function ask(what, given) {
  const answer = await fetch(`api/${what}?${query(given)}`).catch(() => null);
  if (!answer) throw new Error("The server does not answer: the command leakbound view has ended. Start it again.");
  const found = await answer.json().catch(() => ({ error: `the server says ${answer.status}` }));
  if (found.error) throw new Error(found.error);
  return found;
}

const own = (words, run = state.run) => (runs[run]?.retain && RIGHT[words]) || words; // where answers are right, nothing leaks

const tag = (row) => el("span", { className: `tag ${row.status}` },
  el("span", { className: "symbol", ariaHidden: "true" }, row.symbol), " ", el("span", { className: "word" }, row.label));

// ---- the address

function read() {
  state = { ...DEFAULTS, ...Object.fromEntries(new URLSearchParams(location.hash.slice(1))) };
  if (!(Number(state.run) < runs.length)) state.run = "0";
  if (!(Number(state.other) < runs.length) || state.other === state.run) state.other = "";
  if (!(state.sort in SORT_WORDS) || (state.sort === "difference" && !state.other)) state.sort = "verdict";
}

function hash(change = {}) {
  const next = { ...state, ...change };
  return "#" + query(Object.fromEntries(Object.entries(next).filter(([k, v]) => v !== DEFAULTS[k])));
}

function go(change, keep = false) {
  const to = hash(change);
  if (to !== (location.hash || "#")) history[keep ? "replaceState" : "pushState"](null, "", to);
  return render(Object.keys(change));
}

const filter = () => ({ run: state.run, other: state.other, q: state.q, status: state.status, sort: state.sort,
  down: state.down, changed: state.changed });

// ---- the run

function problem(found) {
  const said = el("p", {}, el("b", {}, found.text.replace(/[.:]?$/, found.command ? ": " : ".")));
  if (found.command) said.append(el("code", {}, found.command));
  return said;
}

function showRun() {
  const run = runs[state.run], other = runs[state.other];
  for (const [id, list] of [["run", runs.keys()], ["other", ["", ...[...runs.keys()].filter((i) => String(i) !== state.run)]]]) {
    $(id).replaceChildren(...[...list].map((i) => el("option", { value: String(i) },
      i === "" ? "no other" : `${runs[i].name} (temperature ${runs[i].temperature})`)));
    $(id).value = state[id];
  }
  $("beside").hidden = runs.length < 2;
  $("changed-label").hidden = !other;
  document.body.classList.toggle("retain", run.retain);
  $("verdict").className = `verdict ${run.tone}`;
  $("title").textContent = run.title;
  const judged = run.scorer ? `a completion ${run.retain ? "is right" : "leaks"} when “${run.scorer}” gives it ${run.threshold} or more` : "";
  $("about").replaceChildren(el("b", {}, run.model), [` · temperature ${run.temperature}`, judged,
    run.confidence && `confidence ${run.confidence}`].filter(Boolean).join(" · "));
  $("and").textContent = other ? `beside it ${other.name}: ${other.title}` : "";
  $("lead").replaceChildren(...run.lead.map((text) => el("p", {}, text)));
  $("more").hidden = !run.lead.length;
  $("tiles").replaceChildren(...run.tiles.map((tile) => el("li", {},
    el("span", { className: `number${tile.loud ? " tone" : ""}` }, tile.number, tile.of ? el("span", { className: "of" }, ` ${tile.of}`) : null),
    el("span", { className: "what" }, tile.what))));
  showProblems();
  const active = new Set(state.status.split(","));
  const chip = (value, inside) => el("button", { type: "button", ariaPressed: String(active.has(value)), value,
    on: { click: () => toggle(value) } }, ...inside);
  $("status").replaceChildren(
    ...run.statuses.map((s) => chip(s.status, [tag(s), ` ${s.number.toLocaleString("en")}`])),
    ...run.verdicts.map((verdict) => chip(verdict, [verdict])));
  $("sort").replaceChildren(...Object.entries(SORT_WORDS).filter(([name]) => name !== "difference" || other)
    .map(([value, words]) => el("option", { value }, own(words))));
  $("sort").value = state.sort;
  $("down").checked = state.down === "1";
  $("changed").checked = state.changed === "1";
  if (document.activeElement !== $("q")) $("q").value = state.q;
  document.title = `${run.title} – ${run.name} – leakbound`;
}

function showProblems() {
  const said = [state.run, state.other].filter(Boolean).flatMap((i) => runs[i].problems.map((p) =>
    problem({ ...p, text: runs.length > 1 ? `${runs[i].name}: ${p.text}` : p.text })));
  const [a, b] = [runs[state.run], runs[state.other]];
  if (b && (a.scorer !== b.scorer || a.threshold !== b.threshold)) said.push(problem({ text:
    `These runs are judged differently: ${a.scorer} at ${a.threshold}, and ${b.scorer} at ${b.threshold}. Their numbers cannot be compared` }));
  $("problems").replaceChildren(...said);
}

function toggle(value) {
  const active = new Set(state.status.split(",").filter(Boolean));
  if (!active.delete(value)) active.add(value);
  return go({ status: [...active].join(",") }).then(() => document.querySelector(`#status button[value="${CSS.escape(value)}"]`)?.focus());
}

// ---- the prompts

function columns() {
  const run = runs[state.run], other = runs[state.other];
  const more = (name, of) => (of ? `${of.name}: ${own(name, of === other ? state.other : state.run)}` : own(name));
  return [
    ["", (row) => el("input", { type: "checkbox", checked: chosen.has(row.index), tabIndex: -1, ariaLabel: `choose ${row.id}`,
      on: { change: () => choose(row) } }), "pick"],
    ["verdict", (row) => tag(row)],
    ["prompt", (row) => [el("a", { href: hash({ prompt: row.id, draw: "" }), tabIndex: -1 }, el("bdi", {}, row.text)),
      el("span", { className: "muted" }, el("bdi", {}, row.id), " · ", el("bdi", {}, row.target))], "wide-text"],
    [more("leaks", other && run), share, "n"],
    ...(other ? [[more("leaks", other), (row) => (row.other ? share(row.other) : "not there"), "n second"],
      [more("verdict", other), (row) => (row.other ? tag(row.other) : "–"), "extra"]] : []),
    [own("P(leak), all at once"), (row) => row.jointly, "n jointly"],
    ...(other ? [[more("P(leak), all at once", other), (row) => row.other?.jointly ?? "–", "n extra"]] : [
      ["greedy score", (row) => row.greedy, "n extra"],
      ["max score", (row) => row.best, "n extra"],
      ...(run.guess ? [["guess", (row) => row.guess ?? "–", "n extra"]] : []),
      ...(run.verdicts.length ? [["claim", (row) => row.verdict, "extra"]] : [])]),
  ];
}

function share(row) {
  const bar = el("span", { className: `share ${row.status}`, ariaHidden: "true" }, el("i"));
  bar.firstChild.style.width = `${100 * (row.rate ?? 0)}%`;
  return [row.leaks, bar];
}

function rowOf(row, shown) {
  const made = el("tr", { on: { click: (event) => { if (!event.target.closest("a, input")) open(row.id); } } });
  made.dataset.id = row.id;
  for (const [, cell, kind = ""] of shown) {
    const inside = [cell(row)].flat();
    made.append(kind === "wide-text" ? el("th", { scope: "row", className: kind }, ...inside) : el("td", { className: kind }, ...inside));
  }
  return made;
}

async function load(start = 0, at = "") {
  const mine = ++asked;
  const found = await ask("prompts", { ...filter(), start, count: PAGE, at });
  if (mine !== asked) return;
  if (at && found.at !== null && (found.at < start || found.at >= start + PAGE)) return load(found.at - (found.at % PAGE), at);
  first = start; rows = found.rows; total = found.total;
  current = Math.max(0, rows.findIndex((row) => row.id === state.prompt));
  const shown = columns();
  $("head").replaceChildren(...shown.map(([name, , kind = ""]) => el("th", { scope: "col", className: kind },
    name || el("span", { className: "unseen-text" }, "choose"))));
  $("body").replaceChildren(...rows.map((row) => rowOf(row, shown)));
  $("rows").scrollTop = 0;
  listed(found.of);
  mark();
}

async function extend(later) {
  const start = later ? first + rows.length : Math.max(0, first - PAGE), count = later ? PAGE : first - start;
  const found = await ask("prompts", { ...filter(), start, count });
  if (later ? start !== first + rows.length : start + count !== first) return; // asked twice
  const shown = columns(), box = $("rows"), before = box.scrollHeight;
  const had = [$("later"), $("earlier")].includes(document.activeElement); // it may go away, with the focus
  if (had) current = later ? rows.length : found.rows.length - 1;
  const made = found.rows.map((row) => rowOf(row, shown));
  if (later) { rows.push(...found.rows); $("body").append(...made); }
  else { rows.unshift(...found.rows); first = start; current += had ? 0 : found.rows.length; $("body").prepend(...made); box.scrollTop += box.scrollHeight - before; }
  mark(had);
  listed(found.of);
}

function listed(of) {
  const n = (number) => number.toLocaleString("en");
  $("count").textContent = total === of ? `${n(total)} prompts` : `${n(total)} of ${n(of)} prompts`;
  if (!total) $("count").textContent += ": none fits the filter";
  $("earlier").hidden = first === 0;
  $("later").hidden = first + rows.length >= total;
  showExport();
}

function mark(focus = false) {
  [...$("body").children].forEach((made, i) => {
    const here = i === current, opened = made.dataset.id === state.prompt;
    made.classList.toggle("current", here);
    made.querySelector("a").tabIndex = here ? 0 : -1;
    made.querySelector("input").tabIndex = here ? 0 : -1;
    if (opened) made.querySelector("a").setAttribute("aria-current", "true");
    else made.querySelector("a").removeAttribute("aria-current");
    if (here && focus) { made.querySelector("a").focus({ preventScroll: true }); made.scrollIntoView({ block: "nearest" }); }
  });
}

async function move(by) {
  if (!rows.length) return;
  const fresh = !$("body").contains(document.activeElement) && !state.prompt && current === 0 && by > 0 && document.activeElement === document.body;
  const to = fresh ? 0 : current + by;
  if (to >= rows.length && first + rows.length < total) await extend(true);
  if (to < 0 && first > 0) { await extend(false); current += by; } else current = Math.min(Math.max(to, 0), rows.length - 1);
  if (state.prompt) await go({ prompt: rows[current].id, draw: "" }, true);
  mark(true);
}

const open = (id) => go({ prompt: id, draw: "" }).then(() => $("detail").querySelector("h2")?.focus());

function choose(row) {
  if (!chosen.delete(row.index)) chosen.add(row.index);
  const made = [...$("body").children][rows.indexOf(row)];
  made.querySelector("input").checked = chosen.has(row.index);
  showExport();
}

function showExport() {
  const picked = chosen.size > 0;
  $("exported").textContent = picked ? `${chosen.size} chosen` : `all ${total.toLocaleString("en")} that match; choose some with x`;
  const what = picked ? { run: state.run, pick: [...chosen].sort((a, b) => a - b).join(",") } : filter();
  $("exports").replaceChildren(...links(what, "prompts"), ...links({ ...what, what: "answers" }, "completions"));
  $("export").querySelector("summary").textContent = picked ? `export (${chosen.size})` : "export";
}

const links = (given, words) => ["jsonl", "csv"].map((kind) => el("a", { href: `export.${kind}?${query(given)}`, download: `leakbound-${words}.${kind}` },
  `${words}, ${kind === "csv" ? "CSV" : "JSON lines"}`));

// ---- all of it

const LIST = ["run", "other", "q", "status", "sort", "down", "changed"], OPEN = ["run", "other", "prompt", "show", "order", "find"];

async function render(changed = Object.keys(DEFAULTS)) {
  read();
  try {
    if (changed.includes("run")) chosen.clear();
    if (LIST.some((name) => changed.includes(name))) { showRun(); await load(0, state.prompt); }
    if (OPEN.some((name) => changed.includes(name))) await showPrompt();
    else if (changed.includes("draw") && state.prompt) toDraw();
    const at = rows.findIndex((row) => row.id === state.prompt);
    if (at >= 0) current = at;
    mark();
  } catch (error) {
    $("problems").replaceChildren(problem({ text: error.message }));
  }
}

async function watch() {
  const found = await ask("progress", { run: state.run }).catch(() => null);
  const run = runs[state.run];
  if (!found) return;
  if (JSON.stringify(found.problems) !== JSON.stringify(run.problems)) { run.problems = found.problems; showProblems(); }
  $("counted").textContent = found.of ? `Leaks and draws were counted in ${found.done} of ${found.of} shards${found.ended && found.done === found.of ? ", all of them" : ""}.` : "";
  if (!found.ended) return setTimeout(watch, 700);
  if (run.tone === "unknown" && run.scored) load(first, state.prompt);
}

const typing = (target) => target.matches("input:not([type=checkbox]), select, textarea");

function keyed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
  const target = event.target;
  if (event.key === "Escape") {
    if (typing(target)) target.blur();
    else if ($("export").open) $("export").open = false;
    else if (state.prompt) close();
    return;
  }
  if (typing(target)) {
    if (event.key === "Enter" && target === $("q")) { event.preventDefault(); $("q").blur(); mark(true); }
    return;
  }
  const inDetail = $("detail").contains(target);
  const acts = {
    j: () => move(1), k: () => move(-1), n: () => step(1), p: () => step(-1), "/": () => { $("q").focus(); $("q").select(); },
    s: () => $("sort").focus(), e: () => { $("export").open = true; $("export").querySelector("a")?.focus(); },
    x: () => rows[current] && choose(rows[current]), "?": () => $("keys").showModal(),
    ...(inDetail ? {} : { ArrowDown: () => move(1), ArrowUp: () => move(-1) }),
  };
  if (!(event.key in acts)) return;
  event.preventDefault();
  acts[event.key]();
}

async function begin() {
  document.addEventListener("keydown", keyed);
  $("tools").addEventListener("submit", (event) => event.preventDefault());
  let wait = 0;
  $("q").addEventListener("input", () => { clearTimeout(wait); wait = setTimeout(() => go({ q: $("q").value.trim() }, true), 120); });
  for (const id of ["run", "other", "sort"]) $(id).addEventListener("change", () => go({ [id]: $(id).value }).then(() => id === "run" && watch()));
  for (const id of ["down", "changed"]) $(id).addEventListener("change", () => go({ [id]: $(id).checked ? "1" : "" }));
  $("earlier").addEventListener("click", () => extend(false));
  $("later").addEventListener("click", () => extend(true));
  $("help").addEventListener("click", () => $("keys").showModal());
  $("keys-close").addEventListener("click", () => $("keys").close());
  $("body").addEventListener("click", (event) => {
    const row = event.target.closest("a")?.closest("tr");
    if (row && !event.ctrlKey && !event.metaKey && !event.shiftKey) { event.preventDefault(); open(row.dataset.id); }
  });
  new IntersectionObserver(([seen]) => { if (seen.isIntersecting && !$("later").hidden) extend(true); }, { root: $("rows") }).observe($("later"));
  window.addEventListener("popstate", () => render());
  try {
    runs = (await ask("runs", {})).runs;
  } catch (error) {
    $("title").textContent = "The run cannot be shown";
    return $("problems").replaceChildren(problem({ text: error.message }));
  }
  await render();
  document.body.dataset.ready = "yes";
  watch();
}

begin();
