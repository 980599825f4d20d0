//! `micropay demo offline`: four wallets on software TPMs. A coin travels through ten hands without a network, in pieces,
//! with a power cut on the way; then one wallet is copied and both copies spend the same money. Somebody online settles all
//! of it: the second of the two is refused, the copy is proven, and whom it cheated is paid from the wallet's collateral.
//! What is reported is read back from the chain.
//!
//! The registrar is in this process, and follows the one order of a registration that leaves no second log.

use std::fs;
use std::io;
use std::path::Path as FilePath;
use std::time::{Duration, Instant};

use alloy::primitives::{Address, U256};
use alloy::signers::local::PrivateKeySigner;
use chain::anvil::{Anvil, AnvilOptions};
use chain::{At, ChainConfig, Client, Finality, Sender, Vaults, deploy};
use clap::Args;
use eyre::{OptionExt, WrapErr, bail, ensure};
use p256::ecdsa::SigningKey;
use protocol::offline::{
    AcceptedClass, Amount, ClassId, Coin, DepositReceipt, Domain, Equivocation, Evidence, Input, Key,
    LogEntry, Path, PayeePolicy, PayerPolicy, Registration, Seconds, SignedDeposit, SignedInvoice,
    SignedRegistration, SignedRevocationList, TransferDigest, VouchedRegistration, WalletSignature,
    equivocation,
};
use serde_json::json;
use services::registrar::client::{index_name, wallet_key};
use services::registrar::{FinalDeposits as _, FinalWallets as _, OnChain, VaultError};
use storage::{SqliteStore, StoreIdentity};
use trusted::swtpm::{Emulator, EmulatorError};
use trusted::tpm::transport::Transport;
use trusted::tpm::{IndexHandle, LogIndex, Passwords, make_credential};
use trusted::{Genesis, Head, MessageDigest, PublicKey, Tpm, TrustedWallet};
use wallet::{Config, Device, Edges, Online, Payment, Redeemed, Resumed};

use super::report::{Accounts, Party};
use super::{gas_since, say};
use crate::clock;
use crate::output::{Output, count, ether, rows};

/// What the coin is worth: 1 ether.
const COIN: Amount = Amount(1_000_000_000_000_000_000);
/// What each payer keeps as change: 0.05 ether.
const CHANGE: Amount = Amount(50_000_000_000_000_000);
/// What the copied wallet pays, twice: 0.02 ether.
const TWICE: Amount = Amount(20_000_000_000_000_000);
/// What each owner puts behind its wallet: 0.1 ether.
const COLLATERAL: Amount = Amount(100_000_000_000_000_000);
/// The wallets' names, in the order in which the coin comes by.
const NAMES: [&str; 4] = ["ada", "bob", "cyd", "dan"];
/// How often it changes hands before the wallet is copied.
const HOPS: usize = 10;
/// Before which hop the payer's TPM loses power.
const POWER_CUT: usize = 5;
/// Which wallet is copied.
const COPIED: usize = 2;
/// Blocks that make a block final here.
const FINAL_AFTER: u64 = 2;
/// The registrar's class for software TPMs: for tests only, and refused by every payee that does not say otherwise.
const CLASS: ClassId = ClassId::dev(1);
/// TPM2_NV_Extend.
const NV_EXTEND: u32 = 0x0000_0136;
/// Longest wait for something to be final.
const LIMIT: Duration = Duration::from_secs(120);
const INDEX: IndexHandle = IndexHandle(0x0150_0030);
/// How long a registrar's permission to begin a log lives, seconds.
const PERMISSION: u16 = 60;

/// No choices: the story is the same each time.
#[derive(Debug, Args)]
pub(super) struct OfflineDemo {}

type Wallet = Device<Tpm, SqliteStore>;

/// One wallet: its TPM, its files, its owner.
struct Holder {
    name: &'static str,
    emulator: Emulator,
    folder: tempfile::TempDir,
    owner: PrivateKeySigner,
    device: Option<Wallet>,
}

/// A payment that was made, with what it weighed.
struct Made {
    payment: Payment,
    bytes: usize,
    code: String,
}

