//! Plain, gzip and zstd streams, told apart by their first bytes, decoded with
//! constant memory and refused when they grow out of all proportion.

use crate::limits::{COPY_BYTES, Limits};
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};
use std::{
    cell::Cell,
    io::{self, BufRead, BufReader, Chain, Cursor, Read},
    rc::Rc,
};

/// Window of a zstd frame, in bytes: all of it is kept in memory. Image tools
/// use 8 MiB; containerd's reader takes no more than this either.
const ZSTD_WINDOW_BYTES_MAX: u64 = 64 << 20;
/// Bytes needed to know a format.
const MAGIC_BYTES: usize = 6;

/// The bytes of a stream that may be plain, or packed with gzip or zstd, with
/// the bounds that hold for images' layers.
///
/// # Errors
/// When the first bytes cannot be read, or are of a format that is not read.
pub fn plain<R: Read>(from: R) -> io::Result<impl Read> {
    Decoder::new(from, Limits::default())
}

/// How a stream is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    Plain,
    Gzip,
    Zstd,
}

impl Compression {
    /// By the stream's first bytes. Formats Docker also reads but skep does
    /// not are named rather than taken for a broken tar.
    pub(crate) fn sniff(head: &[u8]) -> io::Result<Self> {
        let refused = |name: &str| {
            Err(invalid(format!(
                "compression with {name} is not supported: use gzip, zstd or none"
            )))
        };
        match head {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Self::Zstd),
            // A skippable frame in front, as zstd:chunked and pzstd write.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => refused("xz"),
            [b'B', b'Z', b'h', ..] => refused("bzip2"),
            _ => Ok(Self::Plain),
        }
    }
}

type Source<R> = BufReader<Chain<Cursor<Vec<u8>>, Counted<R>>>;

/// The uncompressed bytes of a stream.
pub(crate) struct Decoder<R: Read> {
    inner: Inner<R>,
    read: Rc<Cell<u64>>,
    written: u64,
    limits: Limits,
}

enum Inner<R: Read> {
    Plain(Source<R>),
    Gzip(Box<MultiGzDecoder<Source<R>>>),
    Zstd(Box<ZstdFrames<Source<R>>>),
}

impl<R: Read> Decoder<R> {
    /// Reads the first bytes of `from` to learn its format.
    pub(crate) fn new(from: R, limits: Limits) -> io::Result<Self> {
        let read = Rc::new(Cell::new(0));
        let mut from = Counted {
            from,
            count: Rc::clone(&read),
        };
        let mut head = Vec::with_capacity(MAGIC_BYTES);
        from.by_ref()
            .take(MAGIC_BYTES as u64)
            .read_to_end(&mut head)?;
        let compression = Compression::sniff(&head)?;
        let source = BufReader::with_capacity(COPY_BYTES, Cursor::new(head).chain(from));
        let inner = match compression {
            Compression::Plain => Inner::Plain(source),
            Compression::Gzip => Inner::Gzip(Box::new(MultiGzDecoder::new(source))),
            Compression::Zstd => Inner::Zstd(Box::new(ZstdFrames::new(source))),
        };
        Ok(Self {
            inner,
            read,
            written: 0,
            limits,
        })
    }

    /// Compressed bytes read so far; may be asked while the decoder is
    /// borrowed elsewhere.
    pub(crate) fn read_count(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.read)
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = match &mut self.inner {
            Inner::Plain(source) => return source.read(buf),
            Inner::Gzip(gzip) => gzip.read(buf)?,
            Inner::Zstd(zstd) => zstd.read(buf)?,
        };
        self.written += n as u64;
        let bound = self.read.get().saturating_mul(self.limits.expansion_max);
        if self.written > self.limits.expansion_free_bytes && self.written > bound {
            return Err(invalid(format!(
                "it expands {} bytes to more than {}, over {} times: taken for a decompression bomb",
                self.read.get(),
                self.written,
                self.limits.expansion_max
            )));
        }
        Ok(n)
    }
}

