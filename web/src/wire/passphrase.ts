/** Pass-phrases a person can say aloud: words of open syllables, drawn evenly from the browser's generator. */
import type { PasswordPolicy } from './http';

const CONSONANTS = 'bdfghjklmnprstvz';
const VOWELS = 'aeiou';
const WORDS = 4;
const SYLLABLES = 3;

export interface Passphrase {
  phrase: string;
  /** Whole bits of entropy in the words; digits added for a policy are not counted. */
  bits: number;
}

/** An even draw from 0..limit (limit ≤ 256) by throwing away the bytes that would favour small numbers. */
function draw(limit: number, bytes: () => number): number {
  const ceiling = 256 - (256 % limit);
  for (;;) {
    const byte = bytes();
    if (byte < ceiling) return byte % limit;
  }
}

function randomByte(): number {
  return crypto.getRandomValues(new Uint8Array(1))[0] ?? 0;
}

/** A fresh pass-phrase; `policy` adds a capital or digits where the server insists on them. */
export function passphrase(policy: PasswordPolicy, bytes: () => number = randomByte): Passphrase {
  const words = Array.from({ length: WORDS }, () =>
    Array.from(
      { length: SYLLABLES },
      () => (CONSONANTS[draw(CONSONANTS.length, bytes)] ?? '') + (VOWELS[draw(VOWELS.length, bytes)] ?? ''),
    ).join(''),
  );
  const capitals = Math.min(policy.upper ?? 0, WORDS);
  let phrase = words.map((word, index) => (index < capitals ? word[0]?.toUpperCase() + word.slice(1) : word)).join('-');
  if (policy.numeric) phrase += '-' + Array.from({ length: policy.numeric }, () => draw(10, bytes)).join('');
  return { phrase, bits: Math.floor(WORDS * SYLLABLES * Math.log2(CONSONANTS.length * VOWELS.length)) };
}
