use super::*;
use crate::clock::Clock;
use crate::config::model::{CertificateFiles, Credentials, Peer};
use crate::proto::swarm::{NodeId, Roles};
use crate::proto::time::Wall;
use crate::proto::wire::enrol::{CHAIN_MAX, Chain, REQUEST_BYTES_MAX};
use crate::proto::wire::{self, Enrol, Enrolled, enrolled};
use crate::telemetry::PeerRefusal;
use proptest::prelude::*;
use rcgen::{CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConfig, ServerConnection};
use rustls_pki_types::{CertificateDer, ServerName};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const NOW: Wall = Wall::from_secs(1_800_000_000);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const SUPERPEER: Roles = Roles { edge: false, superpeer: true };
const BOTH: Roles = Roles { edge: true, superpeer: true };

fn at(secs: i64) -> Wall {
    Wall::from_secs(NOW.as_secs() + secs)
}

fn clock(secs: i64) -> Clock {
    Clock::simulated(at(secs))
}

fn authority() -> Authority {
    Authority::create("fleet", NOW).unwrap()
}

fn issued(authority: &Authority, roles: Roles) -> Identity {
    Identity::issued(authority, roles, "node-1", NOW).unwrap()
}

/// An edge that got its certificate by a token.
fn enrolled(authority: &Authority) -> Identity {
    let edge = Identity::pending(authority.certificate_pem(), "edge-1", Roles::EDGE).unwrap();
    edge.accept(authority.enrol(&with_token(authority, &edge), NOW), NOW).unwrap();
    edge
}

fn with_token(authority: &Authority, edge: &Identity) -> Enrol {
    edge.request(&authority.mint_token(Roles::EDGE, Some(at(60))).unwrap(), "edge-1")
}

/// What each end of a handshake comes to.
struct Met {
    client: Result<(), rustls::Error>,
    server: Result<(), rustls::Error>,
    seen_by_client: Vec<CertificateDer<'static>>,
    seen_by_server: Vec<CertificateDer<'static>>,
    alpn: Option<Vec<u8>>,
    kinds: [Option<HandshakeKind>; 2],
}

impl Met {
    fn caller(&self) -> Result<Caller, ClusterError> {
        assert_eq!((&self.client, &self.server), (&Ok(()), &Ok(())));
        Caller::of(self.alpn.as_deref(), &self.seen_by_server)
    }

    /// Why the client and the server refused; both must have.
    fn refusals(&self) -> [PeerRefusal; 2] {
        [&self.client, &self.server].map(|end| refusal_of(end.as_ref().expect_err("a refusal")))
    }
}

