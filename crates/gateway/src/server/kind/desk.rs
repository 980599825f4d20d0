//! What the clients of channels ask beside payments, at well-known addresses: where the vendor stands, to open receipts, to
//! close together, to take lost payments back. Bodies are short, and whoever asks shows something that only the client has.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response};
use http_body_util::{BodyExt, Limited};
use merchant::channel::{CooperativeCloseError, OpenReceiptsError};
use protocol::channel::{ChannelId, ChannelRecord, Index, Signature, Tag, Timestamp, recover};
use protocol::ticket::OrderId;
use serde::Serialize;
use tracing::warn;

use super::ChannelSeller;
use crate::server::gate::GateStore;
use crate::server::reply::problem;
use crate::wire::{
    Advice, CloseAnswer, CloseRequest, LastReceipt, MAX_CHANNEL_BODY, OpenerAnswer, OpenerRequest,
    POSITION_SECONDS, PaymentsAnswer, PaymentsRequest, PositionAnswer, PositionRequest, Problem, WireError,
    read_channel_body,
};

/// Threads that open receipts, besides the one of the request: a channel has up to 2^20, and payments go on meanwhile.
const OPENING_THREADS: usize = 1;

impl<S: GateStore> ChannelSeller<S> {
    /// Answers a request whose path ends in `question`: `{channel}/{what}`.
    pub(in crate::server) async fn desk(
        &self,
        method: &Method,
        question: &str,
        body: Body,
        limit: Duration,
        now: Timestamp,
    ) -> Response<Body> {
        if method != Method::POST {
            let detail = format!("{method} asks nothing here; ask with POST");
            return problem(&Problem::new(405, "method-not-taken", Advice::Stop, detail));
        }
        let asked = question.split_once('/').and_then(|(channel, what)| {
            let channel = channel.parse().ok().map(ChannelId)?;
            Some((channel, what))
        });
        let Some((channel, what)) = asked else {
            return problem(&unknown(question));
        };
        let body = match read(body, limit).await {
            Ok(body) => body,
            Err(refused) => return problem(&refused),
        };
        match what {
            "position" => answer(self.position(channel, &body, now).await),
            "opener" => answer(self.opener(channel, &body, now).await),
            "close" => answer(self.close(channel, &body, now).await),
            "payments" => answer(self.payments(channel, &body, now).await),
            _ => problem(&unknown(question)),
        }
    }

    async fn position(
        &self,
        channel: ChannelId,
        body: &[u8],
        now: Timestamp,
    ) -> Result<PositionAnswer, Problem> {
        let request: PositionRequest = read_channel_body(body).map_err(|error| malformed(&error))?;
        let receipt_key = self.record(channel)?.opening().receiptKey;
        if !request.is_fresh(now) {
            let detail = format!(
                "the request is of {}, it is {now}; taken are {POSITION_SECONDS} s",
                request.requested_at
            );
            return Err(Problem::new(400, "request-stale", Advice::Stop, detail));
        }
        let signer = request.signer(channel).map_err(|error| malformed(&error))?;
        if signer != receipt_key {
            let detail =
                format!("the request is signed by {signer}, the channel's receipt key is {receipt_key}");
            return Err(Problem::new(403, "wrong-signer", Advice::Stop, detail));
        }
        let standing = self
            .vendor
            .standing(channel)
            .await
            .map_err(|error| failed(&error))?;
        Ok(PositionAnswer {
            channel_id: channel.0,
            last: standing.map(|standing| {
                LastReceipt::new(
                    &standing.receipt,
                    standing.before,
                    standing.accounted,
                    standing.held,
                )
            }),
        })
    }

    /// An opener shows itself: it is what the last payment's tag pins.
    async fn opener(&self, channel: ChannelId, body: &[u8], now: Timestamp) -> Result<OpenerAnswer, Problem> {
        let request: OpenerRequest = read_channel_body(body).map_err(|error| malformed(&error))?;
        let opener = request.opener(channel).map_err(|error| malformed(&error))?;
        // Before a million receipts are read for whoever asks.
        let store = self.vendor.store();
        let pinned = store.vendor_payments(channel, opener.index..=opener.index).await;
        let pinned = pinned.map_err(|error| failed(&error))?;
        let tag = Tag::of(channel, opener.index, &opener.sigma);
        if pinned.first().is_none_or(|there| there.payment.tag != tag) {
            let detail = format!("no payment {} with tag {tag} is known", opener.index);
            return Err(Problem::new(403, "not-the-opener", Advice::Stop, detail));
        }
        let opened = self.vendor.open_receipts(opener, OPENING_THREADS, now).await;
        let opened = opened.map_err(|error| match error {
            OpenReceiptsError::UnknownChannel { .. } => {
                Problem::new(404, "channel-missing", Advice::Stop, error.to_string())
            }
            OpenReceiptsError::NotTheOpener { .. } => {
                Problem::new(403, "not-the-opener", Advice::Stop, error.to_string())
            }
            OpenReceiptsError::Store(_) | OpenReceiptsError::Interrupted { .. } => failed(&error),
        })?;
        Ok(OpenerAnswer {
            opened: u32::try_from(opened.receipts.len()).unwrap_or(u32::MAX),
            ends_in_sigma0: opened.ends_in_sigma0,
        })
    }

