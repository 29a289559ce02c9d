//! Filters from the outside, in one program: text in, and what is printed, found or said.

mod cel;
mod dialects;
mod docs;
mod errors;
mod evaluation;
mod explanation;
mod properties;
mod reference;
mod row;
mod variables;
