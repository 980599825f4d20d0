//! Kill -9 at every effect of payer and payee, and every message lost once: never do both hold the money, never do both lose
//! it, nothing is signed or logged twice, and what is sent again is the same.

use protocol::offline::{Amount, Path, SignedAcceptance, SignedInvoice};
use storage::MemoryStore;
use wallet::{Payment, Resumed, Store};

use crate::faults::Burn;
use crate::world::{ETHER, Home, Kind, Wallet, domain, held, sent, sent_back, sent_path};

const COIN: u128 = 10;
const PRICE: u128 = 7;

/// More effects than any step has.
const ENOUGH: u32 = 12;

/// Pays, with a kill at effect `at`; whoever was killed starts again and goes on from what it finds.
async fn pay_killed<S: Store + Clone>(
    home: &Home<S>,
    device: &mut Option<Wallet<S>>,
    invoice: &SignedInvoice,
    (at, burn): (u32, Burn),
) -> (Payment, bool) {
    home.fuse.set(at, burn);
    if let Ok(payment) = device.as_mut().unwrap().pay(invoice).await {
        return (payment, false);
    }
    assert!(home.fuse.is_dead(), "failed alive");
    drop(device.take());
    let device = device.insert(home.start().await);
    let payment = match device.resume().await.unwrap() {
        Resumed::Released(payment) => *payment,
        Resumed::Reserved(reserved) => {
            assert_eq!(*reserved, *invoice);
            // Nothing has happened: half of them change their mind first.
            if burn == Burn::Before {
                device.abort().await.unwrap();
            }
            device.pay(invoice).await.unwrap()
        }
        Resumed::Idle => device.pay(invoice).await.unwrap(),
    };
    (payment, true)
}

async fn receive_killed<S: Store + Clone>(
    home: &Home<S>,
    device: &mut Option<Wallet<S>>,
    payment: &Path,
    (at, burn): (u32, Burn),
) -> (SignedAcceptance, bool) {
    home.fuse.set(at, burn);
    if let Ok(acceptance) = device.as_mut().unwrap().receive(payment).await {
        return (acceptance, false);
    }
    assert!(home.fuse.is_dead(), "failed alive");
    drop(device.take());
    let device = device.insert(home.start().await);
    (device.receive(payment).await.unwrap(), true)
}

async fn accepted_killed<S: Store + Clone>(
    home: &Home<S>,
    device: &mut Option<Wallet<S>>,
    acceptance: &SignedAcceptance,
    (at, burn): (u32, Burn),
) -> bool {
    home.fuse.set(at, burn);
    if device.as_mut().unwrap().accepted(acceptance).await.is_ok() {
        return false;
    }
    drop(device.take());
    let device = device.insert(home.start().await);
    device.accepted(acceptance).await.unwrap();
    true
}

/// One payment with kills at these effects. True, if any of them fell into it.
async fn round<S: Store + Clone>(
    (payer_home, payer): (&Home<S>, &mut Option<Wallet<S>>),
    (payee_home, payee): (&Home<S>, &mut Option<Wallet<S>>),
    kills: [(u32, Burn); 3],
) -> [bool; 3] {
    let coin = payer_home.coin(COIN);
    payer_home.fuse.mend();
    payee_home.fuse.mend();
    payer.as_mut().unwrap().import(&coin).await.unwrap();
    let (had, had_not) = (
        held(payer.as_mut().unwrap()).await,
        held(payee.as_mut().unwrap()).await,
    );
    let asked = payee
        .as_mut()
        .unwrap()
        .invoice(ETHER, Amount(PRICE))
        .await
        .unwrap();
    let asked = sent(&asked);

    let (payment, killed_payer) = pay_killed(payer_home, payer, &asked, kills[0]).await;
    payer_home.fuse.mend();
    // Whatever comes, the payer has it no more, and gives the same again.
    assert_eq!(held(payer.as_mut().unwrap()).await, had - PRICE);
    assert_eq!(payer.as_mut().unwrap().pay(&asked).await.unwrap(), payment);
    let outstanding = payer.as_mut().unwrap().outstanding().await.unwrap();
    assert_eq!(outstanding, std::slice::from_ref(&payment));

    // The payment is lost, and sent again.
    assert_eq!(held(payee.as_mut().unwrap()).await, had_not);
    let message = sent_path(&outstanding[0].path);
    let (acceptance, killed_payee) = receive_killed(payee_home, payee, &message, kills[1]).await;
    payee_home.fuse.mend();
    assert_eq!(held(payee.as_mut().unwrap()).await, had_not + PRICE);

    // The acceptance is lost: the payment comes again, and gets the same answer.
    let again = payee.as_mut().unwrap().receive(&message).await.unwrap();
    assert_eq!(again, acceptance);
    assert_eq!(held(payee.as_mut().unwrap()).await, had_not + PRICE);
    let answer = sent_back(&again);
    let killed_accept = accepted_killed(payer_home, payer, &answer, kills[2]).await;
    payer_home.fuse.mend();
    assert!(!payer.as_mut().unwrap().accepted(&answer).await.unwrap(), "known");
    assert_eq!(payer.as_mut().unwrap().outstanding().await.unwrap(), []);

    let (pays, gets) = (
        held(payer.as_mut().unwrap()).await,
        held(payee.as_mut().unwrap()).await,
    );
    assert_eq!(pays + gets, had + had_not, "conserved");
    payer_home.fuse.assert_nothing_twice();
    payer.as_mut().unwrap().check().await.unwrap();
    assert_eq!(payment.invoice, Some(domain().invoice_digest(&asked.invoice)));
    [killed_payer, killed_payee, killed_accept]
}