fn meet(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Met {
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    let mut client = ClientConnection::new(client.clone(), name).unwrap();
    let mut server = ServerConnection::new(server.clone()).unwrap();
    let mut ends = [Ok(()), Ok(())];
    while client.wants_write() || server.wants_write() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() && ends[1].is_ok() {
            server.read_tls(&mut rest).unwrap();
            ends[1] = server.process_new_packets().map(drop);
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() && ends[0].is_ok() {
            client.read_tls(&mut rest).unwrap();
            ends[0] = client.process_new_packets().map(drop);
        }
    }
    let [to_client, to_server] = ends;
    let seen = |chain: Option<&[CertificateDer<'static>]>| chain.unwrap_or_default().to_vec();
    Met {
        client: to_client,
        server: to_server,
        seen_by_client: seen(client.peer_certificates()),
        seen_by_server: seen(server.peer_certificates()),
        alpn: server.alpn_protocol().map(<[u8]>::to_vec),
        kinds: [client.handshake_kind(), server.handshake_kind()],
    }
}

#[tokio::test]
async fn nodes_of_a_cluster_know_each_other_and_never_resume() {
    let authority = authority();
    let (edge, superpeer) = (enrolled(&authority), issued(&authority, BOTH));
    let (client, server) = (edge.client(clock(0)), superpeer.server(clock(0)));
    for _ in 0..2 {
        let met = meet(&client, &server);
        assert_eq!(met.caller().unwrap(), Caller::Node(edge.certified()));
        assert_eq!(Certified::read(&met.seen_by_client[0]).unwrap(), superpeer.certified());
        assert_eq!(met.alpn.as_deref(), Some(wire::ALPN));
        assert!(met.kinds.iter().all(|kind| {
            matches!(kind, Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest))
        }));
    }
    let certified = edge.certified();
    assert_eq!((&*certified.name, certified.roles), ("edge-1", Roles::EDGE));
    assert_eq!(superpeer.certified().roles, BOTH);
    assert_ne!(certified.id, superpeer.certified().id);
}

#[tokio::test]
async fn a_cluster_of_the_same_name_is_another_cluster() {
    let (ours, theirs) = (authority(), authority());
    let (edge, stranger) = (enrolled(&ours), enrolled(&theirs));
    // The client refuses first. That the server does too shows when the client trusts both.
    let met = meet(&edge.client(clock(0)), &stranger.server(clock(0)));
    assert_eq!(met.refusals(), [PeerRefusal::OtherCluster; 2]);
    let trusting = format!("{}{}", theirs.certificate_pem(), ours.certificate_pem());
    let trusting = Identity::pending(&trusting, "edge-2", Roles::EDGE).unwrap();
    trusting.accept(theirs.enrol(&with_token(&theirs, &trusting), NOW), NOW).unwrap();
    let met = meet(&trusting.client(clock(0)), &edge.server(clock(0)));
    assert_eq!(met.refusals(), [PeerRefusal::OtherCluster; 2]);
}

#[tokio::test]
async fn certificates_are_valid_from_five_minutes_before_their_making_to_their_end() {
    let authority = authority();
    let (edge, other) = (enrolled(&authority), enrolled(&authority));
    let day = DAY.as_secs().cast_signed();
    let met = |secs| meet(&edge.client(clock(secs)), &other.server(clock(secs)));
    for secs in [-300, 0, day] {
        assert!(met(secs).caller().is_ok(), "{secs}");
    }
    assert_eq!(met(day + 1).refusals(), [PeerRefusal::Expired; 2]);
    // The alert does not say that it was too early.
    assert_eq!(met(-301).refusals(), [PeerRefusal::NotYetValid, PeerRefusal::Expired]);
    // The server checks the client's too, by its own clock.
    let met = meet(&edge.client(clock(0)), &other.server(clock(day + 1)));
    assert_eq!(met.refusals(), [PeerRefusal::Expired; 2]);
    let met = meet(&edge.client(clock(0)), &other.server(clock(-301)));
    assert_eq!(met.refusals(), [PeerRefusal::Expired, PeerRefusal::NotYetValid]);
}

#[tokio::test(start_paused = true)]
async fn configurations_follow_the_simulated_clock() {
    let authority = authority();
    let (edge, other) = (enrolled(&authority), enrolled(&authority));
    let (client, server) = (edge.client(clock(0)), other.server(clock(0)));
    assert!(meet(&client, &server).caller().is_ok());
    tokio::time::advance(DAY + Duration::from_secs(2)).await;
    assert_eq!(meet(&client, &server).refusals(), [PeerRefusal::Expired; 2]);
}

#[tokio::test]
async fn without_a_certificate_only_enrolment_is_open_and_only_where_the_authority_is() {
    let authority = authority();
    let (superpeer, edge) = (issued(&authority, SUPERPEER), enrolled(&authority));
    let newcomer = Identity::pending(authority.certificate_pem(), "edge-2", Roles::EDGE).unwrap();
    let (peering, enrolling) = (newcomer.client(clock(0)), newcomer.enrolling_client(clock(0)));

    let met = meet(&enrolling, &superpeer.server(clock(0)));
    assert_eq!(met.caller().unwrap(), Caller::Enrolling(None));
    let met = meet(&peering, &superpeer.server(clock(0)));
    assert_eq!(met.caller().unwrap_err().refusal(), PeerRefusal::NoCertificate);
    let met = meet(&peering, &edge.server(clock(0)));
    assert_eq!(met.refusals(), [PeerRefusal::NoCertificate; 2]);
    let met = meet(&enrolling, &edge.server(clock(0)));
    assert_eq!(met.refusals(), [PeerRefusal::Protocol; 2]);
    // One who has no certificate yet cannot be dialled either.
    let met = meet(&edge.client(clock(0)), &newcomer.server(clock(0)));
    assert_eq!(met.refusals()[0], PeerRefusal::NoCertificate);
}

#[tokio::test]
async fn a_client_of_another_protocol_or_of_none_is_refused() {
    let authority = authority();
    let (superpeer, edge) = (issued(&authority, SUPERPEER), enrolled(&authority));
    let server = superpeer.server(clock(0));
    let mut client = ClientConfig::clone(&edge.client(clock(0)));
    client.alpn_protocols = vec![b"h2".to_vec()];
    assert_eq!(meet(&Arc::new(client.clone()), &server).refusals(), [PeerRefusal::Protocol; 2]);
    client.alpn_protocols = Vec::new();
    let met = meet(&Arc::new(client), &server);
    assert_eq!(met.caller().unwrap_err().refusal(), PeerRefusal::Protocol);

    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.anchors()[0].clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let old = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    assert_eq!(meet(&Arc::new(old), &server).refusals(), [PeerRefusal::Protocol; 2]);
}

/// What the authority makes that is misled to sign whatever it is given.
fn misissued(authority: &Authority, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
    let key = KeyPair::from_pem(&authority.key_pem()).unwrap();
    let issuer = Issuer::from_ca_cert_pem(authority.certificate_pem(), key).unwrap();
    let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "edge-1");
    params.subject_alt_names.push(SanType::URI("shoal://role/edge".try_into().unwrap()));
    change(&mut params);
    params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone()
}