    /// The client has signed first: nobody else ends its channel.
    async fn close(&self, channel: ChannelId, body: &[u8], now: Timestamp) -> Result<CloseAnswer, Problem> {
        let request: CloseRequest = read_channel_body(body).map_err(|error| malformed(&error))?;
        let Some(account) = &self.account else {
            let detail = "channels are not closed together here; the vendor closes by itself";
            return Err(Problem::new(501, "close-not-signed", Advice::Stop, detail));
        };
        let (index, record) = (Index(request.index), self.record(channel)?);
        let digest = self.vendor.domain().cooperative_close_digest(channel, index);
        let signer = Signature::from_bytes(&request.client_signature)
            .and_then(|signature| recover(digest, &signature))
            .map_err(|error| malformed(&error.into()))?
            .address();
        if signer != record.client {
            let client = record.client;
            let detail = format!("the close is signed by {signer}, the channel's client is {client}");
            return Err(Problem::new(403, "wrong-signer", Advice::Stop, detail));
        }
        let signed = self.vendor.sign_cooperative_close(account, channel, index, now);
        let signature = signed.await.map_err(|error| match &error {
            CooperativeCloseError::Refused(refusal) => Problem::refused_channel(refusal),
            CooperativeCloseError::BelowTaken { .. } => {
                Problem::new(409, "close-below-taken", Advice::Stop, error.to_string())
            }
            CooperativeCloseError::AboveLength { .. } => {
                Problem::new(409, "past-length", Advice::Stop, error.to_string())
            }
            CooperativeCloseError::Busy { .. } => {
                Problem::new(409, "in-progress", Advice::Retry, error.to_string())
            }
            CooperativeCloseError::WrongKey { .. } => {
                Problem::new(501, "close-not-signed", Advice::Stop, error.to_string())
            }
            CooperativeCloseError::Store(_) => failed(&error),
        })?;
        Ok(CloseAnswer {
            index: index.0,
            vendor_signature: signature.to_bytes().to_vec().into(),
        })
    }

    /// Payments that this vendor has lost. Their words show whose they are.
    async fn payments(
        &self,
        channel: ChannelId,
        body: &[u8],
        now: Timestamp,
    ) -> Result<PaymentsAnswer, Problem> {
        let request: PaymentsRequest = read_channel_body(body).map_err(|error| malformed(&error))?;
        let payments: Vec<_> = request
            .payments
            .iter()
            .map(|lost| (OrderId(lost.order), lost.payment.payment()))
            .collect();
        if payments.iter().any(|(_, payment)| payment.channel != channel) {
            let detail = format!("a payment is not of channel {channel}");
            return Err(Problem::new(400, "foreign-channel", Advice::Stop, detail));
        }
        let taken = self.vendor.restore(&payments, now).await;
        let taken = taken.map_err(|error| {
            let refused = super::channel::refused(&error);
            if refused.failure.is_some() {
                warn!(%channel, %error, "payments are not taken back");
            }
            refused.why
        })?;
        Ok(PaymentsAnswer {
            taken: u32::try_from(taken).unwrap_or(u32::MAX),
        })
    }

    fn record(&self, channel: ChannelId) -> Result<Arc<ChannelRecord>, Problem> {
        self.vendor.record(channel).ok_or_else(|| {
            let detail = format!("channel {channel} is none of mine");
            Problem::new(404, "channel-missing", Advice::Stop, detail)
        })
    }
}

async fn read(body: Body, limit: Duration) -> Result<Vec<u8>, Problem> {
    let read = Limited::new(body, MAX_CHANNEL_BODY).collect();
    match tokio::time::timeout(limit, read).await {
        Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let detail = format!("the body has more than {MAX_CHANNEL_BODY} bytes");
            Err(Problem::new(413, "body-too-large", Advice::Stop, detail))
        }
        Ok(Err(error)) => Err(Problem::new(400, "body-broken", Advice::Retry, error.to_string())),
        Err(_) => {
            let detail = format!("the body did not arrive within {} s", limit.as_secs());
            Err(Problem::new(408, "body-too-slow", Advice::Retry, detail))
        }
    }
}

fn answer(answered: Result<impl Serialize, Problem>) -> Response<Body> {
    let answered = match answered {
        Ok(answered) => answered,
        Err(refused) => return problem(&refused),
    };
    let body = serde_json::to_vec(&answered).expect("our shapes are JSON");
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn malformed(error: &WireError) -> Problem {
    Problem::new(400, "request-malformed", Advice::Stop, error.to_string())
}

fn unknown(question: &str) -> Problem {
    let shown = &question[..question.floor_char_boundary(100)];
    Problem::new(
        404,
        "no-such-question",
        Advice::Stop,
        format!("nobody answers {shown:?} here"),
    )
}

fn failed(error: &impl std::fmt::Display) -> Problem {
    warn!(%error, "a question about a channel is not answered");
    Problem::new(503, "cannot-answer-now", Advice::Retry, error.to_string())
}
