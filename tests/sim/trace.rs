//! What happened, as one number that two runs can be compared by, and in words where a run is replayed.

use std::fmt::Write as _;

use tokio::time::Instant;

#[derive(Debug)]
pub(crate) struct Trace {
    begun: Instant,
    hash: u64,
    events: u64,
    words: Option<String>,
}

impl Trace {
    pub(crate) fn new(is_told: bool) -> Self {
        Self {
            begun: Instant::now(),
            hash: 0xcbf2_9ce4_8422_2325,
            events: 0,
            words: is_told.then(String::new),
        }
    }

    /// FNV-1a over the time, the word and the numbers.
    pub(crate) fn note(&mut self, word: &'static str, numbers: [u64; 3]) {
        let at = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let numbers = [at, numbers[0], numbers[1], numbers[2]];
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
        for byte in bytes.chain(word.bytes()) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.events += 1;
        if let Some(words) = &mut self.words {
            let [at, one, two, three] = numbers;
            let seconds = at as f64 / 1e6;
            let _infallible = writeln!(words, "{seconds:10.3} {word:10} {one} {two} {three}");
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    pub(crate) fn words(&self) -> &str {
        self.words.as_deref().unwrap_or_default()
    }
}
