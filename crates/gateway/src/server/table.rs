//! The price list: which request costs what. The first route that matches decides; what no route names costs the default.

use std::borrow::Cow;

use http::Method;
use http::request::Parts;
use merchant::ticket::Price;

use crate::route::Pattern;

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
}

/// The price list.
#[derive(Clone)]
pub struct Table {
    routes: Vec<Route>,
    pricer: Option<std::sync::Arc<Pricer>>,
}

/// Decides the price of one request, in place of the price list, where it answers at all. It must answer the same for the
/// same request: the payer's retry is judged by it again. It runs on the path of every request and must not wait.
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
#[error("path {0:?} has a segment that means another place")]
pub struct PathError(pub String);

impl Table {
    /// A price list. What no route names is `default`.
    pub fn new(mut routes: Vec<Route>, default: Charge) -> Self {
        let everything = "* /*".parse().expect("a constant");
        routes.push(Route {
            pattern: everything,
            charge: default,
            description: None,
        });
        Self { routes, pricer: None }
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

    /// What this request costs. Where a server could read the path in two ways, the dearer one counts.
    pub fn look_up(&self, request: &Parts) -> Result<Listed<'_>, PathError> {
        if let Some(charge) = self.pricer.as_ref().and_then(|pricer| pricer(request)) {
            return Ok(Listed { charge, route: None });
        }
        let path = normal(request.uri.path())?;
        let listed = self.find(&request.method, &path);
        let slashed = slashes(&path);
        if slashed == path {
            return Ok(listed);
        }
        let other = self.find(&request.method, &normal(&slashed)?);
        Ok(if cost(other.charge) > cost(listed.charge) {
            other
        } else {
            listed
        })
    }

    fn find(&self, method: &Method, path: &str) -> Listed<'_> {
        let route = self
            .routes
            .iter()
            .find(|route| route.pattern.matches(method, path));
        let route = route.or(self.routes.last()).expect("the default is always there");
        Listed {
            charge: route.charge,
            route: Some(route),
        }
    }
}

fn cost(charge: Charge) -> u128 {
    match charge {
        Charge::Free => 0,
        Charge::Price(price) => price.price.0,
    }
}

/// The path as most servers read it: characters that need no encoding decoded, slashes not doubled. A segment that is `.` or
/// `..` is refused: `/free/../paid` must not be free.
fn normal(path: &str) -> Result<Cow<'_, str>, PathError> {
    let plain = !path.contains('%') && !path.contains("//") && !path.contains("/.");
    if plain {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode_unreserved(path);
    let mut normal = String::with_capacity(decoded.len());
    for (index, segment) in decoded.split('/').enumerate() {
        if segment == "." || segment == ".." {
            return Err(PathError(path.to_owned()));
        }
        if index > 0 && !normal.ends_with('/') {
            normal.push('/');
        }
        normal.push_str(segment);
    }
    Ok(Cow::Owned(normal))
}

fn decode_unreserved(path: &str) -> String {
    let bytes = path.as_bytes();
    let (mut decoded, mut at) = (String::with_capacity(path.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        let pair = path.get(at + 1..at + 3);
        let code = (byte == b'%')
            .then_some(pair)
            .flatten()
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match code {
            Some(code) if code.is_ascii_alphanumeric() || b"-._~".contains(&code) => {
                decoded.push(char::from(code));
                at += 3;
            }
            _ => {
                // A URI's path is ASCII.
                decoded.push(char::from(byte));
                at += 1;
            }
        }
    }
    decoded
}

/// The path as a server reads it that takes an encoded slash for a slash.
fn slashes(path: &str) -> String {
    path.replace("%2f", "/")
        .replace("%2F", "/")
        .replace("%5c", "/")
        .replace("%5C", "/")
        .replace('\\', "/")
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
    fn a_pricer_goes_before_the_list() {
        let table = table().with_pricer(|request| {
            let long = request.uri.query().is_some_and(|query| query.len() > 3);
            long.then(|| price(50))
        });
        assert_eq!(cost_of(&table, "GET", "/free/a?xyz=1"), Ok(50));
        assert_eq!(cost_of(&table, "GET", "/free/a?x"), Ok(0));
    }
}
