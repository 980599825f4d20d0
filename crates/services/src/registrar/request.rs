//! What a wallet asks its registrar for, and how the registrar knows that the wallet does: typed data of the vault's domain,
//! signed by the wallet's key as an invoice is. No contract reads it.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use protocol::offline::{ClassId, Domain, Seconds, Timestamp, WalletKey, WalletSignature};

/// How long a signed request is good for, and how far the two clocks may be apart.
pub const REQUEST_LIFE: Seconds = Seconds(5 * 60);

const REGISTRATION_REQUEST: &str = "RegistrationRequest(bytes32 wallet,address owner,uint32 class,string format,bytes evidence,\
     uint64 requestedAt)";
const RENEWAL_REQUEST: &str = "RenewalRequest(bytes32 wallet,uint64 requestedAt)";

/// Asks for a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationRequest {
    /// The wallet's key.
    pub key: WalletKey,
    /// Who gets the credit, and sends the registration to the contract.
    pub owner: Address,
    /// The class.
    pub class: ClassId,
    /// Name of the evidence's format.
    pub format: String,
    /// A TPM's evidence; empty for what answers a challenge later.
    pub evidence: Bytes,
    /// The wallet's clock.
    pub requested_at: Timestamp,
}

/// Asks to renew it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenewalRequest {
    /// The wallet's key.
    pub key: WalletKey,
    /// The wallet's clock.
    pub requested_at: Timestamp,
}

/// Why a request is not the wallet's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It was made too long ago, or in the future.
    #[error("the request is of {got}, not of {low} to {high}")]
    OutOfTime {
        /// When it was made.
        got: Timestamp,
        /// The earliest.
        low: Timestamp,
        /// The latest.
        high: Timestamp,
    },
    /// The wallet's key did not sign it, or it was signed for another contract or chain, or with other terms.
    #[error("signature {got} over {digest} is not by the key of wallet {wallet}")]
    WrongSigner {
        /// The signature.
        got: WalletSignature,
        /// What it should be over.
        digest: B256,
        /// The wallet.
        wallet: B256,
    },
}

impl RegistrationRequest {
    /// What the wallet signs.
    pub fn digest(&self, domain: &Domain) -> B256 {
        typed(
            domain,
            &[
                keccak256(REGISTRATION_REQUEST),
                self.key.wallet().0,
                self.owner.into_word(),
                word(self.class.0.into()),
                keccak256(&self.format),
                keccak256(&self.evidence),
                word(self.requested_at.0),
            ],
        )
    }

    /// Whether the wallet asks for this, now.
    ///
    /// # Errors
    ///
    /// [`RequestError`].
    pub fn check(
        &self,
        domain: &Domain,
        signature: &WalletSignature,
        now: Timestamp,
    ) -> Result<(), RequestError> {
        check(&self.key, self.digest(domain), self.requested_at, signature, now)
    }
}

impl RenewalRequest {
    /// What the wallet signs.
    pub fn digest(&self, domain: &Domain) -> B256 {
        typed(
            domain,
            &[
                keccak256(RENEWAL_REQUEST),
                self.key.wallet().0,
                word(self.requested_at.0),
            ],
        )
    }

    /// Whether the wallet asks for this, now.
    ///
    /// # Errors
    ///
    /// [`RequestError`].
    pub fn check(
        &self,
        domain: &Domain,
        signature: &WalletSignature,
        now: Timestamp,
    ) -> Result<(), RequestError> {
        check(&self.key, self.digest(domain), self.requested_at, signature, now)
    }
}

fn check(
    key: &WalletKey,
    digest: B256,
    got: Timestamp,
    signature: &WalletSignature,
    now: Timestamp,
) -> Result<(), RequestError> {
    let low = Timestamp(now.0.saturating_sub(REQUEST_LIFE.0));
    let high = now.plus(REQUEST_LIFE);
    if got < low || got > high {
        return Err(RequestError::OutOfTime { got, low, high });
    }
    if !key.verify(digest.as_slice(), signature) {
        return Err(RequestError::WrongSigner {
            got: *signature,
            digest,
            wallet: key.wallet().0,
        });
    }
    Ok(())
}

fn word(number: u64) -> B256 {
    B256::from(U256::from(number))
}

fn typed(domain: &Domain, words: &[B256]) -> B256 {
    let structure = keccak256(words.iter().flat_map(|word| word.0).collect::<Vec<u8>>());
    let mut bytes = [0; 2 + 32 + 32];
    bytes[..2].copy_from_slice(&[0x19, 0x01]);
    bytes[2..34].copy_from_slice(domain.separator().as_slice());
    bytes[34..].copy_from_slice(structure.as_slice());
    keccak256(bytes)
}

#[cfg(test)]
mod tests {
    use protocol::offline::SoftwareKey;

    use super::*;

    #[test]
    fn a_request_is_good_for_five_minutes_one_wallet_and_one_vault() {
        let key = SoftwareKey::from_bytes(&[7; 32]).unwrap();
        let domain = Domain::new(31337, Address::repeat_byte(0xcc));
        let request = RegistrationRequest {
            key: *key.public_key(),
            owner: Address::repeat_byte(1),
            class: ClassId(1),
            format: "tpm".to_owned(),
            evidence: Bytes::from(vec![1, 2, 3]),
            requested_at: Timestamp(1_000_000),
        };
        let signature = key.sign(request.digest(&domain).as_slice());
        for now in [1_000_000 - 300, 1_000_000, 1_000_000 + 300] {
            assert_eq!(request.check(&domain, &signature, Timestamp(now)), Ok(()));
        }
        for now in [1_000_000 - 301, 1_000_000 + 301, 0, u64::MAX] {
            assert!(matches!(
                request.check(&domain, &signature, Timestamp(now)),
                Err(RequestError::OutOfTime { .. })
            ));
        }
        let refused = |request: &RegistrationRequest, domain: &Domain| {
            matches!(
                request.check(domain, &signature, Timestamp(1_000_000)),
                Err(RequestError::WrongSigner { .. })
            )
        };
        assert!(refused(&request, &Domain::new(1, domain.contract())));
        for change in [
            |request: &mut RegistrationRequest| request.owner = Address::ZERO,
            |request: &mut RegistrationRequest| request.class = ClassId(2),
            |request: &mut RegistrationRequest| request.format = "sgx".to_owned(),
            |request: &mut RegistrationRequest| request.evidence = Bytes::new(),
            |request: &mut RegistrationRequest| request.requested_at = Timestamp(1_000_001),
        ] {
            let mut other = request.clone();
            change(&mut other);
            assert!(refused(&other, &domain), "{other:?}");
        }
    }
}