pub(super) async fn run(_demo: &OfflineDemo, out: Output) -> eyre::Result<()> {
    let started = Instant::now();
    say(out, "starting a chain");
    let anvil = Anvil::spawn(&AnvilOptions {
        block_time: Some(1),
        ..AnvilOptions::default()
    })?;
    let world = World::new(&anvil).await?;
    let before = world.accounts().balances(&world.client).await?;
    let first_block = world.client.head().await?.number + 1;

    say(out, "registering four wallets, each in a TPM of its own (swtpm)");
    let mut holders = Vec::new();
    for (name, account) in NAMES.into_iter().zip(0..) {
        holders.push(world.register(name, Anvil::key(account)).await?);
    }
    let coin = world.fund(&mut holders[0]).await?;

    say(out, &format!("no network: the coin changes hands {HOPS} times"));
    let mut made = Vec::new();
    let mut left = COIN;
    for hop in 0..HOPS {
        left = Amount(left.0 - CHANGE.0);
        let (payer, payee) = (hop % holders.len(), (hop + 1) % holders.len());
        if hop == POWER_CUT {
            say(
                out,
                &format!("{}'s TPM loses power while it pays", holders[payer].name),
            );
        }
        made.push(
            world
                .pay(&mut holders, payer, payee, left, hop == POWER_CUT)
                .await?,
        );
    }

    say(
        out,
        &format!("{} is copied, and both copies pay", holders[COPIED].name),
    );
    let mut copy = world.copy(&mut holders[COPIED]).await?;
    let first = world.pay(&mut holders, COPIED, 3, TWICE, false).await?;
    let second = world.pay_with(&mut copy, &mut holders[0], TWICE).await?;
    drop(copy);

    say(out, "online again: everybody leaves, and anybody redeems");
    let mut exits = Vec::new();
    for holder in &mut holders {
        exits.append(&mut holder.leave(&world.domain).await?);
    }
    // Whom the copy paid comes last.
    exits.sort_by_key(|exit| {
        exit.path
            .hops
            .iter()
            .any(|hop| world.domain.transfer_digest(&hop.transfer) == second.payment.transfer)
    });
    let paths: Vec<Path> = exits.iter().map(|exit| exit.path.clone()).collect();
    let (outcomes, batch) = world.settler.redeem_batch(&paths).await?;
    ensure!(
        outcomes.len() == paths.len(),
        "{} outcomes of {} paths",
        outcomes.len(),
        paths.len()
    );
    let redeemed: u128 = outcomes
        .iter()
        .map(|outcome| match outcome {
            Redeemed::Paid { amount } => amount.0,
            Redeemed::Skipped { .. } => 0,
        })
        .sum();
    let refused: Vec<&Payment> = exits
        .iter()
        .zip(&outcomes)
        .filter(|(_, outcome)| matches!(outcome, Redeemed::Skipped { .. }))
        .map(|(exit, _)| exit)
        .collect();

    say(
        out,
        "the copy is proven, and whom it cheated is paid from the collateral",
    );
    let proof = world.equivocation(&first.payment, &second.payment)?;
    let proven = world.settler.prove(&proof).await?;
    let mut slashed = 0;
    for exit in &refused {
        let offender = world.offender(&exit.path, &proof)?;
        let (paid, _) = world.settler.compensate(&exit.path, offender, &[]).await?;
        slashed += paid.from_collateral.0;
    }

    say(
        out,
        "long after, the owners take back what is left of their collateral",
    );
    anvil.increase_time(Seconds::DAY.times(200).0).await?;
    for holder in &mut holders {
        world.end(holder).await?;
    }
    let left_in_coin = world
        .client
        .coin_of(world.domain.coin_id(&coin), At::Latest)
        .await?
        .map_or(0, |coin| coin.left);

    let after = world.accounts().balances(&world.client).await?;
    let last_block = world.client.head().await?.number;
    let gas = gas_since(world.client.provider(), first_block, last_block).await?;
    let parties = world.accounts().parties(&before, &after, &gas);
    let kept = parties.last().map_or(0, |contract| contract.after);
    let conserved = parties.iter().map(Party::net).sum::<i128>() == 0
        && kept == 0
        && left_in_coin == 0
        && redeemed == COIN.0;
    let deepest = exits
        .iter()
        .map(|exit| exit.path.hops.len())
        .max()
        .unwrap_or_default();
    let entry = world.bytes_of_an_entry(&made[HOPS - 1].payment.path);
    let value = json!({
        "wallets": holders.len(), "hops": HOPS, "transfers": made.len() + 2 + exits.len(), "deepest_path": deepest,
        "redeemed": outcomes.len() - refused.len(), "rejected": refused.len(), "equivocations_proven": 1,
        "slashed": slashed.to_string(), "conserved": conserved, "bytes_depth_1": made[0].bytes,
        "bytes_per_history_entry": entry, "bytes_deepest_payment": made.iter().map(|made| made.bytes).max(),
        "gas_redeem_batch": batch.gas_used, "gas_prove_fork": proven.gas_used,
        "parties": parties.iter().map(|party| json!({ "name": party.name, "net": party.net().to_string() })).collect::<Vec<_>>(),
        "elapsed_s": started.elapsed().as_secs_f64(),
    });
    let ether_of = |amount: u128| ether(U256::from(amount));
    let mut text = vec![
        ("wallets", format!("{}, each in a software TPM", holders.len())),
        (
            "payments",
            format!(
                "{HOPS} hops of one coin of {}, codes {} to {}",
                ether_of(COIN.0),
                made[0].code,
                made[HOPS - 1].code
            ),
        ),
        (
            "bytes",
            format!(
                "{} at depth 1, {entry} for an entry of a log, {} at most",
                made[0].bytes,
                made.iter().map(|made| made.bytes).max().unwrap_or_default()
            ),
        ),
        (
            "power cut",
            format!(
                "during hop {}; the payment was finished afterwards, once",
                POWER_CUT + 1
            ),
        ),
        (
            "copied wallet",
            format!("{} paid {} twice", holders[COPIED].name, ether_of(TWICE.0)),
        ),
        (
            "settled",
            format!(
                "{} redeemed, {} refused, in one transaction of {} gas",
                count((outcomes.len() - refused.len()) as u64, "exit"),
                refused.len(),
                batch.gas_used
            ),
        ),
        (
            "proof",
            format!(
                "of the fork, {} gas; {} from the collateral to whom it cheated",
                proven.gas_used,
                ether_of(slashed)
            ),
        ),
        ("conserved", if conserved { "yes" } else { "no" }.to_owned()),
        ("time", format!("{:.1} s", started.elapsed().as_secs_f64())),
    ];
    for party in &parties {
        text.push((
            "",
            format!("{:<9} {:>+24} wei besides gas", party.name, party.net()),
        ));
    }
    out.answer(&value, rows(&text))?;
    ensure!(
        refused.len() == 1,
        "{} exits were refused, one should be",
        refused.len()
    );
    ensure!(
        slashed == TWICE.0,
        "{slashed} came from the collateral, {} should",
        TWICE.0
    );
    ensure!(conserved, "money was made or lost");
    Ok(())
}

