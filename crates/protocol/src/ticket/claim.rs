//! Claim: winners as the contract takes them (section 2.1, the witness of Π^esc). A claim is a list of groups; a group is
//! one escrow, one opened commitment and winners in rising nonce order. The contract pays a nonce of a pair only above
//! the last one paid, so the groups of one escrow rise, too.

use bindings::ticket::{Group, Winner};

use super::{ClaimError, Ticket, Won};

/// The groups that claim these winners of one recipient, all of them payable in this order.
///
/// Tickets under several commitments may have their nonces mixed (payments in flight when a session closed): then a
/// commitment has more than one group.
pub fn groups(wins: &[Ticket<Won>]) -> Result<Vec<Group>, ClaimError> {
    let mut sorted: Vec<&Ticket<Won>> = wins.iter().collect();
    sorted.sort_unstable_by_key(|win| (win.escrow(), win.nonce()));
    for pair in sorted.windows(2) {
        let [a, b] = [pair[0], pair[1]];
        if a.recipient() != b.recipient() {
            return Err(ClaimError::MixedRecipients {
                first: a.recipient(),
                other: b.recipient(),
            });
        }
        if (a.escrow(), a.nonce()) == (b.escrow(), b.nonce()) {
            return Err(ClaimError::NonceTwice {
                escrow: a.escrow(),
                nonce: a.nonce(),
            });
        }
    }
    Ok(sorted
        .chunk_by(|a, b| (a.escrow(), a.state.r1) == (b.escrow(), b.state.r1))
        .map(|run| Group {
            escrow: run[0].escrow(),
            r1: run[0].state.r1,
            winners: run.iter().map(|win| Winner::from(*win)).collect(),
        })
        .collect())
}

impl From<&Ticket<Won>> for Winner {
    fn from(win: &Ticket<Won>) -> Self {
        Self {
            r2: win.fields.r2,
            winThreshold: win.fields.winThreshold,
            expiry: win.fields.expiry,
            nonce: win.fields.nonce,
            signature: win.signature.to_sol(),
        }
    }
}
