//! Lets a pod stand still (as SIGSTOP does) or die (as SIGKILL does), at any moment in which none of its
//! tasks is at work.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Runs,
    Stands,
    Dead,
}

#[derive(Debug)]
struct Tasks {
    state: State,
    next: u64,
    wakers: BTreeMap<u64, Waker>,
}

/// What all tasks of a pod pass.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<Mutex<Tasks>>);

impl Gate {
    pub(crate) fn new() -> Self {
        let tasks = Tasks { state: State::Runs, next: 0, wakers: BTreeMap::new() };
        Self(Arc::new(Mutex::new(tasks)))
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state(&self) -> State {
        self.tasks().state
    }

    /// Death is for good.
    pub(crate) fn become_(&self, state: State) {
        let wakers: Vec<Waker> = {
            let mut tasks = self.tasks();
            if tasks.state == State::Dead {
                return;
            }
            tasks.state = state;
            tasks.wakers.values().cloned().collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// A task of the pod.
    pub(crate) fn task<F: Future + Send>(
        &self,
        task: F,
    ) -> impl Future<Output = F::Output> + Send + use<F> {
        let mut tasks = self.tasks();
        tasks.next += 1;
        Task { inner: Some(Box::pin(task)), number: tasks.next, gate: self.clone() }
    }
}

struct Task<F> {
    inner: Option<Pin<Box<F>>>,
    number: u64,
    gate: Gate,
}

impl<F: Future> Future for Task<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let number = self.number;
        let state = {
            let mut tasks = self.gate.tasks();
            tasks.wakers.insert(number, context.waker().clone());
            tasks.state
        };
        match state {
            State::Runs => match &mut self.inner {
                Some(task) => task.as_mut().poll(context),
                None => Poll::Pending,
            },
            State::Stands => Poll::Pending,
            State::Dead => {
                self.inner = None;
                Poll::Pending
            }
        }
    }
}

impl<F> Drop for Task<F> {
    fn drop(&mut self) {
        self.gate.tasks().wakers.remove(&self.number);
    }
}
