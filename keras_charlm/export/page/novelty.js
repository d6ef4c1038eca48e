// Which lines are new: their BLAKE2b fingerprints are looked up among those of the training lines.

const MASK = (1n << 64n) - 1n;
const IV = [
  0x6a09e667f3bcc908n, 0xbb67ae8584caa73bn, 0x3c6ef372fe94f82bn, 0xa54ff53a5f1d36f1n,
  0x510e527fade682d1n, 0x9b05688c2b3e6c1fn, 0x1f83d9abfb41bd6bn, 0x5be0cd19137e2179n,
];
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

const turned = (x, n) => (x >> n) | (x << (64n - n) & MASK);

// BLAKE2b (RFC 7693) with a digest of 8 bytes, as a little-endian number.
export function fingerprint(bytes) {
  const h = IV.slice();
  h[0] ^= 0x01010008n;
  const blocks = Math.max(1, Math.ceil(bytes.length / 128));
  for (let block = 0; block < blocks; block++) {
    const data = new DataView(new ArrayBuffer(128));
    const part = bytes.subarray(128 * block, 128 * (block + 1));
    new Uint8Array(data.buffer).set(part);
    const m = Array.from({ length: 16 }, (_, i) => data.getBigUint64(8 * i, true));
    const v = [...h, ...IV];
    v[12] ^= BigInt(128 * block + part.length);
    if (block === blocks - 1) v[14] ^= MASK;
    for (let round = 0; round < 12; round++) {
      const s = SIGMA[round % 10];
      MIXED.forEach(([a, b, c, d], i) => {
        v[a] = (v[a] + v[b] + m[s[2 * i]]) & MASK;
        v[d] = turned(v[d] ^ v[a], 32n);
        v[c] = (v[c] + v[d]) & MASK;
        v[b] = turned(v[b] ^ v[c], 24n);
        v[a] = (v[a] + v[b] + m[s[2 * i + 1]]) & MASK;
        v[d] = turned(v[d] ^ v[a], 16n);
        v[c] = (v[c] + v[d]) & MASK;
        v[b] = turned(v[b] ^ v[c], 63n);
      });
    }
    for (let i = 0; i < 8; i++) h[i] ^= v[i] ^ v[i + 8];
  }
  return h[0];
}

// Returns a function that tells whether a line's fingerprint is in `data`, an ArrayBuffer of sorted
// fingerprints (8 bytes each, little-endian).
export function knownLines(data) {
  const values = new DataView(data);
  const count = data.byteLength / 8;
  const at = (i) => values.getBigUint64(8 * i, true);
  const encoder = new TextEncoder();
  return (line) => {
    const value = fingerprint(encoder.encode(line));
    let [low, high] = [0, count]; // the first that is not below the value is in low..high
    while (low < high) {
      const middle = (low + high) >> 1;
      if (at(middle) < value) low = middle + 1;
      else high = middle;
    }
    return low < count && at(low) === value;
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
