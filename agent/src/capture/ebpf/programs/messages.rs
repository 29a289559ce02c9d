//! What the programs say.

/// Hands the programs' messages on to the agent's own log.
pub(super) struct ToTracing;

impl log::Log for ToTracing {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        match record.level() {
            log::Level::Error | log::Level::Warn => tracing::warn!(from = "kernel", "{}", record.args()),
            _ => tracing::info!(from = "kernel", "{}", record.args()),
        }
    }

    fn flush(&self) {}
}
