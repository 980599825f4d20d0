/** Pays for HTTP requests with Micropay tickets. */
export { PaymentError, type Rule } from "./error.js";
export { type Escrow, readEscrow } from "./escrow.js";
export { MemoryNonceStore, type NonceRecord, type NonceRequest, type NonceStore } from "./nonces.js";
export { Payer, type PayerOptions } from "./payer.js";
export { prepaid } from "./prepaid.js";
export { INTENT, METHOD, SCHEME, type Terms, networkOf, readChallengeRequest, readRequirements } from "./terms.js";
export {
  type Limits,
  type Payment,
  type Quote,
  type Ticket,
  expiryAt,
  meets,
  quote,
  signTicket,
  thresholdFor,
  ticketDigest,
  ticketOf,
  worth,
} from "./ticket.js";
