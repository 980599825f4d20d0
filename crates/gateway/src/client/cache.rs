//! Terms by origin and route, so that a call to a known seller is paid at once. What servers say is kept within bounds; a
//! wrong entry costs one more request, never a second payment.

use std::collections::HashMap;

use parking_lot::Mutex;
use reqwest::{Method, Request, Url};

use super::route::Route;
use crate::wire::Requirements;

/// Most origins remembered. Beyond it the one that was asked least recently is forgotten.
const MAX_ORIGINS: usize = 256;
/// Most routes remembered per origin. Beyond it the one that was learned first is forgotten.
const MAX_ROUTES: usize = 32;

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

/// One origin's terms, the latest last.
#[derive(Debug, Default)]
struct Shelf {
    routes: Vec<(Route, Requirements)>,
    used: u64,
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
    /// Terms for a request, if any are known: of the routes that match, the most precise one's.
    pub(super) fn find(&self, target: &Target) -> Option<Requirements> {
        let mut shelves = self.shelves.lock();
        shelves.clock += 1;
        let clock = shelves.clock;
        let shelf = shelves.origins.get_mut(&target.origin)?;
        shelf.used = clock;
        let (_, terms) = shelf
            .routes
            .iter()
            .filter(|(route, _)| route.matches(&target.method, &target.path))
            .max_by_key(|(route, _)| route.precision())?;
        Some(terms.clone())
    }

    /// Remembers the terms that came with the answer to a request. A session belongs to a merchant and an escrow, so that a
    /// new commitment holds for all routes of this origin that pay the same merchant. Terms for a route that is not the
    /// request's own are not remembered. Returns whether they are.
    pub(super) fn learn(&self, target: &Target, terms: &Requirements) -> bool {
        let Some(route) = Route::read(&terms.extra.route) else {
            return false;
        };
        if !route.matches(&target.method, &target.path) {
            return false;
        }
        let mut shelves = self.shelves.lock();
        shelves.clock += 1;
        let clock = shelves.clock;
        if !shelves.origins.contains_key(&target.origin)
            && shelves.origins.len() >= MAX_ORIGINS
            && let Some(oldest) = shelves.origins.iter().min_by_key(|(_, shelf)| shelf.used)
        {
            let oldest = oldest.0.clone();
            shelves.origins.remove(&oldest);
        }
        let shelf = shelves.origins.entry(target.origin.clone()).or_default();
        shelf.used = clock;
        shelf.routes.retain(|(known, _)| known.text() != route.text());
        if shelf.routes.len() >= MAX_ROUTES {
            shelf.routes.remove(0);
        }
        for (_, known) in &mut shelf.routes {
            if known.pay_to == terms.pay_to && known.extra.contract == terms.extra.contract {
                known.extra.commitment = terms.extra.commitment;
                known.extra.nonce_floor = terms.extra.nonce_floor;
            }
        }
        shelf.routes.push((route, terms.clone()));
        true
    }

    /// Terms that are not acceptable: the server is to be asked again.
    pub(super) fn forget(&self, target: &Target, terms: &Requirements) {
        if let Some(shelf) = self.shelves.lock().origins.get_mut(&target.origin) {
            shelf.routes.retain(|(route, _)| route.text() != terms.extra.route);
        }
    }
}
