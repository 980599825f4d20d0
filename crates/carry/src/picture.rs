//! Reading QR codes from PNG: screenshots, photographs, our own pictures and animations. Both dark on light and light on dark,
//! as a terminal may show it.
//!
//! Pictures come from anywhere: their size is checked before there is room made for them, and how often the search may copy
//! one is bounded, since rqrr does that for each triple of finder patterns that might be a code.

use std::io::Cursor;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use image::{GenericImage, GenericImageView, Luma, Pixel as _};

use crate::{CarryError, Result};

/// The largest picture, in pixels.
pub const MAX_PIXELS: usize = 16 << 20;

/// The pictures of an animated PNG that are read.
pub const MAX_PICTURES: usize = 256;

/// All pictures of an animated PNG that are read, in pixels: a small file can hold many large ones, and each takes its time.
/// The largest message in our own pictures has fewer.
pub const MAX_ANIMATION_PIXELS: usize = 128 << 20;

/// Pixels that the search may copy: a picture for each triple of finder patterns, of which one code has a few.
const MAX_COPIED: usize = 128 << 20;

/// A bound on what the PNG decoder allocates besides the picture.
const MAX_PNG_BYTES: usize = 64 << 20;

/// The texts of the QR codes in a PNG, of every picture of an animated one. Codes that cannot be read are passed over, and so
/// are pictures of an animation that are only a part of the whole.
///
/// # Errors
/// No PNG, a picture of more than [`MAX_PIXELS`], pictures of more than [`MAX_ANIMATION_PIXELS`], or no code at all.
pub fn codes_in_png(bytes: &[u8]) -> Result<Vec<String>> {
    let mut codes = Vec::new();
    each_code_in_png(bytes, |code| {
        codes.push(code);
        Ok(true)
    })?;
    Ok(codes)
}

/// The same, one after the other, as long as `take` wants more: the rest of an animation is not looked at.
///
/// # Errors
/// As [`codes_in_png`], before or after codes were taken; or that of `take`.
pub fn each_code_in_png(bytes: &[u8], mut take: impl FnMut(String) -> Result<bool>) -> Result<()> {
    let limits = png::Limits { bytes: MAX_PNG_BYTES };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let header = decoder.read_header_info().map_err(CarryError::PngRead)?;
    let (width, height) = (header.width, header.height);
    let too_large = CarryError::PictureTooLarge {
        width,
        height,
        max: MAX_PIXELS,
    };
    if u64::from(width) * u64::from(height) > MAX_PIXELS as u64 {
        return Err(too_large);
    }

    let mut reader = decoder.read_info().map_err(CarryError::PngRead)?;
    let pictures = reader
        .info()
        .animation_control()
        .map_or(1, |animation| animation.num_frames as usize);
    let mut buffer = vec![0; reader.output_buffer_size().ok_or(too_large)?];
    let mut found = false;
    for picture in 1..=pictures.min(MAX_PICTURES) {
        let pixels = picture * width as usize * height as usize;
        if pixels > MAX_ANIMATION_PIXELS {
            return Err(CarryError::AnimationTooLarge {
                pixels,
                max: MAX_ANIMATION_PIXELS,
            });
        }
        let info = reader.next_frame(&mut buffer).map_err(CarryError::PngRead)?;
        if (info.width, info.height) == (width, height) {
            let luma = to_luma(&buffer[..info.buffer_size()], info.color_type);
            for code in search(&luma, width as usize)? {
                found = true;
                if !take(code)? {
                    return Ok(());
                }
            }
        }
    }
    if found { Ok(()) } else { Err(CarryError::NoCode) }
}

/// Brightness, 8 bits; what is transparent shows white.
fn to_luma(pixels: &[u8], color: png::ColorType) -> Vec<u8> {
    let over_white = |value: u8, alpha: u8| {
        let (value, alpha) = (u32::from(value), u32::from(alpha));
        ((value * alpha + 255 * (255 - alpha)) / 255) as u8
    };
    let gray = |r: u8, g: u8, b: u8| {
        // BT.601, in thousandths.
        ((299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b)) / 1000) as u8
    };
    match color {
        // Indexed colours are expanded to RGB.
        png::ColorType::Grayscale | png::ColorType::Indexed => pixels.to_vec(),
        png::ColorType::GrayscaleAlpha => pixels.chunks_exact(2).map(|p| over_white(p[0], p[1])).collect(),
        png::ColorType::Rgb => pixels.chunks_exact(3).map(|p| gray(p[0], p[1], p[2])).collect(),
        png::ColorType::Rgba => pixels
            .chunks_exact(4)
            .map(|p| over_white(gray(p[0], p[1], p[2]), p[3]))
            .collect(),
    }
}

fn search(luma: &[u8], width: usize) -> Result<Vec<String>> {
    let found = decode(luma, width, 0)?;
    if found.is_empty() {
        return decode(luma, width, 0xff);
    }
    Ok(found)
}

/// Flips brightness by `invert` (0 or 0xff).
fn decode(luma: &[u8], width: usize, invert: u8) -> Result<Vec<String>> {
    // rqrr does geometry on what it believes to see; what overflows there must not end a wallet.
    panic::catch_unwind(AssertUnwindSafe(|| {
        let picture = Picture {
            width: width as u32,
            pixels: luma.iter().map(|value| Luma([value ^ invert])).collect(),
            copies: Arc::new(AtomicUsize::new(0)),
        };
        rqrr::PreparedImage::prepare(picture)
            .detect_grids()
            .into_iter()
            .filter_map(|grid| grid.decode().ok())
            .map(|(_, text)| text)
            .collect()
    }))
    .map_err(|_| CarryError::SearchFailed)
}

/// A picture that can be copied 16 to 256 times, up to [`MAX_COPIED`] pixels. The copy after that unwinds: rqrr has no other way to be stopped.
struct Picture {
    width: u32,
    pixels: Vec<Luma<u8>>,
    copies: Arc<AtomicUsize>,
}

impl Picture {
    fn at(&self, x: u32, y: u32) -> usize {
        y as usize * self.width as usize + x as usize
    }
}

impl Clone for Picture {
    fn clone(&self) -> Self {
        if self.copies.fetch_add(1, Ordering::Relaxed)
            >= (MAX_COPIED / self.pixels.len().max(1)).clamp(16, 256)
        {
            // No message: it is caught above.
            panic::resume_unwind(Box::new("copied too often"));
        }
        Self {
            width: self.width,
            pixels: self.pixels.clone(),
            copies: Arc::clone(&self.copies),
        }
    }
}

impl GenericImageView for Picture {
    type Pixel = Luma<u8>;

    fn dimensions(&self) -> (u32, u32) {
        (self.width, (self.pixels.len() / self.width as usize) as u32)
    }

    fn get_pixel(&self, x: u32, y: u32) -> Luma<u8> {
        self.pixels[self.at(x, y)]
    }
}

impl GenericImage for Picture {
    fn get_pixel_mut(&mut self, x: u32, y: u32) -> &mut Luma<u8> {
        let at = self.at(x, y);
        &mut self.pixels[at]
    }

    fn put_pixel(&mut self, x: u32, y: u32, pixel: Luma<u8>) {
        let at = self.at(x, y);
        self.pixels[at] = pixel;
    }

    fn blend_pixel(&mut self, x: u32, y: u32, pixel: Luma<u8>) {
        let at = self.at(x, y);
        self.pixels[at].blend(&pixel);
    }
}
