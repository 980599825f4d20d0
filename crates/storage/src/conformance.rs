//! What every backend must do, as tests. A backend's test file says how to get a store and calls the suite:
//!
//! ```ignore
//! struct Files(tempfile::TempDir);
//! impl micropay_storage::conformance::Backend for Files { .. }
//! micropay_storage::conformance!(Files);
//! ```
//!
//! Each case is a function here, so that a failure has a name; [`model`] runs random requests against the backend and
//! [`MemoryStore`](crate::MemoryStore) and compares every answer.
#![allow(
    clippy::unwrap_used,
    reason = "these are tests: a failure is to stop them where it happens"
)]

mod channel_bank;
mod channel_client;
pub mod channel_fixture;
pub mod channel_model;
mod channel_settle;
mod channel_vendor;
mod claims;
pub mod fixture;
mod fleet;
pub mod model;
mod offline;
mod orders;
pub mod postgres;
mod store;
mod wins;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use alloy_primitives::{Address, B256, U256, aliases::B32};
use protocol::ticket::{Amount, Nonce, OrderId, Seed, Timestamp, WinThreshold};

use self::fixture::{block, escrow, identity, order, request, sign, transaction, win};
use crate::{
    Beat, Budget, ClaimId, ClaimStage, ClaimState, ClaimStore, FleetStore, Issue, MirrorStore, OrderFilter,
    OrderStage, OrderState, OrderStore, Outcome, Owner, Result, SeedStore, Store, StoreError, StoreIdentity,
    Total, WinFilter, WinStage, WinState, WinStore,
    channel::{
        BankStore, ChannelDomainStore, ChannelMirrorStore, ClientChannelStore, SettlementStore,
        VendorChannelStore,
    },
};

pub use self::{
    channel_bank::*, channel_client::*, channel_settle::*, channel_vendor::*, claims::*, fleet::*,
    offline::*, orders::*, store::*, wins::*,
};

/// How the suite gets stores of one backend.
pub trait Backend: Sized + Send + Sync + 'static {
    /// The store.
    type Store: Store;

    /// Whether a store outlives its handles.
    const KEEPS: bool;

    /// A place for one store, with nothing in it.
    fn place() -> impl Future<Output = Self> + Send;

    /// Opens the store in this place, creates it if there is none.
    fn open(&self, identity: StoreIdentity) -> impl Future<Output = Result<Self::Store>> + Send;

    /// Closes a store, so that it can be opened again as after a restart.
    fn close(&self, store: Self::Store) -> impl Future<Output = Result<()>> + Send;
}

