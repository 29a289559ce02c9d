//! Packets as a capture file: what is wanted of them, and where to fetch it.

use std::collections::BTreeSet;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::{calls, required, snapshots};
use crate::api::params::Params;
use crate::api::{ApiError, App};
use crate::query::{self, CallsQuery, MAX_LIMIT};
use crate::snapshots::{Export, ExportError, Wanted, shown};

/// Most connections (or pairs of addresses) of one filter: libpcap's programs have 4096 instructions at most, and each
/// takes up to 40 of them for both versions of IP.
const CONNECTIONS: usize = 48;

/// Where the packets of a snapshot can be fetched, once it is sure that they can be (contract 3.3: a relative path).
pub async fn path(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let key = required(params, snapshots::KEYS)?;
    let wanted = wanted(params)?;
    located(app, &key, wanted).await
}

/// The same, for packets that somebody else has chosen.
pub(super) async fn located(app: &App, snapshot: &str, wanted: Wanted) -> Result<Value, ApiError> {
    let entry = app.hub.snapshots.find_completed(snapshot).await?;
    let manifest = app.hub.snapshots.manifest(&entry).await?;
    let folder = app.hub.snapshots.path(&entry);
    let query = query(&wanted);
    // A filter that does not compile is told here, not to whoever fetches the file.
    tokio::task::spawn_blocking(move || Export::prepare(&folder, &manifest, &wanted).map(drop))
        .await
        .map_err(ApiError::internal)??;
    Ok(json!({
        "path": format!("/mcp/snapshots/{}/pcap{query}", entry.id),
        "uri": format!("wiretape://snapshots/{}/pcap{query}", entry.id),
        "id": entry.id,
        "name": entry.name,
        "packet_count": entry.packets,
        "size_bytes": entry.bytes,
    }))
}

/// The same, for the packets of the connections whose calls match a filter.
pub async fn of_calls(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let question = CallsQuery {
        kfl: params.text(&["kfl"])?,
        limit: Some(MAX_LIMIT),
        now: crate::now(),
        ..CallsQuery::default()
    };
    let pcapng = wanted(params)?.pcapng;
    let opened = calls::open(app, params).await?;
    let page = query::calls(&opened.database, &question).await?;
    if let Some(explanation) = page.explanation {
        return Err(ApiError::not_found(format!("no call matches: {explanation}")));
    }
    let bpf = connections(&page.calls);
    if bpf.len() > CONNECTIONS {
        return Err(ApiError::bad_request(format!(
            "the {} calls that match use more than {CONNECTIONS} pairs of addresses; ask for fewer, e.g. one path, one \
             pod or one minute, or export the whole snapshot with export_snapshot_pcap",
            page.total
        )));
    }
    let wanted = Wanted {
        bpf: Some(bpf.join(" or ")),
        pcapng,
        ..Wanted::default()
    };
    let mut answer = located(app, &opened.snapshot, wanted).await?;
    answer["db"] = json!(opened.db);
    answer["calls"] = json!(page.calls.len());
    if page.truncated {
        answer["warnings"] = json!([format!(
            "only the connections of the first {} of {} calls are in it",
            page.calls.len(),
            page.total
        )]);
    }
    Ok(answer)
}

/// An expression for each connection of these calls; for each pair of addresses, if there are too many connections.
fn connections(calls: &[Value]) -> Vec<String> {
    let ends = |call: &Value| {
        let text = |pointer| call.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let number = |pointer| call.pointer(pointer).and_then(Value::as_u64);
        Some((
            text("/src/ip")?,
            number("/src/port")?,
            text("/dst/ip")?,
            number("/dst/port")?,
        ))
    };
    let ends: BTreeSet<_> = calls.iter().filter_map(ends).collect();
    if ends.len() <= CONNECTIONS {
        return ends
            .into_iter()
            .map(|(client, from, server, to)| one(&client, Some(from), &server, to))
            .collect();
    }
    let pairs: BTreeSet<_> = ends
        .into_iter()
        .map(|(client, _, server, to)| (client, server, to))
        .collect();
    pairs
        .into_iter()
        .map(|(client, server, to)| one(&client, None, &server, to))
        .collect()
}

fn one(client: &str, from: Option<u64>, server: &str, to: u64) -> String {
    // Protocols without ports have 0 for both.
    let port = |port: Option<u64>| match port {
        Some(port) if port > 0 => format!(" and port {port}"),
        _ => String::new(),
    };
    format!(
        "(host {client} and host {server}{}{})",
        port(from),
        port(Some(to))
    )
}

