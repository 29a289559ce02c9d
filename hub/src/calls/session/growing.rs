//! A table that is still being written, as the engine reads it: part by part, each by the footer that it would have.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfigBuilder, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::Expr;
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::project_schema;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::calls::growing::GrownPart;
use crate::calls::parts::read_at;

/// A table as it stood at one moment.
#[derive(Debug)]
pub(super) struct GrownTable {
    schema: SchemaRef,
    /// Those that have rows.
    parts: Vec<GrownPart>,
}

impl GrownTable {
    pub(super) fn new<'g>(schema: SchemaRef, parts: impl Iterator<Item = &'g GrownPart>) -> Self {
        let parts = parts.filter(|part| part.metadata().num_row_groups() > 0);
        Self {
            schema,
            parts: parts.cloned().collect(),
        }
    }
}

#[async_trait::async_trait]
impl TableProvider for GrownTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if self.parts.is_empty() {
            let columns = project_schema(&self.schema, projection)?;
            return Ok(Arc::new(EmptyExec::new(columns)));
        }
        let source = ParquetSource::new(self.schema()).with_parquet_file_reader_factory(Arc::new(GrownParts));
        let parts = self.parts.iter().map(|part| {
            let path = part.path().display().to_string();
            FileGroup::new(vec![
                PartitionedFile::new(path, end(part)).with_extension(part.clone()),
            ])
        });
        let scan = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
            .with_file_groups(parts.collect())
            .with_projection_indices(projection.cloned())?
            .with_limit(limit);
        Ok(DataSourceExec::from_data_source(scan.build()))
    }
}

/// Where the last row group of a part ends.
fn end(part: &GrownPart) -> u64 {
    let columns = part
        .metadata()
        .row_groups()
        .iter()
        .flat_map(|group| group.columns());
    let ends = columns.map(|column| {
        let (from, length) = column.byte_range();
        from.saturating_add(length)
    });
    ends.max().unwrap_or_default()
}

/// Opens parts, which files bring with them.
#[derive(Debug)]
struct GrownParts;

impl ParquetFileReaderFactory for GrownParts {
    fn create_reader(
        &self,
        _: usize,
        file: PartitionedFile,
        _: Option<usize>,
        _: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let part = file.extension::<GrownPart>().cloned();
        let part = part.ok_or_else(|| {
            DataFusionError::Internal(format!("{} is no part of a growing table", file.path()))
        })?;
        Ok(Box::new(Reader(part)))
    }
}

struct Reader(GrownPart);

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        let file = Arc::clone(self.0.file());
        async move {
            let length = usize::try_from(range.end.saturating_sub(range.start))?;
            let read = tokio::task::spawn_blocking(move || read_at(&file, range.start, length)).await;
            Ok(read.map_err(|error| ParquetError::External(Box::new(error)))??)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        let metadata = Arc::clone(self.0.metadata());
        async move { Ok(metadata) }.boxed()
    }
}
