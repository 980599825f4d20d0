//! QR codes of frames: on a terminal, as PNG, as animated PNG, as a folder of pictures.
//!
//! A code takes the smallest version that its frame fits, with error correction M where that stays within the largest version
//! wished for, else L: what is lost in an animation comes again.

use std::fs;
use std::path::{Path, PathBuf};

use qrcode::bits::Bits;
use qrcode::{Color, EcLevel, QrCode, Version};

use crate::{CarryError, FRAMES_PER_SECOND, Result};

/// Light modules around a code, as the standard wants.
const QUIET: usize = 4;

/// A QR version, 5 to 20: `17 + 4·version` modules a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QrVersion(u8);

impl QrVersion {
    /// The least that holds a part with some of the message: 37 modules.
    pub const MIN: Self = Self(5);
    /// What a phone reads from another's screen: 97 modules.
    pub const MAX: Self = Self(20);

    /// # Errors
    /// A version below [`Self::MIN`] or above [`Self::MAX`].
    pub fn new(version: u8) -> Result<Self> {
        if (Self::MIN.0..=Self::MAX.0).contains(&version) {
            Ok(Self(version))
        } else {
            Err(CarryError::QrVersion {
                got: version,
                min: Self::MIN.0,
                max: Self::MAX.0,
            })
        }
    }

    /// The number.
    pub fn get(self) -> u8 {
        self.0
    }

    /// The largest version whose code, with its quiet zone, fits a terminal of so many columns and lines.
    pub fn of_terminal(columns: u16, lines: u16) -> Option<Self> {
        let modules = columns.min(lines.saturating_mul(2));
        let version = modules.saturating_sub(17 + 2 * QUIET as u16) / 4;
        Self::new(u8::try_from(version).unwrap_or(u8::MAX).min(Self::MAX.0)).ok()
    }
}

/// Pixels to a module's side, 1 to 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale(u8);

impl Scale {
    /// Large enough for every reader: a code of version 20 is 840 pixels a side.
    pub const DEFAULT: Self = Self(8);

    /// # Errors
    /// 0, or more than 32.
    pub fn new(pixels: u8) -> Result<Self> {
        match pixels {
            1..=32 => Ok(Self(pixels)),
            got => Err(CarryError::Scale { got, max: 32 }),
        }
    }
}

impl Default for Scale {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What a terminal draws text on. A code's light modules must be lighter than its dark ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Background {
    /// Light text on dark: blocks are the light modules.
    Dark,
    /// Dark text on light: blocks are the dark modules.
    Light,
}

/// Error correction.
#[derive(Clone, Copy)]
pub(crate) enum Level {
    /// 7 %.
    Low,
    /// 15 %.
    Medium,
}

impl Level {
    fn ec(self) -> EcLevel {
        match self {
            Self::Low => EcLevel::L,
            Self::Medium => EcLevel::M,
        }
    }
}

/// A code: its modules, without the quiet zone.
#[derive(Clone, PartialEq, Eq)]
pub struct Qr {
    version: u8,
    side: usize,
    dark: Vec<bool>,
}

impl std::fmt::Debug for Qr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Qr(version {})", self.version)
    }
}

impl Qr {
    /// The code of a frame, in upper case.
    ///
    /// # Errors
    /// A frame that does not fit version `largest`, or has characters that a frame has not.
    pub fn new(frame: &str, largest: QrVersion) -> Result<Self> {
        let (version, level) = fit(frame.len(), largest)?;
        Self::at(frame, version, level)
    }

    /// The codes of an animation, all of one size.
    ///
    /// # Errors
    /// As [`Self::new`], or no frames.
    pub fn all(frames: &[String], largest: QrVersion) -> Result<Vec<Self>> {
        let longest = frames.iter().map(String::len).max().ok_or(CarryError::NoFrames)?;
        let (version, level) = fit(longest, largest)?;
        frames
            .iter()
            .map(|frame| Self::at(frame, version, level))
            .collect()
    }

