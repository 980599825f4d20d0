//! The payment log of a TPM, step by step, on a software TPM: the registrar begins it, payments extend it for free, the TPM
//! certifies its head, and a second beginning is refused. `cargo run -p micropay-trusted --features swtpm --example payment_log`
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::Instant;

use p256::ecdsa::SigningKey;
use trusted::swtpm::Emulator;
use trusted::tpm::{IndexHandle, LogIndex, Passwords, make_credential};
use trusted::{Entry, Genesis, LogsTransfers as _, PublicKey, Tpm, TransferDigest, TrustedWallet as _};

fn main() -> Result<(), Box<dyn Error>> {
    let tpm = Emulator::start()?;
    let folder = tempfile::tempdir()?;
    // A registrar's policy key: P-256, for nothing but first entries.
    let registrar = SigningKey::from_slice(&[9; 32])?;
    let mut key = PublicKey([0; 64]);
    key.0
        .copy_from_slice(&registrar.verifying_key().to_sec1_point(false).as_bytes()[1..]);

    let index = LogIndex {
        handle: IndexHandle(0x0150_0030),
        registrar: key,
    };
    let mut wallet = Tpm::create(tpm.connect()?, folder.path(), Passwords::default(), index)?;
    println!("wallet key  {}", wallet.public_key());
    println!("log         {:?}", wallet.log_name());

    // The registrar learns that the key lives in the TPM of this endorsement key, by a secret only that TPM reads.
    let endorsement = wallet.endorsement_key()?;
    let credential = make_credential(endorsement, wallet.key_area().name(), [0x5e; 32])?;
    println!(
        "activated   {}",
        *wallet.activate_credential(&credential)? == [0x5e; 32]
    );

    // It signs the first entry, which is the digest of the registration: in this session, for this command, with this data.
    let genesis = Genesis([0x6e; 32]);
    let other = Genesis([0x77; 32]);
    let for_other = wallet.begin()?.authorise(&registrar, other, 0)?;
    let challenge = wallet.begin()?;
    let Err(refusal) = wallet.write_first(&for_other) else {
        return Err("an old signature began the log".into());
    };
    println!("refused     {refusal}");
    let authorisation = challenge.authorise(&registrar, genesis, 0)?;
    let mut head = wallet.write_first(&authorisation)?;
    println!("begun       {head}");

    for number in 1..=3 {
        let start = Instant::now();
        let entry = Entry::new([number; 32], TransferDigest([number; 32]));
        head = wallet.extend(head, entry)?;
        let certified = wallet.certify(head, entry.transfer())?;
        println!("payment {number}   {head}, certified, in {:?}", start.elapsed());
        certified.verify(wallet.public_key(), wallet.log_name(), head, entry.transfer())?;
    }

    // The fork attempt: the log is gone, and the used signature does not begin another.
    wallet.undefine()?;
    wallet.define()?;
    wallet.begin()?;
    let Err(refusal) = wallet.write_first(&authorisation) else {
        return Err("a second log was begun".into());
    };
    println!("refused     {refusal}");
    Ok(())
}