/// The packets themselves, if they are no more than so many bytes.
pub async fn bytes(app: &App, params: &mut Params, most: usize) -> Result<Option<Vec<u8>>, ApiError> {
    let key = required(params, snapshots::KEYS)?;
    let wanted = wanted(params)?;
    let entry = app.hub.snapshots.find_completed(&key).await?;
    let manifest = app.hub.snapshots.manifest(&entry).await?;
    let folder = app.hub.snapshots.path(&entry);
    let _permit = app.export_permit()?;
    let export = tokio::task::spawn_blocking(move || -> Result<_, ExportError> {
        let mut bytes = Bounded {
            bytes: Vec::new(),
            most,
        };
        let written = Export::prepare(&folder, &manifest, &wanted)?.write(&mut bytes);
        match written {
            Err(_) if bytes.bytes.len() >= bytes.most => Ok(None),
            written => written.map(|_| Some(bytes.bytes)),
        }
    });
    Ok(export.await.map_err(ApiError::internal)??)
}

/// Takes so many bytes and no more.
struct Bounded {
    bytes: Vec<u8>,
    most: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.most - self.bytes.len();
        let fitting = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        self.bytes.extend_from_slice(fitting);
        // Nothing taken is an error to whoever writes.
        Ok(fitting.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads which packets are wanted, and in which format.
pub fn wanted(params: &mut Params) -> Result<Wanted, ApiError> {
    let pcapng = match params.text(&["format"])?.as_deref() {
        None | Some("" | "pcap") => false,
        Some("pcapng") => true,
        Some(other) => {
            let other = shown(other);
            return Err(ApiError::bad_request(format!(
                "`format` must be pcap or pcapng, not \"{other}\""
            )));
        }
    };
    Ok(Wanted {
        nodes: params.list(&["nodes"])?,
        start: params.moment(&["start_time", "start", "start_ts"])?,
        end: params.moment(&["end_time", "end", "end_ts"])?,
        bpf: params
            .text(&["bpf_filter", "bpf"])?
            .filter(|filter| !filter.trim().is_empty()),
        pcapng,
    })
}

/// The query that [`wanted`] reads back.
fn query(wanted: &Wanted) -> String {
    let mut pairs: Vec<(&str, String)> = Vec::new();
    if !wanted.nodes.is_empty() {
        pairs.push(("nodes", wanted.nodes.join(",")));
    }
    if let Some(bpf) = &wanted.bpf {
        pairs.push(("bpf_filter", bpf.clone()));
    }
    // Rounded outwards, so that no packet is left out.
    if let Some(start) = wanted.start {
        pairs.push(("start_time", (start / 1_000_000).to_string()));
    }
    if let Some(end) = wanted.end {
        pairs.push(("end_time", end.div_ceil(1_000_000).to_string()));
    }
    if wanted.pcapng {
        pairs.push(("format", "pcapng".to_owned()));
    }
    let written: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={}", encoded(value)))
        .collect();
    if written.is_empty() {
        String::new()
    } else {
        format!("?{}", written.join("&"))
    }
}

/// Percent-encoded for a query (RFC 3986, section 2.3 leaves these as they are).
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_connections_are_named_by_both_ports_and_many_by_their_addresses() {
        let call = |port: u64| json!({ "src": { "ip": "10.0.0.1", "port": port }, "dst": { "ip": "10.0.0.2", "port": 80 } });
        assert_eq!(
            connections(&[call(5000), call(5000)]),
            ["(host 10.0.0.1 and host 10.0.0.2 and port 5000 and port 80)"]
        );
        let many: Vec<Value> = (0..=CONNECTIONS as u64).map(|n| call(5000 + n)).collect();
        assert_eq!(
            connections(&many),
            ["(host 10.0.0.1 and host 10.0.0.2 and port 80)"]
        );
        assert_eq!(connections(&many[1..]).len(), CONNECTIONS);
    }

    #[test]
    fn the_query_of_a_path_says_all_that_is_wanted() {
        let wanted = Wanted {
            nodes: vec!["node-1".to_owned(), "node 2".to_owned()],
            start: Some(1_500_000),
            end: Some(2_000_001),
            bpf: Some("tcp port 80".to_owned()),
            pcapng: true,
        };
        assert_eq!(
            query(&wanted),
            "?nodes=node-1%2Cnode%202&bpf_filter=tcp%20port%2080&start_time=1&end_time=3&format=pcapng"
        );
        assert_eq!(query(&Wanted::default()), "");
    }
}
