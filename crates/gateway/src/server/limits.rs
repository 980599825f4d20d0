//! How many requests an address and a payer may make. An address is limited before anything is looked at; a payer only when
//! its ticket is known to be its own, or one payer could use up another's share.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;

use alloy_primitives::Address;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// Keys beyond which those that are idle are forgotten.
const KEYS: usize = 100_000;

/// Requests per second; bursts of ten times as many. `None`: any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Of one address (IPv6: of one /64 network).
    pub per_ip: Option<NonZeroU32>,
    /// Of one payer, with all its escrows.
    pub per_payer: Option<NonZeroU32>,
}

pub(super) struct Limiters {
    per_ip: Option<DefaultKeyedRateLimiter<IpAddr>>,
    per_payer: Option<DefaultKeyedRateLimiter<Address>>,
}

impl Limiters {
    pub(super) fn new(limits: RateLimits) -> Self {
        Self {
            per_ip: limits.per_ip.map(|rate| RateLimiter::keyed(quota(rate))),
            per_payer: limits.per_payer.map(|rate| RateLimiter::keyed(quota(rate))),
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
        admits(self.per_ip.as_ref(), &network)
    }

    pub(super) fn admits_payer(&self, payer: Address) -> bool {
        admits(self.per_payer.as_ref(), &payer)
    }
}

fn quota(rate: NonZeroU32) -> Quota {
    Quota::per_second(rate).allow_burst(rate.saturating_mul(NonZeroU32::new(10).expect("not zero")))
}

fn admits<K: std::hash::Hash + Eq + Clone>(limiter: Option<&DefaultKeyedRateLimiter<K>>, key: &K) -> bool {
    let Some(limiter) = limiter else { return true };
    if limiter.len() > KEYS {
        limiter.retain_recent();
    }
    limiter.check_key(key).is_ok()
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
}
