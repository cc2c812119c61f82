//! The command line's own rules.

use clap::CommandFactory;

use crate::cli::Cli;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}
