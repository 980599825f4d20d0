//! Ticket or channel: where the two lines cross.

use micropay_protocol::channel::Seconds;
use micropay_protocol::channel::advise::{Habit, SchemeGas, advise};

const GAS: SchemeGas = SchemeGas {
    channel_open: 110_000,
    channel_close: 70_000,
    ticket_open: 0,
    ticket_claim: 40_000,
};

fn habit(payments_per_day: f64) -> Habit {
    Habit {
        payments_per_day,
        life: Seconds::DAY.times(30),
        tickets_per_win: 128.0,
    }
}

#[test]
fn the_break_even_is_the_first_payment_at_which_tickets_cost_more() {
    let advice = advise(&GAS, &habit(1.0));
    let at = advice.break_even.unwrap();
    // 180,000 gas are 576 tickets of 312.5 gas.
    assert_eq!(at, 577);
    let per_ticket = 40_000.0 / 128.0;
    assert!(at as f64 * per_ticket > 180_000.0 && (at - 1) as f64 * per_ticket <= 180_000.0);
}

#[test]
fn advice_follows_the_habit() {
    let seldom = advise(&GAS, &habit(19.0));
    assert_eq!(seldom.expected, 570.0);
    assert!(!seldom.channel());
    let often = advise(&GAS, &habit(20.0));
    assert!(often.channel());
    assert!(often.ticket_gas > often.channel_gas);
    assert_eq!(often.channel_gas, 180_000.0);
}

#[test]
fn an_escrow_to_be_opened_counts() {
    let with_escrow = SchemeGas {
        ticket_open: 100_000,
        ..GAS
    };
    assert_eq!(advise(&with_escrow, &habit(1.0)).break_even, Some(257));
    let dear_escrow = SchemeGas {
        ticket_open: 200_000,
        ..GAS
    };
    assert_eq!(advise(&dear_escrow, &habit(1.0)).break_even, Some(1));
}

#[test]
fn where_tickets_cost_nothing_a_channel_never_pays() {
    let free = SchemeGas {
        ticket_claim: 0,
        ..GAS
    };
    assert_eq!(advise(&free, &habit(1e6)).break_even, None);
    let rare = Habit {
        tickets_per_win: f64::INFINITY,
        ..habit(1.0)
    };
    assert_eq!(advise(&GAS, &rare).break_even, None);
}
