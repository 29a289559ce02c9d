//! The translation held against the language's own evaluator: the same rows for every filter.

use std::borrow::Cow;
use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::prelude::{DataFrame, SessionContext};
use tempfile::TempDir;
use wiretape_dissect::{Call, Headers, Marks, Message, Observation, Outcome, Peer, Value as FieldValue};
use wiretape_kfl::{Field, Kind, Value, evaluate};
use wiretape_tape::{Name, Nanos};

use super::super::entries::Asked;
use super::super::functions::{cookies, query_parameters};
use super::super::predicate::Predicate;
use super::super::row::Row;
use super::*;
use crate::calls::parts::Parts;
use crate::calls::{Names, NodeName, PartWriter, Rows, session};

mod random;

use random::Random;

const NOW: Nanos = 1_700_000_100_000_000_000;

/// Filters made for the property.
const FILTERS: usize = 400;

#[tokio::test]
async fn any_filter_finds_the_rows_that_the_evaluator_finds() {
    let table = Stored::new();
    let batch = &table.batch;
    let mut random = Random(0x5eed);
    let (mut compiled, mut decided, mut computed) = (0, 0, 0);
    for _ in 0..FILTERS {
        let text = random.condition(3);
        let Ok(filter) = wiretape_kfl::compile(&text, NOW) else {
            continue;
        };
        compiled += 1;
        let expected: Vec<usize> = entries(batch)
            .filter(|entry| evaluate(&filter, entry))
            .map(|entry| entry.number)
            .collect();
        computed += usize::from(!filter.computed().is_empty());
        let found = table
            .run(&filter)
            .await
            .unwrap_or_else(|error| panic!("{text}\n{error}"));
        assert_eq!(found, expected, "{text}\nread as {filter}");
        decided += usize::from(!expected.is_empty() && expected.len() < batch.num_rows());
    }
    // A generator whose filters are all wrong, or all trivial, proves nothing.
    assert!(compiled > FILTERS * 3 / 4, "only {compiled} of {FILTERS} compile");
    assert!(
        decided > FILTERS / 4,
        "only {decided} of {FILTERS} tell rows apart"
    );
    assert!(
        computed > FILTERS / 4,
        "only {computed} of {FILTERS} are computed entry by entry"
    );
}

#[tokio::test]
async fn every_field_is_what_the_evaluator_sees() {
    let table = Stored::new();
    for info in wiretape_kfl::FIELDS
        .iter()
        .filter(|info| bodies::column(info.field).is_none())
    {
        let name = info.name;
        let texts: Vec<String> = match info.kind {
            Kind::Text => vec![
                format!("{name} == \"\""),
                format!("{name} > \"m\""),
                format!("{name}.lowerAscii() + \"!\" > \"m\""),
                format!("size({name}) > 3"),
            ],
            Kind::Int | Kind::Float => vec![
                format!("{name} >= 1"),
                format!("!({name} < 200)"),
                format!("{name} != null"),
            ],
            Kind::Bool => vec![
                name.to_owned(),
                format!("{name} == false"),
                format!("[1, 2].exists_one(n, {name} and n > src.port - src.port + 1)"),
            ],
            Kind::Time => vec![format!("{name} < now()")],
            Kind::List => vec![
                format!("\"web-1\" in {name}"),
                format!("size({name}) >= 1"),
                format!("{name}.exists(item, item.endsWith(\"1\") or item contains \"o\")"),
            ],
            Kind::Map => vec![
                format!("{name}[\"name\"] != \"\""),
                format!("\"app\" in {name}"),
                format!("size({name}) == 0"),
                format!("{name}.exists(key, {name}[key] contains \"e\")"),
            ],
        };
        for text in texts {
            let filter = wiretape_kfl::compile(&text, NOW).unwrap_or_else(|error| panic!("{text}: {error}"));
            // These have a table of their own, and tests of their own (`tests/query/connections.rs`).
            if !Asked::by(&filter).is_calls() {
                continue;
            }
            let expected: Vec<usize> = entries(&table.batch)
                .filter(|entry| evaluate(&filter, entry))
                .map(|entry| entry.number)
                .collect();
            assert_eq!(table.run(&filter).await.unwrap(), expected, "{text}");
        }
    }
}

