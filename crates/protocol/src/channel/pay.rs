//! Pay: the client's step. It reveals the next word, signs the receipt, and locks the signature before with it. A payment
//! whose good failed is replaced by another at the same index: value is the index alone, so that nothing is paid twice.
//!
//! ```text
//!             pay                    acknowledge(tag)
//! ClientChannel ──▶ Prepared: save channel() ──▶ send() ──▶ Payment ──▶ ClientChannel, one index up
//!      ▲                                                      │ good failed
//!      └──────────────────────── pay again ───────────────────┘
//! ```
//!
//! The state remembers the highest word ever revealed and every payment under way, and gives a payment away only together
//! with the state that remembers it. Signatures of payments that were replaced are never shown: locks are made with the
//! acknowledged ones, so that no two receipts of one index can exist outside (C-14).

use super::{
    Admitted, Amount, Chain, ChannelId, Domain, Index, ItemHash, Keccak, Key, LastDelivered, Lock,
    LockedReceipt, PayError, Sigma, Tag, Timestamp, Transcript, Word, lock, transcript,
};

/// What the client sends: normative (`channel.md` §1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The channel.
    pub channel: ChannelId,
    /// Units paid with it, in all.
    pub index: Index,
    /// `w_index`.
    pub word: Word,
    /// What is paid for.
    pub item: ItemHash,
    /// When the receipt was signed, by the client's clock.
    pub issued_at: Timestamp,
    /// The signature of the payment before, locked by this one's.
    pub lock: Lock,
    /// Pins this one's signature.
    pub tag: Tag,
}

/// The last signature of a prefix of receipts: opens them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opener {
    /// The channel.
    pub channel: ChannelId,
    /// Index of the receipt that it signs.
    pub index: Index,
    /// The signature.
    pub sigma: Sigma,
}

/// Where the client stands: the last payment whose good it got, or the opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Units paid.
    pub index: Index,
    /// Everything paid for.
    pub transcript: Transcript,
    /// The signature of the last receipt, `sigma_0` at the opening.
    pub sigma: Sigma,
}

/// A payment that was made and not acknowledged. All but one of them failed, or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// What was sent.
    pub payment: Payment,
    /// The transcript with it.
    pub transcript: Transcript,
    /// The receipt's signature.
    pub sigma: Sigma,
}

/// The client's side of a channel: what it must never forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientChannel {
    /// The permits on chain, the opening one first. The last is the one whose chain pays.
    terms: Vec<Admitted>,
    acknowledged: Acknowledged,
    revealed: Index,
    in_flight: Vec<InFlight>,
}

/// A payment that may be sent when the channel's new state is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    channel: ClientChannel,
    payment: Payment,
}

impl ClientChannel {
    /// Most payments of one index that may be under way. A vendor that fails so often is not worth more.
    pub const MAX_IN_FLIGHT: usize = 64;

    /// A channel that was opened with this permit.
    pub fn open(admitted: Admitted) -> Self {
        let acknowledged = Acknowledged {
            index: Index::ZERO,
            transcript: admitted.permit().transcript(),
            sigma: admitted.sigma0(),
        };
        Self {
            terms: vec![admitted],
            acknowledged,
            revealed: Index::ZERO,
            in_flight: Vec::new(),
        }
    }

    /// A channel as it was stored. `terms` are the permits on chain, the opening one first.
    pub fn restore(
        terms: Vec<Admitted>,
        acknowledged: Acknowledged,
        revealed: Index,
        in_flight: Vec<InFlight>,
    ) -> Result<Self, PayError> {
        if terms.is_empty() {
            return Err(PayError::NoTerms { got: 0, needed: 1 });
        }
        Ok(Self {
            terms,
            acknowledged,
            revealed,
            in_flight,
        })
    }

    /// The channel.
    pub fn id(&self) -> ChannelId {
        self.newest().permit().channel()
    }

    /// The permits on chain, the opening one first.
    pub fn terms(&self) -> &[Admitted] {
        &self.terms
    }

    /// Where the client stands.
    pub fn acknowledged(&self) -> &Acknowledged {
        &self.acknowledged
    }

    /// The highest index whose word was revealed: what the vendor can take, whatever it delivered.
    pub fn revealed(&self) -> Index {
        self.revealed
    }

    /// Payments that were made and not acknowledged.
    pub fn in_flight(&self) -> &[InFlight] {
        &self.in_flight
    }

    /// What the chain can still pay.
    pub fn left(&self) -> u32 {
        self.newest().permit().length().above(self.acknowledged.index)
    }

