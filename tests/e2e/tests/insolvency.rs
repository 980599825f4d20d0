//! A payer that wins its own tickets against honest winners (M1-2): what it drains is its own, what it does not cure costs
//! its penalty, and an earmark is paid whatever it does.

use std::sync::Arc;

use alloy::primitives::{Address, B256, address};
use bindings::ticket::TicketEscrow;
use chain::Sender;
use micropay_e2e::{Escrow, NATIVE, Odds, PRIZE, Setup, Shop, World, terms};
use protocol::ticket::{Amount, Seconds, Status};
use storage::{MemoryStore, WinState};

const BURNED: Address = address!("000000000000000000000000000000000000dEaD");
const PAYER: usize = 0;
const R1: B256 = B256::repeat_byte(0x51);

struct Scene {
    world: World,
    escrow: Escrow,
    /// Has no earmark.
    honest: Arc<Shop<MemoryStore>>,
    /// Has one, of two prizes.
    earmarked: Arc<Shop<MemoryStore>>,
    sybil: Sender,
}

/// An escrow of five prizes, two of them earmarked; two merchants with two unclaimed winners each; and a payer that has
/// just won the three prizes of the shared balance from itself.
async fn drained(name: &str) -> Scene {
    let world = World::new().await;
    let escrow = world.open(PAYER, name, &terms(NATIVE, 100, 5)).await;
    let honest = world.shop(Setup::new(1).odds(Odds::Sure)).await;
    let earmarked = world.shop(Setup::new(2).odds(Odds::Sure)).await;
    let until = world.clock.now().plus(Seconds::DAY.times(30));
    world
        .steps(PAYER)
        .earmark(escrow.address(), earmarked.recipient(), 2, until)
        .await
        .unwrap();
    world.finalize(&honest).await;
    earmarked.follow().await;
    for nonce in [1, 3] {
        assert!(honest.sell(&escrow, nonce).await.won);
        assert!(earmarked.sell(&escrow, nonce + 1).await.won);
    }

    let sybil = world.sender(6);
    let expiry = world.clock.now().plus(Seconds::DAY);
    for nonce in 5..8 {
        let recipient = sybil.address();
        let winner = escrow.sybil_winner(&world.domain, recipient, R1, nonce, expiry);
        let call = TicketEscrow::claimCall {
            recipient,
            escrow: escrow.address(),
            r1: R1,
            winner,
        };
        world.call(&sybil, call).await;
    }
    assert_eq!(world.credit(NATIVE, sybil.address()).await, 3 * PRIZE.0);
    Scene {
        world,
        escrow,
        honest,
        earmarked,
        sybil,
    }
}

impl Scene {
    async fn record(&self) -> protocol::ticket::EscrowRecord {
        self.world.escrow(self.escrow.key.clone()).await.record
    }

    /// The honest merchant claims, and what it gets is a debt.
    async fn becomes_insolvent(&self) {
        let settled = self.world.settle(&self.honest).await;
        assert_eq!((settled.claimed, settled.skipped), (2, 0));
        assert_eq!((settled.paid, settled.owed), (0, 2 * PRIZE.0));
        for nonce in [1, 3] {
            let expected = WinState::Final {
                paid: Amount(0),
                owed: PRIZE,
            };
            assert_eq!(self.honest.state_of(nonce).await, expected);
        }
        let record = self.record().await;
        assert_eq!(
            (record.status, record.balance, record.debt.to::<u128>()),
            (Status::Insolvent, Amount(0), 2 * PRIZE.0)
        );
    }

    async fn pays_the_earmark(&self) {
        let settled = self.world.settle(&self.earmarked).await;
        assert_eq!((settled.claimed, settled.paid, settled.owed), (2, 2 * PRIZE.0, 0));
        assert_eq!(
            self.world.credit(NATIVE, self.earmarked.recipient()).await,
            2 * PRIZE.0
        );
    }

    /// All credit and what escrows hold is what the contract has.
    async fn is_conserved(&self) {
        let record = self.record().await;
        let mut sum = record.balance.0 + record.penalty.0 + record.earmarked.0;
        let accounts = [
            self.honest.recipient(),
            self.earmarked.recipient(),
            self.sybil.address(),
            BURNED,
        ];
        for account in accounts.into_iter().chain([self.world.sender(PAYER).address()]) {
            sum += self.world.credit(NATIVE, account).await;
        }
        assert_eq!(sum, self.world.balance(NATIVE, self.world.contract()).await);
    }
}

