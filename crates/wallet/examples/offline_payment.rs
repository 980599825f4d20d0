//! Two wallets pay each other without a network, and one of them is stopped in the middle: three messages as bytes, then an
//! exit. Software keys, which only a policy for tests takes. `cargo run -p micropay-wallet --example offline_payment`
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::{SystemTime, UNIX_EPOCH};

use alloy_primitives::{Address, B256};
use protocol::offline::{
    AcceptedClass, Amount, ClassId, Coin, DepositNonce, DepositReceipt, Domain, Key, NameHash, Path,
    PayeePolicy, PayerPolicy, Registration, Seconds, SignedAcceptance, SignedDeposit, SignedInvoice,
    SignedRegistration, SignedRevocationList, Timestamp, WalletKey,
};
use storage::{SqliteStore, StoreIdentity};
use trusted::{PublicKey, Software, TrustedWallet as _};
use wallet::{Config, Device, Edges, Resumed};

const CLASS: ClassId = ClassId::dev(1);
const ETHER: Address = Address::ZERO;

type Wallet = Device<Software, SqliteStore>;

fn now() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(elapsed.as_secs())
}

fn random() -> B256 {
    B256::new(rand::random())
}

fn config(registrar: &Key) -> Config {
    Config {
        domain: Domain::new(31_337, Address::repeat_byte(0xcc)),
        payer: PayerPolicy::default(),
        payee: PayeePolicy {
            classes: vec![AcceptedClass {
                registrar: registrar.address(),
                class: CLASS,
                asset: ETHER,
                accept_limit: Amount(1_000),
                min_fragment: Amount(1),
            }],
            allow_dev: true,
            ..PayeePolicy::default()
        },
        edges: Edges { now, random },
    }
}

/// What the registrar's service does: it puts a wallet into a class. (It has to see evidence first.)
async fn registered(folder: &std::path::Path, registrar: &Key) -> Result<Wallet, Box<dyn Error>> {
    let config = config(registrar);
    let component = Software::create(folder)?;
    let PublicKey(key) = component.public_key();
    let key = WalletKey::new(B256::from_slice(&key[..32]), B256::from_slice(&key[32..]))?;
    let registration = Registration {
        wallet: key.wallet(),
        owner: Address::repeat_byte(1),
        class: CLASS,
        log: NameHash::NONE,
        valid_until: now().plus(Seconds::DAY.times(7)),
    };
    let signed = SignedRegistration {
        key,
        owner: registration.owner,
        class: CLASS,
        index: None,
        valid_until: registration.valid_until,
        signature: registration.confirm(&config.domain, registrar),
        first: None,
    };
    let identity = StoreIdentity::wallet(config.domain.chain_id(), config.domain.contract(), key.wallet());
    let store = SqliteStore::open(folder.join("wallet.db"), identity).await?;
    let list = SignedRevocationList::sign(&config.domain, registrar, now(), random(), &[], &[]);
    let mut wallet = Device::create(component, store, config, signed).await?;
    wallet.take_revocations(list).await?;
    Ok(wallet)
}

/// What the registrar signs when a deposit is final.
fn receipt(domain: &Domain, registrar: &Key, coin: Coin) -> SignedDeposit {
    let settle_by = now().plus(Seconds::DAY.times(30));
    let receipt = DepositReceipt {
        coin: domain.coin_id(&coin),
        wallet: coin.wallet,
        asset: coin.asset,
        amount: coin.amount,
        settle_by,
    };
    SignedDeposit {
        coin,
        settle_by,
        signature: receipt.sign(domain, registrar),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let registrar = Key::from_bytes(&[9; 32])?;
    let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
    let mut payer = registered(folders[0].path(), &registrar).await?;
    let mut payee = registered(folders[1].path(), &registrar).await?;
    let domain = *payer.domain();
    let coin = Coin {
        wallet: payer.id().await?,
        asset: ETHER,
        amount: Amount(100),
        deposit_nonce: DepositNonce(0),
    };
    payer.import(&receipt(&domain, &registrar, coin)).await?;

    let first = payee.invoice(ETHER, Amount(30)).await?.encode(&domain);
    let invoice = SignedInvoice::decode(&domain, &first)?;
    payer.reserve(&invoice).await?;

    // The payer's process ends here. Another one finds what was reserved.
    let (component, store) = payer.into_parts();
    let mut payer = Device::open(component, store, config(&registrar)).await?;
    let Resumed::Reserved(found) = payer.resume().await? else {
        return Err("nothing was reserved".into());
    };
    let payment = payer.pay(&found).await?;
    let second = payment.path.encode(&domain);

    let third = payee
        .receive(&Path::decode(&domain, &second)?)
        .await?
        .encode(&domain);
    payer
        .accepted(&SignedAcceptance::decode(&domain, &third)?)
        .await?;
    println!(
        "messages    {}, {} and {} bytes",
        first.len(),
        second.len(),
        third.len()
    );
    if let Some(code) = payment.confirmation_code() {
        println!("both show   {code}");
    }
    println!("payer holds {}", payer.balance(ETHER).await?.held);
    println!("payee holds {}", payee.balance(ETHER).await?.held);

    let received = payee.wallet().await?.holdings[0].fragment(&domain).id;
    let exit = payee.exit(received).await?;
    println!(
        "to redeem   {} transfers, {}",
        exit.path.hops.len(),
        exit.transfer
    );
    for line in payee.history(None, 9).await? {
        println!(
            "history     {} {} {}",
            line.number, line.event.kind, line.event.amount
        );
    }
    Ok(())
}
