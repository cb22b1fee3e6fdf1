//! Seeds against a name server on this machine.

use super::*;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, SRV};
use hickory_resolver::proto::rr::{Name, Record};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// What the name server says; names that are not here do not exist.
type Zone = Arc<Mutex<BTreeMap<String, Vec<RData>>>>;

/// Answers until it is dropped.
struct NameServer {
    zone: Zone,
    address: SocketAddr,
    _task: JoinSet<()>,
}

fn answer(zone: &Zone, query: &[u8]) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok()?;
    let asked = query.queries.first()?.clone();
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    match zone.lock().get(&asked.name().to_ascii()) {
        Some(records) => {
            let wanted = records.iter().filter(|data| data.record_type() == asked.query_type()).cloned();
            reply.add_answers(wanted.map(|data| Record::from_rdata(asked.name().clone(), 60, data)));
        }
        None => reply.metadata.response_code = ResponseCode::NXDomain,
    }
    reply.add_query(asked);
    reply.to_vec().ok()
}

impl NameServer {
    async fn new() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, zone) = (socket.local_addr().unwrap(), Zone::default());
        let mut task = JoinSet::new();
        let known = zone.clone();
        task.spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                if let Some(reply) = answer(&known, &buffer[..length]) {
                    socket.send_to(&reply, from).await.unwrap();
                }
            }
        });
        Self { zone, address, _task: task }
    }

    fn set(&self, name: &str, records: Vec<RData>) {
        self.zone.lock().insert(name.to_owned(), records);
    }

    fn seeds(&self, list: &[&str]) -> Seeds {
        let mut connection = ConnectionConfig::udp();
        connection.port = self.address.port();
        let mut server = NameServerConfig::udp(self.address.ip());
        server.connections = vec![connection];
        let config = ResolverConfig::from_name_servers(vec![server]);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.cache_size = 0;
        let seeds = seeds(list);
        seeds.resolver.set(Some(builder.build().unwrap())).ok().unwrap();
        seeds
    }
}

fn seeds(list: &[&str]) -> Seeds {
    Seeds::new(&list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
}

fn v4(last: u8) -> RData {
    RData::A(A(Ipv4Addr::new(192, 0, 2, last)))
}

fn srv(priority: u16, target: &str, port: u16) -> RData {
    RData::SRV(SRV::new(priority, 0, port, Name::from_ascii(target).unwrap()))
}

fn addresses(list: &[&str]) -> Vec<SocketAddr> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn an_entry_is_an_address_a_name_with_a_port_or_a_service() {
    let host = |name: &str, port| Some(What::Host(name.into(), port));
    assert_eq!(What::read("192.0.2.1:7400"), Some(What::Address(([192, 0, 2, 1], 7400).into())));
    assert_eq!(What::read("[::1]:7400"), Some(What::Address("[::1]:7400".parse().unwrap())));
    assert_eq!(What::read("peers.example:7400"), host("peers.example", 7400));
    assert_eq!(What::read("peer-0:1"), host("peer-0", 1));
    assert_eq!(What::read("_peer._udp.example"), Some(What::Service("_peer._udp.example".into())));
    for none in ["", "peers.example", "peers.example:0", "peers.example:99999", ":7400", "::1:7400", "a/b:1"]
    {
        assert_eq!(What::read(none), None, "{none}");
    }
}

#[tokio::test]
async fn addresses_need_no_resolver() {
    let seeds = seeds(&["192.0.2.1:7400", "nonsense", "[2001:db8::1]:7400", "192.0.2.1:7400"]);
    assert_eq!(seeds.resolve().await, addresses(&["192.0.2.1:7400", "[2001:db8::1]:7400"]));
    assert!(seeds.resolver.get().is_none());
}

#[tokio::test]
async fn a_name_stands_for_all_its_addresses_as_they_are_now() {
    let server = NameServer::new().await;
    let seeds = server.seeds(&["peers.test.:7400", "192.0.2.9:1"]);
    assert_eq!(seeds.resolve().await, addresses(&["192.0.2.9:1"]), "the others count all the same");
    assert_eq!(seeds.entries[0].failures.load(Ordering::Relaxed), 1);
    let v6 = RData::AAAA(AAAA(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)));
    server.set("peers.test.", vec![v4(1), v6, v4(2)]);
    let mut found = seeds.resolve().await;
    found.sort();
    assert_eq!(found, addresses(&["192.0.2.1:7400", "192.0.2.2:7400", "192.0.2.9:1", "[2001:db8::1]:7400"]));
    assert_eq!(seeds.entries[0].failures.load(Ordering::Relaxed), 0);
    server.set("peers.test.", vec![v4(3)]);
    assert_eq!(seeds.resolve().await, addresses(&["192.0.2.3:7400", "192.0.2.9:1"]));
}

#[tokio::test]
async fn a_service_stands_for_the_addresses_of_its_targets_with_their_ports() {
    let server = NameServer::new().await;
    let service = vec![srv(10, "b.test.", 7402), srv(1, "a.test.", 7401), srv(20, "gone.test.", 7403)];
    server.set("_peer._udp.test.", service);
    server.set("a.test.", vec![v4(1)]);
    server.set("b.test.", vec![v4(2)]);
    let seeds = server.seeds(&["_peer._udp.test."]);
    assert_eq!(seeds.resolve().await, addresses(&["192.0.2.1:7401", "192.0.2.2:7402"]));
    server.set("_peer._udp.test.", vec![srv(20, "gone.test.", 7403)]);
    assert_eq!(seeds.resolve().await, []);
    assert_eq!(seeds.entries[0].failures.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn there_are_never_more_than_a_fixed_number() {
    let server = NameServer::new().await;
    let names: Vec<_> = (0..10).map(|name| format!("peers-{name}.test.")).collect();
    for (number, name) in names.iter().enumerate() {
        let many = (0..40).map(|last| RData::A(A(Ipv4Addr::new(10, 0, number as u8, last))));
        server.set(name, many.collect());
    }
    let list: Vec<_> = names.iter().map(|name| format!("{name}:7400")).collect();
    let list: Vec<_> = list.iter().map(String::as_str).collect();
    assert_eq!(server.seeds(&list).resolve().await.len(), ADDRESSES_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_name_server_that_is_silent_is_waited_for_only_so_long() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut server = NameServer::new().await;
    server.address = silent.local_addr().unwrap();
    let seeds = server.seeds(&["peers.test.:7400", "192.0.2.9:1"]);
    assert_eq!(seeds.resolve().await, addresses(&["192.0.2.9:1"]));
}
