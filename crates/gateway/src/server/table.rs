//! The price list: which request costs what. The first route that matches decides; what no route names costs the default.

use http::Method;
use http::request::Parts;
use merchant::ticket::Price;

use crate::route::Pattern;
use crate::wire::Kind;

/// What a request costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// Nothing.
    Free,
    /// A ticket of this worth.
    Price(Price),
}

/// One line of the price list.
#[derive(Clone, Debug)]
pub struct Route {
    /// Which requests.
    pub pattern: Pattern,
    /// What they cost.
    pub charge: Charge,
    /// What is sold, in words; for discovery.
    pub description: Option<String>,
    /// What it can be paid with, as far as the gate sells by it.
    pub kinds: Kinds,
}

/// Kinds of payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds {
    /// Tickets.
    pub ticket: bool,
    /// Channels.
    pub channel: bool,
}

impl Kinds {
    /// Every kind.
    pub const ALL: Self = Self {
        ticket: true,
        channel: true,
    };
    /// Tickets alone.
    pub const TICKET: Self = Self {
        ticket: true,
        channel: false,
    };
    /// Channels alone.
    pub const CHANNEL: Self = Self {
        ticket: false,
        channel: true,
    };

    /// Those that are in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            ticket: self.ticket && other.ticket,
            channel: self.channel && other.channel,
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        !self.ticket && !self.channel
    }

    /// Whether this one is among them.
    pub fn contains(self, kind: Kind) -> bool {
        match kind {
            Kind::Ticket => self.ticket,
            Kind::Channel => self.channel,
        }
    }
}

/// The price list.
#[derive(Clone)]
pub struct Table {
    routes: Vec<Route>,
    /// The same for paths in any case, as many servers read them.
    any_case: Vec<Pattern>,
    pricer: Option<std::sync::Arc<Pricer>>,
}

/// Decides the price of one request, in place of the price list, where it answers at all. It must answer the same for the
/// same request: the payer's retry is judged by it again. It runs on the path of every request and must not wait. It sees
/// the path as it came, which its server may read as another.
pub type Pricer = dyn Fn(&Parts) -> Option<Charge> + Send + Sync;

/// What a request costs, and what else costs the same.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'t> {
    /// What it costs.
    pub charge: Charge,
    /// The line that says so; `None`: a pricer did.
    pub route: Option<&'t Route>,
}

/// A path that servers read in more than one way, so that the price list might name another than the one that answers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("path {0:?} can be read as another place")]
pub struct PathError(pub String);

impl Listed<'_> {
    /// What it can be paid with, as far as the gate sells by it.
    pub fn kinds(&self) -> Kinds {
        self.route.map_or(Kinds::ALL, |route| route.kinds)
    }
}

impl Table {
    /// A price list. What no route names is `default`.
    pub fn new(mut routes: Vec<Route>, default: Charge) -> Self {
        let everything = "* /*".parse().expect("a constant");
        routes.push(Route {
            pattern: everything,
            charge: default,
            description: None,
            kinds: Kinds::ALL,
        });
        let any_case = routes.iter().map(|route| route.pattern.of_any_case()).collect();
        Self {
            routes,
            any_case,
            pricer: None,
        }
    }

    /// The same list, but for requests that `pricer` has an answer to.
    #[must_use]
    pub fn with_pricer(mut self, pricer: impl Fn(&Parts) -> Option<Charge> + Send + Sync + 'static) -> Self {
        self.pricer = Some(std::sync::Arc::new(pricer));
        self
    }

    /// All routes, the default last.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// What this request costs. Where a server could read the path in more than one way, the dearest of them counts, and
    /// `HEAD` costs what `GET` does, which servers make it of.
    pub fn look_up(&self, request: &Parts) -> Result<Listed<'_>, PathError> {
        if let Some(charge) = self.pricer.as_ref().and_then(|pricer| pricer(request)) {
            return Ok(Listed { charge, route: None });
        }
        let path = request.uri.path();
        let readings = readings(path).ok_or_else(|| PathError(path.to_owned()))?;
        let last = self.routes.len() - 1;
        let mut dearest = self.position(|index| self.routes[index].pattern.matches(&request.method, path));
        let mut take = |found: usize| dearest = self.dearer(dearest, found);
        let head = request.method == Method::HEAD;
        let methods = [Some(&request.method), head.then_some(&Method::GET)];
        for method in methods.into_iter().flatten() {
            for reading in &readings {
                let own = self.position(|index| self.routes[index].pattern.matches(method, &reading.path));
                let any_case = self.position(|index| self.any_case[index].matches(method, &reading.path));
                if own != last || reading.is_same {
                    take(own);
                }
                if any_case != last {
                    take(any_case);
                }
            }
        }
        let route = &self.routes[dearest];
        Ok(Listed {
            charge: route.charge,
            route: Some(route),
        })
    }

    /// The first route that is meant; the default is the last, and always is.
    fn position(&self, is_meant: impl Fn(usize) -> bool) -> usize {
        let last = self.routes.len() - 1;
        (0..last).find(|index| is_meant(*index)).unwrap_or(last)
    }

    /// The dearer of two routes. Prices in two assets cannot be compared: there the list's order counts.
    fn dearer(&self, one: usize, other: usize) -> usize {
        let charges = (self.routes[one].charge, self.routes[other].charge);
        match charges {
            (Charge::Price(a), Charge::Price(b)) if a.asset != b.asset => one.min(other),
            (a, b) if cost(b) > cost(a) => other,
            _ => one,
        }
    }
}

