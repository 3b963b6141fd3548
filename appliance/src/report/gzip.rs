//! Gzip from a machine: within a limit, and with different errors for "ends too early" and "isn't gzip".

use std::io::{self, ErrorKind, Read, Write};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;

/// A failed decompression of one gzip stream.
#[derive(Debug, thiserror::Error)]
pub(super) enum GzipError {
    /// The bytes end before the stream: an interrupted upload, or one in progress.
    #[error("it ends too early: the upload was cut")]
    Cut,
    /// The content is larger than the limit.
    #[error("it decompresses to more than {0} bytes")]
    TooLarge(u64),
    /// More follows after the end of the stream.
    #[error("there is more after its end")]
    Trailing,
    /// The bytes aren't gzip.
    #[error("it isn't gzip: {0}")]
    Invalid(io::Error),
}

/// Decompresses one whole stream; `limit` bounds the result in bytes.
pub(super) fn decompress(bytes: &[u8], limit: u64) -> Result<Vec<u8>, GzipError> {
    let mut decoder = GzDecoder::new(bytes);
    let mut content = Vec::new();
    let read = decoder.by_ref().take(limit + 1).read_to_end(&mut content);
    match read {
        // flate2 also returns UnexpectedEof for half a checksum or header.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(GzipError::Cut),
        Err(error) => Err(GzipError::Invalid(error)),
        Ok(_) if content.len() as u64 > limit => Err(GzipError::TooLarge(limit)),
        Ok(_) if !decoder.into_inner().is_empty() => Err(GzipError::Trailing),
        Ok(_) => Ok(content),
    }
}

/// Compresses content for the store.
pub(super) fn compress(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let written = encoder.write_all(content).and_then(|()| encoder.finish());
    written.expect("writing into memory doesn't fail")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_stream_is_cut() {
        let whole = compress(b"the quick brown fox jumps over the lazy dog");
        assert!(decompress(&whole, 43).is_ok());
        for length in 0..whole.len() {
            assert!(
                matches!(decompress(&whole[..length], 43), Err(GzipError::Cut)),
                "{length}"
            );
        }
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let bomb = compress(&vec![0; 64 << 20]);
        // Without its end: reading all of it would give Cut.
        let fuse = &bomb[..bomb.len() / 2];
        assert!(matches!(
            decompress(fuse, 1000),
            Err(GzipError::TooLarge(1000))
        ));
    }

    #[test]
    fn only_one_stream_and_nothing_else() {
        let mut twice = compress(b"a");
        twice.extend(compress(b"b"));
        assert!(matches!(decompress(&twice, 100), Err(GzipError::Trailing)));
        assert!(matches!(
            decompress(b"plain text", 100),
            Err(GzipError::Invalid(_))
        ));
        let mut damaged = compress(b"some content");
        let checksum = damaged.len() - 8;
        damaged[checksum] ^= 1;
        assert!(matches!(
            decompress(&damaged, 100),
            Err(GzipError::Invalid(_))
        ));
    }
}
