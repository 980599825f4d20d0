//! The bank's decision: load, decide, save, answer.

use std::sync::Arc;

use alloy_primitives::Address;
use parking_lot::RwLock;
use protocol::channel::{
    ChannelId, Domain, Key, MIN_REPUTATION, Permit, Reputation, Seconds, Status, Timestamp, TopUpRequest,
    admit, admit_top_up,
};
use storage::{
    StoreError,
    channel::{self, BankStore, IssuedPermit, PermitQuota, PermitRecord},
};

use super::{BankError, Ledger, PermitRequest, Policy, Result, SignedRequest, Signer};

/// A bank: its address, its key, its rules, its ledger and its store.
pub struct Bank<S, L> {
    domain: Domain,
    address: Address,
    key: RwLock<Arc<Key>>,
    policy: Policy,
    ledger: L,
    store: S,
}

/// A permit, and whether it was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permitted {
    /// The permit as stored.
    pub record: PermitRecord,
    /// Whether it was signed just now.
    pub fresh: bool,
}

impl<S: BankStore + Send + Sync + 'static, L: Ledger> Bank<S, L> {
    /// The bank at `address`, which signs with `key`. The store must know the channels' contract already
    /// (`use_channels`), and be this bank's.
    pub fn new(domain: Domain, address: Address, key: Key, policy: Policy, ledger: L, store: S) -> Self {
        Self {
            domain,
            address,
            key: RwLock::new(Arc::new(key)),
            policy,
            ledger,
            store,
        }
    }

    /// The contract whose channels are admitted.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// In whose ledger the customers stand.
    pub fn address(&self) -> Address {
        self.address
    }

    /// The bank's rules.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Address of the key that the service signs with.
    pub fn key(&self) -> Address {
        self.key.read().address()
    }

    /// Signs with this key from now on: after the contract was told of it.
    pub fn rotate(&self, key: Key) {
        *self.key.write() = Arc::new(key);
    }

    /// The key that the contract takes permits of.
    pub async fn signer(&self) -> Result<Signer> {
        Ok(self.ledger.signer().await?)
    }

    /// What the bank's ledger says of a customer, and what is needed.
    pub async fn reputation(&self, customer: Address) -> Result<(Reputation, Reputation)> {
        let needed = self.policy.admit.min_reputation.max(MIN_REPUTATION);
        Ok((self.ledger.reputation(customer).await?, needed))
    }

    /// A channel's permits, the opening one first.
    pub async fn permits(&self, channel: ChannelId) -> Result<Vec<PermitRecord>> {
        let permits = self.store.permits_of(channel).await?;
        if permits.is_empty() {
            return Err(BankError::PermitMissing { channel });
        }
        Ok(permits)
    }

    /// Admits a channel or a top-up, or says why not.
    pub async fn permit(&self, signed: &SignedRequest, now: Timestamp) -> Result<Permitted> {
        signed.check(&self.domain, now)?;
        let request = &signed.request;
        let channel = request.channel(&self.domain);
        let stored = self.store.permits_of(channel).await?;
        // What was signed once is given again, whatever has changed since.
        let known = stored.iter().find(|record| {
            let permit = record.admitted.permit();
            request.differs_from(&self.domain, permit).is_none()
        });
        if let Some(record) = known {
            return Ok(Permitted {
                record: record.clone(),
                fresh: false,
            });
        }
        self.policy.check(request)?;
        let signer = self.ledger.signer().await?;
        let key = self.key.read().clone();
        if signer.key != key.address() {
            return Err(BankError::KeySuperseded {
                chain: signer.key,
                epoch: signer.epoch,
                ours: key.address(),
            });
        }
        let (permit, generation) = match stored.last() {
            None => self.open(request, now).await?,
            Some(newest) => self.top_up(request, newest, now).await?,
        };
        self.store.use_bank_key(signer.epoch, signer.key).await?;
        let quota = self.policy.permits_per_hour.map(|limit| PermitQuota {
            since: Timestamp(now.0.saturating_sub(Seconds::HOUR.0)),
            limit,
        });
        let address = self.address;
        let issued = self
            .store
            .issue_permit(
                channel::PermitRequest {
                    permit,
                    generation,
                    quota,
                },
                move |permit| permit.sign(address, &key),
            )
            .await?;
        Ok(Permitted {
            fresh: matches!(issued, IssuedPermit::Fresh(_)),
            record: issued.into_record(),
        })
    }

    /// A channel that has no permit yet.
    async fn open(&self, request: &PermitRequest, now: Timestamp) -> Result<(Permit, u32)> {
        let channel = request.channel(&self.domain);
        if self.ledger.status(channel).await?.is_some() {
            return Err(BankError::PermitLost { channel });
        }
        let client = self.ledger.reputation(request.terms.client).await?;
        let vendor = self.ledger.reputation(request.terms.vendor).await?;
        let permit = admit(
            &self.domain,
            &request.terms,
            client,
            vendor,
            &self.policy.admit,
            now,
        )?;
        Ok((permit, 0))
    }

    /// Other terms for a channel that has a permit: a top-up if the newest permit is on chain, else a second permit, which there
    /// is not.
    async fn top_up(
        &self,
        request: &PermitRequest,
        newest: &PermitRecord,
        now: Timestamp,
    ) -> Result<(Permit, u32)> {
        let current = newest.admitted.permit();
        let channel = current.channel();
        let terms = &request.terms;
        let status = self.ledger.status(channel).await?;
        if status == Some(Status::Closed) {
            return Err(BankError::ChannelClosed { channel });
        }
        if status.is_none() || !self.ledger.knows(&newest.admitted).await? {
            // The permit that is out may still be used. (A request that does not differ was answered before.)
            let (field, got, stored) = request.differs_from(&self.domain, current).unwrap_or_else(|| {
                (
                    "generation",
                    "a new one".to_owned(),
                    newest.generation.to_string(),
                )
            });
            return Err(BankError::Store(StoreError::PermitExists {
                channel,
                generation: newest.generation,
                field,
                got,
                stored,
            }));
        }
        for (field, got, stored) in [
            (
                "receiptKey",
                terms.receipt_key.to_string(),
                current.receipt_key().to_string(),
            ),
            ("asset", terms.asset.to_string(), current.asset().to_string()),
            ("unit", terms.unit.to_string(), current.unit().to_string()),
        ] {
            if got != stored {
                return Err(BankError::TopUpChanges {
                    channel,
                    field,
                    got,
                    stored,
                });
            }
        }
        let longer = TopUpRequest {
            length: terms.length,
            anchor: terms.anchor,
            expiry: terms.expiry,
        };
        let client = self.ledger.reputation(terms.client).await?;
        let vendor = self.ledger.reputation(terms.vendor).await?;
        let policy = &self.policy.admit;
        let permit = admit_top_up(&self.domain, current, &longer, client, vendor, policy, now)?;
        Ok((permit, newest.generation + 1))
    }
}
