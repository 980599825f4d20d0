//! The channels' part of the random requests.

use alloy_primitives::{U256, aliases::B32};
use proptest::prelude::*;
use protocol::channel::{Amount, Index, LastDelivered, Tag, Timestamp, VendorChannel};

use super::{
    channel_fixture::{
        NOW, accepted, admitted, bank_key, channel, checkpoint, client, full_record, length, new_channel,
        opened, opening, pay_request, payment, permit_request, position, sign_payment, sign_permit,
    },
    fixture::{block, order, transaction},
    model::{account_name, show},
};
use crate::{
    Budget, Store,
    channel::{
        ClientChannelFilter, NewClientChannel, PayRequest, PaymentFate, PaymentState, PermitQuota,
        PermitRequest, Resumed, SettlementId, SettlementMove, SettlementOutcome, SettlementStage,
        SettlementStep,
    },
};

/// How many channels there are.
const CHANNELS: u64 = 3;

/// One request. Names are small numbers, so that requests meet each other.
#[derive(Clone, Debug)]
pub(super) enum ChannelOp {
    SaveChannel {
        c: u64,
        origin: bool,
    },
    TopUp {
        c: u64,
        generation: u32,
    },
    CloseChannel(u64),
    Pay {
        n: u64,
        c: u64,
        units: u32,
        asked: u32,
        account: u64,
        limit: u64,
    },
    ResolvePayment {
        n: u64,
        state: u8,
    },
    /// Of the payment that is under way.
    ResolveSent {
        c: u64,
        state: u8,
    },
    Acknowledge {
        c: u64,
        index: u32,
    },
    SavePayment {
        c: u64,
        units: u32,
        variant: u64,
        on_pending: bool,
        stale: bool,
    },
    MarkPayment {
        c: u64,
        highest: bool,
        failed: bool,
    },
    CloseVendor {
        c: u64,
        settled: u32,
    },
    Resume {
        c: u64,
        above: u32,
    },
    RaiseRevealed {
        c: u64,
        index: u32,
    },
    SaveCheckpoint {
        c: u64,
        index: u32,
        variant: u64,
    },
    SaveOpening {
        c: u64,
        index: u32,
        opened: u32,
    },
    QueueSettlement {
        step: usize,
        channels: Vec<(u64, u32)>,
    },
    AddSettlementTransaction {
        back: u64,
        n: u64,
    },
    MineSettlement {
        back: u64,
        n: u64,
        at: u64,
    },
    MoveSettlement {
        back: u64,
        to: u8,
    },
    FinalizeSettlement {
        back: u64,
        skip: u64,
        leave_out: bool,
    },
    /// The latest settlement's next step on the way to `Final`.
    AdvanceSettlement,
    UseKey {
        epoch: u64,
        key: u64,
    },
    IssuePermit {
        c: u64,
        generation: u32,
        variant: u64,
        key: u64,
        limit: Option<u32>,
    },
    SaveChannelMirror {
        block: u64,
        record: u64,
    },
    ForgetChannelMirror,
}

/// What must have been granted and refused in some run.
pub(super) const MUST: [&str; 14] = [
    "SaveChannel",
    "ResolveSent",
    "TopUp",
    "Pay",
    "Acknowledge",
    "SavePayment",
    "MarkPayment",
    "SaveCheckpoint",
    "QueueSettlement",
    "AddSettlementTransaction",
    "MineSettlement",
    "FinalizeSettlement",
    "IssuePermit",
    "SaveChannelMirror",
];

