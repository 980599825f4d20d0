//! Crates `x402-types` and `x402-reqwest` 2.0.

use alloy_primitives::U256;
use async_trait::async_trait;
use gateway::wire::{Kind, PaymentSignature, Requirements, SCHEME};
use reqwest::StatusCode;
use x402_reqwest::{ReqwestWithPayments, ReqwestWithPaymentsBuild, X402Client};
use x402_types::proto::{OriginalJson, PaymentRequired, v2};
use x402_types::scheme::X402SchemeId;
use x402_types::scheme::client::{
    MaxAmount, PaymentCandidate, PaymentCandidateSigner, X402Error, X402SchemeClient,
};
use x402_types::util::Base64Bytes;

use crate::seller::{self, PRICE};

struct Tickets;

struct Signer(Requirements);

impl X402SchemeId for Tickets {
    fn namespace(&self) -> &str {
        "eip155"
    }

    fn scheme(&self) -> &str {
        SCHEME
    }
}

impl X402SchemeClient for Tickets {
    fn accept(&self, required: &PaymentRequired) -> Vec<PaymentCandidate> {
        let PaymentRequired::V2(required) = required else {
            return Vec::new();
        };
        let candidate = |OriginalJson(json): &OriginalJson| {
            let requirements: v2::PaymentRequirements = serde_json::from_str(json.get()).ok()?;
            let terms: Requirements = serde_json::from_str(json.get()).ok()?;
            (requirements.scheme == SCHEME).then(|| PaymentCandidate {
                chain_id: requirements.network,
                asset: requirements.asset,
                amount: requirements.amount.parse().unwrap(),
                scheme: requirements.scheme,
                x402_version: 2,
                pay_to: requirements.pay_to,
                signer: Box::new(Signer(terms)),
            })
        };
        required.accepts.iter().filter_map(candidate).collect()
    }
}

#[async_trait]
impl PaymentCandidateSigner for Signer {
    async fn sign_payment(&self) -> Result<String, X402Error> {
        let payment = seller::pay(&self.0);
        let signature = PaymentSignature {
            payment: payment.into(),
            identifier: None,
        };
        Ok(signature.header(&self.0))
    }
}

#[test]
fn the_types_read_our_402() {
    let header = seller::required("http://127.0.0.1/good").header();
    let json = Base64Bytes::from(header.as_bytes()).decode().unwrap();
    let required: v2::PaymentRequired = serde_json::from_slice(&json).unwrap();
    assert_eq!(required.resource.unwrap().url, "http://127.0.0.1/good");
    let schemes: Vec<_> = required
        .accepts
        .iter()
        .map(|terms| terms.scheme.as_str())
        .collect();
    assert_eq!(schemes, [SCHEME, Kind::Channel.scheme()]);
    for terms in &required.accepts {
        assert_eq!(terms.amount.as_str(), "1000000");
        assert_eq!(terms.network.to_string(), "eip155:31337");
        assert_eq!(terms.extra.as_ref().unwrap()["route"], "GET /*");
    }
}

#[test]
fn the_types_read_our_receipt() {
    let payment = seller::pay(&seller::terms());
    let digest = payment.ticket(&seller::domain()).unwrap().digest();
    let header = seller::response(&payment, digest).header();
    let json = Base64Bytes::from(header.as_bytes()).decode().unwrap();
    let v2::SettleResponse::Success { payer, network, .. } = serde_json::from_slice(&json).unwrap() else {
        panic!("a success");
    };
    assert_eq!(
        (payer, network.as_str()),
        (payment.escrow.to_checksum(None), "eip155:31337")
    );
}

#[tokio::test]
async fn the_client_pays_within_its_limit() {
    let origin = seller::start().await;
    let client = reqwest::Client::new()
        .with_payments(
            X402Client::new()
                .register(Tickets)
                .with_selector(MaxAmount(U256::from(PRICE))),
        )
        .build();
    let answer = client.get(format!("{origin}/good")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.text().await.unwrap(), "x402");
    let answer = client
        .post(format!("{origin}/good"))
        .body("x")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.text().await.unwrap(), "x402");

    let poor = reqwest::Client::new()
        .with_payments(
            X402Client::new()
                .register(Tickets)
                .with_selector(MaxAmount(U256::from(PRICE - 1))),
        )
        .build();
    let error = poor.get(format!("{origin}/good")).send().await.unwrap_err();
    assert!(
        error.to_string().contains("No matching payment option"),
        "{error}"
    );
}
