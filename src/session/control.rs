//! Commands to a recording while it runs, by a FIFO or a descriptor, as perf takes them (`--control`).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::sys;

/// Where commands come from, and where it is told that each was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlPlace {
    /// FIFOs by their paths.
    Fifo(PathBuf, Option<PathBuf>),
    /// Descriptors that we were started with.
    Descriptor(i32, Option<i32>),
}

impl FromStr for ControlPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<ControlPlace, String> {
        let wrong = || format!("'{text}': write fifo:COMMANDS[,ANSWERS] or fd:NUMBER[,NUMBER]");
        let (kind, places) = text.split_once(':').ok_or_else(wrong)?;
        let (commands, answers) = places.split_once(',').map_or((places, None), |(first, rest)| (first, Some(rest)));
        let number = |text: &str| text.parse::<i32>().ok().filter(|&fd| fd >= 0).ok_or_else(wrong);
        match kind {
            "fifo" if !commands.is_empty() => Ok(ControlPlace::Fifo(commands.into(), answers.map(PathBuf::from))),
            "fd" => Ok(ControlPlace::Descriptor(number(commands)?, answers.map(number).transpose()?)),
            _ => Err(wrong()),
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Sample from now on: all events, or the one of this name.
    Enable(Option<String>),
    /// Do not.
    Disable(Option<String>),
    /// Tell the names of the events.
    Events,
    /// Only answer.
    Ping,
    /// Begin another file.
    Snapshot,
    /// End.
    Stop,
    /// Something else.
    Unknown(String),
}

impl Command {
    fn parse(line: &str) -> Command {
        let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let name = Some(rest.trim().to_owned()).filter(|name| !name.is_empty());
        match word {
            "enable" => Command::Enable(name),
            "disable" => Command::Disable(name),
            "evlist" => Command::Events,
            "ping" => Command::Ping,
            "snapshot" => Command::Snapshot,
            "stop" => Command::Stop,
            _ => Command::Unknown(line.trim().to_owned()),
        }
    }
}

/// The most bytes of a line without end that are kept.
const LONGEST: usize = 4096;

/// An open line of commands.
pub(super) struct Control {
    commands: File,
    answers: Option<File>,
    line: Vec<u8>,
    /// The other end is closed for good.
    ended: bool,
}

impl Control {
    pub(super) fn open(place: &ControlPlace) -> io::Result<Control> {
        let (commands, answers) = match place {
            ControlPlace::Fifo(commands, answers) => {
                // Open for both, so that it does not end with the first who writes to it.
                let open =
                    |path: &PathBuf| File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path);
                (open(commands)?, answers.as_ref().map(open).transpose()?)
            }
            ControlPlace::Descriptor(commands, answers) => {
                let commands = sys::inherited(*commands)?;
                (File::from(commands), answers.map(sys::inherited).transpose()?.map(File::from))
            }
        };
        Ok(Control { commands, answers, line: Vec::new(), ended: false })
    }

    /// Readable once a command came; `None` if none can come any more.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        (!self.ended).then(|| self.commands.as_fd())
    }

    /// The commands that came since the last call.
    pub(super) fn take(&mut self) -> Vec<Command> {
        let mut bytes = [0; 512];
        loop {
            match self.commands.read(&mut bytes) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(read) if self.line.len() + read <= LONGEST => self.line.extend_from_slice(&bytes[..read]),
                Ok(_) => self.line.clear(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        let whole = self.line.iter().rposition(|&byte| byte == b'\n' || byte == 0).map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.line.drain(..whole).collect();
        let lines = String::from_utf8_lossy(&lines).into_owned();
        let lines = lines.split(['\n', '\0']).filter(|line| !line.trim().is_empty());
        lines.map(Command::parse).collect()
    }

    /// Tells that a command was carried out.
    pub(super) fn answer(&mut self) {
        if let Some(answers) = &mut self.answers {
            // Who does not listen need not hear it.
            let _ = answers.write_all(b"ack\n\0");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        assert_eq!("fifo:/a,/b".parse(), Ok(ControlPlace::Fifo("/a".into(), Some("/b".into()))));
        assert_eq!("fd:10".parse(), Ok(ControlPlace::Descriptor(10, None)));
        for wrong in ["fifo:", "fd:x", "/a", "fd:3,-1"] {
            assert!(wrong.parse::<ControlPlace>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn commands() {
        assert_eq!(Command::parse("enable cpu-clock\n"), Command::Enable(Some("cpu-clock".into())));
        assert_eq!(Command::parse("stop"), Command::Stop);
        assert_eq!(Command::parse("nonsense"), Command::Unknown("nonsense".into()));
    }
}