#[tokio::test]
async fn a_drained_escrow_owes_and_a_cure_pays_every_creditor() {
    let scene = drained("cure").await;
    scene.becomes_insolvent().await;
    scene.pays_the_earmark().await;
    scene.is_conserved().await;

    let creditors = vec![scene.honest.recipient(), scene.earmarked.recipient()];
    let debt = Amount(2 * PRIZE.0);
    let steps = scene.world.steps(PAYER);
    steps
        .cure(scene.escrow.address(), NATIVE, creditors.clone(), PRIZE)
        .await
        .unwrap_err();
    steps
        .cure(scene.escrow.address(), NATIVE, creditors, debt)
        .await
        .unwrap();
    assert_eq!(
        scene.world.credit(NATIVE, scene.honest.recipient()).await,
        2 * PRIZE.0
    );
    let record = scene.record().await;
    assert_eq!((record.status, record.debt.to::<u128>()), (Status::Open, 0));
    assert_eq!(record.penalty, scene.escrow.record.penalty);
    scene.is_conserved().await;
}

#[tokio::test]
async fn an_escrow_that_is_not_cured_is_burned_but_for_its_earmark() {
    let scene = drained("burn").await;
    scene.becomes_insolvent().await;
    let escrow = scene.escrow.address();
    let cure_by = scene.record().await.cure_by.unwrap();
    let anyone = scene.world.sender(7);
    let burn = || {
        anyone.send(
            scene.world.contract(),
            burn_call(escrow),
            alloy::primitives::U256::ZERO,
        )
    };
    assert_eq!(burn().await.unwrap_err().revert().unwrap().name, "BurnTooEarly");

    scene.pays_the_earmark().await;
    let now = scene.world.client.head().await.unwrap().timestamp;
    scene
        .world
        .anvil
        .increase_time(cure_by.0 - now.0 + 1)
        .await
        .unwrap();
    burn().await.unwrap();
    let record = scene.record().await;
    assert_eq!(
        (record.status, record.penalty, record.balance),
        (Status::Closed, Amount(0), Amount(0))
    );
    assert_eq!(
        scene.world.credit(NATIVE, BURNED).await,
        scene.escrow.record.penalty.0
    );
    let steps = scene.world.steps(PAYER);
    steps.request_withdraw(escrow).await.unwrap_err();
    steps
        .cure(
            escrow,
            NATIVE,
            vec![scene.honest.recipient()],
            Amount(2 * PRIZE.0),
        )
        .await
        .unwrap_err();
    assert_eq!(scene.world.credit(NATIVE, scene.honest.recipient()).await, 0);
    scene.is_conserved().await;
}

/// No merchant with our rules holds a ticket that outlives the cure period; one with laxer rules is paid all the same.
#[tokio::test]
async fn an_earmark_is_paid_even_after_the_burn() {
    let world = World::new().await;
    let escrow = world.open(PAYER, "afterlife", &terms(NATIVE, 100, 2)).await;
    let (merchant, sybil) = (world.sender(2), world.sender(6));
    let until = world.clock.now().plus(Seconds::DAY.times(30));
    world
        .steps(PAYER)
        .earmark(escrow.address(), merchant.address(), 1, until)
        .await
        .unwrap();
    let claim = |recipient: Address, nonce| {
        let expiry = world.clock.now().plus(Seconds::DAY.times(10));
        let winner = escrow.sybil_winner(&world.domain, recipient, R1, nonce, expiry);
        TicketEscrow::claimCall {
            recipient,
            escrow: escrow.address(),
            r1: R1,
            winner,
        }
    };
    world.call(&sybil, claim(sybil.address(), 1)).await;
    world.call(&sybil, claim(sybil.address(), 2)).await;
    assert_eq!(
        world.escrow(escrow.key.clone()).await.record.status,
        Status::Insolvent
    );
    world
        .anvil
        .increase_time(Seconds::DAY.times(3).0 + 60)
        .await
        .unwrap();
    world
        .call(
            &world.sender(7),
            TicketEscrow::burnCall {
                escrow: escrow.address(),
            },
        )
        .await;

    world.call(&merchant, claim(merchant.address(), 3)).await;
    assert_eq!(world.credit(NATIVE, merchant.address()).await, PRIZE.0);
    let record = world.escrow(escrow.key.clone()).await.record;
    assert_eq!((record.status, record.earmarked), (Status::Closed, Amount(0)));
}

fn burn_call(escrow: Address) -> alloy::primitives::Bytes {
    use alloy::sol_types::SolCall;
    TicketEscrow::burnCall { escrow }.abi_encode().into()
}
