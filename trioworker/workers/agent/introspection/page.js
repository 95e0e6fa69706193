// What makes the page live: a stream of events, fresh rows after them, graph, details, timeline.
//
// No name, message or report is ever made into markup: text goes in by textContent, and rows come from
// the server, escaped. All requests go through ask(), which knows the token; that is kept for this tab
// only. No row is made here (see _page.py): an event changes its state at once, and the rest comes with a
// fresh copy of the page, fetched the less often the longer that takes.
const $ = (id) => document.getElementById(id);
const TOKEN = "trioworker token";
const STATES = ["absent", "waiting", "delayed", "starting", "started", "draining", "stopping", "done",
  "failed", "held", "stopped"];
const FEED = 200; // lines are kept
const LANES = 60; // of the timeline
const QUIET = 45000; // ms without a byte, although the server says something every 15 s
const SVG = "http://www.w3.org/2000/svg";

const rows = new Map(); // by name
const encoded = encodeURIComponent;
let token = "";
let picked = null; // the name that the details are about
let only = null; // the state that is shown
try { token = sessionStorage.getItem(TOKEN) ?? ""; } catch { /* forbidden: it is asked for again */ }

// -- small things --

function fill(made, attributes = {}, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "click") made.addEventListener("click", value); else made.setAttribute(name, value);
  }
  made.append(...children.filter(Boolean));
  return made;
}
const make = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const is_locked = () => "locked" in document.body.dataset;
const may_act = () => document.body.hasAttribute("data-actions");
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function duration(seconds) {
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  for (const [size, unit, following] of [[1, "s", 60], [60, "min", 3600], [3600, "h", 86400]])
    if (seconds < following) return `${Math.floor(seconds / size)} ${unit}`;
  return `${Math.floor(seconds / 86400)} d`;
}

// Runs `work` soon, again only after `factor` times what it took; it returns true if it did nothing.
function paced(work, pause, factor) {
  let wanted = false, running = false;
  return async function request() {
    wanted = true;
    if (running) return;
    running = true;
    while (wanted) {
      wanted = false;
      const began = performance.now();
      let idle;
      try { idle = await work(); } catch (error) { if (!(error instanceof Refused || error instanceof TypeError)) throw error; }
      if (!idle) await sleep(Math.max(pause, factor * (performance.now() - began)));
    }
    running = false;
  };
}

class Refused extends Error {
  constructor(status, text) { super(text); this.name = "Refused"; this.status = status; }
}

async function ask(path, options = {}) {
  const headers = new Headers(options.headers), known = token;
  if (token) headers.set("Authorization", `Bearer ${token}`);
  const response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
  if (response.ok) return response;
  let text = `${response.status} ${response.statusText}`;
  try {
    const said = await response.json();
    text = [said.error, said.hint].filter(Boolean).join("; ") || text;
  } catch { /* no JSON: the status has to do */ }
  if (response.status === 401 && known === token) lock();
  throw new Refused(response.status, text);
}

const json = async (path) => (await ask(path)).json();

// -- the token --

function remember(value) {
  token = value;
  try {
    if (value) sessionStorage.setItem(TOKEN, value); else sessionStorage.removeItem(TOKEN);
  } catch { /* forbidden: it lasts as long as the page */ }
}

function lock(message = token ? "This token is not the right one." : "") {
  remember("");
  document.body.dataset.locked = "";
  $("login").hidden = false;
  $("refused").textContent = message;
  live(null);
  $("token").focus();
}

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  remember($("token").value);
  $("token").value = "";
  open();
});

async function open() {
  try {
    await fresh();
  } catch (error) {
    if (error.status !== 401) lock(`It does not answer: ${error.message}`);
    return;
  }
  follow();
}

// -- rows --

function anchor(root) {
  const now = performance.now() / 1000;
  for (const cell of root.querySelectorAll("[data-age]")) cell.since ??= now - Number(cell.dataset.age);
  for (const cell of root.querySelectorAll("[data-in]")) cell.until ??= now + Number(cell.dataset.in);
}

