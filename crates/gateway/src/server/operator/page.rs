//! The operator's page: one document with its style, no script, nothing from elsewhere. `maud` escapes whatever is put in,
//! so that names from the chain and texts of errors stay text.

mod chart;

use std::sync::LazyLock;

use alloy_primitives::Address;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use protocol::ticket::{Amount, Seconds, Timestamp};
use sha2::{Digest, Sha256};

use super::amount::{Asset, bytes, count, date, number, seconds, short, short_hash, span};
use super::channels::{ChannelLine, ChannelsView, SettlementLine};
use super::counters::ErrorLine;
use super::snapshot::{ClaimLine, EscrowLine, Money, PayerLine, Snapshot, Sum, Tickets, TimesLine};

const STYLE: &str = include_str!("page/style.css");
/// A coin with a ticket's notch.
pub(crate) const ICON: &str = r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 28 28" aria-hidden="true"><path fill="#0b7e85" d="M5 5h18a4 4 0 0 1 4 4v2a3 3 0 0 0 0 6v2a4 4 0 0 1-4 4H5a4 4 0 0 1-4-4v-2a3 3 0 0 0 0-6V9a4 4 0 0 1 4-4z"/><circle cx="14" cy="14" r="4.5" fill="none" stroke="#fff" stroke-width="2"/></svg>"##;
/// A channel that ends within so long, and is not settled, stands out: its vendor closes six hours before.
const SOON: Seconds = Seconds::DAY;
/// Seconds between two loads of the page by itself.
const REFRESH: u32 = 10;

/// What a browser may do with the page: show it with its own style and icon. No script, no form, no frame, no other host.
pub(crate) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; img-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
});

/// The page. `still`: it does not load itself again.
pub(crate) fn render(snapshot: &Snapshot, still: bool) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                @if !still { meta http-equiv="refresh" content=(REFRESH); }
                title { (title(snapshot)) }
                link rel="icon" href="/icon.svg" type="image/svg+xml";
                style { (PreEscaped(STYLE)) }
            }
            body {
                (header(snapshot))
                main {
                    (alerts(snapshot))
                    (revenue(snapshot))
                    (wins(snapshot))
                    (payers(snapshot))
                    @if let Some(view) = &snapshot.channels { (channels(snapshot, view)) }
                    (claims(snapshot))
                    div.two { (traffic(snapshot)) (chain(snapshot)) }
                    (refusals(snapshot))
                    (errors(snapshot))
                }
                (footer(snapshot, still))
            }
        }
    }
}

/// What a tab shows while another one is open: trouble first.
fn title(s: &Snapshot) -> &'static str {
    if s.not_ready.is_some() {
        "Not selling · Micropay"
    } else if s.total.alarmed {
        "Too few wins · Micropay"
    } else {
        "Micropay gateway"
    }
}

fn header(s: &Snapshot) -> Markup {
    let facts = &s.facts;
    html! {
        header {
            div.top {
                (PreEscaped(ICON))
                h1 { "Micropay gateway" }
                @if s.not_ready.is_some() { span.chip.bad { "Not selling" } } @else { span.chip.good { "Selling" } }
            }
            dl.about {
                div { dt { "Sells" } dd { (facts.url) } }
                div { dt { "in front of" } dd { (facts.upstream) } }
                div { dt { "Paid to" } dd.mono title=(facts.recipient) { (short(facts.recipient)) } }
                div { dt { "Chain" } dd { (facts.chain_id) } }
                div { dt { "Contract" } dd.mono title=(facts.contract) { (short(facts.contract)) } }
                div { dt { "Up" } dd { (span(s.at.since(s.started))) } }
            }
        }
    }
}

fn alerts(s: &Snapshot) -> Markup {
    html! {
        @if let Some(reason) = &s.not_ready {
            div.alert.bad role="alert" {
                strong { "No payment is accepted" }
                p { (reason) }
            }
        }
        @if s.total.alarmed {
            div.alert.bad role="alert" {
                strong { "Fewer wins than chance explains" }
                p {
                    (count(s.total.wins)) " wins where " (number(s.total.expected)) " were expected. Compare the winners in \
                     the store with what was accepted, and see which payers are flagged below."
                }
            }
        }
        @if s.flagged > 0 {
            div.alert.warn role="alert" {
                strong {
                    @if s.flagged == 1 { "One payer wins too little" } @else { (count(s.flagged)) " payers win too little" }
                }
                p { "One in a hundred honest payers is flagged by chance; more, or a large one, is worth a look." }
            }
        }
    }
}

