//! Random operations against a store so simple that it is right.

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

const PATHS: [&str; 3] = ["/a", "/b", "/c"];
const VALUES: [&str; 20] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18",
    "19",
];

#[derive(Clone, Debug)]
enum Op {
    /// Fills the object under a list (0: none) and a value.
    Put {
        path: usize,
        list: usize,
        value: usize,
        length: u64,
    },
    /// Begins a fill that ends after the next operation.
    PutAround {
        path: usize,
        list: usize,
        value: usize,
    },
    Refresh {
        path: usize,
        list: usize,
        value: usize,
    },
    Invalidate {
        path: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let place = || (0..PATHS.len(), 0usize..3, 0..VALUES.len());
    prop_oneof![
        6 => (place(), 0u64..70_000).prop_map(|((path, list, value), length)| Op::Put { path, list, value, length }),
        2 => place().prop_map(|(path, list, value)| Op::PutAround { path, list, value }),
        2 => place().prop_map(|(path, list, value)| Op::Refresh { path, list, value }),
        1 => (0..PATHS.len()).prop_map(|path| Op::Invalidate { path }),
    ]
}

fn selecting(list: usize, value: usize) -> Vec<(&'static str, &'static str)> {
    match list {
        0 => vec![],
        1 => vec![("accept", VALUES[value])],
        _ => vec![("accept", VALUES[value]), ("x-shop", VALUES[value])],
    }
}

/// For each object its list and the bodies by value, the oldest first.
#[derive(Default)]
struct Model(HashMap<usize, (usize, Vec<(usize, u64)>)>);

impl Model {
    fn put(&mut self, path: usize, list: usize, value: usize, seed: u64) {
        let known = self.0.entry(path).or_default();
        if known.0 != list || list == 0 {
            *known = (list, vec![]);
        }
        known.1.retain(|(of, _)| *of != value);
        known.1.push((value, seed));
        if known.1.len() > 16 {
            known.1.remove(0);
        }
    }

    fn find(&self, path: usize, value: usize) -> Result<u64, MissReason> {
        let (list, bodies) = self.0.get(&path).ok_or(MissReason::Uri)?;
        let found = bodies.iter().find(|(of, _)| *of == value || *list == 0);
        found.map(|(_, seed)| *seed).ok_or(MissReason::Vary)
    }
}

async fn check(store: &Store, model: &Model) -> Result<(), TestCaseError> {
    for (path, name) in PATHS.iter().enumerate() {
        for (value, text) in VALUES.iter().enumerate() {
            let found = find_variant(store, name, &[("accept", text), ("x-shop", text)]).await;
            match (found, model.find(path, value)) {
                (Ok(hit), Ok(seed)) => {
                    prop_assert_eq!(&hit.head.body()[..8], &seed.to_le_bytes());
                }
                (found, expected) => prop_assert_eq!(found.err(), expected.err()),
            }
        }
        prop_assert_eq!(
            store.inspect(object(name)).len(),
            model.0.get(&path).map_or(0, |known| known.1.len())
        );
    }
    Ok(())
}

async fn run(ops: Vec<Op>) -> Result<(), TestCaseError> {
    let store = open(memory_only(64 * MIB)).await;
    let mut model = Model::default();
    let mut around: Option<(Filling, usize, usize, usize, u64)> = None;
    for (seed, op) in ops.into_iter().enumerate() {
        let seed = seed as u64;
        let pending = around.take();
        let bytes = |length: u64| [&seed.to_le_bytes()[..], &vec![7; length as usize]].concat();
        let mut invalidated = None;
        match op {
            Op::Put { path, list, value, length } => {
                let draft = varying(PATHS[path], seed, &selecting(list, value));
                prop_assert!(fill(&store, draft, &bytes(length)).await.is_ok());
                model.put(path, list, value, seed);
            }
            Op::PutAround { path, list, value } => {
                let mut filling = store.begin(varying(PATHS[path], seed, &selecting(list, value)));
                filling.append(&bytes(10)).await;
                around = Some((filling, path, list, value, seed));
            }
            Op::Refresh { path, list, value } => {
                let values = selecting(list.max(1), value);
                if let Ok(hit) = find_variant(&store, PATHS[path], &values).await {
                    let fresh = store.refresh(&hit, hit.head.to_draft().unwrap()).await;
                    prop_assert_eq!(fresh.head.body(), hit.head.body());
                }
            }
            Op::Invalidate { path } => {
                let found = store.invalidate(object(PATHS[path])).await;
                prop_assert_eq!(found, model.0.remove(&path).is_some());
                invalidated = Some(path);
            }
        }
        if let Some((filling, path, list, value, seed)) = pending {
            let sealed = filling.seal().await;
            prop_assert_eq!(sealed.is_ok(), invalidated != Some(path));
            if sealed.is_ok() {
                model.put(path, list, value, seed);
            }
        }
        check(&store, &model).await?;
    }
    drop(around);
    for path in PATHS {
        store.invalidate(object(path)).await;
    }
    prop_assert_eq!(store.usage().memory, 0);
    prop_assert_eq!(store.usage().index.bytes, 0);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_index_says_what_a_simple_map_says(ops in prop::collection::vec(op(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(ops))?;
    }
}
