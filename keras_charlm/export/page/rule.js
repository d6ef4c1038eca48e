// Compiles conditions on a text to the two tables that the on-device file takes, like
// generation/tables.py, which describes them. The same conditions give the same tables.

export const ENTRIES = 65536; // most entries of `moves`
const MOST = 1000000; // entries before equal states are merged

// A condition that cannot be followed; its message is a complete sentence for the user.
export class Contradiction extends Error {}

const tooLarge = () => new Contradiction(
  "That is too much to keep in mind at once. Ban fewer words, or lower the longest length.");

// Upper and lower case as one, where a character has exactly one lower case.
function fold(code, unit) {
  const lower = Array.from(String.fromCodePoint(code).toLowerCase());
  return lower.length !== 1 || (unit === "byte" && code > 127) ? code : lower[0].codePointAt(0);
}

// Groups the symbols that no word tells apart. Class 0 is never drawn.
function group(codes, words, unit, end) {
  const letters = new Set(words.flat());
  const known = new Map();
  const classes = codes.map((code, id) => {
    if (id === 0 || id === end) return 0;
    const letter = fold(code, unit);
    const key = letters.has(letter) ? letter : -1;
    if (!known.has(key)) known.set(key, known.size + 1);
    return known.get(key);
  });
  return { classes, known };
}

// Finds words in a text (Aho and Corasick, 1975); a state is the longest end of the text that begins
// a word. Words are strings of which each character is a class.
function finder(words) {
  const whole = new Set(words);
  const beginnings = new Set([""]);
  for (const word of words) for (let n = 1; n <= word.length; n++) beginnings.add(word.slice(0, n));
  return {
    whole,
    step(state, character) {
      const text = state + character;
      const ends = Array.from({ length: text.length + 1 }, (_, n) => text.slice(n));
      return { state: ends.find((end) => beginnings.has(end)), found: ends.some((end) => whole.has(end)) };
    },
  };
}

// The automaton without lengths: state 0 is never left, 1 is the first.
function product(ending, banned, width) {
  const [last, never] = [finder(ending ? [ending] : []), finder(banned)];
  const numbers = new Map([["\0", 1]]);
  const states = [["", ""]];
  const moves = [Array(width).fill(0)];
  for (const [a, b] of states) { // grows as it is read
    const row = [0];
    for (let c = 1; c < width; c++) {
      const character = String.fromCharCode(c);
      const [to, without] = [last.step(a, character), never.step(b, character)];
      if (without.found) { row.push(0); continue; }
      const key = `${to.state}\0${without.state}`;
      if (!numbers.has(key)) {
        states.push([to.state, without.state]);
        numbers.set(key, states.length);
        if (states.length * width > MOST) throw tooLarge();
      }
      row.push(numbers.get(key));
    }
    moves.push(row);
  }
  return { moves, accepting: [false, ...states.map(([a]) => !ending || a === ending)] };
}

// After how many characters, in which state, a text can go on to one that fits.
function openings({ moves, accepting }, least, longest, ends) {
  const levels = (longest ?? (ends ? least : 0)) + 1;
  if (levels * moves.length * moves[0].length > MOST) throw tooLarge();
  const mayEnd = Array.from({ length: levels }, (_, n) => accepting.map((good) =>
    good && (ends ? n >= least : longest !== null && n === longest)));
  const opens = mayEnd.map((row) => row.slice());
  const goesOn = (row, after) => row.some((to) => to && after[to]);
  if (longest === null) {
    const at = levels - 1;
    if (!ends) opens[at].fill(true);
    for (let changed = true; changed;) {
      const now = moves.map((row, s) => mayEnd[at][s] || goesOn(row, opens[at]));
      changed = now.some((open, s) => open !== opens[at][s]);
      opens[at] = now;
    }
  }
  for (let n = levels - 2; n >= 0; n--) {
    opens[n] = moves.map((row, s) => mayEnd[n][s] || goesOn(row, opens[n + 1]));
  }
  return { mayEnd, opens };
}