/// The chain, the registrar, and somebody who is online.
struct World {
    client: Client<Vaults>,
    vault: OnChain,
    domain: Domain,
    registrar: Key,
    registrar_account: PrivateKeySigner,
    policy_key: SigningKey,
    settler: Online,
    settler_account: PrivateKeySigner,
}

impl World {
    async fn new(anvil: &Anvil) -> eyre::Result<Self> {
        let client =
            Client::<Vaults>::connect_before_deploy(anvil.url(), ChainConfig::new(anvil.chain_id())).await?;
        deploy::deploy(&Sender::new(client.clone(), Anvil::key(9))).await?;
        let (registrar_account, settler_account) = (Anvil::key(4), Anvil::key(5));
        let settler = Online::new(Sender::new(client.clone(), settler_account.clone()));
        Ok(Self {
            domain: client.domain(),
            vault: OnChain::connect(client.clone(), Finality::Depth(FINAL_AFTER)).await?,
            registrar: Key::from_bytes(&registrar_account.to_bytes().0)?,
            registrar_account,
            policy_key: SigningKey::from_slice(&clock::random().0)?,
            settler,
            settler_account,
            client,
        })
    }

    fn accounts(&self) -> Accounts {
        let owners = NAMES
            .into_iter()
            .zip(0..)
            .map(|(name, account)| (name, Anvil::key(account).address()));
        let rest = [
            ("registrar", self.registrar_account.address()),
            ("settler", self.settler_account.address()),
            ("contract", self.client.contract()),
        ];
        Accounts(
            owners
                .chain(rest)
                .map(|(name, address)| (name.to_owned(), address))
                .collect(),
        )
    }

    fn config(&self) -> Config {
        let class = AcceptedClass {
            registrar: self.registrar_account.address(),
            class: CLASS,
            asset: Address::ZERO,
            accept_limit: Amount(COIN.0 * 10),
            min_fragment: Amount(1_000_000_000_000),
        };
        Config {
            domain: self.domain,
            payer: PayerPolicy::default(),
            payee: PayeePolicy {
                classes: vec![class],
                allow_dev: true,
                ..PayeePolicy::default()
            },
            edges: Edges {
                now: clock::now,
                random: clock::random,
            },
        }
    }

