/**
 * From terms to a signed ticket. The rules are those of the Rust payer (`Requirements::quote` in
 * `crates/gateway/src/wire/terms.rs`, `Limits` in `crates/payer`), and `tests/vectors` hold both to the same bytes.
 */
import { type Address, type Hex, type LocalAccount, hashTypedData, isAddressEqual } from "viem";
import type { Escrow } from "./escrow.js";
import { PaymentError } from "./error.js";
import { type Terms, networkOf } from "./terms.js";

/** What the payer signs for, whatever a server asks. */
export interface Limits {
  /** Highest price of one payment, atomic units. */
  readonly maxPrice: bigint;
  /** Longest life of a ticket, seconds; a day unless told. Longer than the contract's withdraw delay makes no sense. */
  readonly maxTicketLife?: number;
  /** Who may be paid; anybody unless told. */
  readonly recipients?: readonly Address[];
}

/** Terms that were found good: what the ticket will say. */
export interface Quote {
  readonly recipient: Address;
  readonly commitment: Hex;
  readonly winThreshold: bigint;
  /** What the ticket is worth in expectation, atomic units. */
  readonly price: bigint;
  /** Shortest and longest life of the ticket, seconds. */
  readonly life: readonly [min: number, max: number];
  /** The nonce must be above this. */
  readonly nonceFloor: bigint;
}

/** The fields that are signed. */
export interface Ticket {
  readonly escrow: Address;
  readonly recipient: Address;
  readonly commitment: Hex;
  readonly r2: Hex;
  readonly winThreshold: bigint;
  readonly expiry: bigint;
  readonly nonce: bigint;
}

/** A signed ticket as it travels: the `payload` of both protocols. */
export type Payment = {
  readonly escrow: Address;
  readonly recipient: Address;
  readonly commitment: Hex;
  readonly r2: Hex;
  readonly winThreshold: string;
  readonly expiry: string;
  readonly nonce: string;
  readonly signature: Hex;
};

const DAY = 86_400;
const ONE = 1n << 256n;

const TYPES = {
  Ticket: [
    { name: "escrow", type: "address" },
    { name: "recipient", type: "address" },
    { name: "commitment", type: "bytes32" },
    { name: "r2", type: "bytes32" },
    { name: "winThreshold", type: "uint256" },
    { name: "expiry", type: "uint64" },
    { name: "nonce", type: "uint64" },
  ],
} as const;

/**
 * The least threshold at which a ticket is worth at least `price`, given what it can win. A price equal to the prize has
 * all draws but one win: a ticket that always wins cannot be written.
 */
export function thresholdFor(price: bigint, prize: bigint): bigint {
  if (price <= 0n || price > prize) {
    throw new PaymentError("no-such-price", `the price is ${price}, a ticket can be worth 1 to its prize ${prize}`);
  }
  const ceil = (price * ONE + prize - 1n) / prize;
  return ceil < ONE ? ceil : ONE - 1n;
}

/** What a ticket is worth, given what it can win, to the nearest atomic unit. */
export function worth(threshold: bigint, prize: bigint): bigint {
  return (prize * threshold + ONE / 2n) / ONE;
}

/**
 * Checks the terms against the escrow `address` and the payer's limits. The threshold follows from the price: a server
 * cannot name one and take another.
 */