#[test]
fn only_a_certificate_with_the_name_and_a_role_is_one_of_a_node() {
    let authority = authority();
    let uri = |uri: &str| SanType::URI(uri.try_into().unwrap());
    let good = Certified::read(&misissued(&authority, |_| {})).unwrap();
    assert_eq!((&*good.name, good.roles), ("edge-1", Roles::EDGE));
    let unknown = misissued(&authority, |params| {
        params.subject_alt_names.extend([uri("shoal://role/oracle"), uri("https://role/superpeer")]);
    });
    assert_eq!(Certified::read(&unknown).unwrap().roles, Roles::EDGE);

    let mut wrong = vec![authority.anchors()[0].clone(), CertificateDer::from(Vec::new())];
    wrong.push(misissued(&authority, |params| params.subject_alt_names.clear()));
    wrong.push(misissued(&authority, |params| drop(params.subject_alt_names.remove(0))));
    wrong.push(misissued(&authority, |params| drop(params.subject_alt_names.remove(1))));
    wrong.push(misissued(&authority, |params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, "not a token");
    }));
    wrong.push(misissued(&authority, |params| {
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    }));
    let mut longer = misissued(&authority, |_| {}).to_vec();
    longer.push(0);
    wrong.push(CertificateDer::from(longer));
    for (number, wrong) in wrong.iter().enumerate() {
        let error = Certified::read(wrong).expect_err("not a node");
        assert_eq!(error.refusal(), PeerRefusal::NotANode, "{number}: {error}");
        assert!(Caller::of(Some(wire::ENROL_ALPN), std::slice::from_ref(wrong)).is_err());
    }
}

proptest! {
    #[test]
    fn no_bytes_are_taken_for_a_certificate(position in 0..400_usize, byte: u8, cut in 0..400_usize) {
        let authority = authority();
        let mut der = misissued(&authority, |_| {}).to_vec();
        let length = der.len();
        der[position % length] = byte;
        let _ = Certified::read(&CertificateDer::from(der.as_slice()));
        der.truncate(cut.min(length - 1));
        prop_assert!(Certified::read(&CertificateDer::from(der)).is_err());
    }
}

