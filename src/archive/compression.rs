//! Compression: decoders by extension, and encoders whose bytes do not depend on the
//! number of threads.
//!
//! Input is cut into blocks of a fixed size, each compressed on its own and joined in
//! order: gzip blocks end with a sync flush inside one member (RFC 1952), zstd blocks are
//! frames of their own (RFC 8878, 3.1: frames may be concatenated).

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::{Compress, Compression as Level, Crc, FlushCompress};
use liblzma::stream::{CONCATENATED, Stream};

/// Memory that reading xz may take; level 9 needs 65 MiB.
const XZ_MEMORY_BYTES_AT_MOST: u64 = 256 << 20;
const GZIP_LEVEL: u32 = 6;
const GZIP_BLOCK_BYTES: usize = 512 << 10;
const ZSTD_LEVEL: i32 = 3;
const ZSTD_BLOCK_BYTES: usize = 4 << 20;
/// Blocks on their way for each thread: one in its hands, one that it finds when it is done.
const BLOCKS_PER_THREAD: usize = 2;
/// Each thread has blocks of its own in memory; with so many, reading is the slower part.
const THREADS_AT_MOST: usize = 8;
/// No time, no name, unknown operating system (RFC 1952, 2.3.1).
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// How a layer is compressed. Its text form is part of the layer's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Level 6; every registry and runtime reads it.
    Gzip,
    /// Level 3; smaller and faster, for newer runtimes.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            other => Err(format!("`{other}` is no compression; known: gzip, zstd")),
        }
    }
}

/// A reader of what `reader` compresses, by the file's extension (`.gz`, `.xz`, `.bz2`,
/// `.zst` or none). Its memory is bounded, whatever the bytes ask for.
pub fn decoder<'a>(extension: &str, reader: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match extension {
        ".gz" => Box::new(flate2::read::MultiGzDecoder::new(reader)),
        ".bz2" => Box::new(bzip2::read::MultiBzDecoder::new(reader)),
        ".xz" => {
            let stream = Stream::new_stream_decoder(XZ_MEMORY_BYTES_AT_MOST, CONCATENATED)?;
            Box::new(liblzma::read::XzDecoder::new_stream(reader, stream))
        }
        ".zst" => Box::new(zstd::Decoder::new(reader)?),
        "" => Box::new(reader),
        other => return Err(io::Error::other(format!("`{other}` is no known compression"))),
    })
}

/// The extension that [`decoder`] knows the compression by, from a file's first bytes;
/// empty for anything else.
pub fn extension(start: &[u8]) -> &'static str {
    const MAGIC: [(&[u8], &str); 4] = [
        (&[0x1f, 0x8b], ".gz"),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0], ".xz"),
        (b"BZh", ".bz2"),
        (&[0x28, 0xb5, 0x2f, 0xfd], ".zst"),
    ];
    MAGIC.iter().find(|(magic, _)| start.starts_with(magic)).map_or("", |(_, name)| name)
}

/// A block, and where its compressed form goes.
type Job = (Vec<u8>, SyncSender<io::Result<Vec<u8>>>);

/// Compresses what is written to it, in parallel, in order.
pub struct Encoder<W: Write> {
    writer: W,
    compression: Compression,
    threads: usize,
    started_threads: usize,
    block: Vec<u8>,
    /// Closed when the encoder is dropped, which ends the threads.
    queue: Sender<Job>,
    jobs: Arc<Mutex<Receiver<Job>>>,
    pending: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    crc: Crc,
    started: bool,
}

impl<W: Write> Encoder<W> {
    /// An encoder that uses up to `threads` threads beside the caller's, and keeps at most
    /// three blocks for each.
    pub fn new(writer: W, compression: Compression, threads: usize) -> Self {
        let (queue, jobs) = channel();
        Self {
            writer,
            compression,
            threads: threads.clamp(1, THREADS_AT_MOST),
            started_threads: 0,
            block: Vec::new(),
            queue,
            jobs: Arc::new(Mutex::new(jobs)),
            pending: VecDeque::new(),
            crc: Crc::new(),
            started: false,
        }
    }

    fn block_bytes(&self) -> usize {
        match self.compression {
            Compression::Gzip => GZIP_BLOCK_BYTES,
            Compression::Zstd => ZSTD_BLOCK_BYTES,
        }
    }

    /// Hands the present block to the threads; writes out the oldest if there are enough.
    fn submit(&mut self) -> io::Result<()> {
        let block = std::mem::take(&mut self.block);
        if !self.started && self.compression == Compression::Gzip {
            self.writer.write_all(&GZIP_HEADER)?;
        }
        self.started = true;
        if self.pending.len() >= self.threads * BLOCKS_PER_THREAD {
            self.write_oldest()?;
        }
        if self.started_threads < self.threads && self.started_threads <= self.pending.len() {
            let (compression, jobs) = (self.compression, Arc::clone(&self.jobs));
            std::thread::Builder::new()
                .name("compress".into())
                .spawn(move || work(compression, &jobs))?;
            self.started_threads += 1;
        }
        let (sender, receiver) = sync_channel(1);
        self.queue
            .send((block, sender))
            .map_err(|_| io::Error::other("the compression threads ended early"))?;
        self.pending.push_back(receiver);
        Ok(())
    }

