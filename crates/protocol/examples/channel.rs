//! One channel from the bank's permit to the close: admit, open, pay, accept, checkpoint, top-up, open receipts, close, watch
//! and advise. Run with `cargo run -p micropay-protocol --example channel`.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;

use alloy_primitives::{Address, B256, keccak256};
use bindings::channel::PaymentChannel::{Opened, ToppedUp};
use micropay_protocol::channel::advise::{Habit, SchemeGas, advise};
use micropay_protocol::channel::{
    Admission, AdmitPolicy, AdmitRequest, Admitted, Amount, Chain, ChannelEvent, ChannelView, ClientChannel,
    Close, CloseGas, Domain, Index, ItemHash, Key, Order, Policy, ReceiptsFile, Reputation, Seconds,
    Sighting, Timestamp, TopUpRequest, VendorChannel, WatchPolicy, accept, admit, admit_top_up, chain_seed,
    fold, last_receipt, when_to_close,
};

fn main() -> Result<(), Box<dyn Error>> {
    let domain = Domain::new(31337, Address::repeat_byte(0xcc));
    let bank = Key::from_bytes(&[7; 32])?;
    let key = Key::from_bytes(&[8; 32])?; // the client's receipt key
    let (client, vendor) = (Address::repeat_byte(0x11), Address::repeat_byte(0x22));
    let mut now = Timestamp(1_800_000_000); // the caller's clock
    let standing = Reputation::new(80).ok_or("not a reputation")?;
    let unit = Amount(1_000);

    // Admit: the bank signs sigma_0.
    let salt = B256::repeat_byte(0x33);
    let id = domain.channel_id(client, vendor, salt);
    let length = Index(100);
    let mut chain = Chain::from_seed(chain_seed(&key, id, 0, length), id, length)?;
    let request = AdmitRequest {
        client,
        vendor,
        salt,
        receipt_key: key.address(),
        asset: Address::ZERO,
        unit,
        length,
        anchor: chain.anchor(),
        expiry: now.plus(Seconds::DAY.times(7)),
    };
    let bank_policy = AdmitPolicy::default();
    let permit = admit(&domain, &request, standing, standing, &bank_policy, now)?;
    let admitted = permit.sign(bank.address(), &bank);
    println!("admit    channel {id}: {length} payments of {unit}");

    // Open: as the chain tells it, to client and vendor alike.
    let mut record = None;
    fold(&mut record, &opened(&admitted))?;
    let mut payer = ClientChannel::open(admitted);
    let mut seller = VendorChannel::open(&domain, record.as_ref().ok_or("not open")?);

    let policy = Policy {
        banks: vec![bank.address()],
        ..Policy::default()
    };
    let mut receipts = Vec::new();
    let mut signed = None;
    for number in 1..=150u64 {
        if number == 90 {
            // Top up: a longer chain, the same channel.
            let length = Index(200);
            chain = Chain::from_seed(chain_seed(&key, id, 1, length), id, length)?;
            let current = payer.terms().last().ok_or("no terms")?.permit().clone();
            let request = TopUpRequest {
                length,
                anchor: chain.anchor(),
                expiry: current.expiry(),
            };
            let permit = admit_top_up(&domain, &current, &request, standing, standing, &bank_policy, now)?;
            let admitted = permit.sign(bank.address(), &bank);
            fold(&mut record, &topped_up(&admitted))?;
            payer = payer.topped_up(admitted)?;
            println!("top-up   to {length} payments");
        }

        // Pay: the state is saved, then the payment leaves.
        let item = ItemHash(keccak256(number.to_be_bytes()));
        let prepared = payer.pay(&domain, &key, &mut chain, item, 1, now)?;
        let (saved, payment) = prepared.send();

        // Accept: one hash, no signature. Saved before the good leaves.
        let admission = Admission {
            me: vendor,
            channel: &seller,
            view: ChannelView {
                last_final: record.as_ref(),
                head: record.as_ref(),
            },
            mirror_age: Seconds(0),
            order: Order {
                item,
                asset: Address::ZERO,
                units: 1,
            },
            in_delivery: false,
            now,
            policy: &policy,
        };
        let accepted = accept(payment, &admission)?;
        let delivered = accepted.delivered();
        seller = delivered.channel;
        receipts.push(delivered.receipt);
        payer = saved.acknowledge(payment.tag)?;

        // Checkpoint: every 64 payments, so that a close is a short walk.
        if number % 64 == 0 {
            let checkpoint = payer.checkpoint(&domain, &key, &mut chain, B256::ZERO)?;
            let record = record.as_ref().ok_or("not open")?;
            seller = seller.take_checkpoint(&domain, record, &checkpoint, None)?;
            println!("pay      {number} payments, {unit} each, then a checkpoint");
            signed = Some(checkpoint);
        }
        now = now.plus(Seconds(1));
    }

    // Open receipts: one signature opens all of them, down to the bank's.
    let record = record.ok_or("not open")?;
    let terms = record.admitted(&domain);
    let file = ReceiptsFile {
        terms: terms.clone(),
        receipts,
        opener: payer.opener(),
    };
    let opened = file.verify(&domain, &[bank.address()], 2)?;
    println!(
        "receipts {} opened, ends in sigma_0: {}",
        opened.receipts.len(),
        opened.ends_in_sigma0
    );

    // Close: the cheaper of two proofs, by gas that was measured.
    let gas = CloseGas {
        base: 60_000,
        per_step: 60,
        signature: 5_000,
    };
    let close = Close::plan(&terms, &seller.paid, signed.as_ref(), None, record.settled, &gas)?;
    let receipt = last_receipt(terms[0].permit(), opened.receipts.last());
    println!(
        "close    at {}, {:?}, {} steps, {} gas, last receipt of item {}",
        close.proof.index, close.evidence, close.steps, close.gas, receipt.itemHash
    );

    // Watch: when it would have to be sent.
    let sighting = Sighting {
        paid: seller.paid.index,
        settled: record.settled,
        unit,
        expiry: record.expiry(),
        last_payment: now,
        closed: false,
        misbehaved: false,
    };
    let late = Timestamp(record.expiry().0 - 3_600);
    println!(
        "watch    now {:?}, an hour before the expiry {:?}",
        when_to_close(&sighting, now, &WatchPolicy::default()),
        when_to_close(&sighting, late, &WatchPolicy::default())
    );

    // Advise: from when on a channel is cheaper than tickets.
    let gas = SchemeGas {
        channel_open: 110_000,
        channel_close: close.gas,
        ticket_open: 0,
        ticket_claim: 40_000,
    };
    let habit = Habit {
        payments_per_day: 50.0,
        life: Seconds::DAY.times(30),
        tickets_per_win: 128.0,
    };
    let advice = advise(&gas, &habit);
    println!(
        "advise   a channel pays from {:?} payments on, {} are expected",
        advice.break_even, advice.expected
    );
    assert!(opened.ends_in_sigma0 && advice.channel());
    Ok(())
}

/// What the contract emits when it opens.
fn opened(admitted: &Admitted) -> ChannelEvent {
    let permit = admitted.permit();
    ChannelEvent::Opened(Opened {
        channelId: permit.channel().0,
        client: permit.client(),
        vendor: permit.vendor(),
        bank: admitted.bank(),
        permit: permit.fields().clone(),
        sigma0: admitted.signature().to_sol(),
    })
}

/// What the contract emits when it is topped up.
fn topped_up(admitted: &Admitted) -> ChannelEvent {
    ChannelEvent::ToppedUp(ToppedUp {
        channelId: admitted.permit().channel().0,
        permit: admitted.permit().fields().clone(),
        sigma0: admitted.signature().to_sol(),
    })
}
