//! Columns of what was said and who saw it: messages' sizes, header fields and packets, observers' times.

use wiretape_dissect::{Message, Observation, Value};

use super::columns::{Leaf, ListColumn, MapColumn, NumberColumn, Ordered};
use super::rows::number;

/// `req_…bytes`, or the response's: all of them, head, body, missing.
pub(super) struct SizeColumns {
    columns: [NumberColumn; 4],
}

impl SizeColumns {
    pub(super) fn new() -> Self {
        Self {
            columns: std::array::from_fn(|_| NumberColumn::new(false, true, Ordered::Chunk)),
        }
    }

    /// Appends the sizes of each message, if there is one.
    pub(super) fn push<'m>(&mut self, messages: impl Iterator<Item = Option<&'m Message>>) {
        with_gaps(&mut self.columns, messages, none_of_all, |columns, message| {
            let sizes = [
                message.wire_len,
                message.head_len,
                message.body_len,
                message.missing,
            ];
            for (column, size) in columns.iter_mut().zip(sizes) {
                column.push(number(size));
            }
        });
    }

    pub(super) fn leaves(&mut self) -> impl Iterator<Item = &mut dyn Leaf> {
        self.columns.iter_mut().map(|column| column as &mut dyn Leaf)
    }
}

/// The four times of one observer.
pub(super) struct TimeColumns {
    columns: [NumberColumn; 4],
}

impl TimeColumns {
    pub(super) fn new() -> Self {
        Self {
            columns: std::array::from_fn(|_| NumberColumn::new(false, true, Ordered::Chunk)),
        }
    }

    /// Appends what an observer saw of each call, if there was one.
    pub(super) fn push<'o>(&mut self, observations: impl Iterator<Item = Option<&'o Observation>>) {
        with_gaps(&mut self.columns, observations, none_of_all, |columns, seen| {
            let (request, response) = (seen.request, seen.response);
            let times = [
                request.map(|r| r.0),
                request.map(|r| r.1),
                response.map(|r| r.0),
                response.map(|r| r.1),
            ];
            for (column, time) in columns.iter_mut().zip(times) {
                column.push_option(time.map(number));
            }
        });
    }

    pub(super) fn leaves(&mut self) -> impl Iterator<Item = &mut dyn Leaf> {
        self.columns.iter_mut().map(|column| column as &mut dyn Leaf)
    }
}

/// `req_seq` and `req_packets`, or the response's.
pub(super) struct PacketColumns {
    seq: NumberColumn,
    packets: ListColumn,
}

impl PacketColumns {
    pub(super) fn new() -> Self {
        Self {
            seq: NumberColumn::new(false, true, Ordered::Chunk),
            packets: ListColumn::new(),
        }
    }

    /// Appends where each message is, if there is one.
    pub(super) fn push<'m>(&mut self, messages: impl Iterator<Item = Option<&'m Message>>) {
        let none = |columns: &mut Self, rows| {
            columns.seq.push_none(rows);
            columns.packets.push_none(rows);
        };
        with_gaps(self, messages, none, |columns, message| {
            columns.seq.push(i64::from(message.seq));
            columns.packets.push(&message.packets);
        });
    }

    pub(super) fn leaves(&mut self) -> [&mut dyn Leaf; 2] {
        [&mut self.seq, &mut self.packets]
    }
}

/// Appends what there is to columns, and tells them at once how many rows in a row have nothing.
fn with_gaps<T, C: ?Sized>(
    columns: &mut C,
    items: impl Iterator<Item = Option<T>>,
    none: impl Fn(&mut C, usize),
    some: impl Fn(&mut C, T),
) {
    let mut absent = 0;
    for item in items {
        let Some(item) = item else {
            absent += 1;
            continue;
        };
        if absent > 0 {
            none(columns, std::mem::take(&mut absent));
        }
        some(columns, item);
    }
    if absent > 0 {
        none(columns, absent);
    }
}

/// So many rows have no number.
fn none_of_all(columns: &mut [NumberColumn; 4], rows: usize) {
    columns.iter_mut().for_each(|column| column.push_none(rows));
}

/// Messages' header fields as rows. Of most protocols there are none.
pub(super) fn headers<'m>(column: &mut MapColumn, messages: impl Iterator<Item = Option<&'m Message>>) {
    let headers = messages.map(|message| Some(&message?.headers).filter(|headers| !headers.is_empty()));
    with_gaps(column, headers, MapColumn::end_empty_rows, |column, headers| {
        column.row(headers.bytes());
    });
}

/// A protocol's own fields as a row.
pub(super) fn fields(column: &mut MapColumn, fields: &[(&'static str, Value)]) {
    for (key, value) in fields {
        match value {
            Value::Text(text) => column.own_entry(key, text),
            Value::Int(number) => column.own_number(key, *number),
            Value::Bool(truth) => column.own_entry(key, if *truth { "true" } else { "false" }),
        }
    }
    column.end_row();
}