#[test]
fn a_certificate_says_only_what_the_authority_was_told() {
    let authority = authority();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["other.test".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "someone");
    params.subject_alt_names.push(SanType::URI("shoal://role/superpeer".try_into().unwrap()));
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let greedy = params.serialize_request(&key).unwrap();
    let issue = |name, roles, lifetime| authority.issue(greedy.der(), roles, name, NOW, lifetime);

    let chain = issue("edge-1", Roles::EDGE, DAY).unwrap();
    let made = Description::read(&chain[0]).unwrap();
    let node = made.node.unwrap();
    assert_eq!((chain.len(), made.is_authority), (1, false));
    assert_eq!((&*node.name, node.roles), ("edge-1", Roles::EDGE));
    assert_eq!((made.not_before, made.not_after), (at(-300), NOW.plus(DAY)));
    let (_, x509) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    let names = x509.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names.len(), 2, "{names:?}");
    let again = issue("edge-1", Roles::EDGE, DAY).unwrap();
    let (_, again) = x509_parser::parse_x509_certificate(&again[0]).unwrap();
    assert_ne!(x509.raw_serial(), again.raw_serial());

    let long = "n".repeat(64);
    for name in ["", "two words", "umläut", &long] {
        assert!(matches!(issue(name, Roles::EDGE, DAY), Err(ClusterError::Name)), "{name}");
    }
    assert!(matches!(issue("edge-1", Roles::default(), DAY), Err(ClusterError::NoRole)));
    for lifetime in [Duration::ZERO, LIFETIME_MAX + Duration::from_secs(1)] {
        assert!(matches!(issue("edge-1", Roles::EDGE, lifetime), Err(ClusterError::Lifetime)));
    }
}

#[test]
fn a_request_must_be_signed_with_its_own_key_of_our_kind() {
    let authority = authority();
    let issue = |csr: &[u8]| authority.issue(csr, Roles::EDGE, "edge-1", NOW, DAY);
    let good = NodeKey::create().unwrap().request().unwrap();
    assert!(issue(&good).is_ok());
    let mut unsigned = good.clone();
    *unsigned.last_mut().unwrap() ^= 1;
    let mut long = good.clone();
    long.resize(REQUEST_BYTES_MAX + 1, 0);
    let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let other = CertificateParams::default().serialize_request(&other).unwrap().der().to_vec();
    for wrong in [Vec::new(), vec![0x30; 50], unsigned, long, other] {
        assert!(matches!(issue(&wrong), Err(ClusterError::Request(_))));
    }
}

#[test]
fn no_certificate_outlives_its_authority() {
    let authority = authority();
    let csr = NodeKey::create().unwrap().request().unwrap();
    let end = NOW.plus(LIFETIME_MAX);
    let last = Wall::from_secs(end.as_secs() - 60);
    let chain = authority.issue(&csr, Roles::EDGE, "edge-1", last, DAY).unwrap();
    assert_eq!(Description::read(&chain[0]).unwrap().not_after, end);
    let late = authority.issue(&csr, Roles::EDGE, "edge-1", end, DAY);
    assert!(matches!(late, Err(ClusterError::AuthorityExpired)));
}

#[test]
fn an_authority_is_the_same_after_it_was_written_and_read() {
    let first = authority();
    let again = Authority::load(first.certificate_pem(), &first.key_pem()).unwrap();
    let token = first.mint_token(BOTH, None).unwrap();
    assert_eq!(again.verify_token(&token, NOW), Ok(BOTH));
    assert_ne!(token, first.mint_token(BOTH, None).unwrap());
    let other = authority();
    assert_eq!(other.verify_token(&token, NOW), Err(TokenError::OtherCluster));
    let load = |ca: &str, key: &str| Authority::load(ca, key).unwrap_err();
    assert!(matches!(load(first.certificate_pem(), &other.key_pem()), ClusterError::AuthorityKey));
    assert!(matches!(load("", &first.key_pem()), ClusterError::Authority(_)));
    assert!(matches!(load(first.certificate_pem(), ""), ClusterError::Key(_)));
    // When authorities change, nodes trust the old and the new for a while.
    let both = format!("{}{}", other.certificate_pem(), first.certificate_pem());
    assert_eq!(Authority::load(&both, &first.key_pem()).unwrap().anchors().len(), 2);
}

