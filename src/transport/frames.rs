//! Frames on a lane: a length as a varint, then so many bytes. The cap is checked before anything is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::TransportError;

/// Bytes read from a lane at once.
const READ_BYTES: usize = 16 << 10;

/// What went over one lane, one way.
#[derive(Clone, Debug, Default)]
pub struct LaneCounts(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    frames: AtomicU64,
    bytes: AtomicU64,
}

impl LaneCounts {
    /// Frames so far.
    pub fn frames(&self) -> u64 {
        self.0.frames.load(Ordering::Relaxed)
    }

    /// Bytes so far, lengths included.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    fn add(&self, frames: u64, bytes: usize) {
        self.0.frames.fetch_add(frames, Ordering::Relaxed);
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Reads frames. Cancelling a read loses nothing: what came is kept for the next.
pub struct FrameReader {
    from: Box<dyn AsyncRead + Send + Unpin>,
    limit: usize,
    buffer: Vec<u8>,
    counts: LaneCounts,
}

impl FrameReader {
    /// Frames of at most `limit` bytes.
    pub fn new(from: impl AsyncRead + Send + Unpin + 'static, limit: usize) -> FrameReader {
        FrameReader { from: Box::new(from), limit, buffer: Vec::new(), counts: LaneCounts::default() }
    }

    /// What was read so far.
    pub fn counts(&self) -> LaneCounts {
        self.counts.clone()
    }

    /// The next frame; none at a clean end. Its cap is checked before it is read (M3).
    ///
    /// # Errors
    /// [`TransportError::FrameTooLarge`] before the frame is read, [`TransportError::Lost`] if the lane ends within one.
    pub async fn read(&mut self) -> Result<Option<Vec<u8>>, TransportError> {
        loop {
            if let Some((header, size)) = length(&self.buffer) {
                if size > self.limit as u64 {
                    return Err(TransportError::FrameTooLarge { size, limit: self.limit as u64 });
                }
                let end = header + size as usize;
                if self.buffer.len() >= end {
                    let rest = self.buffer.split_off(end);
                    let mut frame = std::mem::replace(&mut self.buffer, rest);
                    frame.drain(..header);
                    self.counts.add(1, end);
                    return Ok(Some(frame));
                }
            } else if self.buffer.len() >= HEADER_BYTES_MAX {
                return Err(TransportError::FrameTooLarge { size: u64::MAX, limit: self.limit as u64 });
            }
            let mut chunk = [0; READ_BYTES];
            let n = self.from.read(&mut chunk).await.map_err(|error| TransportError::Lost(error.to_string()))?;
            if n == 0 {
                let within = !self.buffer.is_empty();
                return if within { Err(TransportError::Lost("it ended within a frame".into())) } else { Ok(None) };
            }
            self.buffer.extend_from_slice(&chunk[..n]);
        }
    }
}

/// Writes frames.
pub struct FrameWriter {
    to: Box<dyn AsyncWrite + Send + Unpin>,
    limit: usize,
    counts: LaneCounts,
}

impl FrameWriter {
    /// Frames of at most `limit` bytes.
    pub fn new(to: impl AsyncWrite + Send + Unpin + 'static, limit: usize) -> FrameWriter {
        FrameWriter { to: Box::new(to), limit, counts: LaneCounts::default() }
    }

    /// What was written so far.
    pub fn counts(&self) -> LaneCounts {
        self.counts.clone()
    }

    /// Writes one frame; waits while the peer does not read.
    ///
    /// # Errors
    /// [`TransportError::FrameTooLarge`] for a frame of our own that breaks the cap, [`TransportError::Lost`].
    pub async fn write(&mut self, frame: &[u8]) -> Result<(), TransportError> {
        if frame.len() > self.limit {
            let (size, limit) = (frame.len() as u64, self.limit as u64);
            return Err(TransportError::FrameTooLarge { size, limit });
        }
        let mut bytes = Vec::with_capacity(frame.len() + HEADER_BYTES_MAX);
        reknit_core::canonical::put_varint(&mut bytes, frame.len() as u64);
        bytes.extend_from_slice(frame);
        self.counts.add(1, bytes.len());
        let lost = |error: std::io::Error| TransportError::Lost(error.to_string());
        self.to.write_all(&bytes).await.map_err(lost)?;
        self.to.flush().await.map_err(lost)
    }

    /// Ends the lane: the peer reads to a clean end.
    ///
    /// # Errors
    /// [`TransportError::Lost`].
    pub async fn finish(&mut self) -> Result<(), TransportError> {
        self.to.shutdown().await.map_err(|error| TransportError::Lost(error.to_string()))
    }
}

const HEADER_BYTES_MAX: usize = 5;

/// Bytes of the header and of the frame, once the header is there.
fn length(buffer: &[u8]) -> Option<(usize, u64)> {
    let header = buffer.iter().take(HEADER_BYTES_MAX).position(|byte| byte & 0x80 == 0)? + 1;
    let value = buffer[..header].iter().rev().fold(0u64, |value, byte| value << 7 | u64::from(byte & 0x7f));
    Some((header, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
    }

    proptest! {
        #[test]
        fn frames_come_back_whatever_the_pieces(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 0..20), pipe in 1usize..300) {
            runtime().block_on(async {
                let (near, far) = tokio::io::duplex(pipe);
                let (mut writer, mut reader) = (FrameWriter::new(near, 400), FrameReader::new(far, 400));
                let counts = (writer.counts(), reader.counts());
                let sent = frames.clone();
                tokio::spawn(async move {
                    for frame in &sent {
                        writer.write(frame).await.expect("written");
                    }
                    writer.finish().await.expect("finished");
                });
                let mut found = Vec::new();
                while let Some(frame) = reader.read().await.expect("read") {
                    found.push(frame);
                }
                assert_eq!(found, frames);
                assert_eq!((counts.0.frames(), counts.0.bytes()), (counts.1.frames(), counts.1.bytes()));
            });
        }
    }

    #[test]
    fn what_is_too_large_or_torn_is_an_error() {
        runtime().block_on(async {
            let mut reader = FrameReader::new(&[0xff, 0xff, 0xff, 0x7f][..], 1000);
            assert!(matches!(reader.read().await, Err(TransportError::FrameTooLarge { limit: 1000, .. })));
            let mut reader = FrameReader::new(&[0xff; 9][..], 1000);
            assert!(matches!(reader.read().await, Err(TransportError::FrameTooLarge { .. })));
            let mut reader = FrameReader::new(&[3, 1, 2][..], 1000);
            assert!(matches!(reader.read().await, Err(TransportError::Lost(_))));
            let mut writer = FrameWriter::new(tokio::io::sink(), 2);
            assert!(matches!(writer.write(&[0; 3]).await, Err(TransportError::FrameTooLarge { size: 3, limit: 2 })));
        });
    }
}
