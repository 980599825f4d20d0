//! Terms by origin and route, so that a call to a known seller is paid at once. What servers say is kept within bounds; a
//! wrong entry costs one more request, never a second payment.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use reqwest::{Method, Request, Url};

use crate::route::Pattern;
use crate::wire::{Offers, Requirements};

/// Most origins remembered. Beyond it the one that was asked least recently is forgotten.
const MAX_ORIGINS: usize = 128;
/// Most routes remembered per origin. Beyond it the one that was learned first is forgotten.
const MAX_ROUTES: usize = 16;
/// Most requests per origin of which it is remembered that the guess was wrong. Beyond it the first is forgotten.
const MAX_EXCEPTIONS: usize = 64;

/// Scheme, host and port: whom a payment goes to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin(String);

/// A request, as far as terms may be for it.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) origin: Origin,
    pub(super) host: String,
    pub(super) method: Method,
    pub(super) path: String,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Cache {
    shelves: Mutex<Shelves>,
}

#[derive(Debug, Default)]
struct Shelves {
    origins: HashMap<Origin, Shelf>,
    clock: u64,
}

/// What is known of one origin.
#[derive(Debug, Default)]
struct Shelf {
    /// The latest last.
    routes: Vec<Route>,
    /// Requests that are not what the routes make one expect: of another route, or free (`None`). Which of two routes that
    /// match is meant only the seller's price list says.
    exceptions: VecDeque<(Method, String, Option<String>)>,
    used: u64,
}

#[derive(Debug)]
struct Route {
    pattern: Pattern,
    /// The pattern as the server wrote it.
    text: String,
    offers: Offers,
}