fn refusal(enrolled: Enrolled) -> String {
    match enrolled.kind {
        Some(enrolled::Kind::Refused(reason)) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn enrolment_gives_the_roles_of_the_token_and_nothing_without_a_good_one() {
    let authority = authority();
    let newcomer = Identity::pending(authority.certificate_pem(), "edge-1", Roles::EDGE).unwrap();
    let before = newcomer.certified();
    assert_eq!((&*before.name, before.roles), ("edge-1", Roles::EDGE));
    assert!(!newcomer.is_ready() && newcomer.renew_at().is_none() && newcomer.enrols());

    let good = authority.mint_token(Roles::EDGE, Some(at(60))).unwrap();
    let mut forged = good.clone().into_bytes();
    forged[20] = if forged[20] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();
    let strange = self::authority().mint_token(Roles::EDGE, None).unwrap();
    for (token, now, why) in [
        (good.as_str(), at(60), TokenError::Expired),
        (&forged, NOW, TokenError::OtherCluster),
        (&strange, NOW, TokenError::OtherCluster),
        ("", NOW, TokenError::Malformed),
    ] {
        let answer = authority.enrol(&newcomer.request(token, "edge-1"), now);
        assert_eq!(refusal(answer.clone()), why.to_string());
        assert!(matches!(newcomer.accept(answer, now), Err(ClusterError::Refused(_))));
    }
    assert_eq!(
        refusal(authority.enrol(&newcomer.request(&good, "a b"), NOW)),
        ClusterError::Name.to_string()
    );
    assert!(!newcomer.is_ready());

    newcomer.accept(authority.enrol(&newcomer.request(&good, "edge-1"), at(59)), at(59)).unwrap();
    assert_eq!(newcomer.certified(), before);
    assert_eq!(newcomer.not_after(), Some(at(59).plus(DAY)));
    assert_eq!(newcomer.renew_at(), Some(at(59).plus(DAY * 2 / 3)));
}

#[tokio::test(start_paused = true)]
async fn a_renewed_certificate_is_used_by_configurations_made_before() {
    let authority = authority();
    let superpeer = issued(&authority, SUPERPEER);
    let edge = Identity::pending(authority.certificate_pem(), "edge-1", Roles::EDGE).unwrap();
    let time = clock(0);
    let (client, asking) = (edge.client(time), edge.enrolling_client(time));
    let (server, listening) = (superpeer.server(time), edge.server(time));
    edge.accept(authority.enrol(&with_token(&authority, &edge), NOW), NOW).unwrap();
    let first = meet(&client, &server).seen_by_server;

    tokio::time::advance(DAY * 2 / 3).await;
    let now = time.now().wall;
    let met = meet(&asking, &server);
    let Ok(Caller::Enrolling(Some(shown))) = met.caller() else { panic!("the certificate was not shown") };
    // The token has long expired, and is not needed.
    edge.accept(authority.renew(&edge.request("", "other-name"), &shown, now), now).unwrap();
    superpeer.reload(now).unwrap();

    tokio::time::advance(DAY * 2 / 3).await;
    let met = meet(&client, &server);
    assert_eq!(met.caller().unwrap(), Caller::Node(shown.clone()));
    assert_ne!(met.seen_by_server, first);
    let met = meet(&superpeer.client(time), &listening);
    assert_eq!(Certified::read(&met.seen_by_client[0]).unwrap(), shown);

    // With an expired certificate it may ask as a newcomer, with a token.
    tokio::time::advance(DAY).await;
    superpeer.reload(time.now().wall).unwrap();
    assert_eq!(meet(&asking, &server).caller().unwrap(), Caller::Enrolling(None));
    assert_eq!(meet(&client, &server).refusals(), [PeerRefusal::Expired; 2]);
}

#[test]
fn a_certificate_is_renewed_for_its_own_key_only() {
    let authority = authority();
    let (edge, other) = (enrolled(&authority), enrolled(&authority));
    let answer = authority.renew(&other.request("", "edge-1"), &edge.certified(), NOW);
    assert_eq!(refusal(answer), ClusterError::OtherKey.to_string());
}

#[test]
fn an_answer_that_cannot_be_used_leaves_the_certificate_in_force() {
    let authority = authority();
    let edge = enrolled(&authority);
    let (before, certified) = (edge.shown().unwrap(), edge.certified());
    let issue =
        |request: &Enrol, roles, now| authority.issue(&request.csr, roles, "edge-1", now, DAY).unwrap();
    let (request, later) = (edge.request("", ""), NOW.plus(DAY * 3));
    let chain = |chain: Vec<CertificateDer<'_>>| Enrolled {
        kind: Some(enrolled::Kind::Chain(Chain {
            certificates: chain.iter().map(|der| der.to_vec()).collect(),
        })),
    };
    let strange = self::authority().issue(&request.csr, Roles::EDGE, "edge-1", NOW, DAY).unwrap();
    let long = vec![issue(&request, Roles::EDGE, NOW).remove(0); CHAIN_MAX + 1];
    let refused = |answer, now| edge.accept(answer, now).unwrap_err();
    let other = enrolled(&authority).request("", "");
    assert!(matches!(refused(Enrolled { kind: None }, NOW), ClusterError::Answer));
    assert!(matches!(refused(chain(Vec::new()), NOW), ClusterError::Answer));
    assert!(matches!(refused(chain(long), NOW), ClusterError::Answer));
    assert!(matches!(refused(chain(issue(&other, Roles::EDGE, NOW)), NOW), ClusterError::OtherKey));
    assert!(matches!(refused(chain(issue(&request, SUPERPEER, NOW)), NOW), ClusterError::Roles { .. }));
    let error = refused(chain(strange), NOW);
    assert_eq!(error.refusal(), PeerRefusal::OtherCluster, "{error}");
    assert_eq!(refused(chain(issue(&request, Roles::EDGE, NOW)), later).refusal(), PeerRefusal::Expired);
    assert_eq!(refused(chain(issue(&request, Roles::EDGE, later)), NOW).refusal(), PeerRefusal::NotYetValid);
    assert!(Arc::ptr_eq(&before, &edge.shown().unwrap()));
    assert_eq!(edge.certified(), certified);
    let noisy = Enrolled { kind: Some(enrolled::Kind::Refused("no\x1b[31m\n".repeat(1000))) };
    let ClusterError::Refused(reason) = refused(noisy, NOW) else { panic!("refused") };
    assert!(reason.len() <= 200 && !reason.contains('\x1b'), "{reason}");
}

fn peer(folder: &Path, credentials: Credentials) -> Peer {
    Peer {
        listen: ([127, 0, 0, 1], 0).into(),
        advertise: None,
        seeds: Vec::new(),
        ca: folder.join("ca.pem"),
        credentials,
        directory_max: 1,
    }
}

#[test]
fn certificates_from_files_are_read_again_for_the_same_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let authority = authority();
    fs::write(path("ca.pem"), authority.certificate_pem()).unwrap();
    let write = |key: &NodeKey, roles, now, lifetime| {
        let chain = authority.issue_for(key, roles, "edge-1", now, lifetime).unwrap();
        fs::write(path("cert.pem"), pem(&chain)).unwrap();
        fs::write(path("key.pem"), key.pem()).unwrap();
    };
    let files = CertificateFiles { cert: path("cert.pem"), key: path("key.pem") };
    let peer = peer(folder.path(), Credentials::Files(files));
    let load = |roles, now| Identity::load(&peer, "edge-1", roles, now);
    assert!(matches!(load(Roles::EDGE, NOW), Err(ClusterError::File(_))));

    let key = NodeKey::create().unwrap();
    write(&key, Roles::EDGE, NOW, DAY);
    assert!(matches!(load(BOTH, NOW), Err(ClusterError::Roles { .. })));
    assert_eq!(load(Roles::EDGE, NOW.plus(DAY * 2)).unwrap_err().refusal(), PeerRefusal::Expired);
    let edge = load(Roles::EDGE, NOW).unwrap();
    assert_eq!((edge.not_after(), edge.renew_at()), (Some(NOW.plus(DAY)), Some(at(60))));
    assert!(edge.authority().is_none() && !edge.enrols());

    write(&key, BOTH, NOW, DAY * 2);
    edge.reload(at(60)).unwrap();
    assert_eq!((edge.not_after(), edge.certified().roles), (Some(NOW.plus(DAY * 2)), BOTH));
    write(&NodeKey::load(&key.pem()).unwrap(), Roles::EDGE, NOW, DAY);
    edge.reload(at(60)).unwrap();
    write(&NodeKey::create().unwrap(), Roles::EDGE, NOW, DAY);
    assert!(matches!(edge.reload(at(60)), Err(ClusterError::OtherKey)));
    fs::remove_file(path("cert.pem")).unwrap();
    assert!(matches!(edge.reload(at(60)), Err(ClusterError::File(_))));
    assert_eq!(edge.not_after(), Some(NOW.plus(DAY)));
}

