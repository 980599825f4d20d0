//! The snapshot in the OpenMetrics text format, which Prometheus reads. Nothing is registered beforehand: a scrape turns one
//! snapshot into text. No label names a payer, so that the number of series is bounded.
//!
//! Amounts are floating-point numbers here, exact to 15 digits; `/snapshot.json` has every digit.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use protocol::ticket::Amount;

use super::channels::ChannelsView;
use super::counters::Times;
use super::snapshot::{Money, Snapshot};

/// What a scraper is told that it gets.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The text of one scrape.
pub(crate) fn render(snapshot: &Snapshot) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(snapshot.clone())));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Scrape(Snapshot);

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        out.process(&self.0)?;
        out.tickets(&self.0)?;
        out.traffic(&self.0)?;
        if let Some(money) = &self.0.money {
            out.money(money)?;
        }
        if let Some(channels) = &self.0.channels {
            out.channels(channels)?;
        }
        out.mirror(&self.0)
    }
}

/// Writes metrics. A family is a list of label values with a number each.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn process(&mut self, s: &Snapshot) -> fmt::Result {
        let mut build = self
            .0
            .encode_descriptor("micropay_build", "The program", None, MetricType::Info)?;
        build.encode_info(&[("version", s.facts.version.as_str())])?;
        self.gauge(
            "micropay_ready",
            "Whether payments are accepted",
            None,
            u64::from(s.not_ready.is_none()),
        )?;
        self.gauge(
            "micropay_start_time",
            "Since when this process counts (Unix time)",
            Some(&Unit::Seconds),
            s.started.0,
        )
    }

    fn tickets(&mut self, s: &Snapshot) -> fmt::Result {
        let total = &s.total;
        self.counter(
            "micropay_tickets_accepted",
            "Tickets accepted",
            None,
            total.accepted,
        )?;
        self.gauge(
            "micropay_revenue_expected",
            "What the accepted tickets were worth in expectation",
            Some(&atomic()),
            float(total.revenue),
        )?;
        self.counter("micropay_wins", "Accepted tickets that won", None, total.wins)?;
        self.gauge(
            "micropay_wins_expected",
            "How many should have won on average",
            None,
            total.expected,
        )?;
        let (low, high) = total.band;
        self.gauges(
            "micropay_wins_band",
            "99 % of honest payers have wins from low to high",
            "edge",
            None,
            [("low", low), ("high", high)],
        )?;
        self.gauges(
            "micropay_watch_alarm",
            "Wins too few for chance: 1 for all tickets together, and the number of payers of whom it is so",
            "scope",
            None,
            [("total", u64::from(total.alarmed)), ("payers", s.flagged)],
        )?;
        self.gauge(
            "micropay_watch_suspicion",
            "How near the alarm on all tickets is: 1 is the alarm",
            None,
            total.suspicion,
        )?;
        self.gauge(
            "micropay_payers_known",
            "Payers remembered one by one",
            None,
            s.known_payers,
        )?;
        self.counter(
            "micropay_payers_forgotten",
            "Payers forgotten to make room",
            None,
            s.forgotten.payers,
        )
    }

    fn traffic(&mut self, s: &Snapshot) -> fmt::Result {
        let rules = s.refusals.iter().copied();
        self.counters("micropay_refusals", "Payments refused", "rule", rules)?;
        let outcomes = s.upstream.iter().copied();
        self.counters(
            "micropay_upstream_requests",
            "How requests to the upstream ended",
            "outcome",
            outcomes,
        )?;
        self.counter(
            "micropay_replays",
            "Payments answered from the stored answers",
            None,
            s.replays,
        )?;
        self.counter(
            "micropay_received",
            "Bodies of requests",
            Some(&Unit::Bytes),
            s.bytes_received,
        )?;
        self.counter(
            "micropay_sent",
            "Bodies of answers",
            Some(&Unit::Bytes),
            s.bytes_sent,
        )?;
        self.histogram(
            "micropay_request_duration",
            "Requests from their first to their last byte",
            &s.durations.times,
        )?;
        self.histogram(
            "micropay_added_latency",
            "How much longer requests took than their upstream did",
            &s.additions.times,
        )
    }

    fn money(&mut self, money: &Money) -> fmt::Result {
        let states = [
            ("won", money.won),
            ("queued", money.queued),
            ("sent", money.sent),
            ("mined", money.mined),
            ("final", money.paid),
        ];
        let refused = ("refused", money.refused);
        self.gauges(
            "micropay_winners",
            "Winning tickets of all times by state",
            "state",
            None,
            states
                .iter()
                .map(|(state, sum)| (*state, sum.count))
                .chain([refused]),
        )?;
        self.gauges(
            "micropay_prizes",
            "Prizes of winning tickets by state; final ones as credited",
            "state",
            Some(&atomic()),
            states.map(|(state, sum)| (state, float(sum.amount))),
        )?;
        self.gauge(
            "micropay_owed",
            "Prizes that escrows recorded as debt",
            Some(&atomic()),
            float(money.owed),
        )?;
        let [queued, sent, mined] = money.open_claims;
        self.gauges(
            "micropay_claims",
            "Claims that are not final",
            "state",
            None,
            [("queued", queued), ("sent", sent), ("mined", mined)],
        )
    }

    fn channels(&mut self, channels: &ChannelsView) -> fmt::Result {
        let sum = channels.since_start;
        self.counter(
            "micropay_channel_payments",
            "Payments by channel delivered",
            None,
            sum.payments,
        )?;
        self.gauge(
            "micropay_channel_revenue",
            "What the payments by channel were for",
            Some(&atomic()),
            float(sum.revenue),
        )?;
        if let Some(age) = channels.age {
            self.gauge(
                "micropay_channel_mirror_age",
                "Since the view of the channels last equalled the node's newest block",
                Some(&Unit::Seconds),
                age,
            )?;
        }
        let Some(money) = &channels.money else {
            return Ok(());
        };
        self.gauges(
            "micropay_channels",
            "Channels that have paid",
            "state",
            None,
            [("open", money.open), ("closed", money.closed)],
        )?;
        self.gauges(
            "micropay_channel_money",
            "Paid by channel: not settled yet, and credited by the contract",
            "state",
            Some(&atomic()),
            [
                ("unsettled", float(money.unsettled)),
                ("settled", float(money.settled)),
            ],
        )?;
        if let Some(expiry) = money.next_expiry {
            self.gauge(
                "micropay_channel_next_expiry",
                "When the first open channel with something unsettled expires (Unix time)",
                Some(&Unit::Seconds),
                expiry.0,
            )?;
        }
        let [queued, sent, mined] = money.under_way;
        self.gauges(
            "micropay_settlements",
            "Closes and checkpoints that are not final",
            "state",
            None,
            [("queued", queued), ("sent", sent), ("mined", mined)],
        )
    }

    fn mirror(&mut self, s: &Snapshot) -> fmt::Result {
        let mirror = &s.mirror;
        if let Some(age) = mirror.age {
            self.gauge(
                "micropay_mirror_age",
                "Since the view of the chain last equalled the node's newest block",
                Some(&Unit::Seconds),
                age,
            )?;
        }
        self.gauges(
            "micropay_mirror_block",
            "Height of the view of the chain",
            "block",
            None,
            [("newest", mirror.head), ("final", mirror.final_block)],
        )?;
        self.gauge(
            "micropay_mirror_escrows",
            "Escrows of the contract",
            None,
            mirror.escrows,
        )
    }

    fn counter(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn counters<'a, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'a str, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (of, value) in values {
            family
                .encode_family(&[(label, of)])?
                .encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: impl EncodeGaugeValue + Copy,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        metric.encode_gauge(&value)
    }

    fn gauges<'a, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        unit: Option<&Unit>,
        values: impl IntoIterator<Item = (&'a str, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (of, value) in values {
            family.encode_family(&[(label, of)])?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, help: &str, times: &Times) -> fmt::Result {
        let bounds = times.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(times.counts.iter().copied()).collect();
        let mut metric = self
            .0
            .encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        metric.encode_histogram::<NoLabelSet>(times.seconds, times.count(), &buckets, None)
    }
}

fn atomic() -> Unit {
    Unit::Other("atomic".into())
}

fn float(amount: Amount) -> f64 {
    amount.0 as f64
}
