//! Rust and the deployed contract agree on every digest, for random input.

use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::providers::RootProvider;
use bindings::channel::{Checkpoint, CooperativeClose, OpenPermit, PaymentChannel, Receipt};
use micropay_e2e::{Market, account_key};
use protocol::channel::{ChannelId, Index, Permit, Word, previous, walk};

/// Numbers that look random, the same in each run.
struct Random(B256);

impl Random {
    fn word(&mut self) -> B256 {
        self.0 = keccak256(self.0);
        self.0
    }

    fn number(&mut self) -> u128 {
        // All sizes, the smallest and the largest, too.
        let (value, size) = (U256::from_be_bytes(self.word().0), self.word().0[0]);
        match size {
            0..8 => 0,
            8..16 => u128::MAX,
            size => (value.saturating_to::<u128>()) >> (size % 128),
        }
    }

    fn address(&mut self) -> Address {
        Address::from_word(self.word())
    }
}

#[tokio::test]
async fn digests_ids_and_hashes_of_terms_agree() {
    let market = Market::new().await;
    let contract: PaymentChannel::PaymentChannelInstance<RootProvider> =
        PaymentChannel::new(market.client.contract(), market.client.provider());
    let domain = market.domain;
    let mut random = Random(B256::repeat_byte(7));
    for _ in 0..40 {
        let (client, vendor, salt) = (random.address(), random.address(), random.word());
        let id = domain.channel_id(client, vendor, salt);
        assert_eq!(
            contract.channelIdOf(client, vendor, salt).call().await.unwrap(),
            id.0
        );

        let fields = OpenPermit {
            channelId: random.word(),
            client,
            vendor,
            receiptKey: random.address(),
            asset: random.address(),
            unit: random.number(),
            length: random.number() as u32,
            anchor: random.word(),
            clientReputation: random.number() as u8,
            vendorReputation: random.number() as u8,
            issuedAt: random.number() as u64,
            expiry: random.number() as u64,
        };
        let permit = Permit::new(&domain, fields.clone());
        assert_eq!(
            contract.permitDigest(fields).call().await.unwrap(),
            permit.digest()
        );
        let admitted = permit.sign(random.address(), &account_key(3));
        // With it the tag of sigma_0.
        assert_eq!(
            contract.termsHash(admitted.terms()).call().await.unwrap(),
            admitted.terms_hash()
        );

        let receipt = Receipt {
            channelId: random.word(),
            index: random.number() as u32,
            itemHash: random.word(),
            cumulative: random.number(),
            issuedAt: random.number() as u64,
            transcript: random.word(),
        };
        assert_eq!(
            contract.receiptDigest(receipt.clone()).call().await.unwrap(),
            domain.receipt_digest(&receipt)
        );
        let checkpoint = Checkpoint {
            channelId: random.word(),
            index: random.number() as u32,
            word: random.word(),
            locksRoot: random.word(),
        };
        assert_eq!(
            contract
                .checkpointDigest(checkpoint.clone())
                .call()
                .await
                .unwrap(),
            domain.checkpoint_digest(&checkpoint)
        );
        let close = CooperativeClose {
            channelId: random.word(),
            index: random.number() as u32,
        };
        let ours = domain.cooperative_close_digest(ChannelId(close.channelId), Index(close.index));
        assert_eq!(contract.cooperativeCloseDigest(close).call().await.unwrap(), ours);

        // A walk is its steps, one after another.
        let (word, steps) = (Word(random.word()), random.number() as u32 % 100);
        let by_steps = (0..steps).fold(word, |word, _| previous(word, id));
        assert_eq!(walk(word, id, steps), by_steps);
    }
    assert_eq!(
        contract.domainSeparator().call().await.unwrap(),
        domain.separator()
    );
}
