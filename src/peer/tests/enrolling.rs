use super::super::AskError;
use super::super::enrol::{ENROL_LIMIT, keep_certified};
use super::*;
use std::io::Write;

/// The files of a node that is to get its certificate with `token`, and its identity without one.
fn joining(authority: &Authority, token: &str, roles: Roles) -> (Identity, [tempfile::NamedTempFile; 2]) {
    let file = |text: &str| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    };
    let files = [file(authority.certificate_pem()), file(token)];
    let peer = Peer {
        listen: ([127, 0, 0, 1], 0).into(),
        advertise: None,
        seeds: Vec::new(),
        ca: files[0].path().to_owned(),
        credentials: Credentials::Token(files[1].path().to_owned()),
        directory_max: 1,
    };
    (Identity::load(&peer, "new-edge", roles, Clock::system().now().wall).unwrap(), files)
}

fn begin_to_enrol(node: &Node, seeds: Vec<SocketAddr>) {
    let (links, spawner) = (node.links.clone(), node.spawner.clone());
    spawner.spawn(keep_certified(links, move || std::future::ready(seeds.clone())));
}

async fn until(is_so: impl Fn() -> bool) {
    in_time(async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_node_with_a_token_gets_a_certificate_from_a_superpeer_and_then_connects() {
    let authority = authority();
    let (mut superpeer, edge) = (Node::of(&authority, BOTH), Node::of(&authority, Roles::EDGE));
    let token = authority.mint_token(Roles::EDGE, None).unwrap();
    let (identity, _files) = joining(&authority, &token, Roles::EDGE);
    let node = Node::open(identity.clone(), 1);
    assert_eq!(in_time(node.links.connect(superpeer.at(), None)).await.err(), Some(AskError::Unreachable));
    assert_eq!(node.count("shoal_peer_dials_total{result=\"failure\"}"), 0, "it did not even dial");
    // One that cannot give certificates is asked first, and one that is not there.
    begin_to_enrol(&node, vec![edge.at(), superpeer.at()]);
    until(|| identity.is_ready()).await;
    let link = in_time(node.links.connect(superpeer.at(), None)).await.unwrap();
    assert_eq!(link.member().id, superpeer.links.me().id);
    let seen = superpeer.up().await;
    assert_eq!((seen.member().id, &*seen.member().name), (identity.certified().id, "new-edge"));
    assert_eq!(seen.member().roles, Roles::EDGE);
    until(|| superpeer.count("shoal_peer_certificates_issued_total{result=\"success\"}") == 1).await;
    assert_eq!(node.count("shoal_peer_certificate_renewals_total{result=\"success\"}"), 1);
}

#[tokio::test]
async fn addresses_where_nobody_answers_do_not_hold_up_who_wants_a_certificate() {
    let authority = authority();
    let superpeer = Node::of(&authority, BOTH);
    let token = authority.mint_token(Roles::EDGE, None).unwrap();
    let (identity, _files) = joining(&authority, &token, Roles::EDGE);
    let node = Node::open(identity.clone(), 1);
    let silent = [(); 3].map(|()| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    let gone = silent.iter().map(|socket| socket.local_addr().unwrap());
    let began = Clock::system().mono();
    begin_to_enrol(&node, [node.at()].into_iter().chain(gone).chain([superpeer.at()]).collect());
    until(|| identity.is_ready()).await;
    assert!(began.elapsed() < ENROL_LIMIT, "it waited for one of them: {:?}", began.elapsed());
    assert_eq!(node.refused("no_certificate"), 0, "it did not ask itself");
}

#[tokio::test]
async fn a_wrong_token_gives_no_certificate_and_both_sides_count_it() {
    let (ours, theirs) = (authority(), authority());
    let superpeer = Node::of(&ours, BOTH);
    let token = theirs.mint_token(Roles::EDGE, None).unwrap();
    let (identity, _files) = joining(&ours, &token, Roles::EDGE);
    let node = Node::open(identity.clone(), 1);
    begin_to_enrol(&node, vec![superpeer.at()]);
    until(|| superpeer.count("shoal_peer_certificates_issued_total{result=\"failure\"}") >= 1).await;
    until(|| node.count("shoal_peer_certificate_renewals_total{result=\"failure\"}") >= 1).await;
    assert!(!identity.is_ready());
    superpeer.until_refused("no_certificate").await;
}

#[tokio::test]
async fn the_token_is_shown_to_no_edge() {
    let authority = authority();
    // An edge that could give certificates: its operator put the authority's key on it.
    let edge = Node::of(&authority, Roles::EDGE);
    let token = authority.mint_token(Roles::EDGE, None).unwrap();
    let (identity, _files) = joining(&authority, &token, Roles::EDGE);
    let node = Node::open(identity.clone(), 1);
    begin_to_enrol(&node, vec![edge.at()]);
    until(|| node.refused("wrong_role") >= 1).await;
    assert!(!identity.is_ready());
    assert_eq!(edge.count("shoal_peer_certificates_issued_total{result=\"success\"}"), 0);
}

#[tokio::test]
async fn who_has_no_certificate_reaches_no_stream_of_peers() {
    let authority = authority();
    let superpeer = Node::of(&authority, BOTH);
    let (identity, _files) = joining(&authority, "", Roles::EDGE);
    let node = Node::open(identity.clone(), 1);
    // Past the check of the dialler, which would not even try.
    let endpoint = node.links.0.endpoint().unwrap();
    let client = super::super::endpoint::client(identity.client(Clock::system())).unwrap();
    let connecting = endpoint.connect_with(client, superpeer.at(), crate::tls::cluster::SERVER_NAME).unwrap();
    if let Ok(connection) = in_time(connecting).await {
        in_time(connection.closed()).await;
    }
    superpeer.until_refused("no_certificate").await;
    assert_eq!(superpeer.count("shoal_peer_links"), 0);
}