export function quote(terms: Terms, address: Address, escrow: Escrow, limits: Limits): Quote {
  const mine = networkOf(escrow.chainId);
  if (terms.network !== mine || !isAddressEqual(terms.contract, escrow.contract)) {
    throw new PaymentError(
      "other-contract",
      `the terms are for contract ${terms.contract} on ${terms.network}, mine is ${escrow.contract} on ${mine}`,
    );
  }
  if (terms.escrow !== undefined && !isAddressEqual(terms.escrow, address)) {
    throw new PaymentError("other-escrow", `the terms are for escrow ${terms.escrow}, mine is ${address}`);
  }
  if (!isAddressEqual(terms.asset, escrow.asset)) {
    throw new PaymentError("wrong-asset", `the terms are in asset ${terms.asset}, the escrow holds ${escrow.asset}`);
  }
  if (escrow.prize < terms.minPrize || escrow.prize > terms.maxPrize) {
    throw new PaymentError(
      "prize-out-of-range",
      `the escrow's prize is ${escrow.prize}, taken are ${terms.minPrize} to ${terms.maxPrize}`,
    );
  }
  const winThreshold = thresholdFor(terms.amount, escrow.prize);
  if (escrow.prize === terms.prize && winThreshold !== terms.winThreshold) {
    throw new PaymentError(
      "threshold-not-price",
      `the terms ask for threshold ${terms.winThreshold}, the price is worth ${winThreshold}`,
    );
  }
  if (winThreshold > escrow.maxThreshold) {
    throw new PaymentError(
      "threshold-above-max",
      `the terms ask for threshold ${winThreshold}, the escrow's highest is ${escrow.maxThreshold}`,
    );
  }
  const price = worth(winThreshold, escrow.prize);
  if (price > limits.maxPrice) {
    throw new PaymentError("price-too-high", `the price is ${price}, the limit is ${limits.maxPrice}`);
  }
  if (limits.recipients && !limits.recipients.some((allowed) => isAddressEqual(allowed, terms.payTo))) {
    throw new PaymentError(
      "recipient-not-allowed",
      `recipient ${terms.payTo} is not on the list of ${limits.recipients.length}`,
    );
  }
  const [min, max] = [terms.minTicketLife, Math.min(terms.maxTicketLife, limits.maxTicketLife ?? DAY)];
  if (min > max) {
    throw new PaymentError("no-ticket-life", `tickets must live ${min} s at least, ${max} s is the most allowed`);
  }
  const { payTo: recipient, commitment, nonceFloor } = terms;
  return { recipient, commitment, winThreshold, price, life: [min, max], nonceFloor };
}

/** The middle of what will be accepted, where a wrong clock on either side and a slow network harm least. */
export function expiryAt(quote: Quote, now: number): bigint {
  const [min, max] = quote.life;
  return BigInt(now + min + Math.floor((max - min) / 2));
}

/** The ticket's EIP-712 digest, which is its name. */
export function ticketDigest(escrow: Pick<Escrow, "chainId" | "contract">, ticket: Ticket): Hex {
  return hashTypedData(typedData(escrow, ticket));
}

/** Signs a ticket with the escrow's key. */
export async function signTicket(
  account: LocalAccount,
  escrow: Pick<Escrow, "chainId" | "contract">,
  ticket: Ticket,
): Promise<Payment> {
  const signature = await account.signTypedData(typedData(escrow, ticket));
  return {
    ...ticket,
    winThreshold: ticket.winThreshold.toString(),
    expiry: ticket.expiry.toString(),
    nonce: ticket.nonce.toString(),
    signature,
  };
}

/** The ticket in a payment. */
export function ticketOf(payment: Payment): Ticket {
  const { signature: _, ...fields } = payment;
  return {
    ...fields,
    winThreshold: BigInt(payment.winThreshold),
    expiry: BigInt(payment.expiry),
    nonce: BigInt(payment.nonce),
  };
}

/**
 * Whether a ticket would be signed the same way for this quote. If it would, a refusal had other reasons than the terms,
 * and another ticket will not help.
 */
export function meets(ticket: Ticket, quote: Quote, now: number): boolean {
  const [min, max] = quote.life;
  return (
    isAddressEqual(ticket.recipient, quote.recipient) &&
    ticket.commitment === quote.commitment &&
    ticket.winThreshold === quote.winThreshold &&
    ticket.nonce > quote.nonceFloor &&
    ticket.expiry >= BigInt(now + min) &&
    ticket.expiry <= BigInt(now + max)
  );
}

function typedData(escrow: Pick<Escrow, "chainId" | "contract">, message: Ticket) {
  const { chainId, contract: verifyingContract } = escrow;
  const domain = { name: "Micropay Ticket Escrow", version: "1", chainId, verifyingContract } as const;
  return { domain, types: TYPES, primaryType: "Ticket", message } as const;
}
