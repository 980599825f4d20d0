//! The middleware: a request comes in, and goes out with a payment where one is due.
//!
//! Which kind pays is decided once per order. The store that has the order's first payment is the memory of that; while a
//! call is under way, so is [`Decisions`], for calls of the same name at the same time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use alloy_primitives::{B256, hex, keccak256};
use async_trait::async_trait;
use http::Extensions;
use parking_lot::Mutex;
use payer::{channel as by_channel, ticket as by_ticket};
use protocol::channel::{Amount, ChannelId};
use protocol::ticket::{OrderId, Quote, Timestamp};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Method, Request, Response, StatusCode, Url};
use reqwest_middleware::{Middleware, Next};
use storage::StoreError;
use tracing::{debug, info};
use url::Host;

use super::cache::{Cache, Origin, Target};
use super::call::{Item, Notes, Replay, Way, take_body};
use super::error::ClientError;
use super::kind::{Channels, Tickets, Turn, channel, ticket};
use super::opening::Openings;
use super::{Paid, Proof, Settings, WouldPay, redirect};
use crate::wire::{
    ChannelRequirements, Contracts, IDEMPOTENCY_KEY, Kind, MICROPAY_ESCROW, Offers, PAYMENT_AUTHORIZATION,
    PAYMENT_REQUIRED, PAYMENT_SIGNATURE, Requirements, WireError, item_hash, offered, read_required,
};

/// Attempts at a paid call where the same payment may be taken later, with a pause that doubles.
const ATTEMPTS: u32 = 5;
/// Prices that one call by channel follows: it changed, and perhaps once more.
const PRICES: usize = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause that a server may ask for within a call.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Pays for requests. Part of a [`Client`](super::Client); [`Builder::stack`](super::Builder::stack) puts it among others.
pub struct MicropayMiddleware {
    tickets: Option<Box<dyn Tickets>>,
    channels: Option<Box<dyn Channels>>,
    openings: Openings,
    settings: Settings,
    escrow: Option<HeaderValue>,
    contracts: Contracts,
    cache: Cache,
    decisions: Decisions,
}

/// Reads a seller's terms, and remembers them.
pub(super) trait Terms: Send + Sync {
    /// The terms in a 402.
    fn learn(&self, target: &Target, answer: &Response) -> Result<Offers, ClientError>;

    /// Those of a ticket, and the quote that they make for our escrow.
    fn ticket(&self, target: &Target, answer: &Response) -> Result<(Requirements, Quote), ClientError>;

    /// Terms of the next call. `None` if they are not acceptable; the next call finds out why.
    fn renewal(&self, target: &Target, next: &Requirements) -> Option<Quote>;
}

/// How a call is to be paid.
enum Choice {
    Ticket(Box<(Requirements, Quote)>),
    Channel {
        terms: Box<ChannelRequirements>,
        channel: ChannelId,
    },
}

/// What came of paying by channel.
enum ByChannel {
    Done(Response),
    /// Nothing was revealed: the channel is at work, or at its end.
    NotNow(by_channel::PayError),
}

/// Kinds of the orders that are under way, so that calls of one name at the same time do not choose differently.
#[derive(Default)]
struct Decisions(Mutex<HashMap<OrderId, (Kind, usize)>>);

/// One call's part in a decision.
struct Decision<'d> {
    decisions: &'d Decisions,
    order: OrderId,
}

impl Decisions {
    /// Takes part: by `kind`, or by what was decided before.
    fn enter(&self, order: OrderId, kind: Kind) -> (Decision<'_>, Kind) {
        let mut orders = self.0.lock();
        let (kind, calls) = orders
            .entry(order)
            .and_modify(|(_, calls)| *calls += 1)
            .or_insert((kind, 1));
        debug_assert!(*calls > 0);
        let decision = Decision {
            decisions: self,
            order,
        };
        (decision, *kind)
    }
}

impl Decision<'_> {
    /// Decides anew; false where others follow the decision already.
    fn change(&self, to: Kind) -> bool {
        match self.decisions.0.lock().get_mut(&self.order) {
            Some((kind, 1)) => {
                *kind = to;
                true
            }
            _ => false,
        }
    }
}

impl Drop for Decision<'_> {
    fn drop(&mut self) {
        let mut orders = self.decisions.0.lock();
        if let Some((_, calls)) = orders.get_mut(&self.order) {
            *calls -= 1;
            if *calls == 0 {
                orders.remove(&self.order);
            }
        }
    }
}

