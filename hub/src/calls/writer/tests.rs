use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{Int32Type, Int64Type, TimestampNanosecondType, UInt64Type};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use wiretape_dissect::{Call, Headers, Marks, Message, Observation, Outcome, Peer, Value};

use super::*;
use crate::calls::parts::Parts;
use crate::calls::schema::COLUMNS;
use crate::calls::{Names, Rows};
use crate::dissections::MAX_WORKERS;

/// More than a row group, and not a multiple of anything.
const CALLS: u64 = 70_001;

/// A call whose values reach for the ends of their columns; every so often it lacks half of them.
fn call(n: u64) -> Call {
    let mut headers = Headers::default();
    for field in 0..n % 7 {
        headers.push(
            ["Host", "X-Id", "HOST"][field as usize % 3],
            format!("{}", n * field).as_bytes(),
        );
    }
    // Too many names for any dictionary.
    headers.push(format!("x-{n}"), b"");
    let message = |headers: Headers| Message {
        headers,
        seq: u32::MAX.wrapping_sub(n as u32),
        wire_len: n.pow(3),
        packets: (0..n % 5).map(|p| u64::MAX - p * n).collect(),
        ..Message::default()
    };
    let peer = |last| Peer {
        address: std::net::SocketAddr::from(([10, 0, (n % 200) as u8, last], n as u16)),
        tape: None,
        cgroup: 0,
    };
    let start = 1_700_000_000_000_000_000 + n * n;
    Call {
        stream: n.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        index: n as u32,
        protocol: "http",
        version: "",
        client: peer(1),
        server: peer(2),
        method: ["GET", "", "POST"][n as usize % 3].into(),
        path: format!("/{n}"),
        query: String::new(),
        authority: "a".repeat(n as usize % 300),
        status: (!n.is_multiple_of(4)).then_some(if n.is_multiple_of(2) { i32::MIN } else { i32::MAX }),
        outcome: Outcome::Ok,
        request: (!n.is_multiple_of(3)).then(|| message(headers.clone())),
        response: (!n.is_multiple_of(5)).then(|| message(headers)),
        marks: Marks(n as u32),
        client_side: None,
        server_side: Some(Observation {
            tape: 0,
            request: Some((start, start)),
            response: n.is_multiple_of(2).then_some((start, start + n)),
        }),
        unknown_side: None,
        fields: vec![("n", Value::Int(-1))],
    }
}

#[test]
fn calls_come_back_from_the_file_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part-0.parquet");
    let rows = Rows::new(Arc::new(Names::new(Vec::new())), Arc::from(["n".to_owned()]));
    let mut part = PartWriter::create(&path, rows, 1).unwrap();
    for n in (0..CALLS).step_by(16) {
        let calls: Vec<Call> = (n..CALLS.min(n + 16)).map(call).collect();
        part.push(&calls).unwrap();
    }
    part.finish().unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    assert!(reader.metadata().num_row_groups() > 1);
    for chunk in reader
        .metadata()
        .row_groups()
        .iter()
        .flat_map(|group| group.columns())
    {
        let name = chunk.column_path().parts().first().unwrap();
        let column = COLUMNS.iter().find(|column| column.name == name).unwrap();
        assert_eq!(chunk.statistics().is_some(), column.has_statistics(), "{name}");
    }
    let mut n = 0;
    for batch in reader.build().unwrap() {
        let batch = batch.unwrap();
        for row in 0..batch.num_rows() {
            check(&batch, row, &call(n));
            n += 1;
        }
    }
    assert_eq!(n, CALLS);
    entries(&Parts::open(folder.path()).unwrap());
}

/// What is under one key of a map is what was sent, read by itself.
fn entries(parts: &Parts) {
    let sent: Vec<Option<Headers>> = (0..CALLS)
        .map(|n| call(n).request.map(|message| message.headers))
        .collect();
    for (key, every) in [
        ("host", 1),
        ("x-id", 1),
        ("x-id", 997),
        ("x-69998", 1),
        ("x-none", 2),
    ] {
        let mut calls = sent.iter();
        for group in parts.groups() {
            let among = BooleanBuffer::collect_bool(group.rows(), |row| row % every == 0);
            let calls = calls.by_ref().take(group.rows());
            let expected: Vec<Option<&str>> = calls
                .enumerate()
                .filter(|(row, _)| among.value(*row))
                .map(|(_, sent)| {
                    let mut fields = sent.iter().flat_map(Headers::iter);
                    fields
                        .find(|(name, _)| name.eq_ignore_ascii_case(key))
                        .map(|(_, value)| value)
                })
                .collect();
            let read = group.entry("req_headers", key, &among).unwrap();
            let read: Vec<Option<&str>> = read.iter().collect();
            assert_eq!(read, expected, "{key}");
            let has = group.has_entry("req_headers", key, &among).unwrap();
            assert!(has.iter().eq(expected.iter().map(Option::is_some)), "{key}");
        }
        assert!(calls.next().is_none());
    }
}

