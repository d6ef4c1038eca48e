// The page's user interface: a name generator for models of lines, a writing pad for other models.
import { open } from "./engine.js";
import { fetchBytes, fetchFacts, Trouble } from "./files.js";
import { knownInAnyCase, knownLines } from "./novelty.js";
import { Contradiction } from "./rule.js";

const $ = (id) => document.getElementById(id);
const root = document.documentElement;
const NAMES = { 9: "a tab", 10: "a line break", 32: "a space", 0xa0: "a no-break space", 0x200d: "a zero-width joiner", 0xfe0f: "an emoji’s variation selector" };

const single = Boolean($("model.json")); // one file that carries its parts

let engine, facts, isKnown = null, running = null;
let last = null; // the pad's last continuation: the text before it, and its length

const CONDITIONS = ["end", "from", "to", "ban"]; // the fields that restrict what is drawn

const BUTTONS = 7; // choices of labels, with "any", that are shown as buttons

const count = new Intl.NumberFormat("en");

export async function start(fail) {
  try {
    if (!single && self.isSecureContext && navigator.serviceWorker) keepForLater();
    facts = await fetchFacts();
    lay();
    const began = performance.now();
    engine = await open(facts, (share) => { $("loading").value = share; });
    if (facts.novelty) await loadNovelty();
    fitKeyboard();
    root.dataset.loaded = String(Math.round(performance.now() - began));
    $("go").disabled = false;
    if (facts.lines) await act(); // a first dozen shows what the page does
    else say("Ready. Type a beginning, or just press Continue.");
    root.dataset.state = "ready";
    markOffline();
  } catch (error) {
    if (!(error instanceof Trouble)) console.warn(error);
    fail(error instanceof Trouble ? error.message : "The page could not start. Load it again.");
  }
}

// Sets up the controls that do not need the model's file.
function lay() {
  const { cell, layers, units, lines, parameters } = facts;
  const kind = { lstm: "an LSTM", gru: "a GRU", rnn: "a recurrent" }[cell];
  $("about").textContent = `${lines ? "Invented" : "Written"} one ${facts.unit === "byte" ? "byte" : "character"} at a time by ${kind} network`
    + ` of ${layers} × ${units} cells${parameters ? ` and ${count.format(parameters)} parameters` : ""}.`;
  document.body.classList.add(lines ? "names" : "writing");
  for (const id of lines ? ["begin-field", "number-field"] : ["pad", "undo", "again"]) $(id).hidden = false;
  $("length").value = facts.length;
  if (lines) {
    for (const field of document.querySelectorAll(".lines-only")) field.hidden = false;
  }
  else $("go").textContent = "Continue";
  const key = /Mac|iPhone|iPad/.test(navigator.platform) ? "⌘" : "Ctrl";
  $("hint").textContent = lines ? "Enter invents, Escape stops." : `${key} + Enter continues, Escape stops.`;
  $("form").addEventListener("submit", (event) => { event.preventDefault(); act(); });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && running) running.abort();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) { event.preventDefault(); act(); }
  });
  $("temperature").addEventListener("input", showTemperature);
  for (const field of [$("begin"), $("text"), ...CONDITIONS.map($)]) {
    field.addEventListener("input", () => {
      forgetProblem();
      settle();
    });
  }
  $("undo").addEventListener("click", takeBack);
  $("again").addEventListener("click", () => {
    // With a fixed seed, increment it to get a different text.
    if ($("seed").value !== "") $("seed").value = (Number($("seed").value) + 1) % 2 ** 31;
    takeBack();
    act();
  });
  $("copy").addEventListener("click", () => copy(product(), "Copied."));
  $("share").addEventListener("click", share);
  $("keep").addEventListener("click", keepSeed);
  $("share").hidden = !navigator.share && !self.phone;
  $("list").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) copy(button.dataset.text, `Copied ${button.dataset.text}.`);
  });
  layLabels();
  showTemperature();
}

// A choice for each column of the labels that the model was trained with: buttons, or a list of many.
function layLabels() {
  const labels = facts.labels ?? [];
  for (const column of new Set(labels.map((label) => label.column))) {
    const choices = [{ value: "any", code: "" }, ...labels.filter((label) => label.column === column)];
    const id = `label-${$("labels").childElementCount}`;
    $("labels").append(choices.length > BUTTONS ? labelList(id, column, choices) : labelButtons(id, column, choices));
    $("labels").hidden = false;
  }
}

