//! What a vendor sends: the cheaper of two proofs, worth the same.

use alloy_primitives::{Address, B256};
use micropay_protocol::channel::{
    Amount, Close, CloseError, CloseGas, Evidence, Index, SignedCheckpoint, last_receipt, open_receipts,
    recover, sign_cooperative_close,
};

use crate::world::{GAS, World};

fn bought(payments: u64) -> World {
    let mut world = World::new(1_000);
    for number in 1..=payments {
        world.buy(number, 1);
    }
    world
}

#[test]
fn the_cheaper_proof_is_chosen() {
    let mut world = bought(50);
    world.checkpoint();
    for number in 51..=200 {
        world.buy(number, 1);
    }
    let word = |index| world.chain.clone().word(Index(index)).unwrap();
    let moved = |anchor| (anchor > 0).then(|| (Index(anchor), word(anchor)));
    let plan = |anchor, gas: &CloseGas| {
        Close::plan(
            &world.terms(),
            &world.seller.paid,
            world.signed.last(),
            moved(anchor),
            Index(anchor),
            gas,
        )
        .unwrap()
    };
    // 200 steps from the anchor, or 150 and a signature.
    let dear = CloseGas {
        signature: 3_000,
        ..GAS
    };
    let close = plan(0, &dear);
    assert_eq!(
        (close.evidence, close.steps, close.gas),
        (Evidence::Anchor, 200, 60_000 + 200 * 58)
    );
    let cheap = CloseGas {
        signature: 2_000,
        ..GAS
    };
    let close = plan(0, &cheap);
    assert_eq!(
        (close.evidence, close.steps, close.gas),
        (Evidence::Signed, 150, 60_000 + 150 * 58 + 2_000)
    );
    assert_eq!(world.contract_pays(&close), Ok(Amount(20_000)));
    // An anchor that moved is nearer still.
    let close = plan(180, &cheap);
    assert_eq!((close.evidence, close.steps), (Evidence::Anchor, 20));
}

/// A close always is a bounded one: 64 steps and a signature above the base.
#[test]
fn a_close_is_at_most_64_steps_with_a_checkpoint_every_64_payments() {
    let mut world = World::new(400);
    let mut last = Index::ZERO;
    for number in 1..=400 {
        world.buy(number, 1);
        if micropay_protocol::channel::checkpoint_due(last, world.payer.acknowledged().index, 64) {
            world.checkpoint();
            last = world.payer.acknowledged().index;
        }
        let close = Close::plan(
            &world.terms(),
            &world.seller.paid,
            world.signed.last(),
            None,
            Index::ZERO,
            &CloseGas { signature: 0, ..GAS },
        )
        .unwrap();
        assert!(close.steps <= 64, "{} steps at {number}", close.steps);
        assert_eq!(world.contract_pays(&close), Ok(Amount(100 * u128::from(number))));
    }
}

/// A signed checkpoint that the word does not lead to is left aside.
#[test]
fn a_checkpoint_of_another_chain_is_not_used() {
    let mut world = World::new(10);
    for number in 1..=5 {
        world.buy(number, 1);
    }
    world.checkpoint();
    world.top_up(40);
    for number in 6..=20 {
        world.buy(number, 1);
    }
    assert_eq!(world.seller.paid.chain, 1);
    let free = CloseGas { signature: 0, ..GAS };
    let close = Close::plan(
        &world.terms(),
        &world.seller.paid,
        world.signed.last(),
        None,
        Index::ZERO,
        &free,
    )
    .unwrap();
    assert_eq!((close.evidence, close.steps), (Evidence::Anchor, 20));
    assert_eq!(close.terms, world.terms()[1].terms());
    assert_eq!(world.contract_pays(&close), Ok(Amount(2_000)));
}

