//! The file that the demos sell when they are given none: a picture of the Mandelbrot set as an uncompressed BMP, so that any
//! viewer shows whether all of its pieces arrived.

/// Pixels a side of the ticket demo's: 832 × 832 × 3 bytes and the header are 2,076,726 bytes, 2,029 pieces of 1 KiB.
pub(crate) const SIDE: u32 = 832;
const HEADER_BYTES: u32 = 54;
const MAX_ITERATIONS: u32 = 120;

/// Pixels a side of a picture of about so many bytes. A multiple of 4, so that a row is, too, and BMP needs no padding.
pub(crate) fn side_of(bytes: u64) -> u32 {
    let side = (bytes as f64 / 3.0).sqrt() / 4.0;
    (side.round() as u32).clamp(1, 4_000) * 4
}

/// Renders the picture with so many pixels a side. The same bytes every time.
pub(crate) fn render(side: u32) -> Vec<u8> {
    let pixels = side * side * 3;
    let mut file = Vec::with_capacity((HEADER_BYTES + pixels) as usize);
    file.extend_from_slice(b"BM");
    for word in [HEADER_BYTES + pixels, 0, HEADER_BYTES, 40, side, side] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.extend_from_slice(&1u16.to_le_bytes()); // planes
    file.extend_from_slice(&24u16.to_le_bytes()); // bits per pixel
    for word in [0, pixels, 2_835, 2_835, 0, 0] {
        file.extend_from_slice(&u32::to_le_bytes(word)); // no compression; 72 dots per inch; no palette
    }
    for y in 0..side {
        for x in 0..side {
            file.extend_from_slice(&colour(iterations(x, y, side)));
        }
    }
    file
}

/// Steps until the point escapes, or [`MAX_ITERATIONS`].
fn iterations(x: u32, y: u32, side: u32) -> u32 {
    let scale = 2.7 / f64::from(side);
    let (cx, cy) = (f64::from(x) * scale - 2.05, f64::from(y) * scale - 1.35);
    let (mut zx, mut zy) = (0.0, 0.0);
    for step in 0..MAX_ITERATIONS {
        let (xx, yy) = (zx * zx, zy * zy);
        if xx + yy > 4.0 {
            return step;
        }
        (zx, zy) = (xx - yy + cx, 2.0 * zx * zy + cy);
    }
    MAX_ITERATIONS
}

/// Blue, green, red.
fn colour(steps: u32) -> [u8; 3] {
    if steps == MAX_ITERATIONS {
        return [48, 16, 8];
    }
    let t = f64::from(steps) / f64::from(MAX_ITERATIONS);
    // Bernstein polynomials: smooth, dark at both ends. In 0..=255 for t in 0..1.
    let channel =
        |weight: f64, rise: i32, fall: i32| (weight * t.powi(rise) * (1.0 - t).powi(fall) * 255.0) as u8;
    [channel(8.5, 1, 3), channel(15.0, 2, 2), channel(9.0, 3, 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_bmp_of_about_two_mebibytes() {
        let file = render(SIDE);
        assert_eq!(&file[..2], b"BM");
        assert_eq!(
            u32::from_le_bytes(file[2..6].try_into().expect("four bytes")) as usize,
            file.len()
        );
        assert!((1_990_000..2_200_000).contains(&file.len()), "{}", file.len());
    }

    #[test]
    fn comes_in_about_any_size() {
        for bytes in [1_000, 300 * 1024, 10_000 * 1024] {
            let side = u64::from(side_of(bytes));
            assert_eq!(side % 4, 0);
            assert!((side * side * 3).abs_diff(bytes) < bytes / 20 + 200, "{side}");
        }
    }
}