#[tokio::test]
async fn an_entry_that_takes_too_many_steps_does_not_match_and_is_told() {
    let table = Stored::new();
    // More than a hundred characters, and so more than a million rounds of the innermost loop.
    let items = format!("(id + \"{}\").split(\"\")", "x".repeat(110));
    let all = |name: &str, inner: &str| format!("{items}.all({name}, {inner})");
    let text = all("a", &all("b", &all("c", "a + b + c != \"!\"")));
    let filter = wiretape_kfl::compile(&text, NOW).unwrap();
    let gave_up = GaveUp::default();
    let condition = condition(&filter, &gave_up).unwrap().unwrap();
    let found = table
        .calls()
        .await
        .filter(condition)
        .unwrap()
        .collect()
        .await
        .unwrap();
    assert_eq!(Row::each(&found).count(), 0);
    assert!(gave_up.load(std::sync::atomic::Ordering::Relaxed));
}

#[tokio::test]
async fn as_many_conditions_as_are_allowed() {
    let table = Stored::new();
    for operator in ["and", "or"] {
        let many = |count: usize| vec!["path != \"x\""; count].join(&format!(" {operator} "));
        // Each of them stands within its protocol, which is one more.
        let most = MAX_CONDITIONS / 2;
        let filter = wiretape_kfl::compile(&many(most), NOW).unwrap();
        assert!(table.run(&filter).await.is_ok(), "{operator}");
        let filter = wiretape_kfl::compile(&many(MAX_CONDITIONS + 1), NOW).unwrap();
        let refused = condition(&filter, &GaveUp::default()).unwrap_err().to_string();
        assert!(
            refused.contains("put alternatives for one field into a list"),
            "{refused}"
        );
    }
}

/// The rows as the real writer stores them, and as the hub's session reads them.
struct Stored {
    batch: RecordBatch,
    session: SessionContext,
    parts: Parts,
    _folder: TempDir,
}

impl Stored {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part-0.parquet");
        let mut part = PartWriter::create(&path, rows(), 1).unwrap();
        part.push(&(0..48).map(call).collect::<Vec<Call>>()).unwrap();
        part.finish().unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
        let none = folder.path().join("none");
        Self {
            batch: reader.build().unwrap().next().unwrap().unwrap(),
            session: session::open(folder.path(), &none, &none, &none).unwrap(),
            parts: Parts::open(folder.path()).unwrap(),
            _folder: folder,
        }
    }

    async fn calls(&self) -> DataFrame {
        self.session.table(session::TABLE).await.unwrap()
    }

    /// Numbers of the rows that a filter finds.
    async fn run(&self, filter: &Filter) -> datafusion::error::Result<Vec<usize>> {
        let mut table = self.calls().await;
        if let Some(condition) = condition(filter, &GaveUp::default()).unwrap() {
            table = table.filter(condition)?;
        }
        let found = table.collect().await?;
        let mut numbers: Vec<usize> = Row::each(&found)
            .map(|row| usize::try_from(row.id("stream")).unwrap())
            .collect();
        numbers.sort_unstable();
        assert_eq!(self.by_row_group(filter)?, numbers, "by the row group: {filter}");
        Ok(numbers)
    }

    /// The same, as calls are looked through.
    fn by_row_group(&self, filter: &Filter) -> datafusion::error::Result<Vec<usize>> {
        let Some(condition) = condition(filter, &GaveUp::default()).unwrap() else {
            return Ok((0..self.batch.num_rows()).collect());
        };
        let predicate = Predicate::new(&self.session, condition)?;
        let group = &self.parts.groups()[0];
        if predicate.may_match(self.parts.groups()) == [false] {
            return Ok(Vec::new());
        }
        let matching = predicate.matching(group)?;
        Ok(matching.set_indices().collect())
    }
}

