//! What terms are for: `METHOD glob` or `METHOD ~regex` over paths, `*` for any method. The pattern comes from a server, so
//! its length and the size of what it compiles to are bounded; matching is linear in the path.

use globset::{GlobBuilder, GlobMatcher};
use regex::{Regex, RegexBuilder};
use reqwest::Method;

/// Longest pattern that is remembered, bytes.
const MAX_PATTERN: usize = 256;
/// Largest compiled pattern, bytes.
const MAX_COMPILED: usize = 64 * 1024;

/// A pattern for requests.
#[derive(Clone, Debug)]
pub(super) struct Route {
    /// As the server wrote it.
    text: String,
    /// `None`: any.
    method: Option<Method>,
    path: PathPattern,
}

#[derive(Clone, Debug)]
enum PathPattern {
    Glob(GlobMatcher),
    Regex(Regex),
}

impl Route {
    /// Reads a pattern; `None` if it is none, or beyond the bounds.
    pub(super) fn read(text: &str) -> Option<Self> {
        if text.len() > MAX_PATTERN {
            return None;
        }
        let (method, path) = text.split_once(' ')?;
        let method = match method {
            "*" => None,
            name => Some(Method::from_bytes(name.as_bytes()).ok()?),
        };
        let path = match path.strip_prefix('~') {
            Some(regex) => PathPattern::Regex(
                RegexBuilder::new(regex)
                    .size_limit(MAX_COMPILED)
                    .dfa_size_limit(MAX_COMPILED)
                    .build()
                    .ok()?,
            ),
            None => {
                let glob = GlobBuilder::new(path).literal_separator(true).build().ok()?;
                PathPattern::Glob(glob.compile_matcher())
            }
        };
        Some(Self {
            text: text.to_owned(),
            method,
            path,
        })
    }

    /// As the server wrote it.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether a request is meant.
    pub(super) fn matches(&self, method: &Method, path: &str) -> bool {
        self.method.as_ref().is_none_or(|own| own == method)
            && match &self.path {
                PathPattern::Glob(glob) => glob.is_match(path),
                PathPattern::Regex(regex) => regex.is_match(path),
            }
    }

    /// How much of the path it fixes: of two routes that match, the one that says more is meant.
    pub(super) fn precision(&self) -> usize {
        let path = self.text.split_once(' ').map_or("", |(_, path)| path);
        path.chars().take_while(|c| !"~*?[{(\\.+|".contains(*c)).count()
    }
}
