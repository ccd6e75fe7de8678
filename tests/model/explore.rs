//! Looks at every state that can be reached, nearest first, so that what breaks a promise is told by the
//! shortest way to it.

use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;

/// Something that goes from state to state.
pub(crate) trait Model {
    type State: Clone + Eq + Hash + Debug;
    type Action: Clone + Debug;

    fn begin(&self) -> Self::State;

    /// What may happen, and what comes of it.
    fn next(&self, state: &Self::State) -> Vec<(Self::Action, Self::State)>;

    /// Why a state must not be.
    fn broken(&self, state: &Self::State) -> Option<&'static str>;

    /// Whether everything is done: where nothing can happen any more, it must be.
    fn is_done(&self, state: &Self::State) -> bool;
}

/// More than any of ours has at its bounds.
const STATES_MAX: usize = 20_000_000;

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) states: usize,
    /// Why, and the way there.
    pub(crate) broken: Option<(&'static str, Vec<String>)>,
}

pub(crate) fn explore<M: Model>(model: &M) -> Found {
    let mut states: Vec<M::State> = vec![model.begin()];
    let mut known: HashMap<M::State, usize> = HashMap::from([(states[0].clone(), 0)]);
    let mut from: Vec<Option<(usize, M::Action)>> = vec![None];
    let mut waiting = VecDeque::from([0]);
    while let Some(at) = waiting.pop_front() {
        let state = states[at].clone();
        let next = model.next(&state);
        let stuck = next.is_empty() && !model.is_done(&state);
        let broken =
            model.broken(&state).or(stuck.then_some("nothing can happen, and not all is done"));
        if let Some(why) = broken {
            let mut way = vec![format!("{state:?}")];
            let mut back = at;
            while let Some((before, action)) = from[back].clone() {
                way.push(format!("{action:?}"));
                back = before;
            }
            way.reverse();
            return Found { states: states.len(), broken: Some((why, way)) };
        }
        for (action, next) in next {
            if !known.contains_key(&next) {
                assert!(states.len() < STATES_MAX, "the bounds are too wide");
                known.insert(next.clone(), states.len());
                waiting.push_back(states.len());
                states.push(next);
                from.push(Some((at, action)));
            }
        }
    }
    Found { states: states.len(), broken: None }
}

/// Whether the wider bounds are asked for.
pub(crate) fn is_deep() -> bool {
    std::env::var_os("MODEL_DEEP").is_some()
}

pub(crate) fn holds<M: Model>(name: &str, model: &M) {
    let Found { states, broken } = explore(model);
    println!("{name}: {states} states");
    assert!(broken.is_none(), "{name}: {broken:#?}");
    assert!(states > 100, "{name}: a model of {states} states looks at nothing");
}

/// A model without one of its nets must show what the net is for.
pub(crate) fn breaks<M: Model>(name: &str, model: &M, wanted: &str) {
    let Found { states, broken } = explore(model);
    let (why, way) =
        broken.unwrap_or_else(|| panic!("{name}: nothing is broken in {states} states"));
    println!("{name}: {why} after {} steps", way.len() - 1);
    assert_eq!(why, wanted, "{name}: {way:#?}");
}