    /// Whether `key` and `chain` are this channel's: what a client checks when it starts.
    pub fn check(&self, key: &Key, chain: &Chain) -> Result<(), PayError> {
        let permit = self.newest().permit();
        if chain.channel() != permit.channel() {
            return Err(PayError::WrongChannel {
                got: chain.channel(),
                channel: permit.channel(),
            });
        }
        if chain.anchor() != permit.anchor() {
            return Err(PayError::WrongChain {
                got: chain.anchor(),
                anchor: permit.anchor(),
            });
        }
        if key.address() != permit.receipt_key() {
            return Err(PayError::WrongKey {
                got: key.address(),
                receipt_key: permit.receipt_key(),
            });
        }
        Ok(())
    }

    /// Pays `units` more than was acknowledged, for `item`. Units whose word was revealed before are not paid again.
    ///
    /// The caller saves [`Prepared::channel`] before it sends.
    pub fn pay(
        &self,
        domain: &Domain,
        key: &Key,
        chain: &mut Chain,
        item: ItemHash,
        units: u32,
        now: Timestamp,
    ) -> Result<Prepared, PayError> {
        self.check(key, chain)?;
        let permit = self.newest().permit();
        if units == 0 {
            return Err(PayError::NoUnits { got: units, low: 1 });
        }
        if now > permit.expiry() {
            return Err(PayError::Expired {
                now,
                expiry: permit.expiry(),
            });
        }
        let index = self.acknowledged.index.plus(units).unwrap_or(Index(u32::MAX));
        if index > permit.length() {
            return Err(PayError::Exhausted {
                needed: index,
                length: permit.length(),
            });
        }
        if self.in_flight.len() >= Self::MAX_IN_FLIGHT {
            return Err(PayError::TooManyInFlight {
                got: self.in_flight.len(),
                limit: Self::MAX_IN_FLIGHT,
            });
        }
        let in_flight = self.sign(domain, key, chain.word(index)?, item, index, now);
        let mut channel = self.clone();
        channel.revealed = self.revealed.max(index);
        // The same item in the same second is the same payment.
        if !channel.in_flight.contains(&in_flight) {
            channel.in_flight.push(in_flight);
        }
        Ok(Prepared {
            channel,
            payment: in_flight.payment,
        })
    }

    /// A payment under way as it is sent again: the same receipt, with the word of the newest chain. Nothing is revealed that
    /// was not counted before, so that nothing has to be saved.
    pub fn send_again(&self, chain: &mut Chain, tag: Tag) -> Result<Payment, PayError> {
        let permit = self.newest().permit();
        if chain.anchor() != permit.anchor() {
            return Err(PayError::WrongChain {
                got: chain.anchor(),
                anchor: permit.anchor(),
            });
        }
        let mut payment = self.find(tag)?.payment;
        payment.word = chain.word(payment.index)?;
        Ok(payment)
    }

    /// The good of the payment with this tag arrived, or the vendor says so: the next payment builds on it.
    pub fn acknowledge(&self, tag: Tag) -> Result<Self, PayError> {
        let found = self.find(tag)?;
        Ok(Self {
            terms: self.terms.clone(),
            acknowledged: Acknowledged {
                index: found.payment.index,
                transcript: found.transcript,
                sigma: found.sigma,
            },
            revealed: self.revealed,
            in_flight: Vec::new(),
        })
    }

    /// The channel with a longer chain, once the top-up is on chain. Payments under way stay good.
    pub fn topped_up(&self, admitted: Admitted) -> Result<Self, PayError> {
        let (old, new) = (self.newest().permit(), admitted.permit());
        if new.channel() != old.channel() {
            return Err(PayError::WrongChannel {
                got: new.channel(),
                channel: old.channel(),
            });
        }
        if new.length() <= old.length() {
            return Err(PayError::NotLonger {
                got: new.length(),
                length: old.length(),
            });
        }
        let mut channel = self.clone();
        channel.terms.push(admitted);
        Ok(channel)
    }

    /// What opens every receipt up to the acknowledged one. Never the signature of a payment under way: another may still
    /// take its index.
    pub fn opener(&self) -> Opener {
        Opener {
            channel: self.id(),
            index: self.acknowledged.index,
            sigma: self.acknowledged.sigma,
        }
    }

    /// Where the client stands, for a vendor that came back from a backup and has less: the last receipt, and its word.
    pub fn stand(&self, chain: &mut Chain) -> Result<(LastDelivered, Word), PayError> {
        let Acknowledged {
            index,
            transcript,
            sigma,
        } = self.acknowledged;
        let last = LastDelivered {
            index,
            transcript,
            tag: Tag::of(self.id(), index, &sigma),
        };
        Ok((last, chain.word(index)?))
    }

