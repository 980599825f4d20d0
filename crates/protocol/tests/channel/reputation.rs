//! Reputation as the contract keeps it: by bank, within 0 and 100, moved by proofs and by channels that end well.

use alloy_primitives::{Address, B256, U256};
use bindings::channel::PaymentChannel::{
    BadLockProven, BankKeySet, CooperativelyClosed, DoubleReceiptProven, ReceiptShown, ReputationSet,
};
use micropay_protocol::channel::reputation::{Banks, apply};
use micropay_protocol::channel::{ChannelEvent, Channels, FoldError, Reputation};

use crate::world::{World, opened_event, reputation};

struct Ledger {
    banks: Banks,
    channels: Channels,
    world: World,
}

impl Ledger {
    fn new() -> Self {
        let world = World::new(10);
        let mut channels = Channels::new();
        micropay_protocol::channel::apply(&mut channels, &opened_event(&world.opening())).unwrap();
        Self {
            banks: Banks::new(),
            channels,
            world,
        }
    }

    fn happen(&mut self, event: &ChannelEvent) -> Result<(), FoldError> {
        apply(&mut self.banks, &self.channels, event)
    }

    fn set(&mut self, customer: Address, reputation: u8) -> Result<(), FoldError> {
        let bank = self.world.bank.address();
        self.happen(&ChannelEvent::ReputationSet(ReputationSet {
            bank,
            customer,
            reputation,
        }))
    }

    fn of(&self, customer: Address) -> Reputation {
        self.banks[&self.world.bank.address()].reputation(customer)
    }
}

#[test]
fn reputation_moves_as_on_chain() {
    let mut ledger = Ledger::new();
    let (client, vendor) = (ledger.world.client.address(), ledger.world.vendor.address());
    let id = ledger.world.payer.id().0;
    ledger.set(client, 60).unwrap();
    ledger.set(vendor, 100).unwrap();
    let shown = ChannelEvent::ReceiptShown(ReceiptShown {
        channelId: id,
        index: 1,
        receiptDigest: B256::ZERO,
    });
    ledger.happen(&shown).unwrap();
    assert_eq!(
        (ledger.of(client), ledger.of(vendor)),
        (reputation(61), Reputation::MAX)
    );
    let closed = ChannelEvent::CooperativelyClosed(CooperativelyClosed {
        channelId: id,
        index: 0,
        paid: U256::ZERO,
        refunded: U256::ZERO,
    });
    ledger.happen(&closed).unwrap();
    assert_eq!(ledger.of(client), reputation(62));
    ledger
        .happen(&ChannelEvent::BadLockProven(BadLockProven {
            channelId: id,
            index: 1,
        }))
        .unwrap();
    assert_eq!(ledger.of(client), reputation(47), "below 50: no bank admits it");
    let double = ChannelEvent::DoubleReceiptProven(DoubleReceiptProven {
        channelId: id,
        index: 1,
    });
    ledger.happen(&double).unwrap();
    assert_eq!(ledger.of(client), reputation(17));
    ledger.happen(&double).unwrap();
    assert_eq!(ledger.of(client), reputation(0), "never below 0");
    assert_eq!(ledger.of(vendor), Reputation::MAX, "the vendor's is not touched");
    assert_eq!(ledger.of(Address::ZERO), reputation(0), "a stranger has none");
}

#[test]
fn what_does_not_fit_is_an_error() {
    let mut ledger = Ledger::new();
    let client = ledger.world.client.address();
    assert!(matches!(
        ledger.set(client, 101),
        Err(FoldError::ReputationOutOfRange { got: 101, .. })
    ));
    let foreign = ChannelEvent::BadLockProven(BadLockProven {
        channelId: B256::ZERO,
        index: 1,
    });
    assert!(matches!(
        ledger.happen(&foreign),
        Err(FoldError::ChannelMissing { .. })
    ));
    assert!(ledger.banks.is_empty());
}

/// A bank that lost its key names another; every change counts (C-19).
#[test]
fn bank_keys_rotate_by_epoch() {
    let mut ledger = Ledger::new();
    let bank = ledger.world.bank.address();
    let set = |key, epoch| ChannelEvent::BankKeySet(BankKeySet { bank, key, epoch });
    let other = Address::repeat_byte(5);
    ledger.happen(&set(other, 1)).unwrap();
    assert_eq!(
        (ledger.banks[&bank].key, ledger.banks[&bank].epoch),
        (Some(other), 1)
    );
    ledger.happen(&set(Address::ZERO, 2)).unwrap();
    assert_eq!(ledger.banks[&bank].key, None);
    let skipped = FoldError::EpochSkipped {
        bank,
        got: 4,
        known: 2,
    };
    assert_eq!(ledger.happen(&set(other, 4)), Err(skipped));
}