    /// A wallet in a new TPM, registered with the registrar and on the chain.
    async fn register(&self, name: &'static str, owner: PrivateKeySigner) -> eyre::Result<Holder> {
        let emulator = Emulator::start().map_err(|error| match error {
            EmulatorError::NotInstalled => eyre::eyre!("{error} (apt-get install swtpm)"),
            other => other.into(),
        })?;
        let folder = tempfile::tempdir().wrap_err("a folder for a wallet")?;
        let index = LogIndex {
            handle: INDEX,
            registrar: public_key(&self.policy_key),
        };
        let mut tpm = Tpm::create(emulator.connect()?, folder.path(), Passwords::default(), index)?;
        let (key, log) = (wallet_key(tpm.public_key())?, index_name(&tpm));
        let registration = Registration {
            wallet: key.wallet(),
            owner: owner.address(),
            class: CLASS,
            log: log.hash(),
            valid_until: clock::now().plus(Seconds::DAY.times(30)),
        };
        let digest = self.domain.registration_digest(&registration);
        // The key lives in this TPM,
        let secret = clock::random().0;
        let credential = make_credential(tpm.endorsement_key()?, tpm.key_area().name(), secret)?;
        ensure!(
            *tpm.activate_credential(&credential)? == secret,
            "the key of {name} is in another TPM"
        );
        // so does the log, which begins with this registration,
        let genesis = Genesis(digest.0.0);
        let permission = tpm.begin()?.authorise(&self.policy_key, genesis, PERMISSION)?;
        tpm.write_first(&permission)?;
        let certified = tpm.certify_first(genesis)?;
        certified.verify(
            tpm.public_key(),
            index.name(),
            Head::first(genesis),
            trusted::TransferDigest(genesis.0),
        )?;
        // and only now the registrar vouches for it.
        let vouched = VouchedRegistration {
            key,
            registration,
            signature: registration.vouch(&self.domain, &self.registrar),
        };
        let possession = WalletSignature::normalised(&tpm.sign(MessageDigest(digest.0.0))?.0)?;
        let online = Online::new(Sender::new(self.client.clone(), owner.clone()));
        online.register(&vouched, &possession, COLLATERAL).await?;
        // Payees count on it when the contract has it for good, from this registrar and no other.
        let known = until_final(|| self.vault.wallet(key.wallet())).await?;
        ensure!(
            (known.owner, known.registrar, known.class, known.log)
                == (registration.owner, self.registrar.address(), CLASS, log.hash()),
            "{name} is registered as somebody else"
        );
        let registration = SignedRegistration {
            key,
            owner: registration.owner,
            class: CLASS,
            index: Some(log),
            valid_until: registration.valid_until,
            signature: registration.confirm(&self.domain, &self.registrar),
            first: None,
        };

        let store = open_store(folder.path(), &self.domain, &registration).await?;
        let mut device = Device::create(tpm, store, self.config(), registration).await?;
        let nobody = SignedRevocationList::sign(
            &self.domain,
            &self.registrar,
            clock::now(),
            clock::random(),
            &[],
            &[],
        );
        device.take_revocations(nobody).await?;
        Ok(Holder {
            name,
            emulator,
            folder,
            owner,
            device: Some(device),
        })
    }

    /// Deposits a coin for a wallet, and imports it when that is final.
    async fn fund(&self, holder: &mut Holder) -> eyre::Result<Coin> {
        let online = Online::new(Sender::new(self.client.clone(), holder.owner.clone()));
        let wallet = holder.device()?.id().await?;
        let settle_by = clock::now().plus(Seconds::DAY.times(30));
        let (coin, _) = online.deposit(wallet, Address::ZERO, COIN, settle_by).await?;
        let known = until_final(|| self.vault.deposit(&coin)).await?;
        let receipt = DepositReceipt {
            coin: self.domain.coin_id(&coin),
            wallet,
            asset: coin.asset,
            amount: coin.amount,
            settle_by: known.settle_by,
        };
        let deposit = SignedDeposit {
            coin,
            settle_by: known.settle_by,
            signature: receipt.sign(&self.domain, &self.registrar),
        };
        holder.device()?.import(&deposit).await?;
        Ok(coin)
    }

