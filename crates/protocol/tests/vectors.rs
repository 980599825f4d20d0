//! Known answers that Solidity reads, too. `shared-ticket.json` comes from an independent implementation; `ticket.json` is
//! this project's own and is made here: the test makes it again in memory and compares. `UPDATE_VECTORS=1 cargo test -p
//! micropay-protocol --test vectors` rewrites the file.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod common;

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256, hex, keccak256};
use bindings::ticket::{Opening, Ticket as Fields};
use common::{bytes32, escrow_key, read_vectors, vector_path};
use micropay_protocol::ticket::{
    Amount, Domain, EscrowKey, Issued, Nonce, Quote, Seconds, Seed, Session, SessionId, Signature, Ticket,
    Timestamp, WinThreshold, Won, draw, recover, session_secret, verify,
};
use serde_json::{Value, json};

const CHAIN_ID: u64 = 31337;
const CONTRACT: &str = "0x5fbdb2315678afecb367f032d93f642f64180aa3";
/// Typed again by hand.
const TYPES: [&str; 3] = [
    "Ticket(address escrow,address recipient,bytes32 commitment,bytes32 r2,uint256 winThreshold,uint64 expiry,uint64 nonce)",
    "CoinCommitment(address recipient,bytes32 r1)",
    "Opening(address escrow,address payer,address asset,uint256 prize,uint256 maxThreshold,uint64 ticketCap,uint256 penalty)",
];

fn parse<T: std::str::FromStr>(value: &Value) -> T
where
    T::Err: std::fmt::Debug,
{
    value.as_str().unwrap().parse().unwrap()
}

fn fields(file: &Value, ticket: &Value) -> Fields {
    Fields {
        escrow: parse(&file["escrow"]),
        recipient: parse(&file["recipient"]),
        commitment: parse(&ticket["commitment"]),
        r2: parse(&ticket["r2"]),
        winThreshold: parse(&ticket["winThreshold"]),
        expiry: ticket["expiry"].as_u64().unwrap(),
        nonce: ticket["nonce"].as_u64().unwrap(),
    }
}

fn key(file: &Value) -> EscrowKey {
    EscrowKey::from_bytes(&parse::<B256>(&file["escrowKey"]).0).unwrap()
}

/// The digest from the text of the types alone, by string and concatenation.
fn digest_by_hand(file: &Value, ticket: &Fields) -> B256 {
    let word = |address: Address| address.into_word();
    let domain = keccak256(
        [
            keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
            keccak256("Micropay Ticket Escrow"),
            keccak256("1"),
            B256::from(U256::from(file["chainId"].as_u64().unwrap())),
            word(parse(&file["verifyingContract"])),
        ]
        .concat(),
    );
    assert_eq!(domain, parse::<B256>(&file["domainSeparator"]));
    let body = [
        keccak256(TYPES[0]),
        word(ticket.escrow),
        word(ticket.recipient),
        ticket.commitment,
        ticket.r2,
        B256::from(ticket.winThreshold),
        B256::from(U256::from(ticket.expiry)),
        B256::from(U256::from(ticket.nonce)),
    ];
    keccak256([&[0x19, 0x01], &domain[..], &keccak256(body.concat())[..]].concat())
}