fn revenue(s: &Snapshot) -> Markup {
    let asset = &s.facts.asset;
    let total = &s.total;
    html! {
        section.cards aria-label="Revenue" {
            div.card {
                h2 { "Expected" }
                (amount(asset, total.revenue))
                p.small.soft { (plural(total.accepted, "ticket")) " since the start" }
            }
            @match &s.money {
                Some(money) => (winners(asset, money)),
                None => {
                    div.card { h2 { "Won, in claims, final" } p.empty { "The store does not answer." } }
                }
            }
        }
    }
}

fn winners(asset: &Asset, money: &Money) -> Markup {
    let claims = money.in_claims();
    html! {
        div.card {
            h2 { "Won" }
            (amount(asset, money.won.amount))
            p.small.soft { (plural(money.won.count, "winner")) " not claimed yet" }
        }
        div.card {
            h2 { "In claims" }
            (amount(asset, claims.amount))
            p.small.soft { (plural(claims.count, "winner")) " on the way" }
        }
        div.card.final {
            h2 { "Final" }
            (amount(asset, money.paid.amount))
            p.small.soft {
                (plural(money.paid.count, "winner")) " credited, all time"
                @if money.owed > Amount::ZERO { br; (asset.show(money.owed)) " owed by insolvent escrows" }
                @if money.refused > 0 { br; (plural(money.refused, "winner")) " refused" }
            }
        }
    }
}

fn wins(s: &Snapshot) -> Markup {
    let total = &s.total;
    html! {
        section {
            div.head {
                h2 { "Wins against expectation" }
                @if total.accepted > 0 { (verdict(total)) }
            }
            @if total.accepted == 0 {
                p.empty { "No ticket yet. Buy something from yourself: " code { "micropay get " (s.facts.url) } }
            } @else {
                dl.figures {
                    div { dt { "Wins" } dd { (count(total.wins)) } }
                    div { dt { "Expected" } dd { (number(total.expected)) } }
                    div { dt { "99 % band" } dd { (count(total.band.0)) " – " (count(total.band.1)) } }
                    div { dt { "Suspicion" } dd { (percent(total.suspicion)) } }
                }
                (chart::funnel(s))
            }
            details {
                summary { "How to read this" }
                p {
                    "Every ticket wins with a known probability, so that wins scatter around what is expected. The band \
                     holds 99 in 100 honest outcomes at any one moment; a line that leaves it now and then is no proof. The \
                     watch is: it asks after every ticket whether a fifth of the wins is missing, and flags an honest payer \
                     with a probability of 1 % in its whole life. Suspicion is how near it is to that. All of this counts \
                     from the start of this process."
                }
            }
        }
    }
}

fn verdict(tickets: &Tickets) -> Markup {
    let wins = tickets.wins;
    let (low, high) = tickets.band;
    html! {
        @if tickets.alarmed { span.chip.bad { "Too few wins" } }
        @else if wins < low { span.chip.warn { "Below the band" } }
        @else if wins > high { span.chip.warn { "Above the band" } }
        @else { span.chip.good { "As expected" } }
    }
}

/// As [`verdict`], but quiet where all is well: in a table the others must stand out.
fn watch(tickets: &Tickets) -> Markup {
    html! {
        @if tickets.alarmed { (verdict(tickets)) } @else { span.soft { "as expected" } }
    }
}

fn payers(s: &Snapshot) -> Markup {
    let asset = &s.facts.asset;
    let others = s.known_payers.saturating_sub(s.payers.len() as u64);
    html! {
        section {
            div.head {
                h2 { "Payers" }
                @if s.known_payers > 0 { span.small.soft { "since the start; flagged ones first, then by worth" } }
            }
            @if s.payers.is_empty() {
                p.empty { "Nobody has paid since the start." }
            } @else {
                table {
                    thead {
                        tr {
                            th scope="col" { "Payer" }
                            th.num scope="col" { "Tickets" }
                            th.num scope="col" { "Worth" }
                            th scope="col" { "Wins / expected" }
                            th scope="col" { "Watch" }
                            th scope="col" { "Escrows" }
                        }
                    }
                    tbody {
                        @for payer in &s.payers { (payer_row(asset, payer)) }
                    }
                }
                @if others > 0 { p.small.soft { "and " (plural(others, "payer")) " more" } }
                @if s.forgotten.payers > 0 {
                    p.small.soft {
                        (plural(s.forgotten.payers, "payer")) " forgotten to save memory: "
                        (plural(s.forgotten.accepted, "ticket")) " worth " (asset.show(s.forgotten.revenue))
                    }
                }
            }
        }
    }
}