    /// Rebuilds the channel of a client that lost its store. `terms` are from the chain, the rest is what the vendor has of
    /// the last payment: the receipt and the transcript before it (`None`: nothing was delivered).
    ///
    /// The vendor is not believed. The client signs the receipt again, and only if the tag comes out is it one that it
    /// signed before; the tag of any other receipt takes the client's key to make. A vendor may still show an older one:
    /// that costs it what it hides, but the client would then sign a second receipt for an index. So a recovered channel is
    /// best closed and opened anew, and its opener not given away.
    pub fn recover(
        domain: &Domain,
        key: &Key,
        terms: Vec<Admitted>,
        last: Option<(LockedReceipt, Transcript)>,
    ) -> Result<Self, PayError> {
        let opening = terms.first().ok_or(PayError::NoTerms { got: 0, needed: 1 })?;
        let mut channel = Self::open(opening.clone());
        channel.terms = terms;
        let permit = channel.newest().permit();
        if key.address() != permit.receipt_key() {
            return Err(PayError::WrongKey {
                got: key.address(),
                receipt_key: permit.receipt_key(),
            });
        }
        let Some((receipt, before)) = last else {
            return Ok(channel);
        };
        let transcript = transcript(before, receipt.item);
        let fields = receipt.receipt(permit.channel(), permit.unit(), transcript);
        let sigma = Sigma::from(&key.sign(domain.receipt_digest(&fields)));
        let tag = Tag::of(permit.channel(), receipt.index, &sigma);
        if tag != receipt.tag {
            return Err(PayError::NotMyReceipt {
                got: receipt.tag,
                mine: tag,
            });
        }
        channel.acknowledged = Acknowledged {
            index: receipt.index,
            transcript,
            sigma,
        };
        channel.revealed = receipt.index;
        Ok(channel)
    }

    /// The channel after the vendor has shown the highest word that it holds: so much is revealed, and so much it can take.
    /// Only the client can have made the word; a vendor that shows a lower one than it holds gives away the rest.
    pub fn shown(&self, chain: &mut Chain, index: Index, word: Word) -> Result<Self, PayError> {
        let mine = chain.word(index)?;
        if word != mine {
            return Err(PayError::NotMyWord {
                index,
                got: word,
                mine,
            });
        }
        let mut channel = self.clone();
        channel.revealed = self.revealed.max(index);
        Ok(channel)
    }

    fn sign(
        &self,
        domain: &Domain,
        key: &Key,
        word: Word,
        item: ItemHash,
        index: Index,
        now: Timestamp,
    ) -> InFlight {
        let permit = self.newest().permit();
        let transcript = transcript(self.acknowledged.transcript, item);
        let mut receipt = LockedReceipt {
            index,
            item,
            issued_at: now,
            lock: Lock([0; 64]),
            tag: Tag::default(),
        };
        let digest = domain.receipt_digest(&receipt.receipt(permit.channel(), permit.unit(), transcript));
        let sigma = Sigma::from(&key.sign(digest));
        receipt.lock = lock::<Keccak>(&self.acknowledged.sigma, &sigma);
        receipt.tag = Tag::of(permit.channel(), index, &sigma);
        InFlight {
            payment: Payment {
                channel: permit.channel(),
                index,
                word,
                item,
                issued_at: now,
                lock: receipt.lock,
                tag: receipt.tag,
            },
            transcript,
            sigma,
        }
    }

    fn find(&self, tag: Tag) -> Result<&InFlight, PayError> {
        self.in_flight
            .iter()
            .find(|in_flight| in_flight.payment.tag == tag)
            .ok_or(PayError::UnknownPayment {
                got: tag,
                in_flight: self.in_flight.len(),
            })
    }

    fn newest(&self) -> &Admitted {
        self.terms.last().expect("a channel has terms")
    }
}

impl Prepared {
    /// The channel that remembers the payment. To be stored first.
    pub fn channel(&self) -> &ClientChannel {
        &self.channel
    }

    /// The stored channel, and the payment, which may leave now.
    pub fn send(self) -> (ClientChannel, Payment) {
        (self.channel, self.payment)
    }
}

impl Payment {
    /// The receipt that the vendor gets with it.
    pub fn receipt(&self) -> LockedReceipt {
        LockedReceipt {
            index: self.index,
            item: self.item,
            issued_at: self.issued_at,
            lock: self.lock,
            tag: self.tag,
        }
    }

    /// What its word is worth in all, given what a unit is worth.
    pub fn worth(&self, unit: Amount) -> Amount {
        unit.saturating_mul(self.index.0.into())
    }
}
