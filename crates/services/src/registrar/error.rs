//! Why a registrar signs nothing. Names of rules are stable: clients go by them.

use alloy_primitives::{Address, B256};
use protocol::offline::{
    Amount, CertificateError, ClassId, CoinId, Input, LogHead, Seconds, Sequence, Timestamp, WalletId,
    WalletKeyError, WalletSignatureError,
};
use storage::offline::registrar::{RegistrarStoreError, StageName};

use super::{RequestError, VaultError, attest::AttestationError};

/// What the registrar answers.
pub type Result<T, E = RegistrarError> = std::result::Result<T, E>;

/// Why nothing was signed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistrarError {
    /// It is not the wallet who asks, or not now.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The key is no point.
    #[error("the wallet's key: {0}")]
    Key(#[from] WalletKeyError),
    /// The signature has no proper form.
    #[error("the wallet's signature: {0}")]
    Signature(#[from] WalletSignatureError),
    /// There is no such class.
    #[error("there is no class {got}; there are {known:?}")]
    NoClass {
        /// The class.
        got: ClassId,
        /// Those there are.
        known: Vec<u32>,
    },
    /// The class does not take that.
    #[error("class {class} takes {accepted}, not {got}")]
    FormatNotAccepted {
        /// The class.
        class: ClassId,
        /// The format.
        got: String,
        /// Those that it takes.
        accepted: String,
    },
    /// The evidence is worth nothing.
    #[error(transparent)]
    Attestation(#[from] AttestationError),
    /// The wallet was never begun.
    #[error("wallet {wallet} is not known here")]
    UnknownWallet {
        /// The wallet.
        wallet: WalletId,
    },
    /// The wallet is not that far, or further.
    #[error("wallet {wallet} is {got:?}, this step is for {needed:?}")]
    WrongStage {
        /// The wallet.
        wallet: WalletId,
        /// Its stage.
        got: StageName,
        /// The step's.
        needed: StageName,
    },
    /// What was authorised or registered keeps its terms.
    #[error("wallet {wallet} has {field} {stored}, and does not get {got}")]
    OtherTerms {
        /// The wallet.
        wallet: WalletId,
        /// What differs.
        field: &'static str,
        /// Asked for.
        got: String,
        /// What was signed.
        stored: String,
    },
    /// The secret is not what was hidden in the credential.
    #[error("the answer hashes to {got}, not {needed}")]
    WrongSecret {
        /// Its hash.
        got: B256,
        /// The secret's.
        needed: B256,
    },
    /// The challenge is too old.
    #[error("the challenge is of {begun_at}, good for {life} seconds, now is {now}")]
    ChallengeExpired {
        /// When it was given.
        begun_at: Timestamp,
        /// The registrar's clock.
        now: Timestamp,
        /// How long it is good.
        life: Seconds,
    },
    /// The TPM may still take the former authorisation.
    #[error("wallet {wallet} has an authorisation until {until}, now is {now}")]
    AuthorisationLive {
        /// The wallet.
        wallet: WalletId,
        /// When it is dead for certain.
        until: Timestamp,
        /// The registrar's clock.
        now: Timestamp,
    },
    /// The wallet, or its class, was withdrawn.
    #[error("wallet {wallet} of class {class} is revoked since {at}")]
    Revoked {
        /// The wallet.
        wallet: WalletId,
        /// Its class.
        class: ClassId,
        /// Since when.
        at: Timestamp,
    },
    /// Enclaves show anew what they run.
    #[error("class {class} renews {accepted} only: a wallet of {got} registers a new key")]
    NotRenewed {
        /// The class.
        class: ClassId,
        /// The wallet's format.
        got: String,
        /// What is renewed.
        accepted: &'static str,
    },
    /// The contract does not have this registration for good.
    #[error("the registration of wallet {wallet} is not final on chain")]
    NotRegistered {
        /// The wallet.
        wallet: WalletId,
    },
    /// The contract has the wallet otherwise: no payee should take it.
    #[error("on chain the {field} of wallet {wallet} is {got}, not {needed}")]
    RegisteredOtherwise {
        /// The wallet.
        wallet: WalletId,
        /// What differs.
        field: &'static str,
        /// On chain.
        got: String,
        /// Here.
        needed: String,
    },
    /// The coin is not there for good.
    #[error("coin {coin} is not final on chain")]
    NotFinal {
        /// The coin.
        coin: CoinId,
    },
    /// The class gets no receipts in this asset.
    #[error("class {class} gets receipts in {accepted:?}, not in {got}")]
    AssetNotAccepted {
        /// The class.
        class: ClassId,
        /// The asset.
        got: Address,
        /// Those that it gets.
        accepted: Vec<Address>,
    },
    /// The coin is too large for its wallet.
    #[error("a coin of {got}, the most in class {class} is {limit}")]
    CoinTooLarge {
        /// The class.
        class: ClassId,
        /// The coin's amount.
        got: Amount,
        /// The cap.
        limit: Amount,
    },
    /// A SIGNATURE wallet has no log.
    #[error("wallet {wallet} has no log")]
    NoLog {
        /// The wallet.
        wallet: WalletId,
    },
    /// Too many entries at once, or none.
    #[error("{got} entries at once, from 1 to {limit} are folded")]
    EntryCount {
        /// How many.
        got: usize,
        /// The most.
        limit: usize,
    },
    /// The entries start after what is known.
    #[error("the entries start after {got} transfers, known are {known}")]
    EntriesMissing {
        /// Where they start.
        got: Sequence,
        /// How far the log is known.
        known: Sequence,
    },
    /// The certificate has another form.
    #[error("the log's certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// The TPM did not certify that.
    #[error("the certificate is not of head {head}")]
    NotCertified {
        /// What the entries fold to.
        head: LogHead,
    },
    /// The log spends an input twice: nobody takes such a transfer, and it is not hidden behind a checkpoint.
    #[error("input {input} is spent by transfer {first} and by transfer {second}")]
    InputSpentTwice {
        /// The input.
        input: Input,
        /// Number of the first.
        first: Sequence,
        /// Number of the second.
        second: Sequence,
    },
    /// Two certified logs of one wallet differ: it was cloned, and is revoked.
    #[error("the log of wallet {wallet} forks at transfer {at}: {got}, known is {stored}")]
    LogForks {
        /// The wallet.
        wallet: WalletId,
        /// Number of the first transfer that differs.
        at: Sequence,
        /// The entry.
        got: B256,
        /// The known one.
        stored: B256,
    },
    /// The contract has not folded the log so far, or not for good.
    #[error("the log is settled at {settled}, the checkpoint would be at {got}")]
    NotSettled {
        /// What the entries fold to.
        got: LogHead,
        /// What the contract has.
        settled: LogHead,
    },
    /// The node does not answer.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The policy key does not fit the index; it was checked.
    #[error("the log's beginning cannot be authorised: {0}")]
    Authorise(String),
    /// The store refused, or is out of order.
    #[error(transparent)]
    Store(#[from] RegistrarStoreError),
}

impl RegistrarError {
    /// Stable name of the rule, in kebab case.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Request(RequestError::OutOfTime { .. }) => "request-out-of-time",
            Self::Request(RequestError::WrongSigner { .. }) => "wrong-signer",
            Self::Key(_) => "bad-key",
            Self::Signature(_) => "bad-signature",
            Self::NoClass { .. } => "no-class",
            Self::FormatNotAccepted { .. } => "format-not-accepted",
            Self::Attestation(error) => attestation_rule(error),
            Self::UnknownWallet { .. } => "unknown-wallet",
            Self::WrongStage { .. } => "wrong-stage",
            Self::OtherTerms { .. } => "other-terms",
            Self::WrongSecret { .. } => "wrong-secret",
            Self::ChallengeExpired { .. } => "challenge-expired",
            Self::AuthorisationLive { .. } => "authorisation-live",
            Self::Revoked { .. } => "revoked",
            Self::NotRenewed { .. } => "not-renewed",
            Self::NotRegistered { .. } => "not-registered",
            Self::RegisteredOtherwise { .. } => "registered-otherwise",
            Self::NotFinal { .. } => "not-final",
            Self::AssetNotAccepted { .. } => "asset-not-accepted",
            Self::CoinTooLarge { .. } => "coin-too-large",
            Self::NoLog { .. } => "no-log",
            Self::EntryCount { .. } => "entry-count",
            Self::EntriesMissing { .. } => "entries-missing",
            Self::Certificate(_) => "bad-certificate",
            Self::NotCertified { .. } => "not-certified",
            Self::InputSpentTwice { .. } => "input-spent-twice",
            Self::LogForks { .. } => "log-forks",
            Self::NotSettled { .. } => "not-settled",
            Self::Vault(_) => "chain-unreadable",
            Self::Authorise(_) => "cannot-authorise",
            Self::Store(RegistrarStoreError::DeviceQuota { .. }) => "too-many-wallets",
            Self::Store(RegistrarStoreError::ReceiptCap { .. }) => "above-cap",
            Self::Store(_) => "store-failed",
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::Key(_) | Self::Signature(_) | Self::Certificate(_) | Self::EntryCount { .. } => 400,
            Self::Attestation(AttestationError::Malformed { .. } | AttestationError::TooLong { .. }) => 400,
            Self::Request(_) | Self::WrongSecret { .. } => 401,
            Self::NoClass { .. }
            | Self::FormatNotAccepted { .. }
            | Self::Attestation(_)
            | Self::Revoked { .. }
            | Self::NotRenewed { .. }
            | Self::AssetNotAccepted { .. }
            | Self::CoinTooLarge { .. }
            | Self::NoLog { .. }
            | Self::NotCertified { .. }
            | Self::InputSpentTwice { .. }
            | Self::Store(RegistrarStoreError::ReceiptCap { .. }) => 403,
            Self::UnknownWallet { .. } => 404,
            Self::WrongStage { .. }
            | Self::OtherTerms { .. }
            | Self::ChallengeExpired { .. }
            | Self::AuthorisationLive { .. }
            | Self::NotRegistered { .. }
            | Self::RegisteredOtherwise { .. }
            | Self::NotFinal { .. }
            | Self::EntriesMissing { .. }
            | Self::LogForks { .. }
            | Self::NotSettled { .. } => 409,
            Self::Store(RegistrarStoreError::DeviceQuota { .. }) => 429,
            Self::Vault(_) => 503,
            Self::Store(error) if error.retry() => 503,
            Self::Authorise(_) | Self::Store(_) => 500,
        }
    }

    /// Whether the same can succeed later, without anybody changing anything.
    pub fn retry(&self) -> bool {
        match self {
            Self::Request(RequestError::OutOfTime { .. })
            | Self::AuthorisationLive { .. }
            | Self::NotFinal { .. }
            | Self::NotRegistered { .. }
            | Self::NotSettled { .. }
            | Self::Vault(_) => true,
            Self::Store(error) => error.retry(),
            _ => false,
        }
    }

    /// What can be said to everybody: not what a node or database said.
    pub fn public(&self) -> String {
        match self {
            Self::Vault(_) => "the registrar cannot read the chain now".to_owned(),
            Self::Authorise(_) => "the registrar is out of order".to_owned(),
            Self::Store(error) if self.status() >= 500 => match error.retry() {
                true => "the registrar's store is busy".to_owned(),
                false => "the registrar's store is out of order".to_owned(),
            },
            other => other.to_string(),
        }
    }

    /// The two values that were compared, where there are two.
    pub fn values(&self) -> Option<(String, String)> {
        let pair = |got: &dyn ToString, needed: &dyn ToString| Some((got.to_string(), needed.to_string()));
        match self {
            Self::Request(RequestError::OutOfTime { got, low, high }) => {
                pair(got, &format!("{}..{}", low.0, high.0))
            }
            Self::NoClass { got, known } => pair(got, &format!("{known:?}")),
            Self::FormatNotAccepted { got, accepted, .. } => pair(got, accepted),
            Self::OtherTerms { got, stored, .. } => pair(got, stored),
            Self::WrongSecret { got, needed } => pair(got, needed),
            Self::AuthorisationLive { until, now, .. } => pair(now, until),
            Self::CoinTooLarge { got, limit, .. } => pair(got, limit),
            Self::EntryCount { got, limit } => pair(got, limit),
            Self::EntriesMissing { got, known } => pair(got, known),
            Self::LogForks { got, stored, .. } => pair(got, stored),
            Self::NotSettled { got, settled } => pair(got, settled),
            Self::RegisteredOtherwise { got, needed, .. } => pair(got, needed),
            Self::Attestation(error) => attestation_values(error),
            Self::Store(RegistrarStoreError::DeviceQuota { got, limit, .. }) => pair(got, limit),
            _ => None,
        }
    }
}

fn attestation_rule(error: &AttestationError) -> &'static str {
    match error {
        AttestationError::TooLong { .. } => "evidence-too-long",
        AttestationError::Malformed { .. } => "evidence-malformed",
        AttestationError::WrongFormat { .. } => "wrong-format",
        AttestationError::WrongKey { .. } => "wrong-key",
        AttestationError::OutOfTime { .. } => "evidence-out-of-time",
        AttestationError::TooOld { .. } => "evidence-too-old",
        AttestationError::WrongChain { .. } => "wrong-chain",
        AttestationError::Emulated { .. } => "emulated",
        AttestationError::DebugMode { .. } => "debug-mode",
        AttestationError::WrongMeasurement { .. } => "wrong-measurement",
        AttestationError::WrongReportData { .. } => "wrong-report-data",
        AttestationError::WrongTcb { .. } => "wrong-tcb",
        AttestationError::BadSignature { .. } => "evidence-does-not-verify",
        AttestationError::NotBuilt(_) => "format-not-built",
    }
}

fn attestation_values(error: &AttestationError) -> Option<(String, String)> {
    let pair = |got: &dyn ToString, needed: &dyn ToString| Some((got.to_string(), needed.to_string()));
    match error {
        AttestationError::TooLong { got, limit } => pair(got, limit),
        AttestationError::WrongFormat { got, needed } => pair(got, needed),
        AttestationError::WrongKey { got, needed } => pair(got, needed),
        AttestationError::OutOfTime { from, until, now, .. } => {
            pair(now, &format!("{}..{}", from.0, until.0))
        }
        AttestationError::DebugMode { got, needed } => pair(got, needed),
        AttestationError::WrongMeasurement { got, accepted } => pair(got, accepted),
        AttestationError::WrongReportData { got, needed } => pair(got, needed),
        AttestationError::WrongTcb { got, accepted } => pair(got, accepted),
        _ => None,
    }
}
