/**
 * What a server asks for: the terms as they stand in x402's `PaymentRequirements`, and as the `Payment` scheme carries the
 * same. Read from outside, so every field is checked before anything else looks at it.
 */
import { type Address, type Hex, getAddress, isAddress, isHex } from "viem";
import { PaymentError } from "./error.js";

/** Our scheme's name in x402. */
export const SCHEME = "micropay-ticket";
/** Our method's name in the `Payment` scheme. */
export const METHOD = "micropay";
/** Our intent's name in the `Payment` scheme. */
export const INTENT = "ticket";

/** The terms of one payment. Amounts are atomic units, times are seconds. */
export interface Terms {
  /** CAIP-2 name of the chain. */
  readonly network: string;
  /** The price: what a ticket is worth in expectation. */
  readonly amount: bigint;
  /** Token, or the zero address for the native asset. */
  readonly asset: Address;
  /** Who is paid. */
  readonly payTo: Address;
  /** The ticket escrow contract. */
  readonly contract: Address;
  /** The recipient's commitment to its half of the coin toss. */
  readonly commitment: Hex;
  /** What a winner pays: the escrow's prize where the terms are for one escrow, else an example. */
  readonly prize: bigint;
  /** The ticket's `winThreshold` for `prize`. */
  readonly winThreshold: bigint;
  /** Smallest prize taken. */
  readonly minPrize: bigint;
  /** Largest prize taken. */
  readonly maxPrize: bigint;
  /** Shortest life of a ticket, counted from its arrival. */
  readonly minTicketLife: number;
  /** Longest life of a ticket, counted from its arrival. */
  readonly maxTicketLife: number;
  /** The ticket's nonce must be above this. */
  readonly nonceFloor: bigint;
  /** The one escrow that these terms are for. */
  readonly escrow?: Address;
}

/** CAIP-2 name of a chain. */
export function networkOf(chainId: number): `eip155:${number}` {
  return `eip155:${chainId}`;
}

/** Reads x402's `PaymentRequirements`. */
export function readRequirements(value: unknown): Terms {
  const requirements = record(value, "terms");
  const scheme = requirements["scheme"];
  if (scheme !== SCHEME) {
    throw new PaymentError("other-contract", `the terms are for scheme ${show(scheme)}, mine is "${SCHEME}"`);
  }
  const extra = record(requirements["extra"], "extra");
  return readTerms(requirements, extra, requirements["network"], "asset", "payTo");
}

/** Reads the `request` of a challenge of the `Payment` scheme. */
export function readChallengeRequest(value: unknown): Terms {
  const request = record(value, "request");
  const details = record(request["methodDetails"], "methodDetails");
  return readTerms(request, details, details["network"], "currency", "recipient");
}

function readTerms(
  outer: Fields,
  extra: Fields,
  network: unknown,
  assetName: string,
  recipientName: string,
): Terms {
  if (typeof network !== "string") throw malformed("network", network, "the name of a chain");
  const terms: Terms = {
    network,
    amount: decimal(outer, "amount", 128),
    asset: address(outer, assetName),
    payTo: address(outer, recipientName),
    contract: address(extra, "contract"),
    commitment: bytes32(extra, "commitment"),
    prize: decimal(extra, "prize", 128),
    winThreshold: decimal(extra, "winThreshold", 256),
    minPrize: decimal(extra, "minPrize", 128),
    maxPrize: decimal(extra, "maxPrize", 128),
    minTicketLife: seconds(extra, "minTicketLife"),
    maxTicketLife: seconds(extra, "maxTicketLife"),
    nonceFloor: decimal(extra, "nonceFloor", 64),
  };
  return extra["escrow"] === undefined ? terms : { ...terms, escrow: address(extra, "escrow") };
}

type Fields = Readonly<Record<string, unknown>>;

function record(value: unknown, name: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw malformed(name, value, "an object");
  }
  return value as Fields;
}

function decimal(fields: Fields, name: string, bits: number): bigint {
  const value = fields[name];
  if (typeof value !== "string" || !/^[0-9]{1,78}$/.test(value)) {
    throw malformed(name, value, "a decimal number in a string");
  }
  const number = BigInt(value);
  if (number >> BigInt(bits) !== 0n) throw malformed(name, value, `a number of ${bits} bits`);
  return number;
}

function seconds(fields: Fields, name: string): number {
  const value = fields[name];
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) {
    throw malformed(name, value, "a number of seconds");
  }
  return value;
}

function address(fields: Fields, name: string): Address {
  const value = fields[name];
  if (typeof value !== "string" || !isAddress(value)) throw malformed(name, value, "an address");
  return getAddress(value);
}

function bytes32(fields: Fields, name: string): Hex {
  const value = fields[name];
  if (!isHex(value) || value.length !== 66) throw malformed(name, value, "32 bytes in hexadecimal");
  return value.toLowerCase() as Hex;
}

function malformed(name: string, got: unknown, expected: string): PaymentError {
  return new PaymentError("terms-malformed", `the terms' ${name} is ${show(got)}, not ${expected}`);
}

function show(value: unknown): string {
  return (JSON.stringify(value) ?? "missing").slice(0, 100);
}
