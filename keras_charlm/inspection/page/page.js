"use strict";
// Draws an inspection. The text is laid out in rows of columns of equal width, and only the rows
// that can be seen are in the document, so that a long text costs no more than a short one.

const $ = id => document.getElementById(id);
const minus = text => String(text).replace("-", "−");
const fixed = (number, digits = 2) => minus(number.toFixed(digits));
const signed = number => (number > 0 ? "+" : "") + fixed(number);
const count = number => number.toLocaleString("en");
const escaped = text => text.replace(/[&<>"']/g, c => `&#${c.charCodeAt(0)};`);
const make = (tag, text, attributes = {}) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
};

const LINE = 22, GUESS = 13, GAP = 5; // heights of a character, of a guess below it, of what is between rows
const TILE = { columns: 60, rows: 38 };
const MOST_LANES = 4;

let data, codes, values, guesses, probabilities, surprise, saturation;
let rows = new Int32Array(1); // where each row begins, and the text's end
let columns = 80, height = LINE;
let wide = false; // whether a character is as wide as two
const WIDE = /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60]|\p{Emoji_Presentation}/u;
const state = { cell: 0, beside: [], at: 0, hits: [], hit: -1, length: 0 };
const drawn = new Map(); // row -> its element
let colours = [], ranked = {};

async function unpack(text, Type) {
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Type(await new Response(stream).arrayBuffer());
}

// Characters

// How a character is shown where each has one column: blanks by a sign, what has no shape by its number.
function shape(code) {
  if (code === 10) return "↵";
  if (code === 32) return "·";
  if (code === 9) return "→";
  if (code === 13) return "␍";
  if (data.unit === "byte" && code > 126) return code.toString(16).toUpperCase();
  if (code < 32) return String.fromCharCode(0x2400 + code);
  if (code === 127) return "␡";
  const text = String.fromCodePoint(code);
  if (/\p{Mark}/u.test(text)) return "◌" + text;
  if (/[\p{Control}\p{Format}\p{Surrogate}\p{Unassigned}\p{Private_Use}]/u.test(text)) return "▯";
  if (/\p{Separator}/u.test(text)) return "␣";
  return text;
}
const shapes = new Map();
function shown(code) {
  if (!shapes.has(code)) shapes.set(code, shape(code));
  return shapes.get(code);
}
const isBlank = code => code === 10 || code === 32 || code === 9 || code === 13;

