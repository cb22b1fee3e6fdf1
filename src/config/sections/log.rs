//! `[log]`

use super::Check;
use crate::config::model::{AccessFormat, AccessLog, Log};
use schemars::JsonSchema;
use serde::Deserialize;
use tracing_subscriber::filter::EnvFilter;

/// Logs.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Log")]
pub(super) struct RawLog {
    /// Level of the diagnostic log, on standard error: `error`, `warn`, `info`, `debug` or
    /// `trace`, or directives for parts of the program, such as `info,shoal::origin=debug`.
    filter: String,
    /// Format of the diagnostic log.
    format: RawFormat,
    /// Where the access log goes: `off`, `-` for standard output, or a file.
    access: String,
    /// Format of the access log.
    access_format: RawAccessFormat,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Format")]
enum RawFormat {
    /// Lines for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "AccessFormat")]
enum RawAccessFormat {
    /// A JSON object a line.
    #[default]
    Json,
    /// The combined format of Apache and nginx.
    Combined,
}

impl RawLog {
    pub(super) fn validate(self, check: &mut Check<'_>) -> Log {
        if let Err(error) = EnvFilter::builder().parse(&self.filter) {
            check.mistake("log.filter", format!("expected a level or directives such as \"info\": {error}"));
        }
        check.require(!self.access.is_empty(), "log.access", "expected \"off\", \"-\" or a file");
        Log {
            filter: self.filter,
            json: matches!(self.format, RawFormat::Json),
            access: match self.access.as_str() {
                "off" => AccessLog::Off,
                "-" => AccessLog::Stdout,
                path => AccessLog::File(path.into()),
            },
            access_format: match self.access_format {
                RawAccessFormat::Json => AccessFormat::Json,
                RawAccessFormat::Combined => AccessFormat::Combined,
            },
        }
    }
}
