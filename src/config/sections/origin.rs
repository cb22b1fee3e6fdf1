//! URLs of origin servers.

use crate::config::model::OriginServer;
use crate::proto::authority::{BadAuthority, normal_host};

/// What an origin URL looks like, for messages.
const EXPECTED: &str = "expected scheme, host and port, as in \"http://127.0.0.1:8000\"";

/// Reads `http://host:port` or `https://host:port`; the port may be left out.
///
/// # Errors
/// What is wrong. Never quotes userinfo, which may be a password.
pub(super) fn parse(url: &str) -> Result<OriginServer, String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(if url.is_empty() || url.contains('@') {
            EXPECTED.to_owned()
        } else {
            format!("a URL begins with its scheme: \"http://{url}\" or \"https://{url}\"?")
        });
    };
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        other => return Err(format!("scheme \"{other}\" is neither http nor https")),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains('@') {
        return Err("an origin URL has no user or password".to_owned());
    }
    if authority.contains(['/', '?', '#']) {
        return Err("an origin URL has no path: requests keep the path that the client asked for".to_owned());
    }
    let (host, port) = split_port(authority).ok_or_else(|| EXPECTED.to_owned())?;
    let host = normal_host(host).map_err(|BadAuthority| format!("\"{host}\" is no host name or address"))?;
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&host).to_owned();
    Ok(OriginServer { tls, host, port: port.unwrap_or(if tls { 443 } else { 80 }) })
}

fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let host_end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    let Some(colon) = authority[host_end..].find(':') else { return Some((authority, None)) };
    let (host, port) = authority.split_at(host_end + colon);
    let digits = &port[1..];
    let port = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
    (port != 0).then_some((host, Some(port)))
}
