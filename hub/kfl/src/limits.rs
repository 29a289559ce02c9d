//! How large a filter may be. Filters come from strangers; each of these has a test at the limit.

/// Longest filter, in bytes. The longest that people write by hand are a few hundred; generated ones a few thousand.
pub const TEXT_BYTES: usize = 16 * 1024;

/// Deepest tree. Every stage recurses at most this deep (the check that makes it stands in the parser), so that none
/// can exhaust a thread's stack.
pub const NESTING: usize = 64;

/// Most entries of one list: `x in [..]`.
pub const LIST_ENTRIES: usize = 1000;

/// Most memory for one compiled regular expression, in bytes, and again for its cache. A Unicode class such as `\w`
/// takes some 10 KiB each time it is repeated.
pub const REGEX_BYTES: usize = 1024 * 1024;

/// Most regular expressions in one filter; together with [`REGEX_BYTES`] the bound on a filter's memory.
pub const REGEXES: usize = 16;