fn cost(charge: Charge) -> u128 {
    match charge {
        Charge::Free => 0,
        Charge::Price(price) => price.price.0,
    }
}

/// Times that a path is decoded. Some servers decode what another has decoded before.
const DECODINGS: usize = 3;

/// A path that a server may take another for.
struct Reading {
    path: String,
    /// Most servers take it for the same, so that what no route names is a fact, too. Where few do, only a route that names
    /// it counts: else `/a` would cost what all but `/a` does, because `/a/` is another path.
    is_same: bool,
}

/// The paths that servers may take this one for: decoded, with slashes that were encoded, doubled, the wrong way round, or at
/// the end, with and without parameters (`;…`). `None` where one of them goes to another place (`.`, `..`) or to none:
/// `/free/../paid` must not be free.
fn readings(path: &str) -> Option<Vec<Reading>> {
    let mut readings: Vec<Reading> = Vec::new();
    let mut add = |path: String, is_same| {
        if path.split('/').any(|segment| segment == "." || segment == "..") {
            return None;
        }
        if !path.is_empty() && !readings.iter().any(|known| known.path == path) {
            readings.push(Reading { path, is_same });
        }
        Some(())
    };
    let plain = decode(path, |code| {
        code.is_ascii_alphanumeric() || b"-._~".contains(&code)
    });
    add(squeezed(&plain), true)?;
    let slashed = decode(&plain, |code| b"/\\".contains(&code)).replace('\\', "/");
    add(squeezed(&slashed), true)?;
    let mut decoded = slashed;
    for _ in 0..=DECODINGS {
        for reading in [squeezed(&decoded), squeezed(&without_parameters(&decoded))] {
            let toggled = match reading.strip_suffix('/') {
                Some(bare) => bare.to_owned(),
                None => format!("{reading}/"),
            };
            add(reading, false)?;
            add(toggled, false)?;
        }
        let next = decode(&decoded, |_| true).replace('\\', "/");
        if next.chars().any(char::is_control) {
            return None;
        }
        if next == decoded {
            break;
        }
        decoded = next;
    }
    Some(readings)
}

/// Slashes are not doubled.
fn squeezed(path: &str) -> String {
    let mut squeezed = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !squeezed.ends_with('/') {
            squeezed.push(character);
        }
    }
    squeezed
}

fn without_parameters(path: &str) -> String {
    let names = path
        .split('/')
        .map(|segment| segment.split(';').next().unwrap_or_default());
    names.collect::<Vec<_>>().join("/")
}

