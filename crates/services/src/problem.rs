//! Refusals as everybody says them: RFC 9457, with the rule's name and both values.

use serde::{Deserialize, Serialize};

/// Media type of a refusal.
pub const PROBLEM: &str = "application/problem+json";

/// A refusal (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Address of the rule's description.
    pub r#type: String,
    /// The rule in a few words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What happened, with both values.
    pub detail: String,
    /// Stable name of the rule.
    pub rule: String,
    /// Whether the same can succeed later.
    pub retry: bool,
    /// The value that was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub got: Option<String>,
    /// The value, or the values, that it was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<String>,
}

impl Problem {
    /// A refusal by `rule`.
    pub fn new(status: u16, rule: &str, retry: bool, detail: impl Into<String>) -> Self {
        let mut title = rule.replace('-', " ");
        if let Some(first) = title.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        Self {
            r#type: format!("https://micropay.dev/problems/{rule}"),
            title,
            status,
            detail: detail.into(),
            rule: rule.to_owned(),
            retry,
            got: None,
            needed: None,
        }
    }
}
