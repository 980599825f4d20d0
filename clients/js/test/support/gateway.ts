/** A chain, a real gateway in front of a server that echoes, and a payer with an open escrow: what `micropay dev` prints. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type Address, createPublicClient, http } from "viem";
import { type Escrow, Payer, type PayerOptions, readEscrow } from "../../src/index.js";
import { FileNonceStore, readKeystore } from "../../src/node.js";

interface Dev {
  readonly rpc_url: string;
  readonly contract: Address;
  readonly escrow: Address;
  readonly home: string;
  readonly password_file: string;
  readonly finality: string;
}

export class Market {
  readonly #children: ChildProcess[] = [];
  readonly #upstream = createServer((request, response) => {
    const body: Buffer[] = [];
    request.on("data", (chunk: Buffer) => body.push(chunk));
    request.on("end", () => {
      if (request.url === "/broken") response.statusCode = 500;
      response.setHeader("Content-Type", "application/json");
      const payment = Object.keys(request.headers).filter((name) => /payment|authorization/.test(name));
      const { method, url } = request;
      const chunked = request.headers["transfer-encoding"] !== undefined;
      response.end(JSON.stringify({ method, url, body: Buffer.concat(body).toString(), chunked, payment }));
    });
  });
  readonly #binary: string;
  #dev: Dev | undefined;
  #escrow: Escrow | undefined;
  #options: Pick<PayerOptions, "account" | "nonces"> | undefined;

  constructor(binary: string) {
    this.#binary = binary;
  }

  async open(): Promise<void> {
    this.#dev = (await this.#start(["dev", "--json"], {})) as Dev;
    const { rpc_url, contract, escrow, home, password_file } = this.#dev;
    const password = (await readFile(password_file, "utf8")).trimEnd();
    const account = await readKeystore(join(home, "keys", "payer"), password);
    // One store for all tests: a nonce of this escrow is never used twice.
    this.#options = { account, nonces: await FileNonceStore.open(join(home, "nonces")) };
    this.#escrow = await readEscrow(createPublicClient({ transport: http(rpc_url) }), contract, escrow);
    await new Promise<void>((resolve) => this.#upstream.listen(0, "127.0.0.1", resolve));
  }

  /** Another gateway, which charges this; returns its address. One at a time per merchant: `stop` it before the next. */
  async serve(price: string, flags: readonly string[] = []): Promise<{ origin: string; stop: () => Promise<void> }> {
    const upstream = `http://127.0.0.1:${(this.#upstream.address() as AddressInfo).port}`;
    const fixed = ["serve", "--json", "--upstream", upstream, "--price", price, "--pay-to", "seller"];
    const { rpc_url, home, password_file, finality } = this.#found();
    const said = await this.#start([...fixed, "--listen", "127.0.0.1:0", "--operator-listen", "127.0.0.1:0", "--poll-ms", "200", ...flags], {
      MICROPAY_RPC_URL: rpc_url,
      MICROPAY_HOME: home,
      MICROPAY_PASSWORD_FILE: password_file,
      MICROPAY_FINALITY: finality,
    });
    const child = this.#children[this.#children.length - 1];
    return { origin: `http://${(said as { listening: string }).listening}`, stop: () => end(child) };
  }

  /** A payer from the one escrow. */
  payer(options: Partial<PayerOptions> = {}): Payer {
    if (!this.#escrow || !this.#options) throw new Error("the market is not open");
    return new Payer({ ...this.#options, escrow: this.#escrow, limits: { maxPrice: 10n ** 15n }, ...options });
  }

  get escrow(): Escrow {
    return this.payer().escrow;
  }

  async close(): Promise<void> {
    this.#upstream.close();
    for (const child of this.#children.reverse()) await end(child);
  }

  #found(): Dev {
    if (!this.#dev) throw new Error("the market is not open");
    return this.#dev;
  }

  /** Starts the binary; its first line says that it is ready. */
  async #start(flags: readonly string[], env: Record<string, string>): Promise<unknown> {
    const root = new URL("../../../../..", import.meta.url).pathname;
    const child = spawn(this.#binary, flags, { cwd: root, env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "inherit"] });
    this.#children.push(child);
    process.once("exit", () => child.kill()); // whatever becomes of the tests
    for await (const line of createInterface({ input: child.stdout })) return JSON.parse(line);
    throw new Error(`${this.#binary} ${flags.join(" ")} said nothing`);
  }
}

async function end(child: ChildProcess | undefined): Promise<void> {
  if (!child || child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  child.kill("SIGTERM");
  await ended;
}