impl MicropayMiddleware {
    pub(super) fn new(
        tickets: Option<Box<dyn Tickets>>,
        channels: Option<Box<dyn Channels>>,
        openings: Openings,
        settings: Settings,
    ) -> Self {
        let escrow = tickets
            .as_ref()
            .map(|tickets| HeaderValue::try_from(tickets.escrow().to_string()).expect("an address is ASCII"));
        let contracts = Contracts {
            ticket: tickets.as_ref().map(|tickets| *tickets.domain()),
            channel: channels.as_ref().map(|channels| *channels.domain()),
        };
        Self {
            tickets,
            channels,
            openings,
            settings,
            escrow,
            contracts,
            cache: Cache::default(),
            decisions: Decisions::default(),
        }
    }

    /// Time and randomness, of whoever pays.
    fn edges(&self) -> by_ticket::Edges {
        let tickets = self.tickets.as_ref().map(|tickets| tickets.edges());
        let channels = self.channels.as_ref().map(|channels| channels.edges());
        tickets.or(channels).expect("a client pays somehow")
    }

    fn now(&self) -> Timestamp {
        (self.edges().now)()
    }

    /// One request, without what it redirects to. `asked` is the origin that the caller meant, `named` whether the call has
    /// a name of the caller's.
    async fn call(
        &self,
        request: Request,
        key: &HeaderValue,
        named: bool,
        asked: &Origin,
        way: &Way<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let target = Target::from(&request);
        let call = Asked {
            secure: is_secure(request.url()),
            order: order_of(&target, key),
            url: request.url().clone(),
            target,
            key,
            named,
        };
        let request = Arc::new(Replay::new(request));
        if !self.settings.dry_run
            && call.target.origin == *asked
            && let Some(offers) = self.cache.find(&call.target)
        {
            let before = way.requests();
            match self.pay(&call, &request, &offers, way).await {
                // Not what we would sign: perhaps no longer what it asks for, either.
                Err(error) if way.requests() == before && is_about_terms(&error) => {
                    debug!(origin = %call.target.origin, %error, "remembered terms are not acceptable");
                    self.cache.forget(&call.target, &offers);
                }
                done => return done,
            }
        }

        let mut plain = request.copy().expect("not sent yet");
        if let Some(escrow) = &self.escrow {
            plain.headers_mut().insert(MICROPAY_ESCROW, escrow.clone());
        }
        let mut answer = way.send(plain).await?;
        if answer.status() != StatusCode::PAYMENT_REQUIRED || !answer.headers().contains_key(PAYMENT_REQUIRED)
        {
            return Ok(answer); // free, or sold in a way that is no concern of ours
        }
        if call.target.origin != *asked {
            return Err(ClientError::OtherOrigin {
                from: asked.to_string(),
                to: call.target.origin.to_string(),
            }
            .into());
        }
        let offers = self.learn(&call.target, &answer)?;
        if self.settings.dry_run {
            let would = self.would_pay(&call, &offers).await?;
            answer.extensions_mut().insert(would);
            return Ok(answer);
        }
        take_body(answer).await;
        if request.spent() {
            return Err(ClientError::BodySpent {
                origin: call.target.origin.to_string(),
            }
            .into());
        }
        self.pay(&call, &request, &offers, way).await
    }

    /// Pays by the one kind that the order is, or becomes.
    async fn pay(
        &self,
        asked: &Asked<'_>,
        request: &Item,
        offers: &Offers,
        way: &Way<'_>,
    ) -> reqwest_middleware::Result<Response> {
        self.check_secure(asked)?;
        let decided = self.decided(asked).await?;
        let mut answer = self.pay_decided(asked, request, offers, decided, way).await?;
        if let Some(paid) = answer.extensions_mut().get_mut::<Paid>() {
            paid.before = asked.named && decided.is_some();
        }
        Ok(answer)
    }

