//! How large a filter may be. Filters come from strangers; each of these has a test at the limit.

/// Longest filter, in bytes. The longest that people write by hand are a few hundred; generated ones a few thousand.
pub const TEXT_BYTES: usize = 16 * 1024;

/// Deepest tree. Every stage recurses at most this deep (the check that makes it stands in the parser), so that none
/// can exhaust a thread's stack.
pub const NESTING: usize = 64;

/// Most entries of one list or map: `x in [..]`.
pub const LIST_ENTRIES: usize = 1000;

/// Most memory for one compiled regular expression, in bytes, and again for its cache. A Unicode class such as `\w`
/// takes some 10 KiB each time it is repeated.
pub const REGEX_BYTES: usize = 1024 * 1024;

/// Most regular expressions in one filter; together with [`REGEX_BYTES`] the bound on a filter's memory.
pub const REGEXES: usize = 16;

/// Most parts that a filter may grow to. A loop over a list that is written out, and a choice that is compared, become
/// conditions of their own, so a short text could become a huge filter. Without these, a part takes some three bytes of
/// text: no filter that is written out reaches this.
pub const PARTS: usize = 20_000;

/// Loops within loops: `a.exists(x, b.exists(y, ..))`. Each level multiplies what an entry costs.
pub const LOOPS: usize = 3;

/// Steps that one entry may take: items looped over, and characters of documents read and texts put together. A filter
/// of strangers over a body of strangers must not hold a thread; this many take some milliseconds.
pub const EVALUATION_STEPS: usize = 1 << 20;

/// Deepest JSON or XML that `.json()` and `.xml()` read. What is deeper counts as no document. `serde_json`, which reads
/// the JSON, stops there too.
pub const DOCUMENT_NESTING: usize = 127;
