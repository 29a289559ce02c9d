//! What was said in the captures and in exchanges of our own, without the packets it was said in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use wiretape_dissect::testing::{Recorded, Who, dissect};
use wiretape_dissect::{End, FlowKey, Routed, Router};

use crate::own;

/// A connection or a flow of datagrams.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The protocols of its calls, HTTP/2 told from HTTP/1.
    pub protocols: BTreeSet<&'static str>,
    /// Whether it goes over TCP.
    pub stream: bool,
    /// What each said, in turn. The client is whoever spoke first.
    pub said: Vec<(Who, Vec<u8>)>,
}

/// Bytes kept of an exchange: the first ones are the most telling.
const BYTES: usize = 64 << 10;

/// Those of all captures, in the order of their files, and our own.
pub fn read(corpora: &Path) -> Result<Vec<Exchange>> {
    let mut all = Vec::new();
    for file in wiretape_captures::captures(corpora, &["."])? {
        let packets =
            wiretape_captures::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        all.extend(exchanges(&packets));
    }
    all.extend(own::talks().iter().flat_map(|talk| exchanges(&talk.packets)));
    Ok(all)
}

/// The payloads of each flow with the end that sent them, and the packets they came in.
#[derive(Default)]
struct Flow<'p> {
    stream: bool,
    said: Vec<(End, Vec<u8>)>,
    packets: Vec<&'p Recorded>,
}

fn exchanges(packets: &[Recorded]) -> Vec<Exchange> {
    let mut router = Router::new();
    let mut order: Vec<FlowKey> = Vec::new();
    let mut flows: BTreeMap<String, Flow<'_>> = BTreeMap::new();
    for packet in packets {
        let (key, end, payload, stream) = match router.route(&packet.packet()) {
            Routed::Segment { segment, .. } => {
                let payload = segment.payload(&packet.data).to_vec();
                (segment.flow, segment.from.end, payload, true)
            }
            Routed::Datagram { datagram, whole, .. } => {
                let payload = datagram
                    .payload(whole.as_deref().unwrap_or(&packet.data))
                    .to_vec();
                (datagram.flow, datagram.from.end, payload, false)
            }
            // Put together from fragments: its packets are not one.
            Routed::Owned { .. } | Routed::Held | Routed::Skipped(_) => continue,
        };
        if !order.contains(&key) {
            order.push(key);
        }
        let flow = flows.entry(format!("{key:?}")).or_default();
        flow.stream = stream;
        flow.packets.push(packet);
        if !payload.is_empty() {
            flow.said.push((end, payload));
        }
    }
    let flows = order.iter().filter_map(|key| flows.remove(&format!("{key:?}")));
    flows.filter_map(exchange).collect()
}

fn exchange(flow: Flow<'_>) -> Option<Exchange> {
    let (first, _) = flow.said.first()?;
    let client = *first;
    let calls = dissect(flow.packets).calls;
    let mut left = BYTES;
    let mut said = Vec::new();
    for (end, mut payload) in flow.said {
        payload.truncate(left);
        left -= payload.len();
        if payload.is_empty() {
            break;
        }
        said.push((if end == client { Who::Client } else { Who::Server }, payload));
    }
    Some(Exchange {
        protocols: calls
            .iter()
            .map(|call| match (call.protocol, call.version) {
                ("http", "HTTP/2") => "http2",
                (protocol, _) => protocol,
            })
            .collect(),
        stream: flow.stream,
        said,
    })
}
