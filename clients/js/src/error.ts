/** Why nothing was paid. The message holds both values; `rule` is a stable name. */
export class PaymentError extends Error {
  override readonly name = "PaymentError";
  readonly rule: Rule;

  constructor(rule: Rule, message: string) {
    super(message);
    this.rule = rule;
  }
}

/** Names of {@link PaymentError.rule}. */
export type Rule =
  /** The terms cannot be read. */
  | "terms-malformed"
  /** Another scheme, chain or contract. */
  | "other-contract"
  /** The terms are bound to another escrow. */
  | "other-escrow"
  /** The terms are in another asset than the escrow's. */
  | "wrong-asset"
  /** The escrow's prize is not taken. */
  | "prize-out-of-range"
  /** The threshold takes more, or less, than the price. */
  | "threshold-not-price"
  /** A price of 0, or above the prize: no ticket is worth that. */
  | "no-such-price"
  /** The escrow does not pay tickets that win so often. */
  | "threshold-above-max"
  /** No expiry would be accepted, or only a later one than the payer allows. */
  | "no-ticket-life"
  /** Above the payer's limit. */
  | "price-too-high"
  /** Not one of those who may be paid. */
  | "recipient-not-allowed"
  /** The escrow has no nonces left. */
  | "cap-reached"
  /** The merchant has claimed a nonce that was not issued here. */
  | "floor-above-issued"
  /** The store of nonces cannot be used. */
  | "nonce-store";
