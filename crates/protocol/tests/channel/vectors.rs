//! Known answers that Solidity and Python read, too: `tests/vectors/channel.json` comes from an independent implementation.
//! Type strings are typed again by hand.

use alloy_primitives::{Address, B256, keccak256};
use bindings::channel::{CooperativeClose, OpenPermit, Receipt};
use micropay_protocol::channel::{
    Admitted, Amount, Chain, ChainSeed, ChannelId, ClientChannel, Domain, Index, ItemHash, Keccak, Key, Lock,
    LockedReceipt, Opener, Permit, ReceiptsFile, Sha3_512, Sigma, Tag, Timestamp, Transcript, Word, lock,
    open_receipts, previous, transcript, unlock, walk,
};
use serde_json::Value;

use crate::world::{digest_by_hand, number, struct_hash};

const PERMIT: &str = "OpenPermit(bytes32 channelId,address client,address vendor,address receiptKey,address asset,uint128 unit,uint32 length,bytes32 anchor,uint8 clientReputation,uint8 vendorReputation,uint64 issuedAt,uint64 expiry)";
const RECEIPT: &str = "Receipt(bytes32 channelId,uint32 index,bytes32 itemHash,uint128 cumulative,uint64 issuedAt,bytes32 transcript)";
const CHECKPOINT: &str = "Checkpoint(bytes32 channelId,uint32 index,bytes32 word,bytes32 locksRoot)";
const CLOSE: &str = "CooperativeClose(bytes32 channelId,uint32 index)";

fn file() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/channel.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn parse<T: std::str::FromStr>(value: &Value) -> T
where
    T::Err: std::fmt::Debug,
{
    value.as_str().unwrap().parse().unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    alloy_primitives::hex::decode(value.as_str().unwrap()).unwrap()
}

fn key(value: &Value) -> Key {
    Key::from_bytes(&parse::<B256>(value).0).unwrap()
}