pub(super) fn op() -> impl Strategy<Value = ChannelOp> {
    use ChannelOp::*;
    let c = || 0..CHANNELS;
    let rarely = |p| prop::bool::weighted(p);
    prop_oneof![
        5 => (c(), rarely(0.7)).prop_map(|(c, origin)| SaveChannel { c, origin }),
        2 => (c(), 0..3u32).prop_map(|(c, generation)| TopUp { c, generation }),
        1 => (c(), rarely(0.2)).prop_map(|(c, closes)| CloseChannel(if closes { c } else { CHANNELS })),
        14 => (0..12u64, c(), 0..4u32, rarely(0.1), 0..3u64, 1..9u64).prop_map(|(n, c, units, other, account, limit)| Pay {
            n, c, units, asked: units + u32::from(other), account, limit: limit * 60,
        }),
        2 => (0..12u64, 0..4u8).prop_map(|(n, state)| ResolvePayment { n, state }),
        8 => (c(), 1..4u8).prop_map(|(c, state)| ResolveSent { c, state }),
        2 => (c(), 0..9u32).prop_map(|(c, index)| Acknowledge { c, index }),
        14 => (c(), 1..4u32, 0..3u64, rarely(0.5), rarely(0.1))
            .prop_map(|(c, units, variant, on_pending, stale)| SavePayment { c, units, variant, on_pending, stale }),
        8 => (c(), rarely(0.5), rarely(0.4)).prop_map(|(c, highest, failed)| MarkPayment { c, highest, failed }),
        1 => (c(), 0..9u32).prop_map(|(c, settled)| CloseVendor { c, settled }),
        1 => (c(), 0..4u32).prop_map(|(c, above)| Resume { c, above }),
        1 => (c(), 0..4u32).prop_map(|(c, index)| RaiseRevealed { c, index }),
        3 => (c(), 0..2u32, 0..2u64).prop_map(|(c, index, variant)| SaveCheckpoint { c, index, variant }),
        2 => (c(), 1..5u32, 0..5u32).prop_map(|(c, index, opened)| SaveOpening { c, index, opened }),
        4 => (0..3usize, prop::collection::vec((c(), 0..12u32), 0..3))
            .prop_map(|(step, channels)| QueueSettlement { step, channels }),
        4 => (0..2u64, 0..4u64).prop_map(|(back, n)| AddSettlementTransaction { back, n }),
        4 => (0..2u64, 0..4u64, 0..3u64).prop_map(|(back, n, at)| MineSettlement { back, n, at }),
        4 => (0..2u64, 0..3u8).prop_map(|(back, to)| MoveSettlement { back, to }),
        4 => (0..2u64, 0..4u64, rarely(0.2)).prop_map(|(back, skip, leave_out)| FinalizeSettlement { back, skip, leave_out }),
        6 => Just(AdvanceSettlement),
        2 => (0..3u64, prop_oneof![4 => Just(None), 1 => (0..3u64).prop_map(Some)])
            .prop_map(|(epoch, key)| UseKey { epoch, key: key.unwrap_or(epoch) }),
        6 => (c(), 0..3u32, 0..2u64, 0..3u64, prop::option::of(0..4u32))
            .prop_map(|(c, generation, variant, key, limit)| IssuePermit { c, generation, variant, key, limit }),
        2 => (0..9u64, 0..6u64).prop_map(|(block, record)| SaveChannelMirror { block, record }),
        1 => Just(ForgetChannelMirror),
    ]
}

/// The latest settlement's next step.
pub(super) async fn next_step(model: &impl Store) -> ChannelOp {
    let latest = model.settlements(1).await.unwrap_or_default();
    let (back, n) = (0, 0);
    match latest.first().map(|settlement| settlement.state.stage()) {
        Some(SettlementStage::Queued) => ChannelOp::AddSettlementTransaction { back, n },
        Some(SettlementStage::Sent) => ChannelOp::MineSettlement { back, n, at: 1 },
        Some(SettlementStage::Mined) => ChannelOp::FinalizeSettlement {
            back,
            skip: 1,
            leave_out: false,
        },
        _ => ChannelOp::QueueSettlement {
            step: 0,
            channels: vec![(0, 12), (1, 12)],
        },
    }
}

