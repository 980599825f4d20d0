//! Advise: ticket or channel? A channel costs two transactions whatever is paid over it; a ticket costs a share of a claim
//! each time. From some number of payments to one seller on, the channel is cheaper. All gas numbers are measured and
//! passed in.

use super::Seconds;

/// What the steps of both schemes cost, gas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemeGas {
    /// Opening a channel.
    pub channel_open: u64,
    /// Closing it.
    pub channel_close: u64,
    /// The payer's share of opening a ticket escrow; 0 if it has one anyway.
    pub ticket_open: u64,
    /// Claiming one winner, in a batch as the merchant claims them.
    pub ticket_claim: u64,
}

/// A payer's habit with one seller.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Habit {
    /// Payments a day.
    pub payments_per_day: f64,
    /// For how long a channel would be open.
    pub life: Seconds,
    /// A ticket wins once in so many.
    pub tickets_per_win: f64,
}

/// What is cheaper, and from when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Advice {
    /// Payments to this seller from which on a channel costs less gas; `None` if none are enough.
    pub break_even: Option<u64>,
    /// Payments that the habit makes over the channel's life.
    pub expected: f64,
    /// Gas for them by tickets, in expectation.
    pub ticket_gas: f64,
    /// Gas for them by a channel.
    pub channel_gas: f64,
}

impl Advice {
    /// Whether a channel is the cheaper way.
    pub fn channel(&self) -> bool {
        self.channel_gas < self.ticket_gas
    }
}

/// Compares both schemes for one payer and one seller.
pub fn advise(gas: &SchemeGas, habit: &Habit) -> Advice {
    let channel_gas = gas.channel_open as f64 + gas.channel_close as f64;
    let per_ticket = gas.ticket_claim as f64 / habit.tickets_per_win;
    let expected = habit.payments_per_day * habit.life.0 as f64 / Seconds::DAY.0 as f64;
    let over = channel_gas - gas.ticket_open as f64;
    let break_even = if over < 0.0 {
        Some(1)
    } else {
        // The first number of payments at which tickets cost strictly more.
        let payments = (over / per_ticket).floor() + 1.0;
        (payments.is_finite() && payments < 2f64.powi(53)).then_some(payments as u64)
    };
    Advice {
        break_even,
        expected,
        ticket_gas: gas.ticket_open as f64 + expected * per_ticket,
        channel_gas,
    }
}
