//! How the commands are given messages and give them out: as a file, over a pipe, as a picture, or as QR codes in the
//! terminal. Reading tells the form by itself. Nothing here uses a network.

use std::fs;
use std::io::{self, BufRead, BufReader, IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use carry::{
    Background, CarryError, FRAMES_PER_SECOND, Message, MessageType, Qr, QrVersion, Receiver, Scale, Sender,
    animated_png, each_code_in_png, file, write_folder,
};
use clap::Args;
use console::Term;
use eyre::WrapErr;
use serde_json::{Value, json};

use super::folder::replace;
use crate::exit::usage;
use crate::output::{Output, plain, print};

/// Where a message comes from.
#[derive(Debug, Args)]
pub(crate) struct Read {
    /// The message: a file (UR text, raw bytes, or a PNG with its QR code), a folder of PNGs, or - for standard input
    #[arg(long = "in", value_name = "FILE|DIR|-", default_value = "-")]
    from: PathBuf,
}

/// Where a message goes; without any of these, one line of text on standard output.
#[derive(Debug, Args)]
#[group(id = "carrier", multiple = false)]
pub(crate) struct Write {
    /// Into this file, as bytes
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Into this PNG: one QR code, or several that take turns
    #[arg(long, value_name = "FILE")]
    png: Option<PathBuf>,
    /// Into this folder, a PNG for each QR code
    #[arg(long, value_name = "DIR")]
    pngs: Option<PathBuf>,
    /// As a QR code in the terminal, or several that take turns until Enter is pressed
    #[arg(long)]
    qr: bool,
    /// The same on a terminal that is dark on light
    #[arg(long)]
    qr_light: bool,
}

impl Read {
    pub(crate) fn message(&self) -> eyre::Result<Message> {
        if self.from == Path::new("-") {
            if io::stdin().is_terminal() {
                return Err(usage(
                    "no message: --in FILE, or pipe it to standard input (a ur:… line, say)",
                ));
            }
            return Ok(file::read_from(io::stdin().lock())?);
        }
        let named = || self.from.display().to_string();
        if self.from.is_dir() {
            return read_folder(&self.from).wrap_err_with(named);
        }
        let opened = fs::File::open(&self.from).map_err(|error| usage(format!("{}: {error}", named())))?;
        file::read_from(opened).wrap_err_with(named)
    }
}

/// A message in pictures, in the order of their names.
fn read_folder(folder: &Path) -> eyre::Result<Message> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("png"))
    });
    files.sort();
    let mut receiver = Receiver::new();
    for picture in &files {
        let named = || picture.display().to_string();
        let bytes = fs::read(picture).wrap_err_with(named)?;
        let take = |code: String| {
            receiver.receive(&code)?;
            Ok(receiver.message().is_none())
        };
        each_code_in_png(&bytes, take).wrap_err_with(named)?;
        if receiver.message().is_some() {
            break;
        }
    }
    let progress = receiver.progress();
    Ok(receiver.take().ok_or(CarryError::Incomplete(progress))?)
}

impl Write {
    /// Gives the message out, and with it what it is: `value` for programs, `text` for people.
    pub(crate) async fn message(
        &self,
        out: Output,
        message: Message,
        mut value: Value,
        text: String,
    ) -> eyre::Result<()> {
        value["type"] = json!(message.kind().ur_type());
        value["bytes"] = json!(message.body().len());
        let line = file::to_text(&message);
        if out.json {
            // Whatever else becomes of it: programs need no picture.
            value["message"] = json!(line.trim_end());
        }
        let place = match (&self.out, &self.png, &self.pngs) {
            (Some(path), ..) => {
                replace(path, &file::to_bytes(&message))?;
                path
            }
            (_, Some(path), _) => {
                replace(path, &to_png(message)?)?;
                path
            }
            (.., Some(folder)) => {
                let (_, codes) = codes(message, QrVersion::MAX)?;
                write_folder(folder, &codes, Scale::DEFAULT)?;
                folder
            }
            _ if (self.qr || self.qr_light) && out.json => {
                return Err(usage("--qr is for people, --json for programs: one of them"));
            }
            _ if self.qr || self.qr_light => {
                eprintln_all(&text);
                let background = if self.qr_light {
                    Background::Light
                } else {
                    Background::Dark
                };
                return show(message, background).await;
            }
            _ if out.json => return out.answer(&value, ""),
            _ => {
                // So that the message can be piped on.
                eprintln_all(&text);
                return print(line.as_bytes());
            }
        };
        value["file"] = json!(place);
        out.answer(&value, format!("{text}\nwritten to {}", place.display()))
    }
}

