/** Escrow keys in the encrypted files of `micropay keys` (Web3 Secret Storage, as geth and others write them). */
import { createDecipheriv, scrypt } from "node:crypto";
import { readFile } from "node:fs/promises";
import { type Hex, type LocalAccount, concat, hexToBytes, keccak256 } from "viem";
import { privateKeyToAccount } from "viem/accounts";

interface Keystore {
  readonly crypto: {
    readonly cipher: string;
    readonly cipherparams: { readonly iv: string };
    readonly ciphertext: string;
    readonly kdf: string;
    readonly kdfparams: { readonly dklen: number; readonly n: number; readonly p: number; readonly r: number; readonly salt: string };
    readonly mac: string;
  };
}

/** Opens a key file. The key leaves it into the account alone. */
export async function readKeystore(path: string, password: string): Promise<LocalAccount> {
  const { crypto } = JSON.parse(await readFile(path, "utf8")) as Keystore;
  if (crypto.kdf !== "scrypt" || crypto.cipher !== "aes-128-ctr") {
    throw new Error(`${path} is encrypted by ${crypto.kdf} and ${crypto.cipher}, I know scrypt and aes-128-ctr`);
  }
  const { n: N, p, r, dklen, salt } = crypto.kdfparams;
  const derived = await new Promise<Buffer>((resolve, reject) =>
    scrypt(password, Buffer.from(salt, "hex"), dklen, { N, p, r, maxmem: 256 * N * r }, (error, key) =>
      error ? reject(error) : resolve(key),
    ),
  );
  const mac = keccak256(concat([derived.subarray(16, 32), hexToBytes(`0x${crypto.ciphertext}`)]));
  if (mac !== `0x${crypto.mac.toLowerCase()}`) throw new Error(`the password does not open ${path}`);
  const cipher = createDecipheriv("aes-128-ctr", derived.subarray(0, 16), Buffer.from(crypto.cipherparams.iv, "hex"));
  const key: Hex = `0x${Buffer.concat([cipher.update(crypto.ciphertext, "hex"), cipher.final()]).toString("hex")}`;
  return privateKeyToAccount(key);
}
