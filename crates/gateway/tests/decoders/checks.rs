//! What holds of every decoder whatever comes in: no panic, an answer no larger than a small multiple of the question, and what
//! was read is written and read again the same. Shared by `tests/decoders` (stable, in every run) and by `fuzz/` (libFuzzer).

use std::fmt::Debug;

use alloy_primitives::{Address, B256, U256};
use http::Method;
use merchant::ticket::Price;
use micropay_gateway::route::Pattern;
use micropay_gateway::server::{Charge, Kinds, Route, Table};
use micropay_gateway::wire::{
    ChallengeKey, ChannelExtra, ChannelPayment, ChannelRequirements, CloseAnswer, CloseRequest, Contracts,
    Extra, Kind, LastReceipt, OpenerAnswer, OpenerRequest, Payload, PaymentRequired, PaymentsRequest,
    PositionAnswer, PositionRequest, Problem, Requirements, Resource, Way, offered, read_channel_body,
    read_channel_response, read_credential, read_required, read_response, read_signature,
};
use protocol::channel::{self, ChannelId, Index, Word};
use protocol::ticket::{Amount, Domain};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What is said of an input is at most so many times as long.
const FACTOR: usize = 16;
const SLACK: usize = 4096;

/// A decoder under test: true where the input was taken.
pub(crate) type Check = fn(&[u8]) -> bool;

/// Every decoder, by the name of its folder of seeds.
pub(crate) const CHECKS: [(&str, Check); 10] = [
    ("required", required),
    ("signature", signature),
    ("credential", credential),
    ("response", response),
    ("channel_response", channel_response),
    ("channel_body", channel_body),
    ("pattern", pattern),
    ("problem", problem),
    ("path", path),
    ("spelling", spelling),
];

pub(crate) fn domain() -> Domain {
    Domain::new(31337, Address::repeat_byte(0xcc))
}

/// Of both kinds.
pub(crate) fn contracts() -> Contracts {
    Contracts {
        ticket: Some(domain()),
        channel: Some(channel_domain()),
    }
}

pub(crate) fn channel_domain() -> channel::Domain {
    channel::Domain::new(31337, Address::repeat_byte(0xce))
}

/// Terms of a channel to answer to.
pub(crate) fn channel_terms() -> ChannelRequirements {
    ChannelRequirements {
        scheme: Kind::Channel.scheme().into(),
        network: "eip155:31337".into(),
        amount: 1_000_000,
        asset: Address::ZERO,
        pay_to: Address::repeat_byte(0xdd),
        max_timeout_seconds: 600,
        extra: ChannelExtra {
            contract: channel_domain().contract(),
            banks: vec![Address::repeat_byte(0xba), Address::repeat_byte(0xbb)],
            min_reputation: 50,
            margin: 21_600,
            max_jump: 4096,
            checkpoint_every: 64,
            accountable: true,
            route: "GET /v1/*".into(),
        },
    }
}

pub(crate) fn challenge_key() -> ChallengeKey {
    ChallengeKey::new([7; 32])
}

/// Terms to answer to.
pub(crate) fn terms() -> Requirements {
    Requirements {
        scheme: "micropay-ticket".into(),
        network: "eip155:31337".into(),
        amount: 1_000_000,
        asset: Address::ZERO,
        pay_to: Address::repeat_byte(0xdd),
        max_timeout_seconds: 86_400,
        extra: Extra {
            contract: domain().contract(),
            commitment: B256::repeat_byte(3),
            prize: 4_000_000,
            win_threshold: U256::MAX >> 2,
            min_prize: 1,
            max_prize: u128::MAX,
            opening: None,
            min_ticket_life: 21_600,
            max_ticket_life: 86_400,
            nonce_floor: 0,
            escrow: Some(Address::repeat_byte(5)),
            route: "GET /v1/*".into(),
        },
    }
}

fn bounded<T: Debug, E: ToString>(input: &[u8], read: Result<T, E>) -> Option<T> {
    let most = SLACK + FACTOR * input.len();
    match read {
        Ok(value) => {
            assert!(format!("{value:?}").len() <= most);
            Some(value)
        }
        Err(error) => {
            assert!(error.to_string().len() <= most);
            None
        }
    }
}

