//! What an attacker gains: on the paper's rule ([`paper`]) as the paper states or implements it, and on ours. Names are
//! those of the design (`ticket.md` §4); attacks on the contract are in `tests/contracts/ticket/attack/`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![allow(non_snake_case, reason = "names of the design's games")]

mod common;

use alloy_primitives::{Address, B256, U256, keccak256};
use common::{World, assert_rate, bytes32};
use micropay_protocol::ticket::{
    Amount, Drawn, Issued, Nonce, Refusal, Retry, Signature, SignatureError, Ticket, WinThreshold, Won, draw,
    paper,
};

const RHO: f64 = 1.0 / 128.0;

/// A pseudo-random 128-bit half of the paper's toss.
fn half(name: &str, number: u64) -> u128 {
    let bytes = bytes32(name, number);
    u128::from_be_bytes(bytes[..16].try_into().unwrap())
}

/// Whether a ticket with these fields wins against `r1`, without the cost of a signature: the draw does not see it.
fn wins(world: &World, fields: &bindings::ticket::Ticket, r1: B256) -> bool {
    world
        .offer
        .win_threshold
        .wins(draw(world.domain.ticket_digest(fields), r1))
}

/// M1-7, first half. Section 3.3: r2 has 8 bits, so it never reaches the digits that decide.
#[test]
fn attack_8bit_r2_first_digits_wins_always() {
    // The merchant commits to 0, and wins whatever the payer draws.
    let r1 = 0u128;
    assert!((0..=u8::MAX).all(|byte| paper::first_two_digits(r1, paper::eight_bit_r2(byte))));
    // A payer that meets a merchant with another r1 never pays at all: the coin is not tossed by both.
    assert!((0..=u8::MAX).all(|byte| !paper::first_two_digits(u128::MAX, paper::eight_bit_r2(byte))));

    // On ours the same merchant, and even the same weak payer, toss at rho.
    let world = World::new();
    let mut fields = world.issue(1).fields().clone();
    fields.commitment = world.domain.commitment(world.recipient, B256::ZERO);
    let won = (0..100_000u64).filter(|&nonce| {
        fields.nonce = nonce;
        fields.r2 = B256::from(U256::from(bytes32("byte", nonce)[0]));
        wins(&world, &fields, B256::ZERO)
    });
    assert_rate(u32::try_from(won.count()).unwrap(), 100_000, RHO);
}

/// M1-7, second half. The last two decimal digits, and 9 zero bits: the merchant fixes what r2 cannot reach.
#[test]
fn attack_8bit_r2_last_digits_3_of_256() {
    let winners = |r1: u128, wins: fn(u128, u128) -> bool| {
        (0..=u8::MAX)
            .filter(|byte| wins(r1, paper::eight_bit_r2(*byte)))
            .count()
    };
    // Of 256 numbers in a row, 2 or 3 end with 00; the upper bits of r1 choose the row.
    let by_row: Vec<usize> = (0..100u128)
        .map(|row| winners(row << 8, paper::last_two_digits))
        .collect();
    assert_eq!((by_row.iter().min(), by_row.iter().max()), (Some(&2), Some(&3)));
    let honest: usize = by_row.iter().sum();
    assert_eq!(honest, 256, "100 rows have 25,600 numbers: 1 %");
    // The merchant that takes a row of 3 wins 3/256 = 1.17 %: 17 % more than its price.

    // rho = 1/512: one of the 9 bits is the merchant's alone. Twice the price, or nothing.
    assert_eq!(winners(0, paper::last_nine_bits), 1);
    assert_eq!(winners(1 << 8, paper::last_nine_bits), 0);

    // Ours: r1 of any structure wins at rho.
    let world = World::new();
    for row in 0..4u64 {
        let r1 = B256::from(U256::from(row) << 8);
        let mut fields = world.issue(1).fields().clone();
        fields.commitment = world.domain.commitment(world.recipient, r1);
        let won = (0..50_000u64).filter(|&nonce| {
            fields.nonce = nonce;
            fields.r2 = B256::from(U256::from(bytes32("byte", nonce)[0]));
            wins(&world, &fields, r1)
        });
        assert_rate(u32::try_from(won.count()).unwrap(), 50_000, RHO);
    }
}

/// M1-6. "Digits" are four different rates.
#[test]
fn attack_ambiguous_digits_change_the_price() {
    const TOSSES: u32 = 100_000;
    let rate = |rule: fn(u128, u128) -> bool| {
        (0..u64::from(TOSSES))
            .filter(|&i| rule(half("r1", i), half("r2", i)))
            .count() as u32
    };
    assert_rate(rate(paper::first_two_digits), TOSSES, 1e37 / 2f64.powi(128));
    assert_rate(rate(paper::last_two_digits), TOSSES, 0.01);
    assert_rate(rate(paper::first_two_bits), TOSSES, 0.25);
    assert_rate(rate(paper::last_nine_bits), TOSSES, 1.0 / 512.0);
}