fn payer_row(asset: &Asset, line: &PayerLine) -> Markup {
    let tickets = &line.tickets;
    html! {
        tr class=[tickets.alarmed.then_some("alarmed")] {
            td.lead { (address(line.payer)) }
            td.num data-label="Tickets" { (count(tickets.accepted)) }
            td.num data-label="Worth" title=(asset.exact(tickets.revenue)) { (asset.show(tickets.revenue)) }
            td.wide data-label="Wins / expected" {
                span.wins {
                    (chart::bullet(tickets))
                    span { (count(tickets.wins)) " / " (number(tickets.expected)) }
                }
            }
            td.state data-label="Watch" { (watch(tickets)) }
            td.wide data-label="Escrows" {
                ul.escrows { @for escrow in &line.escrows { (escrow_line(asset, escrow)) } }
            }
        }
    }
}

fn escrow_line(asset: &Asset, line: &EscrowLine) -> Markup {
    let covered = line.balance >= line.prize.saturating_mul(line.unclaimed);
    html! {
        li {
            (address(line.escrow))
            span title=(asset.exact(line.balance)) { (asset.show(line.balance)) }
            @match line.status {
                "open" => span.small.soft { "open" },
                "withdrawing" => span.chip.warn { "withdrawing" },
                other => span.chip.bad { (other) },
            }
            @if line.unclaimed > 0 { span.small.soft { (count(line.unclaimed)) " unclaimed" } }
            @if !covered { span.chip.bad { "not covered" } }
        }
    }
}

fn channels(s: &Snapshot, view: &ChannelsView) -> Markup {
    let asset = &s.facts.asset;
    let sum = view.since_start;
    html! {
        section {
            div.head {
                h2 { "Channels" }
                span.small.soft {
                    (plural(sum.payments, "payment")) " worth " (asset.show(sum.revenue)) " since the start"
                }
            }
            @match &view.money {
                Some(money) => {
                    dl.figures {
                        div { dt { "Open" } dd { (count(money.open)) } }
                        div { dt { "Unsettled" } dd title=(asset.exact(money.unsettled)) { (asset.show(money.unsettled)) } }
                        div { dt { "Settled" } dd title=(asset.exact(money.settled)) { (asset.show(money.settled)) } }
                        div {
                            dt { "First expiry" }
                            dd { @match money.next_expiry { Some(expiry) => (until(expiry, s.at)), None => "–" } }
                        }
                    }
                }
                None => p.empty { "The store does not answer." },
            }
            @if view.lines.is_empty() {
                p.empty { "No open channel has paid yet. A payer opens one when it comes back often." }
            } @else {
                table {
                    thead {
                        tr {
                            th scope="col" { "Channel" }
                            th scope="col" { "Client" }
                            th.num scope="col" { "Paid" }
                            th.num scope="col" { "Settled" }
                            th.num scope="col" { "Deposit" }
                            th scope="col" { "State" }
                            th.num scope="col" { "Expires" }
                        }
                    }
                    tbody { @for line in &view.lines { (channel_row(asset, line, s.at)) } }
                }
            }
            @if !view.settlements.is_empty() {
                details {
                    summary { "Closes and checkpoints" }
                    table {
                        thead {
                            tr {
                                th scope="col" { "Settlement" }
                                th scope="col" { "State" }
                                th.num scope="col" { "Channels" }
                                th.num scope="col" { "Paid" }
                                th.num scope="col" { "Fee" }
                                th scope="col" { "Transaction" }
                                th.num scope="col" { "Queued" }
                            }
                        }
                        tbody { @for line in &view.settlements { (settlement_row(asset, line, s.at)) } }
                    }
                }
            }
        }
    }
}

fn channel_row(asset: &Asset, line: &ChannelLine, now: Timestamp) -> Markup {
    let left = line.expiry.since(now);
    html! {
        tr {
            td.lead { span.mono title=(line.channel) { (short_hash(line.channel)) } }
            td data-label="Client" { (address(line.client)) }
            td.num data-label="Paid" title=(asset.exact(line.paid)) { (asset.show(line.paid)) }
            td.num data-label="Settled" title=(asset.exact(line.settled)) { (asset.show(line.settled)) }
            td.num data-label="Deposit" title=(asset.exact(line.deposit)) { (asset.show(line.deposit)) }
            td.state data-label="State" {
                @match line.state {
                    "open" if line.paid > line.settled && left < SOON => span.chip.warn { "ends soon" },
                    "open" => span.soft { "open" },
                    "closing" => span.chip { "closing" },
                    other => span.chip.bad { (other) },
                }
            }
            td.num data-label="Expires" { (until(line.expiry, now)) }
        }
    }
}