/// A word that a checkpoint vouches for need not lead to the anchor: then only the checkpoint proves it, whatever it costs.
#[test]
fn a_word_that_is_only_signed_for_is_closed_by_its_checkpoint() {
    let mut world = World::new(10);
    for number in 1..=5 {
        world.buy(number, 1);
    }
    world.top_up(40);
    let mut fields = bindings::channel::Checkpoint {
        channelId: world.payer.id().0,
        index: 5,
        word: B256::repeat_byte(9),
        locksRoot: B256::ZERO,
    };
    let mut sign = |index| {
        fields.index = index;
        let signature = world.key.sign(world.domain.checkpoint_digest(&fields));
        SignedCheckpoint {
            fields: fields.clone(),
            signature,
        }
    };
    let bogus = sign(5);
    world.seller = world
        .seller
        .take_checkpoint(&world.domain, world.record(), &bogus, None)
        .unwrap();
    let dear = CloseGas {
        signature: 1_000_000,
        ..GAS
    };
    let plan = |signed| {
        Close::plan(
            &world.terms(),
            &world.seller.paid,
            signed,
            None,
            Index::ZERO,
            &dear,
        )
    };
    let close = plan(Some(&bogus)).unwrap();
    assert_eq!((close.evidence, close.steps), (Evidence::Signed, 0));
    assert_eq!(world.contract_pays(&close), Ok(Amount(500)));
    assert!(matches!(plan(None), Err(CloseError::WordNotInChain { .. })));
}

/// What a close pays is monotone in what was paid, and never above the deposit.
#[test]
fn close_monotone() {
    let mut world = World::new(60);
    let mut before = Amount::ZERO;
    for number in 1..=20 {
        let stale = world.seller;
        world.buy(number, 3);
        let payout = world.payout();
        assert!(payout > before && payout <= Amount(6_000));
        assert_eq!(
            world.payout_of(&stale),
            before,
            "a stale state claims what it had"
        );
        before = payout;
    }
    assert_eq!(before, Amount(6_000), "all of the deposit");
}

#[test]
fn nothing_to_close_with_is_said() {
    let world = bought(5);
    let plan = |paid: &micropay_protocol::channel::Paid, settled| {
        Close::plan(&world.terms(), paid, None, None, Index(settled), &GAS)
    };
    let paid = world.seller.paid;
    assert!(plan(&paid, 4).is_ok());
    let nothing = CloseError::NothingPaid {
        paid: Index(5),
        settled: Index(5),
    };
    assert_eq!(plan(&paid, 5), Err(nothing));
    let elsewhere = micropay_protocol::channel::Paid { chain: 3, ..paid };
    assert_eq!(
        plan(&elsewhere, 0),
        Err(CloseError::ChainMissing { got: 3, known: 1 })
    );
}

#[test]
fn the_last_receipt_is_shown_or_not() {
    let world = bought(3);
    let opening = world.opening();
    let opened = open_receipts(&world.domain, &opening, &world.receipts, &world.payer.opener(), 1).receipts;
    let shown = last_receipt(opening.permit(), opened.last());
    assert_eq!(shown.itemHash, world.receipts[2].item.0);
    let signature = micropay_protocol::channel::Signature::from_sol(&shown.sigma).unwrap();
    assert_eq!(
        recover(opened[2].digest, &signature).unwrap().address(),
        world.key.address()
    );
    let none = last_receipt(opening.permit(), None);
    assert_eq!((none.sigma.v, none.itemHash), (0, B256::ZERO));
}

#[test]
fn both_sign_one_close() {
    let world = bought(3);
    let permit = world.opening().permit().clone();
    let digest = world.domain.cooperative_close_digest(permit.channel(), Index(3));
    let by = |key| {
        recover(
            digest,
            &sign_cooperative_close(&world.domain, key, &permit, Index(3)),
        )
        .unwrap()
        .address()
    };
    assert_eq!(by(&world.client), permit.client());
    assert_eq!(by(&world.vendor), permit.vendor());
    let other = sign_cooperative_close(&world.domain, &world.client, &permit, Index(2));
    assert_ne!(recover(digest, &other).unwrap().address(), permit.client());
    assert_ne!(permit.vendor(), Address::ZERO);
}
