import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";
import { hashTypedData } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import {
  MemoryNonceStore,
  PaymentError,
  type Rule,
  meets,
  quote,
  readRequirements,
  signTicket,
  thresholdFor,
  ticketDigest,
  ticketOf,
  worth,
} from "../src/index.js";
import { COMMITMENT, CONTRACT, ESCROW, KEY, PRICE, PRIZE, SELLER, ZERO, payer, requirements } from "./support/payer.js";
import { type TicketVectors, vectors } from "./support/vectors.js";

for (const name of ["ticket.json", "shared-ticket.json"]) {
  test(`tickets of ${name} have the same digest and signature here`, async () => {
    const golden = vectors<TicketVectors>(name);
    const account = privateKeyToAccount(golden.escrowKey);
    const domain = { chainId: golden.chainId, contract: golden.verifyingContract };
    assert.equal(account.address.toLowerCase(), golden.escrow);
    assert.ok(golden.tickets.length >= 8);
    for (const each of golden.tickets) {
      const ticket = {
        escrow: account.address,
        recipient: golden.recipient,
        commitment: each.commitment,
        r2: each.r2,
        winThreshold: BigInt(each.winThreshold),
        expiry: BigInt(each.expiry),
        nonce: BigInt(each.nonce),
      };
      assert.equal(ticketDigest(domain, ticket), each.digest);
      const payment = await signTicket(account, domain, ticket);
      assert.equal(payment.signature, each.signature);
      assert.deepEqual(ticketOf(payment), ticket);
      if (each.mode === "coin" && each.r1) {
        const types = { CoinCommitment: [{ name: "recipient", type: "address" }, { name: "r1", type: "bytes32" }] } as const;
        const commitment = hashTypedData({
          domain: { name: "Micropay Ticket Escrow", version: "1", chainId: domain.chainId, verifyingContract: domain.contract },
          types,
          primaryType: "CoinCommitment",
          message: { recipient: golden.recipient, r1: each.r1 },
        });
        assert.equal(commitment, each.commitment);
      }
    }
  });
}

test("a price becomes the least threshold that is worth it", () => {
  assert.equal(thresholdFor(1n, 128n), 1n << 249n);
  const third = vectors<TicketVectors>("ticket.json").tickets.find((ticket) => BigInt(ticket.expiry) === 4294967295n);
  assert.equal(thresholdFor(333n, 1000n), BigInt(third?.winThreshold ?? 0));
  assert.equal(thresholdFor(10n, 10n), (1n << 256n) - 1n, "a ticket that always wins cannot be written");
  for (const [price, prize] of [[1n, 3n], [7n, 11n], [333n, 1000n], [1n, 1n << 127n]] as const) {
    const threshold = thresholdFor(price, prize);
    assert.ok(prize * threshold >= price << 256n, "never less than the price");
    assert.ok(prize * (threshold - 1n) < price << 256n, "the least");
    assert.equal(worth(threshold, prize), price);
  }
  assert.throws(() => thresholdFor(0n, 10n), { rule: "no-such-price", message: /is 0, .* prize 10/ });
  assert.throws(() => thresholdFor(11n, 10n), { rule: "no-such-price", message: /is 11, .* prize 10/ });
});

test("another prize within bounds is paid with the threshold that makes the same price", async () => {
  const escrow = { ...ESCROW, prize: PRIZE * 2n };
  const payment = await payer({ escrow }).pay(readRequirements(requirements()));
  assert.equal(payment.winThreshold, (1n << 248n).toString());
});

test("a ticket is what the terms and the payer say", async () => {
  const random = () => `0x${"ab".repeat(32)}` as const;
  const nonces = new MemoryNonceStore();
  const mine = payer({ nonces, random, now: () => 1_000_000 });
  const payment = await mine.pay(readRequirements(requirements()));
  assert.deepEqual({ ...payment, signature: "" }, {
    escrow: mine.account.address,
    recipient: SELLER,
    commitment: COMMITMENT,
    r2: random(),
    winThreshold: (1n << 249n).toString(),
    expiry: "1054000", // six hours and a half of the 18 that are left
    nonce: "1",
    signature: "",
  });
  assert.equal((await mine.pay(readRequirements(requirements()))).nonce, "2");
  const own = payer();
  const first = await own.pay(readRequirements(requirements()));
  assert.notEqual(first.r2, (await own.pay(readRequirements(requirements()))).r2);
});

