//! Permit: the bank's step. It admits client and vendor by reputation and signs the opening; its signature is `sigma_0`, in
//! which the receipt chain ends. The bank holds no money: a permit only says that both are its customers in good standing.

use alloy_primitives::{Address, B256, keccak256};
use alloy_sol_types::{SolStruct, SolValue};
use bindings::channel::{OpenPermit, Terms};

use super::{
    AdmitRefusal, Amount, ChannelId, Domain, Index, Key, MAX_LENGTH, MIN_REPUTATION, PermitError, Reputation,
    Seconds, Sigma, Signature, SignatureError, Tag, Timestamp, Transcript, Word, recover,
};

/// A permit with its digest. Nobody has signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    fields: OpenPermit,
    digest: B256,
}

/// A permit with the signature of its bank: what opens a channel, or tops it up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    permit: Permit,
    bank: Address,
    signature: Signature,
}

/// What a client asks its bank for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdmitRequest {
    /// Who pays.
    pub client: Address,
    /// Who sells.
    pub vendor: Address,
    /// Makes the channel's name new.
    pub salt: B256,
    /// Address of the key that will sign receipts and checkpoints.
    pub receipt_key: Address,
    /// Token, or the zero address for the native asset.
    pub asset: Address,
    /// What one word is worth, atomic units.
    pub unit: Amount,
    /// How many units the chain can pay.
    pub length: Index,
    /// `w_0` of the chain.
    pub anchor: Word,
    /// Last second in which the vendor can close.
    pub expiry: Timestamp,
}

/// What a client asks its bank for to make an open channel longer. Everything else stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopUpRequest {
    /// How many units the new chain can pay, those paid already counted.
    pub length: Index,
    /// `w_0` of the new chain.
    pub anchor: Word,
    /// Last second in which the vendor can close; not before the present one.
    pub expiry: Timestamp,
}

/// What a bank asks of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdmitPolicy {
    /// The least reputation of both. The contract asks for [`MIN_REPUTATION`].
    pub min_reputation: Reputation,
    /// The longest chain.
    pub max_length: Index,
    /// The most that one word may be worth, atomic units: a channel is for small payments.
    pub max_unit: Amount,
    /// The shortest life of a channel.
    pub min_life: Seconds,
    /// The longest life of a channel.
    pub max_life: Seconds,
}

impl Default for AdmitPolicy {
    fn default() -> Self {
        Self {
            min_reputation: MIN_REPUTATION,
            max_length: MAX_LENGTH,
            max_unit: Amount::MAX,
            min_life: Seconds::HOUR,
            max_life: Seconds::DAY.times(365),
        }
    }
}

/// Admits a channel, or says which rule the request breaks. The bank then stores what it is about to sign, and signs; never
/// two different permits for one channel.
pub fn admit(
    domain: &Domain,
    request: &AdmitRequest,
    client_reputation: Reputation,
    vendor_reputation: Reputation,
    policy: &AdmitPolicy,
    now: Timestamp,
) -> Result<Permit, AdmitRefusal> {
    for (customer, got) in [
        (request.client, client_reputation),
        (request.vendor, vendor_reputation),
    ] {
        check_reputation(customer, got, policy)?;
    }
    if request.client == request.vendor {
        return Err(AdmitRefusal::SameParty {
            client: request.client,
            vendor: request.vendor,
        });
    }
    if request.receipt_key.is_zero() {
        return Err(AdmitRefusal::ReceiptKeyZero {
            client: request.client,
        });
    }
    if request.unit == Amount::ZERO || request.unit > policy.max_unit {
        return Err(AdmitRefusal::UnitOutOfRange {
            got: request.unit,
            low: Amount(1),
            high: policy.max_unit,
        });
    }
    check_length(request.length, Index(1), policy)?;
    check_deposit(request.unit, request.length)?;
    check_expiry(request.expiry, now.plus(policy.min_life), policy, now)?;
    let fields = OpenPermit {
        channelId: domain.channel_id(request.client, request.vendor, request.salt).0,
        client: request.client,
        vendor: request.vendor,
        receiptKey: request.receipt_key,
        asset: request.asset,
        unit: request.unit.0,
        length: request.length.0,
        anchor: request.anchor.0,
        clientReputation: client_reputation.get(),
        vendorReputation: vendor_reputation.get(),
        issuedAt: now.0,
        expiry: request.expiry.0,
    };
    Ok(Permit::new(domain, fields))
}

