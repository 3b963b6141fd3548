//! Gzip from a machine: never more than was allowed for, and "ends too early" told apart from "isn't gzip".

use std::io::{self, ErrorKind, Read, Write};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;

/// Why bytes aren't one whole gzip stream within the limit.
#[derive(Debug, thiserror::Error)]
pub(super) enum GzipError {
    /// They end before the stream does: an upload that was cut, or that still goes on.
    #[error("it ends too early: the upload was cut")]
    Cut,
    /// They decompress to more than is allowed.
    #[error("it decompresses to more than {0} bytes")]
    TooLarge(u64),
    /// More follows after the end of the stream.
    #[error("there is more after its end")]
    Trailing,
    /// They aren't gzip.
    #[error("it isn't gzip: {0}")]
    Invalid(io::Error),
}

/// Decompresses one whole stream; `limit` bounds the result in bytes.
pub(super) fn decompress(bytes: &[u8], limit: u64) -> Result<Vec<u8>, GzipError> {
    let mut decoder = GzDecoder::new(bytes);
    let mut content = Vec::new();
    let read = decoder.by_ref().take(limit + 1).read_to_end(&mut content);
    match read {
        // flate2 calls a checksum or a header that is cut UnexpectedEof as well.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(GzipError::Cut),
        Err(error) => Err(GzipError::Invalid(error)),
        Ok(_) if content.len() as u64 > limit => Err(GzipError::TooLarge(limit)),
        Ok(_) if !decoder.into_inner().is_empty() => Err(GzipError::Trailing),
        Ok(_) => Ok(content),
    }
}

/// Compresses what is kept.
pub(super) fn compress(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let written = encoder.write_all(content).and_then(|()| encoder.finish());
    written.expect("writing into memory doesn't fail")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_of_a_stream_is_told_from_the_whole() {
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
        // Its end isn't even there: reading so far would find it cut.
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