fn settlement_row(asset: &Asset, line: &SettlementLine, now: Timestamp) -> Markup {
    html! {
        tr {
            td.lead { "#" (line.id) " " (line.step) }
            td.state data-label="State" {
                @match line.state {
                    "final" => span.chip.good { "final" },
                    other => span.chip { (other) },
                }
            }
            td.num data-label="Channels" {
                span { (count(line.channels)) @if line.skipped > 0 { ", " (count(line.skipped)) " skipped" } }
            }
            td.num data-label="Paid" title=(asset.exact(line.paid)) { (asset.show(line.paid)) }
            td.num data-label="Fee" { @match line.fee { Some(fee) => (Asset::ether().show(fee)), None => "–" } }
            td data-label="Transaction" {
                @match line.transaction { Some(hash) => span.mono title=(hash) { (short_hash(hash)) }, None => "–" }
            }
            td.num data-label="Queued" { (ago(line.queued_at, now)) }
        }
    }
}

fn until(at: Timestamp, now: Timestamp) -> Markup {
    html! {
        @if at < now { time title=(date(at)) { (span(now.since(at))) " ago" } }
        @else { time title=(date(at)) { "in " (span(at.since(now))) } }
    }
}

fn claims(s: &Snapshot) -> Markup {
    html! {
        section {
            div.head {
                h2 { "Claims" }
                @if !s.claims.is_empty() { span.small.soft { "the latest, newest first" } }
            }
            @if s.claims.is_empty() {
                p.empty { "No claim yet. Winners are claimed together when that is worth its gas; now at once: " code { "micropay claim now --from KEY" } }
            } @else {
                table {
                    thead {
                        tr {
                            th scope="col" { "Claim" }
                            th scope="col" { "State" }
                            th.num scope="col" { "Winners" }
                            th.num scope="col" { "Prizes" }
                            th.num scope="col" { "Fee" }
                            th scope="col" { "Transaction" }
                            th.num scope="col" { "Queued" }
                        }
                    }
                    tbody {
                        @for claim in &s.claims { (claim_row(&s.facts.asset, claim, s.at)) }
                    }
                }
            }
        }
    }
}

fn claim_row(asset: &Asset, claim: &ClaimLine, now: Timestamp) -> Markup {
    let Sum {
        count: winners,
        amount,
    } = claim.wins;
    html! {
        tr {
            td.lead { "#" (claim.id) }
            td.state data-label="State" {
                @match claim.state {
                    "final" => span.chip.good { "final" },
                    other => span.chip { (other) },
                }
            }
            td.num data-label="Winners" {
                span { (count(winners)) @if claim.refused > 0 { ", " (count(claim.refused)) " refused" } }
            }
            td.num data-label="Prizes" title=(asset.exact(amount)) { (asset.show(amount)) }
            td.num data-label="Fee" {
                @match claim.fee { Some(fee) => (Asset::ether().show(fee)), None => "–" }
            }
            td data-label="Transaction" {
                span {
                    @match claim.transaction { Some(hash) => span.mono title=(hash) { (short_hash(hash)) }, None => "–" }
                    @if claim.transactions > 1 { span.small.soft { " (" (claim.transactions) " signed)" } }
                }
            }
            td.num data-label="Queued" { (ago(claim.queued_at, now)) }
        }
    }
}

fn refusals(s: &Snapshot) -> Markup {
    let mut rules = s.refusals.clone();
    rules.sort_by_key(|(rule, times)| (std::cmp::Reverse(*times), *rule));
    html! {
        section {
            h2 { "Refusals by rule" }
            @if rules.is_empty() {
                p.empty { "No payment has been refused." }
            } @else {
                (bars(&rules))
            }
        }
    }
}