/// Admits a top-up of the channel that `current` (its newest permit) is for, or says which rule the request breaks.
pub fn admit_top_up(
    domain: &Domain,
    current: &Permit,
    request: &TopUpRequest,
    client_reputation: Reputation,
    vendor_reputation: Reputation,
    policy: &AdmitPolicy,
    now: Timestamp,
) -> Result<Permit, AdmitRefusal> {
    for (customer, got) in [
        (current.client(), client_reputation),
        (current.vendor(), vendor_reputation),
    ] {
        check_reputation(customer, got, policy)?;
    }
    let low = Index(current.length().0.saturating_add(1));
    check_length(request.length, low, policy)?;
    check_deposit(current.unit(), request.length)?;
    if request.anchor == current.anchor() {
        return Err(AdmitRefusal::AnchorUsed {
            got: request.anchor,
            current: current.anchor(),
        });
    }
    check_expiry(request.expiry, current.expiry(), policy, now)?;
    let fields = OpenPermit {
        length: request.length.0,
        anchor: request.anchor.0,
        clientReputation: client_reputation.get(),
        vendorReputation: vendor_reputation.get(),
        issuedAt: now.0,
        expiry: request.expiry.0,
        ..current.fields().clone()
    };
    Ok(Permit::new(domain, fields))
}

fn check_reputation(customer: Address, got: Reputation, policy: &AdmitPolicy) -> Result<(), AdmitRefusal> {
    // The contract refuses what is below its own bound, whatever the bank asks.
    let needed = policy.min_reputation.max(MIN_REPUTATION);
    if got < needed {
        return Err(AdmitRefusal::ReputationTooLow {
            customer,
            got,
            needed,
        });
    }
    Ok(())
}

fn check_length(got: Index, low: Index, policy: &AdmitPolicy) -> Result<(), AdmitRefusal> {
    let high = policy.max_length.min(MAX_LENGTH);
    if got < low || got > high {
        return Err(AdmitRefusal::LengthOutOfRange { got, low, high });
    }
    Ok(())
}

fn check_deposit(unit: Amount, length: Index) -> Result<(), AdmitRefusal> {
    if unit.checked_mul(length.0.into()).is_none() {
        return Err(AdmitRefusal::DepositTooLarge { unit, length });
    }
    Ok(())
}

fn check_expiry(
    got: Timestamp,
    low: Timestamp,
    policy: &AdmitPolicy,
    now: Timestamp,
) -> Result<(), AdmitRefusal> {
    let high = now.plus(policy.max_life);
    if got < low || got > high {
        return Err(AdmitRefusal::ExpiryOutOfRange { got, low, high });
    }
    Ok(())
}

impl Permit {
    /// A permit as it arrived. Nothing is checked.
    pub fn new(domain: &Domain, fields: OpenPermit) -> Self {
        let digest = domain.permit_digest(&fields);
        Self { fields, digest }
    }

    /// The fields as signed.
    pub fn fields(&self) -> &OpenPermit {
        &self.fields
    }

    /// What the bank signs: the paper's Tx_0.
    pub fn digest(&self) -> B256 {
        self.digest
    }

    /// Where the channel's transcript begins, if this permit opens it.
    pub fn transcript(&self) -> Transcript {
        Transcript(self.digest)
    }

    /// The channel.
    pub fn channel(&self) -> ChannelId {
        ChannelId(self.fields.channelId)
    }