    async fn pay_decided(
        &self,
        asked: &Asked<'_>,
        request: &Item,
        offers: &Offers,
        decided: Option<(Kind, Option<ChannelId>)>,
        way: &Way<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let choice = self.choose(asked, offers, decided).await?;
        let (decision, kind) = self.decisions.enter(asked.order, choice.kind());
        let choice = if kind == choice.kind() {
            choice
        } else {
            // Another call of this name is under way.
            self.of_kind(asked, offers, kind, None).await?
        };
        let (terms, channel) = match choice {
            Choice::Ticket(ticket) => return self.pay_ticket(asked, request, *ticket, offers, way).await,
            Choice::Channel { terms, channel } => (*terms, channel),
        };
        let other = self.ticket_of(asked, offers).ok().filter(|_| decided.is_none());
        let turn = match &other {
            Some(_) => Turn::Leave,
            None => Turn::Wait,
        };
        let error = match self
            .pay_channel(asked, request, terms.clone(), channel, turn, way)
            .await?
        {
            ByChannel::Done(response) => return Ok(response),
            ByChannel::NotNow(error) => error,
        };
        match other {
            Some(ticket) if decision.change(Kind::Ticket) => {
                debug!(%channel, %error, "paying by ticket");
                self.pay_ticket(asked, request, ticket, offers, way).await
            }
            Some(_) => match self
                .pay_channel(asked, request, terms, channel, Turn::Wait, way)
                .await?
            {
                ByChannel::Done(response) => Ok(response),
                ByChannel::NotNow(error) => Err(asked.channel_error(error, &Notes::default()).into()),
            },
            None => Err(asked.channel_error(error, &Notes::default()).into()),
        }
    }

    /// By which kind this order was paid before; durable, since a payment is stored before it leaves. A call without a name
    /// of the caller's that can be paid in one way only is not looked up.
    async fn decided(&self, asked: &Asked<'_>) -> Result<Option<(Kind, Option<ChannelId>)>, ClientError> {
        let failed = |cause| ClientError::Store {
            key: asked.key_text(),
            cause,
        };
        if let Some(channels) = &self.channels
            && let Some(channel) = channels.has(asked.order).await.map_err(failed)?
        {
            return Ok(Some((Kind::Channel, Some(channel))));
        }
        if let Some(tickets) = &self.tickets
            && (asked.named || self.channels.is_some())
            && tickets.has(asked.order).await.map_err(failed)?
        {
            return Ok(Some((Kind::Ticket, None)));
        }
        Ok(None)
    }

    async fn choose(
        &self,
        asked: &Asked<'_>,
        offers: &Offers,
        decided: Option<(Kind, Option<ChannelId>)>,
    ) -> Result<Choice, ClientError> {
        match decided {
            Some((kind, channel)) => self.of_kind(asked, offers, kind, channel).await,
            None => match self.channel_for(asked, offers).await? {
                Some(choice) => Ok(choice),
                None if self.tickets.is_none() && offers.channel.is_some() => {
                    Err(self.no_channel(asked, offers))
                }
                None => Ok(Choice::Ticket(Box::new(self.ticket_of(asked, offers)?))),
            },
        }
    }

    /// The same call once more, which is paid by this kind for ever.
    async fn of_kind(
        &self,
        asked: &Asked<'_>,
        offers: &Offers,
        kind: Kind,
        channel: Option<ChannelId>,
    ) -> Result<Choice, ClientError> {
        let gone = || ClientError::KindGone {
            origin: asked.target.origin.to_string(),
            key: asked.key_text(),
            kind: kind.scheme(),
        };
        match (kind, channel) {
            (Kind::Ticket, _) if offers.ticket.is_none() => Err(gone()),
            (Kind::Ticket, _) => Ok(Choice::Ticket(Box::new(self.ticket_of(asked, offers)?))),
            (Kind::Channel, Some(channel)) => Ok(Choice::Channel {
                terms: Box::new(offers.channel.clone().ok_or_else(gone)?),
                channel,
            }),
            (Kind::Channel, None) => self.channel_for(asked, offers).await?.ok_or_else(gone),
        }
    }

    /// A channel that can pay this price, if one is open.
    async fn channel_for(&self, asked: &Asked<'_>, offers: &Offers) -> Result<Option<Choice>, ClientError> {
        let (Some(channels), Some(terms)) = (&self.channels, &offers.channel) else {
            return Ok(None);
        };
        let open = self.openings.find(&**channels, terms, self.now()).await;
        let open = open.map_err(|cause| ClientError::Store {
            key: asked.key_text(),
            cause,
        })?;
        Ok(open.map(|channel| Choice::Channel {
            terms: Box::new(terms.clone()),
            channel,
        }))
    }

