//! Draw: the coin toss (section 2.1, with the repair of `ticket.md` §1.1). It hashes the whole ticket's digest with `r1`:
//! one ticket has one draw whatever its signature's encoding, and tickets under one commitment are independent.

use alloy_primitives::{B256, U256, keccak256};
use bindings::ticket::Ticket as Fields;
use thiserror::Error;

use super::accept::check_signer;
use super::{Accepted, Refusal, SessionId, Signature, Ticket, WinThreshold, recover};

/// A ticket's outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drawn {
    /// One prize. To be stored before the good is delivered.
    Won(Ticket<Won>),
    /// Nothing. Its nonce is remembered until the session closes.
    Lost(Ticket<Lost>),
}

/// Wins: claimable with `r1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Won {
    /// The session under which it was accepted.
    pub session: SessionId,
    /// The merchant's half of the coin toss. A secret until the session is closed.
    pub r1: B256,
    /// The draw, below the threshold.
    pub draw: U256,
}

/// Does not win.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The draw, not below the threshold.
    pub draw: U256,
}

/// A ticket that was stored as a winner does not win with the stored secret: the store is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("stored ticket {digest} draws {draw:#x}, not below {win_threshold}")]
pub struct NotWon {
    /// The ticket's digest.
    pub digest: B256,
    /// Its draw.
    pub draw: U256,
    /// Its threshold.
    pub win_threshold: WinThreshold,
}

/// The coin toss of a ticket: `uint256(keccak256(digest ‖ half))`. The ticket wins iff this is below its threshold.
pub fn draw(digest: B256, half: B256) -> U256 {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(digest.as_slice());
    bytes[32..].copy_from_slice(half.as_slice());
    keccak256(bytes).into()
}

impl Ticket<Accepted> {
    /// Opens the commitment, for the merchant alone, and sees what the ticket is worth.
    ///
    /// A winner leaves with a signature that the contract accepts: if it was accepted by a known key (which does not judge
    /// `v`), `v` is put right. The error is for a signature with neither `v`, that is for an `r` whose point has an
    /// x-coordinate above the group order; nobody knows how to make one.
    pub fn draw(self) -> Result<Drawn, Refusal> {
        let Accepted {
            session, v_checked, ..
        } = self.state;
        let draw = draw(self.digest, session.r1());
        if !self.win_threshold().wins(draw) {
            return Ok(Drawn::Lost(self.into_state(Lost { draw })));
        }
        let mut won = self.into_state(Won {
            session: session.id(),
            r1: session.r1(),
            draw,
        });
        if !v_checked {
            won.signature = claimable(&won)?;
        }
        Ok(Drawn::Won(won))
    }
}

impl Ticket<Won> {
    /// A winner as it was stored. Its digest is taken as stored; that it wins is computed.
    pub fn restore(
        digest: B256,
        fields: Fields,
        signature: Signature,
        session: SessionId,
        r1: B256,
    ) -> Result<Self, NotWon> {
        let draw = draw(digest, r1);
        let win_threshold = WinThreshold(fields.winThreshold);
        if !win_threshold.wins(draw) {
            return Err(NotWon {
                digest,
                draw,
                win_threshold,
            });
        }
        Ok(Self {
            fields,
            digest,
            signature,
            state: Won { session, r1, draw },
        })
    }
}

impl Drawn {
    /// The winner, if it is one.
    pub fn won(self) -> Option<Ticket<Won>> {
        match self {
            Self::Won(ticket) => Some(ticket),
            Self::Lost(_) => None,
        }
    }
}

/// The ticket's signature with the `v` that recovers its escrow.
fn claimable(ticket: &Ticket<Won>) -> Result<Signature, Refusal> {
    let escrow = ticket.escrow();
    let signature = ticket.signature;
    let other = signature.with_other_v();
    if recover(ticket.digest, &signature).is_ok_and(|key| key.address() == escrow) {
        return Ok(signature);
    }
    check_signer(recover(ticket.digest, &other)?.address(), escrow)?;
    Ok(other)
}