function labelButtons(id, column, choices) {
  const field = document.createElement("fieldset");
  field.append(document.createElement("legend"));
  field.firstChild.textContent = column;
  for (const { value, code } of choices) {
    const label = document.createElement("label");
    const input = document.createElement("input");
    const shown = document.createElement("span");
    Object.assign(input, { type: "radio", name: id, value: code, checked: !code });
    shown.textContent = value;
    label.append(input, shown);
    field.append(label);
  }
  return field;
}

function labelList(id, column, choices) {
  const field = document.createElement("div");
  const select = document.createElement("select");
  const name = document.createElement("label");
  field.className = "field";
  name.textContent = column;
  name.htmlFor = select.id = id;
  for (const { value, code } of choices) select.add(new Option(value, code));
  field.append(name, select);
  return field;
}

// The codes of the labels that are chosen.
function chosenLabels() {
  const chosen = document.querySelectorAll("#labels select, #labels input:checked");
  return Array.from(chosen, (field) => field.value).filter(Boolean).map(Number);
}

function showTemperature() {
  const value = Number($("temperature").value);
  $("temperature-value").textContent = value.toFixed(2).replace(/0$/, "");
  $("temperature").setAttribute("aria-valuetext", `${value}${value === 0 ? ", always the most likely character" : ""}`);
}

async function loadNovelty() {
  const { novelty } = facts;
  // Everything else works without it, so a failure is not reported.
  const data = await fetchBytes("lines.bin", facts.files["lines.bin"], "The list of known lines").catch(() => null);
  if (!data) return;
  const exact = knownLines(data.buffer);
  const anyCase = knownInAnyCase(exact);
  isKnown = (text) => ($("any-case").checked ? anyCase : exact)(engine.normal(text));
  $("novel-field").hidden = $("case-field").hidden = false;
  $("novelty").hidden = false;
  $("novelty").textContent = `A dot marks what is not among the ${count.format(novelty.lines)} lines that the model learned from.`;
}

// A phone's keyboard begins words with a capital only if the model knows capitals.
function fitKeyboard() {
  const capitals = Array.from(engine.known, (code) => String.fromCodePoint(code)).some((c) => c !== c.toLowerCase());
  if (!capitals) for (const field of [$("begin"), $("text")]) field.setAttribute("autocapitalize", "none");
}

function say(sentence) { $("status").textContent = sentence; }

function forgetProblem() {
  $("problem").replaceChildren();
  for (const field of [$("begin"), $("text"), ...CONDITIONS.map($)]) field.removeAttribute("aria-invalid");
}

function problem(sentence, field) {
  forgetProblem();
  $("problem").textContent = sentence;
  // Results of other settings under the sentence would look like the answer.
  $("list").replaceChildren();
  $("results").hidden = true;
  if (facts.lines) $("tools").hidden = true;
  say("");
  if (field) {
    field.setAttribute("aria-invalid", "true");
    field.closest("details")?.setAttribute("open", "");
    field.focus();
  }
}

// A number from a field, or null after showing what is wrong with it.
function number(id, whole = true) {
  const field = $(id);
  const value = field.value.trim() === "" ? NaN : Number(field.value);
  const [low, high] = [Number(field.min), field.max === "" ? Infinity : Number(field.max)];
  if ((!whole || Number.isInteger(value)) && value >= low && value <= high) {
    field.removeAttribute("aria-invalid");
    return value;
  }
  const name = field.labels[0].textContent;
  problem(`${name} takes ${whole ? "a whole number" : "a number"} ${high === Infinity ? `from ${low} up` : `from ${low} to ${count.format(high)}`}.`, field);
  return null;
}

function settings() {
  const values = { temperature: Number($("temperature").value), labels: chosenLabels() };
  if ((values.length = number("length")) === null) return null;
  // A line of the lengths that are wished for is not cut.
  if (facts.lines) values.length = Math.max(values.length, Number($("to").value) + 1, 2 * Number($("from").value));
  if ((values.topK = number("top-k")) === null) return null;
  if ((values.topP = number("top-p", false)) === null) return null;
  if ((values.minP = number("min-p", false)) === null) return null;
  if (facts.lines && (values.num = number("number")) === null) return null;
  if ($("seed").value.trim() === "" && !$("seed").validity.badInput) {
    values.seed = crypto.getRandomValues(new Uint32Array(1))[0] >>> 1;
  } else if ((values.seed = number("seed")) === null) return null;
  return values;
}

