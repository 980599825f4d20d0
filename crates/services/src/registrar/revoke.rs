//! Revocation: by the registrar's operator, or by a log that forks; and the list that payees carry.

use alloy_primitives::B256;
use protocol::offline::{ClassId, Seconds, SignedRevocationList, Timestamp, WalletId};
use storage::offline::registrar::{ListRecord, RegistrarStore, RegistrarStoreError};
use tracing::warn;

use super::{FinalDeposits, FinalWallets, Registrar, RegistrarError, Result};

impl<S: RegistrarStore, V: FinalDeposits + FinalWallets> Registrar<S, V> {
    /// Withdraws a wallet, now. The operator sends `revoke` to the contract, too. Gives the time that stays.
    pub async fn revoke(&self, wallet: WalletId, now: Timestamp) -> Result<Timestamp> {
        let at = self.store.revoke(wallet, now).await?;
        self.list_with_it(now).await?;
        Ok(at)
    }

    /// Withdraws a class, now. The operator sends `killClass` to the contract, too. Gives the time that stays.
    pub async fn kill_class(&self, class: ClassId, now: Timestamp) -> Result<Timestamp> {
        let at = self.store.kill_class(class, now).await?;
        self.list_with_it(now).await?;
        Ok(at)
    }

    /// The list: signed anew when it is older than the policy says.
    pub async fn revocation_list(&self, now: Timestamp) -> Result<SignedRevocationList> {
        if let Some(stored) = self.store.list().await? {
            let age = now.since(stored.issued_at);
            if age < self.policy.revocation_list_life {
                return self.decode_list(&stored);
            }
        }
        match self.renew_list(now).await {
            // Another request signed one at the same time.
            Err(RegistrarError::Store(RegistrarStoreError::ListBackwards { .. })) => {
                let stored = self.store.list().await?;
                stored.map_or(Err(list_missing()), |stored| self.decode_list(&stored))
            }
            other => other,
        }
    }

    /// A list that was signed at the same time may not have it yet.
    async fn list_with_it(&self, now: Timestamp) -> Result<()> {
        match self.renew_list(now).await {
            Err(RegistrarError::Store(RegistrarStoreError::ListBackwards { .. })) => {
                self.renew_list(now).await.map(drop)
            }
            other => other.map(drop),
        }
    }

    async fn renew_list(&self, now: Timestamp) -> Result<SignedRevocationList> {
        self.revoke_equivocated(now).await?;
        let revocations = self.store.revocations().await?;
        let stored = self.store.list().await?;
        // Newer than the one before, also within a second, or when the clock was set back.
        let issued_at = stored.map_or(now, |stored| now.max(stored.issued_at.plus(Seconds(1))));
        // Drawn now: nobody can have ground a wallet against it.
        let salt = B256::new(rand::random());
        let signed = SignedRevocationList::sign(
            &self.domain,
            &self.keys.registrar,
            issued_at,
            salt,
            &revocations.wallets,
            &revocations.classes,
        );
        let record = ListRecord {
            issued_at,
            signed: signed.encode(&self.domain),
        };
        self.store.save_list(&record).await?;
        Ok(signed)
    }

    fn decode_list(&self, stored: &ListRecord) -> Result<SignedRevocationList> {
        SignedRevocationList::decode(&self.domain, &stored.signed).map_err(|error| {
            RegistrarStoreError::Corrupt {
                table: "list",
                row: stored.issued_at.to_string(),
                problem: error.to_string(),
            }
            .into()
        })
    }

    /// Payees without a network hear from the list alone of what was proven on the chain. A node that does not answer keeps no
    /// list back: what is known already is urgent, too.
    async fn revoke_equivocated(&self, now: Timestamp) -> Result<()> {
        let proven = match self.vault.equivocated().await {
            Ok(proven) => proven,
            Err(error) => {
                warn!(%error, "the list says nothing of double spends that were proven since the last one");
                return Ok(());
            }
        };
        let revoked = self.store.revocations().await?.wallets;
        for wallet in proven {
            let new = revoked.iter().all(|(known, _)| *known != wallet);
            if new && self.store.wallet(wallet).await?.is_some() {
                warn!(%wallet, "was proven to double-spend: revoked; send `revoke` to the contract, too");
                self.store.revoke(wallet, now).await?;
            }
        }
        Ok(())
    }

    /// Nothing is signed for what the contract has stopped. It is revoked here, too: an owner can have its own wallet stopped,
    /// and its payees hear of it from the list alone.
    pub(super) async fn check_alive_on_chain(
        &self,
        wallet: WalletId,
        class: ClassId,
        now: Timestamp,
    ) -> Result<()> {
        match self.vault.wallet(wallet).await? {
            Some(known) if !known.alive => Err(self.stopped_on_chain(wallet, class, now).await?),
            _ => Ok(()),
        }
    }

    pub(super) async fn stopped_on_chain(
        &self,
        wallet: WalletId,
        class: ClassId,
        now: Timestamp,
    ) -> Result<RegistrarError> {
        let at = self.revoke(wallet, now).await?;
        Ok(RegistrarError::Revoked { wallet, class, at })
    }

    /// Nothing is signed for what was withdrawn.
    pub(super) async fn check_alive(&self, wallet: WalletId, class: ClassId) -> Result<()> {
        let revocations = self.store.revocations().await?;
        let of_wallet = revocations.wallets.iter().find(|(revoked, _)| *revoked == wallet);
        let of_class = revocations.classes.iter().find(|(killed, _)| *killed == class);
        let at = of_wallet.map(|(_, at)| *at).or(of_class.map(|(_, at)| *at));
        match at {
            None => Ok(()),
            Some(at) => Err(RegistrarError::Revoked { wallet, class, at }),
        }
    }
}

fn list_missing() -> RegistrarError {
    RegistrarStoreError::Corrupt {
        table: "list",
        row: "1".to_owned(),
        problem: "it was there, and is not".to_owned(),
    }
    .into()
}