fn entries(batch: &RecordBatch) -> impl Iterator<Item = Entry<'_>> {
    Row::each(std::slice::from_ref(batch))
        .enumerate()
        .map(|(number, row)| Entry { number, row })
}

/// Calls of every shape: named and not, answered and not, of two protocols, with numbers at both ends of their range.
fn rows() -> Rows {
    let name = |pod: &str, address: &str, process: &str, cgroup| NodeName {
        node: "node-1".to_owned(),
        name: Name {
            cgroup,
            process: process.to_owned(),
            addresses: vec![address.parse().unwrap()],
            pod: pod.to_owned(),
            namespace: "shop".to_owned(),
            service: pod.trim_end_matches("-1").to_owned(),
            labels: [("app".to_owned(), pod.to_owned())].into(),
            ..Name::default()
        },
    };
    let names = Names::new(vec![
        name("web-1", "10.0.0.1", "nginx", 7),
        name("db-1", "10.0.0.2", "", 0),
    ]);
    Rows::new(
        Arc::new(names),
        Arc::from(["node-1".to_owned(), "node-2".to_owned()]),
    )
}

fn call(number: u64) -> Call {
    let pick = |of: u64| number / 2 % of;
    let peer = |address: &str, tape| Peer {
        address: address.parse::<SocketAddr>().unwrap(),
        tape,
        cgroup: 7,
    };
    let mut headers = Headers::default();
    headers.push("Host", b"shop.example");
    headers.push("X-Name", format!("v{}", pick(3)).as_bytes());
    headers.push("X-Name", b"second");
    headers.push("Cookie", b"id=42; theme=dark");
    let message = |headers: Headers| Message {
        headers,
        seq: 1,
        head_len: 100,
        body_len: pick(4) * 50,
        wire_len: 300,
        ..Message::default()
    };
    let (answered, asked) = (!number.is_multiple_of(5), !number.is_multiple_of(7));
    let start = NOW - number * 1_000_000_000;
    let observation = Observation {
        tape: u16::from(number.is_multiple_of(2)),
        request: asked.then_some((start, start + 1)),
        response: answered.then_some((start + 2, start + 1_500_000 * number)),
    };
    let side = |wanted: &[u64]| wanted.contains(&(number % 4)).then_some(observation);
    let mut marks = Marks::default();
    if !answered {
        marks.set(Marks::NO_RESPONSE);
    }
    if number.is_multiple_of(3) {
        marks.set(Marks::JOINED);
    }
    Call {
        stream: number,
        index: u32::try_from(number % 3).unwrap(),
        protocol: if number.is_multiple_of(6) { "redis" } else { "http" },
        version: "HTTP/1.1",
        client: peer(
            if number.is_multiple_of(2) {
                "10.0.0.1:40000"
            } else {
                "10.0.0.9:40001"
            },
            Some(0),
        ),
        server: peer("10.0.0.2:80", None),
        method: ["GET", "POST", ""][pick(3) as usize].into(),
        path: ["/api/v1/checkout", "/", "", "/ä%20_b"][pick(4) as usize].to_owned(),
        query: ["", "a=1&b=x%20y", "a=&a=2"][pick(3) as usize].to_owned(),
        authority: "shop.example".to_owned(),
        status: answered.then_some([200, 404, 503][pick(3) as usize]),
        outcome: [Outcome::Ok, Outcome::ClientError, Outcome::ServerError][pick(3) as usize],
        request: asked.then(|| message(headers.clone())),
        response: answered.then(|| message(headers)),
        marks,
        client_side: side(&[0, 1]),
        server_side: side(&[0, 2]),
        unknown_side: side(&[3]),
        fields: vec![
            ("redis_type", FieldValue::Text("GET".into())),
            (
                "redis_total_size",
                FieldValue::Int(i64::try_from(number).unwrap() - 10),
            ),
            ("dns_request", FieldValue::Bool(true)),
        ],
    }
}

/// A row as the evaluator sees it, written from the language's description and not from the translation.
struct Entry<'b> {
    number: usize,
    row: Row<'b>,
}