    fn no_channel(&self, asked: &Asked<'_>, offers: &Offers) -> ClientError {
        let terms = offers.channel.as_ref();
        ClientError::NoChannel {
            origin: asked.target.origin.to_string(),
            vendor: terms.map_or_else(Default::default, |terms| terms.pay_to),
        }
    }

    /// The terms of a ticket, and the quote that they make for our escrow.
    fn ticket_of(&self, asked: &Asked<'_>, offers: &Offers) -> Result<(Requirements, Quote), ClientError> {
        let terms = offers.ticket.clone().ok_or_else(|| ClientError::NoCommonWay {
            origin: asked.target.origin.to_string(),
            offered: Kind::Channel.scheme().to_owned(),
            mine: self.contracts.schemes(),
        })?;
        let quote = self.quote(&asked.target, &terms)?;
        Ok((terms, quote))
    }

    /// Pays by ticket, and asks again with the same one while that can help.
    async fn pay_ticket(
        &self,
        asked: &Asked<'_>,
        request: &Item,
        (terms, quote): (Requirements, Quote),
        offers: &Offers,
        way: &Way<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let (Some(payer), Some(escrow)) = (&self.tickets, &self.escrow) else {
            return Err(self.no_channel(asked, offers).into());
        };
        let (asset, recipient) = (quote.asset, quote.recipient);
        let budgets = self.budgets(asked, asset);
        let call = ticket::Call {
            terms: self,
            way,
            target: &asked.target,
            key: asked.key,
            escrow,
            order: asked.order,
            accepted: Mutex::new(terms),
            notes: Notes::default(),
        };
        let seller = by_ticket::Seller::with_quote(call, quote);
        let notes = &seller.api().notes;
        let purchase = by_ticket::Purchase {
            order: asked.order,
            item: Arc::clone(request),
        };
        let mut pauses = Pauses::new(asked, request);
        loop {
            let error = match payer.pay(&seller, &purchase, &budgets).await {
                Ok(payment) => {
                    let mut answer = payment.good;
                    let acknowledged = notes.acknowledged.load(Ordering::Relaxed);
                    if acknowledged {
                        self.openings.paid_by_ticket(&asked.target, offers, self.now());
                    } else {
                        self.cache.learn_free(&asked.target);
                    }
                    answer.extensions_mut().insert(Paid {
                        proof: Proof::Ticket {
                            ticket: payment.ticket,
                        },
                        price: payment.price,
                        asset,
                        recipient,
                        order: payment.order,
                        key: asked.key_text(),
                        requests: way.requests(),
                        before: false,
                        acknowledged,
                    });
                    return Ok(answer);
                }
                Err(error) => error,
            };
            if let Some(answer) = notes.uncharged.lock().take() {
                return Ok(answer);
            }
            if !pauses.again(error.retry(), &error, notes).await {
                return Err(asked.explain(error, notes).into());
            }
        }
    }

