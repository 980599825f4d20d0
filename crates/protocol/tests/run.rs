//! Whole runs, quote to claim, over random worlds; and each single way to spoil a good ticket, refused by its own rule.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod common;

use std::collections::BTreeMap;

use alloy_primitives::{Address, U256};
use bindings::ticket::{Group, Ticket as Fields};
use common::{World, assert_rate, escrow_key};
use micropay_protocol::ticket::{
    Amount, Domain, Drawn, EscrowKey, EscrowRecord, Issued, Nonce, PairRecord, Policy, Refusal, Retry,
    Seconds, Seed, Session, SessionId, Signature, Status, Ticket, Timestamp, WinThreshold, Won, draw, groups,
    recover,
};
use proptest::prelude::*;

/// What the contract does with a claim, by the text of `TicketEscrow._check`: the nonces it pays, per escrow. Written from
/// `Group`s alone, so that what the merchant sends must be enough.
fn contract_pays(domain: &Domain, recipient: Address, groups: &[Group], now: u64) -> Vec<(Address, u64)> {
    let mut last: BTreeMap<Address, u64> = BTreeMap::new();
    let mut paid = Vec::new();
    for group in groups {
        for winner in &group.winners {
            let fields = Fields {
                escrow: group.escrow,
                recipient,
                commitment: domain.commitment(recipient, group.r1),
                r2: winner.r2,
                winThreshold: winner.winThreshold,
                expiry: winner.expiry,
                nonce: winner.nonce,
            };
            let digest = domain.ticket_digest(&fields);
            let last = last.entry(group.escrow).or_default();
            let signature = Signature::from_sol(&winner.signature);
            if now <= winner.expiry
                && winner.nonce > *last
                && draw(digest, group.r1) < winner.winThreshold
                && signature
                    .and_then(|signature| recover(digest, &signature))
                    .is_ok_and(|key| key.address() == group.escrow)
            {
                *last = winner.nonce;
                paid.push((group.escrow, winner.nonce));
            }
        }
    }
    paid
}

prop_compose! {
    /// A healthy world: any key, seed, chain, price and state in which a ticket is good.
    fn worlds()(
        key in any::<[u8; 32]>().prop_filter_map("no key", |bytes| EscrowKey::from_bytes(&bytes).ok()),
        seed in any::<[u8; 32]>(),
        recipient in any::<[u8; 20]>(),
        contract in any::<[u8; 20]>(),
        chain_id in any::<u64>(),
        (boot, serial) in any::<(u64, u64)>(),
        odds in 1u64..1000,
        prize in 1u128..1 << 90,
        cap in 10u64..5_000,
        floor in 0u64..5,
        wins in 0u32..10,
        now in 1_600_000_000u64..1 << 40,
        known in any::<bool>(),
    ) -> World {
        let mut world = World::with(WinThreshold::one_in(odds), Amount(prize), Nonce(cap));
        world.known_key = known.then_some(*key.public_key());
        world.key = key;
        world.seed = Seed::new(seed);
        world.recipient = recipient.into();
        world.domain = Domain::new(chain_id, contract.into());
        world.session = SessionId { boot, serial };
        world.nonce_floor = Nonce(floor);
        world.unclaimed_wins = wins;
        world.payer_unclaimed_wins = wins + 3;
        world.now = Timestamp(now);
        world
    }
}

