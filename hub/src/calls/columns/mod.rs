//! Columns as Parquet stores them, encoded while the calls come (<https://parquet.apache.org/docs/file-format/>).
//!
//! Arrow's writer wants arrays first and then encodes them value by value, which costs more than all of the dissection.
//! Here a value goes straight into its column's page, in the encoding that fits it: numbers as differences, words as
//! numbers of a dictionary, texts as they are. Pages and their order in the file are left to the `parquet` crate.

mod chunk;
mod levels;
mod map;
mod numbers;
mod texts;
mod words;

pub(super) use chunk::{Leaf, PartFile};
pub(super) use map::MapColumn;
pub(super) use numbers::{ListColumn, NumberColumn, Ordered};
pub(super) use words::{WordColumn, same};

/// Rows of a page: what a query decodes at least for one call.
pub(super) const PAGE_ROWS: usize = 2 * 1024;

/// Bytes of a page before compression, where its values are long.
pub(super) const PAGE_BYTES: usize = 128 << 10;
