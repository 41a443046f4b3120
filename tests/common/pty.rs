//! Runs a program in a terminal, as a person would: writes keys, and reads what stands on the screen.

use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, SlavePty, native_pty_system};
use vt100::MouseProtocolMode;

/// Columns and lines, where a test does not choose them.
pub const SIZE: (u16, u16) = (110, 30);

/// A terminal in which a program runs.
pub struct Terminal {
    master: Box<dyn MasterPty + Send>,
    /// Held open: where nobody has it any more the kernel hangs up, and what was written last may be lost.
    _slave: Box<dyn SlavePty + Send>,
    child: Box<dyn Child + Send + Sync>,
    keys: Box<dyn Write + Send>,
    shown: Arc<Mutex<Shown>>,
}

struct Shown {
    parser: vt100::Parser,
    /// All that was written.
    bytes: Vec<u8>,
}

impl Terminal {
    /// Runs rprof.
    pub fn rprof(arguments: &[&str]) -> Terminal {
        Terminal::rprof_in(SIZE, &[], arguments)
    }

    /// The same in a terminal of this size, with an environment.
    pub fn rprof_in(size: (u16, u16), environment: &[(&str, &str)], arguments: &[&str]) -> Terminal {
        Terminal::run(size, environment, env!("CARGO_BIN_EXE_rprof"), arguments)
    }

    /// Runs any program.
    pub fn run(
        (columns, rows): (u16, u16),
        environment: &[(&str, &str)],
        program: &str,
        arguments: &[&str],
    ) -> Terminal {
        let size = PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).expect("open a terminal");
        let mut command = CommandBuilder::new(program);
        command.args(arguments);
        command.env("TERM", "xterm-256color");
        ["NO_COLOR", "COLORFGBG"].iter().for_each(|name| command.env_remove(name));
        environment.iter().for_each(|(name, value)| command.env(name, value));
        command.cwd(std::env::current_dir().expect("a folder"));
        let child = pair.slave.spawn_command(command).expect("run the program");
        let parser = vt100::Parser::new(number(rows), number(columns), 0);
        let shown = Arc::new(Mutex::new(Shown { parser, bytes: Vec::new() }));
        let mut reader = pair.master.try_clone_reader().expect("read the terminal");
        let to = shown.clone();
        thread::spawn(move || {
            let mut buffer = [0; 1 << 16];
            loop {
                let read = reader.read(&mut buffer).unwrap_or(0);
                if read == 0 {
                    return;
                }
                let mut shown = to.lock().unwrap_or_else(PoisonError::into_inner);
                shown.parser.process(&buffer[..read]);
                shown.bytes.extend_from_slice(&buffer[..read]);
            }
        });
        let keys = pair.master.take_writer().expect("write to the terminal");
        Terminal { master: pair.master, _slave: pair.slave, child, keys, shown }
    }

    /// The process.
    pub fn pid(&self) -> i32 {
        self.child.process_id().and_then(|pid| i32::try_from(pid).ok()).expect("it runs")
    }

    /// Writes keys.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("write keys");
        self.keys.flush().expect("write keys");
    }

    /// Presses a button of the mouse over a column and a line, from 0; 0 is the left one, 2 the right one.
    pub fn click(&mut self, button: u8, (x, y): (usize, usize)) {
        let (x, y) = (x + 1, y + 1);
        self.press(&format!("\x1b[<{button};{x};{y}M\x1b[<{button};{x};{y}m"));
    }

    /// What stands on the screen.
    pub fn text(&self) -> String {
        self.shown().parser.screen().contents()
    }

    /// All that was written, with its escape sequences.
    pub fn written(&self) -> Vec<u8> {
        self.shown().bytes.clone()
    }

    fn shown(&self) -> std::sync::MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the screen is so, and answers it.
    pub fn wait(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        for _ in 0..12_000 {
            let text = self.text();
            if is_so(&text) {
                return text;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("waited in vain for {what}; the screen is\n{}", self.text());
    }

    /// Waits until a text stands on the screen.
    pub fn wait_for(&self, wanted: &str) -> String {
        self.wait(wanted, |text| text.contains(wanted))
    }

    /// Presses keys, and answers how long it took until the screen was so.
    pub fn time(&mut self, keys: &str, what: &str, is_so: impl Fn(&str) -> bool) -> Duration {
        let began = Instant::now();
        self.press(keys);
        while !is_so(&self.text()) {
            assert!(began.elapsed() < Duration::from_secs(60), "waited in vain for {what}: {}", self.text());
            thread::sleep(Duration::from_micros(200));
        }
        began.elapsed()
    }

    /// The column and line, from 0, where a text begins.
    pub fn find(&self, wanted: &str) -> (usize, usize) {
        let text = self.text();
        let found = text.lines().enumerate().find_map(|(y, line)| {
            let at = line.find(wanted)?;
            Some((line[..at].chars().count(), y))
        });
        found.unwrap_or_else(|| panic!("no {wanted} in\n{text}"))
    }

    /// The colour behind the letter at a column and line.
    pub fn background(&self, (x, y): (usize, usize)) -> vt100::Color {
        let shown = self.shown();
        let cell = shown.parser.screen().cell(y as u16, x as u16);
        cell.expect("it is on the screen").bgcolor()
    }

    /// Makes it larger or smaller.
    pub fn resize(&self, (columns, rows): (u16, u16)) {
        self.shown().parser = vt100::Parser::new(number(rows), number(columns), 0);
        let size = PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 };
        self.master.resize(size).expect("resize the terminal");
    }

    /// Waits until the program has ended, and answers its exit status (128 and the number of a signal).
    pub fn status(&mut self) -> i32 {
        for _ in 0..12_000 {
            if let Some(status) = self.child.try_wait().expect("wait") {
                assert!(status.signal().is_none(), "it died: {status}");
                return status.exit_code() as i32;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("it does not end; the screen is\n{}", self.text());
    }

    /// Asserts that the terminal is as it was before: its screen, cursor, mouse and line discipline.
    pub fn is_restored(&self) {
        self.wait("the terminal to be given back", |_| {
            let shown = self.shown();
            let screen = shown.parser.screen();
            !screen.alternate_screen()
                && !screen.hide_cursor()
                && screen.mouse_protocol_mode() == MouseProtocolMode::None
        });
        let flags = self.master.get_termios().expect("it is a terminal").local_flags.bits();
        let ordinary = libc::ICANON | libc::ECHO | libc::ISIG;
        assert_eq!(flags & ordinary, ordinary, "the terminal is still raw");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn number(size: u16) -> NonZeroU16 {
    NonZeroU16::new(size).expect("no terminal is empty")
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}
