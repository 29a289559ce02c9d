//! The packets of calls: found by the locations that the table holds, not by looking through the segments.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use datafusion::common::JoinType;
use datafusion::logical_expr::{col, lit};
use futures::StreamExt as _;
use wiretape_tape::{Export, ExportFormat, Name, Nanos, OwnedPacket};

use super::entries::{self, Asked};
use super::row::Row;
use super::scope::Scoped;
use super::{Database, QueryError, Scope};
use crate::calls::packets::place;
use crate::dissections::OneClock;
use crate::snapshots::{Connections, ExportError};

/// Most packets of one answer: their locations take 32 MiB, and their bytes some gigabytes.
pub const MAX_PACKETS: usize = 4 << 20;
/// Most calls that are told of at their first packet: with 200 bytes each, 13 MiB.
pub const MAX_COMMENTS: usize = 1 << 16;
/// Most connections of one answer that are looked for whole.
pub const MAX_CONNECTIONS: usize = 1 << 16;

/// How far the clocks of two nodes may be apart: what one saw of a connection, the other saw within this.
const CLOCKS: Nanos = 1_000_000_000;

/// Columns that comments and locations are made of.
const COLUMNS: [&str; 11] = [
    "node",
    "stream",
    "index",
    "protocol",
    "method",
    "path",
    "status",
    "outcome",
    "elapsed_ns",
    "req_packets",
    "resp_packets",
];

/// The packets of the calls that match, to be written.
pub struct CallPackets {
    db: Database,
    /// Locations by node, in order of time.
    tapes: Vec<(String, Vec<u64>)>,
    /// What begins in a packet.
    comments: HashMap<u64, String>,
}

/// Finds the packets of the calls of a scope, on these nodes (all when there is none).
///
/// # Errors
/// [`QueryError::NotFound`] when no call matches, [`QueryError::BadRequest`] for a wrong filter, one that asks for
/// connections, or more than [`MAX_PACKETS`].
pub async fn call_packets(db: &Database, scope: &Scope, nodes: &[String]) -> Result<CallPackets, QueryError> {
    let scoped = scope.read(db).await?.without_redactions()?;
    if !Asked::by(&scoped.filter).is_calls() {
        return Err(QueryError::BadRequest(
            "the filter speaks of connections or flows, which have no packets of their own here; ask for calls, or with \
             whole_connections=true"
                .to_owned(),
        ));
    }
    let mut table = db.table().await?;
    if let Some(condition) = scoped.condition() {
        table = table.filter(condition)?;
    }
    let table = scoped.limited(table)?;
    let mut batches = table.select_columns(&COLUMNS)?.execute_stream().await?;
    let mut found = Located::default();
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        for row in Row::each(std::slice::from_ref(&batch)) {
            let [request, response] = ["req_packets", "resp_packets"].map(|column| row.locations(column));
            found.add(&request, &response, || comment(row))?;
        }
    }
    whole_answer(&scoped)?;
    let Located {
        calls,
        mut locations,
        comments,
    } = found;
    if calls == 0 {
        let why = scoped.nothing(db, scope, Asked::default(), 0).await?;
        return Err(QueryError::NotFound(format!("no call matches: {why}")));
    }
    // One packet may hold parts of several calls. Files of a node are numbered in order of time.
    locations.sort_unstable();
    locations.dedup();
    let mut tapes: Vec<(String, Vec<u64>)> = Vec::new();
    for location in locations {
        let file = db.summary().files.get(place(location).0);
        let node = file.map(|file| file.node.as_str()).unwrap_or_default();
        if !nodes.is_empty() && !nodes.iter().any(|asked| asked == node) {
            continue;
        }
        match tapes.iter_mut().find(|(known, _)| known == node) {
            Some((_, of)) => of.push(location),
            None => tapes.push((node.to_owned(), vec![location])),
        }
    }
    Ok(CallPackets {
        db: db.clone(),
        tapes,
        comments,
    })
}

/// Where the packets of calls are.
#[derive(Default)]
struct Located {
    calls: u64,
    locations: Vec<u64>,
    comments: HashMap<u64, String>,
}

