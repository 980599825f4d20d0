//! How much one address, one payer, and all together may ask for.

use std::num::NonZeroU32;
use std::time::Duration;

use futures::future::join_all;
use micropay_gateway::server::{GateConfig, RateLimits};
use micropay_gateway::wire::PAYMENT_SIGNATURE;
use serde_json::json;

use super::shop::{Setup, Shop, encode, get, key, payment_json, until};

fn rates(per_ip: u32, per_payer: u32) -> Setup {
    Setup {
        rates: RateLimits {
            per_ip: NonZeroU32::new(per_ip),
            per_payer: NonZeroU32::new(per_payer),
        },
        ..Setup::default()
    }
}

#[tokio::test]
async fn an_address_has_a_share_of_everything() {
    let shop = Shop::with(rates(1, 0)).await;
    let mut answered = 0;
    for path in ["/a", "/free/a", "/openapi.json"].iter().cycle().take(30) {
        let answer = shop.send(get(path)).await;
        if answer.status == 429 {
            answer.is(429, "too-many-requests");
            assert_eq!(answer.header("retry-after"), "1");
        } else {
            answered += 1;
        }
    }
    assert!((10..=12).contains(&answered), "{answered}");
}

/// A proxy may add its line below what the client sent.
#[tokio::test]
async fn attack_a_forged_line_of_addresses_is_no_other_client() {
    let gate = GateConfig {
        behind_proxy: true,
        ..Setup::default().gate
    };
    let shop = Shop::with(Setup { gate, ..rates(1, 0) }).await;
    let mut refused = 0;
    for n in 0..40 {
        let forged = get("/free/a").header("x-forwarded-for", format!("10.0.0.{n}"));
        let answer = shop.send(forged.header("x-forwarded-for", "192.0.2.1")).await;
        refused += usize::from(answer.status == 429);
    }
    assert!(refused >= 28, "{refused}");
}

#[tokio::test]
async fn a_payer_has_a_share_and_no_ticket_beyond_it_is_consumed_or_drawn() {
    let shop = Shop::with(rates(0, 1)).await;
    for _ in 0..10 {
        shop.pay("/a", &shop.ticket()).await.sold("good of /a");
    }
    let before = shop.wins().await.len();
    let late = shop.ticket_that(true);
    shop.pay("/a", &late).await.is(429, "too-many-requests");
    assert_eq!(shop.wins().await.len(), before);
    // Another payer has its own.
    shop.pay("/a", &shop.ticket_of(1, 1)).await.sold("good of /a");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    shop.pay("/b", &late).await.sold("good of /b");
}

#[tokio::test]
async fn attack_forged_tickets_do_not_use_up_a_payer_s_share() {
    let shop = Shop::with(rates(0, 1)).await;
    for nonce in 100..130 {
        let mut json = payment_json(&shop.ticket_for(&shop.quote(0), 1, nonce));
        json["payload"]["escrow"] = json!(key(0).address());
        let forged = get("/a").header(PAYMENT_SIGNATURE, encode(&json));
        shop.send(forged).await.is(402, "wrong-signer");
    }
    shop.pay("/a", &shop.ticket()).await.sold("good of /a");
}

/// Each leaves its call to the upstream, which goes on without it.
#[tokio::test]
async fn attack_payers_that_leave_cannot_pile_up_calls_without_end() {
    let gate = GateConfig {
        calls: 5,
        ..Setup::default().gate
    };
    let shop = Shop::with(Setup {
        gate,
        ..Setup::default()
    })
    .await;
    let impatient = || async {
        let ticket = shop.ticket();
        let call = shop.pay("/hang", &ticket);
        let _ = tokio::time::timeout(Duration::from_millis(200), call).await;
    };
    join_all((0..20).map(|_| impatient())).await;
    assert_eq!(shop.upstream.under_way(), 5);
    let ticket = shop.ticket();
    shop.pay("/a", &ticket).await.is(503, "too-many-calls");
    assert_eq!(
        shop.send(get("/free/a")).await.status,
        200,
        "what is free goes on"
    );
    until(async || shop.upstream.under_way() == 0).await;
    until(async || shop.pay("/a", &ticket).await.status == 200).await;
}
