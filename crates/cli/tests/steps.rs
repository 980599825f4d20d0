//! The payer's steps on chain, credit and operators, as commands; each with the way it is refused.

use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::sol_types::SolCall;
use bindings::ticket::TicketEscrow::claimCall;
use bindings::ticket::{Ticket, Winner};
use chain::anvil::Anvil;
use chain::{ChainClient, ChainConfig, Sender};
use protocol::ticket::draw;
use serde_json::json;

use crate::support::{ESCROW, OPERATOR, PAYER, SHOP, World, block_on, escrow_key, run};

const DAY: u64 = 86_400;

fn balance(world: &World, account: Address) -> U256 {
    use alloy::providers::Provider;
    let client = world.client();
    block_on(async { client.provider().get_balance(account).await.unwrap() })
}

#[test]
fn an_escrow_from_opening_to_withdrawal() {
    let world = World::new();
    let escrow = escrow_key().address();
    let again = world.json(&["deploy", "--from", PAYER]);
    assert_eq!(
        (again["deployed"].as_bool(), &again["transaction"]),
        (Some(false), &json!(null))
    );

    // Open.
    assert!(world.error(1, &["escrow", "show", ESCROW]).contains("no escrow"));
    for (flag, value) in [
        ("--prize", "a lot"),
        ("--prize", "0.0000000000000000001"),
        ("--balance", "-1"),
    ] {
        let mut command = world.micropay();
        command.args([
            "--json",
            "escrow",
            "open",
            ESCROW,
            "--from",
            PAYER,
            "--tickets",
            "1000",
            &format!("{flag}={value}"),
        ]);
        command.args(if flag == "--prize" {
            ["--balance", "1"]
        } else {
            ["--prize", "1"]
        });
        assert!(run(command).json_error(2).contains("amount"), "{flag} {value}");
    }
    let open = &[
        "escrow",
        "open",
        ESCROW,
        "--from",
        PAYER,
        "--prize",
        "0.01",
        "--balance",
        "1",
        "--tickets",
        "1000",
    ];
    let opened = world.json(open);
    assert_eq!(
        opened["escrow"].as_str().unwrap().parse::<Address>().unwrap(),
        escrow
    );
    assert_eq!(opened["ticketCap"], 1001);
    assert!(world.error(3, open).contains("EscrowExists"));

    let show = || world.json(&["escrow", "show", ESCROW]);
    let shown = show();
    assert_eq!(
        (&shown["status"], &shown["balance"]),
        (&json!("open"), &json!("1000000000000000000"))
    );
    assert_eq!(
        shown["penalty"], shown["penaltyRequired"],
        "by default the penalty that merchants ask for"
    );
    assert_eq!(shown, world.json(&["escrow", "show", &escrow.to_string()]));

    // More balance, a higher cap.
    world.json(&["escrow", "top-up", ESCROW, "7wei", "--from", OPERATOR]); // anyone may
    assert_eq!(show()["balance"], "1000000000000000007");
    let raised = world.json(&["escrow", "raise-cap", ESCROW, "2001", "--from", PAYER]);
    assert_eq!(raised["step"], "cap raised");
    let shown = show();
    assert_eq!(
        (&shown["ticketCap"], &shown["penalty"]),
        (&json!(2001), &shown["penaltyRequired"])
    );
    assert!(
        world
            .error(3, &["escrow", "raise-cap", ESCROW, "2001", "--from", PAYER])
            .contains("2001")
    );
    assert!(
        world
            .error(3, &["escrow", "raise-cap", ESCROW, "3000", "--from", SHOP])
            .contains("refused")
    );

    // A payer whose store is an old copy leaves out the nonces that it may have used. It never goes back.
    let skip =
        |above: &str| world.json(&["escrow", "skip-nonces", ESCROW, "--above", above])["nextNonce"].clone();
    assert_eq!(
        (skip("50"), skip("7"), skip("51")),
        (json!(51), json!(51), json!(52))
    );

    // An earmark, by key name; and its release.
    world.json(&[
        "escrow", "earmark", ESCROW, SHOP, "3", "--life", "2d", "--from", PAYER,
    ]);
    let shown = show();
    assert_eq!(
        (&shown["earmarked"], &shown["balance"]),
        (&json!("30000000000000000"), &json!("970000000000000007"))
    );
    assert!(
        world
            .error(3, &["escrow", "release", ESCROW, SHOP, "--from", PAYER])
            .contains("EarmarkLive")
    );
    assert!(
        world
            .error(
                3,
                &[
                    "escrow", "earmark", ESCROW, SHOP, "1", "--life", "9d", "--from", SHOP
                ]
            )
            .contains("refused")
    );
    block_on(world.anvil.increase_time(3 * DAY)).unwrap();
    world.json(&["escrow", "release", ESCROW, SHOP, "--from", PAYER]);
    assert_eq!(show()["earmarked"], "0");

    // A withdrawal, thought better of, and another.
    assert!(
        world
            .error(3, &["escrow", "cancel", ESCROW, "--from", PAYER])
            .contains("not withdrawing")
    );
    let requested = world.json(&["escrow", "withdraw", ESCROW, "--from", PAYER]);
    assert_eq!(requested["step"], "requested");
    assert_eq!(show()["status"], "withdrawing");
    world.json(&["escrow", "cancel", ESCROW, "--from", PAYER]);
    assert_eq!(
        (&show()["status"], &show()["withdrawAt"]),
        (&json!("open"), &json!(null))
    );
    let said = world.run(&["escrow", "withdraw", ESCROW, "--from", PAYER]);
    assert!(said.code == 0 && said.out.contains("3 d 0 h"), "{said:?}");
    assert!(
        world
            .error(3, &["escrow", "withdraw", ESCROW, "--from", PAYER])
            .contains("UTC")
    );
    block_on(world.anvil.increase_time(3 * DAY)).unwrap();
    assert!(
        world
            .error(3, &["escrow", "withdraw", ESCROW, "--from", SHOP])
            .contains("refused")
    );
    assert_eq!(
        world.json(&["escrow", "withdraw", ESCROW, "--from", PAYER])["step"],
        "withdrawn"
    );
    assert_eq!(
        (&show()["status"], &show()["balance"]),
        (&json!("closed"), &json!("0"))
    );
    assert!(
        world
            .error(3, &["escrow", "withdraw", ESCROW, "--from", PAYER])
            .contains("is closed")
    );
    assert!(
        world.error(3, open).contains("EscrowExists"),
        "a key opens one escrow, for ever"
    );

    // What was left is credit; it goes to any address, in parts.
    let credit = || {
        world.json(&["credit", "show", PAYER])["credit"]
            .as_str()
            .unwrap()
            .parse::<u128>()
            .unwrap()
    };
    let left = credit();
    assert!(left > 1_000_000_000_000_000_007, "balance and penalty: {left}");
    let to = Address::repeat_byte(0x77);
    world.json(&[
        "credit",
        "withdraw",
        "--from",
        PAYER,
        "--to",
        &to.to_string(),
        "--amount",
        "0.5",
    ]);
    assert_eq!(balance(&world, to), U256::from(500_000_000_000_000_000u64));
    assert!(
        world
            .error(3, &["credit", "withdraw", "--from", PAYER, "--amount", "100"])
            .contains("refused")
    );
    let all = world.json(&["credit", "withdraw", "--from", PAYER]);
    assert_eq!(
        all["amount"].as_str().unwrap().parse::<u128>().unwrap(),
        left - 500_000_000_000_000_000
    );
    assert_eq!(credit(), 0);
    assert!(
        world
            .error(3, &["credit", "withdraw", "--from", PAYER])
            .contains("no credit")
    );
}

