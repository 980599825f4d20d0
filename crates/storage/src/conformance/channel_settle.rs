//! Cases for a vendor's steps on chain.

use protocol::channel::{ChannelId, Index};

use super::{
    channel_fixture::{accepted, channel, opened},
    *,
};
use crate::channel::{
    ChannelPhase, SettlementId, SettlementMove, SettlementOutcome, SettlementStage, SettlementState,
    SettlementStep,
};

async fn queue(store: &impl Store, step: SettlementStep, channels: &[(u64, u32)]) -> Result<SettlementId> {
    let channels: Vec<_> = channels
        .iter()
        .map(|(c, index)| (channel(*c), Index(*index)))
        .collect();
    store.queue_settlement(step, &channels, AT).await
}

async fn state(store: &impl Store, id: SettlementId) -> SettlementState {
    store.settlement(id).await.unwrap().unwrap().state
}

/// Channel `c` has paid up to this index.
async fn paid_up_to(store: &impl Store, c: u64, index: u32) {
    let accepted = accepted(&opened(c), c, index, 0, false);
    assert!(
        store
            .save_payment(&accepted, ORDER, Amount(10), AT)
            .await
            .unwrap()
    );
}

fn settled(c: u64, index: u32) -> (ChannelId, SettlementOutcome) {
    let outcome = SettlementOutcome::Settled {
        index: Index(index),
        paid: Amount(10 * u128::from(index)),
    };
    (channel(c), outcome)
}

fn skipped(c: u64) -> (ChannelId, SettlementOutcome) {
    let outcome = SettlementOutcome::Skipped {
        reason: B32::repeat_byte(1),
        got: U256::MAX,
        limit: U256::ZERO,
    };
    (channel(c), outcome)
}

fn mined(n: u64, at: u64) -> SettlementMove {
    SettlementMove::Mined {
        hash: transaction(n).hash,
        block: block(at),
    }
}

/// Every stage, durable; a batch ends differently for each of its channels.
pub async fn settlement_runs_from_queue_to_final<B: Backend>() {
    let (place, mut store) = fresh_channels::<B>().await;
    for (c, index) in [(0, 3), (1, 5)] {
        paid_up_to(&store, c, index).await;
    }
    let id = queue(&store, SettlementStep::Close, &[(0, 3), (1, 5)])
        .await
        .unwrap();
    assert_eq!(id, SettlementId(1));
    assert_eq!(state(&store, id).await, SettlementState::Queued);
    store
        .add_settlement_transaction(id, &transaction(1))
        .await
        .unwrap();
    store
        .add_settlement_transaction(id, &transaction(2))
        .await
        .unwrap();
    for _ in 0..2 {
        store.move_settlement(id, mined(2, 7)).await.unwrap();
    }
    place.close(store).await.unwrap();
    store = open_channels(&place).await;
    let open = store.unfinished_settlements().await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].transactions, [transaction(1), transaction(2)]);
    let (hash, at) = (transaction(2).hash, block(7));
    assert_eq!(open[0].state, SettlementState::Mined { hash, block: at });
    assert!(matches!(
        store.vendor_channel(channel(0)).await.unwrap().unwrap().phase,
        ChannelPhase::Closing(closing) if closing == id
    ));
    store
        .finalize_settlement(id, &[settled(0, 3), skipped(1)], 21_000, 1 << 90)
        .await
        .unwrap();
    place.close(store).await.unwrap();
    store = open_channels(&place).await;
    let record = store.settlement(id).await.unwrap().unwrap();
    assert_eq!(
        record.state,
        SettlementState::Final {
            hash,
            block: at,
            gas_used: 21_000,
            effective_gas_price: 1 << 90,
        }
    );
    assert_eq!(record.state.fee(), Some(Amount(21_000 << 90)));
    assert_eq!((record.step, record.queued_at), (SettlementStep::Close, AT));
    let outcomes: HashMap<_, _> = record
        .items
        .iter()
        .map(|item| (item.channel, item.outcome))
        .collect();
    for (channel, outcome) in [settled(0, 3), skipped(1)] {
        assert_eq!(outcomes[&channel], Some(outcome));
    }
    assert_eq!(store.unfinished_settlements().await.unwrap(), []);
    let closed = store.vendor_channel(channel(0)).await.unwrap().unwrap();
    assert_eq!((closed.phase, closed.settled), (ChannelPhase::Closed, Index(3)));
    let left = store.vendor_channel(channel(1)).await.unwrap().unwrap();
    assert_eq!((left.phase, left.settled), (ChannelPhase::Open, Index(0)));
    let total = Total {
        count: 1,
        price: Amount(30),
    };
    assert_eq!(store.vendor_totals().await.unwrap().settled, total);
    // The one that was left out may go again.
    queue(&store, SettlementStep::Checkpoint, &[(1, 5)])
        .await
        .unwrap();
    let latest = store.settlements(1).await.unwrap();
    assert_eq!(latest[0].id, SettlementId(2));
}