impl Entry<'_> {
    fn local(&self, client: &'static str, server: &'static str) -> &'static str {
        if self.row.text("side") == "server" {
            server
        } else {
            client
        }
    }

    fn text(&self, column: &str) -> Value<'_> {
        Value::Text(Cow::Borrowed(self.row.text(column)))
    }

    fn int(&self, column: &str) -> Value<'_> {
        self.row.int(column).map_or(Value::Missing, Value::Int)
    }

    fn first_of(&self, columns: &[&str]) -> Value<'_> {
        let known = columns
            .iter()
            .map(|column| self.row.text(column))
            .find(|text| !text.is_empty());
        Value::Text(Cow::Borrowed(known.unwrap_or_default()))
    }

    fn both(&self, columns: [&str; 2]) -> Value<'_> {
        let mut texts: Vec<Cow<'_, str>> = columns
            .iter()
            .map(|column| Cow::Borrowed(self.row.text(column)))
            .collect();
        texts.retain(|text| !text.is_empty());
        texts.dedup();
        Value::List(texts)
    }

    fn map(&self, field: Field) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
        let column = |name: &str| {
            self.row
                .map(name)
                .into_iter()
                .map(|(k, v)| (Cow::Borrowed(k), Cow::Borrowed(v)))
                .collect::<Vec<_>>()
        };
        let of_headers = |name: &str, header: &str| {
            let fields = self.row.map(name).into_iter().filter(|(key, _)| *key == header);
            fields
                .flat_map(|(_, value)| cookies(header, value))
                .map(|(k, v)| (Cow::Borrowed(k), Cow::Borrowed(v)))
                .collect()
        };
        match field {
            Field::LocalLabels => column(self.local("src_labels", "dst_labels")),
            Field::RemoteLabels => column(self.local("dst_labels", "src_labels")),
            Field::LocalAnnotations => column(self.local("src_annotations", "dst_annotations")),
            Field::RemoteAnnotations => column(self.local("dst_annotations", "src_annotations")),
            Field::RequestHeaders => column("req_headers"),
            Field::ResponseHeaders => column("resp_headers"),
            Field::RequestCookies => of_headers("req_headers", "cookie"),
            Field::ResponseCookies => of_headers("resp_headers", "set-cookie"),
            Field::QueryString => query_parameters(self.row.text("query")).collect(),
            Field::Node => vec![(Cow::Borrowed("name"), Cow::Borrowed(self.row.text("node")))],
            Field::Capture => vec![(Cow::Borrowed("source"), Cow::Borrowed("unspecified"))],
            _ => Vec::new(),
        }
    }
}