function tick() {
  const now = performance.now() / 1000;
  for (const cell of document.querySelectorAll("[data-age]")) write(cell, duration(now - cell.since));
  for (const cell of document.querySelectorAll("[data-in]")) write(cell, duration(cell.until - now));
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

async function fresh() {
  const known = token;
  const text = await (await ask("./", { headers: { Accept: "text/html" } })).text();
  const page = new DOMParser().parseFromString(text, "text/html");
  if ("locked" in page.body.dataset) { if (known === token) lock(); throw new Refused(401, "locked"); }
  adopt(page);
}

// Takes what is new from another copy of this page. The links stay, and so keep the focus.
function adopt(page) {
  delete document.body.dataset.locked;
  document.body.toggleAttribute("data-actions", page.body.hasAttribute("data-actions"));
  $("login").hidden = true;
  $("drain").hidden = !may_act();
  document.title = page.title;
  write(document.querySelector("h1"), page.querySelector("h1").textContent);
  write($("engine"), page.getElementById("engine").textContent);
  const body = $("rows");
  const names = new Set();
  let before = null, changed = false;
  for (const row of page.getElementById("rows").rows) {
    const name = row.dataset.name;
    names.add(name);
    let mine = rows.get(name);
    if (!mine) {
      mine = document.importNode(row, true);
      rows.set(name, mine);
      changed = true;
    } else {
      mine.dataset.state = row.dataset.state;
      paint(name, row.dataset.state);
      [...row.cells].forEach((cell, i) => freshen(mine.cells[i], cell));
    }
    const place = before ? before.nextElementSibling : body.firstElementChild;
    if (place !== mine) body.insertBefore(mine, place);
    before = mine;
  }
  for (const [name, row] of rows) if (!names.has(name)) { row.remove(); rows.delete(name); changed = true; }
  $("none").textContent = page.getElementById("none").textContent;
  anchor(body);
  mark();
  count();
  sift();
  if (changed || !$("graph").querySelector("svg")) graph();
}

// In place: who has just pressed the button of the mouse on it must not find it gone.
function freshen(old, cell) {
  old.className = cell.className;
  if (cell.dataset.age) Object.assign(old, { since: null }).dataset.age = cell.dataset.age;
  else if (old.innerHTML !== cell.innerHTML) old.replaceChildren(...document.importNode(cell, true).childNodes);
}

// -- filter --

function count() {
  const counts = new Map();
  for (const row of rows.values()) counts.set(row.dataset.state, (counts.get(row.dataset.state) ?? 0) + 1);
  if (only !== null && !counts.has(only)) counts.set(only, 0);
  let place = $("states").firstElementChild;
  for (const state of STATES) {
    let chip = $("states").querySelector(`[data-only="${state}"]`);
    if (!counts.has(state)) {
      if (chip === place && chip) place = chip.nextElementSibling;
      chip?.remove();
      continue;
    }
    chip ??= make("button", { class: `s ${state}`, "data-only": state, "aria-pressed": "false" },
      `${state} `, make("b"));
    write(chip.querySelector("b"), String(counts.get(state)));
    chip.setAttribute("aria-pressed", String(only === state));
    if (chip === place) place = place.nextElementSibling; else $("states").insertBefore(chip, place);
  }
}

function sift() {
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows.values()) {
    const text = words.length ? row.textContent.toLowerCase() : "";
    const fits = (only === null || row.dataset.state === only) && words.every((word) => text.includes(word));
    row.hidden = !fits;
    shown += fits;
  }
  if (rows.size) $("none").textContent = "No manifold fits the filter.";
  $("none").hidden = shown > 0;
}

$("filter").addEventListener("input", sift);
$("states").addEventListener("click", (event) => {
  const chip = event.target.closest("button");
  if (!chip) return;
  only = only === chip.dataset.only ? null : chip.dataset.only;
  count();
  sift();
});

// -- events --

let queue = [], lost = 0;

function live(is_on) {
  const text = is_on === null ? "" : is_on ? "live" : "not connected; trying again";
  write($("live"), text);
  $("live").classList.toggle("on", is_on === true);
}