fn to_png(message: Message) -> eyre::Result<Vec<u8>> {
    let (_, codes) = codes(message, QrVersion::MAX)?;
    Ok(match &codes[..] {
        [one] => one.to_png(Scale::DEFAULT)?,
        many => animated_png(many, Scale::DEFAULT)?,
    })
}

/// The codes of a message, and whether they take turns: then a third more than its parts, as one or another is missed.
fn codes(message: Message, largest: QrVersion) -> eyre::Result<(bool, Vec<Qr>)> {
    let sender = Sender::within(message, largest)?;
    let (animated, parts) = (sender.is_animated(), sender.parts());
    let frames: Vec<String> = if animated {
        sender.take(parts + parts.div_ceil(3)).collect()
    } else {
        sender.take(1).collect()
    };
    Ok((animated, Qr::all(&frames, largest)?))
}

/// On a terminal codes take turns until Enter or Ctrl-C; anywhere else each is written once.
async fn show(message: Message, background: Background) -> eyre::Result<()> {
    let term = Term::stdout();
    let is_term = term.is_term();
    let largest = match term.size_checked().filter(|_| is_term) {
        None => QrVersion::MAX,
        // A line is left for the prompt.
        Some((lines, columns)) => {
            QrVersion::of_terminal(columns, lines.saturating_sub(1)).ok_or_else(|| {
                let least = 4 * QrVersion::MIN.get() + 17 + 8;
                usage(format!(
                    "the terminal has {columns} columns and {lines} lines, a QR code needs {least} and {}: --png FILE",
                    least / 2 + 2
                ))
            })?
        }
    };
    let (animated, codes) = codes(message, largest)?;
    let pictures: Vec<String> = codes.iter().map(|code| code.to_terminal(background)).collect();
    if !animated || !is_term {
        return print(pictures.join("\n").as_bytes());
    }
    // A thread of its own, which ends with the process: nothing else can leave a read of a terminal.
    let (pressed, enter) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        if let Ok(terminal) = fs::File::open("/dev/tty") {
            let _ = BufReader::new(terminal).read_line(&mut String::new());
            let _ = pressed.send(());
        } else {
            std::thread::park();
        }
    });
    let turns = async {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / FRAMES_PER_SECOND.into());
        for picture in pictures.iter().cycle() {
            ticks.tick().await;
            // From the top left again.
            print(format!("\x1b[H\x1b[2J{picture}Enter when it is read.").as_bytes())?;
        }
        Ok(())
    };
    tokio::select! {
        shown = turns => shown,
        _ = enter => print(b"\n"),
        _ = tokio::signal::ctrl_c() => print(b"\n"),
    }
}

/// Says something to people while standard output is the message's.
fn eprintln_all(text: &str) {
    // That nobody listens is no error.
    let _ = writeln!(io::stderr(), "{}", plain(text));
}

/// Asks the owner at the terminal, as standard input may be a message.
pub(crate) fn ask(question: &str) -> eyre::Result<bool> {
    let opened = fs::File::options().read(true).write(true).open("/dev/tty");
    let mut terminal = opened.map_err(|_| usage("there is no terminal to ask at: --yes"))?;
    write!(terminal, "{} [y/N] ", plain(question))?;
    terminal.flush()?;
    let mut answer = String::new();
    BufReader::new(terminal).read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// The wrong message at the right place.
pub(crate) fn wrong_type(got: MessageType, expected: &[MessageType]) -> eyre::Report {
    let expected: Vec<_> = expected.iter().map(|kind| kind.ur_type()).collect();
    usage(format!(
        "this is a {}, waiting for a {}",
        got.ur_type(),
        expected.join(" or ")
    ))
}
