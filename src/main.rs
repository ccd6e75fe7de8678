//! The daemon and its tools.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    orderwright::cli::main(std::env::args_os()).into()
}
