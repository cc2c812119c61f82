//! The command line's own rules.

use clap::CommandFactory;

use crate::cli::Cli;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[cfg(feature = "up")]
#[test]
fn flags_without_a_command_are_those_of_up_and_a_misspelt_command_is_none() {
    let said = |line: &str| {
        let said = line.split(' ').map(Into::into).collect();
        crate::cli::with_up(said).join(" ".as_ref()).into_string().expect("text")
    };
    assert_eq!(said("firmament"), "firmament up");
    assert_eq!(said("firmament --data d --listen x"), "firmament up --data d --listen x");
    for as_it_is in
        ["firmament --json node list", "firmament -V", "firmament --help", "firmament chta"]
    {
        assert_eq!(said(as_it_is), as_it_is);
    }
}
