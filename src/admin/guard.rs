//! Who may use the admin API.
//!
//! With a token file each request must bear the token; the file is read for each request, so a new
//! token counts at once. Without one the API listens on loopback only, and then a browser on this
//! machine is the danger: a page may send requests to loopback (refused by `Origin` and
//! `Sec-Fetch-Site`), or rebind its own name to it (refused by `Host`).

use super::problem::Problem;
use crate::task::Spawner;
use crate::token;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

/// The rules of one listener.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    token_file: Option<PathBuf>,
    spawner: Spawner,
}

impl Guard {
    /// Wants the token in `token_file`; without one, a local name as `Host`.
    ///
    /// # Errors
    /// The file cannot be read or is empty.
    pub(super) fn new(token_file: Option<PathBuf>, spawner: Spawner) -> io::Result<Self> {
        if let Some(path) = &token_file {
            token::read(path)?;
        }
        Ok(Self { token_file, spawner })
    }

    /// Lets a request with these fields pass, or says why not.
    pub(super) async fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        refuse_other_sites(headers)?;
        let Some(path) = self.token_file.clone() else { return refuse_other_names(headers) };
        let token = self.spawner.blocking(move || token::read(&path)).await;
        let Some(Ok(token)) = token else {
            tracing::error!(file = ?self.token_file, "the admin token cannot be read; requests are refused");
            return Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "token_unreadable",
                "the token file of this node cannot be read",
                "see the log of the node",
            ));
        };
        let given = headers.get(header::AUTHORIZATION).and_then(|value| token::bearer(value.as_bytes()));
        match given {
            Some(given) if token::is_same(given, &token) => Ok(()),
            _ => Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "token_required",
                "no bearer token, or not the one of this node",
                "send `Authorization: Bearer` with the content of admin.token_file",
            )),
        }
    }
}

fn refuse_other_sites(headers: &HeaderMap) -> Result<(), Problem> {
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    let cross_site = !matches!(site, None | Some(b"none" | b"same-origin"));
    if !cross_site && !headers.contains_key(header::ORIGIN) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "cross_site",
        "the request was made by a page in a browser",
        "use the command line or a client that sends no Origin field",
    ))
}

fn refuse_other_names(headers: &HeaderMap) -> Result<(), Problem> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let local = host.is_some_and(|host| {
        let name = host.host().trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
    });
    if local && hosts.next().is_none() {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "foreign_host",
        "without a token the Host field must be an address or localhost",
        "ask for http://127.0.0.1 or set admin.token_file",
    ))
}
