//! `orderwright completions` and `orderwright man`: what packages install beside the program.

use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, fail, print};
use crate::app::exit;

const NAME: &str = "orderwright";

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  source <(orderwright completions bash)
  orderwright completions zsh > \"${fpath[1]}/_orderwright\"
  orderwright completions fish > ~/.config/fish/completions/orderwright.fish")]
pub(super) struct Completions {
    /// For which shell.
    shell: Shell,
}

#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// Where the pages are written to: one for the program, one for each command. It must be there.
    directory: PathBuf,
}

pub(super) fn completions(arguments: &Completions) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), NAME, &mut script);
    print(&String::from_utf8_lossy(&script))
}

pub(super) fn man(arguments: &Man) -> u8 {
    match pages(&arguments.directory) {
        Ok(()) => exit::OK,
        Err(error) => fail(exit::DATA, &error),
    }
}

fn pages(directory: &Path) -> std::io::Result<()> {
    clap_mangen::generate_to(Cli::command(), directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_shell_gets_a_script_that_knows_the_commands() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), NAME, &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("dead-letters") && script.contains("healthcheck"), "{shell}");
        }
    }

    #[test]
    fn every_command_has_a_page() {
        let directory = tempfile::tempdir().unwrap();
        pages(directory.path()).unwrap();
        for command in Cli::command().get_subcommands().filter(|it| !it.is_hide_set()) {
            let page = format!("{NAME}-{}.1", command.get_name());
            assert!(directory.path().join(&page).is_file(), "{page}");
        }
        let page = std::fs::read_to_string(directory.path().join("orderwright.1")).unwrap();
        assert!(page.contains("Exit codes"), "{page}");
    }
}