pub(crate) fn required(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else {
        return false;
    };
    bounded(data, offered(text));
    let Some(offers) = bounded(data, read_required(text, contracts())) else {
        return false;
    };
    let ways = [
        offers.ticket.clone().map(Way::from),
        offers.channel.clone().map(Way::from),
    ];
    let again = PaymentRequired {
        error: String::new(),
        resource: Resource::default(),
        accepts: ways.into_iter().flatten().collect(),
    };
    if let Ok(again) = read_required(&again.header(), contracts()) {
        assert_eq!(again, offers);
    }
    !offers.is_empty()
}

pub(crate) fn signature(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else {
        return false;
    };
    let Some(read) = bounded(data, read_signature(text, contracts())) else {
        return false;
    };
    let header = match read.payment.kind() {
        Kind::Ticket => read.header(&terms()),
        Kind::Channel => read.header(&channel_terms()),
    };
    if let Ok(again) = read_signature(&header, contracts()) {
        assert_eq!(again, read);
    }
    payload(data, &read.payment);
    true
}

pub(crate) fn credential(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else {
        return false;
    };
    let read = bounded(data, read_credential(text, &challenge_key(), contracts()));
    read.is_some_and(|read| payload(data, &read.payment))
}

/// The payment in it, whichever kind it is.
fn payload(data: &[u8], payload: &Payload) -> bool {
    match payload {
        Payload::Ticket(payment) => bounded(data, payment.ticket(&domain())).is_some(),
        Payload::Channel(payment) => {
            let Some(checkpoint) = bounded(data, payment.checkpoint()) else {
                return false;
            };
            // There and back, strictly.
            let again = ChannelPayment::new(&payment.payment(), checkpoint.as_ref());
            assert_eq!(again, *payment);
            true
        }
    }
}

pub(crate) fn response(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else {
        return false;
    };
    let Some(read) = bounded(data, read_response(text)) else {
        return false;
    };
    if let Ok(again) = read_response(&read.header()) {
        assert_eq!(again, read);
    }
    true
}

pub(crate) fn channel_response(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else {
        return false;
    };
    let Some(read) = bounded(data, read_channel_response(text)) else {
        return false;
    };
    if let Ok(again) = read_channel_response(&read.header()) {
        assert_eq!(again, read);
    }
    true
}

/// A name of a body about a channel, a line's end, and the body.
pub(crate) fn channel_body(data: &[u8]) -> bool {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else {
        return false;
    };
    let (name, body) = (&data[..end], &data[end + 1..]);
    match name {
        b"position" => body_again::<PositionRequest>(data, body)
            .is_some_and(|read| bounded(data, read.signer(ChannelId::default())).is_some()),
        b"position-answer" => body_again::<PositionAnswer>(data, body).is_some_and(|read| {
            if let Some(last) = read.last {
                let (receipt, before) = last.parts();
                let held = (Index(last.held.index), Word(last.held.word));
                let again = LastReceipt::new(&receipt, before, Index(last.accounted), held);
                assert_eq!(again, last);
            }
            true
        }),
        b"opener" => body_again::<OpenerRequest>(data, body)
            .is_some_and(|read| bounded(data, read.opener(ChannelId::default())).is_some()),
        b"opener-answer" => body_again::<OpenerAnswer>(data, body).is_some(),
        b"close" => body_again::<CloseRequest>(data, body).is_some(),
        b"payments" => body_again::<PaymentsRequest>(data, body).is_some(),
        b"close-answer" => body_again::<CloseAnswer>(data, body).is_some(),
        _ => false,
    }
}

fn body_again<T>(data: &[u8], body: &[u8]) -> Option<T>
where
    T: Debug + PartialEq + Serialize + DeserializeOwned,
{
    let read: T = bounded(data, read_channel_body(body))?;
    let again = serde_json::to_vec(&read).unwrap();
    if let Ok(again) = read_channel_body::<T>(&again) {
        assert_eq!(again, read);
    }
    Some(read)
}