fn small(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn permit(channel: &Value) -> OpenPermit {
    OpenPermit {
        channelId: parse(&channel["channelId"]),
        client: parse(&channel["client"]),
        vendor: parse(&channel["vendor"]),
        receiptKey: key(&channel["receiptKeySecret"]).address(),
        asset: Address::ZERO,
        unit: small(&channel["unit"]).into(),
        length: small(&channel["length"]).try_into().unwrap(),
        anchor: parse(&channel["anchor"]),
        clientReputation: small(&channel["clientReputation"]).try_into().unwrap(),
        vendorReputation: small(&channel["vendorReputation"]).try_into().unwrap(),
        issuedAt: small(&channel["issuedAt"]),
        expiry: small(&channel["expiry"]),
    }
}

/// Everything in the file, by our functions and again by hand.
#[test]
fn k256_and_solidity_and_python_vectors() {
    let file = file();
    let domain = Domain::new(small(&file["chainId"]), parse(&file["verifyingContract"]));
    assert_eq!(domain.separator(), parse::<B256>(&file["domainSeparator"]));
    assert_eq!(
        (Domain::NAME, Domain::VERSION),
        (
            file["domainName"].as_str().unwrap(),
            file["domainVersion"].as_str().unwrap()
        )
    );
    assert_eq!(
        [PERMIT, RECEIPT].map(Value::from).to_vec(),
        *file["types"].as_array().unwrap()
    );
    let channels = file["channels"].as_array().unwrap();
    assert!(!channels.is_empty());
    for channel in channels {
        check_opening(&domain, channel);
        check_payments(&domain, channel);
        check_client(&domain, channel);
        check_opener(&domain, channel);
    }
}

fn check_opening(domain: &Domain, channel: &Value) {
    let fields = permit(channel);
    let id = domain.channel_id(fields.client, fields.vendor, parse(&channel["salt"]));
    assert_eq!(id.0, fields.channelId);
    let by_hand = [
        number(domain.chain_id()),
        domain.contract().into_word(),
        fields.client.into_word(),
        fields.vendor.into_word(),
        parse(&channel["salt"]),
    ];
    assert_eq!(id.0, keccak256(by_hand.concat()));

    let digest = domain.permit_digest(&fields);
    assert_eq!(digest, parse::<B256>(&channel["permitDigest"]));
    let words = [
        fields.channelId,
        fields.client.into_word(),
        fields.vendor.into_word(),
        fields.receiptKey.into_word(),
        fields.asset.into_word(),
        number(fields.unit),
        number(fields.length),
        fields.anchor,
        number(fields.clientReputation),
        number(fields.vendorReputation),
        number(fields.issuedAt),
        number(fields.expiry),
    ];
    assert_eq!(digest, digest_by_hand(domain.separator(), PERMIT, &words));

    let admitted = admitted(domain, channel);
    assert_eq!(admitted.sigma0().to_bytes()[..], bytes(&channel["sigma0"]));
    let tag0 = keccak256([&id.0[..], &[0; 32], &bytes(&channel["sigma0"])].concat());
    assert_eq!(admitted.tag0().0, tag0);
    let bank = admitted.bank();
    let terms = [struct_hash(&fields), bank.into_word(), tag0].concat();
    assert_eq!(admitted.terms_hash(), keccak256(terms));
}

fn admitted(domain: &Domain, channel: &Value) -> Admitted {
    let bank = key(&channel["bankKey"]);
    let admitted = Permit::new(domain, permit(channel)).sign(bank.address(), &bank);
    let (permit, signature) = (admitted.permit().clone(), *admitted.signature());
    assert_eq!(
        Admitted::from_parts(permit, bank.address(), signature, bank.address()),
        Ok(admitted.clone())
    );
    admitted
}

fn check_payments(domain: &Domain, channel: &Value) {
    let id = ChannelId(parse(&channel["channelId"]));
    let unit = Amount(small(&channel["unit"]).into());
    let receipt_key = key(&channel["receiptKeySecret"]);
    let mut so_far = Transcript(parse(&channel["permitDigest"]));
    let mut sigma_before = Sigma::from_bytes(&bytes(&channel["sigma0"])).unwrap();
    let mut word_before = Word(parse(&channel["anchor"]));
    for payment in channel["payments"].as_array().unwrap() {
        let index = Index(small(&payment["index"]).try_into().unwrap());
        let item = ItemHash(parse(&payment["itemHash"]));

        let word = Word(parse(&payment["word"]));
        assert_eq!(previous(word, id), word_before);
        assert_eq!(previous(word, id).0, keccak256([word.0, id.0].concat()));
        assert_eq!(walk(word, id, index.0).0, parse::<B256>(&channel["anchor"]));
        word_before = word;

        let by_hand = keccak256([so_far.0, item.0].concat());
        so_far = transcript(so_far, item);
        assert_eq!(so_far.0, by_hand);
        assert_eq!(so_far.0, parse::<B256>(&payment["transcript"]));

        let sigma = Sigma::from_bytes(&bytes(&payment["sigma"])).unwrap();
        let locked = LockedReceipt {
            index,
            item,
            issued_at: Timestamp(small(&payment["issuedAt"])),
            lock: Lock::from_bytes(&bytes(&payment["lock"])).unwrap(),
            tag: Tag(parse(&payment["tag"])),
        };
        let receipt = locked.receipt(id, unit, so_far);
        assert_eq!(receipt.cumulative, u128::from(small(&payment["cumulative"])));
        let digest = domain.receipt_digest(&receipt);
        assert_eq!(digest, parse::<B256>(&payment["digest"]));
        assert_eq!(digest, receipt_by_hand(domain, &receipt));
        assert_eq!(Sigma::from(&receipt_key.sign(digest)), sigma);
        assert!(sigma.verify(digest, receipt_key.public_key()));
        assert_eq!(
            sigma.signed_by(digest, receipt_key.address()).unwrap().0,
            receipt_key.sign(digest)
        );

        assert_eq!(Tag::of(id, index, &sigma), locked.tag);
        let words = [&id.0[..], &number(index.0)[..], &sigma.r()[..], &sigma.s()[..]].concat();
        assert_eq!(locked.tag.0, keccak256(words));

        let sha3 = Lock::from_bytes(&bytes(&payment["lockSha3"])).unwrap();
        assert_eq!(lock::<Keccak>(&sigma_before, &sigma), locked.lock);
        assert_eq!(lock::<Sha3_512>(&sigma_before, &sigma), sha3);
        assert_eq!(unlock::<Keccak>(&locked.lock, &sigma), sigma_before.to_bytes());
        assert_eq!(unlock::<Sha3_512>(&sha3, &sigma), sigma_before.to_bytes());
        sigma_before = sigma;
    }
    assert_eq!(sigma_before.to_bytes()[..], bytes(&channel["opener"]));
}

fn receipt_by_hand(domain: &Domain, receipt: &Receipt) -> B256 {
    let words = [
        receipt.channelId,
        number(receipt.index),
        receipt.itemHash,
        number(receipt.cumulative),
        number(receipt.issuedAt),
        receipt.transcript,
    ];
    digest_by_hand(domain.separator(), RECEIPT, &words)
}

/// The client's step makes the same payments, bit for bit, from the seed alone.
fn check_client(domain: &Domain, channel: &Value) {
    let payments = channel["payments"].as_array().unwrap();
    let receipt_key = key(&channel["receiptKeySecret"]);
    let id = ChannelId(parse(&channel["channelId"]));
    let seed = ChainSeed::new(parse::<B256>(&payments.last().unwrap()["word"]).0);
    let length = Index(payments.len().try_into().unwrap());
    let mut chain = Chain::from_seed(seed, id, length).unwrap();
    assert_eq!(chain.anchor().0, parse::<B256>(&channel["anchor"]));
    let mut client = ClientChannel::open(admitted(domain, channel));
    for payment in payments {
        let item = ItemHash(parse(&payment["itemHash"]));
        let now = Timestamp(small(&payment["issuedAt"]));
        let (saved, sent) = client
            .pay(domain, &receipt_key, &mut chain, item, 1, now)
            .unwrap()
            .send();
        assert_eq!(u64::from(sent.index.0), small(&payment["index"]));
        assert_eq!(sent.word.0, parse::<B256>(&payment["word"]));
        assert_eq!(sent.lock.0[..], bytes(&payment["lock"]));
        assert_eq!(sent.tag.0, parse::<B256>(&payment["tag"]));
        client = saved.acknowledge(sent.tag).unwrap();
    }
    assert_eq!(client.opener().sigma.to_bytes()[..], bytes(&channel["opener"]));
}

/// The vendor's last step ends in the bank's signature.
fn check_opener(domain: &Domain, channel: &Value) {
    let admitted = admitted(domain, channel);
    let payments = channel["payments"].as_array().unwrap();
    let receipts: Vec<LockedReceipt> = payments
        .iter()
        .map(|payment| LockedReceipt {
            index: Index(small(&payment["index"]).try_into().unwrap()),
            item: ItemHash(parse(&payment["itemHash"])),
            issued_at: Timestamp(small(&payment["issuedAt"])),
            lock: Lock::from_bytes(&bytes(&payment["lock"])).unwrap(),
            tag: Tag(parse(&payment["tag"])),
        })
        .collect();
    let opener = Opener {
        channel: admitted.permit().channel(),
        index: receipts.last().unwrap().index,
        sigma: Sigma::from_bytes(&bytes(&channel["opener"])).unwrap(),
    };
    let opened = open_receipts(domain, &admitted, &receipts, &opener, 2);
    assert!(opened.ends_in_sigma0 && opened.unopenable.is_empty());
    for (opened, payment) in opened.receipts.iter().zip(payments) {
        assert_eq!(opened.sigma.to_bytes()[..], bytes(&payment["sigma"]));
        assert_eq!(opened.digest, parse::<B256>(&payment["digest"]));
    }
    let file = ReceiptsFile {
        terms: vec![admitted.clone()],
        receipts,
        opener,
    };
    assert_eq!(file.verify(domain, &[admitted.bank()], 1), Ok(opened));
}

/// The two messages that the file does not have, by hand.
#[test]
fn checkpoint_and_close_digests_by_hand() {
    let domain = Domain::new(31337, Address::repeat_byte(0xcc));
    let checkpoint = bindings::channel::Checkpoint {
        channelId: B256::repeat_byte(1),
        index: 7,
        word: B256::repeat_byte(2),
        locksRoot: B256::repeat_byte(3),
    };
    let words = [
        checkpoint.channelId,
        number(7u8),
        checkpoint.word,
        checkpoint.locksRoot,
    ];
    assert_eq!(
        domain.checkpoint_digest(&checkpoint),
        digest_by_hand(domain.separator(), CHECKPOINT, &words)
    );
    let id = ChannelId(B256::repeat_byte(1));
    assert_eq!(
        domain.cooperative_close_digest(id, Index(9)),
        digest_by_hand(domain.separator(), CLOSE, &[id.0, number(9u8)])
    );
    let close = CooperativeClose {
        channelId: id.0,
        index: 9,
    };
    assert_eq!(
        struct_hash(&close),
        keccak256([keccak256(CLOSE), id.0, number(9u8)].concat())
    );
}
