/** A payer with one escrow: turns terms into signed tickets. Both protocols, and any number of calls at once, share one. */
import { type Hex, type LocalAccount, bytesToHex } from "viem";
import type { Escrow } from "./escrow.js";
import type { NonceStore } from "./nonces.js";
import type { Terms } from "./terms.js";
import { type Limits, type Payment, type Quote, expiryAt, meets, quote, signTicket, ticketOf } from "./ticket.js";

/** What a payer is made of. */
export interface PayerOptions {
  /** The escrow's key. It can pay and nothing else: the deposit belongs to the account that opened the escrow. */
  readonly account: LocalAccount;
  /** The escrow on chain, see {@link readEscrow}. */
  readonly escrow: Escrow;
  /** What is signed at most. */
  readonly limits: Limits;
  /** Where nonces come from. */
  readonly nonces: NonceStore;
  /** Unix seconds; the system's clock unless told. */
  readonly now?: () => number;
  /** 32 fresh uniform bytes; `crypto.getRandomValues` unless told. */
  readonly random?: () => Hex;
}

/** Signs tickets. Holds the key only inside of viem's account. */
export class Payer {
  readonly account: LocalAccount;
  readonly escrow: Escrow;
  readonly limits: Limits;
  readonly #nonces: NonceStore;
  readonly #now: () => number;
  readonly #random: () => Hex;
  readonly #scope: string;

  constructor(options: PayerOptions) {
    const { account, escrow, limits, nonces } = options;
    this.account = account;
    this.escrow = escrow;
    this.limits = limits;
    this.#nonces = nonces;
    this.#now = options.now ?? (() => Math.floor(Date.now() / 1000));
    this.#random = options.random ?? (() => bytesToHex(crypto.getRandomValues(new Uint8Array(32))));
    this.#scope = `eip155:${escrow.chainId}:${escrow.contract}:${account.address}`.toLowerCase();
  }

  /**
   * A ticket for these terms, signed and kept by the store of nonces. With an `order`, the ticket that this order got
   * before, whatever the terms are by now: asking again never pays twice.
   *
   * @throws PaymentError if the terms do not fit the escrow or the limits. Nothing was signed.
   */
  async pay(terms: Terms, order?: string): Promise<Payment> {
    const known = order === undefined ? undefined : await this.find(order);
    if (known) return known;
    const { account, escrow } = this;
    const quote = this.#quote(terms);
    const { recipient, commitment, winThreshold, nonceFloor: floor } = quote;
    const expiry = expiryAt(quote, this.#now());
    const r2 = this.#random(); // after the commitment has arrived
    const request = { scope: this.#scope, floor, cap: escrow.ticketCap };
    return this.#nonces.issue(order === undefined ? request : { ...request, order }, (nonce) =>
      signTicket(account, escrow, { escrow: account.address, recipient, commitment, r2, winThreshold, expiry, nonce }),
    );
  }

  /** The ticket that this order got before. */
  async find(order: string): Promise<Payment | undefined> {
    return this.#nonces.find(this.#scope, order);
  }

  /**
   * Whether another ticket can help where this one was refused with these terms: only if the terms would have it
   * otherwise. A server that refuses good tickets is fishing for winners.
   */
  isOutdated(payment: Payment, terms: Terms): boolean {
    return !meets(ticketOf(payment), this.#quote(terms), this.#now());
  }

  #quote(terms: Terms): Quote {
    return quote(terms, this.account.address, this.escrow, this.limits);
  }
}