#[test]
fn an_insolvent_escrow_is_cured() {
    let world = World::new();
    assert!(
        world
            .error(1, &["escrow", "cure", ESCROW, "--from", PAYER])
            .contains("no escrow")
    );
    // One prize and a half, and three winners.
    world.open_escrow("0.0015", 100);
    assert!(
        world
            .error(3, &["escrow", "cure", ESCROW, "--from", PAYER])
            .contains("open, not insolvent")
    );
    block_on(async {
        let client = ChainClient::connect(world.anvil.url(), ChainConfig::new(world.anvil.chain_id()))
            .await
            .unwrap();
        let now = client.head().await.unwrap().timestamp.0;
        let sender = Sender::new(client, Anvil::key(1));
        for nonce in 1..=3 {
            let call = winner(&world, nonce, now + DAY);
            sender
                .send(world.domain().contract(), call.abi_encode().into(), U256::ZERO)
                .await
                .unwrap();
        }
    });
    let shown = world.json(&["escrow", "show", ESCROW]);
    assert_eq!(
        (&shown["status"], &shown["debt"]),
        (&json!("insolvent"), &json!("1500000000000000"))
    );
    let said = world.run(&["escrow", "show", ESCROW]);
    assert!(
        said.out.contains("insolvent, to be cured by") && said.out.contains("0.0015 ETH"),
        "{said:?}"
    );
    assert!(
        world
            .error(3, &["escrow", "withdraw", ESCROW, "--from", PAYER])
            .contains("insolvent")
    );
    assert_eq!(
        world.json(&["credit", "show", SHOP])["credit"],
        "1500000000000000"
    );

    world.json(&["escrow", "cure", ESCROW, "--from", OPERATOR]); // anyone may
    let shown = world.json(&["escrow", "show", ESCROW]);
    assert_eq!((&shown["status"], &shown["debt"]), (&json!("open"), &json!("0")));
    assert_eq!(
        world.json(&["credit", "show", SHOP])["credit"],
        "3000000000000000"
    );
}

