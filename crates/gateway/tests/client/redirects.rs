//! A payment goes to the origin whose terms it answers, and nowhere else.

use axum::body::Body;
use axum::response::Response;
use http::header::{AUTHORIZATION, LOCATION};
use micropay_gateway::client::ClientError;
use payer::ticket::Limits;

use crate::seller::{Seller, client, client_on, paid, set, signed, store};

fn redirect(status: u16, to: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status.try_into().unwrap();
    set(&mut response, LOCATION, to);
    response
}

#[tokio::test]
async fn another_origin_gets_no_payment() {
    let (seller, thief, store) = (Seller::start().await, Seller::start().await, store());
    let to = thief.url("/taken");
    // Terms are known, so that the payment is on the request that is redirected.
    let client = client_on(store.clone(), Limits::default()).build().unwrap();
    client.get(seller.url("/a")).send().await.unwrap();
    for status in [301, 302, 303, 307, 308] {
        let to = to.clone();
        seller.script(move |_, _| Some(redirect(status, &to).into()));
        let request = client
            .get(seller.url("/a"))
            .header(AUTHORIZATION, "Bearer of-the-seller");
        let error = request.send().await.unwrap_err();
        assert!(
            matches!(ClientError::of(&error), Some(ClientError::OtherOrigin { .. })),
            "{error}"
        );
    }
    assert_eq!(thief.seen().len(), 5);
    assert!(thief.tickets().is_empty());
    assert!(
        thief
            .seen()
            .iter()
            .all(|seen| !seen.headers.contains_key(AUTHORIZATION))
    );
    // What is free there is had.
    thief.set_free("/taken");
    let answer = client.get(seller.url("/a")).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "free");
    // And even known terms are not used when somebody else leads there.
    let other = Seller::start().await;
    client.get(other.url("/a")).send().await.unwrap();
    let to = other.url("/a");
    seller.script(move |_, _| Some(redirect(302, &to).into()));
    client.get(seller.url("/a")).send().await.unwrap_err();
    assert_eq!(other.tickets().len(), 1);
}

#[tokio::test]
async fn a_redirect_within_the_origin_is_a_call_of_its_own() {
    let (seller, store) = (Seller::start().await, store());
    seller.script(|seller, seen| {
        let paid_for = seen.payment.is_some() && seen.target == "/old";
        paid_for.then(|| {
            let mut response = seller.good(seen, seller.terms());
            *response.status_mut() = 302.try_into().unwrap();
            set(&mut response, LOCATION, "/new");
            response.into()
        })
    });
    let client = client_on(store.clone(), Limits::default()).build().unwrap();
    for _ in 0..2 {
        let request = client.post(seller.url("/old")).header("Idempotency-Key", "form");
        let answer = request.body("data").send().await.unwrap();
        assert_eq!(answer.url().path(), "/new");
        assert_eq!(answer.text().await.unwrap(), "good of /new");
    }
    assert_eq!(
        signed(&store).await,
        2,
        "one for each place, and none when asked again"
    );
    let seen = seller.seen();
    let last = seen.last().unwrap();
    assert_eq!((last.method.as_str(), last.body.len()), ("GET", 0));
}

#[tokio::test]
async fn a_loop_of_redirects_ends() {
    let seller = Seller::start().await;
    seller.script(|_, _| Some(redirect(302, "/again").into()));
    let error = client().get(seller.url("/")).send().await.unwrap_err();
    assert_eq!(error.to_string(), "more than 10 redirects");
    assert_eq!(seller.seen().len(), 11);
    let client = client_on(store(), Limits::default())
        .redirects(0)
        .build()
        .unwrap();
    assert_eq!(client.get(seller.url("/")).send().await.unwrap().status(), 302);
}

#[tokio::test]
async fn plain_http_is_for_this_machine_only() {
    let (seller, store) = (Seller::start().await, store());
    let resolve = |builder: micropay_gateway::client::Builder| {
        let http = reqwest::Client::builder().resolve("shop.example", seller.address);
        builder.http(http)
    };
    let url = format!("http://shop.example:{}/a", seller.address.port());
    let client = resolve(client_on(store.clone(), Limits::default()))
        .build()
        .unwrap();
    let error = client.get(&url).send().await.unwrap_err();
    assert!(
        matches!(ClientError::of(&error), Some(ClientError::PlainHttp { .. })),
        "{error}"
    );
    assert_eq!(signed(&store).await, 0);
    let client = resolve(client_on(store.clone(), Limits::default()).allow_plain_http());
    let answer = client.build().unwrap().get(&url).send().await.unwrap();
    assert_eq!(paid(&answer).requests, 2);
}
