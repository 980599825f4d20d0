//! What the chain says about a channel, rebuilt from the contract's events alone. An event that does not fit is an error,
//! never a guess: the node is wrong, or a block was missed. What a client or vendor needs to rebuild a lost store is in the
//! permits that the record keeps.

use std::collections::HashMap;

use alloy_primitives::{Address, B256, U256};
use bindings::channel::OpenPermit;
use bindings::channel::PaymentChannel::{self, PaymentChannelEvents};

use super::{
    Admitted, Amount, ChannelId, Domain, FoldError, Index, Permit, Reputation, Signature, Timestamp,
    Transcript, Word,
};

/// An event of the contract.
pub type ChannelEvent = PaymentChannelEvents;

/// Channels by name.
pub type Channels = HashMap<ChannelId, ChannelRecord>;

/// Life of a channel. One that was never opened has no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Pays.
    Open,
    /// Over, for ever.
    Closed,
}

/// A channel at some block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelRecord {
    /// Who pays.
    pub client: Address,
    /// Who sells.
    pub vendor: Address,
    /// In whose ledger both stand.
    pub bank: Address,
    /// What was opened, and then each top-up. All of them pay, up to their own length.
    pub chains: Vec<ChainTerms>,
    /// Units that the vendor was credited with.
    pub settled: Index,
    /// The last word that a checkpoint showed, with its index.
    pub checkpointed: Option<(Index, Word)>,
    /// How it ended, if it did.
    pub closing: Option<Closing>,
    /// Digest of the last receipt, if a close showed a valid one.
    pub receipt_shown: Option<B256>,
    /// Whether the client's reputation fell for a bad lock.
    pub bad_lock_proven: bool,
    /// Whether the client's reputation fell for two receipts of one index.
    pub double_receipt_proven: bool,
}

/// One of a channel's chains: the permit and the bank's signature, as the event had them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainTerms {
    /// What the bank signed.
    pub permit: OpenPermit,
    /// With this signature.
    pub sigma0: Signature,
}

/// How a channel ended. Amounts are those of the last step: what checkpoints paid before is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The vendor closed.
    Closed {
        /// Paid to the vendor, atomic units.
        paid: Amount,
        /// Paid back to the client, atomic units.
        refunded: Amount,
        /// The paper's Tx_n.
        transcript: Transcript,
    },
    /// Both closed.
    Cooperative {
        /// Paid to the vendor, atomic units.
        paid: Amount,
        /// Paid back to the client, atomic units.
        refunded: Amount,
    },
    /// The client took back what was not proven in time.
    Refunded {
        /// Paid back to the client, atomic units.
        refunded: Amount,
    },
}

/// The channel that an event changes, or `None` for one that changes none.
pub fn channel_of(event: &ChannelEvent) -> Option<ChannelId> {
    match event {
        ChannelEvent::Opened(e) => Some(e.channelId),
        ChannelEvent::ToppedUp(e) => Some(e.channelId),
        ChannelEvent::Checkpointed(e) => Some(e.channelId),
        ChannelEvent::Closed(e) => Some(e.channelId),
        ChannelEvent::ReceiptShown(e) => Some(e.channelId),
        ChannelEvent::CooperativelyClosed(e) => Some(e.channelId),
        ChannelEvent::Refunded(e) => Some(e.channelId),
        ChannelEvent::BadLockProven(e) => Some(e.channelId),
        ChannelEvent::DoubleReceiptProven(e) => Some(e.channelId),
        // A skipped item changes nothing; reputation and keys belong to banks, operators and credit to accounts.
        ChannelEvent::ItemSkipped(_)
        | ChannelEvent::ReputationSet(_)
        | ChannelEvent::BankKeySet(_)
        | ChannelEvent::OperatorSet(_)
        | ChannelEvent::CreditWithdrawn(_)
        | ChannelEvent::EIP712DomainChanged(_) => None,
    }
    .map(ChannelId)
}

/// Applies an event to the channel it changes. On an error nothing is changed.
pub fn apply(channels: &mut Channels, event: &ChannelEvent) -> Result<(), FoldError> {
    let Some(channel) = channel_of(event) else {
        return Ok(());
    };
    match channels.get_mut(&channel) {
        Some(record) => record.apply(channel, event),
        None => {
            let mut record = None;
            fold(&mut record, event)?;
            channels.extend(record.map(|record| (channel, record)));
            Ok(())
        }
    }
}