fn pem(chain: &[CertificateDer<'_>]) -> String {
    use data_encoding::BASE64;
    let block = |der: &CertificateDer<'_>| {
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", BASE64.encode(der))
    };
    chain.iter().map(block).collect()
}

#[test]
fn a_node_enrols_with_the_token_in_its_file_or_makes_its_certificate_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let authority = authority();
    fs::write(path("ca.pem"), authority.certificate_pem()).unwrap();
    fs::write(path("ca-key.pem"), authority.key_pem()).unwrap();

    let credentials = Credentials::Authority { ca_key: path("ca-key.pem") };
    let superpeer = Identity::load(&peer(folder.path(), credentials), "super-1", SUPERPEER, NOW).unwrap();
    let id = superpeer.certified().id;
    assert!(superpeer.is_ready() && !superpeer.enrols());
    superpeer.reload(at(100)).unwrap();
    assert_eq!((superpeer.certified().id, superpeer.not_after()), (id, Some(at(100).plus(DAY))));

    let enrolling = peer(folder.path(), Credentials::Token(path("token")));
    assert!(matches!(
        Identity::load(&enrolling, "edge-1", Roles::EDGE, NOW),
        Err(ClusterError::TokenFile { .. })
    ));
    let token = superpeer.authority().unwrap().mint_token(Roles::EDGE, None).unwrap();
    fs::write(path("token"), format!("{token}\n")).unwrap();
    let edge = Identity::load(&enrolling, "edge-1", Roles::EDGE, NOW).unwrap();
    assert!(!edge.is_ready() && edge.enrols());
    assert_eq!(edge.token().unwrap(), token);
    let answer = superpeer.authority().unwrap().enrol(&edge.request(&token, "edge-1"), NOW);
    edge.accept(answer, NOW).unwrap();
    assert_eq!(edge.certified().roles, Roles::EDGE);

    fs::write(path("ca.pem"), "no certificate").unwrap();
    assert!(matches!(
        Identity::load(&enrolling, "edge-1", Roles::EDGE, NOW),
        Err(ClusterError::Authority(_))
    ));
}

