//! Sellers that cheat: nothing is signed that its owner would not have signed.

use alloy_primitives::{Address, U256};
use axum::body::Body;
use axum::response::Response;
use micropay_gateway::client::ClientError;
use micropay_gateway::wire::{Advice, PAYMENT_REQUIRED, Requirements, TermsError, WireError};
use payer::ticket::{Limits, PayError};
use protocol::ticket::Amount;

use crate::seller::{PRICE, PRIZE, Seller, client_on, paid, set, signed, store, terms};

/// What a 402 with this header leads to. Nothing is signed.
async fn met_with(header: String) -> ClientError {
    let (seller, store) = (Seller::start().await, store());
    seller.script(move |_, _| {
        let mut response = Response::new(Body::from("pay"));
        *response.status_mut() = 402.try_into().unwrap();
        set(&mut response, PAYMENT_REQUIRED, &header);
        Some(response.into())
    });
    let client = client_on(store.clone(), Limits::default()).build().unwrap();
    let error = client.get(seller.url("/a")).send().await.unwrap_err();
    assert_eq!((signed(&store).await, seller.tickets().len()), (0, 0));
    match error {
        reqwest_middleware::Error::Middleware(error) => error.downcast().unwrap(),
        reqwest_middleware::Error::Reqwest(error) => panic!("{error}"),
    }
}

fn header(change: impl FnOnce(&mut Requirements)) -> String {
    let mut terms = terms(PRICE, 0, 0, "* /*");
    change(&mut terms);
    micropay_gateway::wire::PaymentRequired {
        error: String::new(),
        resource: Default::default(),
        accepts: vec![terms.into()],
    }
    .header()
}