/// Everything that a ticket of a file says about itself.
fn check_ticket(file: &Value, ticket: &Value) {
    let domain = Domain::new(
        file["chainId"].as_u64().unwrap(),
        parse(&file["verifyingContract"]),
    );
    assert_eq!(domain.separator(), parse::<B256>(&file["domainSeparator"]));
    let fields = fields(file, ticket);
    let bytes = hex::decode(ticket["signature"].as_str().unwrap()).unwrap();
    let signature = Signature::from_bytes(&bytes).unwrap();
    let received = Ticket::from_parts(&domain, fields.clone(), signature);
    let digest: B256 = parse(&ticket["digest"]);
    assert_eq!(received.digest(), digest);
    assert_eq!(digest_by_hand(file, &fields), digest);

    // RFC 6979: two implementations make one signature.
    let key = key(file);
    assert_eq!(key.address(), fields.escrow);
    assert_eq!(key.sign(digest), signature);
    assert_eq!(recover(digest, &signature).unwrap(), *key.public_key());
    assert!(verify(digest, &signature, key.public_key()));

    let half: B256 = parse(&ticket["half"]);
    let drawn = draw(digest, half);
    assert_eq!(drawn, parse::<U256>(&ticket["draw"]));
    let wins = ticket["win"].as_bool().unwrap();
    assert_eq!(WinThreshold(fields.winThreshold).wins(drawn), wins);
    if ticket["mode"] == "coin" {
        assert_eq!(half, parse::<B256>(&ticket["r1"]));
        assert_eq!(domain.commitment(fields.recipient, half), fields.commitment);
        let restored = Ticket::<Won>::restore(digest, fields, signature, SessionId::default(), half);
        assert_eq!(restored.is_ok(), wins);
    }
}

#[test]
fn shared_tickets() {
    let file = read_vectors("shared-ticket.json");
    assert_eq!(file["domainName"], Domain::NAME);
    assert_eq!(file["domainVersion"], Domain::VERSION);
    let tickets = file["tickets"].as_array().unwrap();
    let coins = tickets.iter().filter(|ticket| ticket["mode"] == "coin").count();
    assert_eq!((tickets.len(), coins), (8, 4));
    // The other half are the VUF's: of those the draw, with its half given.
    for ticket in tickets {
        check_ticket(&file, ticket);
    }
}

#[test]
fn own_tickets() {
    let file = read_vectors("ticket.json");
    let tickets = file["tickets"].as_array().unwrap();
    for ticket in tickets {
        check_ticket(&file, ticket);
    }
    let wins = tickets.iter().filter(|ticket| ticket["win"] == true).count();
    assert!(
        wins >= 4 && tickets.len() - wins >= 4,
        "{wins} of {} win",
        tickets.len()
    );
}

#[test]
fn own_file_is_what_the_code_makes() {
    let mut text = serde_json::to_string_pretty(&sorted(generate())).unwrap();
    text.push('\n');
    let path = vector_path("ticket.json");
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        committed,
        text,
        "{} is stale: run with UPDATE_VECTORS=1",
        path.display()
    );
}

/// Names in order, whichever way the other crates of a build have serde_json keep them.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let map: BTreeMap<String, Value> = map
                .into_iter()
                .map(|(name, value)| (name, sorted(value)))
                .collect();
            map.into_iter().collect()
        }
        Value::Array(values) => values.into_iter().map(sorted).collect(),
        other => other,
    }
}

fn hex_of(bytes: impl AsRef<[u8]>) -> String {
    hex::encode_prefixed(bytes)
}

fn generate() -> Value {
    let domain = Domain::new(CHAIN_ID, CONTRACT.parse().unwrap());
    let key = escrow_key("micropay vectors: escrow");
    let seed = bytes32("micropay vectors: seed", 0);
    let recipient = Address::from_word(bytes32("micropay vectors: recipient", 0));
    let sessions: Vec<Session> = [(1, 0), (1, 1), (2, 0), (u64::MAX, u64::MAX)]
        .map(|(boot, serial)| SessionId { boot, serial })
        .map(|id| Session::derive(&domain, &Seed::new(seed.0), recipient, key.address(), id))
        .to_vec();
    json!({
        "label": "own",
        "chainId": CHAIN_ID,
        "verifyingContract": CONTRACT,
        "domainName": Domain::NAME,
        "domainVersion": Domain::VERSION,
        "domainSeparator": hex_of(domain.separator()),
        "types": TYPES,
        "escrow": hex_of(key.address()),
        "escrowKey": hex_of(*key.to_bytes()),
        "recipient": hex_of(recipient),
        "seed": hex_of(seed),
        "secretRule": "r1 = keccak256(\"micropay/ticket/session/v1\" || seed || recipient || escrow || boot be64 || serial be64)",
        "drawRule": "draw = uint256(keccak256(abi.encode(digest, half))); wins iff draw < winThreshold",
        "sessions": sessions.iter().map(session_json).collect::<Vec<_>>(),
        "tickets": tickets(&domain, &key, &sessions),
        "rejectedSignatures": rejected_signatures(&domain, &key, &sessions[0]),
        "openings": openings(&domain, &key),
    })
}