/// M1-10, before the reveal. The paper's XOR gives tickets of one commitment and one r2 one fate: 128 tickets on an escrow
/// of one prize are worth 1/128 of their price. Ours hashes the whole ticket.
#[test]
fn attack_commitment_reuse_correlated_r2() {
    const TICKETS: u32 = 128;
    const SESSIONS: u32 = 500;

    // On the paper's rule m tickets win all or none.
    for session in 0..1_000 {
        let (r1, r2) = (half("session", session), half("one r2 for all", 0));
        let won = (0..TICKETS).filter(|_| paper::last_two_digits(r1, r2)).count();
        assert!(won == 0 || won == TICKETS as usize);
    }

    // On ours, with one r2 for all: each session has its wins, and at least one in 1 − (127/128)^128 of the sessions.
    let world = World::new();
    let mut fields = world.issue(1).fields().clone();
    let (mut sessions_with_a_win, mut all) = (0, 0);
    for session in 0..SESSIONS {
        let r1 = bytes32("session", session.into());
        fields.commitment = world.domain.commitment(world.recipient, r1);
        fields.r2 = B256::ZERO;
        let won = (1..=u64::from(TICKETS))
            .filter(|&nonce| {
                fields.nonce = nonce;
                wins(&world, &fields, r1)
            })
            .count() as u32;
        all += won;
        sessions_with_a_win += u32::from(won > 0);
    }
    assert_rate(all, SESSIONS * TICKETS, RHO);
    assert_rate(
        sessions_with_a_win,
        SESSIONS,
        1.0 - (1.0 - RHO).powi(TICKETS as i32),
    );
}

/// M1-10, after the reveal: who knows r1 never loses, on any rule. So a session is closed before its r1 is shown, and what
/// comes later under it is refused before it is drawn.
#[test]
fn attack_r1_known_after_reveal() {
    // Paper: one r2 that does not win, for ever.
    let r1 = half("revealed", 0);
    let r2 = (0..).find(|r2| !paper::last_two_digits(r1, *r2)).unwrap();
    assert!((0..1_000).all(|_| !paper::last_two_digits(r1, r2)));

    // Ours: the payer grinds each ticket until it loses, and the mathematics lets it.
    let mut world = World::new();
    world.known_key = Some(*world.key.public_key());
    let revealed = world.session();
    let grind = |world: &World, nonce: u64| {
        let ticket = world.issue(nonce);
        let mut fields = ticket.fields().clone();
        fields.commitment = revealed.commitment();
        fields.r2 = (0..)
            .map(|attempt| bytes32("grind", attempt))
            .find(|r2| {
                let fields = bindings::ticket::Ticket {
                    r2: *r2,
                    ..fields.clone()
                };
                !wins(world, &fields, revealed.r1())
            })
            .unwrap();
        let r2 = fields.r2;
        world.reissue(&ticket, move |f| {
            f.r2 = r2;
            f.commitment = revealed.commitment();
        })
    };
    let while_open = world.accept(grind(&world, 1)).unwrap().draw().unwrap();
    assert!(
        matches!(while_open, Drawn::Lost(_)),
        "why a session must not outlive its secret"
    );

    // The merchant closes the session, in memory, before it claims.
    world.session.serial += 1;
    world.commitment_closed = true;
    for nonce in 2..20 {
        let refusal = world.accept(grind(&world, nonce)).unwrap_err();
        assert_eq!(
            refusal,
            Refusal::CommitmentClosed {
                got: revealed.commitment(),
                live: world.session().commitment()
            }
        );
        assert_eq!(refusal.retry(), Retry::NewQuote);
    }

    // A crash closes it, too: the next boot never derives that commitment again, whatever its serial.
    world.session.boot += 1;
    world.commitment_closed = false;
    for serial in 0..20 {
        world.session.serial = serial;
        let refusal = world.accept(grind(&world, 1)).unwrap_err();
        assert!(matches!(refusal, Refusal::CommitmentUnknown { .. }));
    }
}

