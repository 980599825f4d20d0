//! Crate `mpp` 0.18.

use ::mpp::MppError;
use ::mpp::client::{PaymentMiddleware, PaymentProvider};
use ::mpp::protocol::core::{PaymentChallenge, PaymentCredential, Receipt, format_authorization};
use gateway::wire::{INTENT, METHOD, Requirements, SCHEME, read_credential};
use reqwest::StatusCode;
use reqwest_middleware::ClientBuilder;
use serde_json::{Value, json};

use crate::seller;

#[derive(Clone)]
struct Tickets;

impl PaymentProvider for Tickets {
    fn supports(&self, method: &str, intent: &str) -> bool {
        (method, intent) == (METHOD, INTENT)
    }

    async fn pay(&self, challenge: &PaymentChallenge) -> Result<PaymentCredential, MppError> {
        let terms = terms_of(&challenge.request.decode_value()?);
        Ok(PaymentCredential::new(challenge.to_echo(), seller::pay(&terms)))
    }
}

/// The same terms as x402 has them.
fn terms_of(request: &Value) -> Requirements {
    let details = &request["methodDetails"];
    serde_json::from_value(json!({
        "scheme": SCHEME, "network": details["network"], "amount": request["amount"], "asset": request["currency"],
        "payTo": request["recipient"], "maxTimeoutSeconds": details["maxTimeoutSeconds"], "extra": details,
    }))
    .unwrap()
}

#[test]
fn it_reads_our_challenge_and_we_read_its_credential() {
    let challenge = PaymentChallenge::from_header(&seller::challenge().header()).unwrap();
    assert!(challenge.method.is_valid());
    assert_eq!(
        (challenge.method.as_str(), challenge.intent.as_str()),
        (METHOD, INTENT)
    );
    assert!(!challenge.is_expired());
    let request = challenge.request.decode_value().unwrap();
    assert_eq!(terms_of(&request), seller::terms());

    let payment = seller::pay(&seller::terms());
    let credential =
        PaymentCredential::with_source(challenge.to_echo(), "did:pkh:eip155:31337:0x00", &payment);
    let header = format_authorization(&credential).unwrap();
    let token = header.strip_prefix("Payment ").unwrap();
    let read = read_credential(token, &seller::key(), &seller::domain()).unwrap();
    assert_eq!(read.payment, payment.into());
}

#[test]
fn our_request_is_in_the_canonical_form() {
    // mppx writes the request anew before it sends it back; so does this. (This build has serde_json keep the order in
    // which names were inserted: crate mpp wants it so.)
    let challenge = seller::challenge();
    let request = ::mpp::protocol::core::Base64UrlJson::from_raw(challenge.request.clone());
    let again = ::mpp::protocol::core::Base64UrlJson::from_value(&request.decode_value().unwrap()).unwrap();
    assert_eq!(again.raw(), challenge.request);
}

#[test]
fn it_reads_our_receipt() {
    let digest = alloy_primitives::B256::repeat_byte(5);
    let receipt = Receipt::from_header(&seller::receipt(digest).header()).unwrap();
    assert!(receipt.is_success());
    assert_eq!(
        (receipt.method.as_str(), receipt.reference),
        (METHOD, digest.to_string())
    );
    assert_eq!(receipt.extensions["next"]["amount"], "1000000");
}

#[tokio::test]
async fn the_middleware_pays() {
    let origin = seller::start().await;
    let client = ClientBuilder::new(reqwest::Client::new())
        .with(PaymentMiddleware::new(Tickets))
        .build();
    let get = client
        .get(format!("{origin}/good"))
        .header("Accept-Payment", "micropay/ticket");
    let answer = get.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.text().await.unwrap(), "mpp");
    let post = client
        .post(format!("{origin}/good"))
        .header("Accept-Payment", "micropay/ticket");
    assert_eq!(post.body("x").send().await.unwrap().text().await.unwrap(), "mpp");
}
