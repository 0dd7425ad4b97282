//! What nkudo says while it works: to standard error for people, to the journal with fields.

use std::io::IsTerminal as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, io};

use indicatif::{ProgressBar, ProgressStyle};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// Begins to listen to what the program says.
///
/// `RUST_LOG` lets more of it through (`RUST_LOG=nkudo=debug`). Records reach the journal with
/// their fields (`journalctl NKUDO_VM=web`); under a unit whose standard error is the journal
/// already, only that way.
pub fn init() {
    let filter = || {
        EnvFilter::builder()
            .with_default_directive(LevelFilter::INFO.into())
            .from_env_lossy()
    };
    let journal = tracing_journald::layer().ok().map(|layer| {
        // Somebody who asks for more or less by RUST_LOG gets that.
        let calls = std::env::var_os(EnvFilter::DEFAULT_ENV)
            .is_none()
            .then(|| format!("{}=debug", crate::vmm::CALLS).parse().ok())
            .flatten();
        let filter = match calls {
            Some(calls) => filter().add_directive(calls),
            None => filter(),
        };
        layer.with_field_prefix(None).with_filter(filter)
    });
    let to_journal_already = journal.is_some() && stderr_is_the_journal();
    let people = (!to_journal_already).then(|| {
        tracing_subscriber::fmt::layer()
            .with_writer(|| BesideTheBar)
            .event_format(Plain {
                colour: io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
            })
            .fmt_fields(MessageOnly)
            .with_filter(filter())
    });
    tracing_subscriber::registry()
        .with(people)
        .with(journal)
        .init();
}

/// How far a long piece of work is, on a terminal; each finished piece has a line of its own anyhow.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

fn bar() -> MutexGuard<'static, Option<ProgressBar>> {
    BAR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shows a progress bar while this lives, where standard error is a terminal.
#[derive(Debug)]
pub struct Progress(());

impl Progress {
    pub fn begin(pieces: usize) -> Self {
        if pieces > 1 && io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{bar:30} {pos} of {len} VMs, {elapsed}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            let new = ProgressBar::new(pieces as u64).with_style(style);
            new.enable_steady_tick(Duration::from_millis(200));
            *bar() = Some(new);
        }
        Self(())
    }

    /// One piece is done.
    pub fn advance(&self) {
        if let Some(bar) = &*bar() {
            bar.inc(1);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = bar().take() {
            bar.finish_and_clear();
        }
    }
}

/// Standard error, with the progress bar out of the way of what is written.
struct BesideTheBar;

impl io::Write for BesideTheBar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &*bar() {
            Some(bar) => bar.suspend(|| io::stderr().write(bytes)),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Whether standard error is the stream that systemd connected to the journal: a process of a unit may have put
/// a terminal or a file in its place since (`$JOURNAL_STREAM`, systemd.exec(5)).
fn stderr_is_the_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    rustix::fs::fstat(io::stderr())
        .is_ok_and(|stderr| stream == format!("{}:{}", stderr.st_dev, stderr.st_ino))
}

/// A line for people: the message, and a word before it where it is more than information.
struct Plain {
    colour: bool,
}

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let word = match *event.metadata().level() {
            Level::ERROR => Some(("error", 31)),
            Level::WARN => Some(("warning", 33)),
            _ => None,
        };
        match word {
            Some((word, colour)) if self.colour => {
                write!(writer, "\x1b[1;{colour}m{word}\x1b[0m: ")?;
            }
            Some((word, _)) => write!(writer, "{word}: ")?,
            None => {}
        }
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// The message alone: the fields are for the journal.
struct MessageOnly;

impl<'writer> FormatFields<'writer> for MessageOnly {
    fn format_fields<R: tracing_subscriber::field::RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        let mut visitor = Message {
            writer: &mut writer,
            result: Ok(()),
        };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct Message<'a, 'writer> {
    writer: &'a mut Writer<'writer>,
    result: fmt::Result,
}

impl tracing::field::Visit for Message<'_, '_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        if field.name() == "message" && self.result.is_ok() {
            self.result = write!(self.writer, "{value:?}");
        }
    }
}