struct Counted<R> {
    from: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buf)?;
        self.count.set(self.count.get() + n as u64);
        Ok(n)
    }
}

/// All frames of a zstd stream one after the other, skippable ones skipped;
/// the decoder below knows one frame only.
struct ZstdFrames<R> {
    frame: FrameDecoder,
    from: R,
    inside: bool,
}

impl<R: BufRead> ZstdFrames<R> {
    fn new(from: R) -> Self {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(ZSTD_WINDOW_BYTES_MAX);
        Self {
            frame,
            from,
            inside: false,
        }
    }

    /// Enters the next frame; false at the end of the stream.
    fn enter(&mut self) -> io::Result<bool> {
        while !self.from.fill_buf()?.is_empty() {
            match self.frame.reset(&mut self.from) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let skipped =
                        io::copy(&mut self.from.by_ref().take(length.into()), &mut io::sink())?;
                    if skipped < length.into() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(e) => return Err(self.broken(&e)),
            }
        }
        Ok(false)
    }

    /// The decoder's error, or the end of its input where that was the cause.
    fn broken(&mut self, e: &FrameDecoderError) -> io::Error {
        match self.from.fill_buf() {
            Ok([]) => io::ErrorKind::UnexpectedEof.into(),
            Ok(_) => invalid(format!("zstd: {e}")),
            Err(e) => e,
        }
    }
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.inside {
                if !self.enter()? {
                    return Ok(0);
                }
                self.inside = true;
            }
            while self.frame.can_collect() == 0 && !self.frame.is_finished() {
                if let Err(e) = self
                    .frame
                    .decode_blocks(&mut self.from, BlockDecodingStrategy::UptoBlocks(1))
                {
                    return Err(self.broken(&e));
                }
            }
            let n = self.frame.read(buf)?;
            if n > 0 {
                return Ok(n);
            }
            self.inside = false;
        }
    }
}

pub(crate) fn invalid(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression as Level, write::GzEncoder};
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use std::io::Write;

    fn decode(bytes: &[u8], limits: Limits) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Decoder::new(bytes, limits)?.read_to_end(&mut out)?;
        Ok(out)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_format_gives_its_bytes_back() {
        let text = b"hello ".repeat(50_000);
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..]].concat();
        let zstd = compress_to_vec(&text[..], CompressionLevel::Fastest);
        for packed in [
            text.clone(),
            gzip(&text),
            [gzip(&text[..1000]), gzip(&text[1000..])].concat(),
            zstd.clone(),
            [skippable.clone(), zstd.clone(), skippable].concat(),
        ] {
            assert!(decode(&packed, Limits::default()).unwrap() == text);
        }
        assert_eq!(decode(b"", Limits::default()).unwrap(), b"");
        let two = decode(&[zstd.clone(), zstd].concat(), Limits::default()).unwrap();
        assert!(two == [text.clone(), text].concat());
    }

    #[test]
    fn cut_and_foreign_streams_are_named() {
        let text: Vec<u8> = (0..100_000_u32)
            .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
            .collect();
        for packed in [
            gzip(&text),
            compress_to_vec(&text[..], CompressionLevel::Fastest),
        ] {
            let error = decode(&packed[..packed.len() / 2], Limits::default()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
        }
        let xz = decode(b"\xfd7zXZ\0rest", Limits::default()).unwrap_err();
        assert!(xz.to_string().contains("xz"));
    }

    #[test]
    fn a_bomb_stops_at_its_bound() {
        let limits = Limits {
            expansion_free_bytes: 1 << 20,
            expansion_max: 100,
            ..Limits::default()
        };
        let zeros = vec![0; 8 << 20];
        for packed in [
            gzip(&zeros),
            compress_to_vec(&zeros[..], CompressionLevel::Fastest),
        ] {
            let error = decode(&packed, limits).unwrap_err();
            assert!(error.to_string().contains("bomb"), "{error}");
        }
        assert_eq!(
            decode(&gzip(&zeros[..1 << 20]), limits).unwrap().len(),
            1 << 20
        );
    }
}
