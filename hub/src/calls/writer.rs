//! Rows become Parquet: one part per worker, each written by itself.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::parquet::arrow::{ArrowSchemaConverter, add_encoded_arrow_schema_to_metadata};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::metadata::FileMetaData;
use datafusion::parquet::file::properties::{WriterProperties, WriterVersion};
use datafusion::parquet::file::writer::SerializedFileWriter;
use datafusion::parquet::schema::types::SchemaDescPtr;

use super::WriteError;
use super::columns::{Leaf, PartFile};
use super::growing::{Growing, Teller};

/// Most rows of a row group: the unit that a query skips by its statistics, and reads in parallel.
const ROW_GROUP_ROWS: usize = 64 * 1024;

/// Rows after which it is looked how much memory they take.
const LOOK: usize = 256;

/// Longest time that rows wait in a row group under way, where somebody may ask for them already.
const SHOWN_AFTER: Duration = Duration::from_secs(5);

/// Bytes collected before they are written to the file.
const FILE_BUFFER: usize = 256 << 10;

/// The rows of a table in the making.
pub trait Table {
    /// What becomes a row.
    type Record;

    /// The table's name.
    const NAME: &'static str;

    /// Bytes that all writers of a job together hold back in unfinished row groups. Each worker's share closes its row
    /// group early, so that memory does not grow with the number of workers.
    const MEMORY: usize;

    /// The table's schema.
    fn schema() -> SchemaRef;

    /// Appends rows.
    fn push(&mut self, records: &[Self::Record]);

    /// How many rows the row group under way has.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the row group under way holds, roughly.
    fn memory(&mut self) -> usize;

    /// Hands over each leaf of the table's schema, in its order, to end the row group. There are no rows then.
    fn finish(&mut self, take: &mut TakeLeaf<'_>) -> Result<(), ParquetError>;
}

/// Takes a leaf whose row group ends.
pub type TakeLeaf<'t> = dyn FnMut(&mut dyn Leaf) -> Result<(), ParquetError> + 't;

/// One part of a table, being written.
pub struct PartWriter<T> {
    path: PathBuf,
    /// Tens of kilobytes of columns, which would be moved with every worker.
    rows: Box<T>,
    writer: SerializedFileWriter<PartFile>,
    columns: SchemaDescPtr,
    memory: usize,
    /// Who tells of its row groups before it ends.
    teller: Option<Teller>,
    /// Row groups that are closed.
    closed: usize,
    /// When the last one was.
    last: Instant,
}

/// A whole part, which the disk need not have yet.
#[derive(Debug)]
pub struct Written {
    path: PathBuf,
    file: File,
}

impl Written {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file, whole but for the disk to have it.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl<T: Table> PartWriter<T> {
    /// Creates the file. `workers` is how many such parts are written at the same time.
    pub fn create(path: &Path, rows: T, workers: usize) -> Result<Self, WriteError> {
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).open(path);
        let file = file.map_err(|source| WriteError::io(path, source))?;
        let file = BufWriter::with_capacity(FILE_BUFFER, file);
        let (columns, writer) = open(file, &T::schema()).map_err(|e| WriteError::format(path, e))?;
        let memory = T::MEMORY / workers.max(1);
        Ok(Self {
            path: path.to_owned(),
            rows: Box::new(rows),
            writer,
            columns,
            memory,
            teller: None,
            closed: 0,
            last: Instant::now(),
        })
    }

    /// Lets its rows be asked for before it ends.
    ///
    /// # Errors
    /// The file cannot be opened once more.
    pub fn growing(mut self, tables: &Arc<Growing>) -> Result<Self, WriteError> {
        let file = self.writer.inner().get_ref().try_clone();
        let file = file.map_err(|source| WriteError::io(&self.path, source))?;
        let properties = self.writer.properties();
        let footer = FileMetaData::new(
            properties.writer_version().as_num(),
            0,
            Some(properties.created_by().to_owned()),
            properties.key_value_metadata().cloned(),
            Arc::clone(&self.columns),
            None,
        );
        self.teller = Some(tables.part(T::NAME, &self.path, file, footer));
        Ok(self)
    }

    /// Appends rows, of which few at a time cost least.
    pub fn push(&mut self, records: &[T::Record]) -> Result<(), WriteError> {
        let before = self.rows.len();
        self.rows.push(records);
        let rows = self.rows.len();
        let look = before / LOOK != rows / LOOK;
        if look && (rows >= ROW_GROUP_ROWS || self.rows.memory() >= self.memory) {
            self.write_row_group()?;
        }
        Ok(())
    }

    /// Whether no row waits in a row group under way.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many row groups are closed.
    pub fn closed(&self) -> usize {
        self.closed
    }

    /// Closes the row group under way if none was closed for long. To be called now and then.
    pub fn show(&mut self) -> Result<(), WriteError> {
        if self.last.elapsed() < SHOWN_AFTER {
            return Ok(());
        }
        self.end_row_group()
    }

    /// Closes the row group under way, if there are rows in it.
    pub fn end_row_group(&mut self) -> Result<(), WriteError> {
        self.last = Instant::now();
        if self.is_empty() {
            return Ok(());
        }
        self.write_row_group()
    }

    /// Writes what is left, and the footer.
    pub fn finish(mut self) -> Result<Written, WriteError> {
        self.end_row_group()?;
        let path = self.path;
        let buffered = self
            .writer
            .into_inner()
            .map_err(|e| WriteError::format(&path, e))?;
        match buffered.into_inner() {
            Ok(file) => Ok(Written { path, file }),
            Err(error) => Err(WriteError::io(&path, error.into_error())),
        }
    }

    fn write_row_group(&mut self) -> Result<(), WriteError> {
        let columns = self.columns.columns();
        let mut write = || {
            let mut group = self.writer.next_row_group()?;
            let mut next = columns.iter();
            self.rows.finish(&mut |leaf| {
                let column = next
                    .next()
                    .ok_or_else(|| ParquetError::General("more columns than the schema has".to_owned()))?;
                leaf.finish(Arc::clone(column), &mut group)
            })?;
            group.close()
        };
        let group = write().map_err(|e| WriteError::format(&self.path, e))?;
        self.closed += 1;
        self.last = Instant::now();
        if let Some(teller) = &self.teller {
            let flushed = self.writer.flush();
            flushed.map_err(|source| WriteError::io(&self.path, source))?;
            teller.closed(group);
        }
        Ok(())
    }
}

impl WriteError {
    fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    fn format(path: &Path, error: impl std::fmt::Display) -> Self {
        Self::Format {
            path: path.to_owned(),
            message: error.to_string(),
        }
    }
}

/// Begins a file whose schema is the table's, in Parquet's terms and in Arrow's.
fn open(
    file: PartFile,
    schema: &SchemaRef,
) -> Result<(SchemaDescPtr, SerializedFileWriter<PartFile>), ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(concat!("wiretape-hub ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    add_encoded_arrow_schema_to_metadata(schema, &mut properties);
    let columns = Arc::new(ArrowSchemaConverter::new().convert(schema)?);
    let root = columns.root_schema_ptr();
    let writer = SerializedFileWriter::new(file, root, Arc::new(properties))?;
    Ok((columns, writer))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Array, AsArray};
    use datafusion::arrow::datatypes::{Int32Type, Int64Type, TimestampNanosecondType, UInt64Type};
    use datafusion::arrow::record_batch::RecordBatch;
    use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use wiretape_dissect::{Call, Headers, Marks, Message, Observation, Outcome, Peer, Value};

    use super::*;
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
        headers.push(&format!("x-{n}"), b"");
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
}