impl Located {
    /// Adds those of one call.
    ///
    /// # Errors
    /// They are more than [`MAX_PACKETS`] now.
    fn add(
        &mut self,
        request: &[u64],
        response: &[u64],
        comment: impl FnOnce() -> String,
    ) -> Result<(), QueryError> {
        self.calls += 1;
        if let Some(first) = request.first().or(response.first()) {
            let room = self.comments.len() < MAX_COMMENTS;
            match self.comments.entry(*first) {
                Entry::Occupied(mut told) => {
                    let told = told.get_mut();
                    told.push_str("; ");
                    told.push_str(&comment());
                }
                Entry::Vacant(free) if room => {
                    free.insert(comment());
                }
                Entry::Vacant(_) => {}
            }
        }
        self.locations.extend(request.iter().chain(response));
        if self.locations.len() > MAX_PACKETS {
            return Err(QueryError::BadRequest(format!(
                "the calls that match have more than {MAX_PACKETS} packets; ask for fewer, e.g. one path, one pod or \
                 one minute"
            )));
        }
        Ok(())
    }
}

/// What is said at the packet where a call begins. Characters that are none are left out: the text comes from traffic.
fn comment(row: Row<'_>) -> String {
    let mut comment = format!(
        "call {}: {} {} {}",
        row.call_id(),
        row.text("protocol"),
        row.text("method"),
        row.text("path")
    );
    if let Some(status) = row.int("status") {
        comment.push_str(&format!(" -> {status}"));
    }
    comment.push_str(&format!(" {}", row.text("outcome")));
    if let Some(elapsed) = row.int("elapsed_ns") {
        comment.push_str(&format!(" in {:.3} ms", elapsed as f64 / 1e6));
    }
    comment.retain(|c| !c.is_control());
    comment
}

impl CallPackets {
    /// Writes them in order of time; gives their number. Blocks.
    ///
    /// # Errors
    /// [`ExportError::Segment`] for a packet that cannot be read, [`ExportError::Sink`] as soon as `out` takes no more.
    pub fn write(self, out: impl Write, pcapng: bool, names: &[Name]) -> Result<u64, ExportError> {
        let format = if pcapng {
            ExportFormat::Pcapng
        } else {
            ExportFormat::PcapRaw
        };
        let mut sink = Export::commented(
            out,
            format,
            concat!("hub ", env!("CARGO_PKG_VERSION")),
            &OneClock::of(&self.db.summary().clocks).told(),
        );
        sink.names(names)?;
        let mut rest: Vec<_> = self.tapes.iter().map(|(_, of)| of.iter().copied()).collect();
        // The next packet of each node.
        let mut heads: BinaryHeap<Reverse<(Nanos, usize, u64)>> = BinaryHeap::new();
        let mut waiting: HashMap<usize, OwnedPacket> = HashMap::new();
        for (tape, of) in rest.iter_mut().enumerate() {
            if let Some(location) = of.next() {
                let packet = self.read(location)?;
                heads.push(Reverse((packet.meta.ts, tape, location)));
                waiting.insert(tape, packet);
            }
        }
        while let Some(Reverse((_, tape, location))) = heads.pop() {
            let Some(packet) = waiting.remove(&tape) else {
                continue;
            };
            let node = self
                .tapes
                .get(tape)
                .map(|(node, _)| node.as_str())
                .unwrap_or_default();
            let file = self
                .db
                .file(place(location).0)
                .map_err(|error| self.unreadable(location, &error))?;
            let comment = self
                .comments
                .get(&location)
                .map(String::as_str)
                .unwrap_or_default();
            sink.commented_packet(node, file.interfaces(), &packet.meta, &packet.data, comment)?;
            if let Some(location) = rest.get_mut(tape).and_then(Iterator::next) {
                let packet = self.read(location)?;
                heads.push(Reverse((packet.meta.ts, tape, location)));
                waiting.insert(tape, packet);
            }
        }
        let packets = sink.counters().packets;
        sink.finish()?;
        Ok(packets)
    }

    fn read(&self, location: u64) -> Result<OwnedPacket, ExportError> {
        let (file, offset) = place(location);
        self.db
            .file(file)
            .and_then(|file| file.packet_at(offset))
            .map_err(|error| self.unreadable(location, &error))
    }

    fn unreadable(&self, location: u64, error: &wiretape_tape::ReadError) -> ExportError {
        let file = self.db.summary().files.get(place(location).0);
        ExportError::Segment {
            path: file.map(|file| file.path.clone()).unwrap_or_default(),
            reason: error.to_string(),
        }
    }
}