    fn at(frame: &str, version: u8, level: Level) -> Result<Self> {
        let frame = frame.to_ascii_uppercase();
        // The encoder takes any byte and writes another in its place.
        if let Some(stranger) = frame.chars().find(|c| !is_alphanumeric(*c)) {
            return Err(CarryError::NotAlphanumeric(stranger));
        }
        let mut bits = Bits::new(Version::Normal(version.into()));
        bits.push_alphanumeric_data(frame.as_bytes())
            .map_err(CarryError::Qr)?;
        bits.push_terminator(level.ec()).map_err(CarryError::Qr)?;
        let code = QrCode::with_bits(bits, level.ec()).map_err(CarryError::Qr)?;
        Ok(Self {
            version,
            side: code.width(),
            dark: code
                .into_colors()
                .into_iter()
                .map(|color| color == Color::Dark)
                .collect(),
        })
    }

    /// Its version.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// The side with the quiet zone, in modules.
    pub fn side(&self) -> usize {
        self.side + 2 * QUIET
    }

    /// Whether a module is dark. Both count from the corner of the quiet zone.
    pub fn is_dark(&self, x: usize, y: usize) -> bool {
        let inside = QUIET..QUIET + self.side;
        inside.contains(&x) && inside.contains(&y) && self.dark[(y - QUIET) * self.side + x - QUIET]
    }

    /// The code in half blocks, two modules a character, with its quiet zone.
    pub fn to_terminal(&self, background: Background) -> String {
        // A module below the last line is quiet.
        let filled = |x, y| self.is_dark(x, y) == (background == Background::Light);
        let mut text = String::new();
        for y in (0..self.side()).step_by(2) {
            text.extend((0..self.side()).map(|x| match (filled(x, y), filled(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            }));
            text.push('\n');
        }
        text
    }

    /// The code as PNG, black on white, with its quiet zone.
    ///
    /// # Errors
    /// None in practice: it is written to memory.
    pub fn to_png(&self, scale: Scale) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut writer = self
            .encoder(&mut bytes, scale)
            .write_header()
            .map_err(CarryError::PngWrite)?;
        writer
            .write_image_data(&self.pixels(scale))
            .map_err(CarryError::PngWrite)?;
        writer.finish().map_err(CarryError::PngWrite)?;
        Ok(bytes)
    }

    fn encoder<'a>(&self, bytes: &'a mut Vec<u8>, scale: Scale) -> png::Encoder<'static, &'a mut Vec<u8>> {
        // At most 105 modules of 32 pixels.
        let side = (self.side() * usize::from(scale.0)) as u32;
        let mut encoder = png::Encoder::new(bytes, side, side);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::One);
        encoder
    }

    /// One bit a pixel, 1 is white.
    fn pixels(&self, scale: Scale) -> Vec<u8> {
        let scale = usize::from(scale.0);
        let mut pixels = Vec::new();
        for y in 0..self.side() {
            let mut row = vec![0_u8; (self.side() * scale).div_ceil(8)];
            for x in (0..self.side() * scale).filter(|x| !self.is_dark(x / scale, y)) {
                row[x / 8] |= 0x80 >> (x % 8);
            }
            for _ in 0..scale {
                pixels.extend(&row);
            }
        }
        pixels
    }
}

/// An animated PNG of codes of one size ([`Qr::all`]), at [`FRAMES_PER_SECOND`], over and over.
///
/// # Errors
/// No codes, or codes of different sizes.
pub fn animated_png(codes: &[Qr], scale: Scale) -> Result<Vec<u8>> {
    let first = codes.first().ok_or(CarryError::NoFrames)?;
    let mut bytes = Vec::new();
    let mut encoder = first.encoder(&mut bytes, scale);
    let count = u32::try_from(codes.len()).unwrap_or(u32::MAX);
    encoder.set_animated(count, 0).map_err(CarryError::PngWrite)?;
    encoder
        .set_frame_delay(1, FRAMES_PER_SECOND)
        .map_err(CarryError::PngWrite)?;
    let mut writer = encoder.write_header().map_err(CarryError::PngWrite)?;
    for code in codes {
        if code.side != first.side {
            return Err(CarryError::malformed("a code's side", code.side, first.side));
        }
        writer
            .write_image_data(&code.pixels(scale))
            .map_err(CarryError::PngWrite)?;
    }
    writer.finish().map_err(CarryError::PngWrite)?;
    Ok(bytes)
}

