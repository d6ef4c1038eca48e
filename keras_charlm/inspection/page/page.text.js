// The text: the rows in view, the numbers of a character, and the search.

const lanes = () => [state.cell, ...state.beside];

function measure() {
  const probe = make("span", "0".repeat(50), { style: "position:absolute;visibility:hidden" });
  $("pane").append(probe);
  const column = Math.ceil(probe.getBoundingClientRect().width / 50) + 1;
  probe.remove();
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
    const side = isRightToLeft(rows[row]) ? "lane right" : "lane";
    node.innerHTML = lanes().map(cell => `<div class="${side}">${cells(cell, rows[row], rows[row + 1])}</div>`).join("");
    $("sheet").append(node);
    drawn.set(row, node);
  }
}

function cells(cell, from, to) {
  const total = codes.length, red = rgb("--red").join(" "), below = $("guesses").checked;
  let out = "";
  for (const [at, wide] of arrange(from, to, columns)) {
    const code = codes[at], direction = kind(code) === "R" ? " right" : "";
    const classes = `c${at === state.at ? " at" : ""}${isFound(at) ? " found" : ""}${direction}`;
    const mark = code === 9 ? ' class="blank tab"' : isBlank(code) ? ' class="blank"' : "";
    out += `<span class="${classes}" data-i="${at}"${wide > 1 ? ` style="--span:${wide}"` : ""}><b${mark} `
      + `style="background:${background(cell, at)}">${escaped(joined(at))}</b>`;
    for (let k = 0; below && k < data.guesses; k++) {
      const guess = guesses[k * total + at], share = probabilities[k * total + at] / 1000;
      out += `<i${guess === codes[at + 1] ? ' class="hit"' : ""} style="background:rgb(${red} / ${(share ** 0.7).toFixed(2)})">`
        + `${escaped(shown(guess))}</i>`;
    }
    out += "</span>";
  }
  return out;
}

function repaint() { // new colours for the same characters
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
  const bits = surprise[at] / 100, flipped = signOf(state.cell) < 0 ? ", sign flipped" : "";
  box.replaceChildren(
    glyph,
    make("span", `${named(code)}, character ${count(at)}`, { class: "where" }),
    make("span", `activation ${fixed(valueAt(state.cell, at) / 127)} after it${flipped}`, { id: "value" }),
    make("span", `surprise ${fixed(bits)} bits`, { id: "surprise" }),
    make("p", `${at ? "Predicted from the text before it, it had" : "Before any text, it had"} a probability of `
      + `${percent(2 ** -bits)}. Likeliest after it:`, { id: "expected" }),
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
  let query = $("search").value.toLowerCase();
  if (data.unit === "byte") query = String.fromCharCode(...new TextEncoder().encode(query));
  if (!folded) fold();
  state.hits = [];
  state.length = [...query].length;
  for (let at = query ? folded.indexOf(query) : -1; at >= 0; at = folded.indexOf(query, at + query.length)) {
    state.hits.push(starts[at]);
  }
  state.hit = -1;
  $("hits").textContent = !query ? "" : state.hits.length ? `${count(state.hits.length)} found` : "not in the text";
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
