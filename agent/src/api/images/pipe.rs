//! Between the API's pulled streams and the store's blocking reads and
//! writes: a request's body as a reader, a channel of pieces as a writer.
//! Neither side holds more than a few pieces.

use crate::backend::Reader;
use crate::error::{Error, Result};
use smol::channel::{Receiver, Sender, bounded};
use smol::io::AsyncReadExt as _;
use smol::stream::Stream;
use std::io::{self, BufWriter, Read, Write};

/// Pieces waiting for a slow client.
const PIECES_MAX: usize = 4;
/// Bytes of a piece.
const PIECE_BYTES: usize = 64 << 10;

/// A request's body for a thread that may block.
pub(super) struct BodyReader(pub(super) Reader);

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // The plain one: async-io's would also drive this process's sockets from here.
        smol::future::block_on(self.0.read(buffer))
    }
}

struct Pieces(Sender<Result<Vec<u8>>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.send_blocking(Ok(bytes.to_vec()));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs `write` on a thread that may block; what it writes is the stream. A
/// failure is the stream's last element; a reader that goes away ends it.
pub(super) fn written<F>(write: F) -> impl Stream<Item = Result<Vec<u8>>> + Send + 'static
where
    F: FnOnce(&mut dyn Write) -> Result<()> + Send + 'static,
{
    let (sender, receiver): (_, Receiver<Result<Vec<u8>>>) = bounded(PIECES_MAX);
    smol::unblock(move || {
        let failures = sender.clone();
        let mut pieces = BufWriter::with_capacity(PIECE_BYTES, Pieces(sender));
        let result = write(&mut pieces).and_then(|()| pieces.flush().map_err(Error::from));
        if let Err(error) = result {
            // Nobody may be listening any more.
            let _ = failures.send_blocking(Err(error));
        }
    })
    .detach();
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;
    use smol::stream::StreamExt;

    #[test]
    fn all_that_is_written_comes_and_then_the_failure() {
        let stream = written(|to| {
            to.write_all(&[7; 3 * PIECE_BYTES])?;
            to.write_all(b"end")?;
            to.flush()?;
            Err(Error::internal("no"))
        });
        let pieces: Vec<_> = smol::block_on(stream.collect());
        let bytes: usize = pieces.iter().flatten().map(Vec::len).sum();
        assert_eq!(bytes, 3 * PIECE_BYTES + 3);
        assert_eq!(pieces.last().unwrap().as_ref().unwrap_err().message, "no");
    }

    #[test]
    fn a_reader_that_goes_away_ends_the_writer() {
        let (sender, ended) = bounded(1);
        let stream = written(move |to| {
            let result = (0..1000).try_for_each(|_| to.write_all(&[0; PIECE_BYTES]));
            let _ = sender.send_blocking(result.is_err());
            Ok(())
        });
        drop(stream);
        assert!(smol::block_on(ended.recv()).unwrap());
    }
}