/// P1: a payer that may do anything but see r1 cannot make the merchant win less often than rho (nor more).
#[test]
fn game_P1_hidden_r1() {
    const TICKETS: u64 = 25_000;
    type Fields = bindings::ticket::Ticket;
    type Strategy = fn(&World, &mut Fields, u64);
    let strategies: [(&str, Strategy); 6] = [
        ("no r2 at all", |_, fields, nonce| {
            (fields.r2, fields.nonce) = (B256::ZERO, nonce);
        }),
        ("echoes the commitment", |_, fields, nonce| {
            (fields.r2, fields.nonce) = (fields.commitment, nonce);
        }),
        ("counts in r2, one nonce", |_, fields, i| {
            fields.r2 = B256::from(U256::from(i));
        }),
        ("moves the expiry only", |_, fields, i| {
            fields.expiry = 1_800_000_000 + i;
        }),
        ("grinds the digest to be high", |world, fields, nonce| {
            fields.nonce = nonce;
            fields.r2 = (0..8)
                .map(|attempt| bytes32("grind", nonce * 8 + attempt))
                .max_by_key(|r2| {
                    world.domain.ticket_digest(&Fields {
                        r2: *r2,
                        ..fields.clone()
                    })
                })
                .unwrap();
        }),
        ("grinds against its own guess of r1", |world, fields, nonce| {
            fields.nonce = nonce;
            let guess = B256::ZERO;
            fields.r2 = (0..2)
                .map(|attempt| bytes32("guess", nonce * 2 + attempt))
                .find(|r2| {
                    !wins(
                        world,
                        &Fields {
                            r2: *r2,
                            ..fields.clone()
                        },
                        guess,
                    )
                })
                .unwrap_or_default();
        }),
    ];
    let world = World::new();
    for (name, strategy) in strategies {
        // One session for all, and a session each: neither helps.
        for tickets_per_session in [TICKETS, 1] {
            let mut fields = world.issue(1).fields().clone();
            let mut r1 = B256::ZERO;
            let won = (0..TICKETS).filter(|&i| {
                if i % tickets_per_session == 0 {
                    r1 = keccak256([name.as_bytes(), &bytes32("r1", i)[..]].concat());
                    fields.commitment = world.domain.commitment(world.recipient, r1);
                }
                strategy(&world, &mut fields, i);
                wins(&world, &fields, r1)
            });
            let won = u32::try_from(won.count()).unwrap();
            assert_rate(won, TICKETS as u32, RHO);
        }
    }
}

/// P2: a merchant that chooses r1 as it likes, before it sees the ticket, does not win more often than rho. After it has
/// seen the ticket it cannot choose: another r1 is another commitment, and that is signed.
#[test]
fn game_P2_bound_r1() {
    const TICKETS: u64 = 50_000;
    type Fields = bindings::ticket::Ticket;
    let world = World::new();
    let template = world.issue(1).fields().clone();
    type Strategy = fn(&World, &Fields, u64) -> B256;
    let strategies: [(&str, Strategy); 4] = [
        ("zero", |_, _, _| B256::ZERO),
        ("counts", |_, _, i| B256::from(U256::from(i))),
        ("the payer's address", |_, fields, _| fields.escrow.into_word()),
        (
            "the best of 8 against a guess of the ticket",
            |world, fields, i| {
                (0..8)
                    .map(|attempt| bytes32("r1", i * 8 + attempt))
                    .min_by_key(|r1| {
                        let commitment = world.domain.commitment(world.recipient, *r1);
                        let guess = Fields {
                            nonce: i,
                            commitment,
                            r2: B256::ZERO,
                            ..fields.clone()
                        };
                        draw(world.domain.ticket_digest(&guess), *r1)
                    })
                    .unwrap()
            },
        ),
    ];
    for (name, strategy) in strategies {
        let won = (0..TICKETS).filter(|&i| {
            let r1 = strategy(&world, &template, i);
            // The payer is honest: r2 is fresh, after the commitment.
            let fields = Fields {
                commitment: world.domain.commitment(world.recipient, r1),
                r2: keccak256([name.as_bytes(), &bytes32("r2", i)[..]].concat()),
                nonce: i,
                ..template.clone()
            };
            wins(&world, &fields, r1)
        });
        assert_rate(u32::try_from(won.count()).unwrap(), TICKETS as u32, RHO);
    }

    // Changing r1 afterwards: the merchant finds one that would win, but the digest that was signed names the old one.
    let ticket = world.issue(7);
    let other = (0..)
        .map(|i| bytes32("after", i))
        .find(|r1| wins(&world, ticket.fields(), *r1))
        .unwrap();
    assert_ne!(
        world.domain.commitment(world.recipient, other),
        ticket.commitment()
    );
    let mut forged = ticket.fields().clone();
    forged.commitment = world.domain.commitment(world.recipient, other);
    assert_ne!(world.domain.ticket_digest(&forged), ticket.digest());
}