test("terms that do not fit are refused before anything is signed, with both values", async () => {
  const other = "0x00000000000000000000000000000000000000AA";
  const cases: [Rule, RegExp, object, object?][] = [
    ["other-contract", /on eip155:1, mine is 0x5FbDB.* on eip155:31337/, { network: "eip155:1" }],
    ["other-contract", /contract 0x0{38}AA .* mine is 0x5FbDB/i, {}, { contract: other }],
    ["other-contract", /scheme "exact", mine is "micropay-ticket"/, { scheme: "exact" }],
    ["other-escrow", /escrow 0x0{38}AA, mine is 0x413177/i, {}, { escrow: other }],
    ["wrong-asset", /asset 0x0{38}AA, the escrow holds 0x0{40}/i, { asset: other }],
    ["prize-out-of-range", /prize is 10000000000000000, taken are 1 to 2/, {}, { minPrize: "1", maxPrize: "2" }],
    ["threshold-not-price", /threshold 5, the price is worth \d{75}/, {}, { winThreshold: "5" }],
    ["price-too-high", /price is 78125000000001, the limit is 78125000000000/, { amount: "78125000000001" }, { prize: "1" }],
    ["threshold-above-max", /highest is \d+/, { amount: (PRIZE / 2n).toString() }, { prize: "1" }],
    ["no-such-price", /is 0/, { amount: "0" }],
    ["no-ticket-life", /live 90000 s at least, 86400 s/, {}, { minTicketLife: 90000 }],
    ["floor-above-issued", /floor is 7, but the next nonce is 1/, {}, { nonceFloor: "7" }],
    ["terms-malformed", /amount is 5, not a decimal number in a string/, { amount: 5 }],
    ["terms-malformed", /amount is "0x10"/, { amount: "0x10" }],
    ["terms-malformed", /amount is "-1"/, { amount: "-1" }],
    ["terms-malformed", /amount is "3\d+", not a number of 128 bits/, { amount: `3${"0".repeat(60)}` }],
    ["terms-malformed", /payTo is "0x12", not an address/, { payTo: "0x12" }],
    ["terms-malformed", /commitment is "0xab", not 32 bytes/, {}, { commitment: "0xab" }],
    ["terms-malformed", /maxTicketLife is -1/, {}, { maxTicketLife: -1 }],
    ["terms-malformed", /extra is 5, not an object/, { extra: 5 }],
  ];
  for (const [rule, message, outer, extra] of cases) {
    const terms = { ...requirements({}, extra), ...outer };
    const mine = payer();
    await assert.rejects(async () => mine.pay(readRequirements(terms)), { name: "PaymentError", rule, message });
    assert.equal((await mine.pay(readRequirements(requirements()))).nonce, "1", "no nonce was taken");
  }
  await assert.rejects(payer({ limits: { maxPrice: PRICE, recipients: [CONTRACT] } }).pay(readRequirements(requirements())), {
    rule: "recipient-not-allowed",
  });
  await assert.rejects(payer({ escrow: { ...ESCROW, ticketCap: 1n } }).pay(readRequirements(requirements())), {
    rule: "cap-reached",
  });
});

test("a merchant cannot have tickets live longer than the payer allows", async () => {
  const terms = readRequirements(requirements({}, { maxTicketLife: 10 ** 9 }));
  const payment = await payer({ now: () => 0 }).pay(terms);
  assert.equal(payment.expiry, String(21600 + (86400 - 21600) / 2));
});

test("a ticket is outdated by every change of the terms that it shows, and by no other", async () => {
  const now = 1_000_000;
  const ticket = ticketOf(await payer({ now: () => now }).pay(readRequirements(requirements())));
  const outdated = (outer: object, extra: object = {}) =>
    !meets(ticket, quote(readRequirements(requirements(outer, extra)), ticket.escrow, ESCROW, { maxPrice: PRICE }), now);
  assert.ok(!outdated({}));
  assert.ok(!outdated({}, { route: "POST /elsewhere", opening: undefined }));
  assert.ok(outdated({}, { commitment: `0x${"11".repeat(32)}` }));
  assert.ok(outdated({}, { nonceFloor: "1" }));
  assert.ok(outdated({ payTo: ZERO }));
  assert.ok(outdated({ amount: "5" }, { prize: "1" }));
  assert.ok(outdated({}, { minTicketLife: 80000 }));
  assert.ok(outdated({}, { minTicketLife: 1, maxTicketLife: 2 }));
});

test("the key is in nothing that is printed", () => {
  const shown = inspect(payer(), { depth: 9, showHidden: true, getters: true });
  assert.ok(!shown.includes(KEY.slice(2)));
  assert.ok(!JSON.stringify(payer(), (_, value: unknown) => (typeof value === "bigint" ? `${value}` : value)).includes(KEY.slice(2)));
  assert.ok(new PaymentError("cap-reached", "x") instanceof Error);
});
