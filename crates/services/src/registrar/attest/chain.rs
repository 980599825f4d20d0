//! X.509 paths, by rustls-webpki: signatures, times, name and length constraints, no end entity that plays an authority.

use std::time::Duration;

use protocol::offline::Timestamp;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter, anchor_from_trusted_cert,
};

use super::AttestationError;

/// Most intermediate certificates that are looked at.
pub(super) const MAX_INTERMEDIATES: usize = 8;

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// Whatever it says.
    Any,
    /// This, if it says anything (the OID in DER).
    IfStated(&'static [u8]),
}

impl ExtendedKeyUsageValidator for Purpose {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let Self::IfStated(needed) = *self else {
            return Ok(());
        };
        let mut stated = false;
        for purpose in purposes {
            stated = true;
            // Compared as bytes: the decoder of webpki 0.103 gets 2.23.133.8.1 wrong.
            if purpose? == KeyPurposeId::new(needed) {
                return Ok(());
            }
        }
        match stated {
            false => Ok(()),
            true => Err(webpki::Error::RequiredEkuNotFoundContext(
                webpki::RequiredEkuNotFoundContext {
                    required: webpki::KeyUsage::required_if_present(needed),
                    present: Vec::new(),
                },
            )),
        }
    }
}

/// Checks that `leaf` leads to one of `roots`, now; gives the certificate back, parsed.
pub(super) fn verify<'a>(
    what: &'static str,
    leaf: &'a CertificateDer<'a>,
    intermediates: &[CertificateDer<'_>],
    roots: &[CertificateDer<'_>],
    purpose: Purpose,
    now: Timestamp,
) -> Result<EndEntityCert<'a>, AttestationError> {
    let wrong = |problem: String| AttestationError::WrongChain {
        what,
        roots: roots.len(),
        problem,
    };
    if intermediates.len() > MAX_INTERMEDIATES {
        return Err(wrong(format!(
            "{} intermediate certificates, the most is {MAX_INTERMEDIATES}",
            intermediates.len()
        )));
    }
    let anchors: Vec<_> = roots
        .iter()
        .map(anchor_from_trusted_cert)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(format!("a root: {error}")))?;
    let end = EndEntityCert::try_from(leaf).map_err(|error| super::malformed(what, error))?;
    end.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &anchors,
        intermediates,
        UnixTime::since_unix_epoch(Duration::from_secs(now.0)),
        purpose,
        None,
        None,
    )
    .map_err(|error| match error {
        webpki::Error::CertExpired { not_after, .. } => AttestationError::OutOfTime {
            what,
            from: Timestamp(0),
            until: Timestamp(not_after.as_secs()),
            now,
        },
        webpki::Error::CertNotValidYet { not_before, .. } => AttestationError::OutOfTime {
            what,
            from: Timestamp(not_before.as_secs()),
            until: Timestamp(u64::MAX),
            now,
        },
        other => wrong(other.to_string()),
    })?;
    // The path borrows the intermediates; what is given back does not.
    EndEntityCert::try_from(leaf).map_err(|error| super::malformed(what, error))
}