/// Writes each code to `folder`, which is made if need be, as `0001.png` and so on, and says where.
///
/// # Errors
/// A file that cannot be written.
pub fn write_folder(folder: &Path, codes: &[Qr], scale: Scale) -> Result<Vec<PathBuf>> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| CarryError::Write { path, source }
    };
    fs::create_dir_all(folder).map_err(failed(folder))?;
    codes
        .iter()
        .enumerate()
        .map(|(index, code)| {
            let path = folder.join(format!("{:04}.png", index + 1));
            fs::write(&path, code.to_png(scale)?).map_err(failed(&path))?;
            Ok(path)
        })
        .collect()
}

/// The smallest code for so many characters.
fn fit(characters: usize, largest: QrVersion) -> Result<(u8, Level)> {
    for level in [Level::Medium, Level::Low] {
        for version in QrVersion::MIN.0..=largest.0 {
            if characters <= capacity(QrVersion(version), level)? {
                return Ok((version, level));
            }
        }
    }
    Err(CarryError::DoesNotFit {
        got: characters,
        max: capacity(largest, Level::Low)?,
        version: largest.0,
    })
}

/// The characters that a code holds in alphanumeric mode: 11 bits a pair, 6 for one that is left.
pub(crate) fn capacity(version: QrVersion, level: Level) -> Result<usize> {
    let bits = Bits::new(Version::Normal(version.0.into()))
        .max_len(level.ec())
        .map_err(CarryError::Qr)?;
    let count_bits = if version.0 < 10 { 9 } else { 11 };
    let bits = bits.saturating_sub(4 + count_bits);
    Ok(bits / 11 * 2 + usize::from(bits % 11 >= 6))
}

fn is_alphanumeric(c: char) -> bool {
    c.is_ascii_digit() || c.is_ascii_uppercase() || " $%*+-./:".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacities_are_those_of_the_standard() {
        for (version, low, medium) in [(5, 154, 122), (9, 335, 262), (10, 395, 311), (20, 1249, 970)] {
            let version = QrVersion::new(version).unwrap();
            assert_eq!(capacity(version, Level::Low).unwrap(), low);
            assert_eq!(capacity(version, Level::Medium).unwrap(), medium);
        }
    }

    #[test]
    fn every_version_holds_what_it_says() {
        for version in 5..=20 {
            let version = QrVersion::new(version).unwrap();
            let most = capacity(version, Level::Low).unwrap();
            assert!(Qr::new(&"A".repeat(most), version).is_ok());
            assert!(matches!(
                Qr::new(&"A".repeat(most + 1), version),
                Err(CarryError::DoesNotFit { .. })
            ));
        }
    }

    #[test]
    fn a_terminal_shows_what_fits() {
        // 80 columns, 24 lines: 48 modules, less 8 of quiet: 37 of version 5.
        assert_eq!(QrVersion::of_terminal(80, 24), Some(QrVersion::MIN));
        assert_eq!(QrVersion::of_terminal(200, 60), Some(QrVersion::MAX));
        assert_eq!(QrVersion::of_terminal(80, 20), None);
    }

    #[test]
    fn both_backgrounds_show_one_code() {
        let code = Qr::new("UR:A/B", QrVersion::MAX).unwrap();
        let (dark, light) = (
            code.to_terminal(Background::Dark),
            code.to_terminal(Background::Light),
        );
        let inverse: String = light
            .chars()
            .map(|c| match c {
                '█' => ' ',
                ' ' => '█',
                '▀' => '▄',
                '▄' => '▀',
                other => other,
            })
            .collect();
        assert_eq!(dark, inverse);
        assert_eq!(dark.lines().count(), code.side().div_ceil(2));
        // The quiet zone: blocks on dark, blank on light.
        assert!(dark.starts_with(&"█".repeat(code.side())));
        assert!(light.starts_with(&" ".repeat(code.side())));
        assert!(matches!(
            Qr::new("umlaut Ä", QrVersion::MAX),
            Err(CarryError::NotAlphanumeric('Ä'))
        ));
    }
}