/// The answer as text, so that errors compare, too.
pub(super) async fn apply(store: &impl Store, op: &ChannelOp) -> Result<String, String> {
    let at = Timestamp(7);
    match op.clone() {
        ChannelOp::SaveChannel { c, origin } => {
            let origin = origin.then(|| "origin".to_owned());
            let new = NewClientChannel {
                origin,
                ..new_channel(c)
            };
            show(store.save_client_channel(&new).await)
        }
        ChannelOp::TopUp { c, generation } => {
            show(store.topped_up(channel(c), &admitted(c, generation)).await)
        }
        ChannelOp::CloseChannel(c) => show(store.close_client_channel(channel(c), at).await),
        ChannelOp::Pay {
            n,
            c,
            units,
            asked,
            account,
            limit,
        } => {
            let budget = |n: u64| Budget {
                account: account_name(n),
                limit: Amount(limit.into()),
            };
            let request = PayRequest {
                budgets: vec![budget(account), budget(account + 1)],
                ..pay_request(n, c, asked)
            };
            show(store.pay(request, sign_payment(n, c, units)).await)
        }
        ChannelOp::ResolvePayment { n, state } => {
            let order = pay_request(n, 0, 1).order;
            show(store.resolve_payment(order, payment_state(state)).await)
        }
        ChannelOp::ResolveSent { c, state } => {
            let all = Index(0)..=Index(u32::MAX);
            let payments = store.client_payments(channel(c), all).await.unwrap_or_default();
            let mut payments = payments.iter();
            let sent = payments.find(|payment| payment.state == PaymentState::Sent);
            let order = sent.map_or(order(99), |sent| sent.order);
            show(store.resolve_payment(order, payment_state(state)).await)
        }
        ChannelOp::Acknowledge { c, index } => show(store.acknowledge(channel(c), &position(c, index)).await),
        ChannelOp::SavePayment {
            c,
            units,
            variant,
            on_pending,
            stale,
        } => {
            let state = if stale {
                opened(c)
            } else {
                standing(store, c).await
            };
            let from = match state.pending {
                Some(pending) if on_pending => pending.index,
                _ => state.delivered.index,
            };
            let index = from.0 + units;
            if index > length(0).0 {
                return Err("the chain ends".to_owned());
            }
            let accepted = accepted(&state, c, index, variant, on_pending);
            show(
                store
                    .save_payment(&accepted, order(variant), Amount(u128::from(units)), at)
                    .await,
            )
        }
        ChannelOp::MarkPayment { c, highest, failed } => {
            let record = store.vendor_channel(channel(c)).await.ok().flatten();
            let row = record.and_then(|record| if highest { record.highest } else { record.before });
            let tag = row.map_or(Tag::default(), |row| row.payment.tag);
            let fate = if failed {
                PaymentFate::Failed
            } else {
                PaymentFate::Delivered
            };
            show(store.mark_payment(channel(c), tag, fate).await)
        }
        ChannelOp::CloseVendor { c, settled } => {
            show(store.close_vendor_channel(channel(c), Index(settled)).await)
        }
        ChannelOp::Resume { c, above } => {
            let state = standing(store, c).await;
            let index = (state.delivered.index.0 + above).min(length(0).0);
            let shown = payment(c, index, 9);
            let resumed = Resumed {
                last: LastDelivered {
                    index: Index(index),
                    transcript: state.delivered.transcript,
                    tag: shown.tag,
                },
                word: shown.word,
                chain: 0,
            };
            show(store.resume_vendor_channel(channel(c), resumed, at).await)
        }
        ChannelOp::RaiseRevealed { c, index } => show(store.raise_revealed(channel(c), Index(index)).await),
        ChannelOp::SaveCheckpoint { c, index, variant } => {
            show(store.save_checkpoint(&checkpoint(c, index, variant)).await)
        }
        ChannelOp::SaveOpening { c, index, opened } => {
            show(store.save_opening(&opening(c, index, opened)).await)
        }
        ChannelOp::QueueSettlement { step, channels } => {
            let channels: Vec<_> = channels
                .iter()
                .map(|(c, index)| (channel(*c), Index(*index)))
                .collect();
            show(
                store
                    .queue_settlement(SettlementStep::ALL[step], &channels, at)
                    .await,
            )
        }
        ChannelOp::AddSettlementTransaction { back, n } => {
            let id = pick(store, back).await;
            show(
                store
                    .add_settlement_transaction(id, &transaction(2 * id.0 + n))
                    .await,
            )
        }
        ChannelOp::MineSettlement { back, n, at } => {
            let id = pick(store, back).await;
            let to = SettlementMove::Mined {
                hash: transaction(2 * id.0 + n).hash,
                block: block(at),
            };
            show(store.move_settlement(id, to).await)
        }
        ChannelOp::MoveSettlement { back, to } => {
            let to = match to {
                0 => SettlementMove::Unmined,
                1 => SettlementMove::Requeue,
                _ => SettlementMove::Drop,
            };
            show(store.move_settlement(pick(store, back).await, to).await)
        }
        ChannelOp::FinalizeSettlement {
            back,
            skip,
            leave_out,
        } => {
            let id = pick(store, back).await;
            let items = store.settlement(id).await.ok().flatten();
            let items = items.map(|record| record.items).unwrap_or_default();
            let outcomes: Vec<_> = items
                .iter()
                .skip(usize::from(leave_out))
                .map(|item| {
                    let outcome = if item.channel == channel(skip) {
                        SettlementOutcome::Skipped {
                            reason: B32::ZERO,
                            got: U256::MAX,
                            limit: U256::ZERO,
                        }
                    } else {
                        SettlementOutcome::Settled {
                            index: item.index,
                            paid: Amount(10),
                        }
                    };
                    (item.channel, outcome)
                })
                .collect();
            show(store.finalize_settlement(id, &outcomes, 21_000, 1 << 100).await)
        }
        ChannelOp::UseKey { epoch, key } => show(store.use_bank_key(epoch, bank_key(key).address()).await),
        ChannelOp::IssuePermit {
            c,
            generation,
            variant,
            key,
            limit,
        } => {
            let request = PermitRequest {
                quota: limit.map(|limit| PermitQuota { since: NOW, limit }),
                ..permit_request(c, generation, variant)
            };
            show(store.issue_permit(request, sign_permit(key)).await)
        }
        ChannelOp::SaveChannelMirror {
            block: number,
            record,
        } => {
            let changed = [(channel(record), full_record(record))].into();
            show(store.save_channel_mirror(block(number), &changed).await)
        }
        ChannelOp::ForgetChannelMirror => show(store.forget_channel_mirror().await),
        ChannelOp::AdvanceSettlement => Ok(String::new()),
    }
}

