//! The diagnostic log: `tracing` events as text or JSON lines on standard error.

use std::io::IsTerminal;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Registry, fmt, reload};

/// Why the log could not be set up or changed. The log stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is not in the syntax of `tracing` directives.
    #[error("log filter `{filter}`: {source}")]
    Filter {
        /// As given.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The process has a log already.
    #[error("the log is set up already: {0}")]
    Twice(#[from] TryInitError),
    /// The log that this handle belongs to is gone.
    #[error("the log is gone: {0}")]
    Gone(#[from] reload::Error),
}

/// Changes the filter of the running log.
#[derive(Clone)]
pub struct LogHandle(reload::Handle<EnvFilter, Registry>);

impl LogHandle {
    /// Replaces the filter by `filter`, in `tracing` directives such as `info,shoal::origin=debug`.
    ///
    /// # Errors
    /// [`LogError::Filter`] if it cannot be read; the old one stays.
    pub fn set_filter(&self, filter: &str) -> Result<(), LogError> {
        Ok(self.0.reload(parse(filter)?)?)
    }
}

/// Sends events that pass `filter` to standard error, as JSON lines if `json`. Once for a process.
///
/// # Errors
/// A bad filter, or a second call.
pub fn init(filter: &str, json: bool) -> Result<LogHandle, LogError> {
    let (filter, handle) = reload::Layer::new(parse(filter)?);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = if json {
        lines.json().flatten_event(true).boxed()
    } else {
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        lines.with_ansi(colour).boxed()
    };
    tracing_subscriber::registry().with(filter).with(lines).try_init()?;
    Ok(LogHandle(handle))
}

/// Reads a filter, so that a configuration can be checked without a log.
///
/// # Errors
/// [`LogError::Filter`] with the first directive that cannot be read.
pub fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|source| LogError::Filter { filter: filter.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_refused_and_named() {
        assert!(parse("info,shoal::origin=debug").is_ok());
        let error = parse("shoal=loud").expect_err("no such level");
        assert!(error.to_string().contains("shoal=loud"), "{error}");
    }

    #[test]
    fn the_filter_of_a_running_log_can_be_replaced() {
        let (filter, handle) = reload::Layer::new(parse("error").expect("valid"));
        let log = tracing_subscriber::registry().with(filter);
        let handle = LogHandle(handle);
        tracing::subscriber::with_default(log, || {
            assert!(!tracing::enabled!(tracing::Level::DEBUG));
            handle.set_filter("debug").expect("valid");
            assert!(tracing::enabled!(tracing::Level::DEBUG));
            handle.set_filter("???=x").expect_err("invalid");
            assert!(tracing::enabled!(tracing::Level::DEBUG), "the old filter stays");
        });
    }
}