    /// Pays by channel, and asks again with the same word while that can help. A price that has changed is followed: what was
    /// revealed for the old one counts for the new.
    async fn pay_channel(
        &self,
        asked: &Asked<'_>,
        request: &Item,
        mut terms: ChannelRequirements,
        channel: ChannelId,
        turn: Turn,
        way: &Way<'_>,
    ) -> reqwest_middleware::Result<ByChannel> {
        let Some(payer) = &self.channels else {
            return Err(ClientError::NoChannel {
                origin: asked.target.origin.to_string(),
                vendor: terms.pay_to,
            }
            .into());
        };
        let mut pauses = Pauses::new(asked, request);
        let mut prices = 0;
        loop {
            let (price, asset, recipient) = (Amount(terms.amount), terms.asset, terms.pay_to);
            let budgets = self.budgets(asked, asset);
            let purchase = by_channel::Purchase {
                order: asked.order,
                item: Arc::clone(request),
                item_hash: item_hash(asked.target.method.as_str(), &asked.path_and_query()),
                price,
                asset,
            };
            let call = channel::Call {
                terms: self,
                way,
                target: &asked.target,
                url: &asked.url,
                key: asked.key,
                signer: payer.key(),
                now: payer.edges().now,
                price,
                accepted: Mutex::new(terms.clone()),
                notes: Notes::default(),
                sent: Mutex::default(),
                repriced: Mutex::default(),
            };
            let error = match payer.pay(&call, &purchase, channel, &budgets, turn).await {
                Ok(paid) => {
                    let mut answer = paid.good;
                    let (payment, key) = (paid.payment, asked.key_text());
                    answer.extensions_mut().insert(Paid {
                        proof: Proof::Channel {
                            channel: payment.channel,
                            index: payment.index,
                            tag: payment.tag,
                        },
                        price,
                        asset,
                        recipient,
                        order: paid.order,
                        key,
                        requests: way.requests(),
                        before: false,
                        acknowledged: true,
                    });
                    return Ok(ByChannel::Done(answer));
                }
                Err(error) => error,
            };
            let notes = &call.notes;
            if let Some(mut answer) = notes.uncharged.lock().take() {
                if answer.status().is_success() || answer.status().is_redirection() {
                    self.cache.learn_free(&asked.target);
                    let sent = *call.sent.lock();
                    if let Some(payment) = sent {
                        answer.extensions_mut().insert(Paid {
                            proof: Proof::Channel {
                                channel: payment.channel,
                                index: payment.index,
                                tag: payment.tag,
                            },
                            price,
                            asset,
                            recipient,
                            order: asked.order,
                            key: asked.key_text(),
                            requests: way.requests(),
                            before: false,
                            acknowledged: false,
                        });
                    }
                }
                return Ok(ByChannel::Done(answer));
            }
            if call.sent.lock().is_none() && self.decided(asked).await?.is_none() {
                if error.needs_top_up() || matches!(error, by_channel::PayError::Chain(_)) {
                    self.openings.worn_out(channel);
                }
                return Ok(ByChannel::NotNow(error));
            }
            let repriced = call.repriced.lock().take();
            if let (by_channel::PayError::Refused { .. }, Some(fresh)) = (&error, repriced)
                && prices < PRICES
                && request.again()
            {
                debug!(origin = %asked.target.origin, was = %price, now = fresh.amount, "the price has changed");
                prices += 1;
                terms = fresh;
                continue;
            }
            if !error.retry() && matches!(error, by_channel::PayError::Refused { .. }) {
                // Whatever it is, the next call need not meet it again.
                self.openings.worn_out(channel);
            }
            if !pauses.again(error.retry(), &error, notes).await {
                return Err(asked.channel_error(error, notes).into());
            }
        }
    }

    async fn would_pay(&self, asked: &Asked<'_>, offers: &Offers) -> Result<WouldPay, ClientError> {
        self.check_secure(asked)?;
        match self.choose(asked, offers, None).await? {
            Choice::Ticket(ticket) => {
                let (terms, quote) = *ticket;
                let budgets = self.budgets(asked, quote.asset);
                if let Some(payer) = &self.tickets {
                    let checked = payer.check(&quote, &budgets).await;
                    checked.map_err(|error| asked.explain(error, &Notes::default()))?;
                }
                Ok(WouldPay {
                    kind: Kind::Ticket,
                    channel: None,
                    price: quote.price,
                    asset: quote.asset,
                    recipient: quote.recipient,
                    route: terms.extra.route,
                })
            }
            Choice::Channel { terms, channel } => {
                let (price, budgets) = (Amount(terms.amount), self.budgets(asked, terms.asset));
                if let Some(payer) = &self.channels {
                    let checked = payer.check(channel, price, terms.asset, &budgets).await;
                    checked.map_err(|error| asked.channel_error(error, &Notes::default()))?;
                }
                Ok(WouldPay {
                    kind: Kind::Channel,
                    channel: Some(channel),
                    price,
                    asset: terms.asset,
                    recipient: terms.pay_to,
                    route: terms.extra.route,
                })
            }
        }
    }

    fn budgets(&self, asked: &Asked<'_>, asset: alloy_primitives::Address) -> Vec<storage::Budget> {
        let budgets = &self.settings.budgets;
        budgets.accounts(&asked.target.host, asset, self.now())
    }

    fn check_secure(&self, asked: &Asked<'_>) -> Result<(), ClientError> {
        if asked.secure || self.settings.plain_http {
            return Ok(());
        }
        Err(ClientError::PlainHttp {
            origin: asked.target.origin.to_string(),
        })
    }

