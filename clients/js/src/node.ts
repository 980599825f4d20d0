/** What needs files: the durable store of nonces, and escrow keys. */
export { FileNonceStore } from "./file.js";
export { readKeystore } from "./keystore.js";
