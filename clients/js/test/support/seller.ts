/**
 * A seller that does as the gateway does on the wire, and that a test can have change its mind: for what a real gateway
 * cannot be made to do at will. `gateway.test.ts` runs the same clients against the real one.
 */
import { createHmac } from "node:crypto";
import { type IncomingMessage, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type Hex, recoverAddress } from "viem";
import { type Payment, SCHEME, ticketDigest, ticketOf } from "../../src/index.js";
import { ESCROW, requirements } from "./payer.js";

type Json = Record<string, unknown>;

export class Seller {
  /** Terms of the next challenge. */
  terms = requirements();
  /** Terms that the receipt brings; those of the challenge unless set. */
  next: ReturnType<typeof requirements> | undefined;
  /** Why every ticket is refused, if it is. */
  refusal: string | undefined;
  /** Where paid answers lead, if they do. */
  redirect: string | undefined;
  /** Answers are lost after the ticket was taken. */
  deaf = false;
  /** Requests, paid ones as `METHOD path x402|mpp nonce`. */
  readonly log: string[] = [];
  /** Tickets that came, by digest. */
  readonly tickets = new Map<Hex, string>();
  readonly #server = createServer((request, response) => void this.#serve(request, response));

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  stop(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body: Buffer[] = [];
    for await (const chunk of request) body.push(chunk as Buffer);
    const line = `${request.method} ${request.url}`;
    const found = this.#payment(request);
    if (!found) {
      this.log.push(line);
      return this.#challenge(request, response, "payment-required");
    }
    const ticket = ticketOf(found.payment);
    this.log.push(`${line} ${found.protocol} ${ticket.nonce}`);
    const digest = ticketDigest(ESCROW, ticket);
    const signer = await recoverAddress({ hash: digest, signature: found.payment.signature });
    if (signer !== found.payment.escrow) return answer(response, 400, { rule: "signature" });
    const before = this.tickets.get(digest);
    if (before !== undefined && before !== line) return answer(response, 409, { rule: "nonce-seen" });
    const { commitment, nonceFloor, winThreshold } = this.terms.extra;
    if (this.refusal !== undefined) return this.#challenge(request, response, this.refusal);
    if (before === undefined) {
      if (ticket.commitment !== commitment) return this.#challenge(request, response, "commitment-unknown");
      if (ticket.nonce <= BigInt(nonceFloor)) return this.#challenge(request, response, "nonce-not-above-floor");
      if (ticket.winThreshold < BigInt(winThreshold)) return this.#challenge(request, response, "wrong-threshold");
    }
    this.tickets.set(digest, line);
    if (this.deaf) return void response.destroy();
    const next = this.next ?? this.terms;
    const settled = {
      success: true,
      payer: found.payment.escrow,
      transaction: "",
      network: next.network,
      amount: next.amount,
      extra: { ticket: digest, next },
    };
    const receipt = { status: "success", method: "micropay", timestamp: new Date().toISOString(), reference: digest, next };
    response.setHeader("PAYMENT-RESPONSE", Buffer.from(JSON.stringify(settled)).toString("base64"));
    response.setHeader("Payment-Receipt", Buffer.from(JSON.stringify(receipt)).toString("base64url"));
    if (this.redirect !== undefined) response.setHeader("Location", this.redirect);
    return answer(response, this.redirect === undefined ? 200 : 302, { path: request.url, body: Buffer.concat(body).toString() });
  }

  #challenge(request: IncomingMessage, response: ServerResponse, error: string): void {
    const realm = String(request.headers.host);
    const { network, maxTimeoutSeconds, amount, asset, payTo, extra } = this.terms;
    const details = { ...extra, network, maxTimeoutSeconds };
    const sorted = Object.fromEntries(Object.entries(details).sort(([a], [b]) => (a < b ? -1 : 1)));
    const text = JSON.stringify({ amount, currency: asset, methodDetails: sorted, recipient: payTo });
    const encoded = Buffer.from(text).toString("base64url");
    const expires = new Date(Date.now() + 60_000).toISOString();
    const id = mac(realm, encoded, expires);
    // As a gateway does that sells by channels, too: whoever pays by ticket passes over them.
    const channel = {
      scheme: "micropay-channel",
      network,
      amount,
      asset,
      payTo,
      maxTimeoutSeconds: 600,
      extra: {
        contract: `0x${"ce".repeat(20)}`,
        banks: [`0x${"ba".repeat(20)}`],
        minReputation: 50,
        margin: 21_600,
        maxJump: 4_096,
        checkpointEvery: 64,
        accountable: false,
        route: "* /*",
      },
    };
    const { route: _, ...terms } = channel.extra;
    const byChannel = { amount, currency: asset, methodDetails: { ...terms, network }, recipient: payTo };
    const other = Buffer.from(JSON.stringify(byChannel)).toString("base64url");
    response.setHeader("WWW-Authenticate", [
      `Payment id="${id}", realm="${realm}", method="micropay", intent="ticket", request="${encoded}", expires="${expires}"`,
      `Payment id="another", realm="${realm}", method="micropay", intent="channel", request="${other}", expires="${expires}"`,
    ]);
    const required = {
      x402Version: 2,
      error,
      resource: { url: `http://${realm}${request.url}` },
      accepts: [this.terms, channel],
      extensions: { "payment-identifier": { info: { required: false }, schema: { type: "object" } } },
    };
    response.setHeader("PAYMENT-REQUIRED", Buffer.from(JSON.stringify(required)).toString("base64"));
    answer(response, 402, { rule: error, status: 402 });
  }

  #payment(request: IncomingMessage): { protocol: string; payment: Payment } | undefined {
    const header = request.headers["payment-signature"];
    if (typeof header === "string") {
      const { x402Version, accepted, payload } = parse(header);
      if (x402Version !== 2 || (accepted as Json)["scheme"] !== SCHEME) throw new Error("not ours");
      return { protocol: "x402", payment: payload as Payment };
    }
    const [, token] = /^Payment (.*)$/.exec(request.headers.authorization ?? "") ?? [];
    if (token === undefined) return undefined;
    const { challenge, payload, source } = parse(token);
    const { id, realm, request: terms, expires } = challenge as Record<string, string>;
    if (id !== mac(String(realm), String(terms), String(expires))) throw new Error("the challenge was changed");
    if (source !== `did:pkh:eip155:31337:${(payload as Payment).escrow}`) throw new Error("another source");
    return { protocol: "mpp", payment: payload as Payment };
  }
}

function mac(realm: string, request: string, expires: string): string {
  const slots = [realm, "micropay", "ticket", request, expires, "", ""];
  return createHmac("sha256", "key").update(slots.join("|")).digest("base64url");
}

function parse(text: string): Json {
  return JSON.parse(Buffer.from(text, "base64").toString()) as Json;
}

function answer(response: ServerResponse, status: number, body: Json): void {
  response.statusCode = status;
  response.setHeader("Content-Type", status === 200 ? "application/json" : "application/problem+json");
  response.end(JSON.stringify(body));
}
