//! Time is for windows, never for order: exact boundaries, and clocks that are wrong by up to an hour.

use protocol::offline::{Amount, PayError, Refusal, Seconds};
use storage::MemoryStore;
use storage::offline::EventKind;
use wallet::DeviceError;

use crate::world::{ETHER, Home, Kind, START, config, list, sent, set_clock};

/// ε of the default policies.
const SKEW: i64 = 120;
/// ε + Δ of the default policies.
const WINDOW: i64 = 120 + 30;
/// 2Δ + ε.
const TIMEOUT: i64 = 2 * 30 + 120;
const DAY: i64 = 86_400;

fn pay_error(error: &DeviceError) -> &PayError {
    match error {
        DeviceError::Pay(error) => error,
        other => panic!("{other}"),
    }
}

fn refusal(error: &DeviceError) -> &Refusal {
    match error {
        DeviceError::Refused(error) => error,
        other => panic!("{other}"),
    }
}

/// The payer's clock against the invoice's, from one hour behind to one hour ahead.
#[tokio::test]
async fn clock_boundaries_of_an_invoice() {
    let payer_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let payee_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let (mut payer, mut payee) = (payer_home.start().await, payee_home.start().await);
    let sweep = (-60..=60).map(|minutes| 60 * minutes);
    let edges = [-SKEW - 1, -SKEW, -SKEW + 1, 0, WINDOW - 1, WINDOW, WINDOW + 1];
    for skew in sweep.chain(edges) {
        payer.import(&payer_home.coin(10)).await.unwrap();
        set_clock(0);
        let invoice = sent(&payee.invoice(ETHER, Amount(10)).await.unwrap());
        set_clock(skew);
        let paid = payer.pay(&invoice).await;
        // Behind by more than ε, an invoice is from the future; ahead by more than ε + Δ, it is stale.
        assert_eq!(paid.is_ok(), (-SKEW..=WINDOW).contains(&skew), "skew {skew}");
        match &paid {
            Ok(payment) => {
                // By the payee's clock it comes at once, or much later: it was made in time, and is taken.
                set_clock(if skew % 120 == 0 { 0 } else { 3600 });
                payee.receive(&payment.path).await.unwrap();
            }
            Err(error) if skew > 0 => {
                assert!(
                    matches!(pay_error(error), PayError::InvoiceStale { .. }),
                    "{error}"
                );
            }
            Err(error) => {
                assert!(
                    matches!(pay_error(error), PayError::InvoiceFromFuture { .. }),
                    "{error}"
                );
            }
        }
    }
    set_clock(0);
    payer.check().await.unwrap();
}

/// A payment that comes after the timeout is taken and marked; one that comes after its window, too, since it was made in
/// time.
#[tokio::test]
async fn clock_boundaries_of_a_late_payment() {
    let payer_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let payee_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let (mut payer, mut payee) = (payer_home.start().await, payee_home.start().await);
    for (delay, kind) in [
        (TIMEOUT, EventKind::Received),
        (TIMEOUT + 1, EventKind::ReceivedLate),
        (5 * DAY, EventKind::ReceivedLate),
    ] {
        set_clock(0);
        payer.import(&payer_home.coin(10)).await.unwrap();
        let invoice = payee.invoice(ETHER, Amount(10)).await.unwrap();
        let payment = payer.pay(&invoice).await.unwrap();
        set_clock(delay);
        let acceptance = payee.receive(&payment.path).await.unwrap();
        let history = payee.history(None, 1).await.unwrap();
        assert_eq!(history[0].event.kind, kind, "delay {delay}");
        // The clock moves on, and back: the answer does not.
        for later in [delay + 7, -3600] {
            set_clock(later);
            assert_eq!(payee.receive(&payment.path).await.unwrap(), acceptance);
        }
    }
}

/// An invoice that was rejected: the payer that only reserved is free, the one that committed is taken, late.
#[tokio::test]
async fn rejection_frees_who_has_not_committed() {
    let payer_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let payee_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let (mut payer, mut payee) = (payer_home.start().await, payee_home.start().await);
    payer.import(&payer_home.coin(10)).await.unwrap();
    let invoice = payee.invoice(ETHER, Amount(7)).await.unwrap();
    let digest = config().domain.invoice_digest(&invoice.invoice);
    let before = payer.wallet().await.unwrap();
    payer.reserve(&invoice).await.unwrap();
    let rejection = payee.reject(digest).await.unwrap();
    set_clock(5);
    assert_eq!(payee.reject(digest).await.unwrap(), rejection, "asked again");
    payer.rejected(&rejection).await.unwrap();
    assert_eq!(payer.wallet().await.unwrap(), before, "to the bit");
    let error = payer.rejected(&rejection).await.unwrap_err();
    assert!(
        matches!(error, DeviceError::NothingReserved { state: "idle" }),
        "{error}"
    );
    // The rejection came too late.
    let payment = payer.pay(&invoice).await.unwrap();
    payer.rejected(&rejection).await.unwrap_err();
    payee.receive(&payment.path).await.unwrap();
    let history = payee.history(None, 9).await.unwrap();
    let kinds: Vec<_> = history.iter().map(|line| line.event.kind).collect();
    assert_eq!(kinds, [EventKind::ReceivedLate, EventKind::Rejected]);
    let error = payee.reject(digest).await.unwrap_err();
    assert!(matches!(error, DeviceError::PaidAlready { .. }), "{error}");
}