/// Applies an event to one channel's record, `None` before it is opened. The caller has chosen the record by
/// [`channel_of`]. On an error nothing is changed.
pub fn fold(record: &mut Option<ChannelRecord>, event: &ChannelEvent) -> Result<(), FoldError> {
    let Some(channel) = channel_of(event) else {
        return Ok(());
    };
    match (record, event) {
        (Some(record), event) => record.apply(channel, event),
        (empty, ChannelEvent::Opened(opened)) => {
            *empty = Some(ChannelRecord::opened(channel, opened)?);
            Ok(())
        }
        (None, _) => Err(FoldError::ChannelMissing { channel }),
    }
}

impl ChannelRecord {
    /// Where it stands.
    pub fn status(&self) -> Status {
        match self.closing {
            None => Status::Open,
            Some(_) => Status::Closed,
        }
    }

    /// The permit that opened the channel.
    pub fn opening(&self) -> &OpenPermit {
        &self.chains[0].permit
    }

    /// The permit of the newest chain.
    pub fn newest(&self) -> &OpenPermit {
        // A record is made with one chain and only gets more.
        &self.chains[self.chains.len() - 1].permit
    }

    /// Units that the deposit covers.
    pub fn length(&self) -> Index {
        Index(self.newest().length)
    }

    /// Last second in which the vendor can close.
    pub fn expiry(&self) -> Timestamp {
        Timestamp(self.newest().expiry)
    }

    /// What one unit is worth, atomic units.
    pub fn unit(&self) -> Amount {
        Amount(self.opening().unit)
    }

    /// The client's reputation when the newest permit was signed.
    pub fn client_reputation(&self) -> Reputation {
        Reputation::new(self.newest().clientReputation).unwrap_or_default()
    }

    /// The signed permits, the opening one first: what a client or vendor that lost its store goes on with.
    pub fn admitted(&self, domain: &Domain) -> Vec<Admitted> {
        self.chains
            .iter()
            .map(|chain| {
                Admitted::restore(Permit::new(domain, chain.permit.clone()), self.bank, chain.sigma0)
            })
            .collect()
    }

    fn opened(channel: ChannelId, event: &PaymentChannel::Opened) -> Result<Self, FoldError> {
        let permit = &event.permit;
        same(channel, permit.channelId.into(), channel.0.into())?;
        same(channel, word(permit.client), word(event.client))?;
        same(channel, word(permit.vendor), word(event.vendor))?;
        Ok(Self {
            client: event.client,
            vendor: event.vendor,
            bank: event.bank,
            chains: vec![ChainTerms {
                permit: permit.clone(),
                sigma0: Signature::from_sol(&event.sigma0)?,
            }],
            settled: Index::ZERO,
            checkpointed: None,
            closing: None,
            receipt_shown: None,
            bad_lock_proven: false,
            double_receipt_proven: false,
        })
    }

