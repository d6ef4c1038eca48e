// Which lines are new: their BLAKE2b fingerprints are looked up among those of the training lines.

// Numbers of 64 bits are two of 32, the low half first: BigInt would take 30 times as long.
const IV = Uint32Array.of(
  0xf3bcc908, 0x6a09e667, 0x84caa73b, 0xbb67ae85, 0xfe94f82b, 0x3c6ef372, 0x5f1d36f1, 0xa54ff53a,
  0xade682d1, 0x510e527f, 0x2b3e6c1f, 0x9b05688c, 0xfb41bd6b, 0x1f83d9ab, 0x137e2179, 0x5be0cd19,
);
const SIGMA = [
  [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
  [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
  [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
  [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
  [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
  [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
  [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
  [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
  [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
  [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];
const MIXED = [
  [0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15],
  [0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14],
];

function add(v, at, low, high) {
  const sum = v[at] + low;
  v[at + 1] += high + (sum > 0xffffffff);
  v[at] = sum;
}

// v[at] = (v[at] xor v[by]) turned right by 32, 24, 16 or 63 bits.
function turn(v, at, by, bits) {
  let [low, high] = [v[at] ^ v[by], v[at + 1] ^ v[by + 1]];
  if (bits >= 32) {
    [low, high] = [high, low];
    bits -= 32;
  }
  v[at] = bits ? low >>> bits | high << 32 - bits : low;
  v[at + 1] = bits ? high >>> bits | low << 32 - bits : high;
}

// BLAKE2b (RFC 7693) with a digest of 8 bytes, as a little-endian number: its low and high half.
export function fingerprint(bytes) {
  const h = IV.slice();
  h[0] ^= 0x01010008;
  const blocks = Math.max(1, Math.ceil(bytes.length / 128));
  for (let block = 0; block < blocks; block++) {
    const data = new DataView(new ArrayBuffer(128));
    const part = bytes.subarray(128 * block, 128 * (block + 1));
    new Uint8Array(data.buffer).set(part);
    const m = Uint32Array.from({ length: 32 }, (_, i) => data.getUint32(4 * i, true));
    const v = Uint32Array.of(...h, ...IV);
    v[24] ^= 128 * block + part.length;
    if (block === blocks - 1) {
      v[28] ^= 0xffffffff;
      v[29] ^= 0xffffffff;
    }
    for (let round = 0; round < 12; round++) {
      const s = SIGMA[round % 10];
      MIXED.forEach((four, i) => {
        const [a, b, c, d] = four.map((at) => 2 * at);
        for (const [word, first, second] of [[s[2 * i], 32, 24], [s[2 * i + 1], 16, 63]]) {
          add(v, a, v[b], v[b + 1]);
          add(v, a, m[2 * word], m[2 * word + 1]);
          turn(v, d, a, first);
          add(v, c, v[d], v[d + 1]);
          turn(v, b, c, second);
        }
      });
    }
    for (let i = 0; i < 16; i++) h[i] ^= v[i] ^ v[i + 16];
  }
  return [h[0], h[1]];
}

// Returns a function that tells whether a line's fingerprint is in `data`, an ArrayBuffer of sorted
// fingerprints (8 bytes each, little-endian).
export function knownLines(data) {
  const values = new Uint32Array(data); // phones and computers are little-endian
  const count = values.length / 2;
  const encoder = new TextEncoder();
  return (line) => {
    const [low, high] = fingerprint(encoder.encode(line));
    let [from, to] = [0, count]; // the first that is not below the value is in from..to
    while (from < to) {
      const middle = (from + to) >> 1;
      const [a, b] = [values[2 * middle], values[2 * middle + 1]];
      if (b < high || (b === high && a < low)) from = middle + 1;
      else to = middle;
    }
    return from < count && values[2 * from] === low && values[2 * from + 1] === high;
  };
}

// Like a function of `knownLines`, but a line counts as known if it is known as it stands, in small
// letters, in capitals, or with capitals at the beginning of the words: the fingerprints are of
// whole lines, and reveal no other spelling.
export function knownInAnyCase(known) {
  return (line) => {
    const small = line.toLowerCase();
    const initials = small.replace(/(^|[^\p{L}\p{M}])(\p{L})/gu, (_, before, first) => before + first.toUpperCase());
    const first = small.replace(/^./u, (c) => c.toUpperCase());
    return [line, small, initials, first, line.toUpperCase()].some(known);
  };
}
