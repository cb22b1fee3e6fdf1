//! The demo's workload against an origin in place of an edge: its figures must agree with the
//! origin's own.

use super::*;
use crate::cli::origin;

#[tokio::test]
async fn the_figures_agree_with_the_origins() {
    let spawner = Spawner::current();
    let args = origin::Args { listen: "127.0.0.1:0".parse().unwrap(), rate: None, delay: 0, workers: None };
    let origin = origin::start(&args, Clock::system(), &spawner).unwrap();
    let place = Place { origin, edges: vec![Edge { http: origin, metrics: None, admin: None }] };
    let mut stage = Stage::new("/bin/sh".into()).unwrap();
    stage.children.start("edge", &["-c", "echo ready; exec sleep 1000"]).await.unwrap();
    let trace = Arc::new(generate(3, 50));
    let summary = stage.ask(Duration::from_millis(300), trace.clone(), &place).await.unwrap();
    stage.end().await;

    assert!(summary.passed(), "{summary}");
    let json = serde_json::to_value(&summary).unwrap();
    let number = |pointer: &str| json.pointer(pointer).and_then(serde_json::Value::as_u64).unwrap();
    assert_eq!(number("/origin/requests"), number("/requests"));
    assert_eq!(number("/origin/bytes"), number("/served_bytes/origin"));
    assert!(number("/requests") > 50);
    assert_eq!(number("/unique_bytes"), trace.objects().iter().map(|object| object.size).sum::<u64>());
    assert_eq!((number("/errors"), number("/mismatches")), (0, 0));
    for source in ["memory", "disk", "peer"] {
        assert_eq!(number(&format!("/served_bytes/{source}")), 0);
    }
    // Nothing is cached, so the origin sent all that the client got.
    assert_eq!(json["offload"], 0.0);
    assert!(json["origin_ratio"].as_f64().unwrap() > 1.0);
}

#[tokio::test]
async fn an_edge_that_ends_ends_the_demo() {
    let spawner = Spawner::current();
    let args = origin::Args { listen: "127.0.0.1:0".parse().unwrap(), rate: None, delay: 0, workers: None };
    let origin = origin::start(&args, Clock::system(), &spawner).unwrap();
    let place = Place { origin, edges: vec![Edge { http: origin, metrics: None, admin: None }] };
    let mut stage = Stage::new("/bin/sh".into()).unwrap();
    stage.children.start("edge", &["-c", "echo ready; exit 1"]).await.unwrap();
    let trace = Arc::new(generate(3, 50));
    let error = stage.ask(Duration::from_secs(600), trace, &place).await.unwrap_err();
    assert!(error.to_string().contains("the edge ended by itself"), "{error}");
}

/// A program that notes its arguments, announces `addr`, and waits for its end.
fn stand_in(folder: &Path, addr: SocketAddr) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let (path, noted) = (folder.join("program"), folder.join("noted"));
    let noted = noted.display();
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {noted}\necho listening http {addr}\necho ready\nexec sleep 1000\n"
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    path
}

#[tokio::test]
async fn the_edge_is_started_after_its_origin_with_its_cache_in_the_folder() {
    let spawner = Spawner::current();
    let args = origin::Args { listen: "127.0.0.1:0".parse().unwrap(), rate: None, delay: 0, workers: None };
    let addr = origin::start(&args, Clock::system(), &spawner).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::new(stand_in(folder.path(), addr)).unwrap();
    let args = Args { duration: Duration::from_millis(100), edges: 1, trace: None, seed: 1, json: true };
    let result = stage.perform(&args, Arc::new(generate(1, 20)), Path::new("/the/folder")).await;
    stage.end().await;
    assert_eq!(format!("{:?}", result.unwrap()), format!("{:?}", ExitCode::SUCCESS));
    let noted = std::fs::read_to_string(folder.path().join("noted")).unwrap();
    let (of_origin, of_edge) = noted.trim_end().split_once('\n').unwrap();
    assert!(of_origin.starts_with("origin --listen 127.0.0.1:0"), "{noted}");
    assert!(of_edge.starts_with(&format!("run --listen 127.0.0.1:0 --origin http://{addr} ")), "{noted}");
    assert!(of_edge.contains("--cache-dir /the/folder ") && of_edge.ends_with("--access-log off"), "{noted}");
}

#[tokio::test]
async fn a_fleet_has_certificates_and_two_superpeers_that_the_rest_is_told_of() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (path, noted) = (folder.path().join("program"), folder.path().join("noted"));
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {}\n[ $1 = cert ] && exit 0\n\
         echo listening http 127.0.0.1:1\necho listening peer 127.0.0.1:$(wc -l < {})\necho ready\nexec sleep 1000\n",
        noted.display(),
        noted.display()
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut stage = Stage::new(path).unwrap();
    let origin = "127.0.0.1:9".parse().unwrap();
    let edges = edges::start(&mut stage.children, origin, Path::new("/f"), 3).await.unwrap();
    stage.end().await;
    assert_eq!(edges.len(), 3);

    let noted = std::fs::read_to_string(noted).unwrap();
    let lines: Vec<&str> = noted.lines().collect();
    assert_eq!(lines[0], "cert ca --name demo --out /f");
    assert_eq!(lines[1], "cert node --ca /f --out /f --name edge-1 --role edge --role superpeer");
    assert_eq!(lines[3], "cert node --ca /f --out /f --name edge-3 --role edge");
    // The stand-in announces the number of lines so far as its port.
    for (line, roles, seeds) in [
        (lines[4], "--role edge --role superpeer", ""),
        (lines[5], "--role edge --role superpeer", " --peer-seed 127.0.0.1:5"),
        (lines[6], "--role edge", " --peer-seed 127.0.0.1:5 --peer-seed 127.0.0.1:6"),
    ] {
        assert!(line.starts_with("run --listen 127.0.0.1:0 --origin http://127.0.0.1:9 "), "{line}");
        assert!(line.ends_with(&format!(" {roles}{seeds}")), "{line}");
    }
    let files = "--peer-ca /f/ca.pem --peer-cert /f/edge-3.pem --peer-key /f/edge-3-key.pem";
    assert!(lines[6].contains(files) && lines[6].contains("--cache-dir /f/edge-3 "), "{}", lines[6]);
}

#[tokio::test]
async fn a_command_that_fails_is_quoted() {
    let stage = Stage::new("/bin/sh".into()).unwrap();
    stage.children.run(&["-c", "exit 0"]).await.unwrap();
    let error = stage.children.run(&["-c", "echo no such role >&2; exit 2"]).await.unwrap_err();
    assert!(error.to_string().ends_with("failed: no such role"), "{error}");
}

#[tokio::test]
async fn a_flash_crowd_asks_each_target_once_for_each_client() {
    let spawner = Spawner::current();
    let args = origin::Args { listen: "127.0.0.1:0".parse().unwrap(), rate: None, delay: 0, workers: None };
    let addr = origin::start(&args, Clock::system(), &spawner).unwrap();
    let target = Target::resolve(&format!("http://{addr}")).await.unwrap();
    let load = crowd::load(vec![target; 2]).unwrap();
    assert_eq!(load.requests, Some(2 * crowd::CLIENTS_PER_EDGE as u64));
    assert_eq!((load.concurrency, load.trace.objects()), (2 * crowd::CLIENTS_PER_EDGE, &[crowd::OBJECT][..]));
}