    /// Who pays.
    pub fn client(&self) -> Address {
        self.fields.client
    }

    /// Who sells.
    pub fn vendor(&self) -> Address {
        self.fields.vendor
    }

    /// Address of the key that signs receipts and checkpoints.
    pub fn receipt_key(&self) -> Address {
        self.fields.receiptKey
    }

    /// Token, or the zero address for the native asset.
    pub fn asset(&self) -> Address {
        self.fields.asset
    }

    /// What one word is worth, atomic units.
    pub fn unit(&self) -> Amount {
        Amount(self.fields.unit)
    }

    /// How many units the chain can pay.
    pub fn length(&self) -> Index {
        Index(self.fields.length)
    }

    /// `w_0` of the chain.
    pub fn anchor(&self) -> Word {
        Word(self.fields.anchor)
    }

    /// When the bank signed.
    pub fn issued_at(&self) -> Timestamp {
        Timestamp(self.fields.issuedAt)
    }

    /// Last second in which the vendor can close.
    pub fn expiry(&self) -> Timestamp {
        Timestamp(self.fields.expiry)
    }

    /// What the channel holds when it is full, atomic units; `None` if no contract can hold it.
    pub fn deposit(&self) -> Option<Amount> {
        self.unit().checked_mul(self.length().0.into())
    }

    /// The bank at address `bank` signs with its current key. Who never changed it signs with that of its own address.
    pub fn sign(self, bank: Address, key: &Key) -> Admitted {
        let signature = key.sign(self.digest);
        Admitted {
            permit: self,
            bank,
            signature,
        }
    }
}

impl Admitted {
    /// A signed permit as it arrived. `bank_key` is the address of the key that signs for the bank now: its own until it
    /// changes it (C-19).
    pub fn from_parts(
        permit: Permit,
        bank: Address,
        signature: Signature,
        bank_key: Address,
    ) -> Result<Self, PermitError> {
        let admitted = Self::restore(permit, bank, signature);
        admitted.check(bank_key)?;
        Ok(admitted)
    }

    /// A signed permit as it was stored, or as the contract's event gives it. Nothing is checked.
    pub fn restore(permit: Permit, bank: Address, signature: Signature) -> Self {
        Self {
            permit,
            bank,
            signature,
        }
    }

    /// Whether the key at `bank_key` signed it.
    pub fn check(&self, bank_key: Address) -> Result<(), PermitError> {
        let recovered = self.signer()?;
        if recovered != bank_key {
            return Err(PermitError::WrongSigner { recovered, bank_key });
        }
        Ok(())
    }

    /// Address of the key that signed.
    pub fn signer(&self) -> Result<Address, SignatureError> {
        Ok(recover(self.permit.digest, &self.signature)?.address())
    }

    /// What was signed.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// The bank.
    pub fn bank(&self) -> Address {
        self.bank
    }

    /// The bank's signature.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The bank's signature as it is locked: where the receipt chain ends.
    pub fn sigma0(&self) -> Sigma {
        Sigma::from(&self.signature)
    }

    /// The tag of `sigma0`.
    pub fn tag0(&self) -> Tag {
        Tag::of(self.permit.channel(), Index::ZERO, &self.sigma0())
    }

    /// The terms as a contract argument.
    pub fn terms(&self) -> Terms {
        Terms {
            permit: self.permit.fields.clone(),
            bank: self.bank,
            tag0: self.tag0().0,
        }
    }

    /// What the contract keeps of the terms: `keccak256(abi.encode(permitHash, bank, tag0))`. It takes the permit's struct
    /// hash and not its digest, so that a deposit finds its way out after a fork of the chain, too.
    pub fn terms_hash(&self) -> B256 {
        let hash = self.permit.fields.eip712_hash_struct();
        keccak256((hash, self.bank, self.tag0().0).abi_encode())
    }
}