/// E2 and N-1: of the two signatures that are valid for one ticket, one is accepted; and the draw, which the paper's
/// non-interactive form takes from the signature, would be the same with either.
#[test]
fn malleated_signature_rejected() {
    let order = U256::from_limbs([
        0xbfd2_5e8c_d036_4141,
        0xbaae_dce6_af48_a03b,
        0xffff_ffff_ffff_fffe,
        0xffff_ffff_ffff_ffff,
    ]);
    let world = World::new();
    let mut two_chances = 0u32;
    for nonce in 1..=1_000 {
        let ticket = world.issue(nonce);
        let good = ticket.signature().to_bytes();
        let mut twin = good;
        let s = order - U256::from_be_slice(&good[32..64]);
        twin[32..64].copy_from_slice(&s.to_be_bytes::<32>());
        twin[64] = 27 + 28 - good[64];
        assert!(matches!(
            Signature::from_bytes(&twin),
            Err(SignatureError::HighS { .. })
        ));

        // The signature-based draw gives the merchant two chances.
        let from_signature = |bytes: &[u8]| world.offer.win_threshold.wins(keccak256(bytes).into());
        two_chances += u32::from(from_signature(&good) || from_signature(&twin));
        // Ours has no place for a signature.
        let again = Ticket::from_parts(
            &world.domain,
            ticket.fields().clone(),
            *world.issue(1).signature(),
        );
        assert_eq!(again.digest(), ticket.digest());
    }
    assert_rate(two_chances, 1_000, 1.0 - (1.0 - RHO) * (1.0 - RHO));
}

/// The comparison at its edges: draw = T−1 wins, draw = T does not, no draw is below 0, and 2^256−1 never wins.
#[test]
fn threshold_boundary() {
    let one = U256::from(1);
    let t = WinThreshold::one_in(128).0;
    assert!(WinThreshold(t).wins(t - one) && WinThreshold(t).wins(U256::ZERO));
    assert!(!WinThreshold(t).wins(t) && !WinThreshold(t).wins(t + one) && !WinThreshold(t).wins(U256::MAX));
    assert!(!WinThreshold(U256::ZERO).wins(U256::ZERO));
    assert!(WinThreshold(U256::MAX).wins(U256::MAX - one) && !WinThreshold(U256::MAX).wins(U256::MAX));

    // The same through the steps. A digest is free where a test signs it, so that the threshold can meet the draw.
    let world = World::new();
    let digest = bytes32("digest", 0);
    let drawn = draw(digest, world.session().r1());
    let outcome = |threshold: U256| {
        let mut world = world.clone();
        world.offer.win_threshold = WinThreshold(threshold);
        world.change(|record| {
            record.max_threshold = WinThreshold(threshold);
            record.penalty = Amount::MAX;
        });
        let mut fields = world.issue(1).fields().clone();
        fields.winThreshold = threshold;
        let ticket = Ticket::<Issued>::restore(digest, fields, world.key.sign(digest));
        world.accept(ticket).unwrap().draw().unwrap()
    };
    assert!(outcome(drawn + one).won().is_some());
    assert!(outcome(drawn).won().is_none());
    assert!(outcome(drawn - one).won().is_none());
    assert!(outcome(U256::ZERO).won().is_none());
    assert!(outcome(U256::MAX).won().is_some());

    // And where a stored winner is read back.
    let restore = |threshold: U256| {
        let mut fields = world.issue(1).fields().clone();
        fields.winThreshold = threshold;
        Ticket::<Won>::restore(
            digest,
            fields,
            world.key.sign(digest),
            world.session,
            world.session().r1(),
        )
    };
    assert!(restore(drawn + one).is_ok());
    assert_eq!(restore(drawn).unwrap_err().win_threshold, WinThreshold(drawn));
}

/// E1 and E6: a ticket is good for one chain, one contract, one escrow and one merchant. (The contract's side of this is
/// `attack_replay_other_chain_contract_escrow_recipient` in forge.)
#[test]
fn attack_replay_to_another_merchant_or_chain() {
    let world = World::new();
    let ticket = world.issue(1);

    let mut other_merchant = world.clone();
    other_merchant.recipient = Address::repeat_byte(0xee);
    let refusal = other_merchant.accept(ticket.clone()).unwrap_err();
    assert!(matches!(refusal, Refusal::CommitmentUnknown { .. }));

    for domain in [
        micropay_protocol::ticket::Domain::new(1, world.domain.contract()),
        micropay_protocol::ticket::Domain::new(world.domain.chain_id(), Address::ZERO),
    ] {
        let mut elsewhere = world.clone();
        elsewhere.domain = domain;
        let replayed = Ticket::from_parts(&domain, ticket.fields().clone(), *ticket.signature());
        // The commitment binds the domain, so it is unknown there...
        let refusal = elsewhere.accept(replayed.clone()).unwrap_err();
        assert!(matches!(refusal, Refusal::CommitmentUnknown { .. }));
        // ...and so does the signature: it recovers somebody else.
        let recovered = micropay_protocol::ticket::recover(replayed.digest(), replayed.signature());
        assert_ne!(recovered.map(|key| key.address()), Ok(world.key.address()));
    }
    assert_eq!(world.accept(ticket).unwrap().nonce(), Nonce(1));
}