pub(crate) fn problem(data: &[u8]) -> bool {
    let Some(read) = bounded(data, serde_json::from_slice::<Problem>(data)) else {
        return false;
    };
    let again: Problem = serde_json::from_slice(&serde_json::to_vec(&read).unwrap()).unwrap();
    assert_eq!(again, read);
    true
}

/// A pattern, a line's end, and a path for it.
pub(crate) fn pattern(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else {
        return false;
    };
    let (text, path) = text.split_once('\n').unwrap_or((text, "/"));
    let Ok(pattern) = text.parse::<Pattern>() else {
        return false;
    };
    assert_eq!(pattern.to_string(), text);
    let again: Pattern = pattern.to_string().parse().unwrap();
    let method = pattern.method().cloned().unwrap_or(Method::GET);
    assert_eq!(pattern.matches(&method, path), again.matches(&method, path));
    true
}

const DEAR: u128 = 100;

fn price(price: u128) -> Charge {
    Charge::Price(Price {
        asset: Address::ZERO,
        price: Amount(price),
        min_prize: Amount(price),
        max_prize: Amount::MAX,
    })
}

/// What costs nothing, a little, and a lot.
fn table() -> Table {
    let lines = [
        ("* /free/*", Charge::Free),
        ("* /dear/*", price(DEAR)),
        ("* /item", price(DEAR)),
        ("* ~^/v[0-9]+/x$", price(DEAR)),
        ("* /a+b/caf%C3%A9", price(DEAR)),
    ];
    let routes = lines.map(|(pattern, charge)| Route {
        pattern: pattern.parse().unwrap(),
        charge,
        description: None,
        kinds: Kinds::ALL,
    });
    Table::new(routes.into(), Charge::Free)
}

/// The price of a path; `None`: no path, or refused.
fn cost(path: &str) -> Option<u128> {
    let request = http::Request::builder().uri(path).body(()).ok()?;
    let (parts, ()) = request.into_parts();
    let cost = match table().look_up(&parts).ok()?.charge {
        Charge::Free => 0,
        Charge::Price(price) => price.price.0,
    };
    Some(cost)
}

/// Any path has a price or is refused.
pub(crate) fn path(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else {
        return false;
    };
    text.starts_with('/') && cost(text).is_some()
}

/// A dear path in another spelling, character by character as the bytes say: it is refused, or as dear.
pub(crate) fn spelling(data: &[u8]) -> bool {
    let dear = ["/dear/x", "/item", "/v12/x", "/a+b/caf%C3%A9", "/dear/a/b/c"];
    let Some((which, how)) = data.split_first() else {
        return false;
    };
    let mut how = how.iter().copied();
    let mut spelt = String::new();
    let path = dear[usize::from(*which) % dear.len()];
    let mut hidden = false;
    for character in path.chars() {
        let how = how.next().unwrap_or(0);
        let code = u32::from(character);
        // The digits of what is encoded already stay as they are, but for their case.
        let plain = character != '%' && !path.contains('%');
        match how % 10 {
            1 if plain => spelt.push_str(&format!("%{code:02x}")),
            2 if plain => spelt.push_str(&format!("%{code:02X}")),
            3 if plain => spelt.push_str(&format!("%25{code:02x}")),
            4 => spelt.extend(character.to_uppercase()),
            5 => spelt.extend(character.to_lowercase()),
            6 if character == '/' => spelt.push_str("//"),
            7 if character == '/' => spelt.push_str("%2F"),
            8 if character == '/' => spelt.push_str("%5c"),
            9 if character == '/' && !spelt.is_empty() => spelt.push_str(";v=1/"),
            _ => spelt.push(character),
        }
        // A URI's path begins with a slash that is one.
        hidden |= spelt.chars().next().is_some_and(|first| first != '/');
    }
    let spelt = if hidden { format!("/{spelt}") } else { spelt };
    let spelt = match how.next().unwrap_or(0) % 4 {
        1 => format!("{spelt}/"),
        2 => format!("{spelt};a=b"),
        3 => format!("{spelt}%2f"),
        _ => spelt,
    };
    let cost = cost(&spelt);
    assert!(
        cost.is_none_or(|cost| cost >= DEAR),
        "{path} as {spelt} costs {cost:?}"
    );
    cost.is_some()
}
