/** Micropay tickets as a payment scheme of x402: for `@x402/fetch`, `@x402/axios` and whatever else uses `@x402/core`. */
import type { x402ClientConfig } from "@x402/core/client";
import type { PaymentRequirements, SchemeNetworkClient } from "@x402/core/types";
import { keccak256, stringToBytes } from "viem";
import { PaymentError } from "./error.js";
import type { Payer } from "./payer.js";
import { SCHEME, networkOf, readRequirements } from "./terms.js";
import type { Payment } from "./ticket.js";

/** Refusals that a ticket for other terms can mend. */
const MENDABLE = new Set([
  "commitment-closed",
  "commitment-unknown",
  "nonce-not-above-floor",
  "ticket-expires-too-soon",
  "ticket-lives-too-long",
  "wrong-recipient",
  "wrong-threshold",
]);
/** x402's extension for safe retries. */
const PAYMENT_IDENTIFIER = "payment-identifier";

/** How {@link ticketScheme} pays. */
export interface SchemeOptions {
  /**
   * Names the one purchase that this scheme object pays for, for ever: paying again under the same name, after an error or
   * a crash, sends the same ticket. Without it, every call is a purchase of its own.
   */
  readonly order?: string;
}

/**
 * The scheme's client. A ticket that was refused because the terms have changed since is replaced, once per call, by one
 * for the terms that came with the refusal. Not so an order's ticket of an earlier call: it may have been delivered then.
 */
export function ticketScheme(payer: Payer, options: SchemeOptions = {}): SchemeNetworkClient {
  const { order } = options;
  // x402Client asks again with the requirements of the first answer; these hold what a refusal put in their place.
  const renewed = new WeakMap<PaymentRequirements, PaymentRequirements>();
  const settled = new WeakSet<PaymentRequirements>();
  return {
    scheme: SCHEME,
    async createPaymentPayload(x402Version, requirements, context) {
      const fresh = renewed.get(requirements);
      // The name follows from the order's, so that a payer that was killed in between comes to the same.
      const second = `${order}/2`;
      if (order !== undefined && !fresh && (await payer.find(order)) && !(await payer.find(second))) {
        settled.add(requirements);
      }
      const name = order !== undefined && fresh ? second : order;
      const payload = await payer.pay(readRequirements(fresh ?? requirements), name);
      if (order === undefined || !context?.extensions?.[PAYMENT_IDENTIFIER]) return { x402Version, payload };
      // The seller that knows the order answers it again, whichever of its tickets comes.
      const id = keccak256(stringToBytes(order)).slice(2);
      return { x402Version, payload, extensions: { [PAYMENT_IDENTIFIER]: { info: { id } } } };
    },
    schemeHooks: {
      async onPaymentResponse({ paymentPayload, requirements, paymentRequired }) {
        const fresh = paymentRequired?.accepts.find(
          ({ scheme, network }) => scheme === SCHEME && network === requirements.network,
        );
        if (!MENDABLE.has(paymentRequired?.error ?? "")) return;
        if (!fresh || renewed.has(requirements) || settled.has(requirements)) return;
        try {
          if (!payer.isOutdated(paymentPayload.payload as Payment, readRequirements(fresh))) return;
        } catch (error) {
          // Terms that are not paid: the refusal stands, and the caller sees it.
          if (error instanceof PaymentError) return;
          throw error;
        }
        renewed.set(requirements, fresh);
        return { recovered: true };
      },
    },
  };
}

/**
 * The configuration of an `x402Client` that pays by ticket and by nothing else. x402's own spend controls are for
 * stablecoins, and refuse any other asset; the payer's limits take their place.
 */
export function ticketConfig(payer: Payer, options: SchemeOptions = {}): x402ClientConfig {
  const network = networkOf(payer.escrow.chainId);
  return { schemes: [{ network, client: ticketScheme(payer, options) }], spendControls: false };
}
