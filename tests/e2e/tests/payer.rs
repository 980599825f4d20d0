//! What a payer signs and pays when merchants or wires misbehave.

use std::sync::Mutex;

use alloy::primitives::{Address, B256};
use micropay_e2e::{Counter, Escrow, Fault, NATIVE, Odds, PRIZE, Setup, World, hash, terms};
use payer::ticket::{Answer, ApiError, LimitError, Limits, MerchantApi, PayError, Purchase, Seller};
use protocol::ticket::{
    Amount, Issued, Nonce, OrderId, Quote, QuoteError, Retry, Seconds, Ticket, WinThreshold,
};
use storage::{OrderState, OrderStore, WinStore};

fn purchase(item: u64) -> Purchase<u64> {
    Purchase {
        order: OrderId(hash("purchase", item)),
        item,
    }
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_ticket() {
    let world = World::new().await;
    let escrow = world.open(0, "lost", &terms(NATIVE, 100, 10)).await;
    let shop = world.shop(Setup::new(1).odds(Odds::Sure)).await;
    world.finalize(&shop).await;
    let (payer, orders) = world.payer(&escrow);
    let seller = Seller::new(Counter::new(&shop));

    for fault in [Fault::LoseAnswer, Fault::LoseRequest, Fault::LoseAnswer] {
        seller.api().fail(fault);
        let error = payer.pay(&seller, &purchase(1)).await.unwrap_err();
        assert!(
            matches!(&error, PayError::Api(ApiError::Transport(_))) && error.retry(),
            "{error}"
        );
    }
    let payment = payer.pay(&seller, &purchase(1)).await.unwrap();
    assert_eq!((payment.good, payment.order), (1, purchase(1).order));
    // Delivered, and asked for once more: the same again.
    assert_eq!(payer.pay(&seller, &purchase(1)).await.unwrap(), payment);

    let arrived = seller.api().arrived();
    assert_eq!(arrived, vec![(purchase(1).order, payment.ticket); 4]);
    assert_eq!(issued(&orders, payer.escrow()).await, 1);
    assert_eq!(shop.store.win_totals().await.unwrap().all().unwrap().count, 1);

    // Also when the winner has been claimed meanwhile and its session is closed.
    world.settle(&shop).await;
    assert_eq!(payer.pay(&seller, &purchase(1)).await.unwrap(), payment);
    assert_eq!(issued(&orders, payer.escrow()).await, 1);
}

#[tokio::test]
async fn a_ticket_under_a_closed_commitment_is_replaced_by_one_new_order() {
    let world = World::new().await;
    let escrow = world.open(0, "replaced", &terms(NATIVE, 100, 10)).await;
    let shop = world.shop(Setup::new(1).odds(Odds::Sure)).await;
    world.finalize(&shop).await;
    let (payer, orders) = world.payer(&escrow);
    let seller = Seller::new(Counter::new(&shop));

    payer.pay(&seller, &purchase(1)).await.unwrap();
    world.settle(&shop).await; // closes the session that the payer's next quote is of
    let payment = payer.pay(&seller, &purchase(2)).await.unwrap();
    assert_eq!(payment.refusals, ["commitment-closed"]);
    assert_ne!(payment.order, purchase(2).order);
    let refused = orders.order(purchase(2).order).await.unwrap().unwrap();
    assert_eq!(
        refused.state,
        OrderState::Refused {
            rule: "commitment-closed".into()
        }
    );
    let replacement = orders.order(payment.order).await.unwrap().unwrap();
    assert_eq!(
        (replacement.replaces, replacement.state),
        (Some(purchase(2).order), OrderState::Delivered)
    );
    assert!(replacement.ticket.nonce() > refused.ticket.nonce());

    // Asked again, the purchase leads to the replacement, and to no third ticket.
    assert_eq!(
        payer.pay(&seller, &purchase(2)).await.unwrap().ticket,
        payment.ticket
    );
    assert_eq!(issued(&orders, payer.escrow()).await, 3);
    // The refused ticket was never drawn.
    assert_eq!(shop.wins().await.len(), 2);
}

/// Quotes what it is told to, and answers every ticket with the same refusal.
struct Hostile {
    quote: Quote,
    retry: Retry,
    got: Mutex<Vec<B256>>,
}

impl Hostile {
    fn new(quote: Quote, retry: Retry) -> Self {
        Self {
            quote,
            retry,
            got: Mutex::default(),
        }
    }

    fn got(&self) -> Vec<B256> {
        self.got.lock().unwrap().clone()
    }
}

impl MerchantApi for Hostile {
    type Item = u64;
    type Good = u64;

    async fn quote(&self, _: Address) -> Result<Quote, ApiError> {
        Ok(self.quote)
    }

    async fn buy(&self, _: OrderId, _: &u64, ticket: &Ticket<Issued>) -> Result<Answer<u64>, ApiError> {
        self.got.lock().unwrap().push(ticket.digest());
        let quote = Some(self.quote);
        Ok(Answer::Refused {
            rule: "commitment-closed".into(),
            message: "as always".into(),
            retry: self.retry,
            quote,
        })
    }
}

#[tokio::test]
async fn a_merchant_that_always_wants_a_fresh_ticket_gets_four_for_a_purchase() {
    let (_world, payer, orders, quote) = quoted("fishing", Limits::default()).await;
    let hostile = Seller::new(Hostile::new(quote, Retry::NewQuote));
    for _ in 0..3 {
        match payer.pay(&hostile, &purchase(1)).await.unwrap_err() {
            PayError::TooManyRefusals { tickets: 4, rule } => assert_eq!(rule, "commitment-closed"),
            error => panic!("{error}"),
        }
        assert_eq!(
            hostile.api().got().len(),
            4,
            "asked for again, a purchase costs nothing more"
        );
    }
    assert_eq!(issued(&orders, payer.escrow()).await, 4);
    assert_eq!(orders.order_totals(None).await.unwrap().refused.count, 4);
}

#[tokio::test]
async fn a_refusal_that_no_fresh_ticket_mends_costs_no_fresh_ticket() {
    let (_world, payer, orders, quote) = quoted("later", Limits::default()).await;
    // Later: the same ticket, as often as one likes.
    let later = Seller::new(Hostile::new(quote, Retry::Later));
    for _ in 0..3 {
        let error = payer.pay(&later, &purchase(1)).await.unwrap_err();
        assert!(
            matches!(error, PayError::NotNow { .. }) && error.retry(),
            "{error}"
        );
    }
    let got = later.api().got();
    assert_eq!(got, vec![got[0]; 3]);
    assert_eq!(issued(&orders, payer.escrow()).await, 1);
    // Never: that is that.
    let never = Seller::new(Hostile::new(quote, Retry::Never));
    let error = payer.pay(&never, &purchase(2)).await.unwrap_err();
    assert!(
        matches!(error, PayError::Refused { .. }) && !error.retry(),
        "{error}"
    );
    assert_eq!(never.api().got().len(), 1);
    assert_eq!(issued(&orders, payer.escrow()).await, 2);
}

#[tokio::test]
async fn no_hostile_quote_gets_a_ticket() {
    let friend = Address::repeat_byte(7);
    let limits = Limits {
        max_price: Amount(PRIZE.0 / 2),
        ..Limits::default()
    };
    let (world, payer, orders, good) = quoted("hostile", limits.clone()).await;
    let at = |threshold: WinThreshold| Quote {
        win_threshold: threshold,
        price: threshold.price(PRIZE),
        ..good
    };
    let dear = Odds::Sure.threshold();
    let double = Quote {
        prize: Amount(PRIZE.0 * 2),
        price: Amount(PRIZE.0),
        ..good
    };
    let max = WinThreshold(alloy::primitives::U256::MAX);

    let refused = |quote: Quote| {
        let payer = &payer;
        async move {
            let hostile = Seller::new(Hostile::new(quote, Retry::Never));
            let error = payer.pay(&hostile, &purchase(1)).await.unwrap_err();
            assert!(hostile.api().got().is_empty());
            match error {
                PayError::Limit(error) => error,
                other => panic!("{other}"),
            }
        }
    };
    let price = Odds::Sure.price();
    let limit = limits.max_price;
    assert_eq!(refused(at(dear)).await, LimitError::PriceTooHigh { price, limit });
    let lie = Quote {
        price: Amount(1),
        ..at(dear)
    };
    let expected = QuoteError::PriceNotWorth {
        price: Amount(1),
        worth: price,
    };
    assert_eq!(refused(lie).await, LimitError::Quote(expected));
    let expected = QuoteError::WrongAsset {
        got: world.token,
        escrow: NATIVE,
    };
    assert_eq!(
        refused(Quote {
            asset: world.token,
            ..good
        })
        .await,
        LimitError::Quote(expected)
    );
    let expected = QuoteError::WrongPrize {
        got: Amount(PRIZE.0 * 2),
        escrow: PRIZE,
    };
    assert_eq!(refused(double).await, LimitError::Quote(expected));
    let expected = QuoteError::ThresholdAboveMax { got: max, max: dear };
    assert_eq!(refused(at(max)).await, LimitError::Quote(expected));
    let floored = Quote {
        nonce_floor: Nonce(1),
        ..good
    };
    let expected = LimitError::FloorAboveIssued {
        floor: Nonce(1),
        next: Nonce(1),
    };
    assert_eq!(refused(floored).await, expected);
    let absurd = Quote {
        nonce_floor: Nonce(u64::MAX),
        ..good
    };
    let expected = LimitError::FloorAboveIssued {
        floor: Nonce(u64::MAX),
        next: Nonce(1),
    };
    assert_eq!(refused(absurd).await, expected);
    let (wanted, limit) = (Seconds::DAY.times(2), Seconds::DAY);
    let long = Quote {
        min_ticket_life: wanted,
        ticket_life: wanted,
        ..good
    };
    assert_eq!(refused(long).await, LimitError::LifeTooLong { wanted, limit });
    let none = Quote {
        min_ticket_life: Seconds(2),
        ticket_life: Seconds(1),
        ..good
    };
    let expected = QuoteError::NoTicketLife {
        min: Seconds(2),
        max: Seconds(1),
    };
    assert_eq!(refused(none).await, LimitError::Quote(expected));
    assert_eq!(orders.order_totals(None).await.unwrap().all().unwrap().count, 0);

    // A payer with a list pays nobody else: the commitment of another comes with another's name.
    let escrow = world.escrow(world_key("hostile")).await;
    let limits = Limits {
        recipients: [friend].into(),
        ..Limits::default()
    };
    let (careful, orders) = world.payer_with(&escrow, limits);
    let hostile = Seller::new(Hostile::new(good, Retry::Never));
    match careful.pay(&hostile, &purchase(1)).await.unwrap_err() {
        PayError::Limit(error) => {
            assert_eq!(
                error,
                LimitError::RecipientNotAllowed {
                    got: good.recipient,
                    listed: 1
                }
            );
        }
        other => panic!("{other}"),
    }
    assert_eq!(orders.order_totals(None).await.unwrap().all().unwrap().count, 0);

    // A cap that is reached is no reason to sign what cannot be paid.
    let small = world.open(0, "small cap", &terms(NATIVE, 2, 10)).await;
    let (last, orders) = world.payer(&small);
    let hostile = Seller::new(Hostile::new(good, Retry::Never));
    last.pay(&hostile, &purchase(1)).await.unwrap_err();
    match last.pay(&hostile, &purchase(2)).await.unwrap_err() {
        PayError::Limit(error) => assert_eq!(
            error,
            LimitError::CapReached {
                next: Nonce(2),
                cap: Nonce(2)
            }
        ),
        other => panic!("{other}"),
    }
    assert_eq!(issued(&orders, small.address()).await, 1);
}

/// A merchant that puts another's commitment under its own name hurts itself: the ticket can be opened by nobody.
#[tokio::test]
async fn a_ticket_under_the_commitment_of_another_is_worth_nothing_to_either() {
    let world = World::new().await;
    let escrow = world.open(0, "borrowed", &terms(NATIVE, 100, 10)).await;
    let honest = world.shop(Setup::new(1).odds(Odds::Sure)).await;
    world.finalize(&honest).await;
    let thief = world.sender(2).address();
    let quote = Quote {
        recipient: thief,
        ..honest.quote(&escrow)
    };
    let hostile = Seller::new(Hostile::new(quote, Retry::Never));
    let (payer, orders) = world.payer(&escrow);
    payer.pay(&hostile, &purchase(1)).await.unwrap_err();
    let ticket = orders.order(purchase(1).order).await.unwrap().unwrap().ticket;

    let error = honest.accept(purchase(1).order, ticket).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("ticket pays {thief}, I am {}", honest.recipient())
    );
    assert!(honest.wins().await.is_empty());
    // The honest merchant's own tickets under that commitment are not harmed.
    assert!(honest.sell(&escrow, 2).await.won);
    assert_eq!(world.settle(&honest).await.claimed, 1);
}

/// How many tickets were ever issued from an escrow.
async fn issued(orders: &storage::MemoryStore, escrow: Address) -> u64 {
    orders.next_nonce(escrow).await.unwrap().0 - 1
}

fn world_key(name: &str) -> std::sync::Arc<protocol::ticket::EscrowKey> {
    let key = protocol::ticket::EscrowKey::from_bytes(&alloy::primitives::keccak256(name).0);
    std::sync::Arc::new(key.unwrap())
}

/// A payer with an escrow, and a quote that an honest merchant gives it.
async fn quoted(
    name: &str,
    limits: Limits,
) -> (
    World,
    payer::ticket::Payer<storage::MemoryStore>,
    storage::MemoryStore,
    Quote,
) {
    let world = World::new().await;
    let escrow: Escrow = world.open(0, name, &terms(NATIVE, 100, 10)).await;
    let shop = world.shop(Setup::new(1)).await;
    world.finalize(&shop).await;
    let quote = shop.quote(&escrow);
    let (payer, orders) = world.payer_with(&escrow, limits);
    (world, payer, orders, quote)
}