/// A reorg takes the block, a node forgets the transaction: the same channels go again, and no transaction is forgotten.
pub async fn settlement_goes_back_on_reorg_and_drop<B: Backend>() {
    let (place, store) = fresh_channels::<B>().await;
    let id = queue(&store, SettlementStep::Checkpoint, &[(0, 3)])
        .await
        .unwrap();
    store
        .add_settlement_transaction(id, &transaction(1))
        .await
        .unwrap();
    store.move_settlement(id, mined(1, 7)).await.unwrap();
    store.move_settlement(id, SettlementMove::Unmined).await.unwrap();
    assert_eq!(state(&store, id).await, SettlementState::Sent);
    store.move_settlement(id, SettlementMove::Requeue).await.unwrap();
    place.close(store).await.unwrap();
    let store = open_channels(&place).await;
    let record = store.settlement(id).await.unwrap().unwrap();
    assert_eq!(
        (record.state, record.transactions, record.dropped),
        (SettlementState::Queued, vec![], vec![transaction(1)])
    );
    // It turns up after all.
    store.move_settlement(id, mined(1, 8)).await.unwrap();
    let record = store.settlement(id).await.unwrap().unwrap();
    assert_eq!(
        (record.transactions, record.dropped),
        (vec![transaction(1)], vec![])
    );
    store.move_settlement(id, SettlementMove::Requeue).await.unwrap();
    store
        .add_settlement_transaction(id, &transaction(1))
        .await
        .unwrap();
    assert_eq!(state(&store, id).await, SettlementState::Sent);
    store.move_settlement(id, SettlementMove::Requeue).await.unwrap();
    store.move_settlement(id, SettlementMove::Drop).await.unwrap();
    assert_eq!(store.unfinished_settlements().await.unwrap(), []);
    queue(&store, SettlementStep::Checkpoint, &[(0, 3)])
        .await
        .unwrap();
}

