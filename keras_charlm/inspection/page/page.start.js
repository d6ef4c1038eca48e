// Events

function listen() {
  $("previous").onclick = () => choose(state.cell - 1);
  $("next").onclick = () => choose(state.cell + 1);
  $("cell").onchange = () => choose(+$("cell").value);
  $("most-on").onclick = () => extreme(1);
  $("most-off").onclick = () => extreme(-1);
  $("beside").onclick = keepBeside;
  $("guesses").onchange = () => { $("guess-key").hidden = !$("guesses").checked; relayout(); };
  const recolour = () => { mixColours(); repaintAll(); };
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
  addEventListener("beforeprint", () => printing(true));
  addEventListener("afterprint", () => printing(false));
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

function repaintAll() {
  clear();
  draw();
  overview();
  tiles();
  read(state.at);
}

// Paper is narrower than most windows and light: the text in view is laid out and coloured for it.
function printing(on) {
  document.documentElement.classList.toggle("printing", on);
  mixColours();
  relayout();
  repaintAll();
}

async function start() {
  data = JSON.parse($("data").textContent);
  const { arrays } = data;
  [codes, values, guesses, probabilities, surprise, saturation] = await Promise.all([
    unpack(arrays.codes, Int32Array), unpack(arrays.values, Int8Array), unpack(arrays.guesses, Int32Array),
    unpack(arrays.probabilities, Uint16Array), unpack(arrays.surprise, Uint16Array), unpack(arrays.saturation, Uint16Array)]);
  // For the browser's console: values are 127 times the activation, (cells, characters).
  window.inspection = { data, codes, values, guesses, probabilities, surprise, saturation };
  rightToLeft = data.unit === "char" && [...new Set(codes)].some(code => kind(code) === "R");
  facts();
  tables();
  plots();
  makeTiles();
  listCells();
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
