//! `tests/vectors/offline.json`, made by a program that is neither ours: ids, digests, signatures, logs.

use alloy_primitives::{Address, B256, hex};
use micropay_protocol::offline::{
    Amount, ClassId, Coin, DepositNonce, Domain, Invoice, Key, LogEntry, LogHead, NameHash, Nonce32, Output,
    Previous, Registration, RegistrationDigest, Sequence, Signature, SoftwareKey, Timestamp, Transfer,
    TransferDigest, WalletKey, WalletSignature, recover,
};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../../tests/vectors/offline.json")).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn word(value: &Value) -> B256 {
    text(value).parse().unwrap()
}

fn address(value: &Value) -> Address {
    text(value).parse().unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(text(value)).unwrap()
}

fn time(value: &Value) -> Timestamp {
    Timestamp(value.as_u64().unwrap())
}

fn amount(value: &Value) -> Amount {
    Amount(value.as_u64().unwrap().into())
}

fn domain(vectors: &Value) -> Domain {
    Domain::new(
        vectors["chainId"].as_u64().unwrap(),
        address(&vectors["verifyingContract"]),
    )
}

#[test]
fn domain_and_coin() {
    let vectors = vectors();
    let domain = domain(&vectors);
    assert_eq!(domain.separator(), word(&vectors["domainSeparator"]));
    assert_eq!(text(&vectors["domainName"]), Domain::NAME);
    assert_eq!(text(&vectors["domainVersion"]), Domain::VERSION);
    let wallet = SoftwareKey::from_bytes(&word(&vectors["wallets"]["A"]["secret"]).0).unwrap();
    let coin = Coin {
        wallet: wallet.public_key().wallet(),
        asset: address(&vectors["asset"]),
        amount: amount(&vectors["coinAmount"]),
        deposit_nonce: DepositNonce(vectors["depositNonce"].as_u64().unwrap()),
    };
    assert_eq!(domain.coin_id(&coin).0, word(&vectors["coinId"]));
}

#[test]
fn wallets_and_registrations() {
    let vectors = vectors();
    let domain = domain(&vectors);
    let registrar = Key::from_bytes(&word(&vectors["registrarKey"]).0).unwrap();
    let mut found = 0;
    for (name, wallet) in vectors["wallets"].as_object().unwrap() {
        let secret = SoftwareKey::from_bytes(&word(&wallet["secret"]).0).unwrap();
        let key = WalletKey::new(word(&wallet["x"]), word(&wallet["y"])).unwrap();
        assert_eq!(key, *secret.public_key(), "{name}");
        assert_eq!(WalletKey::from_compressed(&key.to_compressed()).unwrap(), key);
        assert_eq!(key.wallet().0, word(&wallet["walletId"]), "{name}");
        let signature = Signature::from_bytes(&bytes(&wallet["registrationSignature"])).unwrap();
        let digest = RegistrationDigest(word(&wallet["registrationDigest"]));
        assert_eq!(
            recover(digest.0, &signature).unwrap().address(),
            registrar.address()
        );
        // The file does not say class, log and end; the few that one would take are tried.
        let registration = candidates(&key, address(&wallet["owner"]))
            .find(|registration| domain.registration_digest(registration) == digest);
        if let Some(registration) = registration {
            found += 1;
            assert_eq!(registration.sign(&domain, &registrar), signature, "{name}");
        }
        assert_eq!(registrar.sign(digest.0), signature, "{name}");
    }
    assert_eq!(found, 4, "registrations whose fields are known");
}

fn candidates(key: &WalletKey, owner: Address) -> impl Iterator<Item = Registration> {
    let wallet = key.wallet();
    (0..16).flat_map(move |class| {
        [
            1_700_000_000_u64,
            1_800_000_000,
            1_900_000_000,
            2_000_000_000,
            4_000_000_000,
            u64::MAX,
        ]
        .into_iter()
        .flat_map(move |valid_until| {
            [B256::ZERO].map(|log| Registration {
                wallet,
                owner,
                class: ClassId(class),
                log: NameHash(log),
                valid_until: Timestamp(valid_until),
            })
        })
    })
}

#[test]
fn invoices_transfers_and_fragments() {
    let vectors = vectors();
    let domain = domain(&vectors);
    let secret =
        |name: &Value| SoftwareKey::from_bytes(&word(&vectors["wallets"][text(name)]["secret"]).0).unwrap();
    for (at, case) in vectors["transfers"].as_array().unwrap().iter().enumerate() {
        let (payer, payee) = (secret(&case["payer"]), secret(&case["payee"]));
        let invoice = Invoice {
            payee: payee.public_key().wallet(),
            asset: address(&vectors["asset"]),
            amount: amount(&case["amount"]),
            nonce: Nonce32(word(&case["invoiceNonce"])),
            issued_at: time(&case["invoiceIssuedAt"]),
        };
        let digest = domain.invoice_digest(&invoice);
        assert_eq!(digest.0, word(&case["invoice"]), "invoice {at}");
        let signature = WalletSignature::from_bytes(&bytes(&case["invoiceSignature"])).unwrap();
        assert!(payee.public_key().verify(digest.0.as_slice(), &signature));
        assert_eq!(payee.sign(digest.0.as_slice()), signature, "RFC 6979, low s");

        let transfer = Transfer {
            input: micropay_protocol::offline::Input(word(&case["input"])),
            payee: payee.public_key().wallet(),
            amount: amount(&case["amount"]),
            change: amount(&case["change"]),
            sequence: Sequence(case["sequence"].as_u64().unwrap()),
            previous: Previous(word(&case["previous"])),
            invoice: digest,
            issued_at: time(&case["issuedAt"]),
        };
        let digest = domain.transfer_digest(&transfer);
        assert_eq!(digest.0, word(&case["digest"]), "transfer {at}");
        let signature = WalletSignature::from_bytes(&bytes(&case["signature"])).unwrap();
        assert!(payer.public_key().verify(digest.0.as_slice(), &signature));
        assert_eq!(payer.sign(digest.0.as_slice()), signature, "RFC 6979, low s");
        assert_eq!(digest.fragment(Output::Payee).0, word(&case["payeeFragment"]));
        assert_eq!(digest.fragment(Output::Change).0, word(&case["changeFragment"]));
    }
}

#[test]
fn the_log_of_a() {
    let vectors = vectors();
    let log = vectors["logOfA"].as_array().unwrap();
    let first = RegistrationDigest(word(&vectors["wallets"]["A"]["registrationDigest"]));
    let mut head = LogHead::registered(first);
    assert_eq!(head.0, word(&log[0]["head"]));
    let transfers = vectors["transfers"].as_array().unwrap();
    let own = transfers.iter().filter(|case| text(&case["payer"]) == "A");
    for (case, logged) in own.zip(&log[1..]) {
        let entry = LogEntry {
            input: micropay_protocol::offline::Input(word(&case["input"])),
            transfer: TransferDigest(word(&case["digest"])),
        };
        assert_eq!(entry.to_bytes().to_vec(), bytes(&logged["entry"]));
        head = head.folded(&[entry]);
        assert_eq!(head.0, word(&logged["head"]));
    }
}
