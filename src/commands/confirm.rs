//! Asks before what cannot be undone.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::{Context as _, bail};

/// Whether the user wants it. Without a terminal nobody can be asked: then `--yes` has to say so.
pub(super) fn confirm(question: &str, yes: bool) -> anyhow::Result<bool> {
    if yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        bail!(
            "there is no terminal to ask on; nothing was changed\nhint: `--yes` does it without asking"
        );
    }
    write!(anstream::stderr().lock(), "{question} [y/N] ").context("cannot ask")?;
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
