//! What holds of every decoder whatever comes in: no panic, an answer no larger than a small multiple of the question, and what
//! was read is written and read again the same. Shared by `tests/decoders` (stable, in every run) and by `fuzz/` (libFuzzer).

use std::fmt::Debug;

use alloy_primitives::{Address, B256, U256};
use http::Method;
use merchant::ticket::Price;
use micropay_gateway::route::Pattern;
use micropay_gateway::server::{Charge, Route, Table};
use micropay_gateway::wire::{
    ChallengeKey, Extra, PaymentRequired, PaymentSignature, Problem, Requirements, Resource, offered,
    read_credential, read_required, read_response, read_signature,
};
use protocol::ticket::{Amount, Domain};

/// What is said of an input is at most so many times as long.
const FACTOR: usize = 16;
const SLACK: usize = 4096;

/// A decoder under test: true where the input was taken.
pub(crate) type Check = fn(&[u8]) -> bool;

/// Every decoder, by the name of its folder of seeds.
pub(crate) const CHECKS: [(&str, Check); 8] = [
    ("required", required),
    ("signature", signature),
    ("credential", credential),
    ("response", response),
    ("pattern", pattern),
    ("problem", problem),
    ("path", path),
    ("spelling", spelling),
];

pub(crate) fn domain() -> Domain {
    Domain::new(31337, Address::repeat_byte(0xcc))
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
    let Some(Some(terms)) = bounded(data, read_required(text, &domain())) else {
        return false;
    };
    let again = PaymentRequired {
        error: String::new(),
        resource: Resource::default(),
        accepts: vec![terms.clone()],
    };
    if let Ok(again) = read_required(&again.header(), &domain()) {
        assert_eq!(again, Some(terms));
    }
    true
}

pub(crate) fn signature(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else {
        return false;
    };
    let Some(read) = bounded(data, read_signature(text, &domain())) else {
        return false;
    };
    let header = PaymentSignature::header(&read, &terms());
    if let Ok(again) = read_signature(&header, &domain()) {
        assert_eq!(again, read);
    }
    bounded(data, read.payment.ticket(&domain()));
    true
}

pub(crate) fn credential(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else {
        return false;
    };
    let read = bounded(data, read_credential(text, &challenge_key(), &domain()));
    read.is_some_and(|read| bounded(data, read.payment.ticket(&domain())).is_some())
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