impl wiretape_kfl::Row for Entry<'_> {
    fn get(&self, field: Field) -> Value<'_> {
        let row = self.row;
        let http = row.text("protocol") == "http";
        match field {
            Field::SrcIp => self.text("src_ip"),
            Field::SrcPort => self.int("src_port"),
            Field::SrcName => self.first_of(&["src_pod", "src_service", "src_dns", "src_process"]),
            Field::SrcNamespace | Field::SrcPodNamespace | Field::SrcServiceNamespace => {
                self.text("src_namespace")
            }
            Field::SrcPodName => self.text("src_pod"),
            Field::SrcServiceName => self.text("src_service"),
            Field::SrcDns => self.text("src_dns"),
            Field::DstDns => self.text("dst_dns"),
            Field::DnsResolutions => self.both(["src_dns", "dst_dns"]),
            Field::SrcProcess => self.text("src_process"),
            Field::SrcNode => self.text("src_node"),
            Field::SrcOwner => self.text("src_owner"),
            Field::SrcOwnerKind => self.text("src_owner_kind"),
            Field::SrcContainer => self.text("src_container"),
            Field::DstIp => self.text("dst_ip"),
            Field::DstPort => self.int("dst_port"),
            Field::DstName => self.first_of(&["dst_pod", "dst_service", "dst_dns", "dst_process"]),
            Field::DstNamespace | Field::DstPodNamespace | Field::DstServiceNamespace => {
                self.text("dst_namespace")
            }
            Field::DstPodName => self.text("dst_pod"),
            Field::DstServiceName => self.text("dst_service"),
            Field::DstProcess => self.text("dst_process"),
            Field::DstNode => self.text("dst_node"),
            Field::DstOwner => self.text("dst_owner"),
            Field::DstOwnerKind => self.text("dst_owner_kind"),
            Field::DstContainer => self.text("dst_container"),
            Field::Namespaces => self.both(["src_namespace", "dst_namespace"]),
            Field::Pods => self.both(["src_pod", "dst_pod"]),
            Field::Services => self.both(["src_service", "dst_service"]),
            Field::LocalProcessName => self.text(self.local("src_process", "dst_process")),
            Field::RemoteProcessName => self.text(self.local("dst_process", "src_process")),
            Field::LocalResolutionStatus => self.text(self.local("src_resolution", "dst_resolution")),
            Field::RemoteResolutionStatus => self.text(self.local("dst_resolution", "src_resolution")),
            Field::LocalNodeName => self.text(self.local("src_node", "dst_node")),
            Field::RemoteNodeName => self.text(self.local("dst_node", "src_node")),
            Field::NodeName | Field::NodeId | Field::Worker => self.text("node"),
            Field::Protocol => self.text("protocol"),
            Field::Timestamp => row.time("ts").map_or(Value::Missing, Value::Time),
            Field::ElapsedTime => row
                .int("elapsed_ns")
                .map_or(Value::Missing, |ns| Value::Int(ns / 1000)),
            Field::Outcome => self.text("outcome"),
            Field::Marks => {
                let marks = Marks(u32::try_from(row.int("marks").unwrap()).unwrap());
                Value::List(marks.names().map(Cow::Borrowed).collect())
            }
            Field::Outgoing => Value::Bool(["client", "both"].contains(&row.text("side"))),
            Field::Id => Value::Text(Cow::Owned(row.call_id())),
            Field::Stream => Value::Text(Cow::Owned(format!("{:x}", row.id("stream")))),
            Field::Index => self.int("index"),
            Field::ConnId => self.int("conn_id"),
            Field::FlowId => self.int("flow_id"),
            Field::HasPcap => Value::Bool(row.int("req_seq").is_some() || row.int("resp_seq").is_some()),
            Field::CaptureSource => Value::Text(Cow::Borrowed("unspecified")),
            Field::CaptureSourceCode => Value::Int(0),
            Field::Http => Value::Bool(http),
            Field::Redis => Value::Bool(!http),
            Field::StatusCode => self.int("status"),
            Field::Method => self.text("method"),
            Field::Url => {
                let (path, query) = (row.text("path"), row.text("query"));
                let url = if query.is_empty() {
                    path.to_owned()
                } else {
                    format!("{path}?{query}")
                };
                Value::Text(Cow::Owned(url))
            }
            Field::Path => self.text("path"),
            Field::Authority => self.text("authority"),
            Field::HttpVersion => self.text("version"),
            Field::RequestHeadersSize => self.int("req_head_bytes"),
            Field::RequestBodySize => self.int("req_body_bytes"),
            Field::ResponseHeadersSize => self.int("resp_head_bytes"),
            Field::ResponseBodySize => self.int("resp_body_bytes"),
            map if map.kind() == Kind::Map => Value::Map(self.map(map).len()),
            of_protocol => {
                let told = row
                    .map("fields")
                    .into_iter()
                    .find(|(name, _)| *name == of_protocol.name());
                match (of_protocol.kind(), told) {
                    (_, None) => Value::Missing,
                    (Kind::Int, Some((_, value))) => Value::Int(value.parse().unwrap()),
                    (Kind::Bool, Some((_, value))) => Value::Bool(value == "true"),
                    (_, Some((_, value))) => Value::Text(Cow::Borrowed(value)),
                }
            }
        }
    }

    fn map_get(&self, map: Field, key: &str) -> Option<Cow<'_, str>> {
        self.map(map)
            .into_iter()
            .find(|(k, _)| k == key)
            .map(|(_, value)| value)
    }

    fn map_entries(&self, map: Field) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
        self.map(map)
    }
}