async fn every_point<S: Store + Clone>(payer_home: &Home<S>, payee_home: &Home<S>) -> u32 {
    let (mut payer, mut payee) = (Some(payer_home.start().await), Some(payee_home.start().await));
    let mut positions = 0;
    let burns = [Burn::Before, Burn::After];
    for payer_burn in burns {
        for at in 0..ENOUGH {
            let mut any_payer = false;
            for payee_burn in burns {
                for payee_at in 0..ENOUGH {
                    let kills = [(at, payer_burn), (payee_at, payee_burn), (payee_at, payer_burn)];
                    let killed = round((payer_home, &mut payer), (payee_home, &mut payee), kills).await;
                    any_payer |= killed[0];
                    positions += 1;
                    if !killed[1] {
                        break;
                    }
                }
            }
            if !any_payer {
                assert!(at > 2, "a payment has more effects than {at}");
                break;
            }
        }
    }
    positions
}

#[tokio::test]
async fn message_loss_and_kill_at_every_point() {
    let payer = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let payee = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let positions = every_point(&payer, &payee).await;
    println!("{positions} pairs of positions, software");
    assert!(positions >= 60, "{positions}");
}

#[tokio::test]
async fn message_loss_and_kill_at_every_point_on_software_tpms() {
    let Some(payer) = Home::<MemoryStore>::in_memory(Kind::Tpm).await else {
        return;
    };
    let Some(payee) = Home::<MemoryStore>::in_memory(Kind::Tpm).await else {
        return;
    };
    let positions = every_point(&payer, &payee).await;
    println!("{positions} pairs of positions, swtpm");
    assert!(positions >= 70, "{positions}");
    assert_eq!(payer.fuse.logged().len() as u32, positions, "one entry a payment");
}

/// The same on files, at each effect of the payer and of the payee, not in pairs.
#[tokio::test]
async fn message_loss_and_kill_at_every_point_on_disk() {
    let payer_home = Home::on_disk(Kind::Software).await.unwrap();
    let payee_home = Home::on_disk(Kind::Software).await.unwrap();
    let (mut payer, mut payee) = (Some(payer_home.start().await), Some(payee_home.start().await));
    for burn in [Burn::Before, Burn::After] {
        for at in 0..ENOUGH {
            let kill = (at, burn);
            let killed = round(
                (&payer_home, &mut payer),
                (&payee_home, &mut payee),
                [kill, kill, kill],
            )
            .await;
            if killed == [false; 3] {
                break;
            }
        }
    }
}

/// An exit that was killed is the same exit.
#[tokio::test]
async fn exit_killed_at_every_point() {
    let home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    for burn in [Burn::Before, Burn::After] {
        for at in 0..ENOUGH {
            let mut device = home.start().await;
            let coin = home.coin(COIN);
            device.import(&coin).await.unwrap();
            let input = domain().coin_id(&coin.coin).into();
            home.fuse.set(at, burn);
            let done = device.exit(input).await;
            drop(device);
            let mut device = home.start().await;
            let exit = match device.resume().await.unwrap() {
                Resumed::Released(exit) => *exit,
                Resumed::Idle => device.exit(input).await.unwrap(),
                Resumed::Reserved(_) => panic!("exits are not reserved"),
            };
            assert_eq!(device.exit(input).await.unwrap(), exit);
            assert_eq!(held(&mut device).await, 0);
            home.fuse.assert_nothing_twice();
            if let Ok(done) = done {
                assert_eq!(done, exit);
                break;
            }
        }
    }
}
