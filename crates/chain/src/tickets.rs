//! The ticket escrow: its scheme, and what one reads from it besides events.

use alloy::primitives::{Address, B256, Bytes, U256};
use bindings::ticket::TicketEscrow::{self, TicketEscrowErrors};
use protocol::ticket::{
    Domain, EscrowEvent, EscrowRecord, EscrowView, Escrows, FoldError, Nonce, PairRecord, Status, Timestamp,
    WinThreshold, apply, escrow_of,
};

use crate::client::{amount, rubbish_call};
use crate::{At, ChainError, Client, MirrorView, Scheme};

/// The ticket scheme (`contracts/ticket`): one record per escrow, by the address of its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tickets;

impl Scheme for Tickets {
    const NAME: &'static str = "ticket escrow";

    type Event = EscrowEvent;
    type Error = TicketEscrowErrors;
    type Id = Address;
    type Record = EscrowRecord;
    type FoldError = FoldError;
    type Domain = Domain;

    fn creation_code() -> &'static Bytes {
        &TicketEscrow::BYTECODE
    }

    fn domain(chain_id: u64, contract: Address) -> Domain {
        Domain::new(chain_id, contract)
    }

    fn separator(domain: &Domain) -> B256 {
        domain.separator()
    }

    fn id_of(event: &EscrowEvent) -> Option<Address> {
        escrow_of(event)
    }

    fn apply(escrows: &mut Escrows, event: &EscrowEvent) -> Result<(), FoldError> {
        apply(escrows, event)
    }
}

impl MirrorView<Tickets> {
    /// The same, borrowed, as admission takes it.
    #[must_use]
    pub fn as_view(&self) -> EscrowView<'_> {
        EscrowView {
            last_final: self.last_final.as_deref(),
            head: self.head.as_deref(),
        }
    }
}

impl Client<Tickets> {
    /// An escrow as the contract tells it; `None` if the key never opened one. Pairs and single debts are not part of the
    /// answer ([`Client::pair_of`], [`Client::debt_of`]): those maps are empty.
    pub async fn escrow_of(&self, escrow: Address, at: At) -> Result<Option<EscrowRecord>, ChainError> {
        let got = self.view(TicketEscrow::escrowOfCall { escrow }, at).await?;
        let amount = |value: U256| amount("escrowOf", value);
        let optional = |seconds: u64| (seconds != 0).then_some(Timestamp(seconds));
        // The numbers of Solidity's enum.
        let status = match got.status {
            0 => return Ok(None),
            1 => Status::Open,
            2 => Status::Withdrawing,
            3 => Status::Insolvent,
            4 => Status::Closed,
            other => return Err(rubbish_call("escrowOf", &format!("status {other}"))),
        };
        Ok(Some(EscrowRecord {
            payer: got.payer,
            asset: got.asset,
            prize: amount(got.prize)?,
            max_threshold: WinThreshold(got.maxThreshold),
            ticket_cap: Nonce(got.ticketCap),
            balance: amount(got.balance)?,
            penalty: amount(got.penalty)?,
            status,
            withdraw_at: optional(got.withdrawAt),
            cure_by: optional(got.cureBy),
            debt: got.debt,
            earmarked: amount(got.earmarked)?,
            earmark_until: Timestamp(got.earmarkUntil),
            pairs: Default::default(),
            debts: Default::default(),
        }))
    }

    /// What the contract keeps for an escrow and a recipient.
    pub async fn pair_of(
        &self,
        escrow: Address,
        recipient: Address,
        at: At,
    ) -> Result<PairRecord, ChainError> {
        let got = self
            .view(TicketEscrow::pairOfCall { escrow, recipient }, at)
            .await?;
        Ok(PairRecord {
            last_nonce: Nonce(got.lastNonce),
            earmark_prizes: got.earmarkPrizes,
            earmark_until: Timestamp(got.earmarkUntil),
        })
    }

    /// What an escrow owes a creditor, in atomic units.
    pub async fn debt_of(&self, escrow: Address, creditor: Address, at: At) -> Result<U256, ChainError> {
        self.view(TicketEscrow::debtOfCall { escrow, creditor }, at).await
    }
}