function named(code) {
  const names = { 10: "newline", 32: "space", 9: "tab", 13: "carriage return" };
  if (data.unit === "byte") return names[code] || `byte 0x${code.toString(16).toUpperCase().padStart(2, "0")}`;
  return names[code] || `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
}

// Colours

function rgb(name) {
  const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return [1, 3, 5].map(at => parseInt(hex.slice(at, at + 2), 16));
}

function mixColours() {
  const zero = rgb("--zero"), low = rgb("--low"), high = rgb(`--${$("scale").value}`);
  colours = Array.from({ length: 256 }, (_, i) => {
    const value = Math.max(-1, (i - 128) / 127), end = value < 0 ? low : high;
    const share = Math.abs(value) ** 0.85;
    return zero.map((from, k) => Math.round(from + (end[k] - from) * share));
  });
  const stop = value => `rgb(${colours[128 + Math.round(127 * value)]})`;
  const steps = $("bits").checked ? [0, 0.25, 0.5, 0.75, 1] : [-1, -0.5, 0, 0.5, 1];
  $("ramp").style.background = `linear-gradient(90deg, ${steps.map(stop)})`;
  $("low").textContent = $("bits").checked ? "0" : "−1";
  $("high").textContent = $("bits").checked ? "8" : "+1";
  $("scale-name").textContent = $("bits").checked ? "bits of surprise"
    : data.value === "cell" ? "tanh of the cell state" : "hidden state";
}

const valueAt = (cell, at) => values[cell * codes.length + at];
// Index of a colour: the cell's activation, or up to eight bits of surprise on the upper half.
const shade = (cell, at) => 128 + ($("bits").checked && cell === state.cell
  ? Math.min(127, Math.round(surprise[at] * 127 / 800)) : valueAt(cell, at));
const background = (cell, at) => `rgb(${colours[shade(cell, at)]})`;

// The text

function layOut(width) {
  const starts = [];
  for (let begin = 0; begin < codes.length;) {
    starts.push(begin);
    const most = Math.min(begin + width, codes.length);
    let end = begin;
    while (end < most && codes[end] !== 10) end++;
    if (codes[end] === 10) { // ends the row, with the newlines of the empty lines after it
      while (codes[end] === 10 && end <= most) end++;
      begin = end;
      continue;
    }
    if (most < codes.length) { // break after a blank where there is one
      let blank = most - 1;
      while (blank > begin && codes[blank] !== 32) blank--;
      if (blank > begin + width / 2) { begin = blank + 1; continue; }
    }
    begin = most;
  }
  return Int32Array.from([...starts, codes.length]);
}

function rowOf(at, starts = rows) {
  let low = 0, high = starts.length - 2;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (starts[middle] <= at) low = middle; else high = middle - 1;
  }
  return low;
}

const lanes = () => [state.cell, ...state.beside];

function measure() {
  const probe = make("span", "0".repeat(50), { style: "position:absolute;visibility:hidden" });
  $("pane").append(probe);
  let column = Math.ceil(probe.getBoundingClientRect().width / 50) + 1;
  probe.remove();
  if (wide) column = Math.round(column * 1.9);
  const padding = matchMedia("(max-width: 40rem)").matches ? 14 : 24;
  const width = $("pane").clientWidth / lanes().length - padding;
  $("pane").style.setProperty("--col", `${column}px`);
  columns = Math.max(4, Math.floor(width / column) - 1); // one is for the newline
  height = LINE + ($("guesses").checked ? data.guesses * GUESS : 0) + GAP;
  const kept = rows.length > 1 ? rows[Math.min(rowOf(state.at), rows.length - 2)] : 0;
  rows = layOut(columns);
  $("sheet").style.height = `${(rows.length - 1) * height + 14}px`;
  clear();
  return kept;
}

function clear() {
  for (const row of drawn.values()) row.remove();
  drawn.clear();
}

function draw() {
  const pane = $("pane"), last = rows.length - 2;
  const from = Math.max(0, Math.floor(pane.scrollTop / height) - 3);
  const to = Math.min(last, Math.ceil((pane.scrollTop + pane.clientHeight) / height) + 3);
  for (const [row, node] of drawn) if (row < from || row > to) { node.remove(); drawn.delete(row); }
  for (let row = from; row <= to; row++) {
    if (drawn.has(row)) continue;
    const node = make("div", undefined, { class: "row" });
    node.style.top = `${row * height + 7}px`;
    node.innerHTML = lanes().map(cell => `<div class="lane">${cells(cell, rows[row], rows[row + 1])}</div>`).join("");
    $("sheet").append(node);
    drawn.set(row, node);
  }
}

function cells(cell, from, to) {
  const total = codes.length, red = rgb("--red").join(" "), below = $("guesses").checked;
  let out = "";
  for (let at = from; at < to; at++) {
    const code = codes[at];
    const classes = `c${at === state.at ? " at" : ""}${isFound(at) ? " found" : ""}`;
    out += `<span class="${classes}" data-i="${at}"><b${isBlank(code) ? ' class="blank"' : ""} `
      + `style="background:${background(cell, at)}">${escaped(shown(code))}</b>`;
    for (let k = 0; below && k < data.guesses; k++) {
      const guess = guesses[k * total + at], share = probabilities[k * total + at] / 1000;
      out += `<i${guess === codes[at + 1] ? ' class="hit"' : ""} style="background:rgb(${red} / ${(share ** 0.7).toFixed(2)})">`
        + `${escaped(shown(guess))}</i>`;
    }
    out += "</span>";
  }
  return out;
}

function repaint() { // other colours, the same characters
  const all = lanes();
  for (const row of drawn.values()) {
    for (const [i, lane] of [...row.children].entries()) {
      for (const node of lane.children) node.firstChild.style.background = background(all[i], +node.dataset.i);
    }
  }
}

function go(at, focus = true) {
  const before = rowOf(state.at);
  state.at = Math.max(0, Math.min(codes.length - 1, at));
  const row = rowOf(state.at), pane = $("pane"), top = row * height;
  if (focus && (top < pane.scrollTop + height / 2 || top + height * 1.5 > pane.scrollTop + pane.clientHeight)) {
    pane.scrollTop = top - pane.clientHeight / 3;
  }
  for (const stale of [before, row]) {
    drawn.get(stale)?.remove();
    drawn.delete(stale);
  }
  draw();
  read(state.at);
}

// Numbers of a character

function read(at) {
  const box = $("readout"), code = codes[at], total = codes.length;
  const glyph = make("span", shown(code), { class: "glyph" });
  glyph.style.background = background(state.cell, at);
  box.replaceChildren(
    glyph,
    make("span", `${named(code)}, character ${count(at)}`, { class: "where" }),
    make("span", `activation ${fixed(valueAt(state.cell, at) / 127)}`, { id: "value" }),
    make("span", `surprise ${fixed(surprise[at] / 100)} bits`, { id: "surprise" }),
  );
  const list = make("ol", undefined, { "aria-label": "Likeliest next characters" });
  for (let k = 0; k < data.guesses; k++) {
    const guess = guesses[k * total + at], share = probabilities[k * total + at];
    const item = make("li", undefined, guess === codes[at + 1] ? { class: "hit" } : {});
    const bar = make("i");
    bar.style.width = `${share / 10}%`;
    item.append(make("span", shown(guess), { title: named(guess) }), bar, make("span", `${(share / 10).toFixed(1)}%`));
    list.append(item);
  }
  box.append(list);
}

// Choosing a cell

const label = cell => `${cell.layer}:${cell.cell}`;

function says(cell) {
  const on = cell.second > 0;
  if (cell.kind === "number") return `${on ? "rises" : "falls"} with`;
  return on ? "is on" : "is off";
}

function choose(index) {
  state.cell = (index + data.cells.length) % data.cells.length;
  const cell = data.cells[state.cell];
  $("layer").value = cell.layer;
  fillCells(cell.layer);
  $("cell").value = state.cell;
  const caption = $("caption");
  caption.replaceChildren(`Cell ${cell.cell} of layer ${cell.layer} `);
  if (cell.follows) caption.append(`${says(cell)} `, make("b", cell.probe));
  else caption.append("follows no probe");
  let evidence = "";
  if (cell.probe) {
    const auc = cell.kind === "number" ? "" : `, AUC ${fixed((1 + Math.abs(cell.second)) / 2)}`;
    evidence = `${cell.follows ? "Score" : `Closest is “${cell.probe}”:`} ${signed(cell.first)} on the first half, `
      + `${signed(cell.second)} on the held-out half${auc}; chance reaches ${fixed(cell.chance)}.`;
  }
  for (const a of data.ablations) {
    if (a.layer === cell.layer && a.cell === cell.cell) evidence += ` Without it: ${signed4(a.bits)} bits per character.`;
  }
  $("evidence").textContent = evidence;
  ranked = {};
  if (state.beside.length) { heads(); }
  for (const row of $("probes").tBodies[0].rows) row.setAttribute("aria-current", row.dataset.cell === String(state.cell));
  for (const tile of $("tiles").children) tile.setAttribute("aria-current", tile.dataset.cell === String(state.cell));
  for (const ring of document.querySelectorAll("#plots .chosen")) place(ring, cell);
  repaint();
  overview();
  read(state.at);
  document.documentElement.dataset.cell = label(cell);
}
const signed4 = number => (number > 0 ? "+" : "") + fixed(number, 4);

function fillCells(layer) {
  if ($("cell").dataset.layer === String(layer)) return;
  $("cell").dataset.layer = layer;
  const own = data.cells.map((cell, i) => [cell, i]).filter(([cell]) => cell.layer === layer)
    .sort((a, b) => a[0].cell - b[0].cell);
  $("cell").replaceChildren(...own.map(([cell, i]) =>
    make("option", cell.follows ? `${cell.cell}  ${cell.probe}` : cell.cell, { value: i })));
}

function keepBeside() {
  if (state.beside.length === MOST_LANES - 1) state.beside.shift();
  state.beside.push(state.cell);
  choose(state.cell + 1);
  relayout();
}

function heads() {
  $("lanes").hidden = !state.beside.length;
  $("lanes").replaceChildren(...lanes().map((index, i) => {
    const cell = data.cells[index], head = make("div");
    head.append(make("span", `${label(cell)} ${cell.follows ? cell.probe : ""}`));
    if (i) {
      const button = make("button", "×", { type: "button", "aria-label": `Take away ${label(cell)}` });
      button.onclick = () => { state.beside.splice(i - 1, 1); relayout(); };
      head.append(button);
    }
    return head;
  }));
}

function relayout() {
  heads();
  const top = measure();
  $("pane").scrollTop = rowOf(top) * height - 2 * height;
  draw();
  overview();
}

// Extremes and search

function extreme(sign) {
  const key = `${state.cell},${sign}`;
  if (!ranked[key]) { // peaks at least twenty characters apart, strongest first
    const order = Array.from(codes.keys()).sort((a, b) => sign * (valueAt(state.cell, b) - valueAt(state.cell, a)) || a - b);
    const taken = new Set(), peaks = [];
    for (const at of order) {
      const bucket = Math.floor(at / 20);
      if (taken.has(bucket) || taken.has(bucket - 1) || taken.has(bucket + 1)) continue;
      taken.add(bucket);
      if (peaks.push(at) === 100) break;
    }
    ranked[key] = { peaks, next: 0 };
  }
  const list = ranked[key];
  go(list.peaks[list.next++ % list.peaks.length]);
}

let folded = "", starts; // the text in lower case, and which character each of its units belongs to
function fold() {
  const parts = [], at = [];
  for (const [i, code] of codes.entries()) {
    const text = String.fromCodePoint(code), lower = text.toLowerCase();
    const part = lower.length === text.length ? lower : text;
    parts.push(part);
    for (let k = 0; k < part.length; k++) at.push(i);
  }
  folded = parts.join("");
  starts = Int32Array.from(at);
}

function search() {
  let wanted = $("search").value.toLowerCase();
  if (data.unit === "byte") wanted = String.fromCharCode(...new TextEncoder().encode(wanted));
  if (!folded) fold();
  state.hits = [];
  state.length = [...wanted].length;
  for (let at = wanted ? folded.indexOf(wanted) : -1; at >= 0; at = folded.indexOf(wanted, at + wanted.length)) {
    state.hits.push(starts[at]);
  }
  state.hit = -1;
  $("hits").textContent = !wanted ? "" : state.hits.length ? `${count(state.hits.length)} found` : "not in the text";
  clear();
  draw();
  overview();
}

function isFound(at) {
  let low = 0, high = state.hits.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    if (at < state.hits[middle]) high = middle - 1;
    else if (at >= state.hits[middle] + state.length) low = middle + 1;
    else return true;
  }
  return false;
}

function hit(step) {
  if (!state.hits.length) return;
  state.hit = state.hit < 0
    ? Math.max(0, state.hits.findIndex(at => at >= state.at))
    : (state.hit + step + state.hits.length) % state.hits.length;
  $("hits").textContent = `${count(state.hit + 1)} of ${count(state.hits.length)}`;
  go(state.hits[state.hit]);
}

// Pictures

function overview() {
  const canvas = $("overview"), width = canvas.clientWidth, ratio = devicePixelRatio || 1;
  if (!width) return;
  canvas.width = width * ratio;
  canvas.height = 36 * ratio;
  const context = canvas.getContext("2d"), share = codes.length / canvas.width;
  for (let x = 0; x < canvas.width; x++) {
    const from = Math.floor(x * share), to = Math.max(from + 1, Math.floor((x + 1) * share));
    let sum = 0;
    for (let at = from; at < to; at++) sum += shade(state.cell, at);
    context.fillStyle = `rgb(${colours[Math.round(sum / (to - from))]})`;
    context.fillRect(x, 0, 1, canvas.height);
  }
  const ink = getComputedStyle(document.body).color;
  context.fillStyle = ink;
  for (const at of state.hits) context.fillRect(at / share, canvas.height - 8 * ratio, ratio, 8 * ratio);
  const pane = $("pane"), top = rows[Math.min(rows.length - 1, Math.floor(pane.scrollTop / height))];
  const bottom = rows[Math.min(rows.length - 1, Math.ceil((pane.scrollTop + pane.clientHeight) / height))];
  context.strokeStyle = ink;
  context.lineWidth = 1.5 * ratio;
  context.strokeRect(top / share, ratio, Math.max(3 * ratio, (bottom - top) / share), canvas.height - 2 * ratio);
}

let tileRows;
function tiles() {
  tileRows ??= layOut(TILE.columns);
  const pane = $("pane"), top = rows[Math.min(rows.length - 2, Math.ceil(pane.scrollTop / height))] || 0;
  const last = Math.max(0, tileRows.length - 1 - TILE.rows), from = Math.min(rowOf(top, tileRows), last);
  for (const tile of $("tiles").children) {
    if (tile.hidden) continue;
    const canvas = tile.firstChild, context = canvas.getContext("2d");
    const image = context.createImageData(TILE.columns, TILE.rows);
    for (let y = 0; y < TILE.rows && from + y < tileRows.length - 1; y++) {
      for (let at = tileRows[from + y], x = 0; at < tileRows[from + y + 1]; at++, x++) {
        image.data.set(colours[128 + valueAt(+tile.dataset.cell, at)], 4 * (y * TILE.columns + x));
        image.data[4 * (y * TILE.columns + x) + 3] = 255;
      }
    }
    context.putImageData(image, 0, 0);
  }
}

function makeTiles() {
  $("tiles").replaceChildren(...data.cells.map((cell, i) => {
    const tile = make("button", undefined, { type: "button", "data-cell": i });
    tile.append(make("canvas", undefined, { width: TILE.columns, height: TILE.rows, "aria-hidden": "true" }));
    const text = make("span", `${label(cell)} `);
    if (cell.follows) text.append(make("small", `${cell.probe} ${signed(cell.second)}`));
    tile.append(text);
    tile.hidden = i >= 24;
    tile.onclick = () => { choose(i); $("reader").scrollIntoView({ block: "start" }); };
    return tile;
  }));
  $("more").hidden = data.cells.length <= 24;
  $("more").textContent = `Show all ${count(data.cells.length)}`;
  $("more").onclick = () => {
    for (const tile of $("tiles").children) tile.hidden = false;
    $("more").hidden = true;
    tiles();
  };
}

const LAYERS = ["#3b82c4", "#e08a2c", "#8a8f98", "#b04a8f", "#3f9b6c", "#c0504d"];
const PLOT = { left: 34, top: 8, size: 200 };
const where = (gate, cell, side) => {
  const { units, layers } = data.model;
  return saturation[((gate * 2 + side) * layers + cell.layer) * units + cell.cell] / 1000;
};
const x = share => PLOT.left + share * PLOT.size, y = share => PLOT.top + (1 - share) * PLOT.size;

function place(ring, cell) {
  ring.setAttribute("cx", x(where(+ring.dataset.gate, cell, 1)));
  ring.setAttribute("cy", y(where(+ring.dataset.gate, cell, 0)));
}

function plots() {
  const svg = (tag, attributes, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const { units, layers } = data.model, { left, top, size } = PLOT;
  const colour = layer => LAYERS[layer % LAYERS.length];
  for (const [gate, name] of data.gates.entries()) {
    const figure = make("figure");
    const picture = svg("svg", { viewBox: `0 0 ${left + size + 8} ${top + size + 34}`, role: "img" });
    picture.append(
      svg("title", {}, `The ${name} gate: one point a cell, across how often it is right-saturated, up how often it is left-saturated`),
      svg("rect", { x: left, y: top, width: size, height: size, class: "frame" }),
      svg("line", { x1: x(0), y1: y(1), x2: x(1), y2: y(0), class: "diagonal" }));
    for (const tick of [0, 0.5, 1]) {
      picture.append(svg("text", { x: x(tick), y: top + size + 14, "text-anchor": "middle" }, tick),
        svg("text", { x: left - 6, y: y(tick) + 3.5, "text-anchor": "end" }, tick));
    }
    picture.append(svg("text", { x: left + size / 2, y: top + size + 29, "text-anchor": "middle" }, "right-saturated (over 0.9)"),
      svg("text", { x: 10, y: top + size / 2, "text-anchor": "middle", transform: `rotate(-90 10 ${top + size / 2})` }, "left-saturated (below 0.1)"));
    for (let layer = 0; layer < layers; layer++) {
      for (let cell = 0; cell < units; cell++) {
        picture.append(svg("circle", { cx: x(where(gate, { layer, cell }, 1)).toFixed(1),
          cy: y(where(gate, { layer, cell }, 0)).toFixed(1), r: 2, fill: colour(layer), "fill-opacity": 0.55 }));
      }
    }
    picture.append(svg("circle", { r: 5, class: "chosen", "data-gate": gate }));
    figure.append(make("figcaption", `${name} gate`), picture);
    $("plots").append(figure);
  }
  $("gates-note").replaceChildren(!data.gates.length ? "A plain recurrent layer has no gates."
    : "The share of the text at which each gate is all but closed (left-saturated) or all but open (right-saturated), as in "
    + "“Visualizing and Understanding Recurrent Networks” (Karpathy, Johnson, Fei-Fei 2015). One point a cell; the ring is the chosen one. ");
  for (let layer = 0; data.gates.length && layer < layers; layer++) {
    const key = make("span", `● layer ${layer} `);
    key.style.color = colour(layer);
    $("gates-note").append(key);
  }
}

// Tables

function tables() {
  const rowsOf = $("probes").tBodies[0], none = [], absent = [];
  for (const probe of data.probes) {
    if (!probe.found) { (probe.untested ? absent : none).push(probe); continue; }
    const index = data.cells.findIndex(cell => cell.layer === probe.layer && cell.cell === probe.cell);
    const row = make("tr", undefined, { "data-cell": index, class: Math.abs(probe.second) > 0.5 ? "strong" : "" });
    const name = make("td"), button = make("button", probe.name, { type: "button" });
    name.append(button);
    row.append(name, make("td", label(probe)), make("td", signed(probe.first)), make("td", signed(probe.second)),
      make("td", fixed(probe.chance)));
    row.onclick = () => index >= 0 && choose(index);
    rowsOf.append(row);
  }
  if (!rowsOf.rows.length) $("probes").hidden = true;
  const list = probes => probes.map(probe => probe.name).join(", ");
  const said = [];
  if (!rowsOf.rows.length) said.push("No cell follows a probe beyond chance.");
  if (none.length && rowsOf.rows.length) said.push(`No cell beyond chance: ${list(none)}.`);
  if (absent.length) {
    const short = absent.some(probe => probe.untested.includes("short"));
    said.push(short ? "The text is too short to test anything." : `Not in both halves of the text: ${list(absent)}.`);
  }
  $("unfound").textContent = said.join(" ");
  const all = data.model.layers * data.model.units;
  $("method").textContent = `A score is a rank correlation between −1 and 1 (for yes or no 2 AUC − 1, for numbers Spearman's). `
    + `Of ${count(all)} cells the best for each of ${data.tested} features was chosen on the first half of the text; these `
    + `${data.tested} pairs alone were tested on the second. A cell counts as found if its score there beats its scores with `
    + `${count(data.shifts)} copies of the feature shifted in a circle, and the best score of any cell with a copy shifted far (chance). `
    + `With Bonferroni's correction for ${data.tested} features this names anything where there is nothing to find with a `
    + `probability of at most ${data.level}. Other cells are named after a found feature where they score above chance and above `
    + `0.5 on the second half; all others follow no probe.`;
  const body = $("ablated").querySelector("tbody");
  $("ablated").hidden = !data.ablations.length;
  for (const a of data.ablations) {
    const row = make("tr");
    row.append(make("td", label(a)), make("td", signed4(a.bits)), make("td", a.probe ?? ""),
      make("td", a.inside === null ? "" : signed4(a.inside)), make("td", a.outside === null ? "" : signed4(a.outside)));
    body.append(row);
  }
}

function facts() {
  const { model } = data, kind = { lstm: "LSTM", gru: "GRU", rnn: "plain recurrent network" }[model.cell];
  const unit = data.unit === "byte" ? "bytes" : "characters";
  let text = `${model.layers} × ${count(model.units)} ${kind}, ${count(model.parameters)} parameters, reading `
    + `${count(data.characters)} ${unit} of ${data.text} at ${data.bits_per_character.toFixed(3)} bits each.`;
  if (data.left_out) text += ` The other ${count(data.left_out)} were not read.`;
  if (data.unknown_characters) text += ` ${count(data.unknown_characters)} are unknown to the model.`;
  $("about").textContent = text;
  const left = model.layers * model.units - data.cells.length;
  $("kept").textContent = `Each picture is the text in view, one point a character. The page holds ${count(data.cells.length)} cells: `
    + `the best of each probe, its followers, and those that vary most`
    + (left ? `; ${count(left)} others were left out (--cells keeps more).` : ".");
}

// Events

function listen() {
  $("previous").onclick = () => choose(state.cell - 1);
  $("next").onclick = () => choose(state.cell + 1);
  $("layer").onchange = () => choose(data.cells.findIndex(cell => cell.layer === +$("layer").value));
  $("cell").onchange = () => choose(+$("cell").value);
  $("most-on").onclick = () => extreme(1);
  $("most-off").onclick = () => extreme(-1);
  $("beside").onclick = keepBeside;
  $("guesses").onchange = () => { $("guess-key").hidden = !$("guesses").checked; relayout(); };
  const recolour = () => { mixColours(); clear(); draw(); overview(); tiles(); read(state.at); };
  $("bits").onchange = recolour;
  $("scale").onchange = recolour;
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  $("search").oninput = search;
  $("find").onsubmit = event => { event.preventDefault(); hit(1); };
  $("overview").onclick = event =>
    go(Math.floor(event.offsetX / $("overview").clientWidth * codes.length));
  const character = event => event.target.closest?.(".c");
  $("sheet").onclick = event => { const node = character(event); if (node) go(+node.dataset.i, false); };
  $("sheet").onpointerover = event => { const node = character(event); if (node) read(+node.dataset.i); };
  $("sheet").onpointerleave = () => read(state.at);
  let waiting = 0, later = 0;
  $("pane").onscroll = () => {
    waiting ||= requestAnimationFrame(() => { waiting = 0; draw(); });
    clearTimeout(later);
    later = setTimeout(() => { overview(); tiles(); }, 120);
  };
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; relayout(); } else draw(); });
  const keys = {
    j: () => choose(state.cell + 1), ArrowRight: () => choose(state.cell + 1),
    k: () => choose(state.cell - 1), ArrowLeft: () => choose(state.cell - 1),
    o: () => extreme(1), f: () => extreme(-1), p: keepBeside,
    n: () => hit(1), N: () => hit(-1), "/": () => $("search").focus(),
    "[": () => go(state.at - 1), "]": () => go(state.at + 1),
    g: () => $("guesses").click(), s: () => $("bits").click(),
    c: () => { $("scale").selectedIndex ^= 1; recolour(); },
  };
  addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, input[type=search]")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  });
}