/// A ticket that wins, whatever the odds: the recipient's secret is known here.
fn winner(world: &World, nonce: u64, expiry: u64) -> claimCall {
    let (domain, recipient, r1) = (world.domain(), world.shop(), keccak256("r1"));
    let mut ticket = Ticket {
        escrow: escrow_key().address(),
        recipient,
        commitment: domain.commitment(recipient, r1),
        r2: B256::ZERO,
        winThreshold: U256::from(1) << 254,
        expiry,
        nonce,
    };
    while draw(domain.ticket_digest(&ticket), r1) >= ticket.winThreshold {
        ticket.r2 = keccak256(ticket.r2);
    }
    let signature = escrow_key().sign(domain.ticket_digest(&ticket)).to_sol();
    let (r2, escrow) = (ticket.r2, ticket.escrow);
    let winner = Winner {
        r2,
        winThreshold: ticket.winThreshold,
        expiry,
        nonce,
        signature,
    };
    claimCall {
        recipient,
        escrow,
        r1,
        winner,
    }
}

#[test]
fn a_node_that_is_not_there_or_another_one_has_its_code() {
    let world = World::new();
    let nowhere = ["--rpc-url", "http://127.0.0.1:1"];
    for args in [
        &["deploy", "--from", PAYER][..],
        &["escrow", "show", ESCROW],
        &["credit", "show", PAYER],
        &["claim", "list", SHOP],
        &["claim", "now", "--from", SHOP],
        &["merchant", "operator", OPERATOR, "--from", SHOP],
        &["get", "http://127.0.0.1:1/", "--escrow", ESCROW],
    ] {
        assert!(
            world.error(4, &[&nowhere, args].concat()).contains("127.0.0.1:1"),
            "{args:?}"
        );
    }
    let error = world.error(1, &["--chain-id", "5", "escrow", "show", ESCROW]);
    assert!(error.contains("31337") && error.contains("chain 5"), "{error}");
    let error = world.error(
        1,
        &["--contract", &world.shop().to_string(), "escrow", "show", ESCROW],
    );
    assert!(error.contains("no contract"), "{error}");
    assert!(world.error(1, &["escrow", "show", "nobody"]).contains("nobody"));
    assert!(world.error(2, &["escrow", "show", "0x1234"]).contains("0x1234"));
    // A key that cannot be opened, and an account that cannot pay.
    let mut command = world.micropay();
    command
        .args(["--json", "escrow", "top-up", ESCROW, "1", "--from", PAYER])
        .env("MICROPAY_PASSWORD", "x");
    assert!(run(command).code != 0);
    world.open_escrow("1", 10);
    let mut command = world.micropay();
    command
        .args(["--json", "escrow", "top-up", ESCROW, "1", "--from", PAYER])
        .env("MICROPAY_PASSWORD", "x");
    assert!(run(command).json_error(1).contains("wrong password"));
    world.json(&["keys", "new", "poor"]);
    let error = world.error(1, &["escrow", "top-up", ESCROW, "1", "--from", "poor"]);
    assert!(error.contains("needs") || error.contains("has"), "{error}");
    // A seller that is not there.
    let error = world.error(4, &["get", "http://127.0.0.1:1/", "--escrow", ESCROW]);
    assert!(error.contains("onnect"), "{error}");
}
