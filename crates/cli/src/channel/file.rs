//! The receipts file: what a vendor shows to prove what it was paid for, checked by anyone without a chain. One JSON object;
//! numbers that JSON does not hold exactly are decimal text.

use std::fs;
use std::io::Write;
use std::path::Path;

use alloy::primitives::{Address, B256, Bytes, FixedBytes};
use bindings::channel::OpenPermit;
use eyre::{WrapErr, ensure};
use protocol::channel::{
    Admitted, ChannelId, Domain, Index, ItemHash, Lock, LockedReceipt, Opener, Permit, ReceiptsFile, Sigma,
    Signature, Tag, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::units::decimal;

/// Says what the file is, for whoever finds it.
const FORMAT: &str = "micropay-receipts/1";

/// A receipts file as it is written.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ReceiptsJson {
    format: String,
    chain_id: u64,
    contract: Address,
    bank: Address,
    /// The permits on chain, the opening one first.
    terms: Vec<TermsJson>,
    opener: OpenerJson,
    /// In rising order.
    receipts: Vec<ReceiptJson>,
}

/// A permit with the bank's signature.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TermsJson {
    channel_id: B256,
    client: Address,
    vendor: Address,
    receipt_key: Address,
    asset: Address,
    #[serde(with = "decimal")]
    unit: u128,
    length: u32,
    anchor: B256,
    client_reputation: u8,
    vendor_reputation: u8,
    issued_at: u64,
    expiry: u64,
    signature: Bytes,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OpenerJson {
    index: u32,
    sigma: FixedBytes<64>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReceiptJson {
    index: u32,
    item_hash: B256,
    issued_at: u64,
    lock: FixedBytes<64>,
    tag: B256,
}

impl ReceiptsJson {
    /// Receipts of a channel of this contract.
    pub(crate) fn new(domain: &Domain, file: &ReceiptsFile) -> Self {
        Self {
            format: FORMAT.to_owned(),
            chain_id: domain.chain_id(),
            contract: domain.contract(),
            bank: file.terms.first().map_or(Address::ZERO, Admitted::bank),
            terms: file.terms.iter().map(TermsJson::from).collect(),
            opener: OpenerJson {
                index: file.opener.index.0,
                sigma: file.opener.sigma.to_bytes().into(),
            },
            receipts: file.receipts.iter().map(ReceiptJson::from).collect(),
        }
    }

    pub(crate) fn read(path: &Path) -> eyre::Result<Self> {
        let named = || path.display().to_string();
        let text = fs::read(path).wrap_err_with(named)?;
        let file: Self = serde_json::from_slice(&text).wrap_err_with(named)?;
        ensure!(
            file.format == FORMAT,
            "{}: the format is {:?}, known is {FORMAT:?}",
            path.display(),
            file.format
        );
        Ok(file)
    }

    /// Writes the file; it is there whole or not at all.
    pub(crate) fn write(&self, path: &Path) -> eyre::Result<()> {
        let named = || path.display().to_string();
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let mut file = fs::File::create(&part).wrap_err_with(named)?;
        serde_json::to_writer(std::io::BufWriter::new(&file), self)?;
        writeln!(file)?;
        file.sync_all()?;
        fs::rename(&part, path).wrap_err_with(named)
    }

    /// The contract whose channel it is.
    pub(crate) fn domain(&self) -> Domain {
        Domain::new(self.chain_id, self.contract)
    }

    /// What is to be checked. Only its form is right.
    pub(crate) fn parse(&self) -> eyre::Result<ReceiptsFile> {
        let domain = self.domain();
        let terms = self
            .terms
            .iter()
            .map(|terms| terms.parse(&domain, self.bank))
            .collect::<eyre::Result<Vec<_>>>()?;
        ensure!(!terms.is_empty(), "0 permits, at least 1 is needed");
        Ok(ReceiptsFile {
            opener: Opener {
                channel: terms[0].permit().channel(),
                index: Index(self.opener.index),
                sigma: Sigma::from_bytes(self.opener.sigma.as_slice()).wrap_err("the opener")?,
            },
            terms,
            receipts: self.receipts.iter().map(ReceiptJson::parse).collect(),
        })
    }
}

impl From<&Admitted> for TermsJson {
    fn from(admitted: &Admitted) -> Self {
        let OpenPermit {
            channelId,
            client,
            vendor,
            receiptKey,
            asset,
            unit,
            length,
            anchor,
            clientReputation,
            vendorReputation,
            issuedAt,
            expiry,
        } = admitted.permit().fields();
        Self {
            channel_id: *channelId,
            client: *client,
            vendor: *vendor,
            receipt_key: *receiptKey,
            asset: *asset,
            unit: *unit,
            length: *length,
            anchor: *anchor,
            client_reputation: *clientReputation,
            vendor_reputation: *vendorReputation,
            issued_at: *issuedAt,
            expiry: *expiry,
            signature: Bytes::copy_from_slice(&admitted.signature().to_bytes()),
        }
    }
}

impl TermsJson {
    fn parse(&self, domain: &Domain, bank: Address) -> eyre::Result<Admitted> {
        let fields = OpenPermit {
            channelId: self.channel_id,
            client: self.client,
            vendor: self.vendor,
            receiptKey: self.receipt_key,
            asset: self.asset,
            unit: self.unit,
            length: self.length,
            anchor: self.anchor,
            clientReputation: self.client_reputation,
            vendorReputation: self.vendor_reputation,
            issuedAt: self.issued_at,
            expiry: self.expiry,
        };
        let signature = Signature::from_bytes(&self.signature).wrap_err("the bank's signature")?;
        Ok(Admitted::restore(Permit::new(domain, fields), bank, signature))
    }
}

impl From<&LockedReceipt> for ReceiptJson {
    fn from(receipt: &LockedReceipt) -> Self {
        Self {
            index: receipt.index.0,
            item_hash: receipt.item.0,
            issued_at: receipt.issued_at.0,
            lock: receipt.lock.0.into(),
            tag: receipt.tag.0,
        }
    }
}

impl ReceiptJson {
    fn parse(&self) -> LockedReceipt {
        LockedReceipt {
            index: Index(self.index),
            item: ItemHash(self.item_hash),
            issued_at: Timestamp(self.issued_at),
            lock: Lock(self.lock.0),
            tag: Tag(self.tag),
        }
    }
}

/// Whose channel a file is about.
pub(crate) fn channel_of(file: &ReceiptsFile) -> ChannelId {
    file.opener.channel
}
