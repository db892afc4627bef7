//! How a line behaves, and the size of its window.

use std::os::fd::BorrowedFd;

use dormouse_image::ImageName;
use dormouse_image::proto::files::tty::{TermiosEntry, WinsizeEntry};
use dormouse_kernel::terminal::{self, Termios, WindowSize};

use super::{FileKind, Terminal};
use crate::corrupt::corrupt;
use crate::{Error, Result};

/// What both ends of a pseudo terminal have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) termios: Termios,
    pub(super) locked: Termios,
    pub(super) window: WindowSize,
}

/// How many words CRIU has for control characters: one for each, of which it
/// fills a quarter, with four characters each.
const WORDS: usize = terminal::CONTROL_CHARACTERS;
/// Characters in a word.
const IN_WORD: usize = 4;

impl Line {
    pub(super) fn collect(file: BorrowedFd<'_>) -> Result<Self> {
        let failed = |call| Error::kernel(call, Terminal::NAME);
        Ok(Self {
            termios: terminal::termios(file).map_err(failed("TCGETS2"))?,
            locked: terminal::locked_termios(file).map_err(failed("TIOCGLCKTRMIOS"))?,
            window: terminal::window_size(file).map_err(failed("TIOCGWINSZ"))?,
        })
    }

    pub(super) fn encode(&self) -> (TermiosEntry, TermiosEntry, WinsizeEntry) {
        let Self { termios, locked, window } = self;
        let WindowSize { ws_row, ws_col, ws_xpixel, ws_ypixel } = *window;
        let window = WinsizeEntry {
            ws_row: ws_row.into(),
            ws_col: ws_col.into(),
            ws_xpixel: ws_xpixel.into(),
            ws_ypixel: ws_ypixel.into(),
        };
        (encode_termios(termios), encode_termios(locked), window)
    }

    pub(super) fn decode(
        id: u32,
        termios: &TermiosEntry,
        locked: &TermiosEntry,
        window: &WinsizeEntry,
    ) -> Result<Self> {
        let wrong = |reason| corrupt(ImageName::TtyInfo, Terminal::NAME, id, reason);
        let cut =
            |value: u32| u16::try_from(value).map_err(|_| wrong("its window is larger than any"));
        let WinsizeEntry { ws_row, ws_col, ws_xpixel, ws_ypixel } = *window;
        Ok(Self {
            termios: decode_termios(termios).ok_or_else(|| wrong("its termios is none"))?,
            locked: decode_termios(locked).ok_or_else(|| wrong("its locked termios is none"))?,
            window: WindowSize {
                ws_row: cut(ws_row)?,
                ws_col: cut(ws_col)?,
                ws_xpixel: cut(ws_xpixel)?,
                ws_ypixel: cut(ws_ypixel)?,
            },
        })
    }

    /// Has the line behave so.
    pub(super) fn apply(&self, file: BorrowedFd<'_>, with_window: bool) -> Result<()> {
        let Self { termios, locked, window } = self;
        let failed = |call| Error::kernel(call, Terminal::NAME);
        terminal::set_termios(file, termios).map_err(failed("TCSETS"))?;
        if with_window {
            terminal::set_window_size(file, window).map_err(failed("TIOCSWINSZ"))?;
        }
        let now = terminal::locked_termios(file).map_err(failed("TIOCGLCKTRMIOS"))?;
        if now != *locked {
            terminal::lock_termios(file, locked).map_err(failed("TIOCSLCKTRMIOS"))?;
        }
        Ok(())
    }
}

fn encode_termios(termios: &Termios) -> TermiosEntry {
    let Termios { c_iflag, c_oflag, c_cflag, c_lflag, c_line, c_cc, c_ispeed, c_ospeed } = *termios;
    let mut words = vec![0; WORDS];
    for (word, characters) in words.iter_mut().zip(c_cc.chunks(IN_WORD)) {
        let mut bytes = [0; IN_WORD];
        bytes[..characters.len()].copy_from_slice(characters);
        *word = u32::from_le_bytes(bytes);
    }
    TermiosEntry {
        c_iflag,
        c_oflag,
        c_cflag,
        c_lflag,
        c_line: c_line.into(),
        c_ispeed,
        c_ospeed,
        c_cc: words,
    }
}

fn decode_termios(entry: &TermiosEntry) -> Option<Termios> {
    let TermiosEntry { c_iflag, c_oflag, c_cflag, c_lflag, c_line, c_ispeed, c_ospeed, c_cc } =
        entry;
    let bytes: Vec<u8> = c_cc.iter().flat_map(|word| word.to_le_bytes()).collect();
    Some(Termios {
        c_iflag: *c_iflag,
        c_oflag: *c_oflag,
        c_cflag: *c_cflag,
        c_lflag: *c_lflag,
        c_line: u8::try_from(*c_line).ok()?,
        c_cc: *bytes.first_chunk()?,
        c_ispeed: *c_ispeed,
        c_ospeed: *c_ospeed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_packed_as_criu_has_them() {
        let mut termios = Termios { c_line: 3, c_ospeed: 9600, ..Termios::default() };
        for (place, character) in termios.c_cc.iter_mut().zip(1..) {
            *place = character;
        }
        let entry = encode_termios(&termios);
        assert_eq!(entry.c_cc.len(), 19);
        assert_eq!(entry.c_cc[0], 0x0403_0201);
        assert_eq!(entry.c_cc[4], 0x0013_1211);
        assert_eq!(decode_termios(&entry), Some(termios));
    }
}
