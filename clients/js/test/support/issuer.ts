/** Issues without end and reports each ticket: for a test that kills it. */
import { FileNonceStore } from "../../src/file.js";
import { COMMITMENT, CONTRACT, SELLER } from "./payer.js";

const path = process.argv[2] ?? "";
const store = await FileNonceStore.open(path);
const work = async () => {
  for (;;) {
    const { nonce } = await store.issue({ scope: "s", floor: 0n, cap: 1n << 60n }, async (number) => ({
      escrow: CONTRACT,
      recipient: SELLER,
      commitment: COMMITMENT,
      r2: COMMITMENT,
      winThreshold: "1",
      expiry: "1",
      nonce: number.toString(),
      signature: "0x",
    }));
    await new Promise((resolve) => process.send?.(nonce, undefined, undefined, resolve));
  }
};
await Promise.all([work(), work(), work()]);
