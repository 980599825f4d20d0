import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { decodePaymentResponseHeader, wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { PaymentError, prepaid, readRequirements } from "../src/index.js";
import { ticketConfig, ticketScheme } from "../src/x402.js";
import { PRICE, payer, requirements } from "./support/payer.js";
import { Seller } from "./support/seller.js";

let seller: Seller;
let origin: string;
beforeEach(async () => {
  seller = new Seller();
  origin = await seller.start();
});
afterEach(() => seller.stop());

const paying = (mine = payer(), order?: string) =>
  wrapFetchWithPayment(fetch, x402Client.fromConfig(ticketConfig(mine, order === undefined ? {} : { order })));

const otherCommitment = `0x${"22".repeat(32)}`;

test("@x402/fetch pays for a GET and a POST", async () => {
  const pay = paying();
  const got = await pay(`${origin}/tea?cup=1`);
  assert.deepEqual(await got.json(), { path: "/tea?cup=1", body: "" });
  const settled = decodePaymentResponseHeader(got.headers.get("PAYMENT-RESPONSE") ?? "");
  assert.equal(settled.success, true);
  assert.equal(settled.amount, PRICE.toString());
  const posted = await pay(`${origin}/cake`, { method: "POST", body: "two" });
  assert.deepEqual(await posted.json(), { path: "/cake", body: "two" });
  assert.deepEqual(seller.log, ["GET /tea?cup=1", "GET /tea?cup=1 x402 1", "POST /cake", "POST /cake x402 2"]);
});

test("fifty calls at once have fifty tickets", async () => {
  const pay = paying();
  const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => pay(`${origin}/${i}`)));
  assert.ok(answers.every(({ status }) => status === 200));
  assert.equal(seller.tickets.size, 50);
});

test("a price above the limit, another network and other schemes are not paid", async () => {
  seller.terms = requirements({ amount: (PRICE + 1n).toString() }, { prize: "1" });
  await assert.rejects(paying()(`${origin}/`), /the price is 78125000000001, the limit is 78125000000000/);
  seller.terms = requirements({ network: "eip155:1" });
  await assert.rejects(paying()(`${origin}/`), /No network\/scheme registered/);
  seller.terms = requirements({ scheme: "exact" });
  await assert.rejects(paying()(`${origin}/`), /No network\/scheme registered/);
  assert.equal(seller.tickets.size, 0);
  assert.ok(seller.log.every((line) => !line.includes("x402")), "nothing was signed");
});

test("terms that changed between the answer and the ticket are paid within the same call", async () => {
  const changes = [{ commitment: otherCommitment }, { nonceFloor: "0" }];
  const mine = payer();
  const scheme = ticketScheme(mine);
  const client = x402Client.fromConfig({ schemes: [{ network: "eip155:31337", client: scheme }], spendControls: false });
  client.onAfterPaymentCreation(async () => {
    seller.terms = requirements({}, changes.shift() ?? {});
  });
  const got = await wrapFetchWithPayment(fetch, client)(`${origin}/`);
  assert.equal(got.status, 402, "the seller changed its mind a second time: that is the caller's matter");
  assert.deepEqual(seller.log, ["GET /", "GET / x402 1", "GET / x402 2"]);

  seller.log.length = 0;
  changes.push({ commitment: otherCommitment }, { commitment: otherCommitment });
  assert.equal((await wrapFetchWithPayment(fetch, client)(`${origin}/`)).status, 200);
  assert.deepEqual(seller.log, ["GET /", "GET / x402 3", "GET / x402 4"]);
});

test("a nonce that a claim has overtaken is replaced, and the next call works as well", async () => {
  const mine = payer();
  const slow = await mine.pay(readRequirements(requirements()));
  assert.equal(slow.nonce, "1");
  const client = x402Client.fromConfig(ticketConfig(mine));
  let once = true;
  client.onAfterPaymentCreation(async () => {
    // While ticket 2 is on its way, tickets up to 4 are issued, and one of them wins and is claimed.
    if (once) for (let i = 0; i < 2; i++) await mine.pay(readRequirements(requirements()));
    if (once) seller.terms = requirements({}, { nonceFloor: "4" });
    once = false;
  });
  const pay = wrapFetchWithPayment(fetch, client);
  assert.equal((await pay(`${origin}/`)).status, 200);
  assert.equal((await pay(`${origin}/`)).status, 200);
  assert.deepEqual(seller.log, ["GET /", "GET / x402 2", "GET / x402 5", "GET /", "GET / x402 6"]);
});

test("a refusal that no other ticket can mend costs no other ticket", async () => {
  seller.refusal = "balance-too-low";
  const got = await paying()(`${origin}/`);
  assert.equal(got.status, 402);
  assert.deepEqual(await got.json(), { rule: "balance-too-low", status: 402 });
  assert.deepEqual(seller.log, ["GET /", "GET / x402 1"]);
  // Terms of its own come with the refusal, and would be signed; the rule says that they are no help.
  const client = x402Client.fromConfig(ticketConfig(payer()));
  client.onAfterPaymentCreation(async () => {
    seller.terms = requirements({}, { commitment: otherCommitment });
  });
  assert.equal((await wrapFetchWithPayment(fetch, client)(`${origin}/`)).status, 402);
  assert.equal(seller.log.length, 4);
  // A rule that it would help with, and terms that are the same: the seller is fishing.
  seller.refusal = "commitment-closed";
  assert.equal((await paying()(`${origin}/`)).status, 402);
  assert.equal(seller.log.length, 6);
});

