//! What a client asks its bank for, and how the bank knows that the client does.

use alloy_primitives::{Address, B256, keccak256};
use alloy_sol_types::SolStruct;
use bindings::bank;
use protocol::channel::{
    AdmitRequest, ChannelId, Domain, Permit, Seconds, Signature, SignatureError, Timestamp, recover,
};

/// Where permits are asked for.
pub const PERMIT_PATH: &str = "/v1/permits";

/// How long a signed request is good for, and how far the two clocks may be apart.
pub const REQUEST_LIFE: Seconds = Seconds(5 * 60);

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PermitRequest {
    /// The channel's terms. For a top-up they are those of the new chain.
    pub terms: AdmitRequest,
    /// The client's clock.
    pub requested_at: Timestamp,
}

/// A request with the signature of the client's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedRequest {
    /// The request.
    pub request: PermitRequest,
    /// The signature.
    pub signature: Signature,
}

/// Why a request is not the client's.
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
    /// No key made the signature.
    #[error("the request's signature: {0}")]
    Signature(#[from] SignatureError),
    /// Another account signed it, or it was signed for another contract or chain, or with other terms.
    #[error("the request is signed by {got}, its client is {client}")]
    WrongSigner {
        /// The account that signed.
        got: Address,
        /// The client of the request.
        client: Address,
    },
}

impl PermitRequest {
    /// The channel.
    pub fn channel(&self, domain: &Domain) -> ChannelId {
        let AdmitRequest {
            client, vendor, salt, ..
        } = self.terms;
        domain.channel_id(client, vendor, salt)
    }

    /// What the client's account signs.
    pub fn digest(&self, domain: &Domain) -> B256 {
        let terms = &self.terms;
        let typed = bank::PermitRequest {
            channelId: self.channel(domain).0,
            client: terms.client,
            vendor: terms.vendor,
            receiptKey: terms.receipt_key,
            asset: terms.asset,
            unit: terms.unit.0,
            length: terms.length.0,
            anchor: terms.anchor.0,
            expiry: terms.expiry.0,
            requestedAt: self.requested_at.0,
        };
        let mut bytes = [0; 2 + 32 + 32];
        bytes[..2].copy_from_slice(&[0x19, 0x01]);
        bytes[2..34].copy_from_slice(domain.separator().as_slice());
        bytes[34..].copy_from_slice(typed.eip712_hash_struct().as_slice());
        keccak256(bytes)
    }

    /// Signs it with the client's account, which is known to the caller alone.
    pub fn sign<E>(
        self,
        domain: &Domain,
        account: impl FnOnce(B256) -> Result<Signature, E>,
    ) -> Result<SignedRequest, E> {
        let signature = account(self.digest(domain))?;
        Ok(SignedRequest {
            request: self,
            signature,
        })
    }

    /// The first field in which a permit is for something else, with both values.
    pub fn differs_from(&self, domain: &Domain, permit: &Permit) -> Option<(&'static str, String, String)> {
        let terms = &self.terms;
        let fields = [
            (
                "channelId",
                self.channel(domain).to_string(),
                permit.channel().to_string(),
            ),
            ("client", terms.client.to_string(), permit.client().to_string()),
            ("vendor", terms.vendor.to_string(), permit.vendor().to_string()),
            (
                "receiptKey",
                terms.receipt_key.to_string(),
                permit.receipt_key().to_string(),
            ),
            ("asset", terms.asset.to_string(), permit.asset().to_string()),
            ("unit", terms.unit.to_string(), permit.unit().to_string()),
            ("length", terms.length.to_string(), permit.length().to_string()),
            ("anchor", terms.anchor.to_string(), permit.anchor().to_string()),
            ("expiry", terms.expiry.to_string(), permit.expiry().to_string()),
        ];
        fields.into_iter().find(|(_, got, stored)| got != stored)
    }
}

impl SignedRequest {
    /// Whether the client asks for this, now.
    pub fn check(&self, domain: &Domain, now: Timestamp) -> Result<(), RequestError> {
        let got = self.request.requested_at;
        let low = Timestamp(now.0.saturating_sub(REQUEST_LIFE.0));
        let high = now.plus(REQUEST_LIFE);
        if got < low || got > high {
            return Err(RequestError::OutOfTime { got, low, high });
        }
        let client = self.request.terms.client;
        let got = recover(self.request.digest(domain), &self.signature)?.address();
        if got != client {
            return Err(RequestError::WrongSigner { got, client });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use protocol::channel::{Amount, Index, Key, Word};

    use super::*;

    /// Typed again by hand: a typo in the declaration cannot cancel itself here.
    #[test]
    fn type_string_is_the_documented_one() {
        assert_eq!(
            bank::PermitRequest::eip712_encode_type(),
            "PermitRequest(bytes32 channelId,address client,address vendor,address receiptKey,address asset,\
             uint128 unit,uint32 length,bytes32 anchor,uint64 expiry,uint64 requestedAt)"
        );
    }

    fn request(client: Address) -> PermitRequest {
        PermitRequest {
            terms: AdmitRequest {
                client,
                vendor: Address::repeat_byte(2),
                salt: B256::repeat_byte(3),
                receipt_key: Address::repeat_byte(4),
                asset: Address::ZERO,
                unit: Amount(5),
                length: Index(6),
                anchor: Word(B256::repeat_byte(7)),
                expiry: Timestamp(2_000_000),
            },
            requested_at: Timestamp(1_000_000),
        }
    }

    #[test]
    fn request_is_good_for_five_minutes_and_one_client() {
        let key = Key::from_bytes(&[1; 32]).unwrap();
        let domain = Domain::new(31337, Address::repeat_byte(0xcc));
        let sign = |request: PermitRequest, domain: &Domain| {
            let signed = request.sign::<RequestError>(domain, |digest| Ok(key.sign(digest)));
            signed.unwrap()
        };
        let signed = sign(request(key.address()), &domain);
        for now in [1_000_000 - 300, 1_000_000, 1_000_000 + 300] {
            assert_eq!(signed.check(&domain, Timestamp(now)), Ok(()));
        }
        for now in [1_000_000 - 301, 1_000_000 + 301, 0, u64::MAX] {
            let refused = signed.check(&domain, Timestamp(now));
            assert!(matches!(refused, Err(RequestError::OutOfTime { .. })), "{now}");
        }
        let other = Domain::new(1, domain.contract());
        for (signed, domain) in [
            (signed, other),
            (sign(request(key.address()), &other), domain),
            (sign(request(Address::repeat_byte(9)), &domain), domain),
        ] {
            let refused = signed.check(&domain, Timestamp(1_000_000));
            assert!(
                matches!(refused, Err(RequestError::WrongSigner { .. })),
                "{refused:?}"
            );
        }
        let mut changed = signed;
        changed.request.terms.unit = Amount(6);
        assert!(changed.check(&domain, Timestamp(1_000_000)).is_err());
    }
}
