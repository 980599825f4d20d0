/** Micropay tickets as a payment method of mppx, the client of the `Payment` HTTP authentication scheme. */
import { Credential, Method, z } from "mppx";
import type { Payer } from "./payer.js";
import { INTENT, METHOD, networkOf, readChallengeRequest } from "./terms.js";

/** The method as both sides know it. */
export const ticket = Method.from({
  name: METHOD,
  intent: INTENT,
  schema: {
    credential: {
      payload: z.object({
        escrow: z.address(),
        recipient: z.address(),
        commitment: z.hash(),
        r2: z.hash(),
        winThreshold: z.string(),
        expiry: z.string(),
        nonce: z.string(),
        signature: z.signature(),
      }),
    },
    request: z.object({
      amount: z.string(),
      currency: z.string(),
      recipient: z.string(),
      methodDetails: z.record(z.string(), z.unknown()),
    }),
  },
});

const context = z.object({ order: z.optional(z.string()) });

/**
 * The method's client, for `Mppx.create({ methods: [ticketMethod(payer)] })`.
 *
 * `fetch(url, { context: { order } })` names a purchase for ever: paying again under the same name, after an error or a
 * crash, sends the same ticket. Without it, every challenge is answered with a ticket of its own, and mppx answers up to
 * `maxPaymentRetries` of them in one call.
 */
export function ticketMethod(payer: Payer) {
  return Method.toClient(ticket, {
    context,
    async createCredential({ challenge, context }) {
      const payload = await payer.pay(readChallengeRequest(challenge.request), context?.order);
      const source = `did:pkh:${networkOf(payer.escrow.chainId)}:${payer.account.address}`;
      return Credential.serialize({ challenge, payload, source });
    },
  });
}
