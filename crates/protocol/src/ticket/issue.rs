//! Issue: the payer's step (section 2.1, "Payment Issuance"). Makes a ticket from a quote and signs it with the escrow key.
//! The type [`Ticket`] carries the ticket through the later steps; its parameter says which step it has passed.
//!
//! ```text
//! Ticket<Issued> ──accept──▶ Ticket<Accepted> ──draw──▶ Ticket<Won> ──▶ Winner (claim)
//!                                                  └──▶ Ticket<Lost>
//! ```

use alloy_primitives::{Address, B256};
use bindings::ticket::Ticket as Fields;

use super::{Domain, EscrowKey, Nonce, Quote, Signature, Timestamp, WinThreshold};

/// A signed ticket that has passed the step `S`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket<S> {
    pub(super) fields: Fields,
    pub(super) digest: B256,
    pub(super) signature: Signature,
    pub(super) state: S,
}

/// Signed by somebody; nothing is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issued;

impl Ticket<Issued> {
    /// Signs a ticket for a quote.
    ///
    /// `r2` is the payer's half of the coin toss: 32 fresh uniform bytes, drawn after the quote has arrived. `expiry` is
    /// the last second at which the ticket can be claimed ([`Quote::expiry`] gives a good one). `nonce` is new under this
    /// escrow, above the quote's floor and below the escrow's cap; two tickets with one nonce forfeit the penalty.
    pub fn issue(
        domain: &Domain,
        key: &EscrowKey,
        quote: &Quote,
        r2: B256,
        expiry: Timestamp,
        nonce: Nonce,
    ) -> Self {
        let fields = Fields {
            escrow: key.address(),
            recipient: quote.recipient,
            commitment: quote.commitment,
            r2,
            winThreshold: quote.win_threshold.0,
            expiry: expiry.0,
            nonce: nonce.0,
        };
        let digest = domain.ticket_digest(&fields);
        Self {
            fields,
            digest,
            signature: key.sign(digest),
            state: Issued,
        }
    }

    /// A ticket as it arrived. Nothing is checked but the signature's form.
    pub fn from_parts(domain: &Domain, fields: Fields, signature: Signature) -> Self {
        let digest = domain.ticket_digest(&fields);
        Self {
            fields,
            digest,
            signature,
            state: Issued,
        }
    }

    /// A ticket as it was stored. Nothing is checked.
    pub fn restore(digest: B256, fields: Fields, signature: Signature) -> Self {
        Self {
            fields,
            digest,
            signature,
            state: Issued,
        }
    }
}

impl<S> Ticket<S> {
    /// The fields as signed.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// What was signed: the ticket's EIP-712 digest, which is its name.
    pub fn digest(&self) -> B256 {
        self.digest
    }

    /// The escrow key's signature of the digest.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Address of the escrow key, which pays.
    pub fn escrow(&self) -> Address {
        self.fields.escrow
    }

    /// The merchant's address, which claims.
    pub fn recipient(&self) -> Address {
        self.fields.recipient
    }

    /// The recipient's commitment to `r1`.
    pub fn commitment(&self) -> B256 {
        self.fields.commitment
    }

    /// The payer's half of the coin toss.
    pub fn r2(&self) -> B256 {
        self.fields.r2
    }

    /// The ticket wins iff its draw is below this.
    pub fn win_threshold(&self) -> WinThreshold {
        WinThreshold(self.fields.winThreshold)
    }

    /// The last second at which the ticket can be claimed.
    pub fn expiry(&self) -> Timestamp {
        Timestamp(self.fields.expiry)
    }

    /// The ticket's number under its escrow.
    pub fn nonce(&self) -> Nonce {
        Nonce(self.fields.nonce)
    }

    /// What the steps so far have found.
    pub fn state(&self) -> &S {
        &self.state
    }

    pub(super) fn into_state<T>(self, state: T) -> Ticket<T> {
        Ticket {
            fields: self.fields,
            digest: self.digest,
            signature: self.signature,
            state,
        }
    }
}
