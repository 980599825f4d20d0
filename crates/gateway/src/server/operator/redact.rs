//! Keeps secrets off the page and out of the metrics: errors of other people's code quote addresses with passwords and
//! keys in them.

/// Longest text that is kept, in characters.
const LONGEST: usize = 300;
/// Digits or letters in a row from which on a word may be a secret: 16 bytes in base64, fewer than an address has.
const SECRET: usize = 22;
/// What is shown of it.
const SHOWN: usize = 8;

/// The text without what may be secret: of an address of a server only scheme and host are left, of long words of digits
/// and letters their beginning (enough to find a transaction by). Control characters become spaces; long texts end early.
pub(crate) fn redact(text: &str) -> String {
    let mut kept = String::new();
    // Cut first: an error may quote a whole body.
    let clean: String = text
        .chars()
        .take(4 * LONGEST)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    for (i, word) in clean.split(' ').enumerate() {
        if i > 0 {
            kept.push(' ');
        }
        match word.split_once("://") {
            Some((before, address)) => {
                kept.push_str(before);
                kept.push_str("://");
                push_host(&mut kept, address);
            }
            None => push_short(&mut kept, word),
        }
    }
    if kept.chars().count() > LONGEST {
        kept = kept.chars().take(LONGEST).chain(['…']).collect();
    }
    kept
}

/// `user:password@host:port/path?query#fragment` without all but host and port.
fn push_host(kept: &mut String, address: &str) {
    let end = address
        .find(['/', '?', '#', '"', '\'', ')', '>', ','])
        .unwrap_or(address.len());
    let (authority, rest) = address.split_at(end);
    // A password may hold a `/`, against all rules: the host follows the last `@`.
    let authority = match rest.rsplit_once('@') {
        Some((_, after)) => after.split(['/', '?', '#', '"', ')']).next().unwrap_or_default(),
        None => authority.rsplit('@').next().unwrap_or_default(),
    };
    push_short(kept, authority);
    if rest.len() > 1 {
        kept.push_str("/…");
    }
}

/// The word with each long run of digits and letters cut.
fn push_short(kept: &mut String, word: &str) {
    let of_secret = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '_' | '=');
    let mut rest = word;
    while let Some(start) = rest.find(of_secret) {
        let run = rest[start..]
            .find(|c| !of_secret(c))
            .unwrap_or(rest.len() - start);
        kept.push_str(&rest[..start]);
        let run = &rest[start..start + run];
        // A path or a long English word has no digits; what is random has.
        if run.len() >= SECRET && run.contains(|c: char| c.is_ascii_digit()) {
            kept.push_str(&run[..SHOWN]);
            kept.push('…');
        } else {
            kept.push_str(run);
        }
        rest = &rest[start + run.len()..];
    }
    kept.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_their_host_alone() {
        for (text, kept) in [
            (
                "connect to http://127.0.0.1:3000/a: refused",
                "connect to http://127.0.0.1:3000/… refused",
            ),
            (
                "(https://mainnet.example/v3/0123abcd)",
                "(https://mainnet.example/…",
            ),
            ("postgres://me:hunter2@db:5432/pay", "postgres://db:5432/…"),
            ("postgres://me:hun/ter2@db/pay", "postgres://db/…"),
            ("wss://node.example?token=1", "wss://node.example/…"),
            ("http://node.example/", "http://node.example"),
        ] {
            assert_eq!(redact(text), kept);
        }
    }

    #[test]
    fn long_secrets_keep_their_beginning() {
        let hash = format!("0x{}", "a1".repeat(32));
        assert_eq!(
            redact(&format!("transaction {hash} dropped")),
            "transaction 0xa1a1a1… dropped"
        );
        assert_eq!(redact("Bearer=c2VjcmV0c2VjcmV0c2VjcmV0MTIz"), "Bearer=c…");
        assert_eq!(
            redact("internationalization of everything"),
            "internationalization of everything"
        );
        assert_eq!(
            redact("nonce 12 is not above 4294967295"),
            "nonce 12 is not above 4294967295"
        );
    }

    #[test]
    fn a_text_is_one_short_line() {
        assert_eq!(redact("a\nb\u{0}c"), "a b c");
        assert_eq!(redact(&"é ".repeat(1_000)).chars().count(), LONGEST + 1);
    }
}
