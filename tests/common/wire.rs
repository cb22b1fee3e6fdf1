//! Just enough HTTP/1.1 to see what is on the wire: strict, and without any opinion on meaning.

use shoal::net::Duplex;
use std::io;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

/// A byte stream with messages on it.
pub(crate) struct Wire(BufReader<Box<dyn Duplex>>);

/// A message head.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// First line.
    pub(crate) line: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    /// Value of the only field with this name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let values = self.fields_named(name);
        assert!(values.len() <= 1, "{name} more than once: {values:?}");
        values.first().copied()
    }

    pub(crate) fn fields_named(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    fn has_chunks(&self) -> bool {
        self.field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
    }

    fn length(&self) -> Option<u64> {
        self.field("content-length").map(|length| length.parse().expect("a Content-Length is a number"))
    }
}

/// A body and how it ended.
#[derive(Debug, Default)]
pub(crate) struct Framed {
    pub(crate) bytes: Vec<u8>,
    /// Whether it came to the end that its framing promised.
    pub(crate) is_whole: bool,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Wire {
    pub(crate) fn new(stream: impl Duplex + 'static) -> Self {
        Self(BufReader::new(Box::new(stream)))
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await?;
        self.0.flush().await
    }

    /// Says that no more bytes will be written.
    pub(crate) async fn end_writing(&mut self) {
        let _ = self.0.shutdown().await;
    }

    /// Some bytes; none at the end.
    pub(crate) async fn read_some(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 64 << 10];
        let length = self.0.read(&mut bytes).await.unwrap_or(0);
        bytes.truncate(length);
        bytes
    }

    pub(crate) async fn read_exactly(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).await.expect("as many bytes as are due");
        bytes
    }

    /// That many bytes, or fewer if the stream ends before.
    pub(crate) async fn read_up_to(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = (&mut self.0).take(length as u64).read_to_end(&mut bytes).await;
        bytes
    }

    /// Everything until the end of the stream, or its reset.
    pub(crate) async fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.0.read_to_end(&mut bytes).await;
        bytes
    }

    /// The next head; `None` if the stream ended instead.
    pub(crate) async fn head(&mut self) -> Option<Head> {
        let line = self.line().await?;
        let fields = self.fields().await?;
        Some(Head { line, fields })
    }

    /// The body behind `head`, which for a request is empty unless framed.
    pub(crate) async fn body(&mut self, head: &Head, until_close: bool) -> Framed {
        if head.has_chunks() {
            self.chunks().await
        } else if let Some(length) = head.length() {
            let mut bytes = Vec::new();
            let mut limited = (&mut self.0).take(length);
            let result = limited.read_to_end(&mut bytes).await;
            let is_whole = result.is_ok() && bytes.len() as u64 == length;
            Framed { bytes, is_whole, trailers: Vec::new() }
        } else if until_close {
            let mut bytes = Vec::new();
            let is_whole = self.0.read_to_end(&mut bytes).await.is_ok();
            Framed { bytes, is_whole, trailers: Vec::new() }
        } else {
            Framed { is_whole: true, ..Framed::default() }
        }
    }

    /// One chunk; empty for the last, `None` if the stream ended instead.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = self.line().await?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).expect("a chunk size");
        let mut bytes = vec![0; size];
        if size > 0 {
            self.0.read_exact(&mut bytes).await.ok()?;
            assert_eq!(self.line().await?, "", "a chunk ends with an empty line");
        }
        Some(bytes)
    }

    async fn chunks(&mut self) -> Framed {
        let mut framed = Framed::default();
        while let Some(chunk) = self.chunk().await {
            if chunk.is_empty() {
                if let Some(trailers) = self.fields().await {
                    framed.trailers = trailers;
                    framed.is_whole = true;
                }
                break;
            }
            framed.bytes.extend_from_slice(&chunk);
        }
        framed
    }

    async fn fields(&mut self) -> Option<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Some(fields);
            }
            let (name, value) = line.split_once(':').expect("a field has a colon");
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line).await.ok()?;
        let line = line.strip_suffix(b"\r\n")?;
        Some(String::from_utf8(line.to_vec()).expect("heads of these stories are text"))
    }
}