proptest! {
    /// Quote, issue, accept, draw, claim. The merchant and the contract agree on who wins, for each ticket.
    #[test]
    fn a_good_ticket_goes_through(world in worlds(), nonce in 6u64..10, r2 in any::<[u8; 32]>()) {
        let quote = world.quote();
        let mut payer_side = world.last_final.clone().unwrap();
        prop_assert_eq!(quote.check(&payer_side), Ok(()));
        payer_side.prize = Amount(payer_side.prize.0 + 1);
        prop_assert!(quote.check(&payer_side).is_err());

        let expiry = quote.expiry(world.now);
        let issued =
            Ticket::issue(&world.domain, &world.key, &quote, r2.into(), expiry, Nonce(nonce));
        let received = Ticket::from_parts(&world.domain, issued.fields().clone(), *issued.signature());
        prop_assert_eq!(&received, &issued);
        let stored = Ticket::<Issued>::restore(issued.digest(), issued.fields().clone(), *issued.signature());
        prop_assert_eq!(&stored, &issued);

        let accepted = world.accept(received).unwrap();
        prop_assert_eq!(accepted.key(), world.key.public_key());
        let r1 = world.session().r1();
        let expected = draw(issued.digest(), r1);
        match accepted.draw().unwrap() {
            Drawn::Won(won) => {
                prop_assert!(expected < world.offer.win_threshold.0);
                prop_assert_eq!(won.state(), &Won { session: world.session, r1, draw: expected });
                let again = Ticket::<Won>::restore(
                    won.digest(), won.fields().clone(), *won.signature(), world.session, r1,
                );
                prop_assert_eq!(again.as_ref(), Ok(&won));
                let claim = groups(&[won]).unwrap();
                prop_assert_eq!(
                    contract_pays(&world.domain, world.recipient, &claim, expiry.0),
                    vec![(world.key.address(), nonce)]
                );
                prop_assert!(contract_pays(&world.domain, world.recipient, &claim, expiry.0 + 1).is_empty());
            }
            Drawn::Lost(lost) => {
                prop_assert_eq!(lost.state().draw, expected);
                prop_assert!(expected >= world.offer.win_threshold.0);
                prop_assert!(Ticket::<Won>::restore(
                    lost.digest(), lost.fields().clone(), *lost.signature(), world.session, r1,
                ).is_err());
            }
        }
    }

    /// Winners of several escrows under several sessions with mixed nonces, handed over in any order: the contract pays
    /// them all.
    #[test]
    fn a_claim_pays_every_winner(
        tickets in prop::collection::vec((0u64..3, 0u64..3, 1u64..1000), 1..40).prop_shuffle(),
    ) {
        let mut worlds: Vec<World> = Vec::new();
        for escrow in 0..3u64 {
            let mut world = World::with(WinThreshold::one_in(1), Amount(5), Nonce(1000));
            world.key = escrow_key(&format!("escrow {escrow}"));
            worlds.push(world);
        }
        let mut wins = BTreeMap::new();
        for (escrow, serial, nonce) in tickets {
            let world = &mut worlds[escrow as usize];
            world.session.serial = serial;
            let won = world.accept(world.issue(nonce)).unwrap().draw().unwrap().won().unwrap();
            wins.insert((world.key.address(), nonce), won);
        }
        let expected: Vec<_> = wins.keys().copied().collect();
        let mut wins: Vec<_> = wins.into_values().collect();
        wins.reverse();
        let claim = groups(&wins).unwrap();
        for pair in claim.windows(2) {
            prop_assert!((pair[0].escrow, pair[0].r1) != (pair[1].escrow, pair[1].r1), "a run is cut in two");
        }
        let paid = contract_pays(&worlds[0].domain, worlds[0].recipient, &claim, worlds[0].now.0);
        prop_assert_eq!(paid, expected);
    }

    /// Hostile numbers anywhere end in a refusal or in a good ticket, never in a panic; and what is accepted is covered.
    #[test]
    fn hostile_numbers_never_panic(
        world in worlds(),
        numbers in prop::collection::vec(prop_oneof![
            Just(0u64), Just(1), Just(u64::MAX), Just(u64::MAX - 1), Just(1_800_000_000), any::<u64>(),
        ], 12),
        amounts in prop::collection::vec(prop_oneof![
            Just(0u128), Just(1), Just(u128::MAX), Just(u128::MAX - 1), any::<u128>(),
        ], 3),
        odds in 1u64..5,
    ) {
        let mut world = world;
        world.now = Timestamp(numbers[0]);
        world.nonce_floor = Nonce(numbers[1].wrapping_rem(7));
        world.unclaimed_wins = numbers[2] as u32;
        world.payer_unclaimed_wins = numbers[3] as u32;
        world.policy.withdraw_margin = Seconds(numbers[4]);
        world.policy.claim_margin = Seconds(numbers[5]);
        world.policy.max_ticket_life = Seconds(numbers[6]);
        world.offer.prize = Amount(amounts[0]);
        world.offer.win_threshold = WinThreshold::one_in(odds);
        let max = world.offer.win_threshold;
        world.change(|record| {
            record.prize = Amount(amounts[0]);
            record.balance = Amount(amounts[1]);
            record.penalty = Amount(amounts[2]);
            record.ticket_cap = Nonce(numbers[7] % 100_000);
            record.max_threshold = max;
        });
        world.set_pair(PairRecord {
            last_nonce: Nonce(numbers[8]),
            earmark_prizes: numbers[9] as u32,
            earmark_until: Timestamp(numbers[10]),
        });
        let ticket = world.reissue(&world.issue(7), |fields| fields.expiry = numbers[11]);
        if world.accept(ticket).is_ok() {
            let wins = u128::from(world.unclaimed_wins) + 1;
            let balance = amounts[0].checked_mul(wins).is_some_and(|needed| needed <= amounts[1]);
            let earmark = u128::from(numbers[9] as u32) >= wins && numbers[10] >= numbers[11];
            prop_assert!(balance || earmark);
        }
    }
}

