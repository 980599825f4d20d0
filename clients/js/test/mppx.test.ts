import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { Challenge, Receipt } from "mppx";
import { Mppx } from "mppx/client";
import { prepaid } from "../src/index.js";
import { ticketMethod } from "../src/mppx.js";
import { PRICE, payer, requirements } from "./support/payer.js";
import { Seller } from "./support/seller.js";

let seller: Seller;
let origin: string;
beforeEach(async () => {
  seller = new Seller();
  origin = await seller.start();
});
afterEach(() => seller.stop());

const paying = (mine = payer()) => Mppx.create({ methods: [ticketMethod(mine)], polyfill: false });

test("mppx reads our challenge, pays for a GET and a POST, and reads the receipt", async () => {
  const mppx = paying();
  const bare = await fetch(`${origin}/`);
  const challenge = Challenge.fromResponse(bare);
  assert.deepEqual([challenge.method, challenge.intent, challenge.request["amount"]], ["micropay", "ticket", PRICE.toString()]);
  seller.log.length = 0;

  const got = await mppx.fetch(`${origin}/tea`);
  assert.deepEqual(await got.json(), { path: "/tea", body: "" });
  const receipt = Receipt.fromResponse(got);
  assert.equal(receipt.method, "micropay");
  assert.ok(seller.tickets.has(receipt.reference as `0x${string}`));
  const posted = await mppx.fetch(`${origin}/cake`, { method: "POST", body: "two" });
  assert.deepEqual(await posted.json(), { path: "/cake", body: "two" });
  assert.deepEqual(seller.log, ["GET /tea", "GET /tea mpp 1", "POST /cake", "POST /cake mpp 2"]);
});

test("terms that do not fit are not paid", async () => {
  seller.terms = requirements({ amount: (PRICE + 1n).toString() }, { prize: "1" });
  await assert.rejects(paying().fetch(`${origin}/`), { rule: "price-too-high", message: /78125000000001, the limit is/ });
  seller.terms = requirements({ network: "eip155:1" });
  await assert.rejects(paying().fetch(`${origin}/`), { rule: "other-contract", message: /on eip155:1, mine/ });
  assert.equal(seller.tickets.size, 0);
});

test("a refusal is answered with a ticket for the terms that came with it", async () => {
  const mppx = paying();
  mppx.onCredentialCreated(() => {
    seller.terms = requirements({}, { commitment: `0x${"22".repeat(32)}` });
  });
  assert.equal((await mppx.fetch(`${origin}/`)).status, 200);
  assert.deepEqual(seller.log, ["GET /", "GET / mpp 1", "GET / mpp 2"]);
});

test("a named order sends the same ticket again", async () => {
  const mine = payer();
  seller.deaf = true;
  await assert.rejects(paying(mine).fetch(`${origin}/`, { context: { order: "tea-1" } }));
  seller.deaf = false;
  seller.terms = requirements({}, { nonceFloor: "9" });
  assert.equal((await paying(mine).fetch(`${origin}/`, { context: { order: "tea-1" } })).status, 200);
  assert.equal(seller.tickets.size, 1);
});

test("with known terms a call is one request", async () => {
  const mine = payer();
  const mppx = Mppx.create({ methods: [ticketMethod(mine)], polyfill: false, fetch: prepaid(fetch, mine) });
  for (let i = 0; i < 3; i++) assert.equal((await mppx.fetch(`${origin}/`)).status, 200);
  assert.deepEqual(seller.log, ["GET /", "GET / mpp 1", "GET / x402 2", "GET / x402 3"]);
  seller.log.length = 0;
  for (let i = 0; i < 2; i++) assert.equal((await mppx.fetch(`${origin}/`, { context: { order: "tea" } })).status, 200);
  assert.deepEqual(seller.log, ["GET /", "GET / mpp 4", "GET /", "GET / mpp 4"], "a named order has its own ticket");
});
