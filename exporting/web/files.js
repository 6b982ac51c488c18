'use strict';
// Fetches the files of this folder and compares each with its SHA-256 in manifest.json. Browsers offer their own SHA-256
// over https alone, and a folder may be served on a local network without it.

const SHA256_CONSTANTS = (() => {
  const primes = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every(prime => n % prime)) primes.push(n);
  const bits = root => Math.floor((root - Math.floor(root)) * 2 ** 32);
  return {first: primes.slice(0, 8).map(prime => bits(Math.sqrt(prime))),
    rounds: Int32Array.from(primes, prime => bits(Math.cbrt(prime)))};
})();

// SHA-256 (FIPS 180-4) of bytes, in hexadecimal.
function sha256(bytes) {
  const state = Int32Array.from(SHA256_CONSTANTS.first), words = new Int32Array(64), k = SHA256_CONSTANTS.rounds;
  const end = new Uint8Array((bytes.length % 64 < 56 ? 64 : 128));
  const whole = bytes.length - bytes.length % 64;
  end.set(bytes.subarray(whole));
  end[bytes.length - whole] = 0x80;
  new DataView(end.buffer).setBigUint64(end.length - 8, BigInt(bytes.length) * 8n);
  for (const part of [bytes.subarray(0, whole), end]) {
    const view = new DataView(part.buffer, part.byteOffset, part.length);
    for (let start = 0; start < part.length; start += 64) {
      for (let i = 0; i < 16; i++) words[i] = view.getInt32(start + 4 * i);
      for (let i = 16; i < 64; i++) {
        const x = words[i - 15], y = words[i - 2];
        words[i] = words[i - 16] + words[i - 7]
          + ((x >>> 7 | x << 25) ^ (x >>> 18 | x << 14) ^ x >>> 3)
          + ((y >>> 17 | y << 15) ^ (y >>> 19 | y << 13) ^ y >>> 10);
      }
      let [a, b, c, d, e, f, g, h] = state;
      for (let i = 0; i < 64; i++) {
        const s1 = (e >>> 6 | e << 26) ^ (e >>> 11 | e << 21) ^ (e >>> 25 | e << 7);
        const s0 = (a >>> 2 | a << 30) ^ (a >>> 13 | a << 19) ^ (a >>> 22 | a << 10);
        const t1 = h + s1 + (e & f ^ ~e & g) + k[i] + words[i] | 0;
        const t2 = s0 + (a & b ^ a & c ^ b & c) | 0;
        h = g; g = f; f = e; e = d + t1 | 0;
        d = c; c = b; b = a; a = t1 + t2 | 0;
      }
      [a, b, c, d, e, f, g, h].forEach((value, i) => { state[i] += value; });
    }
  }
  return Array.from(state, value => (value >>> 0).toString(16).padStart(8, '0')).join('');
}

async function fetchBytes(name) {
  const answer = await fetch(name, {cache: 'no-cache'});  // asks whether a kept copy is still that of the folder
  if (!answer.ok) throw new Error(`${name}: ${say('is missing: upload the exported folder again')}`);
  return new Uint8Array(await answer.arrayBuffer());
}

class Folder {
  static async open() {
    const folder = new Folder();
    folder.files = JSON.parse(new TextDecoder().decode(await fetchBytes('manifest.json'))).files;
    return folder;
  }

  has(name) { return Object.hasOwn(this.files, name); }

  async bytes(name) {
    const bytes = await fetchBytes(name);
    if (sha256(bytes) !== this.files[name]) {
      throw new Error(`${name}: ${say('is not the file that was exported: upload the exported folder again')}`);
    }
    return bytes;
  }

  // Text keeps a byte order mark: it may be a token.
  async text(name) { return new TextDecoder('utf-8', {ignoreBOM: true}).decode(await this.bytes(name)); }
}
