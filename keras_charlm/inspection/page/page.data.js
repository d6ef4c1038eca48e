"use strict";
// Draws an inspection. The text is laid out in rows of fixed-width columns, and only the visible rows
// are in the document, so that a long text costs no more than a short one. The scripts page.data.js,
// page.rows.js, page.text.js, page.panels.js and page.start.js are concatenated in the page.

const $ = id => document.getElementById(id);
const minus = text => String(text).replace("-", "−");
const fixed = (number, digits = 2) => minus(number.toFixed(digits));
const signed = number => (number > 0 ? "+" : "") + fixed(number);
const percent = share => `${(100 * share).toFixed(share < 0.01 ? 2 : 1)}%`;
const count = number => number.toLocaleString("en");
const escaped = text => text.replace(/[&<>"']/g, c => `&#${c.charCodeAt(0)};`);
const make = (tag, text, attributes = {}) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
};

const LINE = 22, GUESS = 13, GAP = 5; // heights of a character, of a guess below it, and between rows
const TILE = { columns: 60, rows: 38 };
const MOST_LANES = 4;

let data, codes, values, guesses, probabilities, surprise, saturation;
let rows = new Int32Array(1); // where each row begins, and the text's end
let columns = 80, height = LINE;
// `view` is what the cell is looked at for: its own entry, or that of a feature it is the best for.
const state = { cell: 0, view: null, beside: [], at: 0, hits: [], hit: -1, length: 0 };
const drawn = new Map(); // row -> its element
let colours = [], ranked = {};

async function unpack(text, Type) {
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Type(await new Response(stream).arrayBuffer());
}

// Characters

// How a character is shown in its column: blanks as symbols, control characters as their pictures.
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
  nameScale();
}

function nameScale() {
  const shown = data.value === "cell" ? "tanh of the cell state" : "hidden state";
  $("scale-name").textContent = $("bits").checked ? "bits of surprise at a character, predicted from those before it"
    : state.view?.sign < 0 ? `${shown}, sign flipped` : shown;
}

// A cell's sign is flipped where its feature is low, so that a feature is always the warm colour.
const signOf = cell => (cell === state.cell && state.view ? state.view : data.cells[cell]).sign;
const valueAt = (cell, at, sign = signOf(cell)) => sign * values[cell * codes.length + at];
// Index of a colour: the cell's activation, or up to eight bits of surprise on the upper half.
const shade = (cell, at) => 128 + ($("bits").checked && cell === state.cell
  ? Math.min(127, Math.round(surprise[at] * 127 / 800)) : valueAt(cell, at));
const background = (cell, at) => `rgb(${colours[shade(cell, at)]})`;