/// Makes a test of every case, for one [`Backend`].
#[macro_export]
macro_rules! conformance {
    ($backend:ty) => {
        $crate::conformance!(@tests $backend:
            first_seed_stays
            boots_count_up
            nonces_start_at_one_and_rise_per_escrow
            known_order_gives_back_its_ticket
            raised_nonce_never_falls
            last_nonce_is_refused
            wrongly_signed_ticket_takes_no_nonce
            panicking_signer_takes_no_nonce
            orders_only_move_forward
            orders_are_listed_and_counted
            budgets_are_charged_with_the_ticket
            order_over_budget_changes_nothing
            concurrent_orders_never_exceed_a_budget
            concurrent_issues_take_distinct_nonces
            concurrent_issues_of_one_order_make_one_ticket
            impatient_callers_leave_no_gap_in_orders
            win_is_stored_once
            second_win_with_one_nonce_is_refused
            win_at_or_below_the_floor_is_refused
            delivery_is_noted
            undelivered_win_can_be_void
            extreme_values_survive
            one_bad_win_does_not_fail_the_others
            claim_runs_from_queue_to_final
            claim_goes_back_on_reorg_and_drop
            dropped_transaction_may_be_mined_after_all
            released_wins_can_be_claimed_again
            illegal_claim_moves_name_both_states
            queue_is_all_or_nothing
            concurrent_claims_never_share_a_win
            floor_never_falls
            outcomes_must_fit_the_claim
            hopeless_win_is_given_up
            transaction_is_of_one_claim
            wins_are_listed_and_totalled
            claims_are_listed
            round_is_acked_when_every_process_knows_it
            floor_of_a_claim_reaches_newcomers_and_rounds
            process_out_of_time_is_fenced_for_ever
            process_that_left_is_not_waited_for
            one_process_claims_and_the_next_takes_over
            process_that_only_sells_never_claims
            concurrent_processes_have_one_claimer
            fleet_survives_a_restart
            mirror_moves_forward_only
            channels_are_of_one_contract
            channel_mirror_moves_forward_only
            channel_is_saved_once
            client_channels_are_listed
            known_channel_order_gives_back_its_payment
            payment_stands_on_the_delivered_one
            failed_payment_is_replaced_without_a_second_charge
            one_payment_is_under_way_per_channel
            wrongly_signed_payment_changes_nothing
            payment_over_budget_changes_nothing
            payments_only_move_forward
            position_moves_forward_only
            shown_word_raises_what_is_revealed
            topped_up_channel_pays_from_the_new_chain
            concurrent_payments_never_share_an_index
            payment_is_stored_once
            taken_payment_counts_after_a_restart
            payment_from_an_old_state_is_stale
            failed_payment_gives_its_place_delivered_never
            payment_that_stands_on_a_failed_one_confirms_it
            buried_payment_cannot_fail
            vendor_goes_on_where_its_client_stands
            closing_channel_takes_no_payment
            concurrent_payments_of_one_channel_take_turns
            checkpoints_are_kept
            checkpoint_bounds_the_walk_and_moves_the_chain
            opening_result_is_kept
            payments_are_totalled
            settlement_runs_from_queue_to_final
            settlement_goes_back_on_reorg_and_drop
            illegal_settlement_moves_name_both_states
            channel_is_in_one_settlement_at_a_time
            permit_is_issued_once
            permit_with_other_terms_is_refused
            top_ups_have_permits_of_their_own
            permits_of_a_client_are_limited
            bank_keys_are_kept_by_epoch
            offline_store_is_of_one_wallet
            wallet_is_saved_from_the_version_it_was_decided_from
            concurrent_steps_of_a_wallet_take_turns
            books_are_the_wallets_own_and_never_fall
            invoices_move_forward_only
            outgoing_transfers_move_forward_only
            wallet_step_is_all_or_nothing
            deposits_and_history_are_kept_in_order
            newest_revocation_list_stays
            everything_survives_a_restart
            store_of_another_identity_is_refused
            random_requests_match_the_model
            random_channel_requests_match_the_model
        );
    };
    (@tests $backend:ty: $($case:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $case() {
            $crate::conformance::$case::<$backend>().await;
        }
    )*};
}

async fn fresh<B: Backend>() -> (B, B::Store) {
    let place = B::place().await;
    let store = place.open(identity()).await.unwrap();
    (place, store)
}

/// As [`fresh`], with channels of the fixture's contract.
async fn fresh_channels<B: Backend>() -> (B, B::Store) {
    let place = B::place().await;
    let store = open_channels(&place).await;
    (place, store)
}

async fn open_channels<B: Backend>(place: &B) -> B::Store {
    let store = place.open(identity()).await.unwrap();
    store.use_channels(channel_fixture::domain()).await.unwrap();
    store
}

/// The error of a request that must fail.
macro_rules! refused {
    ($result:expr, $error:pat $(if $guard:expr)?) => {
        match $result {
            Err($error) $(if $guard)? => {}
            other => panic!("expected {}, got {other:?}", stringify!($error)),
        }
    };
}
use refused;

const AT: Timestamp = Timestamp(1_800_000_000);
const ORDER: OrderId = OrderId(B256::repeat_byte(0x0d));

/// Stores winners `nonces` of escrow 0 and returns their digests.
async fn save(store: &impl Store, nonces: &[u64]) -> Vec<B256> {
    let mut digests = Vec::new();
    for &nonce in nonces {
        let ticket = win(0, nonce, 0);
        assert!(store.save_win(&ticket, ORDER, Amount(10), AT).await.unwrap());
        digests.push(ticket.digest());
    }
    digests
}

fn paid(digests: &[B256]) -> Vec<(B256, Outcome)> {
    digests
        .iter()
        .map(|digest| {
            (
                *digest,
                Outcome::Final {
                    paid: Amount(100),
                    owed: Amount(0),
                },
            )
        })
        .collect()
}

async fn states(store: &impl Store, digests: &[B256]) -> Vec<WinState> {
    let mut states = Vec::new();
    for digest in digests {
        states.push(store.win(*digest).await.unwrap().unwrap().state);
    }
    states
}