#[test]
fn the_identity_is_the_hash_of_the_public_key_in_the_certificate() {
    let authority = authority();
    let edge = enrolled(&authority);
    let shown = edge.shown().unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(&shown.cert[0]).unwrap();
    assert_eq!(edge.certified().id, NodeId::of_key(certificate.public_key().raw));
}

/// QUIC gives only an alert and the words of the error.
#[test]
fn refusals_of_quic_connections_are_told_apart() {
    use rustls::{AlertDescription, CertificateError, Error};
    let early = CertificateError::NotValidYetContext {
        time: handshake::unix(NOW),
        not_before: handshake::unix(at(1)),
    };
    let late =
        CertificateError::ExpiredContext { time: handshake::unix(NOW), not_after: handshake::unix(at(-1)) };
    for (alert, error, refusal) in [
        (AlertDescription::CertificateExpired, Error::InvalidCertificate(early), PeerRefusal::NotYetValid),
        (AlertDescription::CertificateExpired, Error::InvalidCertificate(late), PeerRefusal::Expired),
        (AlertDescription::UnknownCA, CertificateError::UnknownIssuer.into(), PeerRefusal::OtherCluster),
        (AlertDescription::CertificateRequired, Error::NoCertificatesPresented, PeerRefusal::NoCertificate),
        (AlertDescription::NoApplicationProtocol, Error::NoApplicationProtocol, PeerRefusal::Protocol),
        (AlertDescription::InternalError, Error::General(String::new()), PeerRefusal::Other),
    ] {
        assert_eq!(refusal_of(&error), refusal);
        let code = quinn::TransportErrorCode::crypto(alert.into());
        let mut here = quinn::ConnectionError::TransportError(code.into());
        if let quinn::ConnectionError::TransportError(transport) = &mut here {
            transport.reason = error.to_string();
        }
        assert_eq!(refusal_of_connection(&here), refusal);
        let reason = error.to_string().into();
        let close = quinn::ConnectionClose { error_code: code, frame_type: None, reason };
        assert_eq!(refusal_of_connection(&quinn::ConnectionError::ConnectionClosed(close)), refusal);
    }
    assert_eq!(refusal_of_connection(&quinn::ConnectionError::TimedOut), PeerRefusal::Other);
}

