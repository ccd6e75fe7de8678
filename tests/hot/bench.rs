//! `cargo bench`: how long each piece of the pure work for one update takes.

mod cases;

use criterion::{Criterion, criterion_group, criterion_main};

fn hot_path(criterion: &mut Criterion) {
    for case in cases::cases() {
        criterion.bench_function(case.name, |bencher| bencher.iter(&case.work));
    }
}

criterion_group!(benches, hot_path);
criterion_main!(benches);
