//! The engine as SQL sees it: the tables of one dissection, functions that cannot make much of little, memory of its own.

use std::sync::{Arc, LazyLock};

use datafusion::catalog::TableProvider;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::disk_manager::DiskManagerBuilder;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::SessionContext;

use super::{SQL_DISK, SQL_MEMORY};
use crate::calls::session::CONNECTIONS;
use crate::query::{QueryError, entries};

/// The table of flows, which is not stored.
const FLOWS: &str = "flows";

/// Functions of single values. Left out: those that make long texts or lists of short ones (`repeat`, `lpad`,
/// `replace`, `generate_series`, …), whose memory the engine does not count, and those that tell of the hub itself.
pub(super) const FUNCTIONS: &[&str] = &[
    "array_element",
    "array_has",
    "array_length",
    "array_max",
    "array_min",
    "arrow_cast",
    "arrow_typeof",
    "ascii",
    "btrim",
    "cardinality",
    "character_length",
    "coalesce",
    "contains",
    "date_bin",
    "date_part",
    "date_trunc",
    "ends_with",
    "from_unixtime",
    "get_field",
    "greatest",
    "initcap",
    "least",
    "left",
    "lower",
    "ltrim",
    "make_array",
    "map_entries",
    "map_extract",
    "map_keys",
    "map_values",
    "now",
    "nullif",
    "nvl",
    "nvl2",
    "octet_length",
    "regexp_count",
    "regexp_instr",
    "regexp_like",
    "regexp_match",
    "reverse",
    "right",
    "rtrim",
    "split_part",
    "starts_with",
    "string_to_array",
    "strpos",
    "substr",
    "substr_index",
    "to_char",
    "to_date",
    "to_hex",
    "to_timestamp",
    "to_timestamp_micros",
    "to_timestamp_millis",
    "to_timestamp_nanos",
    "to_timestamp_seconds",
    "to_unixtime",
    "translate",
    "upper",
];

/// A session for SQL on the tables of another session.
pub(in crate::query) async fn open(from: &SessionContext) -> std::result::Result<SessionContext, QueryError> {
    let mut config = from.copied_config();
    let options = config.options_mut();
    // One that does not end would fill the disk before the time is over.
    options.execution.enable_recursive_ctes = false;
    let mut state = SessionStateBuilder::new_with_default_features()
        .with_config(config)
        .with_runtime_env(runtime()?)
        .with_table_functions(Default::default());
    if let Some(functions) = state.scalar_functions() {
        functions.retain(|function| FUNCTIONS.contains(&function.name()));
    }
    let session = SessionContext::new_with_state(state.build());
    for name in tables(from) {
        let table: Arc<dyn TableProvider> = from.table_provider(name.as_str()).await?;
        session.register_table(name.as_str(), table)?;
    }
    if session.table_exist(CONNECTIONS)? {
        let flows = entries::flow_table(session.table(CONNECTIONS).await?)?;
        session.register_table(FLOWS, flows.into_view())?;
    }
    Ok(session)
}

/// The names of a session's tables.
pub(super) fn tables(session: &SessionContext) -> Vec<String> {
    let mut names: Vec<String> = session
        .catalog_names()
        .iter()
        .filter_map(|catalog| session.catalog(catalog))
        .flat_map(|catalog| {
            let schemas = catalog.schema_names();
            schemas
                .into_iter()
                .filter_map(move |schema| catalog.schema(&schema))
                .collect::<Vec<_>>()
        })
        .flat_map(|schema| schema.table_names())
        .collect();
    names.sort();
    names
}

fn runtime() -> Result<Arc<RuntimeEnv>> {
    static RUNTIME: LazyLock<std::result::Result<Arc<RuntimeEnv>, String>> = LazyLock::new(|| {
        RuntimeEnvBuilder::new()
            .with_memory_limit(SQL_MEMORY, 1.0)
            .with_disk_manager_builder(DiskManagerBuilder::default().with_max_temp_directory_size(SQL_DISK))
            .with_object_list_cache_limit(0)
            .build_arc()
            .map_err(|error| error.to_string())
    });
    RUNTIME.clone().map_err(DataFusionError::Execution)
}