#[test]
fn row_groups_of_a_dissection_under_way_are_closed_now_and_then_and_tell_until_when_they_are_complete() {
    let folder = tempfile::tempdir().unwrap();
    let tables = Arc::new(Growing::default());
    tables.workers(2);
    let rows = Rows::new(Arc::new(Names::new(Vec::new())), Arc::from(["n".to_owned()]));
    let path = folder.path().join("part-0.parquet");
    let mut part = PartWriter::create(&path, rows, 1)
        .unwrap()
        .growing(&tables)
        .unwrap();
    let at = |age| {
        let state = tables.after(age).unwrap();
        (state.rows("calls"), state.complete_until)
    };
    part.push(&[call(1)]).unwrap();
    part.show().unwrap();
    assert_eq!(at(None), (0, None), "it is young");
    part.last = part.last.checked_sub(SHOWN_AFTER).unwrap();
    part.show().unwrap();
    // One worker is ahead of the other.
    tables.complete(0, 20);
    assert_eq!(at(None), (1, None));
    tables.complete(1, 10);
    assert_eq!(at(None), (1, Some(10)));
    part.push(&[call(2), call(3)]).unwrap();
    tables.complete(1, 30);
    // It never goes back.
    tables.complete(0, 15);
    assert_eq!(at(None), (1, Some(20)));
    part.last = part.last.checked_sub(SHOWN_AFTER).unwrap();
    part.show().unwrap();
    tables.complete(0, 40);
    assert_eq!(at(None), (3, Some(30)));
    // A page of an earlier state says what was complete then.
    assert_eq!((at(Some(0)), at(Some(1))), ((0, None), (1, Some(20))));
    part.finish().unwrap();
    assert_eq!(tables.age(), 2, "there was nothing left to close");
}

#[test]
fn row_groups_of_all_workers_share_one_memory() {
    let folder = tempfile::tempdir().unwrap();
    for workers in [1, MAX_WORKERS] {
        let path = folder.path().join(format!("{workers}.parquet"));
        let rows = Rows::new(Arc::new(Names::new(Vec::new())), Arc::from(["n".to_owned()]));
        let mut part = PartWriter::create(&path, rows, workers).unwrap();
        let share = Rows::MEMORY / workers;
        let (mut most, mut groups) = (0, 0);
        for n in 0..CALLS / 16 {
            // Heads that are long, and do not repeat.
            let calls: Vec<Call> = (16 * n..16 * (n + 1))
                .map(|n| {
                    let mut call = call(n);
                    if let Some(request) = &mut call.request {
                        for field in 0..100_u64 {
                            let value = (n * 100 + field).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                            request
                                .headers
                                .push("x", format!("{value:x}{:x}", value.rotate_left(9)).as_bytes());
                        }
                    }
                    call
                })
                .collect();
            let before = part.rows.len();
            part.push(&calls).unwrap();
            groups += u32::from(part.rows.len() < before);
            most = most.max(part.rows.memory());
            if groups == 2 {
                break;
            }
        }
        assert_eq!(groups, 2, "so many rows fill a share twice");
        // What comes between two looks is over it.
        assert!(
            (share / 2..share + share / 2).contains(&most),
            "{most} of {share} for each of {workers}"
        );
    }
}

fn check(batch: &RecordBatch, row: usize, call: &Call) {
    let column = |name: &str| batch.column_by_name(name).unwrap();
    let text = |name: &str| column(name).as_string::<i32>().value(row).to_owned();
    let start = call.server_side.unwrap().request.unwrap().0;
    let ts = column("ts").as_primitive::<TimestampNanosecondType>().value(row);
    assert_eq!(ts.cast_unsigned(), start);
    assert_eq!(
        column("stream").as_primitive::<UInt64Type>().value(row),
        call.stream
    );
    assert_eq!(
        column("index")
            .as_primitive::<Int32Type>()
            .value(row)
            .cast_unsigned(),
        call.index
    );
    assert_eq!(text("src_ip"), call.client.address.ip().to_string());
    assert_eq!(text("method"), call.method);
    assert_eq!(text("path"), call.path);
    assert_eq!(text("authority"), call.authority);
    assert_eq!(text("src_pod"), "");
    let status = column("status").as_primitive::<Int32Type>();
    assert_eq!(status.is_valid(row).then(|| status.value(row)), call.status);
    let marks = column("marks").as_primitive::<Int32Type>().value(row);
    assert_eq!(marks.cast_unsigned(), call.marks.0);
    assert!(column("client_req_first").is_null(row));
    assert_eq!(
        column("server_resp_last").is_null(row),
        call.server_side.unwrap().response.is_none()
    );
    for (message, side) in [(&call.request, "req"), (&call.response, "resp")] {
        let name = |what: &str| format!("{side}_{what}");
        let bytes = batch
            .column_by_name(&name("bytes"))
            .unwrap()
            .as_primitive::<Int64Type>();
        assert_eq!(
            bytes.is_valid(row).then(|| bytes.value(row).cast_unsigned()),
            message.as_ref().map(|m| m.wire_len)
        );
        let packets = batch
            .column_by_name(&name("packets"))
            .unwrap()
            .as_list::<i32>()
            .value(row);
        let expected = message.as_ref().map_or(&[][..], |m| &*m.packets);
        assert_eq!(packets.as_primitive::<UInt64Type>().values(), expected);
        let headers = batch
            .column_by_name(&name("headers"))
            .unwrap()
            .as_map()
            .value(row);
        let (keys, values) = (
            headers.column(0).as_string::<i32>(),
            headers.column(1).as_string::<i32>(),
        );
        let stored: Vec<_> = keys.iter().flatten().zip(values.iter().flatten()).collect();
        let sent: Vec<_> = message.iter().flat_map(|m| m.headers.iter()).collect();
        let sent: Vec<_> = sent.iter().map(|(k, v)| (k.to_ascii_lowercase(), *v)).collect();
        assert!(
            stored
                .iter()
                .copied()
                .eq(sent.iter().map(|(k, v)| (k.as_str(), *v)))
        );
    }
    let fields = column("fields").as_map().value(row);
    assert_eq!(fields.column(1).as_string::<i32>().value(0), "-1");
}
