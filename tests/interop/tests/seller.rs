//! A seller as far as the wire goes: it answers with both protocols' headers and takes a ticket of either, and the payer that
//! the clients' plug-ins sign with.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use alloy_primitives::{Address, B256, U256};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use gateway::wire::{
    Challenge, ChallengeKey, ChannelExtra, ChannelRequirements, Extra, Kind, Opening, PAYMENT_RECEIPT,
    PAYMENT_REQUIRED, PAYMENT_RESPONSE, PAYMENT_SIGNATURE, Payload, Payment, PaymentRequired,
    PaymentResponse, Receipt, Requirements, Resource, SCHEME, network, read_credential, read_signature,
};
use protocol::ticket::{
    Amount, Domain, EscrowKey, EscrowRecord, Nonce, Status, Ticket, Timestamp, WinThreshold, recover,
};

pub(crate) const PRICE: u128 = 1_000_000;
const PRIZE: u128 = 1_000_000_000;

pub(crate) fn domain() -> Domain {
    Domain::new(31337, Address::repeat_byte(0xc0))
}

pub(crate) fn key() -> ChallengeKey {
    ChallengeKey::new([7; 32])
}

pub(crate) fn terms() -> Requirements {
    let win_threshold = WinThreshold::for_price(Amount(PRICE), Amount(PRIZE)).unwrap();
    Requirements {
        scheme: SCHEME.to_owned(),
        network: network(domain().chain_id()),
        amount: PRICE,
        asset: Address::ZERO,
        pay_to: Address::repeat_byte(0xaa),
        max_timeout_seconds: 86_400,
        extra: Extra {
            contract: domain().contract(),
            commitment: B256::repeat_byte(0xcc),
            prize: PRIZE,
            win_threshold: win_threshold.0,
            min_prize: PRIZE / 10,
            max_prize: PRIZE * 10,
            opening: Some(Opening {
                ticket_cap: 1_000,
                min_penalty: 5,
            }),
            min_ticket_life: 21_600,
            max_ticket_life: 86_400,
            nonce_floor: 0,
            escrow: None,
            route: "GET /*".to_owned(),
        },
    }
}

pub(crate) fn required(url: &str) -> PaymentRequired {
    PaymentRequired {
        error: "payment required".to_owned(),
        resource: Resource {
            url: url.to_owned(),
            description: None,
        },
        accepts: vec![terms().into(), channel_terms().into()],
    }
}

/// The other kind, which these clients do not know and must not stumble over.
pub(crate) fn channel_terms() -> ChannelRequirements {
    ChannelRequirements {
        scheme: Kind::Channel.scheme().to_owned(),
        network: network(domain().chain_id()),
        amount: PRICE,
        asset: Address::ZERO,
        pay_to: Address::repeat_byte(0xdd),
        max_timeout_seconds: 600,
        extra: ChannelExtra {
            contract: Address::repeat_byte(0xce),
            banks: vec![Address::repeat_byte(0xba)],
            min_reputation: 50,
            margin: 21_600,
            max_jump: 4_096,
            checkpoint_every: 64,
            accountable: false,
            route: "GET /*".to_owned(),
        },
    }
}

pub(crate) fn channel_challenge() -> Challenge {
    let expires = "2099-01-01T00:00:00Z".to_owned();
    Challenge::new(&key(), "127.0.0.1:8402", &channel_terms(), expires)
}

pub(crate) fn challenge() -> Challenge {
    Challenge::new(
        &key(),
        "127.0.0.1:8402",
        &terms(),
        "2099-01-01T00:00:00Z".to_owned(),
    )
}

pub(crate) fn response(payment: &Payment, digest: B256) -> PaymentResponse {
    PaymentResponse::taken(payment, &domain(), digest, PRICE, terms())
}

pub(crate) fn receipt(digest: B256) -> Receipt {
    Receipt {
        status: "success",
        method: gateway::wire::METHOD,
        timestamp: "2026-11-20T18:00:00Z".to_owned(),
        reference: digest,
        next: terms(),
    }
}

/// What a plug-in of any client does: a ticket for the terms.
pub(crate) fn pay(terms: &Requirements) -> Payment {
    static NONCE: AtomicU64 = AtomicU64::new(1);
    let key = EscrowKey::from_bytes(&[1; 32]).unwrap();
    let record = EscrowRecord {
        payer: Address::ZERO,
        asset: Address::ZERO,
        prize: Amount(PRIZE),
        max_threshold: WinThreshold(U256::MAX),
        ticket_cap: Nonce(1_000),
        balance: Amount(PRIZE),
        penalty: Amount(PRIZE),
        status: Status::Open,
        withdraw_at: None,
        cure_by: None,
        debt: U256::ZERO,
        earmarked: Amount::ZERO,
        earmark_until: Timestamp(0),
        pairs: BTreeMap::new(),
        debts: BTreeMap::new(),
    };
    let quote = terms.quote(&domain(), key.address(), &record).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let nonce = Nonce(NONCE.fetch_add(1, Ordering::Relaxed));
    let expiry = quote.expiry(Timestamp(now));
    Payment::from(&Ticket::issue(
        &domain(),
        &key,
        &quote,
        B256::repeat_byte(9),
        expiry,
        nonce,
    ))
}

/// Its address. Every path costs [`PRICE`]; the good is the protocol that it was paid by.
pub(crate) async fn start() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(serve)).await });
    origin
}

async fn serve(request: Request) -> Response {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let (paid_by, payment) = if let Some(signature) = header(PAYMENT_SIGNATURE.as_str()) {
        ("x402", read_signature(signature, &domain()).unwrap().payment)
    } else if let Some(token) = header("authorization").and_then(|value| value.strip_prefix("Payment ")) {
        ("mpp", read_credential(token, &key(), &domain()).unwrap().payment)
    } else {
        let required = required("http://127.0.0.1/good").header();
        return Response::builder()
            .status(402)
            .header(PAYMENT_REQUIRED, required)
            .header("www-authenticate", challenge().header())
            .header("www-authenticate", channel_challenge().header())
            .body(Body::empty())
            .unwrap();
    };
    let Payload::Ticket(payment) = payment else {
        panic!("a channel pays: {payment:?}")
    };
    let ticket = payment.ticket(&domain()).unwrap();
    let signer = recover(ticket.digest(), ticket.signature()).unwrap();
    assert_eq!(signer.address(), payment.escrow);
    Response::builder()
        .header(PAYMENT_RESPONSE, response(&payment, ticket.digest()).header())
        .header(PAYMENT_RECEIPT, receipt(ticket.digest()).header())
        .body(Body::from(paid_by))
        .unwrap()
}