    fn write_oldest(&mut self) -> io::Result<()> {
        if let Some(receiver) = self.pending.pop_front() {
            let block = receiver
                .recv()
                .map_err(|_| io::Error::other("a compression thread ended early"))??;
            self.writer.write_all(&block)?;
        }
        Ok(())
    }

    /// Compresses the rest, writes the trailer and returns the writer.
    pub fn finish(mut self) -> io::Result<W> {
        if !self.block.is_empty() || !self.started {
            self.submit()?;
        }
        while !self.pending.is_empty() {
            self.write_oldest()?;
        }
        if self.compression == Compression::Gzip {
            // An empty final block with fixed codes, then checksum and length.
            self.writer.write_all(&[0x03, 0x00])?;
            self.writer.write_all(&self.crc.sum().to_le_bytes())?;
            self.writer.write_all(&self.crc.amount().to_le_bytes())?;
        }
        self.writer.flush()?;
        Ok(self.writer)
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.is_empty() {
            self.block.reserve_exact(self.block_bytes());
        }
        let room = self.block_bytes() - self.block.len();
        let taken = &bytes[..bytes.len().min(room)];
        self.block.extend_from_slice(taken);
        if self.compression == Compression::Gzip {
            self.crc.update(taken);
        }
        if self.block.len() == self.block_bytes() {
            self.submit()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A thread's life: compresses one block after the other until there are no more.
fn work(compression: Compression, jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((block, sender)) = job else { return };
        let compressed = match compression {
            Compression::Gzip => deflate(&block),
            Compression::Zstd => zstd::bulk::compress(&block, ZSTD_LEVEL),
        };
        let _ = sender.send(compressed);
    }
}

/// One block as raw deflate that ends on a byte boundary and is not final.
fn deflate(block: &[u8]) -> io::Result<Vec<u8>> {
    let mut state = Compress::new(Level::new(GZIP_LEVEL), false);
    let mut out = Vec::with_capacity(block.len() / 2 + 1024);
    let mut done = 0;
    loop {
        let before = state.total_out();
        state
            .compress_vec(&block[done..], &mut out, FlushCompress::Sync)
            .map_err(io::Error::other)?;
        done = usize::try_from(state.total_in()).map_err(io::Error::other)?;
        let room_left = out.len() < out.capacity();
        if done == block.len() && (room_left || state.total_out() == before) {
            return Ok(out);
        }
        out.reserve(block.len() / 4 + 1024);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let next = |state: &mut u32| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if *state >> 30 == 0 { (*state >> 16) as u8 } else { b'a' }
        };
        (0..length).map(|_| next(&mut state)).collect()
    }

    fn encode(compression: Compression, threads: usize, bytes: &[u8]) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new(), compression, threads);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn bytes_do_not_depend_on_threads() {
        for (compression, extension) in [(Compression::Gzip, ".gz"), (Compression::Zstd, ".zst")] {
            for length in [0, 1, GZIP_BLOCK_BYTES, 3 * ZSTD_BLOCK_BYTES + 17] {
                let bytes = sample(length);
                let one = encode(compression, 1, &bytes);
                for threads in [2, 3, 5] {
                    assert!(encode(compression, threads, &bytes) == one, "{compression} {threads}");
                }
                let mut back = Vec::new();
                decoder(extension, one.as_slice()).unwrap().read_to_end(&mut back).unwrap();
                assert!(back == bytes, "{compression} {length}");
            }
        }
    }

    #[test]
    fn truncated_input_is_an_error() {
        let bytes = encode(Compression::Gzip, 1, &sample(100_000));
        for length in [0, 5, 20, bytes.len() - 3] {
            let mut back = Vec::new();
            let read = decoder(".gz", &bytes[..length]).unwrap().read_to_end(&mut back);
            assert!(read.is_err() || length == 0, "{length}");
        }
        assert!(decoder(".lz", io::empty()).is_err());
    }

    #[test]
    fn xz_gets_no_more_memory_than_real_files_need() {
        // The byte of the window's size in the header of a block (xz file format, 3.1 and 5.3.1).
        let compressed = |window: u8| {
            let mut bytes = Vec::new();
            liblzma::read::XzEncoder::new(&b"x"[..], 0).read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes[12..16], [2, 0, 0x21, 1]);
            bytes[16] = window;
            let mut sum = Crc::new();
            sum.update(&bytes[12..20]);
            bytes[20..24].copy_from_slice(&sum.sum().to_le_bytes());
            bytes
        };
        let read =
            |bytes: &[u8]| decoder(".xz", bytes).unwrap().read_to_end(&mut Vec::new()).is_ok();
        assert!(read(&compressed(28)), "64 MiB");
        assert!(!read(&compressed(34)), "512 MiB");
    }
}
