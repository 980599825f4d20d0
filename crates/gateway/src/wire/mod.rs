//! Header names, encodings and JSON shapes: the only place that knows them. One 402 speaks two protocols (`http.md` §2):
//! x402 v2 (`PAYMENT-REQUIRED` and its kin, base64 with padding) and the `Payment` authentication scheme (base64url
//! without). Both carry the same terms and the same payment, which is of one of our kinds: `kind`. Everything here is pure; whatever comes from outside is bounded
//! before it is decoded, and refused with an error that says what was wrong.

mod channel;
mod encoding;
mod kind;
mod mpp;
mod payment;
mod problem;
mod terms;
mod x402;

pub use channel::{
    CHANNELS, ChannelExtra, ChannelPayment, ChannelReceipt, ChannelRequirements, CheckpointPayload,
    CloseAnswer, CloseRequest, HeldWord, LastReceipt, LostPayment, MAX_BANKS, MAX_CHANNEL_BODY, MAX_LOST,
    OpenerAnswer, OpenerRequest, POSITION_SECONDS, PaymentsAnswer, PaymentsRequest, Position, PositionAnswer,
    PositionRequest, item_hash, position_digest, read_channel_body,
};
pub use encoding::WireError;
pub use kind::{Contracts, Kind, Offers, Payload, Way};
pub use mpp::{
    Challenge, ChallengeKey, Challenged, ChannelPaymentReceipt, Credential, Receipt, read_credential,
};
pub use payment::Payment;
pub use problem::{Advice, Problem};
pub use terms::{Extra, Opening, Requirements, TermsError, Written, network};
pub use x402::{
    PaymentRequired, PaymentResponse, PaymentSignature, Resource, ResponseExtra, offered,
    read_channel_response, read_required, read_response, read_signature,
};

use http::HeaderName;

/// The name in x402 of our scheme of tickets.
pub const SCHEME: &str = Kind::Ticket.scheme();
/// Our method's name in the `Payment` scheme.
pub const METHOD: &str = "micropay";
/// The name in the `Payment` scheme of our intent of tickets.
pub const INTENT: &str = Kind::Ticket.intent();
/// Longest payment header that is read, bytes. Ours have under 2,000.
pub const MAX_HEADER_BYTES: usize = 16 * 1024;

/// x402, to the client: the terms.
pub const PAYMENT_REQUIRED: HeaderName = HeaderName::from_static("payment-required");
/// x402, to the server: the payment.
pub const PAYMENT_SIGNATURE: HeaderName = HeaderName::from_static("payment-signature");
/// x402, to the client: what became of the payment.
pub const PAYMENT_RESPONSE: HeaderName = HeaderName::from_static("payment-response");
/// `Payment` scheme, to the server, where `Authorization` is taken.
pub const PAYMENT_AUTHORIZATION: HeaderName = HeaderName::from_static("payment-authorization");
/// `Payment` scheme, to the client: what became of the payment.
pub const PAYMENT_RECEIPT: HeaderName = HeaderName::from_static("payment-receipt");
/// To the server: this name of a call makes trying again safe.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// To the server: the escrow that will pay, so that a first 402 can have its terms.
pub const MICROPAY_ESCROW: HeaderName = HeaderName::from_static("micropay-escrow");

/// Headers of payment protocols. They are for the gateway: no upstream sees them, and none sets them. (`Authorization` and
/// `WWW-Authenticate` belong to the payment only where their scheme is `Payment`.)
pub const PAYMENT_HEADERS: [HeaderName; 13] = [
    PAYMENT_REQUIRED,
    PAYMENT_SIGNATURE,
    PAYMENT_RESPONSE,
    PAYMENT_AUTHORIZATION,
    PAYMENT_RECEIPT,
    MICROPAY_ESCROW,
    HeaderName::from_static("x-payment"),
    HeaderName::from_static("x-payment-response"),
    HeaderName::from_static("payment-session"),
    HeaderName::from_static("payment-session-snapshot"),
    HeaderName::from_static("accept-payment"),
    HeaderName::from_static("settlement-overrides"),
    HeaderName::from_static("payment-need-voucher"),
];

/// Request headers that a browser's script may send.
pub const CORS_ALLOW: &str = "Authorization, Payment-Authorization, PAYMENT-SIGNATURE, X-PAYMENT, Accept-Payment, \
     Idempotency-Key, Micropay-Escrow, Content-Type, Access-Control-Expose-Headers";
/// Answer headers that a browser's script may read.
pub const CORS_EXPOSE: &str = "PAYMENT-REQUIRED, PAYMENT-RESPONSE, X-PAYMENT-RESPONSE, WWW-Authenticate, Payment-Receipt, \
     Payment-Session, Payment-Session-Snapshot, Retry-After";
