//! Every admission refusal of the design (`ticket.md` §1.3), through a real merchant with a mirror of a real chain: its own
//! error with both values, nothing stored, the nonce still free, and a valid ticket accepted afterwards.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, U256};
use bindings::ticket::{Ticket as Fields, TicketEscrow};
use merchant::ticket::AcceptError;
use micropay_e2e::{Escrow, NATIVE, Odds, PRIZE, Setup, Shop, World, forge, hash, terms};
use payer::ticket::Opening;
use protocol::ticket::{
    Amount, Domain, EscrowKey, Issued, Nonce, OrderId, Policy, Quote, Refusal, Seconds, Signature,
    SignatureError, Status, Ticket, Timestamp, WinThreshold, recover,
};
use storage::{MemoryStore, WinStore};

/// A shop with an escrow that it accepts tickets of. The highest nonce sold is the test's to count.
struct Scene {
    world: World,
    escrow: Escrow,
    shop: Arc<Shop<MemoryStore>>,
}

impl Scene {
    async fn new() -> Self {
        Self::with(Setup::new(1).odds(Odds::Sure)).await
    }

    async fn with(setup: Setup) -> Self {
        let world = World::new().await;
        let escrow = world.open(0, "good", &terms(NATIVE, 100, 20)).await;
        let shop = world.shop(setup).await;
        world.finalize(&shop).await;
        Self { world, escrow, shop }
    }

    fn quote(&self) -> Quote {
        self.shop.quote(&self.escrow)
    }

    /// Fields of a good ticket.
    fn fields(&self, nonce: u64) -> Fields {
        self.shop.ticket(&self.escrow, nonce).fields().clone()
    }

    fn sign(&self, fields: Fields) -> Ticket<Issued> {
        forge(&self.world.domain, &self.escrow.key, fields)
    }

    /// A ticket that differs from a good one.
    fn changed(&self, nonce: u64, change: impl FnOnce(&mut Fields)) -> Ticket<Issued> {
        let mut fields = self.fields(nonce);
        change(&mut fields);
        self.sign(fields)
    }

    /// A ticket is refused, twice alike, and nothing is stored.
    async fn refused(&self, ticket: Ticket<Issued>) -> Refusal {
        let stored = self.stored().await;
        let order = OrderId(hash("refused", 0));
        let [first, second] = [
            self.refusal(order, ticket.clone()).await,
            self.refusal(order, ticket).await,
        ];
        assert_eq!(first.rule(), second.rule());
        assert_eq!(self.stored().await, stored, "{first}");
        first
    }

