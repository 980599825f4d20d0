//! An invoice says whose wallets may pay it: what would be refused is not committed.

use alloy_primitives::Address;
use protocol::offline::{Amount, Domain, PayError, Refusal, Seconds, SignedInvoice};
use storage::MemoryStore;
use wallet::{Config, DeviceError};

use crate::world::{
    DEV_CLASS, ETHER, Home, Kind, START, Wallet, config, domain, hand_over, held, list, registrar, sent,
};

fn only(take: impl Fn(&protocol::offline::AcceptedClass) -> bool) -> Config {
    let mut config = config();
    config.payee.classes.retain(take);
    config
}

fn pay_error(error: DeviceError) -> PayError {
    match error {
        DeviceError::Pay(error) => *error,
        other => panic!("{other}"),
    }
}

fn refusal(error: DeviceError) -> Refusal {
    match error {
        DeviceError::Refused(error) => *error,
        other => panic!("{other}"),
    }
}

/// A wallet of a class that the payee does not take keeps its money, and pays somebody else with it.
#[tokio::test]
async fn a_payer_that_is_not_taken_does_not_pay() {
    let payer_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let payee_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let mut payer = payer_home.start().await;
    payer.import(&payer_home.coin(10)).await.unwrap();
    let mut payee: Wallet<MemoryStore> = payee_home
        .start_with(only(|class| class.class != DEV_CLASS))
        .await;
    let invoice = sent(&payee.invoice(ETHER, Amount(4)).await.unwrap());
    let before = payer.wallet().await.unwrap();
    for _ in 0..2 {
        let error = payer.pay(&invoice).await.unwrap_err();
        let refused = PayError::ClassNotTaken {
            registrar: registrar().address(),
            class: DEV_CLASS,
            payee: payee_home.id(),
            accepted: 1,
        };
        assert_eq!(pay_error(error), refused);
    }
    assert_eq!(payer.wallet().await.unwrap(), before);
    drop(payee);
    let mut other = payee_home.start().await;
    hand_over(&mut payer, &mut other, 4).await;
    assert_eq!(held(&mut payer).await, 6);
}

/// Money that came through the hands of a class that the payee does not take is not offered to it.
#[tokio::test]
async fn an_input_that_is_not_taken_is_not_chosen() {
    let Some(tpm_home) = Home::<MemoryStore>::in_memory(Kind::Tpm).await else {
        return;
    };
    let payer_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let payee_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let (mut tpm, mut payer) = (tpm_home.start().await, payer_home.start().await);
    tpm.import(&tpm_home.coin(20)).await.unwrap();
    payer.import(&payer_home.coin(10)).await.unwrap();
    hand_over(&mut tpm, &mut payer, 20).await;
    let mut payee: Wallet<MemoryStore> = payee_home
        .start_with(only(|class| class.class == DEV_CLASS))
        .await;
    let invoice = sent(&payee.invoice(ETHER, Amount(15)).await.unwrap());
    let error = pay_error(payer.pay(&invoice).await.unwrap_err());
    let (needed, largest) = (Amount(15), Amount(10));
    assert_eq!(error, PayError::NoInput { needed, largest });
    hand_over(&mut payer, &mut payee, 10).await;
    hand_over(&mut payer, &mut tpm, 15).await;
}

/// Who takes nobody's money, or no more of it, does not ask for it.
#[tokio::test]
async fn an_invoice_that_nobody_may_pay_is_not_made() {
    let home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let mut payee = home.start().await;
    let token = Address::repeat_byte(7);
    let error = refusal(payee.invoice(token, Amount(1)).await.unwrap_err());
    let classes = config().payee.classes.len();
    assert_eq!(
        error,
        Refusal::NoClassAccepted {
            asset: token,
            classes
        }
    );
    let limit = config().payee.classes[0].accept_limit;
    let above = Amount(limit.0 + 1);
    let error = refusal(payee.invoice(ETHER, above).await.unwrap_err());
    let held = Amount::ZERO;
    assert_eq!(
        error,
        Refusal::AboveAcceptLimit {
            got: above,
            held,
            limit
        }
    );
    payee.invoice(ETHER, limit).await.unwrap();
}

/// Whoever carries an invoice cannot make the payee look more generous, or less.
#[tokio::test]
async fn attack_changed_terms() {
    let payer_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let payee_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let mut payer = payer_home.start().await;
    payer.import(&payer_home.coin(10)).await.unwrap();
    let mut payee = payee_home.start().await;
    let invoice = payee.invoice(ETHER, Amount(4)).await.unwrap();
    let changes: [fn(&mut SignedInvoice); 3] = [
        |invoice| invoice.terms.classes.truncate(1),
        |invoice| invoice.terms.classes.push((Address::ZERO, DEV_CLASS)),
        |invoice| invoice.terms.salt.0[0] ^= 1,
    ];
    for change in changes {
        let mut changed = invoice.clone();
        change(&mut changed);
        let error = pay_error(payer.pay(&sent(&changed)).await.unwrap_err());
        assert!(matches!(error, PayError::InvoiceSignature { .. }), "{error}");
        // Not as bytes either, where the nonce is not that of the terms.
        let error = pay_error(payer.pay(&changed).await.unwrap_err());
        assert!(matches!(error, PayError::InvoiceSignature { .. }), "{error}");
    }
    let domain: Domain = domain();
    assert_eq!(
        SignedInvoice::decode(&domain, &invoice.encode(&domain)).unwrap(),
        invoice
    );
    payer.pay(&sent(&invoice)).await.unwrap();
}

/// A wallet that knows that it is stopped pays nobody: the payment would be void, and with it the change that it keeps. What it
/// holds it leaves with.
#[tokio::test]
async fn a_wallet_that_is_stopped_leaves_and_does_not_pay() {
    let payer_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let payee_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let (mut payer, mut payee) = (payer_home.start().await, payee_home.start().await);
    payer.import(&payer_home.coin(10)).await.unwrap();
    let invoice = sent(&payee.invoice(ETHER, Amount(4)).await.unwrap());
    let before = payer.wallet().await.unwrap();
    let later = START.plus(Seconds(60));
    assert!(
        payer
            .take_revocations(list(later, &[(payer_home.id(), START)]))
            .await
            .unwrap()
    );
    let error = pay_error(payer.pay(&invoice).await.unwrap_err());
    assert_eq!(error.rule(), "stopped", "{error}");
    assert_eq!(payer.wallet().await.unwrap(), before);
    let input = before.holdings[0].fragment(&domain()).id;
    payer.exit(input).await.unwrap();
}