// The compiled conditions, undefined without any, or null after showing what is wrong with them.
let compiled = { key: "", rule: undefined };
function conditions(prompt) {
  const wishes = { end: $("end").value.trim(), ban: $("ban").value.split(/[,;\n]/).map((word) => word.trim()).filter(Boolean) };
  for (const id of ["from", "to"]) {
    if ($(id).value.trim() === "" && !$(id).validity.badInput) continue;
    if ((wishes[id] = number(id)) === null) return null;
  }
  if (!wishes.end && !wishes.ban.length && !wishes.from && !wishes.to) return undefined;
  if (wishes.from > wishes.to) {
    problem(`No text has from ${wishes.from} to ${wishes.to} characters. Lower the first number or raise the second.`, $("from"));
    return null;
  }
  const key = JSON.stringify([wishes, facts.lines && prompt]);
  try {
    // What a stream remembers of its text holds only for the same rule.
    if (compiled.key !== key) compiled = { key, rule: engine.rule(prompt, wishes) };
    return compiled.rule;
  } catch (error) {
    if (!(error instanceof Contradiction)) throw error;
    problem(error.message, $(CONDITIONS.find((id) => $(id).value.trim())));
    return null;
  }
}

// Shows the characters outside the vocabulary, and offers to remove them.
function refuses(prompt, field) {
  const unknown = engine.unknown(prompt);
  if (!unknown.length) return false;
  const [{ code, at }] = unknown;
  const others = new Set(unknown.map((u) => u.code)).size - 1;
  const shape = facts.unit === "byte" ? `byte 0x${code.toString(16).toUpperCase()}`
    : `${NAMES[code] ?? `“${String.fromCodePoint(code)}”`} (U+${code.toString(16).toUpperCase().padStart(4, "0")})`;
  const bytes = facts.unit === "byte";
  problem(`The model has never seen ${shape}, ${bytes ? "byte" : "character"} ${count.format(at + 1)} of your text`
    + `${others ? `, nor ${others} other${others > 1 ? "s" : ""} in it` : ""}. `, field);
  if (bytes) return true;
  const offer = (label, text) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "plain";
    button.textContent = label;
    button.addEventListener("click", () => {
      field.value = text;
      forgetProblem();
      settle();
      field.focus();
    });
    $("problem").append(button);
  };
  const normal = engine.normal(prompt);
  offer(unknown.length > 1 ? "Leave them out" : "Leave it out",
    Array.from(normal).filter((c) => engine.known.has(c.codePointAt(0))).join(""));
  for (const [name, other] of [["small", normal.toLowerCase()], ["capital", normal.toUpperCase()]]) {
    if (!engine.unknown(other).length) offer(`Use ${name} letters`, other);
  }
  return true;
}

async function act() {
  if (running) { running.abort(); return; }
  if (!engine) return;
  forgetProblem();
  const values = settings();
  const field = facts.lines ? $("begin") : $("text");
  if (!values || refuses(field.value, field)) return;
  if ((values.rule = conditions(field.value)) === null) return;
  running = new AbortController();
  const name = $("go").textContent;
  $("go").textContent = "Stop";
  root.dataset.state = "running";
  $("tools").hidden = true;
  const began = performance.now();
  try {
    const work = facts.lines ? invent : write;
    const drawn = await work({ ...values, signal: running.signal }, field.value);
    const seconds = (performance.now() - began) / 1000;
    root.dataset.seed = values.seed;
    root.dataset.seconds = seconds.toFixed(3);
    root.dataset.speed = String(Math.round(drawn / seconds));
    $("tools").hidden = !product();
    $("keep").hidden = $("seed").value !== "";
  } catch (error) {
    console.warn(error);
    problem("The model stopped: there may be too little memory. Load the page again.");
  } finally {
    running = null;
    $("go").textContent = name;
    root.dataset.state = "ready";
    settle();
  }
}