async function follow() {
  if (follow.runs) return;
  follow.runs = true;
  let pause = 500;
  while (!is_locked()) {
    const stop = new AbortController();
    let timer = 0;
    const heard = () => { clearTimeout(timer); timer = setTimeout(() => stop.abort(), QUIET); };
    try {
      heard();
      const response = await ask("events", { headers: { Accept: "text/event-stream" }, signal: stop.signal });
      live(true);
      pause = 500;
      refresh(); // what has happened since the rows were made
      await read(response.body.getReader(), heard);
    } catch (error) {
      if (error.status === 401) break;
    }
    clearTimeout(timer);
    if (is_locked()) break;
    live(false);
    await sleep(pause);
    pause = Math.min(2 * pause, 5000);
  }
  follow.runs = false;
}

async function read(reader, heard) {
  const decoder = new TextDecoder();
  let rest = "", kind = "", data = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    const lines = (rest + decoder.decode(value, { stream: true })).split(/\r\n|\n/);
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
      else if (line.startsWith("event:")) kind = line.slice(6).trim();
      else if (line === "") {
        if (data.length) take(kind, data.join("\n"));
        kind = "";
        data = [];
      }
    }
  }
}

function take(kind, data) {
  const told = JSON.parse(data);
  if (kind === "dropped") lost += typeof told === "number" ? told : told.count ?? told.dropped ?? 1;
  else queue.push({ ...told, at: new Date() });
  if (!take.timer) take.timer = setTimeout(flush, 40);
}

function flush() {
  take.timer = 0;
  const events = queue, count_lost = lost;
  queue = [];
  lost = 0;
  const moved = [...new Map(events.map((event) => [event.manifold, event])).values()].map(move).filter(Boolean);
  if (moved.length < FEED) {
    for (const row of moved) row.classList.remove("moved");
    void document.body.offsetWidth; // the animation begins anew
    for (const row of moved) row.classList.add("moved");
  }
  feed(events.slice(-FEED), count_lost);
  count();
  sift();
  refresh();
  if (picked !== null) details();
}

// What is known at once; the rest of the row comes with the next copy of the page.
function move(event) {
  const row = rows.get(event.manifold);
  paint(event.manifold, event.after);
  if (!row) return null;
  row.dataset.state = event.after;
  row.cells[1].className = `s ${event.after}`;
  row.cells[1].textContent = event.after;
  row.cells[2].textContent = event.after === "started" ? "" : event.cause ?? "";
  row.cells[3].since = performance.now() / 1000;
  write(row.cells[3], duration(0));
  return row;
}

function feed(events, count_lost) {
  const list = $("events").querySelector("ol");
  $("events").querySelector(".note").hidden = true;
  const items = events.map((event) => make("li", {},
    make("time", { datetime: event.at.toISOString() }, event.at.toLocaleTimeString([], { hourCycle: "h23" })),
    link(event.manifold), " ",
    make("span", { class: `s ${event.before}` }, event.before), make("span", { class: "arrow" }, "→"),
    make("span", { class: `s ${event.after}` }, event.after),
    event.cause ? make("span", { class: "cause" }, ` ${event.cause}`) : null));
  if (count_lost) items.push(make("li", { class: "lost" }, `${count_lost} events were dropped: this page was too slow`));
  list.prepend(...items.reverse());
  while (list.childElementCount > FEED) list.lastElementChild.remove();
}

function link(name) {
  return make("a", { href: `#${encoded(name)}` }, name);
}

// -- graph --

const graph = paced(async () => {
  if (is_locked() || !$("graph").open) return true;
  const around = picked === null ? "" : `?around=${encoded(picked)}`;
  const text = await (await ask(`graph.svg${around}`)).text();
  const svg = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  if (svg.localName !== "svg") return;
  const picture = document.importNode(svg, true);
  picture.querySelector("title")?.remove(); // its tip would be everywhere
  picture.setAttribute("role", "group");
  const box = $("graph").querySelector(".scroll");
  const title = picture.querySelector("text.title")?.textContent ?? "";
  const many = /\((.*)\)$/.exec(title);
  for (const node of picture.querySelectorAll(".node")) {
    node.setAttribute("tabindex", "0");
    node.setAttribute("role", "button");
    node.setAttribute("aria-label", node.querySelector("title").textContent);
  }
  const focus = box.contains(document.activeElement) ? document.activeElement.dataset?.name : undefined;
  const { scrollLeft, scrollTop } = box;
  box.replaceChildren(...(many ? [make("p", { class: "note" }, many[1])] : []), picture);
  box.scrollTo(scrollLeft, scrollTop);
  for (const [name, row] of rows) paint(name, row.dataset.state);
  near();
  if (focus !== undefined) node_of(focus)?.focus();
}, 400, 6);