    /// Three messages, each as the bytes that travel.
    async fn pay(
        &self,
        holders: &mut [Holder],
        payer: usize,
        payee: usize,
        amount: Amount,
        power_cut: bool,
    ) -> eyre::Result<Made> {
        let invoice = self.invoice(&mut holders[payee], amount).await?;
        if power_cut {
            let holder = &mut holders[payer];
            holder.restart(self, Some(NV_EXTEND)).await?;
            // The TPM has logged the transfer, and its answer never came.
            ensure!(
                holder.device()?.pay(&invoice).await.is_err(),
                "a TPM without power paid"
            );
            holder.emulator.power_cut()?;
            holder.restart(self, None).await?;
            let Resumed::Released(payment) = holder.device()?.resume().await? else {
                bail!("{} did not finish its payment", holder.name);
            };
            return self.hand_over(holders, payer, payee, *payment).await;
        }
        let payment = holders[payer].device()?.pay(&invoice).await?;
        self.hand_over(holders, payer, payee, payment).await
    }

    async fn hand_over(
        &self,
        holders: &mut [Holder],
        payer: usize,
        payee: usize,
        payment: Payment,
    ) -> eyre::Result<Made> {
        let made = self.weigh(payment)?;
        let acceptance = self.give(&mut holders[payee], &made).await?;
        holders[payer].device()?.accepted(&acceptance).await?;
        Ok(made)
    }

    /// The same by a wallet that is none of the four.
    async fn pay_with(&self, payer: &mut Holder, payee: &mut Holder, amount: Amount) -> eyre::Result<Made> {
        let invoice = self.invoice(payee, amount).await?;
        let made = self.weigh(payer.device()?.pay(&invoice).await?)?;
        let acceptance = self.give(payee, &made).await?;
        payer.device()?.accepted(&acceptance).await?;
        Ok(made)
    }

    async fn invoice(&self, payee: &mut Holder, amount: Amount) -> eyre::Result<SignedInvoice> {
        let invoice = payee.device()?.invoice(Address::ZERO, amount).await?;
        Ok(SignedInvoice::decode(
            &self.domain,
            &invoice.encode(&self.domain),
        )?)
    }

    fn weigh(&self, payment: Payment) -> eyre::Result<Made> {
        let bytes = payment.path.encode(&self.domain).len();
        let code = payment
            .confirmation_code()
            .ok_or_eyre("a payment has a code")?
            .to_string();
        Ok(Made { payment, bytes, code })
    }

    async fn give(
        &self,
        payee: &mut Holder,
        made: &Made,
    ) -> eyre::Result<protocol::offline::SignedAcceptance> {
        let path = Path::decode(&self.domain, &made.payment.path.encode(&self.domain))?;
        let acceptance = payee.device()?.receive(&path).await?;
        // Lost, and sent again: the same answer, and no second credit.
        let again = payee.device()?.receive(&path).await?;
        ensure!(acceptance == again, "a payment sent again got another answer");
        Ok(acceptance)
    }

    /// A second TPM with the state of the first, and a copy of its files: what makes a software TPM no trusted component.
    async fn copy(&self, holder: &mut Holder) -> eyre::Result<Holder> {
        let (tpm, store) = holder
            .device
            .take()
            .ok_or_eyre("the wallet is open")?
            .into_parts();
        drop(tpm);
        store.close().await?;
        let emulator = holder.emulator.clone_state()?;
        let folder = tempfile::tempdir().wrap_err("a folder for a copy")?;
        for file in fs::read_dir(holder.folder.path())? {
            let file = file?;
            fs::copy(file.path(), folder.path().join(file.file_name()))?;
        }
        let mut copy = Holder {
            name: holder.name,
            emulator,
            folder,
            owner: holder.owner.clone(),
            device: None,
        };
        copy.open(self, None).await?;
        holder.open(self, None).await?;
        Ok(copy)
    }

    fn equivocation(&self, one: &Payment, other: &Payment) -> eyre::Result<Equivocation> {
        let (one, other) = (one.path.prove(&self.domain)?, other.path.prove(&self.domain)?);
        equivocation(&self.domain, &one, &other).ok_or_eyre("the two payments exclude each other")
    }

    /// The hop of a path by the wallet that was copied.
    fn offender(&self, path: &Path, proof: &Equivocation) -> eyre::Result<usize> {
        let (Equivocation::Log { key, .. } | Equivocation::Signature { key, .. }) = proof;
        let hop = path
            .hops
            .iter()
            .rposition(|hop| path.wallets[hop.payer].key == *key);
        hop.ok_or_eyre("the path leads through the copied wallet")
    }

