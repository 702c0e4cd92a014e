//! What opens encrypted key files: named by the caller, or asked for on the terminal, without echo and once a command.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::Failure;
use crate::ca::key_file::is_sealed;
use crate::config::PassphraseSource;
use crate::x509::Passphrase;

/// The longest line that is read from a terminal.
const LINE_LEN_MAX: u64 = 1_026;
/// What Ctrl-C sends while the terminal makes no signal of it.
const INTERRUPT: u8 = 3;

/// Where the passphrase of key files is.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Unlock {
    /// What opens encrypted private keys, and encrypts new ones: ask (on the terminal), file:PATH (mode 0600), fd:N,
    /// credential:NAME (systemd) or env:NAME. Never the passphrase itself. Without it, a key that is encrypted is asked for
    /// on the terminal, and new keys are not encrypted.
    #[arg(long, global = true, value_name = "SOURCE", help_heading = "Connection")]
    passphrase: Option<Source>,
    /// The same as --passphrase fd:N.
    #[arg(long, global = true, value_name = "N", conflicts_with = "passphrase", help_heading = "Connection")]
    passphrase_fd: Option<u32>,
    #[arg(skip)]
    held: Arc<OnceLock<Arc<Passphrase>>>,
}

/// A source, or the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// The person at the terminal.
    Ask,
    /// What the configuration knows too.
    From(PassphraseSource),
}

impl FromStr for Source {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "ask" {
            return Ok(Self::Ask);
        }
        text.parse().map(Self::From).map_err(|why| format!("ask, or {why}"))
    }
}

impl Source {
    /// The passphrase of a key that exists.
    pub(super) fn read(&self, what: &str) -> Result<Passphrase, Failure> {
        match self {
            Self::Ask => Terminal::open(what)?.ask(&format!("Passphrase of {what}: ")),
            Self::From(source) => Ok(Passphrase::new(source.read()?)?),
        }
    }

    /// A passphrase that keys are encrypted with: a person says it twice.
    pub(super) fn read_new(&self, what: &str) -> Result<Passphrase, Failure> {
        match self {
            Self::Ask => {
                let mut terminal = Terminal::open(what)?;
                let first = terminal.ask(&format!("New passphrase of {what}: "))?;
                let again = terminal.ask("Again: ")?;
                if first.is(&again) {
                    Ok(first)
                } else {
                    Err(Failure("the two passphrases differ".to_owned()))
                }
            }
            Self::From(source) => Ok(Passphrase::new(source.read()?)?),
        }
    }
}

impl Unlock {
    /// What the caller named.
    pub(super) fn source(&self) -> Option<Source> {
        let descriptor = self.passphrase_fd.map(|number| Source::From(PassphraseSource::Descriptor(number)));
        self.passphrase.clone().or(descriptor)
    }

    /// What new keys are encrypted with; none: they are not.
    pub(super) fn for_new(&self, path: &Path) -> Result<Option<Arc<Passphrase>>, Failure> {
        let Some(source) = self.source() else { return Ok(None) };
        self.once(|| source.read_new(&path.display().to_string())).map(Some)
    }

    /// What opens the key in a file; none: it is not encrypted.
    pub(super) fn for_key(&self, path: &Path) -> Result<Option<Arc<Passphrase>>, Failure> {
        if !is_sealed(path).map_err(|e| Failure(format!("{}: {e}", path.display())))? {
            return Ok(None);
        }
        self.once(|| self.source().unwrap_or(Source::Ask).read(&path.display().to_string())).map(Some)
    }

    /// Some sources can be read once, and nobody is asked twice.
    fn once(&self, read: impl FnOnce() -> Result<Passphrase, Failure>) -> Result<Arc<Passphrase>, Failure> {
        if let Some(held) = self.held.get() {
            return Ok(Arc::clone(held));
        }
        let read = Arc::new(read()?);
        Ok(Arc::clone(self.held.get_or_init(|| read)))
    }
}

/// The terminal of the person who called, whatever standard input and output are.
struct Terminal {
    tty: File,
}

/// Puts the terminal back as it was.
struct Quiet<'a>(&'a File, Termios);

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // Nothing more can be done for a terminal that is gone.
        let _ = tcsetattr(self.0, OptionalActions::Flush, &self.1);
    }
}

impl Terminal {
    fn open(what: &str) -> Result<Self, Failure> {
        let tty = OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(|_| {
            Failure(format!(
                "{what} needs a passphrase, and there is no terminal to ask on: give --passphrase file:PATH, fd:N, \
                 credential:NAME or env:NAME"
            ))
        })?;
        Ok(Self { tty })
    }

    fn ask(&mut self, question: &str) -> Result<Passphrase, Failure> {
        let before = tcgetattr(&self.tty).map_err(std::io::Error::from)?;
        let mut quiet = before.clone();
        // Without signals too: Ctrl-C would leave a terminal that shows nothing.
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        tcsetattr(&self.tty, OptionalActions::Flush, &quiet).map_err(std::io::Error::from)?;
        let guard = Quiet(&self.tty, before);
        let mut line = Zeroizing::new(Vec::with_capacity(2_048));
        let mut tty = &self.tty;
        tty.write_all(question.as_bytes())?;
        BufReader::with_capacity(1, tty).take(LINE_LEN_MAX).read_until(b'\n', &mut line)?;
        drop(guard);
        tty.write_all(b"\n")?;
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if line.contains(&INTERRUPT) {
            return Err(Failure("not done: interrupted".to_owned()));
        }
        Ok(Passphrase::new(line)?)
    }
}