async function invent({ num, signal, ...values }, begin) {
  const list = $("list");
  list.replaceChildren();
  $("results").hidden = false;
  $("results").setAttribute("aria-busy", "true");
  say("Inventing…");
  const only = $("novel").checked && isKnown;
  let made = 0, fresh = 0, drawn = 0, cut = 0;
  const seen = new Set(); // a name that was drawn before is drawn no second time
  // Of what was cut, nobody knows how it goes on.
  const isNew = ({ text, ended }) => Boolean(isKnown) && ended && !isKnown(text);
  const accept = (sample) => {
    const { text } = sample;
    const good = !seen.has(text) && !(only && !isNew(sample));
    seen.add(text);
    return good;
  };
  let batch = document.createDocumentFragment(), shown = performance.now();
  for await (const sample of engine.samples(begin, { ...values, num, signal, accept })) {
    const { text, ended } = sample;
    made++;
    cut += !ended;
    drawn += engine.codes(text).length + 1;
    fresh += isNew(sample);
    batch.append(item(text, isNew(sample)));
    if (performance.now() - shown > 50) {
      list.append(batch);
      shown = performance.now();
    }
  }
  list.append(batch);
  $("results").removeAttribute("aria-busy");
  const novel = isKnown && made ? `, ${only ? "all" : count.format(fresh)} new` : "";
  const short = made < num ? (signal.aborted ? " Stopped." : " There seem to be no more.") : "";
  const limit = cut ? ` ${count.format(cut)} cut at ${count.format(values.length)} characters.` : "";
  say(made ? `${count.format(made)} invented${novel}. Seed ${values.seed}.${limit}${short}` : `Nothing was drawn.${short}`);
  return drawn;
}

function item(text, isNew) {
  const li = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.text = text;
  button.title = "Copy";
  button.textContent = text;
  if (isNew) {
    const mark = document.createElement("span");
    mark.className = "hidden";
    mark.textContent = ", new";
    button.append(mark);
    li.className = "new";
  }
  li.append(button);
  return li;
}

async function write({ signal, ...values }, before) {
  const text = $("text");
  text.readOnly = true;
  text.setAttribute("aria-busy", "true");
  say("Writing…");
  let added = 0;
  try {
    for await (const piece of engine.stream(before, { ...values, signal })) {
      // Scroll along, unless the reader has scrolled away from the end.
      const follows = text.scrollHeight - text.scrollTop - text.clientHeight < 48;
      text.value += piece;
      added += Array.from(piece).length;
      if (follows || added === 1) text.scrollTop = text.scrollHeight;
    }
  } finally {
    text.readOnly = false;
    text.removeAttribute("aria-busy");
    last = { before, after: text.value };
  }
  say(`${count.format(added)} ${added === 1 ? "character" : "characters"} added${signal.aborted ? ", then stopped" : ""}. Seed ${values.seed}.`);
  return added;
}

function takeBack() {
  if (!last || running) return;
  $("text").value = last.before;
  last = null;
  settle();
  say("Taken back.");
}

// A continuation can be undone as long as nothing was typed after it.
function settle() {
  const can = Boolean(last && !running && $("text").value === last.after);
  $("undo").disabled = $("again").disabled = !can;
}

function product() {
  return facts.lines ? Array.from($("list").querySelectorAll("button"), (b) => b.dataset.text).join("\n") : $("text").value;
}

async function copy(text, done) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Pages without https have no clipboard: copy a selection instead.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "hidden";
    document.body.append(area);
    area.select();
    const good = document.execCommand("copy");
    area.remove();
    if (!good) { say("This browser does not let the page copy."); return; }
  }
  say(done);
}

async function share() {
  // The Android package's browser view has no navigator.share, but the package's own program has.
  if (self.phone) { self.phone.share(product()); return; }
  try {
    await navigator.share({ title: facts.name, text: product() });
  } catch (error) {
    if (error.name !== "AbortError") say("This device could not share it.");
  }
}

function keepSeed() {
  $("seed").value = root.dataset.seed;
  $("more").open = true;
  $("keep").hidden = true;
  say(`Seed ${root.dataset.seed} is kept: the same settings give the same text again.`);
}

function keepForLater() {
  navigator.serviceWorker.register("worker.js").catch((error) => console.warn(error));
}

// Announces when the page works offline: when its files and LiteRT.js are all in caches.
async function markOffline() {
  if (!single) {
    if (!self.isSecureContext || !navigator.serviceWorker) return;
    await navigator.serviceWorker.ready;
  }
  const urls = Object.values(facts.runtime?.files ?? {}).map(({ path }) => new URL(facts.runtime.base + path, document.baseURI).href);
  for (let tries = 0; tries < 50; tries++) {
    const cached = await Promise.all(urls.map((url) => caches.match(url)));
    if (cached.every(Boolean)) {
      root.dataset.offline = "ready";
      $("offline").textContent = "Everything happens on this device, also without a network; nothing is sent anywhere.";
      return;
    }
    await new Promise((resolve) => { setTimeout(resolve, 200); });
  }
}
