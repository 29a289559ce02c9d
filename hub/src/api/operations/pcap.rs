//! Packets as a capture file: what is wanted of them, and where to fetch it.

use std::io::{self, Write};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use wiretape_tape::Name;

use super::calls::{Opened, as_millis};
use super::{calls, required, snapshots};
use crate::api::params::Params;
use crate::api::{ApiError, App};
use crate::catalogue::SnapshotEntry;
use crate::dissections::OneClock;
use crate::query::{self, CallPackets, CallsQuery, Scope};
use crate::snapshots::{Export, ExportError, Manifest, Wanted};

/// Most bytes of the packets of one connection that are given with a call; longer captures are fetched from a path.
const MAX_CONNECTION: usize = 1 << 20;

/// What is asked for: packets of a snapshot, or of calls in it.
#[derive(Clone, Debug, Default)]
struct Asked {
    wanted: Wanted,
    of_calls: Option<OfCalls>,
}

/// The packets of calls.
#[derive(Clone, Debug, Default, PartialEq)]
struct OfCalls {
    /// Which dissection; that of the snapshot when not given.
    db: Option<String>,
    /// Which calls; all when not given.
    kfl: Option<String>,
    /// All packets of their connections, instead of their own.
    whole: bool,
}

/// A capture that is found and checked: it can only fail for reasons of the disk or of whoever reads it.
pub struct Capture {
    /// The snapshot.
    pub entry: SnapshotEntry,
    /// Whether it is pcapng; else classic pcap.
    pub pcapng: bool,
    packets: Packets,
}

enum Packets {
    /// By looking through the segments.
    Found(Box<Export>),
    /// By their locations, with the names for the file.
    Located(CallPackets, Vec<Name>),
}

impl Capture {
    /// Finds what a request asks for.
    pub async fn prepare(app: &App, params: &mut Params) -> Result<Self, ApiError> {
        let key = required(params, snapshots::KEYS)?;
        let asked = Asked::read(params)?;
        Self::of(app, &key, asked).await
    }

    async fn of(app: &App, snapshot: &str, asked: Asked) -> Result<Self, ApiError> {
        let entry = app.hub.snapshots.find_completed(snapshot).await?;
        let manifest = app.hub.snapshots.manifest(&entry).await?;
        let Asked { mut wanted, of_calls } = asked;
        let pcapng = wanted.pcapng;
        if let Some(of_calls) = of_calls {
            if wanted.bpf.is_some() {
                return Err(ApiError::bad_request(
                    "`bpf_filter` chooses among all packets, `kfl` and `db` those of calls; give one of them",
                ));
            }
            let opened = of_calls.open(app, &entry).await?;
            let scope = Scope {
                kfl: of_calls.kfl,
                start: wanted.start.map(as_millis),
                end: wanted.end.map(as_millis),
                now: crate::now(),
            };
            if !of_calls.whole {
                check_nodes(&manifest, &wanted.nodes)?;
                let packets = query::call_packets(&opened.database, &scope, &wanted.nodes).await?;
                let names = manifest.names.into_iter().map(|name| name.name).collect();
                return Ok(Self {
                    entry,
                    pcapng,
                    packets: Packets::Located(packets, names),
                });
            }
            let (connections, (first, last)) = query::whole_connections(&opened.database, &scope).await?;
            (wanted.start, wanted.end) = (Some(first), Some(last));
            wanted.connections = Some(Arc::new(connections));
        }
        let folder = app.hub.snapshots.path(&entry);
        let export = tokio::task::spawn_blocking(move || Export::prepare(&folder, &manifest, &wanted))
            .await
            .map_err(ApiError::internal)??;
        let export = export.commented(clocks(app, &entry).await);
        Ok(Self {
            entry,
            pcapng,
            packets: Packets::Found(Box::new(export)),
        })
    }

    /// Bytes that it will have, where that is known beforehand.
    pub fn length(&self) -> Option<u64> {
        match &self.packets {
            Packets::Found(export) => export.length(),
            Packets::Located(..) => None,
        }
    }

    /// Writes it. Blocks; ends with an error as soon as `out` takes no more.
    pub fn write(self, out: impl Write) -> Result<u64, ExportError> {
        match self.packets {
            Packets::Found(export) => export.write(out),
            Packets::Located(packets, names) => packets.write(out, self.pcapng, &names),
        }
    }