    fn quote(&self, target: &Target, terms: &Requirements) -> Result<Quote, ClientError> {
        let origin = || target.origin.to_string();
        let Some(payer) = &self.tickets else {
            return Err(ClientError::NoCommonWay {
                origin: origin(),
                offered: Kind::Ticket.scheme().to_owned(),
                mine: self.contracts.schemes(),
            });
        };
        terms
            .quote(payer.domain(), payer.escrow(), payer.record())
            .map_err(|cause| ClientError::Terms {
                origin: origin(),
                cause,
            })
    }
}

impl Choice {
    fn kind(&self) -> Kind {
        match self {
            Self::Ticket(_) => Kind::Ticket,
            Self::Channel { .. } => Kind::Channel,
        }
    }
}

impl Terms for MicropayMiddleware {
    fn learn(&self, target: &Target, answer: &Response) -> Result<Offers, ClientError> {
        let unreadable = |cause| ClientError::Unreadable {
            origin: target.origin.to_string(),
            cause,
        };
        let header = answer.headers().get(PAYMENT_REQUIRED);
        let header = header
            .and_then(|value| value.to_str().ok())
            .ok_or_else(|| unreadable(WireError::Base64("bytes that are no text".into())))?;
        let mut offers = read_required(header, self.contracts).map_err(unreadable)?;
        // Another contract of our chain is none of ours.
        let domain = self.contracts.channel;
        offers.channel = offers
            .channel
            .filter(|terms| domain.is_some_and(|domain| terms.is_of(&domain)));
        if offers.is_empty() {
            return Err(ClientError::NoCommonWay {
                origin: target.origin.to_string(),
                offered: offered(header).map_err(unreadable)?,
                mine: self.contracts.ways(),
            });
        }
        if !self.cache.learn(target, &offers) {
            let route = offers.route();
            debug!(origin = %target.origin, route, "terms for another route than the one asked");
        }
        Ok(offers)
    }

    fn ticket(&self, target: &Target, answer: &Response) -> Result<(Requirements, Quote), ClientError> {
        let offers = self.learn(target, answer)?;
        let terms = offers.ticket.ok_or_else(|| ClientError::NoCommonWay {
            origin: target.origin.to_string(),
            offered: Kind::Channel.scheme().to_owned(),
            mine: self.contracts.ways(),
        })?;
        let quote = self.quote(target, &terms)?;
        Ok((terms, quote))
    }

    fn renewal(&self, target: &Target, next: &Requirements) -> Option<Quote> {
        let domain = self.contracts.ticket.as_ref()?;
        Requirements::check_kind(&next.scheme, &next.network, domain).ok()?;
        let quote = self.quote(target, next).ok()?;
        self.cache.renew(target, next).then_some(quote)
    }
}

/// The pauses between attempts at one call.
struct Pauses<'a> {
    asked: &'a Asked<'a>,
    /// Whether the request can be sent again.
    again: bool,
    attempt: u32,
    pause: Duration,
}

impl<'a> Pauses<'a> {
    fn new(asked: &'a Asked<'a>, request: &Replay) -> Self {
        Self {
            asked,
            again: request.again(),
            attempt: 1,
            pause: FIRST_PAUSE,
        }
    }

    /// Waits before the next attempt; false if there is to be none.
    async fn again(&mut self, can_help: bool, error: &impl std::fmt::Display, notes: &Notes) -> bool {
        let give_up = notes.give_up.load(Ordering::Relaxed) || self.attempt >= ATTEMPTS || !self.again;
        if give_up || !can_help {
            return false;
        }
        let wait = notes.wait.lock().take().unwrap_or(self.pause).min(LONGEST_PAUSE);
        let target = &self.asked.target;
        info!(origin = %target.origin, path = target.path, %error, wait_ms = wait.as_millis(), "trying again");
        tokio::time::sleep(wait).await;
        self.pause *= 2;
        self.attempt += 1;
        true
    }
}