fn payment_state(state: u8) -> PaymentState {
    match state {
        0 => PaymentState::Sent,
        1 => PaymentState::Delivered,
        2 => PaymentState::Failed,
        _ => PaymentState::Refused {
            rule: "busy".to_owned(),
        },
    }
}

/// The vendor's state as it is stored.
async fn standing(store: &impl Store, c: u64) -> VendorChannel {
    match store.vendor_channel(channel(c)).await {
        Ok(Some(record)) => record.restore(opened(c)),
        _ => opened(c),
    }
}

async fn pick(store: &impl Store, back: u64) -> SettlementId {
    let latest = store.settlements(1).await.unwrap_or_default();
    SettlementId(latest.first().map_or(0, |last| last.id.0.saturating_sub(back)))
}

/// Everything about channels that can be read from a store, as text.
pub(super) async fn dump(store: &impl Store) -> Vec<Result<String, String>> {
    let all = Index(0)..=Index(u32::MAX);
    let open = ClientChannelFilter {
        open: true,
        ..ClientChannelFilter::default()
    };
    let mut lines = vec![
        show(store.client_channels(ClientChannelFilter::default()).await),
        show(store.client_channels(open).await),
        show(store.client_payment_totals(None).await),
        show(store.vendor_channels().await),
        show(store.vendor_totals().await),
        show(store.settlements(u32::MAX).await),
        show(store.unfinished_settlements().await),
        show(store.bank_keys().await),
        show(store.permits(None, u32::MAX).await),
    ];
    for c in 0..CHANNELS {
        let id = channel(c);
        lines.push(show(store.client_payments(id, all.clone()).await));
        lines.push(show(store.client_payment_totals(Some(id)).await));
        lines.push(show(store.vendor_channel(id).await));
        lines.push(show(store.vendor_payments(id, all.clone()).await));
        lines.push(show(store.checkpoints(id).await));
        lines.push(show(store.latest_checkpoint(id).await));
        lines.push(show(store.permits_of(id).await));
        lines.push(show(store.permits(Some(client(c)), 2).await));
    }
    let mirror = store.load_channel_mirror().await.map(|mirror| {
        mirror.map(|(cursor, channels)| {
            let sorted: std::collections::BTreeMap<_, _> = channels.into_iter().collect();
            (cursor, sorted)
        })
    });
    lines.push(show(mirror));
    lines
}