    /// All of it, if that is no more than so many bytes.
    async fn bounded(self, app: &App, most: usize) -> Result<Option<Vec<u8>>, ApiError> {
        let _permit = app.export_permit()?;
        let export = tokio::task::spawn_blocking(move || -> Result<_, ExportError> {
            let mut bytes = Bounded {
                bytes: Vec::new(),
                most,
            };
            match self.write(&mut bytes) {
                Err(_) if bytes.bytes.len() >= bytes.most => Ok(None),
                written => written.map(|_| Some(bytes.bytes)),
            }
        });
        Ok(export.await.map_err(ApiError::internal)??)
    }
}

impl OfCalls {
    /// The dissection, which must be one of the snapshot.
    async fn open(&self, app: &App, entry: &SnapshotEntry) -> Result<Opened, ApiError> {
        let mut params = Params::default();
        params.give("db", json!(self.db.as_ref().unwrap_or(&entry.id)));
        let opened = calls::open(app, &mut params).await?;
        opened.completed()?;
        if opened.snapshot()? != entry.id {
            return Err(ApiError::bad_request(format!(
                "`db`: `{}` is no dissection of the snapshot `{}`",
                opened.db, entry.name
            )));
        }
        Ok(opened)
    }
}

/// How far the nodes' clocks were apart, for people; empty where no dissection of the snapshot is there to tell.
async fn clocks(app: &App, entry: &SnapshotEntry) -> String {
    let opened = OfCalls::default().open(app, entry).await;
    opened.map_or_else(
        |_| String::new(),
        |opened| OneClock::of(&opened.database.summary().clocks).told(),
    )
}

fn check_nodes(manifest: &Manifest, asked: &[String]) -> Result<(), ApiError> {
    let known = |asked: &&String| manifest.nodes.iter().any(|part| part.name == **asked);
    match asked.iter().find(|asked| !known(asked)) {
        None => Ok(()),
        Some(unknown) => Err(ApiError::from(ExportError::UnknownNode {
            asked: crate::snapshots::shown(unknown),
            there: manifest.nodes.iter().map(|part| part.name.clone()).collect(),
        })),
    }
}

/// Where the packets of a snapshot can be fetched, once it is sure that they can be (contract 3.3: a relative path).
pub async fn path(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let key = required(params, snapshots::KEYS)?;
    let asked = Asked::read(params)?;
    located(app, &key, asked).await
}

async fn located(app: &App, snapshot: &str, asked: Asked) -> Result<Value, ApiError> {
    let query = asked.query();
    // What is wrong is told here, not to whoever fetches the file.
    let Capture { entry, .. } = Capture::of(app, snapshot, asked).await?;
    Ok(json!({
        "path": format!("/mcp/snapshots/{}/pcap{query}", entry.id),
        "uri": format!("wiretape://snapshots/{}/pcap{query}", entry.id),
        "id": entry.id,
        "name": entry.name,
        "packet_count": entry.packets,
        "size_bytes": entry.bytes,
    }))
}

/// The same, for the packets of calls that match a filter, or of their whole connections.
pub async fn of_calls(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let kfl = params.text(&["kfl"])?;
    let whole = params.flag(&["whole_connections"])?.unwrap_or(true);
    let wanted = wanted(params)?;
    let opened = calls::open(app, params).await?;
    opened.completed()?;
    let question = CallsQuery {
        kfl: kfl.clone(),
        start: wanted.start.map(as_millis),
        end: wanted.end.map(as_millis),
        limit: Some(1),
        now: crate::now(),
        ..CallsQuery::default()
    };
    let page = query::calls(&opened.database, &question).await?;
    let scope = Scope {
        kfl: kfl.clone(),
        now: question.now,
        ..Scope::default()
    };
    let calls = page.total.min(scope.most()?.unwrap_or(u64::MAX));
    if let Some(explanation) = page.explanation {
        return Err(ApiError::not_found(format!("no call matches: {explanation}")));
    }
    let of_calls = OfCalls {
        db: Some(opened.db.clone()),
        kfl,
        whole,
    };
    let asked = Asked {
        wanted,
        of_calls: Some(of_calls),
    };
    let mut answer = located(app, opened.snapshot()?, asked).await?;
    opened.sign(&mut answer);
    answer["calls"] = json!(calls);
    Ok(answer)
}

