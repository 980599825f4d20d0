//! Connections that break, gateways that are busy, upstreams that fail: the same call is never paid twice.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use micropay_gateway::client::{ClientError, Paid};
use micropay_gateway::wire::Advice;
use payer::ticket::{Limits, PayError};
use storage::{OrderState, OrderStore};

use crate::seller::{
    Answer, Seller, client, client_on, escrow_key, paid, problem, set, signed, store, ticket_of,
};

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_ticket() {
    let (seller, store) = (Seller::start().await, store());
    let mut losses = 2;
    seller.script(move |_, seen| {
        let lose = seen.payment.is_some() && losses > 0;
        losses -= i32::from(lose);
        lose.then_some(Answer::Lose)
    });
    let client = client_on(store.clone(), Limits::default()).build().unwrap();
    let answer = client.post(seller.url("/a")).body("once").send().await.unwrap();
    assert_eq!(paid(&answer).requests, 4);
    let tickets = seller.tickets();
    assert_eq!(tickets, [ticket_of(&answer); 3]);
    assert_eq!((signed(&store).await, seller.sold()), (1, 1));
}

#[tokio::test]
async fn a_call_that_got_no_answer_goes_on_under_its_name() {
    let (seller, store) = (Seller::start().await, store());
    seller.script(|_, seen| seen.payment.is_some().then_some(Answer::Lose));
    let client = client_on(store.clone(), Limits::default()).build().unwrap();
    let url = seller.url("/a?token=secret");
    let error = client.get(&url).send().await.unwrap_err();
    let Some(ClientError::NoAnswer { key, .. }) = ClientError::of(&error) else {
        panic!("{error}");
    };
    assert!(!error.to_string().contains("secret"), "{error}");
    let tried = seller.tickets().len();
    assert!((2..=8).contains(&tried), "{tried} attempts");
    seller.script(|_, _| None);
    let answer = client
        .get(&url)
        .header("Idempotency-Key", key)
        .send()
        .await
        .unwrap();
    assert_eq!(ticket_of(&answer), seller.tickets()[0]);
    assert_eq!((signed(&store).await, seller.sold()), (1, 1));
}

#[tokio::test]
async fn a_busy_gateway_is_waited_for_as_long_as_it_says() {
    let (seller, client) = (Seller::start().await, client());
    let mut refusals = vec![
        (503, "cannot-accept-now"),
        (429, "too-many"),
        (409, "in-progress"),
    ];
    seller.script(move |_, seen| {
        seen.payment.as_ref()?;
        let (status, rule) = refusals.pop()?;
        let mut response = problem(status, rule, Advice::Retry);
        if status == 429 {
            set(&mut response, RETRY_AFTER, "1");
        }
        Some(response.into())
    });
    let began = Instant::now();
    let answer = client.post(seller.url("/a")).send().await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(seller.tickets(), [ticket_of(&answer); 4]);
}

#[tokio::test]
async fn an_upstream_that_may_have_begun_is_asked_again_only_where_http_allows() {
    for (method, sent) in [("GET", 5), ("POST", 1)] {
        let (seller, client) = (Seller::start().await, client());
        seller.script(|_, seen| {
            seen.payment.as_ref()?;
            Some(problem(504, "upstream-timeout", Advice::Retry).into())
        });
        let request = client.request(method.parse().unwrap(), seller.url("/a"));
        let error = request.send().await.unwrap_err();
        let error = ClientError::of(&error).unwrap();
        assert!(error.retry() && error.key().is_some());
        assert_eq!(seller.tickets().len(), sent, "{method}");
        assert_eq!(seller.sold(), 0);
    }
}

/// The upstream's own error is the caller's to see, and was not charged for.
#[tokio::test]
async fn an_upstream_s_own_failure_passes_through_uncharged() {
    let (seller, store) = (Seller::start().await, store());
    let client = client_on(store.clone(), Limits::default()).build().unwrap();
    for (status, kind) in [
        (500, "text/plain"),
        (502, "application/problem+json"),
        (404, "text/html"),
    ] {
        seller.script(move |_, seen| {
            seen.payment.as_ref()?;
            let mut response = Response::new(Body::from("{\"title\": \"not ours\"}"));
            *response.status_mut() = status.try_into().unwrap();
            set(&mut response, CONTENT_TYPE, kind);
            Some(response.into())
        });
        let answer = client.get(seller.url("/a")).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.url().path()), (status, "/a"));
        assert!(answer.extensions().get::<Paid>().is_none());
        assert_eq!(answer.headers()[CONTENT_TYPE], kind);
        assert_eq!(answer.text().await.unwrap(), "{\"title\": \"not ours\"}");
    }
    let totals = store.order_totals(None).await.unwrap();
    assert_eq!((totals.sent.count, totals.delivered.count), (3, 0));
}

#[tokio::test]
async fn an_answer_that_is_no_longer_kept_is_not_paid_for_again() {
    let (seller, store) = (Seller::start().await, store());
    let client = client_on(store.clone(), Limits::default()).build().unwrap();
    seller.script(|_, seen| {
        seen.payment.as_ref()?;
        Some(problem(410, "answer-not-kept", Advice::Stop).into())
    });
    for _ in 0..2 {
        let request = client.get(seller.url("/a")).header("Idempotency-Key", "once");
        let error = request.send().await.unwrap_err();
        let error = ClientError::of(&error).unwrap();
        assert!(
            matches!(
                error,
                ClientError::Pay {
                    cause: PayError::Taken { .. },
                    ..
                }
            ),
            "{error}"
        );
        assert!(!error.retry());
    }
    let orders = store.orders(escrow_key().address()).await.unwrap();
    assert_eq!(orders.len(), 1);
    assert_eq!(orders[0].state, OrderState::Delivered);
}

#[tokio::test]
async fn a_caller_s_time_limit_is_kept() {
    let (seller, store) = (Seller::start().await, store());
    let client = client_on(store.clone(), Limits::default()).build().unwrap();
    client.get(seller.url("/a")).send().await.unwrap();
    seller.script(|_, _| {
        std::thread::sleep(Duration::from_millis(400));
        None
    });
    let request = client.get(seller.url("/a")).timeout(Duration::from_millis(100));
    let error = request.send().await.unwrap_err();
    assert!(
        matches!(ClientError::of(&error), Some(ClientError::NoAnswer { cause, .. }) if cause.is_timeout()),
        "{error}"
    );
    assert_eq!(signed(&store).await, 2);
}