    async fn refusal(&self, order: OrderId, ticket: Ticket<Issued>) -> Refusal {
        match self.shop.accept(order, ticket).await {
            Err(AcceptError::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    }

    async fn stored(&self) -> u64 {
        self.shop.store.win_totals().await.unwrap().all().unwrap().count
    }

    /// A ticket with this nonce is accepted, so that no refusal has used it up.
    async fn accepts(&self, nonce: u64) {
        let stored = self.stored().await;
        let receipt = self.shop.sell(&self.escrow, nonce).await;
        assert!(receipt.won && !receipt.repeat);
        assert_eq!(self.stored().await, stored + 1);
    }
}

#[tokio::test]
async fn a_malformed_signature_is_refused_by_its_own_name() {
    let scene = Scene::new().await;
    let ticket = scene.shop.ticket(&scene.escrow, 1);
    let good = ticket.signature().to_bytes();
    let deliver = |bytes: Vec<u8>| {
        let (shop, fields) = (Arc::clone(&scene.shop), ticket.fields().clone());
        async move {
            match shop.deliver(OrderId::default(), fields, &bytes).await {
                Err(AcceptError::Refused(Refusal::Signature(error))) => error,
                other => panic!("{other:?}"),
            }
        }
    };
    for length in [0, 64, 66] {
        let mut bytes = good.to_vec();
        bytes.resize(length, 0);
        assert_eq!(deliver(bytes).await, SignatureError::Length { got: length });
    }
    for v in [0, 1, 26, 29, 255] {
        let mut bytes = good.to_vec();
        bytes[64] = v;
        assert_eq!(deliver(bytes).await, SignatureError::BadV { got: v });
    }
    // The malleated twin, which the curve takes.
    let order: U256 = "0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
        .parse()
        .unwrap();
    let mut twin = good.to_vec();
    let s = order - U256::from_be_slice(&good[32..64]);
    twin[32..64].copy_from_slice(&s.to_be_bytes::<32>());
    twin[64] = 27 + 28 - good[64];
    assert_eq!(
        deliver(twin).await,
        SignatureError::HighS {
            got: s,
            limit: order >> 1
        }
    );
    let mut zero = good.to_vec();
    zero[32..64].fill(0);
    assert_eq!(deliver(zero).await, SignatureError::SZero);
    let mut large = good.to_vec();
    large[..32].copy_from_slice(&order.to_be_bytes::<32>());
    assert_eq!(
        deliver(large).await,
        SignatureError::ROutOfRange {
            got: order,
            limit: order
        }
    );
    // Of well-formed bytes that no key has made only the curve knows.
    let keyless = (1u8..=255).find_map(|r| {
        let mut bytes = good;
        bytes[..32].fill(0);
        bytes[31] = r;
        let signature = Signature::from_bytes(&bytes).unwrap();
        recover(ticket.digest(), &signature).is_err().then_some(bytes)
    });
    assert!(matches!(
        deliver(keyless.unwrap().to_vec()).await,
        SignatureError::NoKey { .. }
    ));
    assert_eq!(scene.stored().await, 0);
    assert!(
        scene.shop.accept(OrderId::default(), ticket).await.unwrap().won,
        "the same fields, signed well"
    );
}

#[tokio::test]
async fn a_ticket_of_another_chain_contract_or_signer_is_refused() {
    let scene = Scene::new().await;
    let (here, escrow) = (scene.world.domain, scene.escrow.address());
    let stranger = EscrowKey::from_bytes(&[7; 32]).unwrap();
    for nonce in 1..=2 {
        // With the first accepted ticket the key is known, which is another way to judge the second.
        for domain in [
            Domain::new(1, here.contract()),
            Domain::new(here.chain_id(), Address::repeat_byte(1)),
        ] {
            // Signed over there, shown here.
            let there = forge(&domain, &scene.escrow.key, scene.fields(nonce));
            let shown = Ticket::from_parts(&here, there.fields().clone(), *there.signature());
            let refusal = scene.refused(shown).await;
            assert!(
                matches!(refusal, Refusal::WrongSigner { recovered, escrow: e } if recovered != e && e == escrow)
            );
            // With the commitment from over there, that comes first.
            let mut fields = scene.fields(nonce);
            fields.commitment = domain.commitment(scene.shop.recipient(), B256::repeat_byte(1));
            let refusal = scene
                .refused(forge(&domain, &scene.escrow.key, fields.clone()))
                .await;
            let live = scene.quote().commitment;
            assert_eq!(
                refusal,
                Refusal::CommitmentUnknown {
                    got: fields.commitment,
                    live
                }
            );
        }
        let forged = forge(&here, &stranger, scene.fields(nonce));
        let expected = Refusal::WrongSigner {
            recovered: stranger.address(),
            escrow,
        };
        assert_eq!(scene.refused(forged).await, expected);
        // One bit more in a field than what was signed.
        let signed = scene.shop.ticket(&scene.escrow, nonce);
        let mut fields = signed.fields().clone();
        fields.r2 = B256::from(U256::from_be_bytes(fields.r2.0) ^ U256::from(1));
        let changed = Ticket::from_parts(&here, fields, *signed.signature());
        assert_eq!(scene.refused(changed).await.rule(), "wrong-signer");
        scene.accepts(nonce).await;
    }
}

#[tokio::test]
async fn a_ticket_that_is_not_for_this_merchant_is_refused() {
    let scene = Scene::new().await;
    let (me, live) = (scene.shop.recipient(), scene.quote().commitment);
    let other = Address::repeat_byte(9);
    let ticket = scene.changed(1, |fields| fields.recipient = other);
    assert_eq!(
        scene.refused(ticket).await,
        Refusal::WrongRecipient { got: other, me }
    );
    let unknown = B256::repeat_byte(3);
    let ticket = scene.changed(1, |fields| fields.commitment = unknown);
    assert_eq!(
        scene.refused(ticket).await,
        Refusal::CommitmentUnknown { got: unknown, live }
    );

    // The live commitment of another escrow is not this escrow's.
    let second = scene.world.open(2, "second", &terms(NATIVE, 100, 20)).await;
    scene.world.finalize(&scene.shop).await;
    let theirs = scene.shop.quote(&second).commitment;
    let ticket = scene.changed(1, |fields| fields.commitment = theirs);
    assert_eq!(
        scene.refused(ticket).await,
        Refusal::CommitmentUnknown { got: theirs, live }
    );

    // A commitment is closed before its secret is revealed.
    let late = scene.shop.ticket(&scene.escrow, 2);
    scene.accepts(1).await;
    scene.shop.claimer.ask();
    scene.shop.step().await;
    let open = scene.quote().commitment;
    assert_ne!(open, live);
    assert_eq!(
        scene.refused(late).await,
        Refusal::CommitmentClosed {
            got: live,
            live: open
        }
    );
    scene.accepts(2).await;
}

#[tokio::test]
async fn a_nonce_is_taken_once_above_the_floor_and_below_the_cap() {
    let scene = Scene::new().await;
    let escrow = scene.escrow.address();
    scene.accepts(5).await;
    // Another ticket with the nonce, and the same ticket for another order.
    let seen = Refusal::NonceSeen {
        nonce: Nonce(5),
        escrow,
    };
    assert_eq!(scene.refused(scene.shop.ticket(&scene.escrow, 5)).await, seen);
    let (order, ticket) = (OrderId(hash("mine", 6)), scene.shop.ticket(&scene.escrow, 6));
    assert!(!scene.shop.accept(order, ticket.clone()).await.unwrap().repeat);
    assert!(scene.shop.accept(order, ticket.clone()).await.unwrap().repeat);
    let seen = Refusal::NonceSeen {
        nonce: Nonce(6),
        escrow,
    };
    assert_eq!(scene.refused(ticket).await, seen);

    for nonce in [100, 101, u64::MAX] {
        let refusal = scene.refused(scene.shop.ticket(&scene.escrow, nonce)).await;
        assert_eq!(
            refusal,
            Refusal::NonceNotBelowCap {
                nonce: Nonce(nonce),
                cap: Nonce(100)
            }
        );
    }
    let refusal = scene.refused(scene.shop.ticket(&scene.escrow, 0)).await;
    assert_eq!(
        refusal,
        Refusal::NonceNotAboveFloor {
            nonce: Nonce(0),
            floor: Nonce(0)
        }
    );

    // Queued is enough for a floor: before anything is sent.
    scene.shop.claimer.ask();
    scene.shop.step().await;
    for nonce in [1, 4] {
        let refusal = scene.refused(scene.shop.ticket(&scene.escrow, nonce)).await;
        assert_eq!(
            refusal,
            Refusal::NonceNotAboveFloor {
                nonce: Nonce(nonce),
                floor: Nonce(6)
            }
        );
    }
    scene.accepts(7).await;
    scene.accepts(99).await;
}

#[tokio::test]
async fn a_ticket_lives_neither_too_short_nor_too_long() {
    let scene = Scene::new().await;
    let policy = Policy::default();
    let now = Timestamp(1_900_000_000);
    let at = |expiry: Timestamp| scene.changed(1, |fields| fields.expiry = expiry.0);
    let judge = |ticket| async {
        match scene
            .shop
            .merchant
            .accept(OrderId::default(), ticket, &scene.shop.price, now)
            .await
        {
            Err(AcceptError::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    };
    let (earliest, latest) = (now.plus(policy.claim_margin), now.plus(policy.max_ticket_life));
    for expiry in [Timestamp(0), now, Timestamp(earliest.0 - 1)] {
        assert_eq!(
            judge(at(expiry)).await,
            Refusal::TicketExpiresTooSoon { expiry, earliest }
        );
    }
    for expiry in [Timestamp(latest.0 + 1), Timestamp(u64::MAX)] {
        assert_eq!(
            judge(at(expiry)).await,
            Refusal::TicketLivesTooLong { expiry, latest }
        );
    }
    assert_eq!(scene.stored().await, 0);
    for (nonce, expiry) in [(1, earliest), (2, latest)] {
        let ticket = scene.changed(nonce, |fields| fields.expiry = expiry.0);
        let order = OrderId(hash("edge", nonce));
        assert!(
            scene
                .shop
                .merchant
                .accept(order, ticket, &scene.shop.price, now)
                .await
                .unwrap()
                .won
        );
    }
}

#[tokio::test]
async fn a_ticket_is_worth_the_price_exactly() {
    let scene = Scene::new().await;
    let price = Odds::Sure.threshold();
    for got in [
        U256::ZERO,
        U256::from(1),
        price.0 - U256::from(1),
        price.0 + U256::from(1),
        U256::MAX,
    ] {
        let ticket = scene.changed(1, |fields| fields.winThreshold = got);
        let got = WinThreshold(got);
        assert_eq!(
            scene.refused(ticket).await,
            Refusal::WrongThreshold { got, price }
        );
    }
    scene.accepts(1).await;
}

#[tokio::test]
async fn a_stale_mirror_accepts_nothing() {
    let mut setup = Setup::new(1).odds(Odds::Sure);
    setup.policy.max_mirror_age = Seconds(1);
    let scene = Scene::with(setup).await;
    scene.accepts(1).await;
    tokio::time::sleep(Duration::from_millis(2_050)).await;
    let refusal = scene.refused(scene.shop.ticket(&scene.escrow, 2)).await;
    match refusal {
        Refusal::MirrorStale { age, limit } => assert!(age >= Seconds(2) && limit == Seconds(1), "{refusal}"),
        other => panic!("{other}"),
    }
    scene.shop.follow().await;
    scene.accepts(2).await;
}

/// Another escrow beside the good one: a ticket for the terms that the merchant gives it.
async fn beside(scene: &Scene, account: usize, name: &str, opening: &Opening) -> Escrow {
    let escrow = scene.world.open(account, name, opening).await;
    scene.world.finalize(&scene.shop).await;
    escrow
}

#[tokio::test]
async fn an_escrow_that_is_not_there_pays_nothing() {
    let scene = Scene::new().await;
    let never = EscrowKey::from_bytes(&[9; 32]).unwrap();
    let ticket = Ticket::issue(
        &scene.world.domain,
        &never,
        &scene.quote(),
        B256::ZERO,
        Timestamp(1),
        Nonce(1),
    );
    let missing = Refusal::EscrowMissing {
        escrow: never.address(),
    };
    assert_eq!(scene.refused(ticket).await, missing);
    assert_eq!(
        scene.shop.merchant.quote(never.address(), &scene.shop.price),
        Err(missing)
    );

    // Opened, and not final: seen, quoted, and not accepted.
    let young = scene.world.open(2, "young", &terms(NATIVE, 100, 20)).await;
    scene.shop.follow().await;
    assert!(!scene.shop.merchant.knows(young.address()));
    let ticket = scene.shop.ticket(&young, 1);
    let missing = Refusal::EscrowMissing {
        escrow: young.address(),
    };
    assert_eq!(scene.refused(ticket.clone()).await, missing);
    scene.world.finalize(&scene.shop).await;
    assert!(
        scene.shop.accept(OrderId::default(), ticket).await.unwrap().won,
        "the very same ticket, later"
    );
    scene.accepts(1).await;
}

#[tokio::test]
async fn an_escrow_of_another_asset_prize_or_threshold_is_refused() {
    let scene = Scene::new().await;
    scene.world.mint(2, u128::MAX >> 1).await;
    let token = beside(&scene, 2, "token", &terms(scene.world.token, 100, 20)).await;
    let refusal = scene.refused(scene.shop.ticket(&token, 1)).await;
    assert_eq!(
        refusal,
        Refusal::WrongAsset {
            got: scene.world.token,
            price: NATIVE
        }
    );

    let double = Amount(PRIZE.0 * 2);
    let opening = Opening {
        prize: double,
        ..terms(NATIVE, 100, 40)
    };
    let dear = beside(&scene, 2, "dear", &opening).await;
    let refusal = scene.refused(scene.shop.ticket(&dear, 1)).await;
    assert_eq!(
        refusal,
        Refusal::WrongPrize {
            got: double,
            price: PRIZE
        }
    );

    let max_threshold = WinThreshold(U256::from(1) << 254);
    let opening = Opening {
        max_threshold,
        ..terms(NATIVE, 100, 20)
    };
    let unlikely = beside(&scene, 2, "unlikely", &opening).await;
    let refusal = scene.refused(scene.shop.ticket(&unlikely, 1)).await;
    assert_eq!(
        refusal,
        Refusal::ThresholdAboveMax {
            got: Odds::Sure.threshold(),
            max: max_threshold
        }
    );
    scene.accepts(1).await;
}

#[tokio::test]
async fn an_escrow_without_enough_penalty_or_balance_is_refused() {
    let scene = Scene::new().await;
    let required = terms(NATIVE, 100, 20).penalty;
    let penalty = Amount(required.0 - 1);
    let opening = Opening {
        penalty,
        ..terms(NATIVE, 100, 20)
    };
    let cheap = beside(&scene, 2, "cheap", &opening).await;
    let refusal = scene.refused(scene.shop.ticket(&cheap, 1)).await;
    assert_eq!(refusal, Refusal::PenaltyTooLow { penalty, required });

    // One prize and a half: good for one ticket that may win, not for two.
    let balance = Amount(PRIZE.0 + PRIZE.0 / 2);
    let opening = Opening {
        balance,
        ..terms(NATIVE, 100, 0)
    };
    let poor = beside(&scene, 2, "poor", &opening).await;
    assert!(scene.shop.sell(&poor, 1).await.won);
    let second = scene.shop.ticket(&poor, 2);
    let refusal = scene.refused(second.clone()).await;
    assert_eq!(
        refusal,
        Refusal::BalanceTooLow {
            balance,
            needed: Amount(PRIZE.0 * 2)
        }
    );
    // A top-up helps once it is final, and the same ticket is taken.
    scene
        .world
        .steps(2)
        .top_up(poor.address(), NATIVE, PRIZE)
        .await
        .unwrap();
    scene.shop.follow().await;
    assert_eq!(scene.refused(second.clone()).await, refusal);
    scene.world.finalize(&scene.shop).await;
    assert!(scene.shop.accept(OrderId::default(), second).await.unwrap().won);
    scene.accepts(1).await;
}

#[tokio::test]
async fn an_earmark_covers_what_the_balance_does_not() {
    let scene = Scene::new().await;
    let escrow = beside(&scene, 2, "earmark", &terms(NATIVE, 100, 2)).await;
    let until = scene.world.clock.now().plus(Seconds::DAY.times(2));
    let (steps, me) = (scene.world.steps(2), scene.shop.recipient());
    steps.earmark(escrow.address(), me, 2, until).await.unwrap();
    scene.world.finalize(&scene.shop).await;
    for nonce in 1..=2 {
        assert!(scene.shop.sell(&escrow, nonce).await.won);
    }
    let refusal = scene.refused(scene.shop.ticket(&escrow, 3)).await;
    assert_eq!(
        refusal,
        Refusal::BalanceTooLow {
            balance: Amount(0),
            needed: Amount(PRIZE.0 * 3)
        }
    );
    assert_eq!(scene.world.settle(&scene.shop).await.paid, 2 * PRIZE.0);
    scene.accepts(1).await;
}

#[tokio::test]
async fn a_payer_that_owes_too_much_waits() {
    let mut setup = Setup::new(1).odds(Odds::Sure);
    setup.policy.exposure_cap = Some(2);
    let scene = Scene::with(setup).await;
    // The same payer's other escrow counts, too; another payer's does not.
    let sister = beside(&scene, 0, "sister", &terms(NATIVE, 100, 20)).await;
    let other = beside(&scene, 2, "other", &terms(NATIVE, 100, 20)).await;
    scene.accepts(1).await;
    assert!(scene.shop.sell(&sister, 1).await.won);
    let exposed = Refusal::ExposureTooHigh { wins: 3, cap: 2 };
    for escrow in [&scene.escrow, &sister] {
        assert_eq!(scene.refused(scene.shop.ticket(escrow, 2)).await, exposed);
    }
    assert!(scene.shop.sell(&other, 1).await.won);
    scene.world.settle(&scene.shop).await;
    scene.accepts(2).await;
    assert!(scene.shop.sell(&sister, 2).await.won);
}

#[tokio::test]
async fn an_escrow_on_its_way_out_is_refused_in_time() {
    let scene = Scene::new().await;
    let world = &scene.world;
    let leaving = beside(&scene, 2, "leaving", &terms(NATIVE, 100, 20)).await;
    let steps = world.steps(2);
    steps.request_withdraw(leaving.address()).await.unwrap();
    scene.shop.follow().await; // what is bad counts at once
    let withdraw_at = world
        .escrow(leaving.key.clone())
        .await
        .record
        .withdraw_at
        .unwrap();
    assert!(
        scene.shop.sell(&leaving, 1).await.won,
        "there are three days, and a ticket lives one at most"
    );
    assert_eq!(world.settle(&scene.shop).await.claimed, 1);

    world
        .forward(Seconds::DAY.times(2).0 + Seconds::HOUR.times(12).0)
        .await;
    scene.shop.follow().await;
    let ticket = scene.shop.ticket(&leaving, 2);
    let needed = ticket.expiry().plus(Policy::default().withdraw_margin);
    assert_eq!(
        scene.refused(ticket).await,
        Refusal::EscrowWithdrawing { withdraw_at, needed }
    );
    // The payer changes its mind, and the change is final.
    steps.cancel_withdraw(leaving.address()).await.unwrap();
    scene.shop.follow().await;
    assert_eq!(
        scene.refused(scene.shop.ticket(&leaving, 2)).await.rule(),
        "escrow-withdrawing"
    );
    world.finalize(&scene.shop).await;
    assert!(scene.shop.sell(&leaving, 2).await.won);
    assert_eq!(world.settle(&scene.shop).await.claimed, 1);

    steps.request_withdraw(leaving.address()).await.unwrap();
    world.forward(merchant::ticket::WITHDRAW_DELAY.0).await;
    steps.withdraw(leaving.address()).await.unwrap();
    scene.shop.follow().await;
    let refusal = scene.refused(scene.shop.ticket(&leaving, 3)).await;
    assert_eq!(
        refusal.rule(),
        "escrow-withdrawing",
        "of the last final block, whose turn is first"
    );
    world.finalize(&scene.shop).await;
    let refusal = scene.refused(scene.shop.ticket(&leaving, 3)).await;
    assert_eq!(
        refusal,
        Refusal::EscrowNotOpen {
            status: Status::Closed
        }
    );
    scene.accepts(1).await;
}

#[tokio::test]
async fn an_insolvent_escrow_is_refused_from_the_moment_it_is_seen() {
    let scene = Scene::new().await;
    let world = &scene.world;
    let empty = beside(&scene, 2, "empty", &terms(NATIVE, 100, 1)).await;
    let (sybil, r1) = (world.sender(6), B256::repeat_byte(6));
    let expiry = world.clock.now().plus(Seconds::DAY);
    for nonce in 1..=2 {
        let winner = empty.sybil_winner(&world.domain, sybil.address(), r1, nonce, expiry);
        let call = TicketEscrow::claimCall {
            recipient: sybil.address(),
            escrow: empty.address(),
            r1,
            winner,
        };
        world.call(&sybil, call).await;
        scene.shop.follow().await;
        let refusal = scene.refused(scene.shop.ticket(&empty, 3)).await;
        match nonce {
            1 => assert_eq!(
                refusal,
                Refusal::BalanceTooLow {
                    balance: Amount(0),
                    needed: PRIZE
                }
            ),
            _ => assert_eq!(
                refusal,
                Refusal::EscrowNotOpen {
                    status: Status::Insolvent
                }
            ),
        }
    }
    // Cured and topped up, and all of it final, it is as good as any.
    let steps = world.steps(2);
    steps
        .cure(empty.address(), NATIVE, vec![sybil.address()], PRIZE)
        .await
        .unwrap();
    steps.top_up(empty.address(), NATIVE, PRIZE).await.unwrap();
    world.finalize(&scene.shop).await;
    assert!(scene.shop.sell(&empty, 3).await.won);
    scene.accepts(1).await;
}