/// Finds the connections of the entries of a scope, and from when to when there are packets of them.
///
/// # Errors
/// [`QueryError::NotFound`] when nothing matches, [`QueryError::BadRequest`] for a wrong filter, or more than
/// [`MAX_CONNECTIONS`].
pub async fn whole_connections(
    db: &Database,
    scope: &Scope,
) -> Result<(Connections, (Nanos, Nanos)), QueryError> {
    let scoped = scope.read(db).await?.without_redactions()?;
    let asked = Asked::by(&scoped.filter);
    if asked.is_of_flows() {
        return Err(QueryError::BadRequest(
            "the filter speaks of flows; ask for calls, or for connections (`conn_…`, `tcp_conn`)".to_owned(),
        ));
    }
    let mut matching = entries::table(db, asked).await?;
    if let Some(condition) = scoped.condition() {
        matching = matching.filter(condition)?;
    }
    let matching = scoped.limited(matching)?;
    let streams = matching.select(vec![col("stream").alias("of")])?.distinct()?;
    let found = of_streams(db, streams, async || scoped.nothing(db, scope, asked, 0).await).await?;
    whole_answer(&scoped)?;
    Ok(found)
}

/// A capture cannot say that more might belong to it, as other answers do. What was not recorded is in no capture.
fn whole_answer(scoped: &Scoped) -> Result<(), QueryError> {
    match scoped.not_asked().into_iter().next() {
        None => Ok(()),
        Some(warning) => Err(QueryError::BadRequest(warning)),
    }
}

/// The connection of one call, by its id.
///
/// # Errors
/// [`QueryError::BadRequest`] for what is no id, [`QueryError::NotFound`] when there is no such call or no TCP connection
/// or UDP exchange of it.
pub async fn connection_of(db: &Database, id: &str) -> Result<(Connections, (Nanos, Nanos)), QueryError> {
    let stream = super::calls::stream_of(id)?;
    let streams = entries::connections(db)
        .await?
        .filter(col("stream").eq(lit(stream)))?
        .select(vec![col("stream").alias("of")])?;
    of_streams(db, streams, async || {
        Ok("the call is of no TCP connection or UDP exchange".to_owned())
    })
    .await
}

async fn of_streams(
    db: &Database,
    streams: datafusion::prelude::DataFrame,
    why: impl AsyncFnOnce() -> Result<String, QueryError>,
) -> Result<(Connections, (Nanos, Nanos)), QueryError> {
    let batches = entries::connections(db)
        .await?
        .select_columns(&[
            "stream",
            "transport",
            "src_ip",
            "src_port",
            "dst_ip",
            "dst_port",
            "ts",
            "last_ts",
        ])?
        .join(streams, JoinType::LeftSemi, &["stream"], &["of"], None)?
        .limit(0, Some(MAX_CONNECTIONS + 1))?
        .collect()
        .await?;
    let mut found = Connections::default();
    let (mut first, mut last) = (Nanos::MAX, 0);
    for row in Row::each(&batches) {
        let end = |side: &str| {
            let address: IpAddr = row.text(&format!("{side}_ip")).parse().ok()?;
            let port = u16::try_from(row.int(&format!("{side}_port"))?).ok()?;
            Some(SocketAddr::new(address, port))
        };
        let (Some(client), Some(server), Some(from), Some(to)) =
            (end("src"), end("dst"), row.time("ts"), row.time("last_ts"))
        else {
            continue;
        };
        // Ends are excluded, as everywhere.
        let span = (from.saturating_sub(CLOCKS), to.saturating_add(CLOCKS + 1));
        found.add(row.text("transport"), (client, server), span);
        first = first.min(span.0);
        last = last.max(span.1);
    }
    match found.len() {
        0 => Err(QueryError::NotFound(format!(
            "no connection matches: {}",
            why().await?
        ))),
        count if count > MAX_CONNECTIONS => Err(QueryError::BadRequest(format!(
            "more than {MAX_CONNECTIONS} connections match; ask for fewer, or export the snapshot"
        ))),
        _ => Ok((found, (first, last))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_packets_as_one_answer_holds_and_one_more() {
        let mut found = Located::default();
        let most: Vec<u64> = (0..MAX_PACKETS as u64).collect();
        assert!(found.add(&most, &[], String::new).is_ok());
        let refused = found.add(&[], &[1], String::new).expect_err("it is one too many");
        assert!(
            refused.to_string().contains("more than 4194304 packets"),
            "{refused}"
        );
    }

    #[test]
    fn calls_beyond_the_comments_keep_their_packets() {
        let mut found = Located::default();
        for call in 0..=MAX_COMMENTS as u64 {
            assert!(found.add(&[call], &[], || call.to_string()).is_ok());
        }
        assert_eq!(
            (found.comments.len(), found.locations.len()),
            (MAX_COMMENTS, MAX_COMMENTS + 1)
        );
        // A call in a packet that is told of already is told of, too; a packet beyond is not.
        assert!(found.add(&[7], &[], || "late".to_owned()).is_ok());
        assert_eq!(found.comments.get(&7).map(String::as_str), Some("7; late"));
        assert!(!found.comments.contains_key(&(MAX_COMMENTS as u64)));
    }
}