// The picture has names as they are shown: with control characters that is not the same.
const shown = (name) => rows.get(name)?.cells[0].textContent ?? name;
const node_of = (name) => $("graph").querySelector(`.node[data-name="${CSS.escape(shown(name))}"]`);

function paint(name, state) {
  const node = node_of(name);
  if (!node || node.classList.contains(state)) return;
  node.classList.remove(...STATES);
  node.classList.add(state);
  node.querySelector(".state").textContent = state;
  node.querySelector("title").textContent = `${shown(name)}: ${state}`;
  node.setAttribute("aria-label", `${shown(name)}: ${state}`);
}

// Marks the chosen one, and what it is tied to.
function near() {
  const svg = $("graph").querySelector("svg");
  if (!svg) return;
  const name = picked === null ? null : shown(picked);
  const nodes = new Set([name]);
  for (const edge of svg.querySelectorAll(".edge")) {
    const { from, to } = edge.dataset;
    const is_near = from === name || to === name;
    edge.classList.toggle("near", is_near);
    if (is_near) nodes.add(from).add(to);
  }
  let found = false;
  for (const node of svg.querySelectorAll(".node")) {
    node.classList.toggle("chosen", node.dataset.name === name);
    node.classList.toggle("near", nodes.has(node.dataset.name));
    found ||= node.dataset.name === name;
  }
  svg.classList.toggle("picking", found);
}

function choose(event) {
  const node = event.target.closest?.(".node");
  if (!node) return;
  const row = [...rows.values()].find((one) => one.cells[0].textContent === node.dataset.name);
  pick(row ? row.dataset.name : node.dataset.name);
}

$("graph").addEventListener("click", choose);
$("graph").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" && event.key !== " ") return;
  if (event.target.closest(".node")) { event.preventDefault(); choose(event); }
});
$("graph").addEventListener("toggle", () => graph());

// -- details --

function pick(name) {
  location.hash = name === null ? "" : `#${encoded(name)}`;
}

function hashed() {
  let name = null;
  try { name = decodeURIComponent(location.hash.slice(1)) || null; } catch { /* not one of ours */ }
  if (name === "rows" && !rows.has(name)) name = null; // the link that skips to them
  if (name === picked) return;
  picked = name;
  mark();
  near();
  if (rows.size > 150) graph();
  if (name === null) { $("details").hidden = true; $("details").replaceChildren(); return; }
  details();
}

function mark() {
  for (const [name, row] of rows) row.classList.toggle("picked", name === picked);
}

const details = paced(async () => {
  const name = picked;
  if (name === null || is_locked()) return true;
  let built;
  try {
    const [report, why, stacks] = await Promise.all(
      [json("report"), json(`explain/${encoded(name)}`), json(`stacks/${encoded(name)}`)]);
    const one = report.manifolds[name];
    built = one ? about(one, report, why, stacks) : [top(name, null), make("p", { class: "note" }, "It is not installed.")];
  } catch (error) {
    if (error.status === 401) return;
    built = [top(name, null), make("p", { class: "note" }, error.message)];
  }
  if (name !== picked) return;
  replace($("details"), built);
}, 400, 4);

// Puts new content in, but leaves what is as it was, and what the user has opened and reached.
function replace(box, built) {
  if (box.hidden || box.dataset.of !== picked) {
    box.replaceChildren(...built);
    box.hidden = false;
    box.dataset.of = picked;
    box.scrollTop = 0;
    return;
  }
  const by_key = (root, key) => [...root.querySelectorAll("[data-key]")].find((one) => one.dataset.key === key);
  const focus = box.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  const said = box.querySelector(".said")?.textContent;
  for (const [i, part] of built.entries()) {
    const old = box.children[i];
    for (const one of old?.querySelectorAll("details[open]") ?? []) by_key(part, one.dataset.key)?.setAttribute("open", "");
    if (said && part.querySelector(".said")) part.querySelector(".said").textContent = said;
    if (!old) box.append(part); else if (!old.isEqualNode(part)) old.replaceWith(part);
  }
  while (box.childElementCount > built.length) box.lastElementChild.remove();
  if (focus !== undefined) by_key(box, focus)?.focus();
}