// The moves of the automaton together with the number of characters read, those that are reached;
// where a character ends a line, it is the last class.
function unfold(automaton, least, longest, ends) {
  const { mayEnd, opens } = openings(automaton, least, longest, ends);
  if (!opens[0][1]) throw new Contradiction("No text can fit all of this at once. Loosen one of the conditions.");
  const last = opens.length - 1;
  const dead = "dead"; // a line that begins with what does not fit, up to its end
  const numbers = new Map([["0 1", 0]]);
  const states = [[0, 1]];
  const number = (key, state) => {
    if (!numbers.has(key)) {
      numbers.set(key, states.length);
      states.push(state);
    }
    return numbers.get(key);
  };
  const refused = () => ends ? -1 - number(dead, null) : -1;
  const moves = [];
  for (const state of states) { // grows as it is read
    const row = automaton.moves[0].map((_, c) => {
      if (!state) return refused();
      const [n, s] = state;
      const [after, to] = [Math.min(n + 1, last), automaton.moves[s][c]];
      const complete = longest !== null && n === longest;
      const fits = complete ? !ends && c > 0 : Boolean(to) && opens[after][to];
      return fits ? number(`${after} ${to}`, [after, to]) : refused();
    });
    if (ends) row.push(state && mayEnd[state[0]][state[1]] ? 0 : -1);
    moves.push(row);
  }
  return moves;
}

const target = (move) => move < 0 ? -1 - move : move;
const renamed = (move, names) => move < 0 ? -1 - names[target(move)] : names[move];

// Merges states from which the same texts fit (Moore, 1956); state 0 stays the first.
function mergeStates(moves) {
  let names = moves.map(() => 0);
  for (let count = 1; ;) {
    const known = new Map();
    const first = [];
    const next = moves.map((row, s) => {
      const key = row.map((move) => renamed(move, names)).join();
      if (!known.has(key)) {
        known.set(key, known.size);
        first.push(s);
      }
      return known.get(key);
    });
    names = next;
    if (known.size === count) return first.map((s) => moves[s].map((move) => renamed(move, names)));
    count = known.size;
  }
}

// Merges classes that no state tells apart, numbered by their first symbols.
function mergeClasses(classes, moves) {
  const known = new Map();
  const columns = [];
  const keys = moves[0].map((_, c) => moves.map((row) => row[c]).join());
  const merged = classes.map((c) => {
    if (!known.has(keys[c])) {
      known.set(keys[c], columns.length);
      columns.push(c);
    }
    return known.get(keys[c]);
  });
  return [merged, moves.map((row) => columns.map((c) => row[c]))];
}

// Numbers the states as they are reached, class by class.
function inOrder(moves) {
  const order = [0];
  const names = { 0: 0 };
  for (const state of order) { // grows as it is read
    for (const move of moves[state]) {
      if (target(move) in names) continue;
      names[target(move)] = order.length;
      order.push(target(move));
    }
  }
  return order.map((state) => moves[state].map((move) => renamed(move, names)));
}

// Compiles conditions to {classes, moves, width}, two Int32Arrays and a number; words are arrays of
// codes, and case never matters. `codes` are those of the model's symbols by id, `end` is the id of
// the character that ends a line, or null.
export function compile({ codes, unit, end }, { endsWith = [], ban = [], minLength = 0, maxLength = null }) {
  const folded = (word) => word.map((code) => fold(code, unit));
  const { classes, known } = group(codes, [endsWith, ...ban].map(folded), unit, end);
  // A word with a character that the model does not have is never drawn anyway.
  const spelled = ban.map(folded).filter((word) => word.length && word.every((code) => known.has(code)));
  const spell = (word) => String.fromCharCode(...word.map((code) => known.get(code)));
  const missing = endsWith.find((code) => !known.has(fold(code, unit)));
  if (missing !== undefined) {
    throw new Contradiction(`The model has never seen “${String.fromCodePoint(missing)}”, so no text ends with it.`);
  }
  const ends = end !== null;
  const automaton = product(spell(folded(endsWith)), spelled.map(spell), known.size + 1);
  const moves = unfold(automaton, Math.max(minLength, Number(ends)), maxLength, ends);
  if (ends) classes[end] = moves[0].length - 1;
  const [merged, fewer] = mergeClasses(classes, mergeStates(moves));
  if (fewer.length * fewer[0].length > ENTRIES) throw tooLarge();
  return { classes: Int32Array.from(merged), moves: Int32Array.from(inOrder(fewer).flat()), width: fewer[0].length };
}

// Whether a text that fits may begin with these ids.
export function begins({ classes, moves, width }, ids) {
  let state = 0;
  for (const id of ids) {
    state = moves[state * width + classes[id]];
    if (state < 0) return false;
  }
  return true;
}
