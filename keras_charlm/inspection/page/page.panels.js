// The panels around the text: the chosen cell, pictures, plots and tables.

// Choosing a cell

const label = cell => `${cell.layer}:${cell.cell}`;
const titled = cell => (cell.follows ? `${label(cell)} ${cell.feature}` : label(cell));

// Look at a cell, for the feature that it is labelled with or for another that it is the best for.
function choose(index, feature) {
  state.cell = (index + data.cells.length) % data.cells.length;
  const cell = data.cells[state.cell];
  state.view = feature ?? cell;
  $("cell").value = state.cell;
  $("caption").replaceChildren(`Cell ${label(cell)} `);
  if (feature || cell.follows) $("caption").append("follows ", make("b", state.view.feature));
  else $("caption").append("follows no known feature");
  $("evidence").textContent = evidence(cell, state.view, feature || cell.follows);
  nameScale();
  ranked = {};
  if (state.beside.length) heads();
  for (const row of $("probes").tBodies[0].rows) {
    row.setAttribute("aria-current", row.dataset.cell === String(state.cell) && row.dataset.feature === state.view.feature);
  }
  for (const tile of $("tiles").children) tile.setAttribute("aria-current", tile.dataset.cell === String(state.cell));
  for (const ring of document.querySelectorAll("#plots .chosen")) moveRing(ring, cell);
  repaint();
  overview();
  read(state.at);
  document.documentElement.dataset.cell = label(cell);
}
const signed4 = number => (number > 0 ? "+" : "") + fixed(number, 4);
const capital = word => word[0].toUpperCase() + word.slice(1);

function evidence(cell, view, follows) {
  const said = [];
  if (follows) {
    const score = view.sign * view.second, auc = view.kind === "number" ? "" : ` (AUC ${fixed((1 + score) / 2)})`;
    said.push(`${capital(view.match)}: score ${fixed(score)} on the held-out half${auc}, ${fixed(view.sign * view.first)} on the first; `
      + `chance reaches ${fixed(view.chance)}.`);
    if (view.sign < 0) {
      said.push(`The cell is low ${view.kind === "number" ? "where this is high" : "there"}; its sign is flipped, so that the feature is the warm colour.`);
    }
  } else if (view.feature) {
    said.push(`The closest is “${view.feature}”: ${signed(view.second)} on the held-out half, ${signed(view.first)} on the first; `
      + `chance reaches ${fixed(view.chance)}.`);
  }
  for (const a of data.ablations) {
    if (a.layer !== cell.layer || a.cell !== cell.cell) continue;
    said.push(a.effect === "no effect" ? "Switching it off changes nothing."
      : `Switching it off ${a.effect}: ${signed4(a.bits)} bits per character.`);
  }
  return said.join(" ");
}

