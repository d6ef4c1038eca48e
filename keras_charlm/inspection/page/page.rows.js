// The rows of the text: where each begins, and the columns in which its characters are drawn.

const WIDE = /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60]|\p{Emoji_Presentation}/u;
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]|[\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;
const spans = new Map(), kinds = new Map();
let rightToLeft = false; // whether the text has letters of such a script

// The columns that a character takes: tabs reach to the next tab stop, wide characters take two.
function span(code, column, width) {
  if (code === 9) {
    const stop = width < 60 ? 4 : 8;
    return stop - column % stop;
  }
  if (!spans.has(code)) {
    const wide = data.unit === "byte" ? code > 126 : WIDE.test(String.fromCodePoint(code));
    spans.set(code, wide ? 2 : 1);
  }
  return spans.get(code);
}

function layOut(width) {
  const starts = [];
  for (let begin = 0; begin < codes.length;) {
    starts.push(begin);
    let end = begin, column = 0, blank = begin;
    while (end < codes.length && codes[end] !== 10) {
      const next = column + span(codes[end], column, width);
      if (next > width && end > begin) break;
      if (codes[end] === 32 && column > width / 2) blank = end;
      column = next;
      end++;
    }
    if (codes[end] === 10) { // ends the row, together with the empty lines after it
      while (codes[end] === 10 && (end === begin || column <= width)) { end++; column++; }
      begin = end;
    } else { // break after a blank where there is one
      begin = blank > begin && end < codes.length ? blank + 1 : end;
    }
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

// The characters of a row from left to right, as [index, columns].
function arrange(from, to, width) {
  const widths = [];
  let column = 0;
  for (let at = from; at < to; at++) {
    widths.push(span(codes[at], column, width));
    column += widths[at - from];
  }
  const order = rightToLeft ? reorder(levels(from, to)) : widths.keys();
  return Array.from(order, i => [from + i, widths[i]]);
}

// Two directions in a row: the Unicode bidirectional algorithm (UAX 9), without its explicit
// embeddings, and with digits, separators between digits and neutral characters simplified.

function kind(code) { // "R" and "L" letters, "N" digits, "" neutral
  if (!kinds.has(code)) {
    const text = String.fromCodePoint(code);
    kinds.set(code, /\p{Nd}/u.test(text) ? "N" : !/[\p{L}\p{M}]/u.test(text) ? ""
      : RIGHT_TO_LEFT.test(text) ? "R" : /\p{M}/u.test(text) ? "" : "L");
  }
  return kinds.get(code);
}

function isRightToLeft(at) { // whether the first letter of the paragraph is
  if (!rightToLeft) return false;
  while (at > 0 && codes[at - 1] !== 10) at--;
  for (; at < codes.length && codes[at] !== 10; at++) {
    if (kind(codes[at]) === "R") return true;
    if (kind(codes[at]) === "L") return false;
  }
  return false;
}

function levels(from, to) {
  const base = +isRightToLeft(from), own = { R: 1, L: 2 * base };
  const kindsOf = Array.from(codes.subarray(from, to), kind);
  for (let i = 1; i + 1 < kindsOf.length; i++) { // 3.14 is one number
    if (!kindsOf[i] && kindsOf[i - 1] === "N" && kindsOf[i + 1] === "N" && ".,:/".includes(String.fromCodePoint(codes[from + i]))) {
      kindsOf[i] = "N";
    }
  }
  let letter = base ? "R" : "L";
  const sides = kindsOf.map(k => {
    if (k === "R" || k === "L") letter = k;
    return k && letter;
  });
  const edge = base ? "R" : "L";
  return sides.map((side, i) => {
    if (kindsOf[i] === "N") return side === "R" ? 2 : own.L;
    if (side) return own[side];
    const before = sides.slice(0, i).findLast(Boolean) ?? edge, after = sides.slice(i).find(Boolean) ?? edge;
    return before === after ? own[before] : base;
  });
}

function reorder(all) { // rule L2: reverse each sequence of at least a level, the highest first
  const order = [...all.keys()];
  for (let level = 2; level > 0; level--) {
    for (let i = 0; i < order.length; i++) {
      let end = i;
      while (end < order.length && all[order[end]] >= level) end++;
      if (end > i) order.splice(i, end - i, ...order.slice(i, end).reverse());
      i = end;
    }
  }
  return order;
}

// Arabic letters change their shape with their neighbours. Each stands in an element of its own here,
// so zero-width joiners say where a neighbour is.
const ARABIC = /(?=\p{Script=Arabic})\p{L}/u, JOINS_NONE = "ء", JOINS_RIGHT = "آأؤإاةدذرزوٱڈڑژۀے";
function joined(at) {
  const letter = i => {
    const text = codes[i] === undefined ? "" : String.fromCodePoint(codes[i]);
    return ARABIC.test(text) ? text : "";
  };
  const isMark = i => codes[i] !== undefined && /\p{M}/u.test(String.fromCodePoint(codes[i]));
  const own = letter(at);
  if (data.unit === "byte" || !own || own === JOINS_NONE) return shown(codes[at]);
  let before = at - 1, after = at + 1;
  while (isMark(before)) before--;
  while (isMark(after)) after++;
  const previous = letter(before), next = letter(after);
  const toPrevious = previous && previous !== JOINS_NONE && !JOINS_RIGHT.includes(previous);
  const toNext = next && next !== JOINS_NONE && !JOINS_RIGHT.includes(own);
  return (toPrevious ? "\u200d" : "") + own + (toNext ? "\u200d" : "");
}