/// The server's end and the client's of a QUIC connection, or what each is refused for.
async fn connect(client: &Identity, server: &Identity, clock: Clock) -> [Result<(), PeerRefusal>; 2] {
    use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
    let crypto = QuicServerConfig::try_from(server.server(clock)).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let listening = quinn::Endpoint::server(config, ([127, 0, 0, 1], 0).into()).unwrap();
    let crypto = QuicClientConfig::try_from(client.client(clock)).unwrap();
    let dialling = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connecting = dialling.connect_with(config, listening.local_addr().unwrap(), SERVER_NAME).unwrap();
    let accept = async {
        let connection = listening.accept().await.unwrap().await?;
        connection.open_uni().await?.finish().unwrap();
        connection.closed().await;
        Ok(())
    };
    let dial = async {
        let connection = connecting.await?;
        // The client is done before the server has checked it.
        connection.accept_uni().await?;
        Ok(())
    };
    let (accepted, dialled) = tokio::join!(accept, dial);
    [accepted, dialled].map(|end| end.map_err(|error| refusal_of_connection(&error)))
}

#[tokio::test]
async fn both_ends_of_a_quic_connection_know_why_it_was_refused() {
    let (ours, theirs) = (authority(), authority());
    let (edge, superpeer) = (enrolled(&ours), issued(&ours, SUPERPEER));
    let newcomer = Identity::pending(ours.certificate_pem(), "edge-2", Roles::EDGE).unwrap();
    let late = clock(DAY.as_secs().cast_signed() + 1);
    assert_eq!(connect(&edge, &superpeer, clock(0)).await, [Ok(()); 2]);
    for (client, server, clock, refusal) in [
        (&edge, &enrolled(&theirs), clock(0), PeerRefusal::OtherCluster),
        (&edge, &superpeer, late, PeerRefusal::Expired),
        (&edge, &superpeer, clock(-301), PeerRefusal::NotYetValid),
        (&newcomer, &edge, clock(0), PeerRefusal::NoCertificate),
    ] {
        assert_eq!(connect(client, server, clock).await, [Err(refusal); 2]);
    }
}
