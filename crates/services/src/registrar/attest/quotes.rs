//! Shapes of the evidence that needs something beside the quote: always there, whatever this program can verify.

use alloy_primitives::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// An SGX or TDX quote.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuoteEvidence {
    /// The quote.
    pub quote: Bytes,
    /// Intel's collateral for it, as a provisioning certificate caching service gives it (`QuoteCollateralV3`).
    pub collateral: Box<RawValue>,
}

/// An SEV-SNP report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnpEvidence {
    /// The report, 1184 bytes.
    pub report: Bytes,
    /// Certificate of the chip's key (VCEK), DER.
    pub vek: Bytes,
    /// AMD's intermediate certificate (ASK), DER.
    pub ask: Bytes,
}
