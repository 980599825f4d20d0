//! What the chain says about banks: the reputation of their customers, and the key that signs for them, rebuilt from the
//! contract's events alone. Banks set it; proofs lower it, and a channel that ends well raises it (C-14).

use std::collections::HashMap;

use alloy_primitives::Address;

use super::{ChannelEvent, ChannelId, Channels, FoldError, Reputation};

/// What a valid last receipt, or a cooperative close, adds for both parties.
pub const COMPLETED: u8 = 1;
/// What a proven bad lock costs the client.
pub const BAD_LOCK_PENALTY: u8 = 15;
/// What two receipts of one index cost the client.
pub const DOUBLE_RECEIPT_PENALTY: u8 = 30;

/// Banks by address.
pub type Banks = HashMap<Address, BankRecord>;

/// A bank at some block. One that never did anything has no record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BankRecord {
    /// The key that signs for the bank; `None`: that of its own address.
    pub key: Option<Address>,
    /// How often it was changed (C-19).
    pub epoch: u64,
    /// Its customers.
    pub reputations: HashMap<Address, Reputation>,
}

impl BankRecord {
    /// A customer's reputation; 0 for a stranger.
    pub fn reputation(&self, customer: Address) -> Reputation {
        self.reputations.get(&customer).copied().unwrap_or_default()
    }
}

/// Applies an event to the banks it changes. `channels` have been folded up to the event, or beyond: parties and bank of a
/// channel never change. On an error nothing is changed.
pub fn apply(banks: &mut Banks, channels: &Channels, event: &ChannelEvent) -> Result<(), FoldError> {
    match event {
        ChannelEvent::ReputationSet(e) => {
            let reputation = Reputation::new(e.reputation).ok_or(FoldError::ReputationOutOfRange {
                customer: e.customer,
                got: e.reputation,
                high: Reputation::MAX,
            })?;
            let bank = banks.entry(e.bank).or_default();
            bank.reputations.insert(e.customer, reputation);
        }
        ChannelEvent::BankKeySet(e) => {
            let known = banks.get(&e.bank).map_or(0, |bank| bank.epoch);
            if Some(e.epoch) != known.checked_add(1) {
                return Err(FoldError::EpochSkipped {
                    bank: e.bank,
                    got: e.epoch,
                    known,
                });
            }
            let bank = banks.entry(e.bank).or_default();
            bank.key = (!e.key.is_zero()).then_some(e.key);
            bank.epoch = e.epoch;
        }
        ChannelEvent::ReceiptShown(e) => completed(banks, channels, ChannelId(e.channelId))?,
        ChannelEvent::CooperativelyClosed(e) => completed(banks, channels, ChannelId(e.channelId))?,
        ChannelEvent::BadLockProven(e) => {
            lowered(banks, channels, ChannelId(e.channelId), BAD_LOCK_PENALTY)?;
        }
        ChannelEvent::DoubleReceiptProven(e) => {
            lowered(banks, channels, ChannelId(e.channelId), DOUBLE_RECEIPT_PENALTY)?;
        }
        ChannelEvent::Opened(_)
        | ChannelEvent::ToppedUp(_)
        | ChannelEvent::Checkpointed(_)
        | ChannelEvent::Closed(_)
        | ChannelEvent::Refunded(_)
        | ChannelEvent::ItemSkipped(_)
        | ChannelEvent::OperatorSet(_)
        | ChannelEvent::CreditWithdrawn(_)
        | ChannelEvent::EIP712DomainChanged(_) => {}
    }
    Ok(())
}

fn completed(banks: &mut Banks, channels: &Channels, channel: ChannelId) -> Result<(), FoldError> {
    let record = channels
        .get(&channel)
        .ok_or(FoldError::ChannelMissing { channel })?;
    let bank = banks.entry(record.bank).or_default();
    for customer in [record.client, record.vendor] {
        let raised = bank.reputation(customer).raised(COMPLETED);
        bank.reputations.insert(customer, raised);
    }
    Ok(())
}

fn lowered(banks: &mut Banks, channels: &Channels, channel: ChannelId, by: u8) -> Result<(), FoldError> {
    let record = channels
        .get(&channel)
        .ok_or(FoldError::ChannelMissing { channel })?;
    let bank = banks.entry(record.bank).or_default();
    let lowered = bank.reputation(record.client).lowered(by);
    bank.reputations.insert(record.client, lowered);
    Ok(())
}
