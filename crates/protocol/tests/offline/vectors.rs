//! `tests/vectors/offline.json`, made by a program that is neither ours: ids, digests, signatures, logs.

use alloy_primitives::{Address, B256, hex, keccak256};
use alloy_sol_types::SolValue;
use micropay_protocol::offline::{
    Acceptance, Amount, ClassId, Coin, CoinId, DepositNonce, DepositReceipt, Domain, Input, Invoice,
    InvoiceDigest, Key, LogCheckpoint, LogEntry, LogHead, NameHash, Nonce32, Output, Previous, Registration,
    RegistrationDigest, Rejection, Sequence, Signature, SoftwareKey, SpentRoot, Timestamp, Transfer,
    TransferDigest, WalletId, WalletKey, WalletSignature, recover,
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
    let registrar = Key::from_bytes(&word(&vectors["registrarKey"]).0).unwrap();
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
        assert_eq!(registrar.sign(digest.0), signature, "{name}");
    }
}

/// Typed again by hand: a typo in `domain.rs` cannot cancel itself here. (The vectors' file names only three types, and of its
/// registrations neither class nor log nor end.)
#[test]
fn type_strings_are_the_normative_ones() {
    let domain = domain(&vectors());
    let hash = |name: &str, fields: Vec<u8>| {
        let body = keccak256([keccak256(name).as_slice(), &fields].concat());
        keccak256([&[0x19, 0x01][..], domain.separator().as_slice(), body.as_slice()].concat())
    };
    let (word, address) = (B256::repeat_byte(1), Address::repeat_byte(2));
    let registration = Registration {
        wallet: WalletId(word),
        owner: address,
        class: ClassId(3),
        log: NameHash(B256::repeat_byte(4)),
        valid_until: Timestamp(5),
    };
    assert_eq!(
        domain.registration_digest(&registration).0,
        hash(
            "Registration(bytes32 wallet,address owner,uint32 class,bytes32 log,uint64 validUntil)",
            (word, address, 3_u32, B256::repeat_byte(4), 5_u64).abi_encode(),
        )
    );
    let receipt = DepositReceipt {
        coin: CoinId(word),
        wallet: WalletId(B256::repeat_byte(6)),
        asset: address,
        amount: Amount(u128::MAX),
        settle_by: Timestamp(7),
    };
    assert_eq!(
        domain.deposit_receipt_digest(&receipt),
        hash(
            "DepositReceipt(bytes32 coin,bytes32 wallet,address asset,uint128 amount,uint64 settleBy)",
            (word, B256::repeat_byte(6), address, u128::MAX, 7_u64).abi_encode(),
        )
    );
    let acceptance = Acceptance {
        transfer: TransferDigest(word),
        payee: WalletId(B256::repeat_byte(8)),
        issued_at: Timestamp(9),
    };
    let fields = (word, B256::repeat_byte(8), 9_u64).abi_encode();
    assert_eq!(
        domain.acceptance_digest(&acceptance),
        hash(
            "Acceptance(bytes32 transfer,bytes32 payee,uint64 issuedAt)",
            fields.clone()
        )
    );
    let rejection = Rejection {
        invoice: InvoiceDigest(word),
        payee: WalletId(B256::repeat_byte(8)),
        issued_at: Timestamp(9),
    };
    assert_eq!(
        domain.rejection_digest(&rejection),
        hash("Rejection(bytes32 invoice,bytes32 payee,uint64 issuedAt)", fields)
    );
    let checkpoint = LogCheckpoint {
        wallet: WalletId(word),
        head: LogHead(B256::repeat_byte(3)),
        sequence: Sequence(4),
        spent: SpentRoot(B256::repeat_byte(5)),
        issued_at: Timestamp(6),
    };
    assert_eq!(
        domain.log_checkpoint_digest(&checkpoint),
        hash(
            "LogCheckpoint(bytes32 wallet,bytes32 head,uint64 sequence,bytes32 spent,uint64 issuedAt)",
            (word, B256::repeat_byte(3), 4_u64, B256::repeat_byte(5), 6_u64).abi_encode(),
        )
    );
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
            input: Input(word(&case["input"])),
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
            input: Input(word(&case["input"])),
            transfer: TransferDigest(word(&case["digest"])),
        };
        assert_eq!(entry.to_bytes().to_vec(), bytes(&logged["entry"]));
        head = head.folded(&[entry]);
        assert_eq!(head.0, word(&logged["head"]));
    }
}
