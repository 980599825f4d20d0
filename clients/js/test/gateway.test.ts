/** Unmodified clients against the real gateway. `make test-js` sets MICROPAY_BIN. */
import assert from "node:assert/strict";
import { resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { x402HTTPClient } from "@x402/core/client";
import { decodePaymentRequiredHeader, decodePaymentResponseHeader } from "@x402/core/http";
import { parsePaymentRequired } from "@x402/core/schemas";
import { wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { Challenge, Receipt } from "mppx";
import { Mppx, Transport } from "mppx/client";
import { type Terms, prepaid, readChallengeRequest, readRequirements, ticketDigest, ticketOf } from "../src/index.js";
import type { Payer, Payment } from "../src/index.js";
import { ticketMethod } from "../src/mppx.js";
import { ticketConfig } from "../src/x402.js";
import { Market } from "./support/gateway.js";

const binary = process.env["MICROPAY_BIN"];
const PRICE = 10n ** 14n;

describe("the real gateway", { skip: binary === undefined && "MICROPAY_BIN is not set" }, () => {
  const market = new Market(resolve(binary ?? ""));
  let origin: string;
  let stop: () => Promise<void>;
  let payer: Payer;
  before(async () => {
    await market.open();
    ({ origin, stop } = await market.serve("0.0001"));
    payer = market.payer();
    // The escrow is taken once its block is final; the same ticket is asked with until then.
    for (let status = 402; status !== 200; await sleep(200)) ({ status } = await paying(payer, "first")(`${origin}/`));
  }, { timeout: 60_000 });
  after(() => market.close());

  const paying = (mine: Payer = payer, order?: string, inner: typeof fetch = fetch) =>
    wrapFetchWithPayment(inner, x402Client.fromConfig(ticketConfig(mine, order === undefined ? {} : { order })));
  /** Records what passes, for tests that look at headers. */
  const spying = () => {
    const seen: { request: Request; response: Response }[] = [];
    const spy: typeof fetch = async (input, init) => {
      const request = new Request(input, init);
      const response = await fetch(request.clone());
      seen.push({ request, response: response.clone() });
      return response;
    };
    return { seen, spy };
  };
  const header = (message: Request | Response | undefined, name: string): string =>
    message?.headers.get(name) ?? assert.fail(`${name} is missing`);

  test("parsers of both packages read the same 402", async () => {
    const bare = await fetch(`${origin}/tea`);
    assert.equal(bare.status, 402);
    assert.equal(bare.headers.get("Cache-Control"), "no-store");
    const required = decodePaymentRequiredHeader(header(bare, "PAYMENT-REQUIRED"));
    assert.ok(parsePaymentRequired(required).success, "the schema of @x402/core");
    assert.deepEqual(new x402HTTPClient(new x402Client()).getPaymentRequiredResponse((name) => bare.headers.get(name)), required);
    assert.deepEqual([required.error, required.resource.url], ["payment-required", `${origin}/tea`]);
    const mine: Terms = readRequirements(required.accepts[0]);
    assert.equal(mine.amount, PRICE);

    const challenges = Challenge.fromResponseList(bare);
    assert.deepEqual(challenges.map(({ method, intent }) => `${method}/${intent}`), ["micropay/ticket"]);
    assert.deepEqual(readChallengeRequest(challenges[0]?.request), mine);
    // mppx reads x402 as well, and takes from it what it knows: nothing of ours, and without an error.
    const all = await Transport.http().getChallenges(bare);
    assert.equal(all.length, 1);
    const size = [...bare.headers].reduce((sum, [name, value]) => sum + name.length + value.length + 4, 0);
    assert.ok(size < 4096, `headers have ${size} bytes`);
  });

  test("@x402/fetch pays for a GET and a POST", async () => {
    const { seen, spy } = spying();
    const pay = paying(payer, undefined, spy);
    const got = await pay(`${origin}/tea?cup=1`);
    assert.equal(got.status, 200);
    assert.deepEqual(await got.json(), { method: "GET", url: "/tea?cup=1", body: "", chunked: false, payment: [] });
    const settled = decodePaymentResponseHeader(header(got, "PAYMENT-RESPONSE"));
    assert.deepEqual([settled.success, settled.payer, settled.amount], [true, payer.account.address, PRICE.toString()]);
    const posted = await pay(`${origin}/cake`, { method: "POST", body: "two" });
    assert.deepEqual(await posted.json(), { method: "POST", url: "/cake", body: "two", chunked: false, payment: [] });
    assert.equal(seen.length, 4, "one unpaid and one paid request each");
    const signature = header(seen[1]?.request, "PAYMENT-SIGNATURE");
    const { payload } = JSON.parse(atob(signature)) as { payload: Payment };
    assert.equal(settled.extra?.["ticket"], ticketDigest(market.escrow, ticketOf(payload)));
  });

  test("mppx pays for a GET and a POST, and reads the receipt", async () => {
    const { seen, spy } = spying();
    const mppx = Mppx.create({ methods: [ticketMethod(payer)], polyfill: false, fetch: spy });
    const got = await mppx.fetch(`${origin}/tea`);
    assert.deepEqual(await got.json(), { method: "GET", url: "/tea", body: "", chunked: false, payment: [] });
    const receipt = Receipt.fromResponse(got);
    assert.deepEqual([receipt.status, receipt.method], ["success", "micropay"]);
    const posted = await mppx.fetch(`${origin}/cake`, { method: "POST", body: "two" });
    assert.deepEqual(await posted.json(), { method: "POST", url: "/cake", body: "two", chunked: false, payment: [] });
    assert.deepEqual(seen.map(({ request }) => request.headers.has("Authorization")), [false, true, false, true]);
  });

  test("both packages pick their own from the same 402", async () => {
    const [forX402, forMppx] = [spying(), spying()];
    await paying(payer, undefined, forX402.spy)(`${origin}/x`);
    await Mppx.create({ methods: [ticketMethod(payer)], polyfill: false, fetch: forMppx.spy }).fetch(`${origin}/x`);
    assert.ok(forX402.seen[1]?.request.headers.has("PAYMENT-SIGNATURE"));
    assert.ok(!forX402.seen[1]?.request.headers.has("Authorization"));
    assert.ok(!forMppx.seen[1]?.request.headers.has("PAYMENT-SIGNATURE"));
    assert.match(header(forMppx.seen[1]?.request, "Authorization"), /^Payment /);
  });

  test("what does not fit is not signed", async () => {
    const poor = market.payer({ limits: { maxPrice: PRICE - 1n } });
    await assert.rejects(paying(poor)(`${origin}/`), /the price is 100000000000000, the limit is 99999999999999/);
    const elsewhere = market.payer({ escrow: { ...market.escrow, chainId: 1 } });
    await assert.rejects(paying(elsewhere)(`${origin}/`), /No network\/scheme registered/);
    await assert.rejects(Mppx.create({ methods: [ticketMethod(elsewhere)], polyfill: false }).fetch(`${origin}/`), {
      rule: "other-contract",
      message: /on eip155:31337, mine is .* on eip155:1/,
    });
    const nobody = market.payer({ limits: { maxPrice: PRICE, recipients: [payer.account.address] } });
    await assert.rejects(paying(nobody)(`${origin}/`), /is not on the list of 1/);
  });

  test("fifty calls at once are paid with fifty tickets", async () => {
    const pay = paying();
    const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => pay(`${origin}/${i}`)));
    const tickets = answers.map((each) => decodePaymentResponseHeader(header(each, "PAYMENT-RESPONSE")).extra?.["ticket"]);
    assert.equal(new Set(tickets).size, 50);
  });

  test("with known terms a call is one request", async () => {
    const { seen, spy } = spying();
    const pay = paying(payer, undefined, prepaid(spy, payer));
    for (let i = 0; i < 10; i++) assert.equal((await pay(`${origin}/again?${i}`)).status, 200);
    assert.equal(seen.length, 11);
    const mppx = Mppx.create({ methods: [ticketMethod(payer)], polyfill: false, fetch: prepaid(spy, payer) });
    for (let i = 0; i < 10; i++) {
      // A prepaid call is paid through x402, and its receipt comes that way.
      const { status, headers } = await mppx.fetch(`${origin}/again?${i}`);
      assert.equal(status, 200);
      assert.ok(headers.get(i === 0 ? "Payment-Receipt" : "PAYMENT-RESPONSE"));
    }
    assert.equal(seen.length, 22);
  });

  test("the same payment again has the same answer, with another request it is refused", async () => {
    const { seen, spy } = spying();
    const got = await paying(payer, undefined, spy)(`${origin}/once`, { method: "POST", body: "a" });
    const paid = header(seen[1]?.request, "PAYMENT-SIGNATURE");
    const again = await fetch(`${origin}/once`, { method: "POST", body: "a", headers: { "PAYMENT-SIGNATURE": paid } });
    assert.deepEqual([again.status, await again.text()], [200, await got.text()]);
    assert.equal(again.headers.get("PAYMENT-RESPONSE"), got.headers.get("PAYMENT-RESPONSE"));
    for (const [path, init] of [
      ["/twice", { method: "POST", body: "a" }],
      ["/once", { method: "POST", body: "b" }],
      ["/once", { method: "GET" }],
    ] as const) {
      const other = await fetch(`${origin}${path}`, { ...init, headers: { "PAYMENT-SIGNATURE": paid } });
      assert.equal(other.status, 409);
      assert.equal(other.headers.get("Content-Type"), "application/problem+json");
    }
  });

  test("a named order is charged once, by whatever ticket it is asked for", async () => {
    const first = await paying(payer, "order-1")(`${origin}/order`);
    const second = await paying(payer, "order-1")(`${origin}/order`);
    assert.equal(second.status, 200);
    assert.equal(header(second, "PAYMENT-RESPONSE"), header(first, "PAYMENT-RESPONSE"));
  });

  test("an upstream that fails takes no payment", async () => {
    const { seen, spy } = spying();
    const failed = await paying(payer, undefined, spy)(`${origin}/broken`);
    assert.equal(failed.status, 500);
    assert.equal(failed.headers.get("PAYMENT-RESPONSE"), null);
    const paid = header(seen[1]?.request, "PAYMENT-SIGNATURE");
    const again = await fetch(`${origin}/broken`, { headers: { "PAYMENT-SIGNATURE": paid } });
    assert.equal(again.status, 500, "the same ticket is still good");
  });

  test("terms that are known no more are replaced within the call", async () => {
    const stale: typeof fetch = async (input, init) => {
      const response = await fetch(input, init);
      const required = response.headers.get("PAYMENT-REQUIRED");
      if (response.status !== 402 || required === null || new Request(input, init).headers.has("PAYMENT-SIGNATURE")) return response;
      const terms = decodePaymentRequiredHeader(required);
      for (const each of terms.accepts) each.extra["commitment"] = `0x${"5a".repeat(32)}`;
      return new Response(null, { status: 402, headers: { "PAYMENT-REQUIRED": btoa(JSON.stringify(terms)) } });
    };
    assert.equal((await paying(payer, undefined, stale)(`${origin}/stale`)).status, 200);
  });

  test("a nonce that a claim has overtaken is replaced within the call, and the next call works", { timeout: 120_000 }, async () => {
    await stop();
    ({ origin, stop } = await market.serve("0.0006", ["--claim-batch", "1"])); // one ticket in 17 wins
    const quick = paying(payer, undefined, prepaid(fetch, payer));
    const { seen, spy } = spying();
    const client = x402Client.fromConfig(ticketConfig(payer));
    let held: bigint | undefined;
    client.onAfterPaymentCreation(async ({ paymentPayload }) => {
      if (held !== undefined) return;
      held = BigInt((paymentPayload.payload as Payment).nonce);
      for (let floor = 0n; floor < held; ) {
        const answer = await quick(`${origin}/quick`);
        assert.equal(answer.status, 200);
        const { extra } = decodePaymentResponseHeader(header(answer, "PAYMENT-RESPONSE"));
        floor = readRequirements(extra?.["next"]).nonceFloor;
      }
    });
    const pay = wrapFetchWithPayment(spy, client);
    assert.equal((await pay(`${origin}/slow`)).status, 200);
    assert.equal(seen.length, 3);
    const refused = decodePaymentRequiredHeader(header(seen[1]?.response, "PAYMENT-REQUIRED"));
    assert.equal(refused.error, "nonce-not-above-floor");
    assert.equal((await pay(`${origin}/slow`)).status, 200);
  });
});