/// What must be left until the coin's end, how old a list may be, and how long a registration lasts: to the second.
#[tokio::test]
async fn clock_boundaries_of_lists_coins_and_registrations() {
    let payer_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let payee_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let (mut payer, mut payee) = (payer_home.start().await, payee_home.start().await);
    let end = 60 * DAY;
    for _ in 0..4 {
        payer.import(&payer_home.coin(10)).await.unwrap();
    }
    // Lists of seven days.
    set_clock(7 * DAY);
    let invoice = payee.invoice(ETHER, Amount(10)).await.unwrap();
    let payment = payer.pay(&invoice).await.unwrap();
    set_clock(7 * DAY + 1);
    let error = payee.receive(&payment.path).await.unwrap_err();
    assert!(matches!(refusal(&error), Refusal::ListTooOld { .. }), "{error}");
    set_clock(7 * DAY);
    payee.receive(&payment.path).await.unwrap();
    // A list from the future is not taken, to the second.
    let now = START.plus(Seconds(7 * DAY as u64));
    let error = payee
        .take_revocations(list(now.plus(Seconds(121)), &[]))
        .await
        .unwrap_err();
    assert!(matches!(error, DeviceError::ListFromFuture { .. }), "{error}");
    assert!(
        payee
            .take_revocations(list(now.plus(Seconds(120)), &[]))
            .await
            .unwrap()
    );
    // One day must be left of the coin; the payer sees to it that it is left when the payment comes.
    set_clock(end - DAY - WINDOW);
    payee
        .take_revocations(list(START.plus(Seconds((end - DAY - WINDOW) as u64)), &[]))
        .await
        .unwrap();
    let invoice = payee.invoice(ETHER, Amount(10)).await.unwrap();
    let payment = payer.pay(&invoice).await.unwrap();
    set_clock(end - DAY + 1);
    let error = payee.receive(&payment.path).await.unwrap_err();
    assert!(
        matches!(refusal(&error), Refusal::SettleTooSoon { .. }),
        "{error}"
    );
    set_clock(end - DAY);
    payee.receive(&payment.path).await.unwrap();
    set_clock(end - DAY - WINDOW + 1);
    let invoice = payee.invoice(ETHER, Amount(10)).await.unwrap();
    let error = payer.pay(&invoice).await.unwrap_err();
    assert!(matches!(pay_error(&error), PayError::NoInput { .. }), "{error}");
    // It may leave at any time, also when the wallet is registered no more; it may not pay then.
    let holdings = payer.wallet().await.unwrap().holdings;
    let inputs: Vec<_> = holdings
        .iter()
        .map(|holding| holding.fragment(payer.domain()).id)
        .collect();
    set_clock(end);
    payer.exit(inputs[0]).await.unwrap();
    set_clock(end + 1);
    payer.exit(inputs[1]).await.unwrap();
    let invoice = payee.invoice(ETHER, Amount(10)).await.unwrap();
    let error = payer.pay(&invoice).await.unwrap_err();
    assert!(
        matches!(pay_error(&error), PayError::RegistrationExpired { .. }),
        "{error}"
    );
}

/// What was reserved and paid too late is refused before it is chosen: nobody would take it.
#[tokio::test]
async fn reserved_invoice_becomes_stale() {
    let payer_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let payee_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let (mut payer, mut payee) = (payer_home.start().await, payee_home.start().await);
    payer.import(&payer_home.coin(10)).await.unwrap();
    let invoice = payee.invoice(ETHER, Amount(10)).await.unwrap();
    payer.reserve(&invoice).await.unwrap();
    set_clock(WINDOW + 1);
    let error = payer.pay(&invoice).await.unwrap_err();
    assert!(
        matches!(pay_error(&error), PayError::InvoiceStale { .. }),
        "{error}"
    );
    set_clock(WINDOW);
    payer.pay(&invoice).await.unwrap();
}
