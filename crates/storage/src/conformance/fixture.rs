//! Small made-up tickets, claims and escrows. Everything follows from a few numbers, so that two runs make the same.

use std::{collections::BTreeMap, sync::LazyLock};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use bindings::ticket;
use protocol::ticket::{
    Amount, BlockRef, Domain, EscrowKey, EscrowRecord, Issued, Nonce, OrderId, PairRecord, Seed, Session,
    SessionId, Status, Ticket, Timestamp, WinThreshold, Won,
};

use crate::{OrderRequest, StoreIdentity, TxRecord};

static DOMAIN: LazyLock<Domain> = LazyLock::new(|| Domain::new(31337, Address::repeat_byte(0xc0)));

static KEYS: LazyLock<Vec<EscrowKey>> = LazyLock::new(|| {
    (0..4u64)
        .map(|n| {
            EscrowKey::from_bytes(&hash("escrow", &[n]).0).expect("a hash is a key, but for one in 2^128")
        })
        .collect()
});

/// Who is paid in every fixture.
pub fn recipient() -> Address {
    Address::repeat_byte(0xaa)
}

/// Whose stores the suite opens.
pub fn identity() -> StoreIdentity {
    StoreIdentity::merchant(*DOMAIN, recipient())
}

/// One of four escrows.
pub fn escrow(n: u64) -> Address {
    KEYS[(n % 4) as usize].address()
}

/// An order's name.
pub fn order(n: u64) -> OrderId {
    OrderId(hash("order", &[n]))
}

/// A purchase with order `n`, paid from escrow `e`.
pub fn request(n: u64, e: u64) -> OrderRequest {
    OrderRequest {
        order: order(n),
        escrow: escrow(e),
        recipient: recipient(),
        price: Amount(1000 + u128::from(n)),
        replaces: None,
        budgets: Vec::new(),
        at: Timestamp(1_800_000_000 + n),
    }
}

/// Signs a ticket of escrow `e`; `n` makes it different from others with the same nonce.
pub fn issue(n: u64, e: u64, nonce: Nonce) -> Ticket<Issued> {
    signed(&DOMAIN, e, fields(e, hash("r2", &[n]), nonce))
}

/// As [`issue`], for another contract.
pub fn issue_elsewhere(n: u64, e: u64, nonce: Nonce) -> Ticket<Issued> {
    signed(
        &Domain::new(1, Address::ZERO),
        e,
        fields(e, hash("r2", &[n]), nonce),
    )
}

/// [`issue`] as the closure that a store takes.
pub fn sign(n: u64, e: u64) -> impl FnOnce(Nonce) -> Ticket<Issued> + Send + 'static {
    move |nonce| issue(n, e, nonce)
}

/// A winner of escrow `e`; `variant` makes another ticket with the same nonce.
pub fn win(e: u64, nonce: u64, variant: u64) -> Ticket<Won> {
    won(e, fields(e, hash("r2", &[nonce, variant]), Nonce(nonce)))
}

/// A winner with the largest numbers there are.
pub fn extreme_win() -> Ticket<Won> {
    won(
        0,
        ticket::Ticket {
            expiry: u64::MAX,
            ..fields(0, B256::repeat_byte(0xff), Nonce(u64::MAX))
        },
    )
}

/// A signed transaction.
pub fn transaction(n: u64) -> TxRecord {
    let hash = hash("transaction", &[n]);
    TxRecord {
        hash,
        raw: Bytes::copy_from_slice(&hash.as_slice()[..(n % 32) as usize]),
        account_nonce: n,
        max_fee_per_gas: u128::from(n) << 64,
        max_priority_fee_per_gas: 7,
        sent_at: Timestamp(1_800_000_000 + n),
    }
}

/// A block.
pub fn block(n: u64) -> BlockRef {
    BlockRef {
        number: n,
        hash: hash("block", &[n]),
        timestamp: Timestamp(1_800_000_000 + 12 * n),
    }
}

/// An escrow's record, with every field in use.
pub fn record(n: u64) -> EscrowRecord {
    let pair = PairRecord {
        last_nonce: Nonce(u64::MAX - n),
        earmark_prizes: u32::MAX,
        earmark_until: Timestamp(u64::MAX),
    };
    EscrowRecord {
        payer: Address::with_last_byte(n as u8),
        asset: Address::repeat_byte(0xee),
        prize: Amount(u128::MAX - u128::from(n)),
        max_threshold: WinThreshold(U256::MAX),
        ticket_cap: Nonce(u64::MAX),
        balance: Amount(1 << 90),
        penalty: Amount(3),
        status: [
            Status::Open,
            Status::Withdrawing,
            Status::Insolvent,
            Status::Closed,
        ][(n % 4) as usize],
        withdraw_at: (n % 2 == 1).then_some(Timestamp(u64::MAX)),
        cure_by: n.is_multiple_of(2).then_some(Timestamp(4)),
        debt: U256::MAX,
        earmarked: Amount(5),
        earmark_until: Timestamp(6),
        pairs: BTreeMap::from([(recipient(), pair), (Address::ZERO, PairRecord::default())]),
        debts: BTreeMap::from([(recipient(), U256::MAX)]),
    }
}

fn session(e: u64) -> Session {
    let id = SessionId {
        boot: u64::MAX,
        serial: 1 << 63,
    };
    Session::derive(&DOMAIN, &Seed::new([9; 32]), recipient(), escrow(e), id)
}

fn fields(e: u64, r2: B256, nonce: Nonce) -> ticket::Ticket {
    ticket::Ticket {
        escrow: escrow(e),
        recipient: recipient(),
        commitment: session(e).commitment(),
        r2,
        winThreshold: U256::MAX,
        expiry: 1_800_086_400,
        nonce: nonce.0,
    }
}

fn signed(domain: &Domain, e: u64, fields: ticket::Ticket) -> Ticket<Issued> {
    let signature = KEYS[(e % 4) as usize].sign(domain.ticket_digest(&fields));
    Ticket::from_parts(domain, fields, signature)
}

fn won(e: u64, fields: ticket::Ticket) -> Ticket<Won> {
    let issued = signed(&DOMAIN, e, fields);
    let session = session(e);
    Ticket::<Won>::restore(
        issued.digest(),
        issued.fields().clone(),
        *issued.signature(),
        session.id(),
        session.r1(),
    )
    .expect("every draw but one is below the largest threshold")
}

pub(crate) fn hash(what: &str, numbers: &[u64]) -> B256 {
    let mut bytes = what.as_bytes().to_vec();
    bytes.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
    keccak256(bytes)
}
