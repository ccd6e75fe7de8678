//! `orderwright dead-letters`: what went wrong, and what to do about it.

mod adopt;
pub(super) mod desk;
mod discard;
mod edit;
mod editor;
mod export;
mod filters;
mod gather;
mod groups;
mod history;
mod import;
mod incident;
mod interrupt;
mod list;
mod moving;
mod parked;
mod plan;
mod release;
mod replay;
mod rounds;
mod show;
mod standstill;

use crate::config::Loaded;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq groups                               what kinds of trouble there are
  orderwright dlq ls --fingerprint v1-4f1d             the letters of one kind
  orderwright dlq show 0195c2aa                        one letter, all of it
  orderwright dlq export --file letters.ndjson         a copy of all
  orderwright dlq discard --id 0195c2aa --because 'TICKET-7' --yes
  orderwright dlq edit 0195c2aa                        mend a letter in your editor
  orderwright dlq replay --reason rejected             what a replay would do
  orderwright dlq replay --reason rejected --run       do it

Looking takes no letter away and moves none. Letters that come while one looks are not part of it. One \
operator at a time: what one holds, another cannot see.")]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// The kinds of trouble: how many letters of how many orders, since when, and what to do.
    Groups(groups::Arguments),
    /// One line for each letter.
    Ls(list::Arguments),
    /// One letter: every attempt, where it came from, its body.
    Show(show::Arguments),
    /// Write letters to a file, one a line, and leave them where they are.
    Export(export::Export),
    /// Bring exported letters back, byte for byte.
    Import(import::Import),
    /// Put letters aside, with a reason. They can be restored for a while.
    Discard(discard::Discard),
    /// Bring discarded letters back.
    Restore(discard::Restore),
    /// Take letters over from another program's queue of dead letters.
    Move(adopt::Arguments),
    /// Show the orders that stand still behind a dead letter.
    Parked(parked::Parked),
    /// Let an order go on, from this moment on; its dead letters stay where they are.
    Release(release::Arguments),
    /// Change the body of a letter, so that a replay can write it.
    Edit(edit::Arguments),
    /// What a replay would do: asks the service for each order, and writes nothing.
    Plan(plan::Arguments),
    /// Send dead letters once more. Says what it would do, unless --run is given.
    Replay(replay::Arguments),
    /// What was done with dead letters, by whom, and what came of it.
    History(history::Arguments),
    /// One replay, letter by letter.
    Report(history::Report),
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One JSON object a line.
    Ndjson,
}

pub(super) async fn run(arguments: Arguments, loaded: Loaded) -> u8 {
    match arguments.command {
        Command::Edit(arguments) => edit::run(&arguments, loaded).await,
        Command::Plan(arguments) => plan::run(&arguments, loaded).await,
        Command::Replay(arguments) => replay::run(&arguments, loaded).await,
        Command::History(arguments) => history::run(&arguments, loaded).await,
        Command::Report(arguments) => history::report(&arguments, loaded).await,
        Command::Groups(arguments) => groups::run(&arguments, loaded).await,
        Command::Ls(arguments) => list::run(&arguments, loaded).await,
        Command::Show(arguments) => show::run(&arguments, loaded).await,
        Command::Export(arguments) => export::export(&arguments, loaded).await,
        Command::Import(arguments) => import::import(&arguments, loaded).await,
        Command::Discard(arguments) => discard::discard(&arguments, loaded).await,
        Command::Restore(arguments) => discard::restore(&arguments, loaded).await,
        Command::Move(arguments) => adopt::run(&arguments, loaded).await,
        Command::Parked(arguments) => parked::run(parked::Question::List(&arguments), loaded).await,
        Command::Release(arguments) => {
            parked::run(parked::Question::Release(&arguments), loaded).await
        }
    }
}

/// An age as people say it: the two largest units.
fn age(seconds: i64) -> String {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    let whole = humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string();
    let units: Vec<_> = whole.split(' ').take(2).collect();
    units.join(" ")
}

/// A text from a message, fit for a terminal: control characters, which could rewrite what stands
/// there, are shown and not sent.
fn plain(text: &str) -> String {
    let shown = |it: char| match it {
        '\n' | '\t' => it.to_string(),
        it if it.is_control() => it.escape_default().to_string(),
        it => it.to_string(),
    };
    text.chars().map(shown).collect()
}

/// The same on one line, cut to a length.
pub(super) fn line(text: &str, characters_max: usize) -> String {
    let one: String = plain(text).split_whitespace().collect::<Vec<_>>().join(" ");
    if one.chars().count() <= characters_max {
        return one;
    }
    let cut: String = one.chars().take(characters_max.saturating_sub(1)).collect();
    format!("{cut}…")
}

/// Each with its end.
fn lines(all: impl Iterator<Item = String>) -> String {
    let mut text = String::new();
    for line in all {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// `1 letter`, `2 letters`.
fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_message_cannot_write_to_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\tc\nd\u{7f}"), "a\\u{1b}[2Jb\tc\nd\\u{7f}");
        assert_eq!(line("one\n two\tthree", 80), "one two three");
        assert_eq!(line("abcdef", 4), "abc…");
    }

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        _arguments: Arguments,
    }

    #[test]
    fn every_command_has_examples_exit_codes_and_ways_to_print() {
        use clap::CommandFactory as _;
        for command in Line::command().get_subcommands() {
            let name = command.get_name();
            let help = command.get_after_help().unwrap_or_else(|| panic!("{name}")).to_string();
            assert!(help.contains("Examples:\n  orderwright dlq "), "{name}: {help}");
            assert!(help.contains("Exit codes: 0 "), "{name}: {help}");
            // A paragraph is one line, which a terminal breaks where it ends. What is set out in columns fits 100.
            let is_paragraph = |line: &str| !line.is_empty() && !line.trim_end().contains("  ");
            let lines: Vec<_> = help.lines().collect();
            for pair in lines.windows(2).filter(|pair| pair.iter().all(|line| is_paragraph(line))) {
                let is_heading = pair[0] == "Examples:" || pair[1].starts_with("Exit codes");
                assert!(is_heading, "{name}: {pair:?}");
            }
            for line in lines.iter().filter(|line| !is_paragraph(line)) {
                assert!(line.chars().count() <= 100, "{name}: {line}");
            }
            // Its lines are lines of JSON.
            if name == "export" {
                continue;
            }
            let output = command.get_arguments().find(|it| it.get_id() == "output");
            let values = output.unwrap_or_else(|| panic!("{name}")).get_possible_values();
            for wanted in ["table", "json", "ndjson"] {
                assert!(values.iter().any(|it| it.get_name() == wanted), "{name}: {wanted}");
            }
        }
    }

    #[test]
    fn ages_have_two_units() {
        assert_eq!(age(0), "0s");
        assert_eq!(age(3 * 86_400 + 4 * 3_600 + 59), "3days 4h");
        assert_eq!(age(-5), "0s");
    }
}
