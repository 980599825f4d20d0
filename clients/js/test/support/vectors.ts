/** Golden numbers that the Rust crates and the contracts are held to as well. */
import { readFileSync } from "node:fs";
import type { Address, Hex } from "viem";

export interface TicketVector {
  readonly mode: string;
  readonly commitment: Hex;
  readonly r1?: Hex;
  readonly r2: Hex;
  readonly winThreshold: Hex;
  readonly expiry: number;
  readonly nonce: number;
  readonly digest: Hex;
  readonly signature: Hex;
}

export interface TicketVectors {
  readonly chainId: number;
  readonly verifyingContract: Address;
  readonly escrow: Address;
  readonly escrowKey: Hex;
  readonly recipient: Address;
  readonly tickets: readonly TicketVector[];
}

/** Reads `tests/vectors/<name>`. Integers that a double would round come as strings. */
export function vectors<T>(name: string): T {
  const url = new URL(`../../../../../tests/vectors/${name}`, import.meta.url);
  const text = readFileSync(url, "utf8").replaceAll(/:\s*(\d{16,})/g, ': "$1"');
  return JSON.parse(text) as T;
}
