/** A payer of tests and the terms it is asked for. */
import { getAddress } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { MemoryNonceStore, Payer, type PayerOptions } from "../../src/index.js";

export const KEY = "0x1c35fe753b551efceb80161f4fabf13c628ab8a6da0b32590f16345416038137";
export const ZERO = "0x0000000000000000000000000000000000000000";
export const CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3";
export const SELLER = getAddress("0xd1dd5cc7b479030ba089688ead682e952d8788ea");
export const COMMITMENT = "0x8336a4099c17fa238809a3283e0c5bf1937b9fca407df1ba3b0b8e0d5ae838d1";
export const PRIZE = 10n ** 16n;
export const PRICE = PRIZE / 128n;

export const ESCROW = {
  chainId: 31337,
  contract: CONTRACT,
  asset: ZERO,
  prize: PRIZE,
  maxThreshold: 1n << 250n,
  ticketCap: 1034n,
} as const;

export function payer(options: Partial<PayerOptions> = {}): Payer {
  const account = privateKeyToAccount(KEY);
  return new Payer({ account, escrow: ESCROW, limits: { maxPrice: PRICE }, nonces: new MemoryNonceStore(), ...options });
}

/** Terms as they travel in x402. */
export function requirements(outer: object = {}, extra: object = {}) {
  return {
    scheme: "micropay-ticket",
    network: "eip155:31337" as const,
    amount: PRICE.toString(),
    asset: ZERO,
    payTo: SELLER,
    maxTimeoutSeconds: 86400,
    ...outer,
    extra: {
      contract: CONTRACT,
      commitment: COMMITMENT,
      prize: PRIZE.toString(),
      winThreshold: (1n << 249n).toString(),
      minPrize: "1000000000000000",
      maxPrize: "100000000000000000",
      opening: { minPenalty: "0", ticketCap: 1034 },
      minTicketLife: 21600,
      maxTicketLife: 86400,
      nonceFloor: "0",
      route: "GET /*",
      ...extra,
    },
  };
}
