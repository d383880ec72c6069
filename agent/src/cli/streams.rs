//! Byte streams of containers: the frames that keep stdout and stderr apart,
//! and where they go.

use std::io::{self, Read, Write};

/// A frame's header: stream number, three zero bytes, length.
const HEADER_BYTES: usize = 8;
/// Payload copied at a time, so that a frame's claimed length costs nothing.
const COPY_BYTES: usize = 32 * 1024;

/// One piece of a framed stream.
pub(super) struct Frame {
    /// 1 is stdout, 2 is stderr, 3 the daemon's own error.
    pub(super) stream: u8,
    pub(super) length: usize,
}

/// The next frame's header; none at the end.
pub(super) fn next_frame(from: &mut impl Read) -> io::Result<Option<Frame>> {
    let mut header = [0; HEADER_BYTES];
    let mut filled = 0;
    while filled < HEADER_BYTES {
        match from.read(&mut header[filled..])? {
            // A stream cut inside a header ends as if before it.
            0 => return Ok(None),
            n => filled += n,
        }
    }
    let [stream, _, _, _, length @ ..] = header;
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?;
    Ok(Some(Frame { stream, length }))
}

/// Copies a framed stream to where its parts belong, flushing as they come.
pub(super) fn demultiplex(
    from: &mut impl Read,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<()> {
    while let Some(frame) = next_frame(from)? {
        match frame.stream {
            0 | 1 => copy_payload(from, out, frame.length)?,
            2 => copy_payload(from, err, frame.length)?,
            3 => {
                let mut message = Vec::new();
                copy_payload(from, &mut message, frame.length.min(COPY_BYTES))?;
                let message = String::from_utf8_lossy(&message);
                return Err(io::Error::other(format!(
                    "error from daemon in stream: {}",
                    message.trim_end()
                )));
            }
            other => {
                return Err(io::Error::other(format!(
                    "unrecognized input header: {other}"
                )));
            }
        }
    }
    Ok(())
}

fn copy_payload(from: &mut impl Read, to: &mut impl Write, length: usize) -> io::Result<()> {
    let mut left = length;
    let mut buffer = vec![0; COPY_BYTES.min(length)];
    while left > 0 {
        let want = left.min(buffer.len());
        let n = from.read(&mut buffer[..want])?;
        if n == 0 {
            break;
        }
        to.write_all(&buffer[..n])?;
        left -= n;
    }
    to.flush()
}

/// Copies bytes as they come, flushing each piece.
pub(super) fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => {
                to.write_all(&buffer[..n])?;
                to.flush()?;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_go_where_they_belong() {
        let mut bytes: &[u8] =
            b"\x01\0\0\0\0\0\0\x03out\x02\0\0\0\0\0\0\x03err\x01\0\0\0\0\0\0\x01!";
        let (mut out, mut err) = (Vec::new(), Vec::new());
        demultiplex(&mut bytes, &mut out, &mut err).unwrap();
        assert_eq!(
            (out.as_slice(), err.as_slice()),
            (&b"out!"[..], &b"err"[..])
        );
    }

    #[test]
    fn an_error_frame_is_an_error_and_a_cut_stream_is_an_end() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut bytes: &[u8] = b"\x03\0\0\0\0\0\0\x04oops";
        let e = demultiplex(&mut bytes, &mut out, &mut err).unwrap_err();
        assert_eq!(e.to_string(), "error from daemon in stream: oops");
        let mut bytes: &[u8] = b"\x01\0\0\0\0\0\0\x09cut";
        demultiplex(&mut bytes, &mut out, &mut err).unwrap();
        assert_eq!(out, b"cut");
    }
}
