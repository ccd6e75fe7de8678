//! A value that is made when it is needed, shared by all who need it, and given up by whoever finds
//! it wrong. One is made at a time.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

#[derive(Debug)]
pub(super) struct Kept<T> {
    value: Mutex<Option<Arc<T>>>,
    making: Semaphore,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { value: Mutex::new(None), making: Semaphore::new(1) }
    }
}

impl<T> Kept<T> {
    pub(super) fn now(&self) -> Option<Arc<T>> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn keep(&self, value: T) -> Arc<T> {
        let value = Arc::new(value);
        *self.value.lock().unwrap_or_else(PoisonError::into_inner) = Some(value.clone());
        value
    }

    /// Gives the value up, unless another has taken its place: many find the same one wrong at once.
    pub(super) fn give_up(&self, wrong: &Arc<T>) {
        let mut value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        if value.as_ref().is_some_and(|value| Arc::ptr_eq(value, wrong)) {
            *value = None;
        }
    }

    /// Waits for the right to make a value. Look at [`Self::now`] again then: whoever had it before
    /// has most likely made one.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.making.acquire().await.ok()
    }

    /// The right to make a value, unless somebody has it.
    pub(super) fn turn_now(&self) -> Option<SemaphorePermit<'_>> {
        self.making.try_acquire().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_value_that_was_found_wrong_is_given_up() {
        let kept = Kept::default();
        let first = kept.keep(1);
        let second = kept.keep(2);
        kept.give_up(&first);
        assert_eq!(kept.now().as_deref(), Some(&2));
        kept.give_up(&second);
        assert_eq!(kept.now(), None);
    }

    #[test]
    fn one_value_is_made_at_a_time() {
        let kept = Kept::<u8>::default();
        let turn = kept.turn_now();
        assert!(turn.is_some() && kept.turn_now().is_none());
        drop(turn);
        assert!(kept.turn_now().is_some());
    }
}