/// Those encoded characters decoded, once. What is not UTF-8 then is nobody's pattern.
fn decode(path: &str, wanted: impl Fn(u8) -> bool) -> String {
    let bytes = path.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(path.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
        let pair = digit(at + 1).zip(digit(at + 2)).filter(|_| byte == b'%');
        let code = pair.and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        match code.filter(|code| wanted(*code)) {
            Some(code) => {
                decoded.push(code);
                at += 3;
            }
            None => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Address;
    use protocol::ticket::Amount;

    use super::*;

    fn price(price: u128) -> Charge {
        Charge::Price(Price {
            asset: Address::ZERO,
            price: Amount(price),
            min_prize: Amount(price),
            max_prize: Amount::MAX,
        })
    }

    fn route(pattern: &str, charge: Charge) -> Route {
        Route {
            pattern: pattern.parse().unwrap(),
            charge,
            description: None,
            kinds: Kinds::ALL,
        }
    }

    fn table() -> Table {
        let routes = vec![
            route("GET /free/*", Charge::Free),
            route("* /dear/*", price(100)),
            route("POST /*", price(7)),
        ];
        Table::new(routes, price(1))
    }

    fn cost_of(table: &Table, method: &str, path: &str) -> Result<u128, PathError> {
        let (parts, ()) = http::Request::builder()
            .method(method)
            .uri(path)
            .body(())
            .unwrap()
            .into_parts();
        table.look_up(&parts).map(|listed| cost(listed.charge))
    }

    #[test]
    fn the_first_route_that_matches_decides() {
        let table = table();
        for (method, path, expected) in [
            ("GET", "/free/a?x=1", 0),
            ("POST", "/free/a", 7),
            ("POST", "/dear/a", 100),
            ("GET", "/else", 1),
        ] {
            assert_eq!(cost_of(&table, method, path), Ok(expected), "{method} {path}");
        }
    }

    /// A hostile payer writes a dear path so that the list takes it for a free one and the upstream does not.
    #[test]
    fn attack_another_spelling_of_a_path_is_no_cheaper() {
        let table = table();
        for path in [
            "//dear/a",
            "/%64ear/a",
            "/dear//a",
            "/free/%2e%2e%2fdear/a",
            "/dear%2Fa",
            "/dear%5Ca",
            "/dear;x=1/a",
            "/;a/dear/a",
            "/dear/;/",
            "/DEAR/a",
            "/D%45ar/a",
            "/dear",
            "/%2564ear/a",
            "/dear%252fa",
            "/dear%c3%A9/../a",
            "/free/..;/dear/a",
            "/free/..;x/a",
            "/free/%252e%252e/a",
            "/free/a%00",
            "/free/a%0d%0ab",
        ] {
            let got = cost_of(&table, "GET", path);
            assert!(matches!(got, Ok(100) | Err(_)), "{path}: {got:?}");
        }
        for path in [
            "/free/../dear/a",
            "/free/%2e%2E/dear/a",
            "/free/./a",
            "/free/..%2fdear/a",
        ] {
            assert!(cost_of(&table, "GET", path).is_err(), "{path}");
        }
        assert_eq!(
            cost_of(&table, "GET", "/free/..a/.b"),
            Ok(0),
            "names may have dots"
        );
    }

    #[test]
    fn what_a_server_makes_of_another_costs_the_same() {
        let routes = vec![
            route("GET /item", price(5)),
            route("* /caf%C3%A9", price(6)),
            route("* /a+b", price(7)),
            route("* ~^/v[0-9]/x$", price(8)),
        ];
        let table = Table::new(routes, Charge::Free);
        for (method, path, expected) in [
            ("GET", "/item", 5),
            ("GET", "/item/", 5),
            ("GET", "/Item", 5),
            ("HEAD", "/item", 5),
            ("POST", "/item", 0),
            ("GET", "/caf%C3%A9", 6),
            ("GET", "/a+b", 7),
            ("GET", "/a%2Bb", 7),
            ("GET", "/v1/x", 8),
            ("GET", "/V1/X/", 8),
            ("GET", "/else", 0),
            ("GET", "/v1%2Fx", 8),
        ] {
            assert_eq!(cost_of(&table, method, path), Ok(expected), "{method} {path}");
        }
    }

    /// A number in one asset says nothing about a number in another.
    #[test]
    fn where_prices_cannot_be_compared_the_first_route_counts() {
        let other = Charge::Price(Price {
            asset: Address::repeat_byte(1),
            price: Amount(1_000),
            min_prize: Amount(1_000),
            max_prize: Amount::MAX,
        });
        let table = Table::new(vec![route("* /dear", price(1))], other);
        for path in ["/dear", "/Dear", "/dear/"] {
            assert_eq!(cost_of(&table, "GET", path), Ok(1), "{path}");
        }
        assert_eq!(cost_of(&table, "GET", "/else"), Ok(1_000));
    }

    #[test]
    fn a_route_that_is_cheaper_than_the_rest_is_cheaper() {
        let routes = vec![
            route("* /cheap", price(1)),
            route("* /caf%C3%A9", price(2)),
            route("* /a;v=1", price(3)),
            route("* ~^/one/[^/]*$", price(4)),
        ];
        let table = Table::new(routes, price(9));
        for (path, expected) in [
            ("/cheap", 1),
            ("/caf%C3%A9", 2),
            ("/a;v=1", 3),
            ("/one/x", 4),
            ("/one/x%2fy", 9),
            ("/one/x%5cy", 9),
            ("/else", 9),
        ] {
            assert_eq!(cost_of(&table, "GET", path), Ok(expected), "{path}");
        }
    }

    #[test]
    fn a_pricer_goes_before_the_list() {
        let table = table().with_pricer(|request| {
            let long = request.uri.query().is_some_and(|query| query.len() > 3);
            long.then(|| price(50))
        });
        assert_eq!(cost_of(&table, "GET", "/free/a?xyz=1"), Ok(50));
        assert_eq!(cost_of(&table, "GET", "/free/a?x"), Ok(0));
    }
}