    /// The owner takes its credit and what is left of its collateral.
    async fn end(&self, holder: &mut Holder) -> eyre::Result<()> {
        let wallet = holder.device()?.id().await?;
        let sender = Sender::new(self.client.clone(), holder.owner.clone());
        Online::new(sender.clone())
            .release_collateral(wallet, Address::ZERO)
            .await?;
        let owner = holder.owner.address();
        let credit = self.client.credit_of(Address::ZERO, owner, At::Latest).await?;
        crate::credit::withdraw(&sender, Address::ZERO, owner, credit).await?;
        Ok(())
    }

    /// What one more entry of a payer's log weighs in its payment.
    fn bytes_of_an_entry(&self, path: &Path) -> usize {
        let mut longer = path.clone();
        let proofs = longer.hops.iter_mut().filter_map(|hop| match &mut hop.evidence {
            Evidence::Log(proof) => Some(proof),
            Evidence::Signature(_) => None,
        });
        // The last payer's, whose log has entries before.
        let Some(proof) = proofs.last() else { return 0 };
        let entry = LogEntry {
            input: Input(clock::random()),
            transfer: TransferDigest(clock::random()),
        };
        proof.history.insert(0, entry);
        longer.encode(&self.domain).len() - path.encode(&self.domain).len()
    }
}

impl Holder {
    fn device(&mut self) -> eyre::Result<&mut Wallet> {
        self.device.as_mut().ok_or_eyre("the wallet is open")
    }

    /// Opens the wallet on its TPM and its files. With `cut`, power goes after the first command with that code.
    async fn open(&mut self, world: &World, cut: Option<u32>) -> eyre::Result<()> {
        let tpm = Tpm::open(
            Cut::after(cut, self.emulator.connect()?),
            self.folder.path(),
            Passwords::default(),
        )?;
        let file = self.folder.path().join(STORE);
        let key = wallet_key(tpm.public_key())?;
        let identity = StoreIdentity::wallet(world.domain.chain_id(), world.domain.contract(), key.wallet());
        let store = SqliteStore::open(&file, identity).await?;
        self.device = Some(Device::open(tpm, store, world.config()).await?);
        Ok(())
    }

    /// Connects anew, and opens again.
    async fn restart(&mut self, world: &World, cut: Option<u32>) -> eyre::Result<()> {
        if let Some(device) = self.device.take() {
            let (tpm, store) = device.into_parts();
            drop(tpm);
            store.close().await?;
        }
        self.open(world, cut).await
    }

    /// Exits of everything that it holds.
    async fn leave(&mut self, domain: &Domain) -> eyre::Result<Vec<Payment>> {
        let wallet = self.device()?.wallet().await?;
        let mut exits = Vec::new();
        for holding in &wallet.holdings {
            let input = holding.fragment(domain).id;
            exits.push(self.device()?.exit(input).await?);
        }
        Ok(exits)
    }
}

/// A connection to a TPM that loses power: the command with this code is carried out, and never answered.
struct Cut {
    code: u32,
    tpm: Box<dyn Transport>,
}

impl Cut {
    fn after(code: Option<u32>, tpm: Box<dyn Transport>) -> Box<dyn Transport> {
        match code {
            None => tpm,
            Some(code) => Box::new(Self { code, tpm }),
        }
    }
}

impl Transport for Cut {
    fn transact(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        let answer = self.tpm.transact(command)?;
        if command.get(6..10) == Some(&self.code.to_be_bytes()) {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionReset,
                "the power is gone",
            ));
        }
        Ok(answer)
    }

    fn managed(&self) -> bool {
        self.tpm.managed()
    }
}

/// Asks until there is an answer.
async fn until_final<T, F>(ask: impl Fn() -> F) -> eyre::Result<T>
where
    F: Future<Output = Result<Option<T>, VaultError>>,
{
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(known) = ask().await? {
            return Ok(known);
        }
        ensure!(Instant::now() < deadline, "not final after {} s", LIMIT.as_secs());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

const STORE: &str = "wallet.sqlite";

async fn open_store(
    folder: &FilePath,
    domain: &Domain,
    registration: &SignedRegistration,
) -> eyre::Result<SqliteStore> {
    let identity = StoreIdentity::wallet(domain.chain_id(), domain.contract(), registration.wallet());
    Ok(SqliteStore::open(folder.join(STORE), identity).await?)
}

fn public_key(key: &SigningKey) -> PublicKey {
    let point = key.verifying_key().to_sec1_point(false);
    let mut bytes = [0; 64];
    bytes.copy_from_slice(&point.as_bytes()[1..]);
    PublicKey(bytes)
}
