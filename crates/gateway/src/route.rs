//! What a price is for: a method, or any, and paths by glob or by regular expression. The same words in the seller's
//! configuration and in the terms that a payer gets: `GET /v1/*`, `* ~^/item/[0-9]+$`.

use std::fmt;
use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};
use http::Method;
use regex::{Regex, RegexBuilder};

/// Longest pattern that is read, bytes: terms come from strangers.
const MAX_PATTERN_BYTES: usize = 512;
/// Most memory of a compiled regular expression, bytes.
const MAX_REGEX_BYTES: usize = 256 * 1024;

/// Methods and paths.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// `None`: any.
    method: Option<Method>,
    text: String,
    path: PathPattern,
}

#[derive(Clone, Debug)]
enum PathPattern {
    Glob(GlobMatcher),
    Regex(Regex),
}

/// Why a pattern cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Not `METHOD path`.
    #[error("{0:?} is not a method (or *) and a path")]
    Form(String),
    /// Longer than any pattern needs.
    #[error("the pattern has {got} bytes, at most {limit} are read")]
    TooLong {
        /// Bytes.
        got: usize,
        /// The most.
        limit: usize,
    },
    /// Not a method of HTTP.
    #[error("{0:?} is not an HTTP method")]
    Method(String),
    /// A glob must begin as every path does.
    #[error("path {0:?} does not begin with / (or ~ for a regular expression)")]
    Path(String),
    /// Not a glob.
    #[error("glob {glob:?}: {problem}")]
    Glob {
        /// The glob.
        glob: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Not a regular expression, or too large a one.
    #[error("regular expression {regex:?}: {problem}")]
    Regex {
        /// The expression.
        regex: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Pattern {
    /// A pattern of `path`, a glob or, after `~`, a regular expression. In a glob `*` stays within one segment of the path
    /// and `**` does not; a `/*` at the end stands for everything below, as sellers mean it.
    pub fn new(method: Option<Method>, path: &str) -> Result<Self, PatternError> {
        Self::compile(method, path, false)
    }

    /// The same pattern, for paths in upper and lower case alike.
    #[must_use]
    pub fn of_any_case(&self) -> Self {
        let compiled = Self::compile(self.method.clone(), self.path(), true);
        // An expression for both cases may be too large where one for its own is not.
        compiled.unwrap_or_else(|_| self.clone())
    }

    fn compile(method: Option<Method>, path: &str, any_case: bool) -> Result<Self, PatternError> {
        if path.len() > MAX_PATTERN_BYTES {
            return Err(PatternError::TooLong {
                got: path.len(),
                limit: MAX_PATTERN_BYTES,
            });
        }
        let compiled = if let Some(regex) = path.strip_prefix('~') {
            let compiled = RegexBuilder::new(regex)
                .case_insensitive(any_case)
                .size_limit(MAX_REGEX_BYTES)
                .build();
            PathPattern::Regex(compiled.map_err(|error| PatternError::Regex {
                regex: regex.to_owned(),
                problem: error.to_string(),
            })?)
        } else {
            if !path.starts_with('/') {
                return Err(PatternError::Path(path.to_owned()));
            }
            let below = path.strip_suffix("/*").map(|start| format!("{start}/**"));
            let glob = GlobBuilder::new(below.as_deref().unwrap_or(path))
                .literal_separator(true)
                .backslash_escape(true)
                .case_insensitive(any_case)
                .build();
            let glob = glob.map_err(|error| PatternError::Glob {
                glob: path.to_owned(),
                problem: error.kind().to_string(),
            })?;
            PathPattern::Glob(glob.compile_matcher())
        };
        let name = method.as_ref().map_or("*", Method::as_str);
        Ok(Self {
            text: format!("{name} {path}"),
            method,
            path: compiled,
        })
    }

    /// Whether a request is meant. `path` is that of the URI, still encoded, without its query.
    pub fn matches(&self, method: &Method, path: &str) -> bool {
        self.method.as_ref().is_none_or(|own| own == method)
            && match &self.path {
                PathPattern::Glob(glob) => glob.is_match(path),
                PathPattern::Regex(regex) => regex.is_match(path),
            }
    }

    /// The method; `None`: any.
    pub fn method(&self) -> Option<&Method> {
        self.method.as_ref()
    }

    /// The path's pattern as it was written.
    pub fn path(&self) -> &str {
        self.text.split_once(' ').map_or("", |(_, path)| path)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.len() > MAX_PATTERN_BYTES {
            return Err(PatternError::TooLong {
                got: text.len(),
                limit: MAX_PATTERN_BYTES,
            });
        }
        let (method, path) = text
            .split_once(' ')
            .ok_or_else(|| PatternError::Form(text.to_owned()))?;
        let method = match method {
            "*" => None,
            name => Some(name.parse().map_err(|_| PatternError::Method(name.to_owned()))?),
        };
        Self::new(method, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn globs_and_expressions_match_what_a_seller_means() {
        let cases = [
            ("* /", "GET", "/", true),
            ("* /", "GET", "/a", false),
            ("* /*", "POST", "/", true),
            ("* /*", "POST", "/a/b/c", true),
            ("GET /v1/*", "GET", "/v1/a/b", true),
            ("GET /v1/*", "POST", "/v1/a", false),
            ("GET /v1/*", "GET", "/v2/a", false),
            ("GET /v1/*/data", "GET", "/v1/a/data", true),
            ("GET /v1/*/data", "GET", "/v1/a/b/data", false),
            ("GET /*.{png,jpg}", "GET", "/a.png", true),
            ("* ~^/item/[0-9]+$", "GET", "/item/17", true),
            ("* ~^/item/[0-9]+$", "GET", "/item/x", false),
        ];
        for (text, method, path, expected) in cases {
            let method = method.parse().unwrap();
            assert_eq!(
                pattern(text).matches(&method, path),
                expected,
                "{text} {method} {path}"
            );
            assert_eq!(pattern(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        let error = |text: &str| text.parse::<Pattern>().unwrap_err().to_string();
        assert!(error("/a").contains("is not a method (or *) and a path"));
        assert!(error("G@T /a").contains("is not an HTTP method"));
        assert!(error("GET a").contains("does not begin with /"));
        assert!(error("GET /{").contains("glob"));
        assert!(error("GET ~(").contains("regular expression"));
        assert!(error(&format!("GET /{}", "a".repeat(600))).contains("605 bytes"));
        // A stranger's expression cannot take all memory.
        assert!(error("* ~((((a{1,99}){1,99}){1,99}){1,99})").contains("regular expression"));
    }
}
