//! The tables, opened for questions by DataFusion.

mod growing;

use std::path::Path;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};

use self::growing::GrownTable;
use super::growing::Grown;
use super::{connections, events, known, schema};

/// Name of the table of calls in a session.
pub const TABLE: &str = "calls";

/// Name of the table of connections. Dissections that are older than this table have none.
pub const CONNECTIONS: &str = "connections";

/// Name of the table of names, which older dissections have not, either.
pub const NAMES: &str = "names";

/// Name of the table of events, likewise.
pub const EVENTS: &str = "events";

/// Memory that all questions together may take for sorting and grouping, in bytes. What needs more spills to disk, or
/// fails with an error that says so.
const QUERY_MEMORY: usize = 256 << 20;

/// Footers of Parquet files kept in memory, in bytes, over all dissections.
const FOOTER_MEMORY: usize = 32 << 20;

/// Rows that a question works on at a time.
const BATCH_ROWS: usize = 4096;

/// A session on the tables in these folders (those which hold the parts). Nothing is read yet.
pub fn open(calls: &Path, connections: &Path, names: &Path, told: &Path) -> Result<SessionContext> {
    let context = session()?;
    register(&context, TABLE, calls, schema::reading_schema())?;
    for (name, folder, schema) in [
        (CONNECTIONS, connections, connections::reading_schema()),
        (NAMES, names, known::reading_schema()),
        (EVENTS, told, events::reading_schema()),
    ] {
        if folder.is_dir() {
            register(&context, name, folder, schema)?;
        }
    }
    Ok(context)
}

/// A session on tables that are still being written.
pub fn grown(tables: &Grown) -> Result<SessionContext> {
    let context = session()?;
    for (name, schema) in [
        (TABLE, schema::reading_schema()),
        (CONNECTIONS, connections::reading_schema()),
        (NAMES, known::reading_schema()),
        (EVENTS, events::reading_schema()),
    ] {
        let table = GrownTable::new(schema, tables.parts(name));
        context.register_table(name, Arc::new(table))?;
    }
    Ok(context)
}

fn session() -> Result<SessionContext> {
    let mut config = SessionConfig::new().with_batch_size(BATCH_ROWS);
    let parquet = &mut config.options_mut().execution.parquet;
    // Filters run while columns are decoded, so that headers of calls that do not match are never read.
    parquet.pushdown_filters = true;
    parquet.reorder_filters = true;
    Ok(SessionContext::new_with_config_rt(config, runtime()?))
}

fn register(context: &SessionContext, name: &str, folder: &Path, schema: SchemaRef) -> Result<()> {
    let folder = std::path::absolute(folder)?;
    let url = reqwest::Url::from_directory_path(&folder)
        .map_err(|()| DataFusionError::Plan(format!("{} is not a folder's path", folder.display())))?;
    let options = ListingOptions::new(Arc::new(ParquetFormat::default().with_enable_pruning(true)))
        .with_file_extension(".parquet");
    let table = ListingTableConfig::new(ListingTableUrl::parse(url.as_str())?)
        .with_listing_options(options)
        .with_schema(schema);
    context.register_table(name, Arc::new(ListingTable::try_new(table)?))?;
    Ok(())
}

/// One runtime for all sessions, so that their memory is bounded together.
fn runtime() -> Result<Arc<RuntimeEnv>> {
    static RUNTIME: LazyLock<std::result::Result<Arc<RuntimeEnv>, String>> = LazyLock::new(|| {
        RuntimeEnvBuilder::new()
            .with_memory_limit(QUERY_MEMORY, 1.0)
            .with_metadata_cache_limit(FOOTER_MEMORY)
            // A folder is listed anew for each question: a dissection may be deleted and another take its name.
            .with_object_list_cache_limit(0)
            .build_arc()
            .map_err(|error| error.to_string())
    });
    RUNTIME.clone().map_err(DataFusionError::Execution)
}