function listCells() {
  const layers = [...new Set(data.cells.map(cell => cell.layer))].sort((a, b) => a - b);
  $("cell").replaceChildren(...layers.map(layer => {
    const group = make("optgroup", undefined, { label: `Layer ${layer}` });
    const own = [...data.cells.entries()].filter(([, cell]) => cell.layer === layer).sort((a, b) => a[1].cell - b[1].cell);
    group.append(...own.map(([i, cell]) => make("option", titled(cell), { value: i })));
    return group;
  }));
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
    head.append(make("span", titled(i ? cell : { ...cell, ...state.view })));
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
    const cell = +tile.dataset.cell, context = tile.firstChild.getContext("2d");
    const image = context.createImageData(TILE.columns, TILE.rows);
    for (let y = 0; y < TILE.rows && from + y < tileRows.length - 1; y++) {
      const start = tileRows[from + y], row = arrange(start, tileRows[from + y + 1], TILE.columns);
      let x = isRightToLeft(start) ? TILE.columns - row.reduce((sum, [, wide]) => sum + wide, 0) : 0;
      for (const [at, wide] of row) {
        const colour = colours[128 + valueAt(cell, at, data.cells[cell].sign)];
        for (const end = x + wide; x < end; x++) {
          if (x < 0 || x >= TILE.columns) continue; // a newline after a full row
          image.data.set([...colour, 255], 4 * (y * TILE.columns + x));
        }
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
    if (cell.follows) text.append(cell.feature, " ", make("small", `${fixed(cell.sign * cell.second)} ${cell.match}`));
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

function moveRing(ring, cell) {
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
      svg("title", {}, `The ${name} gate: one point per cell; x is how often it is right-saturated, y how often it is left-saturated`),
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
    : "The share of the text at which each gate is nearly closed (left-saturated) or nearly open (right-saturated), as in "
    + "“Visualizing and Understanding Recurrent Networks” (Karpathy, Johnson, Fei-Fei 2015). One point per cell; the ring marks the chosen one. ");
  for (let layer = 0; data.gates.length && layer < layers; layer++) {
    const key = make("span", `● layer ${layer} `);
    key.style.color = colour(layer);
    $("gates-note").append(key);
  }
}

// Tables

function tables() {
  const body = $("probes").tBodies[0], found = data.probes.filter(probe => probe.found);
  for (const probe of found) {
    if (probe.plain && !body.querySelector(".plain")) {
      const heading = make("tr", undefined, { class: "plain" });
      heading.append(make("th", "Plain: seen in the last character alone", { colspan: 5, scope: "colgroup" }));
      body.append(heading);
    }
    body.append(featureRow(probe));
  }
  $("probes").hidden = !found.length;
  foldUnfound();
  explain();
  $("ablated").hidden = !data.ablations.length;
  for (const a of data.ablations) {
    const row = make("tr");
    row.append(make("td", label(a)), make("td", signed4(a.bits)), make("td", a.effect), make("td", a.probe ?? ""),
      make("td", a.inside === null ? "" : signed4(a.inside)), make("td", a.outside === null ? "" : signed4(a.outside)));
    $("ablated").querySelector("tbody").append(row);
  }
}

function featureRow(probe) {
  const index = data.cells.findIndex(cell => cell.layer === probe.layer && cell.cell === probe.cell);
  const row = make("tr", undefined, { "data-cell": index, "data-feature": probe.feature, class: probe.match });
  const name = make("td");
  name.append(make("button", probe.feature, { type: "button" }));
  row.append(name, make("td", label(probe)), make("td", fixed(probe.sign * probe.second)), make("td", fixed(probe.chance)),
    make("td", probe.match));
  row.onclick = () => {
    if (index < 0) return;
    choose(index, probe);
    if (matchMedia("(max-width: 68rem)").matches) $("reader").scrollIntoView({ block: "start" });
  };
  return row;
}

function foldUnfound() {
  const none = data.probes.filter(probe => !probe.found && !probe.untested), absent = data.probes.filter(probe => probe.untested);
  const list = probes => probes.map(probe => probe.feature).join(", "), said = [];
  if (none.length) said.push(`No cell scores beyond chance for: ${list(none)}.`);
  if (absent.some(probe => probe.untested.includes("short"))) said.push("The text is too short to test anything.");
  else if (absent.length) said.push(`Not in both halves of the text: ${list(absent)}.`);
  $("unfound").hidden = !said.length;
  $("unfound").querySelector("summary").textContent = none.length + absent.length < data.probes.length
    ? `Features without a cell (${none.length + absent.length})` : "No cell follows a feature";
  $("unfound").querySelector("p").textContent = said.join(" ");
}

function explain() {
  const all = data.model.layers * data.model.units;
  $("method").textContent = `A score is a rank correlation between −1 and 1 (for yes or no 2 AUC − 1, for numbers Spearman's). `
    + `Of ${count(all)} cells the best for each of ${data.tested} features was chosen on the first half of the text; only these `
    + `${data.tested} pairs were tested on the second. A cell counts as found if its score there beats its scores with `
    + `${count(data.shifts)} copies of the feature shifted in a circle, and the best score of any cell with a copy shifted far (chance). `
    + `With Bonferroni's correction for ${data.tested} features, the probability of any finding by chance `
    + `is at most ${data.level}. Other cells are labelled with a found feature if they score above chance and above `
    + `0.5 on the second half. A match is reliable from a score of 0.8 and fair from 0.5 on, if that is at least 0.2 above chance; `
    + `otherwise it is weak. The sign of a cell that is low where its feature holds is flipped.`;
}

function facts() {
  const { model } = data, kind = { lstm: "LSTM", gru: "GRU", rnn: "plain recurrent network" }[model.cell];
  const unit = data.unit === "byte" ? "bytes" : "characters";
  let text = `${model.layers} × ${count(model.units)} ${kind}, ${count(model.parameters)} parameters, reading `
    + `${count(data.characters)} ${unit} of ${data.text} at ${data.bits_per_character.toFixed(3)} bits each.`;
  if (data.left_out) text += ` The other ${count(data.left_out)} were not read.`;
  if (data.unknown_characters) text += ` ${count(data.unknown_characters)} are unknown to the model.`;
  $("about").textContent = text;
  $("cell-is").textContent = `A cell is one of the ${count(model.layers * model.units)} numbers that the network remembers of the text so far. `
    + `It changes with each character, and the colours show its value after each. Cells are named layer:cell, both counted from 0.`;
  const left = model.layers * model.units - data.cells.length;
  $("kept").textContent = `Each picture is the text in view, one point per character. The page contains ${count(data.cells.length)} cells: `
    + `the best of each feature, others that follow it, and those that vary most`
    + (left ? `; ${count(left)} others were left out (--cells keeps more).` : ".");
}