/// What the picture does not show is refused, with both states.
pub async fn illegal_settlement_moves_name_both_states<B: Backend>() {
    let (_place, store) = fresh_channels::<B>().await;
    let id = queue(&store, SettlementStep::Checkpoint, &[(0, 3)])
        .await
        .unwrap();
    let unknown = SettlementId(u64::MAX);
    refused!(
        store.move_settlement(unknown, SettlementMove::Drop).await,
        StoreError::UnknownSettlement(SettlementId(u64::MAX))
    );
    refused!(
        store
            .add_settlement_transaction(SettlementId(9), &transaction(1))
            .await,
        StoreError::UnknownSettlement(SettlementId(9))
    );
    refused!(
        store.move_settlement(id, mined(1, 1)).await,
        StoreError::UnknownSettlementTransaction { hash, .. } if hash == transaction(1).hash
    );
    for (to, stage) in [
        (SettlementMove::Unmined, SettlementStage::Sent),
        (SettlementMove::Requeue, SettlementStage::Queued),
    ] {
        refused!(
            store.move_settlement(id, to).await,
            StoreError::SettlementMove { from: SettlementState::Queued, to, .. } if to == stage
        );
    }
    refused!(
        store.finalize_settlement(id, &[settled(0, 3)], 1, 1).await,
        StoreError::SettlementMove {
            from: SettlementState::Queued,
            to: SettlementStage::Final,
            ..
        }
    );
    store
        .add_settlement_transaction(id, &transaction(1))
        .await
        .unwrap();
    refused!(
        store.move_settlement(id, SettlementMove::Drop).await,
        StoreError::SettlementMove {
            from: SettlementState::Sent,
            to: SettlementStage::Dropped,
            ..
        }
    );
    store.move_settlement(id, mined(1, 1)).await.unwrap();
    refused!(
        store.move_settlement(id, mined(1, 2)).await,
        StoreError::SettlementMove {
            from: SettlementState::Mined { .. },
            to: SettlementStage::Mined,
            ..
        }
    );
    let other = queue(&store, SettlementStep::Checkpoint, &[(1, 3)])
        .await
        .unwrap();
    refused!(
        store.add_settlement_transaction(other, &transaction(1)).await,
        StoreError::SettlementTransactionTaken { got, stored, .. } if got == other && stored == id
    );
    refused!(
        store.move_settlement(other, mined(1, 1)).await,
        StoreError::UnknownSettlementTransaction { .. }
    );
    for (outcomes, stray) in [
        (vec![settled(0, 3), settled(0, 3)], true),
        (vec![settled(0, 3), settled(1, 3)], true),
        (vec![], false),
    ] {
        let result = store.finalize_settlement(id, &outcomes, 1, 1).await;
        if stray {
            refused!(result, StoreError::SettlementOutcomeStray { .. });
        } else {
            refused!(result, StoreError::SettlementOutcomeMissing { channel: missing, .. } if missing == channel(0));
        }
    }
}

/// All or nothing, and a channel in one at a time.
pub async fn channel_is_in_one_settlement_at_a_time<B: Backend>() {
    let (_place, store) = fresh_channels::<B>().await;
    refused!(
        queue(&store, SettlementStep::Close, &[]).await,
        StoreError::SettlementEmpty
    );
    refused!(
        queue(&store, SettlementStep::Checkpoint, &[(0, 1), (0, 2)]).await,
        StoreError::SettlementBusy { channel: twice, settlement: SettlementId(1) } if twice == channel(0)
    );
    refused!(
        queue(&store, SettlementStep::Close, &[(0, 1), (0, 2)]).await,
        StoreError::SettlementBusy {
            settlement: SettlementId(1),
            ..
        }
    );
    let first = queue(&store, SettlementStep::Checkpoint, &[(0, 1)])
        .await
        .unwrap();
    assert_eq!(first, SettlementId(1), "what was refused took no number");
    refused!(
        queue(&store, SettlementStep::Close, &[(1, 1), (0, 1)]).await,
        StoreError::SettlementBusy { settlement, .. } if settlement == first
    );
    let mut tasks = Vec::new();
    for _ in 0..10 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            u32::from(queue(&store, SettlementStep::Close, &[(1, 1)]).await.is_ok())
        }));
    }
    let mut queued = 0;
    for task in tasks {
        queued += task.await.unwrap();
    }
    assert_eq!(queued, 1);
    let busy = store.vendor_channel(channel(1)).await.unwrap().unwrap();
    assert_eq!(
        (busy.phase, busy.since),
        (ChannelPhase::Closing(SettlementId(2)), AT)
    );
    // Both parties may agree on less than was paid.
    paid_up_to(&store, 2, 4).await;
    queue(&store, SettlementStep::CooperativeClose, &[(2, 3)])
        .await
        .unwrap();
}
