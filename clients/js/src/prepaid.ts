/** Pays at once where the terms are known, so that a call is one request. */
import { PaymentError } from "./error.js";
import type { Payer } from "./payer.js";
import { SCHEME, readRequirements } from "./terms.js";

/** Places whose terms are remembered: the latest. */
const MOST_PLACES = 1_000;

/**
 * A `fetch` for the inside of `wrapFetchWithPayment` or `Mppx.create({ fetch })`: remembers the terms that every paid
 * answer brings for the next call of the same method and address, and attaches a ticket for them. Where they have changed
 * since, the answer is a 402 and the wrapper outside pays as for a first call. A paid request follows no redirect, which could
 * lead the ticket to another server: that answer is the caller's.
 *
 * Calls with the name of an order do not belong here, since the name is for the wrapper: put `ticketConfig(payer, { order })`
 * around a bare `fetch`. Those of mppx, which say so in their `context`, are passed on without a ticket.
 */
export function prepaid(fetch: typeof globalThis.fetch, payer: Payer): typeof globalThis.fetch {
  const known = new Map<string, Fields>();
  return async (input, init) => {
    let request = new Request(input, init);
    const { origin, pathname } = new URL(request.url);
    const place = `${request.method} ${origin}${pathname}`;
    const terms = known.get(place);
    const outside =
      request.headers.has("PAYMENT-SIGNATURE") || /^Payment /i.test(request.headers.get("Authorization") ?? "");
    if (terms && !outside && !isNamed(init)) {
      try {
        const payload = await payer.pay(readRequirements(terms));
        request = new Request(request, { redirect: "manual" });
        request.headers.set("PAYMENT-SIGNATURE", encode({ x402Version: 2, accepted: terms, payload }));
      } catch (error) {
        // Terms that are not paid any more: the answer to the bare request says what is asked for now.
        if (!(error instanceof PaymentError)) throw error;
      }
    }
    const response = await fetch(request);
    const next = renewal(response.headers);
    if (next || response.status === 402) known.delete(place);
    if (next) known.set(place, next); // as the latest
    if (known.size > MOST_PLACES) known.delete(known.keys().next().value ?? "");
    return response;
  };
}

/** mppx hands its own options down. */
function isNamed(init: RequestInit & { context?: { order?: unknown } } = {}): boolean {
  return init.context?.order !== undefined;
}

type Fields = Readonly<Record<string, unknown>>;

/** The terms for the next call, from either protocol's receipt. */
function renewal(headers: Headers): Fields | undefined {
  const settled = decode(headers.get("PAYMENT-RESPONSE"));
  const next = fields(fields(settled?.["extra"])?.["next"]) ?? fields(decode(headers.get("Payment-Receipt"))?.["next"]);
  return next?.["scheme"] === SCHEME ? next : undefined;
}

function fields(value: unknown): Fields | undefined {
  return typeof value === "object" && value !== null ? (value as Fields) : undefined;
}

function encode(value: unknown): string {
  return btoa(String.fromCharCode(...new TextEncoder().encode(JSON.stringify(value))));
}

function decode(header: string | null): Fields | undefined {
  if (header === null) return undefined;
  try {
    const bytes = Uint8Array.from(atob(header.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));
    return fields(JSON.parse(new TextDecoder().decode(bytes)));
  } catch {
    return undefined; // no receipt of ours
  }
}
