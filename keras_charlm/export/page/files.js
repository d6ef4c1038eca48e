// Fetches the page's files and checks them. A page in one file carries them in its own text.

// An error whose message is a complete sentence for the user.
export class Trouble extends Error {}

const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;,=>?@^_`{|}~";

// The bytes of a file, as { bytes, crc32 } describes it; `progress` is called with how many arrived.
export async function fetchBytes(name, { bytes, crc32 }, what, progress = () => {}) {
  const inside = document.getElementById(name);
  if (inside) return unpack(inside.textContent.trim());
  let arrived = false;
  // Twice, because the first may be an old copy from the browser's cache.
  for (const cache of ["default", "reload"]) {
    const data = await read(name, cache, progress).catch(() => null);
    if (data?.length === bytes && checksum(data) === crc32) return data;
    arrived ||= data !== null;
  }
  throw new Trouble(arrived
    ? `${what} is damaged: it is not the file that was exported. Copy the whole folder again, or export it again.`
    : `${what} could not be fetched. Check the connection and load the page again.`);
}

export async function fetchFacts() {
  const inside = document.getElementById("model.json");
  if (inside) return JSON.parse(inside.textContent);
  const response = await fetch("model.json", { cache: "no-cache" }).catch(() => null);
  const facts = response?.ok ? await response.json().catch(() => null) : null;
  if (facts) return facts;
  throw new Trouble("The model’s description could not be read. Check the connection and load the page again.");
}

async function read(name, cache, progress) {
  const response = await fetch(name, { cache });
  if (!response.ok) throw new Error(response.statusText);
  const parts = [];
  let size = 0;
  for (const reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    progress(size += value.length);
  }
  return join(parts, size);
}

function join(parts, size) {
  const data = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    data.set(part, at);
    at += part.length;
  }
  return data;
}

// CRC-32, as zlib computes it: it finds damage, and works on pages without https too.
export function checksum(data) {
  const table = Int32Array.from({ length: 256 }, (_, value) => {
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
    return value;
  });
  let crc = -1;
  for (const byte of data) crc = table[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

// Base 85 (RFC 1924, with a comma for the less-than sign) of a gzip file.
async function unpack(text) {
  const values = new Uint8Array(128);
  Array.from(DIGITS, (digit, value) => { values[digit.charCodeAt(0)] = value; });
  const data = new Uint8Array(Math.ceil(text.length / 5) * 4);
  const view = new DataView(data.buffer);
  for (let at = 0; at < text.length; at += 5) {
    let number = 0;
    for (let i = at; i < at + 5; i++) {
      number = number * 85 + (i < text.length ? values[text.charCodeAt(i)] : 84);
    }
    view.setUint32(at / 5 * 4, number);
  }
  const padding = (5 - text.length % 5) % 5;
  const packed = new Blob([data.subarray(0, data.length - padding)]);
  const stream = packed.stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