function top(name, state) {
  return make("div", { class: "top" }, make("h2", {}, name),
    state ? make("span", { class: `s ${state}` }, state) : null,
    make("button", { class: "close", "aria-label": "Close the details", "data-key": "close", click: close }, "×"));
}

function close() {
  const row = rows.get(picked);
  pick(null);
  row?.querySelector("a").focus();
}

function about(one, report, why, stacks) {
  const all = report.manifolds;
  const users = Object.values(all).filter((m) => [m.inputs, m.optional, m.live].some((n) => n.includes(one.name))).map((m) => m.name);
  const runs = why.blast_radius.filter((name) => all[name]?.starts > all[name]?.ends);
  const built = [top(one.name, one.state), actions(one, runs.length)].filter(Boolean);
  built.push(make("ol", { class: "chain", "aria-label": "Why" }, ...why.chain.map((step) => make("li", {},
    step.manifold === one.name ? make("b", {}, step.manifold) : link(step.manifold),
    step.text.startsWith(step.manifold) ? step.text.slice(step.manifold.length) : ` ${step.text}`))));
  const facts = [["Inputs", one.inputs], ["Optional", one.optional], ["Live", one.live], ["Dependents", users],
    ["Stops with it", why.blast_radius]];
  built.push(make("dl", {}, ...facts.flatMap(([what, names]) =>
    names.length || what === "Inputs" || what === "Dependents" ? [make("dt", {}, what), make("dd", {}, list(names, all, one))] : []),
    make("dt", {}, "Runs"), make("dd", {}, `${one.starts} begun, ${one.ends} ended${one.failures ? `, failures in a row: ${one.failures}` : ""}`)));
  if (one.history.length) built.push(make("h3", {}, "History"), make("ol", { class: "ends" },
    ...[...one.history].reverse().map((end) => ended(end, report.now))));
  if (one.worker !== null) built.push(make("h3", {}, "Report"), make("pre", {},
    typeof one.worker === "string" ? one.worker : JSON.stringify(one.worker, null, 2)));
  if (stacks.length) built.push(make("h3", {}, "Stacks"), make("pre", {}, stacks.map((stack) => tree(stack, "")).join("\n")));
  return built;
}

function list(names, all, one) {
  if (!names.length) return make("span", { class: "none" }, "none");
  const roles = Object.entries(one.roles);
  const some = names.slice(0, 40);
  return make("span", { class: "names" }, ...some.map((name) => {
    const state = all[name]?.state ?? "absent";
    const role = roles.find(([, target]) => target === name)?.[0];
    return make("span", { class: `s ${state}`, title: state }, link(name),
      role ? make("small", {}, ` as ${role}`) : null, state === "started" ? null : make("small", {}, ` ${state}`));
  }), names.length > some.length ? make("small", {}, `and ${names.length - some.length} more`) : null);
}

function ended(end, now) {
  const is_bad = end.kind === "error" || end.kind === "fatal";
  const key = `end ${end.time}`;
  const line = [make("b", is_bad ? { class: "bad" } : {}, end.kind), " ", end.error ?? end.cause ?? "", " ",
    make("small", {}, `${duration(now - end.time)} ago, after ${duration(end.lasted)}${end.was_ready ? "" : ", not ready"}`)];
  if (!end.traceback.length) return make("li", {}, ...line);
  return make("li", {}, make("details", { "data-key": key }, make("summary", { "data-key": `summary ${key}` }, ...line),
    end.error && end.cause ? make("p", {}, end.cause) : null, make("pre", {}, end.traceback.map(short).join("\n"))));
}

// The end of the path is what one knows it by.
const short = (frame) => frame.replace(/^.*\/((?:[^/]*\/){2}[^/]*$)/, "$1");

function tree(stack, indent) {
  return [`${indent}${stack.name}`, ...stack.frames.map((frame) => `${indent}  ${short(frame)}`),
    ...stack.children.map((child) => tree(child, `${indent}  | `))].join("\n");
}

function actions(one, others) {
  if (!may_act()) return null;
  const said = make("span", { class: "said", role: "status" });
  const button = (text, verb) => make("button", { "data-key": verb, click: () => act(verb, one.name) }, text);
  const second = one.state === "held" ? button("Release", "release") : button("Hold", "hold");
  if (others) said.textContent = `stops ${others} more`;
  return make("div", { class: "do" }, button("Restart", "restart"), second, said);
}