#[async_trait]
impl Middleware for MicropayMiddleware {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        if request.method() == Method::OPTIONS || has_payment(&request) {
            return next.run(request, extensions).await;
        }
        let way = Way::new(next, extensions);
        let asked = Origin::of(request.url());
        let named = request.headers().contains_key(IDEMPOTENCY_KEY);
        let mut key = match request.headers().get(IDEMPOTENCY_KEY) {
            Some(key) => key.clone(),
            None => hex_key((self.edges().random)()),
        };
        for hop in 0.. {
            let copy = request.try_clone();
            let answer = self.call(request, &key, named, &asked, &way).await?;
            let limit = self.settings.redirects;
            let Some(mut led_to) = redirect::next(&answer, copy).filter(|_| limit > 0) else {
                return Ok(answer);
            };
            if hop == limit {
                return Err(ClientError::TooManyRedirects { limit }.into());
            }
            debug!(from = %asked, to = %Origin::of(led_to.url()), path = led_to.url().path(), "redirected");
            // Another call, whose name follows from this one's, so that the same call made again comes to the same.
            let url = led_to.url().as_str().as_bytes();
            let tag = b"micropay/http/redirect/v1".as_slice();
            key = hex_key(keccak256([tag, key.as_bytes(), b"\0", url].concat()));
            led_to.headers_mut().remove(IDEMPOTENCY_KEY);
            take_body(answer).await;
            request = led_to;
        }
        unreachable!("the redirects are counted")
    }
}

/// A call as the caller means it.
struct Asked<'a> {
    target: Target,
    /// Whether nobody can listen.
    secure: bool,
    key: &'a HeaderValue,
    /// Whether the caller gave it this name.
    named: bool,
    order: OrderId,
    url: Url,
}

impl Asked<'_> {
    fn key_text(&self) -> String {
        String::from_utf8_lossy(self.key.as_bytes()).into_owned()
    }

    /// As it is sent.
    fn path_and_query(&self) -> String {
        let path = self.url.path();
        self.url
            .query()
            .map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
    }

    /// The caller's error for one of the payer's steps.
    fn explain(&self, error: by_ticket::PayError, notes: &Notes) -> ClientError {
        if let by_ticket::PayError::Api(api) = &error
            && let Some(known) = self.of_api(api, notes)
        {
            return known;
        }
        ClientError::Pay {
            key: self.key_text(),
            cause: error,
        }
    }

    /// The same by channel.
    fn channel_error(&self, error: by_channel::PayError, notes: &Notes) -> ClientError {
        if let by_channel::PayError::Api(api) = &error
            && let Some(known) = self.of_api(api, notes)
        {
            return known;
        }
        ClientError::PayChannel {
            key: self.key_text(),
            cause: Box::new(error),
        }
    }

    /// The error itself, where the payer's steps only have its words.
    fn of_api(&self, error: &by_ticket::ApiError, notes: &Notes) -> Option<ClientError> {
        match error {
            by_ticket::ApiError::Transport(_) => {
                let cause = Box::new(notes.failure.lock().take()?);
                let key = self.key_text();
                Some(ClientError::NoAnswer { key, cause })
            }
            by_ticket::ApiError::Malformed(_) => notes.cause.lock().take(),
            _ => None,
        }
    }
}

/// Whether other terms could be acceptable.
fn is_about_terms(error: &reqwest_middleware::Error) -> bool {
    match ClientError::of(error) {
        Some(ClientError::Terms { .. }) => true,
        Some(ClientError::Pay { cause, .. }) => {
            use by_ticket::PayError::{Limit, Store};
            matches!(cause, Limit(_) | Store(StoreError::OverBudget { .. }))
        }
        Some(ClientError::PayChannel { cause, .. }) => {
            use by_channel::PayError::{Limit, Store};
            matches!(**cause, Limit(_) | Store(StoreError::OverBudget { .. }))
        }
        Some(ClientError::NoChannel { .. } | ClientError::KindGone { .. }) => true,
        _ => false,
    }
}

/// Names a call: the same key for the same origin and method is the same purchase, for ever.
fn order_of(target: &Target, key: &HeaderValue) -> OrderId {
    let parts = [
        target.origin.as_str().as_bytes(),
        target.method.as_str().as_bytes(),
        key.as_bytes(),
    ];
    let mut bytes = b"micropay/http/call/v1".to_vec();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    OrderId(keccak256(bytes))
}

fn hex_key(bytes: B256) -> HeaderValue {
    HeaderValue::try_from(hex::encode(bytes)).expect("hexadecimal is ASCII")
}

/// Whether a connection is encrypted, or does not leave this machine.
fn is_secure(url: &Url) -> bool {
    url.scheme() == "https"
        || match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
}

/// Whether the caller pays by itself.
fn has_payment(request: &Request) -> bool {
    let headers = request.headers();
    let authorization = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '));
    headers.contains_key(PAYMENT_SIGNATURE)
        || headers.contains_key(PAYMENT_AUTHORIZATION)
        || authorization.is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("payment"))
}
