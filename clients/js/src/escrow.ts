/** What the payer's escrow is on chain. */
import { type Address, type PublicClient, parseAbi } from "viem";

/** An escrow's fixed terms. */
export interface Escrow {
  readonly chainId: number;
  /** The ticket escrow contract. */
  readonly contract: Address;
  /** Token, or the zero address for the native asset. */
  readonly asset: Address;
  /** What a winner pays, atomic units. */
  readonly prize: bigint;
  /** Highest `winThreshold` of a payable ticket. */
  readonly maxThreshold: bigint;
  /** Nonces of payable tickets are below this. */
  readonly ticketCap: bigint;
}

const ABI = parseAbi([
  "struct Escrow { address payer; address asset; uint256 balance; uint256 penalty; uint256 prize; uint256 maxThreshold; uint64 ticketCap; uint64 withdrawAt; uint64 cureBy; uint256 debt; uint256 earmarked; uint64 earmarkUntil; uint8 status; }",
  "function escrowOf(address escrow) view returns (Escrow)",
]);

/** Reads an escrow from its contract, once at start: prize and asset never change, the cap only rises. */
export async function readEscrow(
  client: Pick<PublicClient, "getChainId" | "readContract">,
  contract: Address,
  escrow: Address,
): Promise<Escrow> {
  const [chainId, record] = await Promise.all([
    client.getChainId(),
    client.readContract({ address: contract, abi: ABI, functionName: "escrowOf", args: [escrow] }),
  ]);
  if (record.prize === 0n) throw new Error(`escrow ${escrow} is not open in contract ${contract} on chain ${chainId}`);
  const { asset, prize, maxThreshold, ticketCap } = record;
  return { chainId, contract, asset, prize, maxThreshold, ticketCap };
}