async function act(verb, name) {
  const tell = (text) => { const said = $("details").querySelector(".said"); if (said) said.textContent = text; };
  try {
    await ask(`${verb}/${encoded(name)}`, { method: "POST" });
    tell({ restart: "restarted", hold: "held", release: "released" }[verb]);
  } catch (error) {
    tell(error.message);
  }
}

$("drain").addEventListener("click", async () => {
  const button = $("drain");
  if (!button.dataset.sure) {
    button.dataset.sure = "1";
    button.textContent = "Hold everything?";
    setTimeout(() => { delete button.dataset.sure; button.textContent = "Drain"; }, 4000);
    return;
  }
  try { await ask("drain", { method: "POST" }); } catch (error) { write($("engine"), error.message); }
});

// -- timeline --

const timeline = paced(async () => {
  if (is_locked() || !$("timeline").open) return true;
  const { traceEvents } = await json("trace.json");
  const names = new Map();
  const lanes = new Map([...rows].filter(([, row]) => !row.hidden).slice(0, LANES).map(([name]) => [name, []]));
  let first = Infinity, last = 0;
  for (const event of traceEvents) {
    if (event.name === "thread_name") names.set(event.tid, event.args.name);
    if (event.ph !== "X") continue;
    lanes.get(names.get(event.tid))?.push(event);
    first = Math.min(first, event.ts);
    last = Math.max(last, event.ts + event.dur, first + 1);
  }
  const box = $("timeline").querySelector(".scroll");
  if (!last) { box.replaceChildren(make("p", { class: "note" }, "Nothing has moved yet.")); return; }
  const left = Math.min(220, 12 + 7 * Math.max(0, ...[...lanes.keys()].map((name) => name.length)));
  const width = Math.max(box.clientWidth - 30, 320), height = 20 * lanes.size + 26;
  const x = (ts) => left + (width - left - 10) * (ts - first) / (last - first);
  const svg = draw("svg", { width, height, role: "img", "aria-label": "States over time" });
  for (let i = 0; i <= 4; i++) {
    const ts = first + (last - first) * i / 4;
    svg.append(draw("line", { class: "grid", x1: x(ts), x2: x(ts), y1: 0, y2: height - 20 }),
      draw("text", { x: x(ts), y: height - 6, "text-anchor": i === 4 ? "end" : i ? "middle" : "start" }, i ? `+${duration((ts - first) / 1e6)}` : "0"));
  }
  let y = 3;
  for (const [name, spans] of lanes) {
    const room = Math.floor((left - 12) / 6.7);
    svg.append(draw("text", { x: 0, y: y + 11 }, name.length > room ? `${name.slice(0, room - 1)}…` : name));
    for (const { name: state, ts, dur } of spans) {
      svg.append(draw("rect", { class: `run ${state}`, x: x(ts), y, rx: 2, height: 14, width: Math.max(1.5, x(ts + dur) - x(ts)) },
        draw("title", {}, `${name}: ${state}, ${duration(dur / 1e6)}`)));
    }
    y += 20;
  }
  box.replaceChildren(svg);
}, 3000, 8);

$("timeline").addEventListener("toggle", () => timeline());

// -- begin --

const refresh = paced(async () => { await fresh(); timeline(); }, 250, 8);

$("rows").addEventListener("click", (event) => {
  const row = event.target.closest("tr");
  if (row && !event.target.closest("a")) pick(row.dataset.name);
});
addEventListener("hashchange", hashed);
addEventListener("keydown", (event) => {
  const is_typing = event.target.matches?.("input");
  if (event.key === "Escape" && picked !== null) close();
  else if (event.key === "Escape" && is_typing) { $("filter").value = ""; sift(); }
  else if (event.key === "/" && !is_typing) { event.preventDefault(); $("filter").focus(); }
});
setInterval(tick, 500);

if (is_locked()) {
  if (token) open(); else lock();
} else {
  for (const row of $("rows").rows) rows.set(row.dataset.name, row);
  anchor(document);
  $("drain").hidden = !may_act();
  count();
  hashed();
  graph();
  follow();
}
