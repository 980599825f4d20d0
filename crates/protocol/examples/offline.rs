//! The offline scheme in one process, each party with what it knows alone: a registrar registers a wallet and signs a
//! deposit, a shop asks for money, the wallet pays, the shop takes it and could spend it at once. Prints what each message
//! weighs. Run with `cargo run -p micropay-protocol --example offline`.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use alloy_primitives::{Address, B256};
use micropay_protocol::offline::{
    AcceptedClass, Amount, ClassId, Coin, ConfirmationCode, DepositNonce, DepositReceipt, Domain, Exposure,
    Invoice, InvoiceTerms, Key, NameHash, Payee, PayeePolicy, Payer, PayerPolicy, Proof, Registration,
    SignedAcceptance, SignedDeposit, SignedInvoice, SignedRegistration, SignedRevocationList, SoftwareKey,
    Step, Timestamp, View, Waiting, Wallet,
};

const NOW: Timestamp = Timestamp(1_800_000_000);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let domain = Domain::new(31337, Address::repeat_byte(1));
    let registrar = Key::from_bytes(&[1; 32])?;
    let class = ClassId::dev(1);

    // register: the registrar looks at the wallet's evidence, and vouches for it.
    let payer_key = SoftwareKey::from_bytes(&[2; 32])?;
    let owner = Address::repeat_byte(2);
    let registration = Registration {
        wallet: payer_key.public_key().wallet(),
        owner,
        class,
        log: NameHash::NONE,
        valid_until: Timestamp(NOW.0 + 86_400),
    };
    let registered = SignedRegistration {
        key: *payer_key.public_key(),
        owner,
        class,
        index: None,
        valid_until: registration.valid_until,
        signature: registration.confirm(&domain, &registrar),
        first: None,
    };

    // deposit: on the chain; when it is final, the registrar says so.
    let coin = Coin {
        wallet: registration.wallet,
        asset: Address::ZERO,
        amount: Amount(1_000),
        deposit_nonce: DepositNonce(0),
    };
    let settle_by = Timestamp(NOW.0 + 30 * 86_400);
    let receipt = DepositReceipt {
        coin: domain.coin_id(&coin),
        wallet: coin.wallet,
        asset: coin.asset,
        amount: coin.amount,
        settle_by,
    };
    let mut wallet = Wallet::new(&domain, registered);
    wallet.import(
        &domain,
        SignedDeposit {
            coin,
            settle_by,
            signature: receipt.sign(&domain, &registrar),
        },
    )?;

    // invoice: from here on nobody needs a network.
    let shop_key = SoftwareKey::from_bytes(&[3; 32])?;
    let terms = InvoiceTerms {
        salt: B256::repeat_byte(7),
        classes: vec![(registrar.address(), class)],
    };
    let invoice = Invoice {
        payee: shop_key.public_key().wallet(),
        asset: Address::ZERO,
        amount: Amount(300),
        nonce: terms.nonce(),
        issued_at: NOW,
    };
    let asked = SignedInvoice {
        key: *shop_key.public_key(),
        invoice,
        terms,
        signature: shop_key.sign(domain.invoice_digest(&invoice).0.as_slice()),
    };
    println!("invoice     {:4} bytes", asked.encode(&domain).len());

    // transfer: choose and save, let the component prove it, save, release.
    let chosen = Payer::new(wallet)
        .reserve(&domain, &asked, &PayerPolicy::default(), NOW)
        .map_err(|stopped| stopped.error)?
        .commit(&domain, NOW)
        .map_err(|stopped| stopped.error)?;
    let Step::Sign(digest) = chosen.next_step(&domain, None)? else {
        unreachable!("a wallet without a log signs")
    };
    let proof = Proof::Signature(payer_key.sign(digest.0.as_slice()));
    let committed = chosen.prove(&domain, proof).map_err(|stopped| stopped.error)?;
    let payment = committed.payment().clone();
    println!("payment     {:4} bytes", payment.encode(&domain).len());

    // accept: the shop decides alone.
    let policy = PayeePolicy {
        classes: vec![AcceptedClass {
            registrar: registrar.address(),
            class,
            asset: Address::ZERO,
            accept_limit: Amount(500),
            min_fragment: Amount(1),
        }],
        allow_dev: true,
        ..PayeePolicy::default()
    };
    let list = SignedRevocationList::sign(&domain, &registrar, NOW, B256::repeat_byte(9), &[], &[]);
    let lists = [list.verify(&domain)?];
    let view = View {
        policy: &policy,
        lists: &lists,
        exposure: &Exposure::default(),
        now: NOW,
    };
    let credited = Payee::<Waiting>::new(invoice).receive(&domain, &payment, &view)?;
    let acceptance = credited.acceptance();
    let accepted = SignedAcceptance {
        acceptance,
        signature: shop_key.sign(domain.acceptance_digest(&acceptance).as_slice()),
    };
    println!("acceptance  {:4} bytes", accepted.encode(&domain).len());
    let done = committed
        .accepted(&domain, &accepted)
        .map_err(|stopped| stopped.error)?;

    let code = ConfirmationCode::new(domain.invoice_digest(&invoice), acceptance.transfer);
    println!("both screens show {code}");
    println!("the shop has {}", credited.fragment().value);
    println!("the payer has {}", done.wallet().balance(&domain, Address::ZERO));
    Ok(())
}