#[tokio::test]
async fn attack_terms_that_are_not_for_this_payer() {
    let error = met_with(header(|terms| terms.network = "eip155:1".into())).await;
    assert!(matches!(error, ClientError::NoCommonWay { .. }), "{error}");
    assert!(
        error
            .to_string()
            .ends_with("takes micropay-ticket on eip155:1, I pay with micropay-ticket on eip155:31337"),
        "{error}"
    );
    let error = met_with(header(|terms| terms.scheme = "exact".into())).await;
    assert!(matches!(error, ClientError::NoCommonWay { .. }), "{error}");

    let contract = Address::repeat_byte(0xbd);
    let error = met_with(header(|terms| terms.extra.contract = contract)).await;
    assert!(
        matches!(error, ClientError::Terms { cause: TermsError::OtherContract { got, .. }, .. } if got == contract),
        "{error}"
    );
    let error = met_with(header(|terms| terms.extra.escrow = Some(contract))).await;
    assert!(
        matches!(
            error,
            ClientError::Terms {
                cause: TermsError::OtherEscrow { .. },
                ..
            }
        ),
        "{error}"
    );
    let error = met_with(header(|terms| terms.extra.min_prize = PRIZE.0 + 1)).await;
    assert!(
        matches!(
            error,
            ClientError::Terms {
                cause: TermsError::PrizeOutOfRange { .. },
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn attack_a_threshold_above_the_price() {
    let error = met_with(header(|terms| terms.extra.win_threshold = U256::MAX)).await;
    assert!(
        matches!(
            error,
            ClientError::Terms {
                cause: TermsError::ThresholdNotPrice { .. },
                ..
            }
        ),
        "{error}"
    );
    let error = met_with(header(|terms| terms.amount = PRIZE.0 + 1)).await;
    assert!(
        matches!(
            error,
            ClientError::Terms {
                cause: TermsError::Unit(_),
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn attack_headers_that_cannot_be_read() {
    let unreadable = async |header: String| match met_with(header).await {
        ClientError::Unreadable { cause, .. } => cause,
        other => panic!("{other}"),
    };
    let giant = "A".repeat(20_000);
    assert!(matches!(
        unreadable(giant).await,
        WireError::TooLong { got: 20_000, .. }
    ));
    assert!(matches!(unreadable("%%%".into()).await, WireError::Base64(_)));
    assert!(matches!(unreadable("e30=".into()).await, WireError::Json(_)));
    let mut cut = header(|_| ());
    cut.truncate(cut.len() / 2 / 4 * 4);
    assert!(matches!(unreadable(cut).await, WireError::Json(_)));
}

#[tokio::test]
async fn attack_a_floor_that_takes_all_nonces() {
    let error = met_with(header(|terms| terms.extra.nonce_floor = u64::MAX)).await;
    assert!(
        matches!(
            error,
            ClientError::Pay {
                cause: PayError::Limit(_),
                ..
            }
        ),
        "{error}"
    );
}

/// The price goes up with every renewal, until it meets the limit.
#[tokio::test]
async fn attack_renewals_that_raise_the_price_stop_at_the_limit() {
    let (seller, store) = (Seller::start().await, store());
    seller.script(|seller, seen| {
        seen.payment.as_ref()?;
        let next = seller.terms().amount * 2;
        let good = seller.good(seen, terms(next, 0, 0, "* /*"));
        seller.set_price(next);
        Some(good.into())
    });
    let limits = Limits {
        max_price: Amount(PRICE * 4),
        ..Limits::default()
    };
    let client = client_on(store.clone(), limits).build().unwrap();
    for price in [PRICE, PRICE * 2, PRICE * 4] {
        let answer = client.get(seller.url("/a")).send().await.unwrap();
        assert_eq!(paid(&answer).price.0, price);
    }
    let error = client.get(seller.url("/a")).send().await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!("the price is {}, the limit is {}", PRICE * 8, PRICE * 4)
    );
    assert_eq!((signed(&store).await, seller.tickets().len()), (3, 3));
}

/// Each refused ticket is a free draw for the seller.
#[tokio::test]
async fn attack_fishing_for_draws_ends_after_four_tickets() {
    let (seller, store) = (Seller::start().await, store());
    seller.script(|seller, seen| {
        seen.payment.as_ref()?;
        seller.close_session();
        Some(
            seller
                .required("commitment-closed", Advice::NewNonce, seller.terms())
                .into(),
        )
    });
    let client = client_on(store.clone(), Limits::default()).build().unwrap();
    let error = client.get(seller.url("/a")).send().await.unwrap_err();
    assert!(
        matches!(
            ClientError::of(&error),
            Some(ClientError::Pay {
                cause: PayError::TooManyRefusals { tickets: 4, .. },
                ..
            })
        ),
        "{error}"
    );
    assert_eq!(signed(&store).await, 4);
}

#[tokio::test]
async fn attack_a_refusal_with_terms_for_another_contract() {
    let (seller, store) = (Seller::start().await, store());
    seller.script(|seller, seen| {
        seen.payment.as_ref()?;
        let mut terms = seller.terms();
        terms.extra.contract = Address::repeat_byte(0xbd);
        Some(
            seller
                .required("commitment-closed", Advice::NewNonce, terms)
                .into(),
        )
    });
    let client = client_on(store.clone(), Limits::default()).build().unwrap();
    let error = client.get(seller.url("/a")).send().await.unwrap_err();
    assert!(
        matches!(
            ClientError::of(&error),
            Some(ClientError::Terms {
                cause: TermsError::OtherContract { .. },
                ..
            })
        ),
        "{error}"
    );
    assert_eq!(signed(&store).await, 1);
}

/// Patterns that are not for the request, or none, or giants: the call is paid, nothing is remembered.
#[tokio::test]
async fn attack_patterns_that_reach_for_other_requests() {
    let giant = format!("* ~{}", "(a*)*".repeat(200));
    for route in [
        "GET /other",
        "POST /a",
        "nonsense",
        "* ~(",
        "* ~((((a{1,99}){1,99}){1,99})",
        &giant,
    ] {
        let (seller, store) = (Seller::start().await, store());
        seller.set_route(route);
        let client = client_on(store.clone(), Limits::default()).build().unwrap();
        for _ in 0..2 {
            let answer = client.get(seller.url("/a")).send().await.unwrap();
            assert_eq!(paid(&answer).requests, 2, "{route}");
        }
    }
}

/// A body without end in a refusal is not read to its end.
#[tokio::test]
async fn attack_an_endless_refusal() {
    let (seller, store) = (Seller::start().await, store());
    seller.script(|seller, seen| {
        let rest = futures::stream::repeat_with(|| Ok::<_, std::io::Error>("x".repeat(10_000)));
        let endless = Body::from_stream(rest);
        let refused = match seen.payment {
            Some(_) => seller.required("commitment-closed", Advice::Stop, seller.terms()),
            None => seller.required("payment-required", Advice::NewNonce, seller.terms()),
        };
        let (mut parts, _) = refused.into_parts();
        parts.headers.remove("content-length");
        Some(Response::from_parts(parts, endless).into())
    });
    let client = client_on(store.clone(), Limits::default()).build().unwrap();
    let error = client.get(seller.url("/a")).send().await.unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
    assert_eq!(signed(&store).await, 1);
}