async function start() {
  data = JSON.parse($("data").textContent);
  const { arrays } = data;
  [codes, values, guesses, probabilities, surprise, saturation] = await Promise.all([
    unpack(arrays.codes, Int32Array), unpack(arrays.values, Int8Array), unpack(arrays.guesses, Int32Array),
    unpack(arrays.probabilities, Uint16Array), unpack(arrays.surprise, Uint16Array), unpack(arrays.saturation, Uint16Array)]);
  // For the browser's console: values are 127 times the activation, (cells, characters).
  window.inspection = { data, codes, values, guesses, probabilities, surprise, saturation };
  wide = data.unit === "char" && [...new Set(codes)].some(code => WIDE.test(String.fromCodePoint(code)));
  facts();
  tables();
  plots();
  makeTiles();
  const layers = [...new Set(data.cells.map(cell => cell.layer))].sort((a, b) => a - b);
  $("layer").replaceChildren(...layers.map(layer => make("option", layer, { value: layer })));
  mixColours();
  measure();
  draw();
  listen();
  choose(0);
  tiles();
  document.documentElement.dataset.state = "ready";
}

start().catch(error => {
  $("problem").textContent = `This page cannot be shown (${error.message}); it needs a browser from 2023 or later.`;
  $("problem").hidden = false;
  document.documentElement.dataset.state = "broken";
});