/// The packets of the connection of a call, in base64, with what to do where they are too many.
pub(super) async fn of_connection(
    app: &App,
    opened: &Opened,
    id: &str,
    answer: &mut Value,
) -> Result<(), ApiError> {
    let (connections, (first, last)) = query::connection_of(&opened.database, id).await?;
    let asked = Asked {
        wanted: Wanted {
            connections: Some(Arc::new(connections)),
            start: Some(first),
            end: Some(last),
            ..Wanted::default()
        },
        of_calls: None,
    };
    let snapshot = match opened.snapshot() {
        Ok(snapshot) => snapshot,
        Err(error) => {
            answer["pcap_error"] = json!(error.message());
            return Ok(());
        }
    };
    let capture = Capture::of(app, snapshot, asked).await?;
    match capture.bounded(app, MAX_CONNECTION).await? {
        Some(bytes) => answer["pcap"] = json!(BASE64_STANDARD.encode(bytes)),
        None => {
            answer["pcap_error"] = json!(format!(
                "the connection's packets are more than {MAX_CONNECTION} bytes; fetch them with export_pcap"
            ));
        }
    }
    Ok(())
}

/// The packets themselves, if they are no more than so many bytes.
pub async fn bytes(app: &App, params: &mut Params, most: usize) -> Result<Option<Vec<u8>>, ApiError> {
    Capture::prepare(app, params).await?.bounded(app, most).await
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

impl Asked {
    fn read(params: &mut Params) -> Result<Self, ApiError> {
        let text = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        let of_calls = OfCalls {
            db: text(params.text(&["db"])?),
            kfl: text(params.text(&["kfl"])?),
            whole: params.flag(&["whole_connections"])?.unwrap_or_default(),
        };
        Ok(Self {
            wanted: wanted(params)?,
            of_calls: Some(of_calls).filter(|asked| *asked != OfCalls::default()),
        })
    }

    /// The query that [`Asked::read`] reads back.
    fn query(&self) -> String {
        let mut pairs: Vec<(&str, String)> = Vec::new();
        if let Some(OfCalls { db, kfl, whole }) = &self.of_calls {
            pairs.extend(db.clone().map(|db| ("db", db)));
            pairs.extend(kfl.clone().map(|kfl| ("kfl", kfl)));
            if *whole {
                pairs.push(("whole_connections", "true".to_owned()));
            }
        }
        let wanted = &self.wanted;
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
}

/// Reads which packets are wanted, and in which format.
fn wanted(params: &mut Params) -> Result<Wanted, ApiError> {
    let formats = [("pcap", false), ("pcapng", true)];
    Ok(Wanted {
        nodes: params.list(&["nodes"])?,
        start: params.moment(&["start_time", "start", "start_ts"])?,
        end: params.moment(&["end_time", "end", "end_ts"])?,
        bpf: params
            .text(&["bpf_filter", "bpf"])?
            .filter(|filter| !filter.trim().is_empty()),
        connections: None,
        pcapng: params.one_of(&["format"], &formats)?.unwrap_or_default(),
    })
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
    fn the_query_of_a_path_says_all_that_is_wanted() {
        let wanted = Wanted {
            nodes: vec!["node-1".to_owned(), "node 2".to_owned()],
            start: Some(1_500_000),
            end: Some(2_000_001),
            bpf: Some("tcp port 80".to_owned()),
            connections: None,
            pcapng: true,
        };
        let mut asked = Asked {
            wanted,
            of_calls: None,
        };
        assert_eq!(
            asked.query(),
            "?nodes=node-1%2Cnode%202&bpf_filter=tcp%20port%2080&start_time=1&end_time=3&format=pcapng"
        );
        asked.wanted = Wanted::default();
        assert_eq!(asked.query(), "");
        asked.of_calls = Some(OfCalls {
            db: Some("a/d".to_owned()),
            kfl: Some("error".to_owned()),
            whole: true,
        });
        assert_eq!(asked.query(), "?db=a%2Fd&kfl=error&whole_connections=true");
    }
}
