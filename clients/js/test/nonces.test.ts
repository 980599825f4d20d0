import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import { appendFile, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { FileNonceStore } from "../src/file.js";
import { MemoryNonceStore, type NonceStore, type Payment } from "../src/index.js";
import { COMMITMENT, CONTRACT, SELLER } from "./support/payer.js";

const folder = await mkdtemp(join(tmpdir(), "micropay-nonces-"));
after(() => rm(folder, { recursive: true }), { timeout: 10_000 });

const SCOPE = "eip155:31337:contract:escrow";
const bounds = { scope: SCOPE, floor: 0n, cap: 1_000_000n };

const sign = async (nonce: bigint): Promise<Payment> => ({
  escrow: CONTRACT,
  recipient: SELLER,
  commitment: COMMITMENT,
  r2: COMMITMENT,
  winThreshold: "1",
  expiry: "1",
  nonce: nonce.toString(),
  signature: `0x${"ab".repeat(65)}`,
});

const stores: [string, () => Promise<NonceStore>][] = [
  ["memory", async () => new MemoryNonceStore()],
  ["file", openFile],
];
const files: FileNonceStore[] = [];
after(() => Promise.all(files.map((file) => file.close())));

async function openFile(): Promise<NonceStore> {
  const file = await FileNonceStore.open(join(folder, `store-${files.length}`));
  files.push(file);
  return file;
}

for (const [name, open] of stores) {
  test(`${name}: every ticket has its own nonce, and scopes have their own`, async () => {
    const store = await open();
    const tickets = await Promise.all(Array.from({ length: 500 }, () => store.issue(bounds, sign)));
    assert.deepEqual(new Set(tickets.map(({ nonce }) => Number(nonce))), new Set(Array.from({ length: 500 }, (_, i) => i + 1)));
    assert.equal((await store.issue({ ...bounds, scope: "another" }, sign)).nonce, "1");
  });

  test(`${name}: an order keeps its ticket, also while it is being signed`, async () => {
    const store = await open();
    assert.equal(await store.find(SCOPE, "tea"), undefined);
    const twice = await Promise.all([1, 2].map(() => store.issue({ ...bounds, order: "tea" }, sign)));
    assert.deepEqual(twice[0], twice[1]);
    assert.deepEqual(await store.find(SCOPE, "tea"), twice[0]);
    assert.equal((await store.issue({ ...bounds, order: "cake" }, sign)).nonce, "2");
    assert.equal((await store.issue({ ...bounds, order: "tea", floor: 999n }, sign)).nonce, "1", "whatever the terms say by now");
  });

  test(`${name}: bounds are kept, and a nonce whose ticket failed is not given out again`, async () => {
    const store = await open();
    await assert.rejects(store.issue({ ...bounds, floor: 1n }, sign), { rule: "floor-above-issued" });
    await assert.rejects(store.issue({ ...bounds, cap: 1n }, sign), { rule: "cap-reached" });
    await assert.rejects(store.issue({ ...bounds, order: "x" }, () => Promise.reject(new Error("no key"))), /no key/);
    assert.equal((await store.issue({ ...bounds, order: "x" }, sign)).nonce, "2");
    await store.skip(SCOPE, 40n);
    await store.skip(SCOPE, 30n);
    assert.equal((await store.issue({ ...bounds, floor: 40n }, sign)).nonce, "41");
  });
}

test("what was issued is on disk, and the next process goes on from there", async () => {
  const path = join(folder, "durable");
  const before = await FileNonceStore.open(path);
  const tea = await before.issue({ ...bounds, order: "tea" }, sign);
  for (let i = 0; i < 9; i++) await before.issue(bounds, sign);
  assert.equal((await readFile(path, "utf8")).trimEnd().split("\n").length, 10, "before close");
  await before.close();
  await assert.rejects(before.issue(bounds, sign), { rule: "nonce-store", message: /closed/ });

  const again = await FileNonceStore.open(path);
  assert.equal((await readFile(path, "utf8")).trimEnd().split("\n").length, 2, "the order and the highest nonce");
  assert.deepEqual(await again.find(SCOPE, "tea"), tea);
  assert.equal((await again.issue(bounds, sign)).nonce, "11");
  await again.close();
});

test("half a line of a crash is dropped; a line that makes no sense is an error with its place", async () => {
  const path = join(folder, "torn");
  const store = await FileNonceStore.open(path);
  await store.issue(bounds, sign);
  await store.close();
  await appendFile(path, '{"scope":"eip');
  const again = await FileNonceStore.open(path);
  assert.equal((await again.issue(bounds, sign)).nonce, "2");
  await again.close();
  await appendFile(path, "nonsense\n");
  await assert.rejects(FileNonceStore.open(path), { rule: "nonce-store", message: /torn:\d+ is no record of a nonce: "nonsense"/ });
});

test("a second store of this process, a process of another machine, and an unknown holder are kept out", async () => {
  const path = join(folder, "held");
  const store = await FileNonceStore.open(path);
  await assert.rejects(FileNonceStore.open(path), { rule: "nonce-store", message: new RegExp(`in use by process ${process.pid}@`) });
  await store.close();
  for (const holder of ["1@elsewhere ", ""]) {
    await writeFile(`${path}.lock`, holder);
    await assert.rejects(FileNonceStore.open(path), { rule: "nonce-store", message: /remove .*held\.lock/ });
  }
  await rm(`${path}.lock`);
});

test("killed processes leave nothing that is given out twice", async () => {
  const path = join(folder, "killed");
  const seen = new Set<string>();
  for (let round = 0; round < 8; round++) {
    const child = fork(new URL("./support/issuer.js", import.meta.url), [path], { stdio: ["ignore", "ignore", "inherit", "ipc"] });
    let count = 0;
    child.on("message", (nonce: string) => {
      assert.ok(!seen.has(nonce), `nonce ${nonce} was given out twice`);
      seen.add(nonce);
      if (++count === 20 + round * 7) child.kill("SIGKILL");
    });
    await once(child, "close");
    assert.ok(count >= 20, `the process wrote ${count} tickets`);
  }
  const left = (await readdir(folder)).filter((name) => name.startsWith("killed.lock."));
  assert.deepEqual(left, []);
});

test("of many who find a dead holder, one takes over", async () => {
  const path = join(folder, "race");
  for (let round = 0; round < 20; round++) {
    // Of every second one the number is in use again, by this very process.
    await writeFile(`${path}.lock`, `${round % 2 ? process.pid : 4194300}@${hostname()} 1`);
    const opened = await Promise.allSettled(Array.from({ length: 8 }, () => FileNonceStore.open(path)));
    const winners = opened.filter((each) => each.status === "fulfilled");
    assert.equal(winners.length, 1);
    await winners[0]?.value.close();
  }
});
