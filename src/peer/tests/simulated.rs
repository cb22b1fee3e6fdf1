use super::super::AskError;
use super::turmoil_net::Turmoil;
use super::*;

const PORT: u16 = 7000;
const SEED: u64 = 0x5ee0_1ab5;
const LENGTH: usize = 1 << 20;

/// What a run gives: times and packets are to be the same for one seed.
#[derive(Debug, PartialEq)]
struct Outcome {
    connected: Duration,
    transferred: Duration,
    sent: (u64, u64),
}

fn node(identity: Identity, seed: u8) -> Node {
    let at = SocketAddr::from(([0, 0, 0, 0], PORT));
    let start = start(Arc::new(Turmoil), at, Clock::simulated(wall()), Some([seed; 32]));
    Node::open_on(&start, identity, at, 1)
}

fn simulation(seed: u64) -> turmoil::Sim<'static> {
    turmoil::Builder::new()
        .rng_seed(seed)
        .min_message_latency(Duration::from_millis(2))
        .max_message_latency(Duration::from_millis(2))
        .simulation_duration(Duration::from_secs(120))
        .udp_capacity(1 << 16)
        .build()
}

/// Answers everything that it is asked with a body.
async fn serve(identity: Identity) -> turmoil::Result {
    let mut node = node(identity, 1);
    loop {
        if let LinkEvent::Asked { mut exchange, .. } = node.events.recv().await.expect("it lives") {
            node.spawner.spawn(async move {
                if exchange.send_data(body(LENGTH)).await.is_ok() {
                    exchange.finish();
                }
            });
        }
    }
}

fn transfer(seed: u64) -> Outcome {
    println!("seed {seed:#x}");
    let mut simulation = simulation(seed);
    let authority = Authority::create("cluster", wall()).unwrap();
    let identities = [(); 2].map(|()| Identity::issued(&authority, BOTH, "node", wall()).unwrap());
    let [holder, seeker] = identities;
    simulation.host("holder", move || serve(holder.clone()));
    let (told, outcome) = std::sync::mpsc::sync_channel(1);
    simulation.client("seeker", async move {
        let node = node(seeker, 2);
        let to = SocketAddr::new(turmoil::lookup("holder"), PORT);
        let link = node.links.connect(to, None).await?;
        let connected = turmoil::elapsed();
        let mut exchange = link.ask(read()).await?;
        let (_, data) = all(&mut exchange).await?;
        assert!(data == body(LENGTH), "the bytes differ");
        told.send(Outcome { connected, transferred: turmoil::elapsed(), sent: link.bytes() })?;
        Ok(())
    });
    simulation.run().unwrap_or_else(|error| panic!("seed {seed:#x}: {error}"));
    outcome.recv().unwrap()
}

#[test]
fn a_mebibyte_crosses_a_simulated_network_in_the_same_way_each_time() {
    let first = transfer(SEED);
    println!("{first:?}");
    assert!(first.connected < Duration::from_millis(100), "{first:?}");
    assert!(first.transferred < Duration::from_secs(5), "{first:?}");
    assert_eq!(first, transfer(SEED));
}

#[test]
fn a_peer_that_falls_silent_is_noticed_and_found_again() {
    println!("seed {SEED:#x}");
    let mut simulation = simulation(SEED);
    let authority = Authority::create("cluster", wall()).unwrap();
    let [holder, seeker] = [(); 2].map(|()| Identity::issued(&authority, BOTH, "node", wall()).unwrap());
    simulation.host("holder", move || serve(holder.clone()));
    simulation.client("seeker", async move {
        let mut node = node(seeker, 2);
        let to = SocketAddr::new(turmoil::lookup("holder"), PORT);
        let link = node.links.connect(to, None).await?;
        node.up().await;
        turmoil::partition("holder", "seeker");
        let began = turmoil::elapsed();
        assert!(matches!(node.events.recv().await, Some(LinkEvent::Down(id)) if id == link.member().id));
        assert!(turmoil::elapsed() - began < Duration::from_secs(12));
        // The first dial takes its time, the next fails at once, for there is a pause.
        let began = turmoil::elapsed();
        assert_eq!(node.links.connect(to, None).await.err(), Some(AskError::Unreachable));
        let took = turmoil::elapsed() - began;
        assert!(took >= Duration::from_millis(900) && took < Duration::from_millis(1100), "{took:?}");
        let began = turmoil::elapsed();
        assert_eq!(node.links.connect(to, None).await.err(), Some(AskError::Unreachable));
        assert_eq!(turmoil::elapsed(), began);
        // However long it was away, it is tried again within the longest pause.
        tokio::time::sleep(Duration::from_secs(10)).await;
        turmoil::repair("holder", "seeker");
        let began = turmoil::elapsed();
        while node.links.connect(to, None).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(turmoil::elapsed() - began < Duration::from_secs(7));
        Ok(())
    });
    simulation.run().unwrap_or_else(|error| panic!("seed {SEED:#x}: {error}"));
}
