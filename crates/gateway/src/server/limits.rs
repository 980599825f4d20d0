//! How many requests an address and a payer may make. An address is limited before anything is looked at; a payer only when
//! its ticket is known to be its own, or one payer could use up another's share.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

use alloy_primitives::Address;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// After so many requests the keys that are idle are forgotten. Not by the number of keys: that many at work would be
/// looked through again at each request.
const SWEEP: u32 = 100_000;

/// Requests per second; bursts of ten times as many. `None`: any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Of one address (IPv6: of one /64 network).
    pub per_ip: Option<NonZeroU32>,
    /// Of one payer, with all its escrows.
    pub per_payer: Option<NonZeroU32>,
}

pub(super) struct Limiters {
    per_ip: Option<Limiter<IpAddr>>,
    per_payer: Option<Limiter<Address>>,
}

struct Limiter<K: Hash + Eq + Clone> {
    keys: DefaultKeyedRateLimiter<K>,
    asked: AtomicU32,
}

impl Limiters {
    pub(super) fn new(limits: RateLimits) -> Self {
        Self {
            per_ip: limits.per_ip.map(Limiter::new),
            per_payer: limits.per_payer.map(Limiter::new),
        }
    }

    pub(super) fn admits_ip(&self, ip: IpAddr) -> bool {
        let network = match ip {
            IpAddr::V4(_) => ip,
            IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or_else(
                || IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
                IpAddr::V4,
            ),
        };
        self.per_ip
            .as_ref()
            .is_none_or(|limiter| limiter.admits(&network))
    }

    /// Whether payers have a limit at all.
    pub(super) fn limit_payers(&self) -> bool {
        self.per_payer.is_some()
    }

    pub(super) fn admits_payer(&self, payer: Address) -> bool {
        self.per_payer
            .as_ref()
            .is_none_or(|limiter| limiter.admits(&payer))
    }
}

fn quota(rate: NonZeroU32) -> Quota {
    Quota::per_second(rate).allow_burst(rate.saturating_mul(NonZeroU32::new(10).expect("not zero")))
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    fn new(rate: NonZeroU32) -> Self {
        Self {
            keys: RateLimiter::keyed(quota(rate)),
            asked: AtomicU32::new(0),
        }
    }

    fn admits(&self, key: &K) -> bool {
        if self.asked.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
            self.keys.retain_recent();
        }
        self.keys.check_key(key).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_share() {
        let limiters = Limiters::new(RateLimits {
            per_ip: NonZeroU32::new(1),
            per_payer: NonZeroU32::new(2),
        });
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        let took = |address: &str| (0..100).filter(|_| limiters.admits_ip(ip(address))).count();
        assert_eq!(took("10.0.0.1"), 10);
        assert_eq!(took("10.0.0.2"), 10);
        assert_eq!(took("::ffff:10.0.0.2"), 0, "the same address");
        assert_eq!(took("2001:db8::1"), 10);
        assert_eq!(took("2001:db8::2"), 0, "the same network");
        let payer = Address::repeat_byte(1);
        assert_eq!((0..100).filter(|_| limiters.admits_payer(payer)).count(), 20);
        let free = Limiters::new(RateLimits::default());
        assert!((0..1000).all(|_| free.admits_payer(payer) && free.admits_ip(ip("10.0.0.1"))));
    }

    /// An attacker with a whole network of addresses.
    #[test]
    fn attack_many_addresses_are_forgotten_and_cost_no_time() {
        let limiters = Limiters::new(RateLimits {
            per_ip: NonZeroU32::new(1_000_000),
            per_payer: None,
        });
        let begun = std::time::Instant::now();
        let many = u128::from(SWEEP) * 3;
        for n in 0..many {
            let network = Ipv6Addr::from_bits((0x2001_0db8 << 96) + (n << 64));
            assert!(limiters.admits_ip(IpAddr::V6(network)));
        }
        let kept = limiters.per_ip.unwrap().keys.len() as u128;
        assert!(kept <= many / 2, "{kept} of {many}");
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    }
}