fn session_json(session: &Session) -> Value {
    json!({
        "boot": session.id().boot,
        "serial": session.id().serial,
        "r1": hex_of(session.r1()),
        "commitment": hex_of(session.commitment()),
    })
}

/// Under each session: one in 128 until the first win, the surest ticket, the least likely, and the widest numbers.
fn tickets(domain: &Domain, key: &EscrowKey, sessions: &[Session]) -> Vec<Value> {
    let mut tickets = Vec::new();
    for session in sessions {
        let usual = WinThreshold::one_in(128);
        let first_win = (1..)
            .find(|nonce| ticket_json(domain, key, session, usual, 1_893_456_000, *nonce)["win"] == true)
            .unwrap();
        for nonce in [1, first_win] {
            tickets.push(ticket_json(domain, key, session, usual, 1_893_456_000, nonce));
        }
        let surest = WinThreshold(U256::MAX);
        let third = WinThreshold::for_price(Amount(333), Amount(1000)).unwrap();
        tickets.push(ticket_json(domain, key, session, surest, 1, 1));
        tickets.push(ticket_json(
            domain,
            key,
            session,
            WinThreshold(U256::from(1)),
            2,
            2,
        ));
        tickets.push(ticket_json(
            domain,
            key,
            session,
            third,
            u64::from(u32::MAX),
            u64::from(u32::MAX) - 1,
        ));
        tickets.push(ticket_json(domain, key, session, surest, u64::MAX, u64::MAX));
    }
    tickets
}

fn issue(
    domain: &Domain,
    key: &EscrowKey,
    session: &Session,
    win_threshold: WinThreshold,
    expiry: u64,
    nonce: u64,
) -> Ticket<Issued> {
    let quote = Quote {
        recipient: session.recipient(),
        commitment: session.commitment(),
        asset: Address::ZERO,
        prize: Amount(1000),
        win_threshold,
        price: win_threshold.price(Amount(1000)),
        ticket_life: Seconds::DAY,
        min_ticket_life: Seconds::HOUR,
        nonce_floor: Nonce(0),
    };
    let r2 = bytes32("micropay vectors: r2", nonce);
    Ticket::issue(domain, key, &quote, r2, Timestamp(expiry), Nonce(nonce))
}

fn ticket_json(
    domain: &Domain,
    key: &EscrowKey,
    session: &Session,
    win_threshold: WinThreshold,
    expiry: u64,
    nonce: u64,
) -> Value {
    let ticket = issue(domain, key, session, win_threshold, expiry, nonce);
    let drawn = draw(ticket.digest(), session.r1());
    json!({
        "mode": "coin",
        "commitment": hex_of(ticket.commitment()),
        "r2": hex_of(ticket.r2()),
        "winThreshold": format!("{:#x}", win_threshold.0),
        "expiry": expiry,
        "nonce": nonce,
        "digest": hex_of(ticket.digest()),
        "signature": hex_of(ticket.signature().to_bytes()),
        "r1": hex_of(session.r1()),
        "half": hex_of(session.r1()),
        "draw": format!("{drawn:#066x}"),
        "win": win_threshold.wins(drawn),
    })
}

