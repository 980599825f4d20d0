//! tmp
#![allow(clippy::all, clippy::unwrap_used, clippy::print_stdout)]
#[path = "../tests/common/mod.rs"]
mod common;
use common::*;
use micropay_protocol::ticket::*;
use std::{hint::black_box, time::Instant};
fn time(name: &str, mut f: impl FnMut(usize)) {
    let mut best = f64::MAX;
    for _ in 0..15 {
        let t = Instant::now();
        for i in 0..1000 { f(i) }
        best = best.min(t.elapsed().as_secs_f64() / 1000. * 1e6);
    }
    println!("{name:40} {best:.2} us");
}
fn main() {
    let mut w = World::new();
    let tickets: Vec<_> = (1..1001).map(|n| w.issue(n)).collect();
    let raw: Vec<_> = tickets.iter().map(|t| (t.fields().clone(), t.signature().to_bytes())).collect();
    w.known_key = Some(*w.key.public_key());
    let key = *w.key.public_key();
    let session = w.session();
    let adm = Admission {
        session: &session, commitment_closed: false, offer: w.offer, nonce_seen: false, nonce_floor: Nonce(0), now: w.now,
        policy: &w.policy, escrow: EscrowView { last_final: w.last_final.as_ref(), head: w.head.as_ref() },
        mirror_age: Seconds(0), unclaimed_wins: 0, payer_unclaimed_wins: 0, known_key: w.known_key.as_ref() };
    time("verify", |i| assert!(verify(tickets[i].digest(), tickets[i].signature(), &key)));
    time("check known key", |i| {
        let s = Signature::from_bytes(&raw[i].1).unwrap();
        let t = Ticket::from_parts(&w.domain, raw[i].0.clone(), s);
        black_box(accept(t, &adm).unwrap().draw().unwrap());
    });
    let adm2 = Admission { known_key: None, ..adm };
    time("check unknown key", |i| { black_box(accept(tickets[i].clone(), &adm2).unwrap().draw().unwrap()); });
    time("recover", |i| { black_box(recover(tickets[i].digest(), tickets[i].signature()).unwrap()); });
    time("digest", |i| { black_box(w.domain.ticket_digest(&raw[i].0)); });
    time("draw", |i| { black_box(draw(tickets[i].digest(), session.r1())); });
    time("quote (with session)", |i| { let s = Session::derive(&w.domain, &w.seed, w.recipient, key.address(), SessionId { boot: 1, serial: i as u64 }); black_box(quote(&s, &w.offer, &w.policy, Nonce(0))); });
    time("quote", |_| { black_box(quote(&session, &w.offer, &w.policy, Nonce(0))); });
    time("issue", |i| { black_box(w.issue(i as u64)); });
    let t = w.offer.win_threshold;
    for cap in [1034u64, 100_000, 10_000_000, u32::MAX.into()] {
        let req = odds::required_penalty(w.offer.prize, Nonce(cap), t, 1e-4);
        let tm = Instant::now(); for _ in 0..10 { black_box(odds::required_penalty(w.offer.prize, Nonce(cap), t, 1e-4)); } println!("required_penalty {cap}: {:?}", tm.elapsed()/10);
        let tm = Instant::now(); for _ in 0..10 { black_box(odds::penalty_covers(req, w.offer.prize, Nonce(cap), t, 1e-4)); } println!("penalty_covers {cap}: {:?}", tm.elapsed()/10);
        let tm = Instant::now(); for _ in 0..10 { black_box(odds::penalty_covers(Amount(1), w.offer.prize, Nonce(cap), t, 1e-4)); } println!("penalty_covers hostile {cap}: {:?}", tm.elapsed()/10);
    }
}