/// One way to spoil a good world or ticket, and the rule that must refuse it.
type Spoiler = (&'static str, fn(&mut World, Ticket<Issued>) -> Ticket<Issued>);

/// Spoilers by rule, in the order of the rules.
const SPOILERS: &[Spoiler] = &[
    ("commitment-unknown", |world, ticket| {
        world.reissue(&ticket, |fields| fields.commitment.0[7] ^= 1)
    }),
    ("commitment-unknown", |world, ticket| {
        // Another merchant's, and this merchant's for another escrow.
        let other = Session::derive(
            &world.domain,
            &world.seed,
            world.recipient,
            Address::repeat_byte(9),
            world.session,
        );
        world.reissue(&ticket, |fields| fields.commitment = other.commitment())
    }),
    ("commitment-unknown", |world, ticket| {
        // The right commitment, paid from another escrow whose record and key are fine.
        let other = escrow_key("other");
        let mut fields = ticket.fields().clone();
        fields.escrow = other.address();
        Ticket::from_parts(
            &world.domain,
            fields.clone(),
            other.sign(world.domain.ticket_digest(&fields)),
        )
    }),
    ("commitment-closed", |world, ticket| {
        world.session.serial = world.session.serial.wrapping_add(1);
        world.commitment_closed = true;
        ticket
    }),
    ("commitment-unknown", |world, ticket| {
        world.session.boot = world.session.boot.wrapping_add(1);
        ticket
    }),
    ("wrong-recipient", |world, ticket| {
        world.reissue(&ticket, |fields| fields.recipient.0[3] ^= 1)
    }),
    ("nonce-seen", |world, ticket| {
        world.nonce_seen = true;
        ticket
    }),
    ("nonce-not-above-floor", |world, ticket| {
        world.nonce_floor = ticket.nonce();
        ticket
    }),
    ("nonce-not-above-floor", |world, ticket| {
        world.reissue(&ticket, |fields| fields.nonce = 0)
    }),
    ("nonce-not-above-floor", |world, ticket| {
        // The chain knows a higher one than the merchant does, at its head only.
        let pair = PairRecord {
            last_nonce: ticket.nonce(),
            ..PairRecord::default()
        };
        let recipient = world.recipient;
        spoil_head(world, ticket, |head| {
            head.pairs.insert(recipient, pair);
        })
    }),
    ("nonce-not-below-cap", |world, ticket| {
        let cap = cap(world);
        world.reissue(&ticket, |fields| fields.nonce = cap)
    }),
    ("nonce-not-below-cap", |world, ticket| {
        // Raised, but not finally.
        let cap = cap(world);
        let ticket = spoil_head(world, ticket, |head| {
            head.ticket_cap = Nonce(cap + 10);
            head.penalty = Amount::MAX;
        });
        world.reissue(&ticket, |fields| fields.nonce = cap)
    }),
    ("nonce-not-below-cap", |world, ticket| {
        world.reissue(&ticket, |fields| fields.nonce = u64::MAX)
    }),
    ("ticket-expires-too-soon", |world, ticket| {
        let earliest = world.now.plus(world.policy.claim_margin).0;
        world.reissue(&ticket, |fields| fields.expiry = earliest - 1)
    }),
    ("ticket-expires-too-soon", |world, ticket| {
        world.reissue(&ticket, |fields| fields.expiry = 0)
    }),
    ("ticket-lives-too-long", |world, ticket| {
        let latest = world.now.plus(world.policy.max_ticket_life).0;
        world.reissue(&ticket, |fields| fields.expiry = latest + 1)
    }),
    ("ticket-lives-too-long", |world, ticket| {
        world.reissue(&ticket, |fields| fields.expiry = u64::MAX)
    }),
    ("wrong-threshold", |world, ticket| {
        world.reissue(&ticket, |fields| fields.winThreshold -= U256::from(1))
    }),
    ("wrong-threshold", |world, ticket| {
        // A ticket that wins more often than asked is no gift: the escrow's cap was reckoned with the price.
        world.reissue(&ticket, |fields| {
            fields.winThreshold = fields.winThreshold.wrapping_add(U256::from(2));
        })
    }),
    ("mirror-stale", |world, ticket| {
        world.mirror_age = Seconds(world.policy.max_mirror_age.0 + 1);
        ticket
    }),
    ("escrow-missing", |world, ticket| {
        world.last_final = None; // opened, but not finally
        ticket
    }),
    ("escrow-missing", |world, ticket| {
        world.last_final = None;
        world.head = None;
        ticket
    }),
    ("escrow-missing", |world, ticket| {
        world.head = None;
        ticket
    }),
    ("wrong-asset", |world, ticket| {
        world.change(|record| record.asset = Address::ZERO);
        ticket
    }),
    ("wrong-prize", |world, ticket| {
        world.change(|record| record.prize.0 += 1);
        ticket
    }),
    ("escrow-not-open", |world, ticket| {
        spoil_head(world, ticket, |head| head.status = Status::Insolvent)
    }),
    ("escrow-not-open", |world, ticket| {
        spoil_final(world, ticket, |record| record.status = Status::Insolvent)
    }),
    ("escrow-not-open", |world, ticket| {
        spoil_head(world, ticket, |head| head.status = Status::Closed)
    }),
    ("escrow-withdrawing", |world, ticket| {
        let needed = ticket.expiry().plus(world.policy.withdraw_margin);
        spoil_head(world, ticket, |head| {
            head.status = Status::Withdrawing;
            head.withdraw_at = Some(Timestamp(needed.0 - 1));
        })
    }),
    ("escrow-withdrawing", |world, ticket| {
        // Cancelled, but not finally.
        let needed = ticket.expiry().plus(world.policy.withdraw_margin);
        spoil_final(world, ticket, |record| {
            record.status = Status::Withdrawing;
            record.withdraw_at = Some(Timestamp(needed.0 - 1));
        })
    }),
    ("threshold-above-max", |world, ticket| {
        world.change(|record| record.max_threshold.0 -= U256::from(1));
        ticket
    }),
    ("penalty-too-low", |world, ticket| {
        spoil_final(world, ticket, |record| record.penalty.0 -= 1)
    }),
    ("penalty-too-low", |world, ticket| {
        spoil_head(world, ticket, |head| head.penalty = Amount::ZERO)
    }),
    ("penalty-too-low", |world, ticket| {
        // A cap raised with too little more penalty.
        spoil_head(world, ticket, |head| {
            head.ticket_cap = Nonce(1_000_000);
            head.penalty.0 += 1;
        })
    }),
    ("balance-too-low", |world, ticket| {
        let needed = world.offer.prize.0 * u128::from(world.unclaimed_wins + 1);
        spoil_head(world, ticket, |head| head.balance = Amount(needed - 1))
    }),
    ("balance-too-low", |world, ticket| {
        let needed = world.offer.prize.0 * u128::from(world.unclaimed_wins + 1);
        spoil_final(world, ticket, |record| record.balance = Amount(needed - 1))
    }),
    ("balance-too-low", |world, ticket| {
        earmark(world, ticket, |wins, expiry| (wins, expiry - 1))
    }),
    ("balance-too-low", |world, ticket| {
        earmark(world, ticket, |wins, expiry| (wins - 1, expiry))
    }),
    ("balance-too-low", |world, ticket| {
        // An earmark that is not final yet.
        let ticket = earmark(world, ticket, |wins, expiry| (wins, expiry));
        spoil_final(world, ticket, |record| record.pairs.clear())
    }),
    ("exposure-too-high", |world, ticket| {
        world.policy.exposure_cap = Some(world.payer_unclaimed_wins);
        ticket
    }),
    ("wrong-signer", |world, ticket| {
        let stranger = escrow_key("stranger");
        Ticket::from_parts(
            &world.domain,
            ticket.fields().clone(),
            stranger.sign(ticket.digest()),
        )
    }),
    ("wrong-signer", |world, ticket| {
        // Another ticket's signature. (It recovers some key, or none.)
        let other = world.reissue(&ticket, |fields| fields.r2.0[0] ^= 1);
        let twisted = Ticket::from_parts(&world.domain, ticket.fields().clone(), *other.signature());
        assert_ne!(twisted.signature(), ticket.signature());
        twisted
    }),
    ("wrong-signer", |world, ticket| {
        // The same fields signed for another chain. The commitment is checked first, so the foreign payer takes ours.
        let foreign = Domain::new(world.domain.chain_id() ^ 1, world.domain.contract());
        let signature = world.key.sign(foreign.ticket_digest(ticket.fields()));
        Ticket::from_parts(&world.domain, ticket.fields().clone(), signature)
    }),
    ("wrong-signer", |world, ticket| {
        // A known key of another escrow does not vouch for this one.
        let stranger = escrow_key("stranger");
        world.known_key = Some(*stranger.public_key());
        Ticket::from_parts(
            &world.domain,
            ticket.fields().clone(),
            stranger.sign(ticket.digest()),
        )
    }),
];

fn spoil_final(
    world: &mut World,
    ticket: Ticket<Issued>,
    spoil: impl Fn(&mut EscrowRecord),
) -> Ticket<Issued> {
    world.last_final.iter_mut().for_each(spoil);
    ticket
}

fn spoil_head(
    world: &mut World,
    ticket: Ticket<Issued>,
    spoil: impl Fn(&mut EscrowRecord),
) -> Ticket<Issued> {
    world.head.iter_mut().for_each(spoil);
    ticket
}

/// No balance, and an earmark of (prizes, until) made from (prizes needed, expiry).
fn earmark(world: &mut World, ticket: Ticket<Issued>, of: fn(u32, u64) -> (u32, u64)) -> Ticket<Issued> {
    let (earmark_prizes, until) = of(world.unclaimed_wins + 1, ticket.expiry().0);
    world.change(|record| record.balance = Amount::ZERO);
    world.set_pair(PairRecord {
        last_nonce: Nonce(0),
        earmark_prizes,
        earmark_until: Timestamp(until),
    });
    ticket
}

/// Which rule refuses, `accepted` if none; a signature no key made counts as the wrong signer's.
fn verdict(world: &World, ticket: Ticket<Issued>) -> &'static str {
    match world.accept(ticket) {
        Ok(_) => "accepted",
        Err(Refusal::Signature(_)) => "wrong-signer",
        Err(refusal) => refusal.rule(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every way to spoil a good ticket is refused by its own rule.
    #[test]
    fn each_mutation_is_refused_by_its_rule(template in worlds(), nonce in 6u64..10) {
        for (index, (rule, spoil)) in SPOILERS.iter().enumerate() {
            let mut world = template.clone();
            let ticket = world.issue(nonce);
            prop_assert_eq!(verdict(&world, ticket.clone()), "accepted");
            let spoiled = spoil(&mut world, ticket);
            prop_assert_eq!(verdict(&world, spoiled), *rule, "spoiler {}", index);
        }
    }
}

/// Where two rules are broken, the earlier one speaks: the order is part of the protocol. All pairs.
#[test]
fn the_first_broken_rule_speaks() {
    let order = |rule: &str| SPOILERS.iter().position(|(name, _)| *name == rule).unwrap();
    let template = World::new();
    let ticket = template.issue(6);
    for (i, (rule, spoil)) in SPOILERS.iter().enumerate() {
        for (j, (later_rule, spoil_later)) in SPOILERS.iter().enumerate() {
            if order(later_rule) <= order(rule) {
                continue;
            }
            // The later one first: a spoiler that signs again may undo another's signature, but not its own work.
            let mut world = template.clone();
            let spoiled = spoil_later(&mut world, ticket.clone());
            let spoiled = spoil(&mut world, spoiled);
            let got = verdict(&world, spoiled);
            assert!(got != "accepted", "spoilers {i} and {j}");
            assert!(order(got) <= order(later_rule), "{got} for spoilers {i} and {j}");
        }
    }
}

/// The cap that the merchant sees, if there is an escrow at all.
fn cap(world: &World) -> u64 {
    world
        .last_final
        .as_ref()
        .or(world.head.as_ref())
        .map_or(10, |record| record.ticket_cap.0)
}

/// The bounds themselves are good: each comparison is on the right side.
#[test]
fn bounds_are_inclusive_where_the_rules_say() {
    let accepts = |change: &dyn Fn(&mut World, Ticket<Issued>) -> Ticket<Issued>| {
        let mut world = World::new();
        world.unclaimed_wins = 2;
        let ticket = world.issue(10);
        let changed = change(&mut world, ticket);
        assert_eq!(world.accept(changed).map(|_| ()), Ok(()));
    };
    accepts(&|world, ticket| {
        world.nonce_floor = Nonce(9);
        ticket
    });
    accepts(&|world, ticket| world.reissue(&ticket, |fields| fields.nonce = 1033));
    accepts(&|world, ticket| {
        let earliest = world.now.plus(world.policy.claim_margin).0;
        world.reissue(&ticket, |fields| fields.expiry = earliest)
    });
    accepts(&|world, ticket| {
        let latest = world.now.plus(world.policy.max_ticket_life).0;
        world.reissue(&ticket, |fields| fields.expiry = latest)
    });
    accepts(&|world, ticket| {
        world.mirror_age = world.policy.max_mirror_age;
        ticket
    });
    accepts(&|world, ticket| {
        let needed = ticket.expiry().plus(world.policy.withdraw_margin);
        world.change(|record| {
            record.status = Status::Withdrawing;
            record.withdraw_at = Some(needed);
        });
        ticket
    });
    accepts(&|world, ticket| {
        let needed = Amount(world.offer.prize.0 * 3);
        world.change(|record| record.balance = needed);
        ticket
    });
    accepts(&|world, ticket| earmark(world, ticket, |wins, expiry| (wins, expiry)));
    accepts(&|world, ticket| {
        world.policy.exposure_cap = Some(3);
        ticket
    });
    accepts(&|world, ticket| {
        // A raised cap that both blocks cover.
        let head = world.head.as_mut().unwrap();
        (head.ticket_cap, head.penalty) = (Nonce(1517), Amount(40_000_000));
        ticket
    });
}

/// A refusal carries the two numbers that were compared, and says what helps.
#[test]
fn refusals_name_both_numbers() {
    let mut world = World::new();
    let ticket = world.issue(5);
    world.nonce_floor = Nonce(8);
    let refusal = world.accept(ticket.clone()).unwrap_err();
    assert_eq!(
        refusal,
        Refusal::NonceNotAboveFloor {
            nonce: Nonce(5),
            floor: Nonce(8)
        }
    );
    assert_eq!(refusal.to_string(), "nonce 5 is not above 8");
    assert_eq!(refusal.retry(), Retry::NewQuote);

    world.nonce_floor = Nonce(0);
    world.change(|record| record.penalty = Amount(19_000_000));
    let refusal = world.accept(ticket.clone()).unwrap_err();
    assert_eq!(
        refusal,
        Refusal::PenaltyTooLow {
            penalty: Amount(19_000_000),
            required: Amount(20_000_000)
        }
    );
    assert_eq!(refusal.retry(), Retry::Later);

    world.change(|record| record.status = Status::Closed);
    assert_eq!(world.accept(ticket).unwrap_err().retry(), Retry::Never);
}

/// Admission by a known key takes a wrong `v`; the draw puts it right on a winner, and a loser does not matter.
#[test]
fn a_wrong_v_is_put_right_on_winners() {
    let mut world = World::with(WinThreshold::one_in(2), Amount(10), Nonce(1000));
    world.known_key = Some(*world.key.public_key());
    let mut won = 0;
    for nonce in 1..50 {
        let good = world.issue(nonce);
        let mut bytes = good.signature().to_bytes();
        bytes[64] = 27 + 28 - bytes[64];
        let wrong = Signature::from_bytes(&bytes).unwrap();
        let ticket = Ticket::from_parts(&world.domain, good.fields().clone(), wrong);
        assert_eq!(ticket.digest(), good.digest());

        let outcome = world.accept(ticket.clone()).unwrap().draw().unwrap();
        let same = world.accept(good.clone()).unwrap().draw().unwrap();
        if let (Drawn::Won(outcome), Drawn::Won(same)) = (&outcome, &same) {
            assert_eq!(outcome, same);
            assert_eq!(outcome.signature(), good.signature());
            won += 1;
        } else {
            assert!(matches!((&outcome, &same), (Drawn::Lost(_), Drawn::Lost(_))));
        }

        // Without a known key it is refused: what recovers is another address.
        world.known_key = None;
        assert_eq!(verdict(&world, ticket), "wrong-signer");
        world.known_key = Some(*world.key.public_key());
    }
    assert!((10..40).contains(&won), "{won} of 49 at 1/2");
}

/// A million tickets of one payer under changing sessions: wins are binomial, in each tenth and in all, and one win does
/// not tell of the next.
#[test]
fn a_million_draws_are_fair() {
    const TICKETS: u32 = 1_000_000;
    const RUN: u32 = 100_000;
    let world = World::new();
    let mut fields = world.issue(1).fields().clone();
    let mut previous = false;
    let (mut wins, mut pairs, mut run_wins) = (0u32, 0u32, 0u32);
    for i in 0..TICKETS {
        if i % 1_000 == 0 {
            let id = SessionId {
                boot: 1,
                serial: u64::from(i),
            };
            let session = Session::derive(
                &world.domain,
                &world.seed,
                world.recipient,
                world.key.address(),
                id,
            );
            fields.commitment = session.commitment();
            fields.r2 = session.r1(); // any string: the draw must not care
        }
        fields.nonce = u64::from(i);
        let digest = world.domain.ticket_digest(&fields);
        let won = world.offer.win_threshold.wins(draw(digest, fields.r2));
        wins += u32::from(won);
        run_wins += u32::from(won);
        pairs += u32::from(won && previous);
        previous = won;
        if (i + 1) % RUN == 0 {
            assert_rate(run_wins, RUN, 1.0 / 128.0);
            run_wins = 0;
        }
    }
    assert_rate(wins, TICKETS, 1.0 / 128.0);
    assert_rate(pairs, TICKETS - 1, 1.0 / 128.0 / 128.0);
}

/// Wins of two merchants do not go into one claim, nor does a nonce twice.
#[test]
fn a_claim_is_one_merchants() {
    let mut world = World::with(WinThreshold::one_in(1), Amount(10), Nonce(1000));
    let win = |world: &World, nonce| {
        world
            .accept(world.issue(nonce))
            .unwrap()
            .draw()
            .unwrap()
            .won()
            .unwrap()
    };
    let a = win(&world, 1);
    world.recipient = Address::repeat_byte(1);
    let b = win(&world, 2);
    assert!(
        groups(&[a.clone(), b])
            .unwrap_err()
            .to_string()
            .contains("one recipient")
    );
    assert!(
        groups(&[a.clone(), a])
            .unwrap_err()
            .to_string()
            .contains("nonce 1")
    );
    assert_eq!(groups(&[]).unwrap(), vec![]);
}

#[test]
fn policy_must_fit_the_withdraw_delay() {
    let world = World::new();
    let delay = Seconds::DAY.times(3);
    assert_eq!(world.policy.check(delay), Ok(()));
    assert!(world.policy.check(Seconds::DAY).is_err());
    for spoiled in [
        Policy {
            epsilon: 0.0,
            ..world.policy
        },
        Policy {
            epsilon: f64::NAN,
            ..world.policy
        },
        Policy {
            claim_margin: Seconds::DAY.times(2),
            ..world.policy
        },
        Policy {
            max_mirror_age: Seconds(u64::MAX),
            ..world.policy
        },
    ] {
        assert!(spoiled.check(delay).is_err());
    }
}

#[test]
fn restored_winner_must_win() {
    let world = World::with(WinThreshold::one_in(1), Amount(10), Nonce(1000));
    let won = world
        .accept(world.issue(1))
        .unwrap()
        .draw()
        .unwrap()
        .won()
        .unwrap();
    let mut fields = won.fields().clone();
    fields.winThreshold = won.state().draw;
    let r1 = won.state().r1;
    let error =
        Ticket::<Won>::restore(won.digest(), fields, *won.signature(), world.session, r1).unwrap_err();
    assert_eq!(error.draw, won.state().draw);
}
