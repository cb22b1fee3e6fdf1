//! `Cache-Group-Invalidation` (RFC 9875 §3): an origin that answers an unsafe request names groups of its responses that are no
//! longer valid. They are purged as tags are, here before the client sees the answer and at once in the whole fleet.

use super::Exchange;
use super::orders::{By, Order, WAIT_DEFAULT, Way};
use crate::proto::purge::{Mode, Selector, Tags, Wanted};
use http::HeaderMap;

/// Groups of one answer that are invalidated; RFC 9875 §2 wants 128 at least.
const GROUPS_MAX: usize = 128;

/// Invalidates the groups that the answer with `fields` to an unsafe request names, of the target's origin alone.
pub(super) async fn invalidate(exchange: &Exchange, fields: &HeaderMap) {
    let (routed, node) = (&exchange.routed, &exchange.worker.node);
    let (scheme, host, site) = (routed.scheme, routed.host_str(), &routed.site.name);
    let (mut wanted, mut selectors) = (Vec::new(), Vec::new());
    for group in Tags::groups(fields, "cache-group-invalidation").take(GROUPS_MAX) {
        // A group is a Structured Fields string: ASCII.
        let Ok(text) = String::from_utf8(Tags::group_of(scheme, host, group)) else { continue };
        let shown = format!("{}://{host} {}", scheme.as_str(), String::from_utf8_lossy(group));
        wanted.push(Wanted::Tag { site: Some(site.to_string()), tag: shown });
        selectors.push(Selector::Tag { site: Some(site.to_string()), tag: text });
    }
    if selectors.is_empty() {
        return;
    }
    let by = By { way: Way::Origin, from: routed.client.to_canonical(), token: None };
    let order = Order { wanted, mode: Mode::Hard, wait: WAIT_DEFAULT, by };
    node.purge_groups(order, selectors, &exchange.worker.spawner).await;
}
