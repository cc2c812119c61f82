//! Lines that a person types, edited and remembered for as long as the conversation lasts.

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::failure::Failure;

/// The keyboard. The editor is away while a line is typed, on a thread that may wait.
pub struct Lines(Option<DefaultEditor>);

impl Lines {
    /// Takes the terminal only while a line is typed.
    pub fn new() -> Result<Self, Failure> {
        DefaultEditor::new().map(|editor| Self(Some(editor))).map_err(unusable)
    }

    /// The next line; none at Ctrl-D and Ctrl-C.
    pub async fn next(&mut self) -> Result<Option<String>, Failure> {
        let mut editor = self.0.take().expect("it comes back with each line");
        let read = move || {
            let line = editor.readline("> ");
            if let Ok(line) = &line {
                // A line that is not remembered was still said.
                let _ = editor.add_history_entry(line);
            }
            (editor, line)
        };
        let (editor, line) = tokio::task::spawn_blocking(read).await?;
        self.0 = Some(editor);
        match line {
            Ok(line) => Ok(Some(line)),
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => Ok(None),
            Err(error) => Err(unusable(error)),
        }
    }
}

fn unusable(error: ReadlineError) -> Failure {
    Failure::new(error, "give the question as an argument or in a pipe")
}