fn traffic(s: &Snapshot) -> Markup {
    let outcomes: Vec<_> = s
        .upstream
        .iter()
        .copied()
        .filter(|(_, times)| *times > 0)
        .collect();
    html! {
        section {
            h2 { "Traffic" }
            @if s.durations.count == 0 && outcomes.is_empty() {
                p.empty { "No request has come yet." }
            } @else {
                dl.rows {
                    div { dt { "Requests" } dd { (count(s.durations.count)) } }
                    div { dt { "Time of a request" } dd { (times(&s.durations)) } }
                    div { dt { "Added by the gateway" } dd { (times(&s.additions)) } }
                    div { dt { "Received, sent" } dd { (bytes(s.bytes_received)) ", " (bytes(s.bytes_sent)) } }
                    div { dt { "Answered again from store" } dd { (count(s.replays)) } }
                    div {
                        dt { "Upstream" }
                        dd {
                            @for (i, (outcome, times)) in outcomes.iter().enumerate() {
                                @if i > 0 { " · " }
                                (count(*times)) " × " (outcome)
                            }
                        }
                    }
                }
            }
        }
    }
}

fn chain(s: &Snapshot) -> Markup {
    let mirror = &s.mirror;
    html! {
        section {
            h2 { "Chain" }
            dl.rows {
                div {
                    dt { "View of the chain" }
                    dd {
                        @match mirror.age {
                            Some(age) => { (seconds(age)) " old, accepted up to " (span(s.facts.max_mirror_age)) },
                            None => "not read to its end yet",
                        }
                    }
                }
                div { dt { "Newest block" } dd title=(date(mirror.head_at)) { (count(mirror.head)) ", " (ago(mirror.head_at, s.at)) } }
                div { dt { "Final block" } dd { (count(mirror.final_block)) } }
                div { dt { "Escrows in the contract" } dd { (count(mirror.escrows)) } }
            }
        }
    }
}

fn errors(s: &Snapshot) -> Markup {
    /// So many are shown at once; the others on demand.
    const FIRST: usize = 10;
    let (first, older) = s.errors.split_at(s.errors.len().min(FIRST));
    html! {
        section {
            h2 { "Last errors" }
            @if first.is_empty() {
                p.empty { "None since the start." }
            } @else {
                (error_list(first, s.at))
            }
            @if !older.is_empty() {
                details {
                    summary { (plural(older.len() as u64, "older error")) }
                    (error_list(older, s.at))
                }
            }
        }
    }
}

fn error_list(errors: &[ErrorLine], now: Timestamp) -> Markup {
    html! {
        ul.errors {
            @for error in errors {
                li {
                    span.small.soft { (ago(error.at, now)) }
                    span { span.chip { (error.place) } }
                    span.what { (error.text) @if error.times > 1 { span.soft { " × " (count(error.times)) } } }
                }
            }
        }
    }
}

fn footer(s: &Snapshot, still: bool) -> Markup {
    html! {
        footer {
            span { "Micropay " (s.facts.version) }
            span { (date(s.at)) }
            @if still { a href="/" { "Refresh every " (REFRESH) " s" } } @else { a href="/?still" { "Stop refreshing" } }
            a href="/metrics" { "Metrics" }
            a href="/snapshot.json" { "JSON" }
            a href="/healthz" { "Health" }
        }
    }
}

fn bars(values: &[(&'static str, u64)]) -> Markup {
    let longest = values.iter().map(|(_, times)| *times).max().unwrap_or(0);
    html! {
        ul.bars {
            @for (name, times) in values {
                li { span.name { (name) } span { (count(*times)) } (chart::bar(*times, longest)) }
            }
        }
    }
}

/// A large amount, its unit small.
fn amount(asset: &Asset, amount: Amount) -> Markup {
    let shown = asset.show(amount);
    let (figure, unit) = shown.split_once(' ').unwrap_or((&shown, ""));
    html! { p.amount title=(asset.exact(amount)) { (figure) " " span.unit { (unit) } } }
}

fn address(address: Address) -> Markup {
    html! { span.mono title=(address) { (short(address)) } }
}

fn ago(at: Timestamp, now: Timestamp) -> Markup {
    html! { time title=(date(at)) { (span(now.since(at))) " ago" } }
}

fn times(line: &TimesLine) -> Markup {
    html! {
        @match (line.p50, line.p99) {
            (Some(half), Some(most)) => { "half within " (seconds(half)) ", 99 % within " (seconds(most)) },
            _ => "–",
        }
    }
}

fn plural(number: u64, thing: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {thing}{s}", count(number))
}

fn percent(part: f64) -> String {
    format!("{:.0} %", part.clamp(0.0, 1.0) * 100.0)
}