impl Origin {
    pub(super) fn of(url: &Url) -> Self {
        Self(url.origin().ascii_serialization())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&Request> for Target {
    fn from(request: &Request) -> Self {
        let url = request.url();
        Self {
            origin: Origin::of(url),
            host: url.host_str().unwrap_or_default().to_owned(),
            method: request.method().clone(),
            path: url.path().to_owned(),
        }
    }
}

impl Cache {
    /// Terms for a request, if any are known.
    pub(super) fn find(&self, target: &Target) -> Option<Offers> {
        let mut shelves = self.shelves.lock();
        shelves.clock += 1;
        let clock = shelves.clock;
        let shelf = shelves.origins.get_mut(&target.origin)?;
        shelf.used = clock;
        let route = match shelf.exception(target) {
            Some((_, _, text)) => shelf
                .routes
                .iter()
                .find(|route| Some(&route.text) == text.as_ref()),
            None => shelf.guess(target),
        };
        route.map(|route| route.offers.clone())
    }

    /// Remembers the terms that came with the answer to a request. A session belongs to a merchant and an escrow, so that a
    /// new commitment holds for all routes of this origin that pay the same merchant. Terms for a route that is not the
    /// request's own are not remembered. Returns whether they are.
    pub(super) fn learn(&self, target: &Target, offers: &Offers) -> bool {
        let Some(text) = offers.route().map(str::to_owned) else {
            return false;
        };
        let Ok(pattern) = text.parse::<Pattern>() else {
            return false;
        };
        if !pattern.matches(&target.method, &target.path) {
            return false;
        }
        let mut shelves = self.shelves.lock();
        let shelf = shelves.of(&target.origin);
        shelf.routes.retain(|known| known.text != text);
        if shelf.routes.len() >= MAX_ROUTES {
            shelf.routes.remove(0);
        }
        if let Some(terms) = &offers.ticket {
            let known = shelf
                .routes
                .iter_mut()
                .filter_map(|route| route.offers.ticket.as_mut());
            for known in known {
                if known.pay_to == terms.pay_to && known.extra.contract == terms.extra.contract {
                    known.extra.commitment = terms.extra.commitment;
                    known.extra.nonce_floor = terms.extra.nonce_floor;
                }
            }
        }
        shelf.routes.push(Route {
            pattern,
            text: text.clone(),
            offers: offers.clone(),
        });
        shelf.correct(target, Some(text));
        true
    }

    /// Remembers the terms of the next ticket. The price is the same by channel.
    pub(super) fn renew(&self, target: &Target, terms: &Requirements) -> bool {
        let mut channel = self.find(target).and_then(|offers| offers.channel);
        if let Some(channel) = &mut channel {
            channel.amount = terms.amount;
        }
        let channel = channel.filter(|channel| {
            (channel.asset, channel.extra.route.as_str()) == (terms.asset, terms.extra.route.as_str())
        });
        let offers = Offers {
            ticket: Some(terms.clone()),
            channel,
        };
        self.learn(target, &offers)
    }

    /// A request that terms are known for was not charged for.
    pub(super) fn learn_free(&self, target: &Target) {
        self.shelves.lock().of(&target.origin).correct(target, None);
    }

    /// Terms that are not acceptable: the server is to be asked again.
    pub(super) fn forget(&self, target: &Target, offers: &Offers) {
        if let Some(shelf) = self.shelves.lock().origins.get_mut(&target.origin) {
            shelf
                .routes
                .retain(|route| Some(route.text.as_str()) != offers.route());
        }
    }
}

impl Shelves {
    fn of(&mut self, origin: &Origin) -> &mut Shelf {
        self.clock += 1;
        if !self.origins.contains_key(origin)
            && self.origins.len() >= MAX_ORIGINS
            && let Some((oldest, _)) = self.origins.iter().min_by_key(|(_, shelf)| shelf.used)
        {
            let oldest = oldest.clone();
            self.origins.remove(&oldest);
        }
        let shelf = self.origins.entry(origin.clone()).or_default();
        shelf.used = self.clock;
        shelf
    }
}

impl Shelf {
    fn exception(&self, target: &Target) -> Option<&(Method, String, Option<String>)> {
        self.exceptions
            .iter()
            .find(|(method, path, _)| *method == target.method && *path == target.path)
    }

    /// Of the routes that match, the one that says most of the path.
    fn guess(&self, target: &Target) -> Option<&Route> {
        self.routes
            .iter()
            .filter(|route| route.pattern.matches(&target.method, &target.path))
            .max_by_key(|route| (precision(route.pattern.path()), route.pattern.method().is_some()))
    }

    /// Now it is known what a request is: an exception, if that is not the guess.
    fn correct(&mut self, target: &Target, truth: Option<String>) {
        self.exceptions
            .retain(|(method, path, _)| *method != target.method || *path != target.path);
        if self.guess(target).map(|route| &route.text) == truth.as_ref() {
            return;
        }
        if self.exceptions.len() >= MAX_EXCEPTIONS {
            self.exceptions.pop_front();
        }
        let (method, path) = (target.method.clone(), target.path.clone());
        self.exceptions.push_back((method, path, truth));
    }
}

/// Characters of the path before anything that stands for others.
fn precision(pattern: &str) -> usize {
    let wild = |c: char| "~^$*?[]{}()\\+|".contains(c);
    pattern.find(wild).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Address, B256, U256};

    use super::*;
    use crate::wire::Extra;

    fn target(origin: &str, path: &str) -> Target {
        Target::from(&Request::new(
            Method::GET,
            format!("{origin}{path}").parse().unwrap(),
        ))
    }

    fn terms(route: &str, commitment: u8) -> Offers {
        let terms = Requirements {
            scheme: String::new(),
            network: String::new(),
            amount: 1,
            asset: Address::ZERO,
            pay_to: Address::ZERO,
            max_timeout_seconds: 0,
            extra: Extra {
                contract: Address::ZERO,
                commitment: B256::repeat_byte(commitment),
                prize: 1,
                win_threshold: U256::ONE,
                min_prize: 1,
                max_prize: 1,
                opening: None,
                min_ticket_life: 0,
                max_ticket_life: 0,
                nonce_floor: 0,
                escrow: None,
                route: route.into(),
            },
        };
        Offers {
            ticket: Some(terms),
            channel: None,
        }
    }

    /// However many names a server answers to, and however many patterns and exceptions it invents.
    #[test]
    fn attack_what_is_remembered_is_bounded() {
        let cache = Cache::default();
        let kept = target("https://kept.example", "/a");
        cache.learn(&kept, &terms("* /*", 0));
        for n in 0..1_000 {
            let other = target(&format!("https://{n}.example"), "/a");
            assert!(cache.learn(&other, &terms("* /*", 0)));
            assert!(cache.find(&kept).is_some(), "asked all the time, never forgotten");
            let path = format!("/{n}");
            let on_kept = target("https://kept.example", &path);
            assert!(cache.learn(&on_kept, &terms(&format!("GET {path}"), 0)));
            cache.learn_free(&on_kept);
            assert!(cache.find(&on_kept).is_none(), "free");
            cache.learn(&kept, &terms("* /*", 0));
        }
        let shelves = cache.shelves.lock();
        assert_eq!(shelves.origins.len(), MAX_ORIGINS);
        let shelf = &shelves.origins[&kept.origin];
        assert_eq!(
            (shelf.routes.len(), shelf.exceptions.len()),
            (MAX_ROUTES, MAX_EXCEPTIONS)
        );
    }

    #[test]
    fn ports_and_schemes_are_other_origins() {
        let cache = Cache::default();
        cache.learn(&target("https://a.example", "/x"), &terms("* /*", 0));
        assert!(cache.find(&target("https://a.example:443", "/y")).is_some());
        for other in [
            "http://a.example",
            "https://a.example:8443",
            "https://b.a.example",
        ] {
            assert!(cache.find(&target(other, "/x")).is_none(), "{other}");
        }
    }

    #[test]
    fn a_new_commitment_is_for_the_same_merchant_only() {
        let cache = Cache::default();
        let mut other = terms("GET /other", 1);
        other.ticket.as_mut().unwrap().pay_to = Address::repeat_byte(9);
        cache.learn(&target("https://a.example", "/other"), &other);
        cache.learn(&target("https://a.example", "/same"), &terms("GET /same", 1));
        cache.learn(&target("https://a.example", "/new"), &terms("GET /new", 2));
        let commitment = |path| {
            cache
                .find(&target("https://a.example", path))
                .unwrap()
                .ticket
                .unwrap()
                .extra
                .commitment
        };
        assert_eq!(commitment("/same"), B256::repeat_byte(2));
        assert_eq!(commitment("/other"), B256::repeat_byte(1));
    }
}