    /// Each arm computes what can fail before it changes anything.
    fn apply(&mut self, channel: ChannelId, event: &ChannelEvent) -> Result<(), FoldError> {
        match event {
            ChannelEvent::Opened(_) => return Err(FoldError::ChannelExists { channel }),
            ChannelEvent::ToppedUp(e) => self.top_up(channel, e)?,
            ChannelEvent::Checkpointed(e) => {
                self.check_open(channel)?;
                let index = Index(e.index);
                self.check_index(channel, index, self.settled.plus(1))?;
                same(channel, e.paid, self.worth(index.above(self.settled)))?;
                self.settled = index;
                self.checkpointed = Some((index, Word(e.word)));
            }
            ChannelEvent::Closed(e) => {
                let (paid, refunded) = self.close(channel, Index(e.index), e.paid, e.refunded)?;
                self.closing = Some(Closing::Closed {
                    paid,
                    refunded,
                    transcript: Transcript(e.transcript),
                });
            }
            ChannelEvent::CooperativelyClosed(e) => {
                let (paid, refunded) = self.close(channel, Index(e.index), e.paid, e.refunded)?;
                self.closing = Some(Closing::Cooperative { paid, refunded });
            }
            ChannelEvent::Refunded(e) => {
                same(channel, U256::from(e.index), U256::from(self.settled.0))?;
                let (_, refunded) = self.close(channel, self.settled, U256::ZERO, e.refunded)?;
                self.closing = Some(Closing::Refunded { refunded });
            }
            ChannelEvent::ReceiptShown(e) => {
                let Some(Closing::Closed { .. }) = self.closing else {
                    return Err(FoldError::NotClosed { channel });
                };
                self.receipt_shown = Some(e.receiptDigest);
            }
            ChannelEvent::BadLockProven(_) => {
                once(channel, self.bad_lock_proven)?;
                self.bad_lock_proven = true;
            }
            ChannelEvent::DoubleReceiptProven(_) => {
                once(channel, self.double_receipt_proven)?;
                self.double_receipt_proven = true;
            }
            ChannelEvent::ItemSkipped(_)
            | ChannelEvent::ReputationSet(_)
            | ChannelEvent::BankKeySet(_)
            | ChannelEvent::OperatorSet(_)
            | ChannelEvent::CreditWithdrawn(_)
            | ChannelEvent::EIP712DomainChanged(_) => {}
        }
        Ok(())
    }

    fn top_up(&mut self, channel: ChannelId, event: &PaymentChannel::ToppedUp) -> Result<(), FoldError> {
        self.check_open(channel)?;
        let (old, new) = (self.newest(), &event.permit);
        let kept = [
            (new.channelId.into(), old.channelId.into()),
            (word(new.client), word(old.client)),
            (word(new.vendor), word(old.vendor)),
            (word(new.receiptKey), word(old.receiptKey)),
            (word(new.asset), word(old.asset)),
            (U256::from(new.unit), U256::from(old.unit)),
        ];
        for (got, known) in kept {
            same(channel, got, known)?;
        }
        if new.length <= old.length {
            return Err(FoldError::NotLonger {
                channel,
                got: Index(new.length),
                known: Index(old.length),
            });
        }
        if new.expiry < old.expiry {
            return Err(FoldError::ExpiryBackwards {
                channel,
                got: Timestamp(new.expiry),
                known: Timestamp(old.expiry),
            });
        }
        let sigma0 = Signature::from_sol(&event.sigma0)?;
        self.chains.push(ChainTerms {
            permit: new.clone(),
            sigma0,
        });
        Ok(())
    }

    /// What the last step paid, if the event's amounts are those that follow from its index.
    fn close(
        &mut self,
        channel: ChannelId,
        index: Index,
        paid: U256,
        refunded: U256,
    ) -> Result<(Amount, Amount), FoldError> {
        self.check_open(channel)?;
        self.check_index(channel, index, Some(self.settled))?;
        same(channel, paid, self.worth(index.above(self.settled)))?;
        same(channel, refunded, self.worth(self.length().above(index)))?;
        let amounts = (Amount::try_from(paid)?, Amount::try_from(refunded)?);
        self.settled = index;
        Ok(amounts)
    }

    fn check_open(&self, channel: ChannelId) -> Result<(), FoldError> {
        match self.status() {
            Status::Open => Ok(()),
            Status::Closed => Err(FoldError::ChannelClosed { channel }),
        }
    }

    fn check_index(&self, channel: ChannelId, got: Index, low: Option<Index>) -> Result<(), FoldError> {
        let high = self.length();
        match low {
            Some(low) if got >= low && got <= high => Ok(()),
            low => Err(FoldError::IndexOutOfRange {
                channel,
                got,
                low: low.unwrap_or(high),
                high,
            }),
        }
    }

    fn worth(&self, units: u32) -> U256 {
        self.unit().to_u256() * U256::from(units)
    }
}

fn once(channel: ChannelId, proven: bool) -> Result<(), FoldError> {
    if proven {
        return Err(FoldError::ProvenTwice { channel });
    }
    Ok(())
}

/// Redundant values of an event are a check on everything before it.
fn same(channel: ChannelId, got: U256, known: U256) -> Result<(), FoldError> {
    if got == known {
        Ok(())
    } else {
        Err(FoldError::Mismatch { channel, got, known })
    }
}

fn word(address: Address) -> U256 {
    address.into_word().into()
}
