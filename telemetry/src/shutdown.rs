//! The signals that ask a process to end.

/// Waits for SIGTERM or SIGINT and names the one that came.
///
/// # Errors
/// The runtime has no signal driver.
#[cfg(unix)]
pub async fn shutdown_signal() -> std::io::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

/// Waits for Ctrl-C and names it.
///
/// # Errors
/// The runtime has no signal driver.
#[cfg(not(unix))]
pub async fn shutdown_signal() -> std::io::Result<&'static str> {
    tokio::signal::ctrl_c().await?;
    Ok("Ctrl-C")
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sigterm_is_caught_and_named() {
        // The first branch runs first and listens before the second sends.
        let kill = format!("kill -TERM {}", std::process::id());
        let (signal, sent) = tokio::join!(shutdown_signal(), async {
            std::process::Command::new("sh").args(["-c", &kill]).status()
        });
        assert!(sent.expect("a shell").success());
        assert_eq!(signal.expect("a signal driver"), "SIGTERM");
    }
}
