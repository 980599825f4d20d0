//! Steps of the escrow on chain: `open`, `topUp`, `raiseCap`, `earmark`, `withdraw` and their kin. Each is one transaction of
//! the payer's account (two for a token, with its approval), simulated before it is sent.

use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::SolCall;
use bindings::erc20::IERC20;
use bindings::ticket::TicketEscrow;
use chain::{ChainError, Mined, Sender};
use protocol::ticket::{Amount, EscrowKey, Nonce, Timestamp, WinThreshold};

/// What a payer chooses at opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Token, or the zero address for the native asset.
    pub asset: Address,
    /// What a winner pays, atomic units.
    pub prize: Amount,
    /// Highest win threshold of a ticket; a multiple of 2^232 ([`WinThreshold::to_bound`]).
    pub max_threshold: WinThreshold,
    /// Nonces of payable tickets are below this.
    pub ticket_cap: Nonce,
    /// What is burned if the escrow cheats or stays insolvent, atomic units.
    pub penalty: Amount,
    /// What winners are paid from, atomic units.
    pub balance: Amount,
}

/// The payer's steps on chain, from the account of `sender`.
#[derive(Clone, Debug)]
pub struct EscrowSteps {
    sender: Sender,
}

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
pub enum EscrowError {
    /// The chain, or the contract's refusal.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// Penalty and balance are too much together.
    #[error("balance {balance} and penalty {penalty} are more than 128 bits together")]
    DepositTooLarge {
        /// Balance, atomic units.
        balance: Amount,
        /// Penalty, atomic units.
        penalty: Amount,
    },
}

impl EscrowSteps {
    /// Steps from this account.
    pub fn new(sender: Sender) -> Self {
        Self { sender }
    }

    /// Opens the escrow of `key` (section 2.1, "Escrow Set-up").
    pub async fn open(&self, key: &EscrowKey, opening: &Opening) -> Result<Mined, EscrowError> {
        let Opening {
            asset,
            prize,
            max_threshold,
            ticket_cap,
            penalty,
            balance,
        } = *opening;
        let deposit = balance
            .checked_add(penalty)
            .ok_or(EscrowError::DepositTooLarge { balance, penalty })?;
        let signed = bindings::ticket::Opening {
            escrow: key.address(),
            payer: self.sender.address(),
            asset,
            prize: prize.into(),
            maxThreshold: max_threshold.0,
            ticketCap: ticket_cap.0,
            penalty: penalty.into(),
        };
        let possession = key
            .sign(self.sender.client().domain().opening_digest(&signed))
            .to_sol();
        let terms = bindings::ticket::Terms {
            asset,
            prize: signed.prize,
            maxThreshold: signed.maxThreshold,
            ticketCap: signed.ticketCap,
            penalty: signed.penalty,
        };
        let amount = deposit.into();
        let call = TicketEscrow::openCall {
            escrow: key.address(),
            terms,
            amount,
            possession,
        };
        self.deposit(asset, deposit, call).await
    }

    /// Adds to the shared balance. Anyone may.
    pub async fn top_up(
        &self,
        escrow: Address,
        asset: Address,
        amount: Amount,
    ) -> Result<Mined, EscrowError> {
        self.deposit(
            asset,
            amount,
            TicketEscrow::topUpCall {
                escrow,
                amount: amount.into(),
            },
        )
        .await
    }

    /// Raises the cap to `ticket_cap` and the penalty by `amount`.
    pub async fn raise_cap(
        &self,
        escrow: Address,
        asset: Address,
        ticket_cap: Nonce,
        amount: Amount,
    ) -> Result<Mined, EscrowError> {
        let call = TicketEscrow::raiseCapCall {
            escrow,
            ticketCap: ticket_cap.0,
            amount: amount.into(),
        };
        self.deposit(asset, amount, call).await
    }

    /// Sets `prizes` more aside for `recipient` until `until`.
    pub async fn earmark(
        &self,
        escrow: Address,
        recipient: Address,
        prizes: u32,
        until: Timestamp,
    ) -> Result<Mined, EscrowError> {
        self.send(TicketEscrow::earmarkCall {
            escrow,
            recipient,
            prizes,
            until: until.0,
        })
        .await
    }

    /// Takes back what is left of an expired earmark.
    pub async fn release_earmark(&self, escrow: Address, recipient: Address) -> Result<Mined, EscrowError> {
        self.send(TicketEscrow::releaseEarmarkCall { escrow, recipient })
            .await
    }

    /// Starts the delay of a withdrawal.
    pub async fn request_withdraw(&self, escrow: Address) -> Result<Mined, EscrowError> {
        self.send(TicketEscrow::requestWithdrawCall { escrow }).await
    }

    /// Stops a withdrawal.
    pub async fn cancel_withdraw(&self, escrow: Address) -> Result<Mined, EscrowError> {
        self.send(TicketEscrow::cancelWithdrawCall { escrow }).await
    }

    /// Closes the escrow; what is left becomes the payer's credit.
    pub async fn withdraw(&self, escrow: Address) -> Result<Mined, EscrowError> {
        self.send(TicketEscrow::withdrawCall { escrow }).await
    }

    /// Pays the listed creditors of an insolvent escrow. What `amount` has over becomes the sender's credit.
    pub async fn cure(
        &self,
        escrow: Address,
        asset: Address,
        creditors: Vec<Address>,
        amount: Amount,
    ) -> Result<Mined, EscrowError> {
        let call = TicketEscrow::cureCall {
            escrow,
            creditors,
            amount: amount.into(),
        };
        self.deposit(asset, amount, call).await
    }

    /// Closes an escrow that was not cured in time: penalty and leftover balance burn. Anyone may.
    pub async fn burn(&self, escrow: Address) -> Result<Mined, EscrowError> {
        self.send(TicketEscrow::burnCall { escrow }).await
    }

    /// A call that takes `amount` of `asset` from the sender, with its approval first where the asset is a token.
    async fn deposit(
        &self,
        asset: Address,
        amount: Amount,
        call: impl SolCall,
    ) -> Result<Mined, EscrowError> {
        let client = self.sender.client();
        let contract = client.contract();
        let mut value = U256::from(amount.0);
        if asset != Address::ZERO {
            value = U256::ZERO;
            let allowance = client.allowance(asset, self.sender.address(), contract).await?;
            if allowance < U256::from(amount.0) {
                let approve = IERC20::approveCall {
                    spender: contract,
                    amount: amount.into(),
                };
                self.sender
                    .send(asset, approve.abi_encode().into(), U256::ZERO)
                    .await?;
            }
        }
        Ok(self
            .sender
            .send(contract, Bytes::from(call.abi_encode()), value)
            .await?)
    }

    async fn send(&self, call: impl SolCall) -> Result<Mined, EscrowError> {
        let contract = self.sender.client().contract();
        Ok(self
            .sender
            .send(contract, Bytes::from(call.abi_encode()), U256::ZERO)
            .await?)
    }
}