/// Signatures of one digest that must be refused: what recovers, if anything, is not the escrow.
fn rejected_signatures(domain: &Domain, key: &EscrowKey, session: &Session) -> Vec<Value> {
    const ORDER: [u8; 32] = hex!("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141");
    let ticket = issue(domain, key, session, WinThreshold::one_in(128), 1_893_456_001, 1);
    let good = ticket.signature().to_bytes();
    let (r, s, v) = (
        B256::from_slice(&good[..32]),
        U256::from_be_slice(&good[32..64]),
        good[64],
    );
    let order = U256::from_be_bytes(ORDER);
    let s_word = B256::from(s);
    let case = |why: &str, r: B256, s: B256, v: u8| {
        let bytes = [&r[..], &s[..], &[v]].concat();
        let strict = Signature::from_bytes(&bytes);
        let recovered = strict.and_then(|signature| recover(ticket.digest(), &signature));
        assert_ne!(recovered.map(|key| key.address()), Ok(key.address()), "{why}");
        json!({ "why": why, "digest": hex_of(ticket.digest()), "r": hex_of(r), "s": hex_of(s), "v": v })
    };
    vec![
        case(
            "high s, the malleated twin",
            r,
            B256::from(order - s),
            27 + 28 - v,
        ),
        case("high s, v kept", r, B256::from(order - s), v),
        case("the other v", r, s_word, 27 + 28 - v),
        case("v 0 or 1", r, s_word, v - 27),
        case("v of EIP-155", r, s_word, v + 8),
        case("r is 0", B256::ZERO, s_word, v),
        case("s is 0", r, B256::ZERO, v),
        case("r is the order", B256::from(ORDER), s_word, v),
        case("s is the order", r, B256::from(ORDER), v),
        case("s + n", r, B256::from(s.wrapping_add(order)), v),
        case("r of no point", B256::from(U256::from(5)), s_word, v),
    ]
}

fn openings(domain: &Domain, key: &EscrowKey) -> Vec<Value> {
    let payer = Address::from_word(bytes32("micropay vectors: payer", 0));
    let token = Address::from_word(bytes32("micropay vectors: token", 0));
    let usual = U256::from(1) << 249;
    let most = U256::MAX - (U256::MAX >> 24);
    [
        (
            Address::ZERO,
            10u128.pow(16),
            usual,
            1_034u64,
            20 * 10u128.pow(16),
        ),
        (
            token,
            1_000_000,
            WinThreshold::one_in(100).to_bound().unwrap().0,
            2,
            0,
        ),
        (token, (1 << 96) - 1, most, u64::from(u32::MAX), (1 << 96) - 1),
    ]
    .into_iter()
    .map(|(asset, prize, max_threshold, ticket_cap, penalty)| {
        let opening = Opening {
            escrow: key.address(),
            payer,
            asset,
            prize: U256::from(prize),
            maxThreshold: max_threshold,
            ticketCap: ticket_cap,
            penalty: U256::from(penalty),
        };
        let digest = domain.opening_digest(&opening);
        json!({
            "escrow": hex_of(opening.escrow),
            "payer": hex_of(payer),
            "asset": hex_of(asset),
            "prize": format!("{:#x}", opening.prize),
            "maxThreshold": format!("{max_threshold:#x}"),
            "ticketCap": ticket_cap,
            "penalty": format!("{:#x}", opening.penalty),
            "digest": hex_of(digest),
            "signature": hex_of(key.sign(digest).to_bytes()),
        })
    })
    .collect()
}

/// The derivation from its text, by concatenation.
#[test]
fn session_secrets_by_hand() {
    let file = read_vectors("ticket.json");
    let (seed, recipient, escrow): (B256, Address, Address) = (
        parse(&file["seed"]),
        parse(&file["recipient"]),
        parse(&file["escrow"]),
    );
    for session in file["sessions"].as_array().unwrap() {
        let (boot, serial) = (
            session["boot"].as_u64().unwrap(),
            session["serial"].as_u64().unwrap(),
        );
        let by_hand = keccak256(
            [
                b"micropay/ticket/session/v1",
                &seed[..],
                &recipient[..],
                &escrow[..],
                &boot.to_be_bytes(),
                &serial.to_be_bytes(),
            ]
            .concat(),
        );
        let id = SessionId { boot, serial };
        assert_eq!(session_secret(&Seed::new(seed.0), recipient, escrow, id), by_hand);
        assert_eq!(parse::<B256>(&session["r1"]), by_hand);
    }
}
