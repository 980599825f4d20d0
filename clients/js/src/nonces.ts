/**
 * Nonces. Two tickets with one nonce forfeit the escrow's penalty, so a nonce is given out once, and is durable before its
 * ticket leaves.
 */
import { PaymentError } from "./error.js";
import type { Payment } from "./ticket.js";

/** What a ticket is wanted for. */
export interface NonceRequest {
  /** Chain, contract and escrow. Nonces rise within a scope. */
  readonly scope: string;
  /** The caller's name of the purchase: the same order is paid with the same ticket for ever. */
  readonly order?: string;
  /** The nonce must be above this. */
  readonly floor: bigint;
  /** The nonce must be below this. */
  readonly cap: bigint;
}

/** Gives out nonces and keeps what they were used for. */
export interface NonceStore {
  /** The ticket of this order, if it has one. */
  find(scope: string, order: string): Promise<Payment | undefined>;
  /**
   * Takes the next nonce, has a ticket signed with it and keeps it; only then resolves. An order that has a ticket gets
   * that one. Where the next nonce is out of bounds, none is taken.
   */
  issue(request: NonceRequest, sign: (nonce: bigint) => Promise<Payment>): Promise<Payment>;
  /** Gives out no nonce up to this one any more: for a store that turned out to be an old copy. */
  skip(scope: string, to: bigint): Promise<void>;
}

/** What a store keeps of one issue. */
export interface NonceRecord {
  readonly scope: string;
  readonly nonce: bigint;
  readonly order?: string;
  readonly payment?: Payment;
}

/** Forgets with the process: for tests, and for escrow keys that are used once. */
export class MemoryNonceStore implements NonceStore {
  readonly #last = new Map<string, bigint>();
  readonly #orders = new Map<string, Promise<Payment>>();

  async find(scope: string, order: string): Promise<Payment | undefined> {
    return this.#orders.get(orderKey(scope, order));
  }

  async issue(request: NonceRequest, sign: (nonce: bigint) => Promise<Payment>): Promise<Payment> {
    const { scope, order, floor, cap } = request;
    const known = order === undefined ? undefined : this.#orders.get(orderKey(scope, order));
    if (known) return known;
    const nonce = (this.#last.get(scope) ?? 0n) + 1n;
    if (nonce <= floor) {
      throw new PaymentError(
        "floor-above-issued",
        `the merchant's floor is ${floor}, but the next nonce is ${nonce}; is this store an old copy? then skip the nonces issued since`,
      );
    }
    if (nonce >= cap) {
      throw new PaymentError("cap-reached", `nonce ${nonce} is not below the escrow's cap ${cap}; raise the cap`);
    }
    // No await up to here: nobody else takes this nonce. One whose ticket fails is not given out again.
    this.#last.set(scope, nonce);
    const ticket = sign(nonce).then(async (payment) => {
      await this.keep(order === undefined ? { scope, nonce } : { scope, nonce, order, payment });
      return payment;
    });
    if (order !== undefined) {
      const key = orderKey(scope, order);
      this.#orders.set(key, ticket);
      ticket.catch(() => this.#orders.delete(key));
    }
    return ticket;
  }

  async skip(scope: string, to: bigint): Promise<void> {
    this.restore({ scope, nonce: to });
    await this.keep({ scope, nonce: to });
  }

  /** Makes a record durable. */
  protected async keep(_record: NonceRecord): Promise<void> {}

  /** Takes over a record that was kept before. */
  protected restore(record: NonceRecord): void {
    const { scope, nonce, order, payment } = record;
    const last = this.#last.get(scope) ?? 0n;
    this.#last.set(scope, nonce > last ? nonce : last);
    if (order !== undefined && payment) this.#orders.set(orderKey(scope, order), Promise.resolve(payment));
  }
}

function orderKey(scope: string, order: string): string {
  return `${scope} ${order}`;
}
