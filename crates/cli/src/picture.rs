//! The file that the demo sells when it is given none: a picture of the Mandelbrot set as an uncompressed BMP of about
//! 2 MiB, so that it makes about 2,000 pieces and any viewer shows whether they all arrived.

/// Pixels a side: 832 × 832 × 3 bytes and the header are 2,076,726 bytes, 2,029 pieces of 1 KiB.
const SIDE: u32 = 832;
const HEADER_BYTES: u32 = 54;
const MAX_ITERATIONS: u32 = 120;

/// Renders the picture. The same bytes every time.
pub(crate) fn render() -> Vec<u8> {
    let pixels = SIDE * SIDE * 3; // a row is a multiple of 4 bytes, so BMP needs no padding
    let mut file = Vec::with_capacity((HEADER_BYTES + pixels) as usize);
    file.extend_from_slice(b"BM");
    for word in [HEADER_BYTES + pixels, 0, HEADER_BYTES, 40, SIDE, SIDE] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.extend_from_slice(&1u16.to_le_bytes()); // planes
    file.extend_from_slice(&24u16.to_le_bytes()); // bits per pixel
    for word in [0, pixels, 2_835, 2_835, 0, 0] {
        file.extend_from_slice(&u32::to_le_bytes(word)); // no compression; 72 dots per inch; no palette
    }
    for y in 0..SIDE {
        for x in 0..SIDE {
            file.extend_from_slice(&colour(iterations(x, y)));
        }
    }
    file
}

/// Steps until the point escapes, or [`MAX_ITERATIONS`].
fn iterations(x: u32, y: u32) -> u32 {
    let scale = 2.7 / f64::from(SIDE);
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
        let file = render();
        assert_eq!(&file[..2], b"BM");
        assert_eq!(
            u32::from_le_bytes(file[2..6].try_into().expect("four bytes")) as usize,
            file.len()
        );
        assert!((1_990_000..2_200_000).contains(&file.len()), "{}", file.len());
    }
}