test("fresh terms beyond the limit are not paid; the caller sees the refusal", async () => {
  const client = x402Client.fromConfig(ticketConfig(payer()));
  client.onAfterPaymentCreation(async () => {
    seller.terms = requirements({ amount: (PRICE * 2n).toString() }, { prize: "1", winThreshold: (1n << 250n).toString() });
  });
  assert.equal((await wrapFetchWithPayment(fetch, client)(`${origin}/`)).status, 402);
  assert.deepEqual(seller.log, ["GET /", "GET / x402 1"]);
});

test("a named order is paid with one ticket, however often it is asked for", async () => {
  const mine = payer();
  seller.deaf = true;
  await assert.rejects(paying(mine, "tea-1")(`${origin}/`));
  seller.deaf = false;
  seller.terms = requirements({}, { commitment: otherCommitment, nonceFloor: "5" });
  assert.equal((await paying(mine, "tea-1")(`${origin}/`)).status, 200);
  assert.deepEqual(seller.log.filter((line) => line.includes("x402")), ["GET / x402 1", "GET / x402 1"]);
  assert.equal(seller.tickets.size, 1);
});

test("a named order whose ticket was refused gets one more, and the same two again", async () => {
  const mine = payer();
  const client = x402Client.fromConfig(ticketConfig(mine, { order: "tea" }));
  client.onAfterPaymentCreation(async () => {
    seller.terms = requirements({}, { commitment: otherCommitment });
  });
  assert.equal((await wrapFetchWithPayment(fetch, client)(`${origin}/`)).status, 200);
  assert.equal((await paying(mine, "tea")(`${origin}/`)).status, 200, "as after a crash");
  assert.deepEqual(seller.log.filter((line) => line.includes("x402")), [
    "GET / x402 1",
    "GET / x402 2",
    "GET / x402 1",
    "GET / x402 2",
  ]);
});

test("a named order that was delivered, and that the seller has forgotten, is not paid again", async () => {
  const mine = payer();
  assert.equal((await paying(mine, "tea")(`${origin}/`)).status, 200);
  seller.tickets.clear();
  seller.terms = requirements({}, { commitment: otherCommitment });
  assert.equal((await paying(mine, "tea")(`${origin}/`)).status, 402);
  assert.deepEqual(seller.log.filter((line) => line.includes("x402")), ["GET / x402 1", "GET / x402 1"]);
});

test("with known terms a call is one request, and a change of terms costs one more", async () => {
  const mine = payer({ limits: { maxPrice: PRICE } });
  const pay = wrapFetchWithPayment(prepaid(fetch, mine), x402Client.fromConfig(ticketConfig(mine)));
  const call = async (path: string) => {
    seller.log.length = 0;
    const { status } = await pay(`${origin}${path}`, { method: "POST", body: "x" });
    return [status, ...seller.log];
  };
  assert.deepEqual(await call("/a"), [200, "POST /a", "POST /a x402 1"]);
  assert.deepEqual(await call("/a?b"), [200, "POST /a?b x402 2"]);
  seller.next = requirements({}, { commitment: otherCommitment });
  assert.deepEqual(await call("/a"), [200, "POST /a x402 3"]);
  seller.terms = seller.next;
  assert.deepEqual(await call("/a"), [200, "POST /a x402 4"], "the renewal came with the answer before");
  seller.terms = requirements({}, { commitment: `0x${"33".repeat(32)}` });
  assert.deepEqual(await call("/a"), [200, "POST /a x402 5", "POST /a x402 6"], "missed");
  assert.deepEqual(await call("/other"), [200, "POST /other", "POST /other x402 7"]);
  seller.terms = seller.next = requirements({ amount: (PRICE + 1n).toString() }, { prize: "1" });
  await call("/a").catch(() => undefined);
  await assert.rejects(call("/a"), /the limit is/);
});

test("a ticket that is sent at once follows no redirect to another server", async () => {
  const other = new Seller();
  const mine = payer();
  const pay = wrapFetchWithPayment(prepaid(fetch, mine), x402Client.fromConfig(ticketConfig(mine)));
  assert.equal((await pay(`${origin}/`)).status, 200);
  seller.redirect = `${await other.start()}/elsewhere`;
  const answer = await pay(`${origin}/`);
  other.stop();
  assert.deepEqual([answer.status, answer.headers.get("Location")], [302, seller.redirect]);
  assert.deepEqual(other.log, []);
});

test("errors say which rule", () => {
  assert.throws(() => readRequirements({}), (error) => error instanceof PaymentError && error.rule === "other-contract");
});
