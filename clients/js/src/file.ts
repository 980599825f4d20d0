/**
 * Nonces in a file: one JSON line for each ticket, on disk before the ticket leaves. Lines that are written while the disk
 * is busy share the next flush, so that many payments in flight do not wait for each other.
 */
import { randomUUID } from "node:crypto";
import { type FileHandle, link, open, readFile, rename, rm, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname, resolve } from "node:path";
import { PaymentError } from "./error.js";
import { MemoryNonceStore, type NonceRecord } from "./nonces.js";
import type { Payment } from "./ticket.js";

/** A file that one process uses at a time. */
export class FileNonceStore extends MemoryNonceStore {
  readonly #path: string;
  #file: FileHandle | undefined;
  #failure: unknown;
  #lines: string[] = [];
  /** The flush under way, or the last. */
  #flush: Promise<void> = Promise.resolve();
  /** The one after it, when somebody waits for it. */
  #next: Promise<void> | undefined;

  private constructor(path: string) {
    super();
    this.#path = path;
  }

  /** Opens the file, or makes it. Refused while another process has it. */
  static async open(path: string): Promise<FileNonceStore> {
    const store = new FileNonceStore(resolve(path));
    await lock(store.#path);
    try {
      await store.#load();
    } catch (error) {
      await store.close();
      throw error;
    }
    return store;
  }

  /** Waits for what is being written, and lets other processes have the file. */
  async close(): Promise<void> {
    await Promise.allSettled([this.#next, this.#flush]);
    await this.#file?.close();
    this.#failure ??= new PaymentError("nonce-store", `${this.#path} is closed`);
    this.#file = undefined;
    await rm(lockOf(this.#path), { force: true });
  }

  protected override keep(record: NonceRecord): Promise<void> {
    this.#lines.push(lineOf(record));
    this.#next ??= this.#flush
      .catch(() => undefined) // those who waited for it hear of it
      .then(() => {
        this.#next = undefined;
        return (this.#flush = this.#write());
      });
    return this.#next;
  }

  async #write(): Promise<void> {
    // What is written after a failure might follow half a line: nothing is issued any more.
    if (this.#failure !== undefined || !this.#file) throw this.#failure;
    const lines = this.#lines.splice(0).join("");
    try {
      await this.#file.appendFile(lines);
      await this.#file.datasync();
    } catch (error) {
      this.#failure = error;
      throw error;
    }
  }

  /** Reads the file and writes it anew without what is not needed any more: nonces below the highest, half a line. */
  async #load(): Promise<void> {
    const text = await readFile(this.#path, "utf8").catch((error: unknown) => {
      if (codeOf(error) === "ENOENT") return "";
      throw error;
    });
    // A last line without its end was being written in a crash; its ticket never left.
    const lines = text.split("\n").slice(0, -1);
    const last = new Map<string, bigint>();
    const orders: string[] = [];
    for (const [index, line] of lines.entries()) {
      const record = readLine(line, `${this.#path}:${index + 1}`);
      this.restore(record);
      const before = last.get(record.scope) ?? 0n;
      last.set(record.scope, record.nonce > before ? record.nonce : before);
      if (record.order !== undefined) orders.push(`${line}\n`);
    }
    for (const [scope, nonce] of last) orders.push(lineOf({ scope, nonce }));
    const fresh = `${this.#path}.${process.pid}.new`;
    this.#file = await open(fresh, "w", 0o600);
    await this.#file.appendFile(orders.join(""));
    await this.#file.sync();
    await rename(fresh, this.#path);
    const folder = await open(dirname(this.#path), "r");
    await folder.sync().finally(() => folder.close());
  }
}

function lineOf(record: NonceRecord): string {
  return `${JSON.stringify({ ...record, nonce: record.nonce.toString() })}\n`;
}

function readLine(line: string, where: string): NonceRecord {
  try {
    const { scope, nonce, order, payment } = JSON.parse(line) as Record<string, unknown>;
    if (typeof scope === "string" && typeof nonce === "string") {
      const record = { scope, nonce: BigInt(nonce) };
      return typeof order === "string" ? { ...record, order, payment: payment as Payment } : record;
    }
  } catch {
    // said below
  }
  throw new PaymentError("nonce-store", `${where} is no record of a nonce: ${JSON.stringify(line.slice(0, 100))}`);
}

function lockOf(path: string): string {
  return `${path}.lock`;
}

/** Makes the lock file, which says who has it. One of a process of this machine that is gone is taken over. */
async function lock(path: string): Promise<void> {
  const name = lockOf(path);
  const mine = `${process.pid}@${hostname()} ${await startOf(process.pid)}`;
  if (await create(name, mine)) return;
  const holder = await readFile(name, "utf8").catch(() => "");
  if (await isGone(holder)) {
    // Of several who find it gone, one at a time may replace it, and only what it found.
    const guard = `${name}.takeover`;
    if (await create(guard, mine)) {
      if ((await readFile(name, "utf8").catch(() => "")) === holder) await rm(name);
      const taken = await create(name, mine);
      await rm(guard);
      if (taken) return;
    }
  }
  throw new PaymentError(
    "nonce-store",
    `${path} is in use by process ${holder.trim() || "unknown"}, I am ${mine.trim()}; if that one is gone, remove ${name}*`,
  );
}

/** Makes a file with its content at once, unless there is one. */
async function create(name: string, content: string): Promise<boolean> {
  const draft = `${name}.${randomUUID()}`;
  await writeFile(draft, content, { mode: 0o600 });
  try {
    await link(draft, name);
    return true;
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false;
    throw error;
  } finally {
    await rm(draft);
  }
}

/** Whether the lock's holder was a process of this machine that runs no more. */
async function isGone(holder: string): Promise<boolean> {
  const [, pid, host, start] = /^(\d+)@(\S+) (\S*)$/.exec(holder) ?? [];
  if (host !== hostname()) return false;
  // In a container that was started again, another process has the same number.
  return !isAlive(Number(pid)) || start !== (await startOf(Number(pid)));
}

/** When a process began, where the system says so (Linux: clock ticks since boot). */
async function startOf(pid: number): Promise<string> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return codeOf(error) !== "ESRCH";
  }
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error ? String(error.code) : undefined;
}
