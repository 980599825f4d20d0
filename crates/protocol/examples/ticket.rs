//! One escrow, tickets until one wins: quote, issue, accept, draw, claim. Run with
//! `cargo run -p micropay-protocol --example ticket`.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;

use alloy_primitives::{Address, U256, keccak256};
use bindings::ticket::TicketEscrow::Opened;
use micropay_protocol::ticket::{
    Admission, Amount, Domain, Drawn, EscrowEvent, EscrowKey, EscrowView, Nonce, Offer, Policy, Seconds,
    Seed, Session, SessionId, Ticket, Timestamp, WinThreshold, accept, fold, groups, odds, quote,
};

fn main() -> Result<(), Box<dyn Error>> {
    let domain = Domain::new(31337, Address::repeat_byte(0xcc));
    let merchant = Address::repeat_byte(0x11);
    let policy = Policy::default();
    let now = Timestamp(1_800_000_000); // the caller's clock
    let prize = Amount(128_000);
    let win_threshold = WinThreshold::one_in(128);
    let offer = Offer {
        asset: Address::ZERO,
        prize,
        win_threshold,
    };

    // Open: as the chain tells it. The penalty is what merchants will ask for.
    let key = EscrowKey::from_bytes(&[7; 32])?;
    let cap = Nonce(1034);
    let penalty = odds::required_penalty(prize, cap, win_threshold, policy.epsilon);
    let mut record = None;
    let opened = EscrowEvent::Opened(Opened {
        escrow: key.address(),
        payer: Address::repeat_byte(0x22),
        asset: offer.asset,
        prize: prize.to_u256(),
        maxThreshold: win_threshold.to_bound().ok_or("threshold too high")?.0,
        ticketCap: cap.0,
        balance: U256::from(20 * prize.0),
        penalty: penalty.to_u256(),
    });
    fold(&mut record, &opened)?;
    println!(
        "escrow   {} backs {} tickets with a penalty of {penalty}",
        key.address(),
        cap.0
    );

    let seed = Seed::new([9; 32]); // secret and random, in earnest
    let session = Session::derive(
        &domain,
        &seed,
        merchant,
        key.address(),
        SessionId { boot: 1, serial: 0 },
    );

    for nonce in 1..cap.0 {
        // Quote, and the payer's check of it.
        let quote = quote(&session, &offer, &policy, Nonce(0));
        quote.check(record.as_ref().ok_or("not open")?)?;

        // Issue. r2 is random, in earnest.
        let r2 = keccak256(nonce.to_be_bytes());
        let issued = Ticket::issue(&domain, &key, &quote, r2, quote.expiry(now), Nonce(nonce));

        // Accept, from the fields and the signature as they arrive.
        let received = Ticket::from_parts(&domain, issued.fields().clone(), *issued.signature());
        let admission = Admission {
            session: &session,
            commitment_closed: false,
            offer,
            nonce_seen: false,
            nonce_floor: Nonce(0),
            now,
            policy: &policy,
            escrow: EscrowView {
                last_final: record.as_ref(),
                head: record.as_ref(),
            },
            mirror_age: Seconds(0),
            unclaimed_wins: 0,
            payer_unclaimed_wins: 0,
            known_key: None,
        };
        let accepted = accept(received, &admission)?;

        // Draw.
        let Drawn::Won(won) = accepted.draw()? else {
            continue;
        };
        println!("ticket   {nonce} of price {} wins {prize}", quote.price);

        // Claim: what goes to the contract. The session is closed before this leaves.
        let claim = groups(&[won])?;
        println!("claim    r1 {} opens {}", claim[0].r1, session.commitment());
        assert_eq!(domain.commitment(merchant, claim[0].r1), session.commitment());
        break;
    }
    Ok(())
}
